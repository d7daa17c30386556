/*
 * data_json -- a JSON value as the data of a template.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "stages/engines/mustache/data.h"
#include "stages/engines/mustache/place.h"

struct reading {
        struct mustache_data *data;
        struct mustache_text key; /* of the value that comes */
};

static int put(struct reading *r, enum data_kind kind, struct mustache_text text) {
        mustache_data_put(r->data, r->key, kind, text);
        return mustache_data_error(r->data) == 0;
}

static int on_null(void *ctx) {
        return put(ctx, DATA_NULL, (struct mustache_text){"", 0});
}

static int on_boolean(void *ctx, int value) {
        return value ? put(ctx, DATA_TRUE, (struct mustache_text){"true", 4})
                     : put(ctx, DATA_FALSE, (struct mustache_text){"false", 5});
}

static int on_number(void *ctx, const char *digits, size_t n) {
        struct reading *r = ctx;

        return put(r, DATA_NUMBER, mustache_data_copy(r->data, digits, n));
}

static int on_string(void *ctx, const unsigned char *text, size_t n) {
        struct reading *r = ctx;

        return put(r, DATA_TEXT, mustache_data_copy(r->data, (const char *)text, n));
}

static int on_key(void *ctx, const unsigned char *key, size_t n) {
        struct reading *r = ctx;

        r->key = mustache_data_copy(r->data, (const char *)key, n);
        return mustache_data_error(r->data) == 0;
}

static int on_open(struct reading *r, enum data_kind kind) {
        mustache_data_open(r->data, r->key, kind);
        return mustache_data_error(r->data) == 0;
}

static int on_start_map(void *ctx) {
        return on_open(ctx, DATA_MAP);
}

static int on_start_array(void *ctx) {
        return on_open(ctx, DATA_LIST);
}

static int on_end(void *ctx) {
        struct reading *r = ctx;

        mustache_data_close(r->data);
        return 1;
}

/* yajl's own words, without its picture of the text. */
static int explain(
                yajl_handle parser, const char *json, size_t n, int error, struct mustache_error *err) {
        unsigned char *words = yajl_get_error(parser, 0, NULL, 0);
        size_t at = yajl_get_bytes_consumed(parser);

        mustache_place(json, n, at < n ? at : n, err);
        if (error == -E2BIG)
                snprintf(err->text, sizeof(err->text), "nested deeper than %u levels",
                                DATA_DEPTH_MAX);
        else if (words)
                snprintf(err->text, sizeof(err->text), "%.*s", (int)strcspn((char *)words, "\n"),
                                (char *)words);
        else
                error = -ENOMEM;
        if (words)
                yajl_free_error(parser, words);
        return error ? error : -EBADMSG;
}

int mustache_data_json(struct mustache_data *data, const char *json, size_t n,
                struct mustache_error *err) {
        static const yajl_callbacks callbacks = {
                        .yajl_null = on_null,
                        .yajl_boolean = on_boolean,
                        .yajl_number = on_number,
                        .yajl_string = on_string,
                        .yajl_start_map = on_start_map,
                        .yajl_map_key = on_key,
                        .yajl_end_map = on_end,
                        .yajl_start_array = on_start_array,
                        .yajl_end_array = on_end,
        };
        struct reading reading = {.data = data, .key = {"", 0}};
        yajl_handle parser;
        yajl_status status;
        int r = 0;

        mustache_data_reset(data);
        parser = yajl_alloc(&callbacks, NULL, &reading);
        if (!parser)
                return -ENOMEM;
        status = yajl_parse(parser, (const unsigned char *)json, n);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(parser);
        if (status != yajl_status_ok || mustache_data_error(data))
                r = explain(parser, json, n, mustache_data_error(data), err);
        yajl_free(parser);
        return r;
}
