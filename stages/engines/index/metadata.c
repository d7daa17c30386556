/*
 * metadata -- what a document's metadata can be filtered by.
 */
#include "stages/engines/index/metadata.h"

#include <stdbool.h>

#include <yajl/yajl_parse.h>

#include "stages/engines/index/buffer.h"

struct reading {
        int (*fn)(struct index_str key, struct index_str value, void *ctx);
        void *ctx;
        struct buffer key;
        unsigned depth; /* 1: in the object, 2: in one of its members */
        bool in_array;  /* that member is an array */
        unsigned n;
        int result;
};

static int tell(struct reading *reading, const char *data, size_t n) {
        const bool counts = reading->depth == 1 || (reading->depth == 2 && reading->in_array);

        if (!counts || reading->n == METADATA_MAX)
                return 1;
        reading->n++;
        reading->result = reading->fn(
                        (struct index_str){reading->key.data ? reading->key.data : "",
                                        reading->key.n_bytes},
                        (struct index_str){data, n}, reading->ctx);
        return reading->result == 0;
}

static int on_boolean(void *ctx, int value) {
        return tell(ctx, value ? "true" : "false", value ? 4 : 5);
}

static int on_number(void *ctx, const char *digits, size_t n) {
        return tell(ctx, digits, n);
}

static int on_string(void *ctx, const unsigned char *data, size_t n) {
        return tell(ctx, (const char *)data, n);
}

static int on_key(void *ctx, const unsigned char *data, size_t n) {
        struct reading *reading = ctx;

        if (reading->depth != 1)
                return 1;
        reading->key.n_bytes = 0;
        reading->result = buffer_append(&reading->key, (const char *)data, n);
        return reading->result == 0;
}

static int on_start_map(void *ctx) {
        struct reading *reading = ctx;

        if (reading->depth == 1)
                reading->in_array = false;
        reading->depth++;
        return 1;
}

static int on_start_array(void *ctx) {
        struct reading *reading = ctx;

        if (reading->depth == 0)
                return 0; /* no object */
        if (reading->depth == 1)
                reading->in_array = true;
        reading->depth++;
        return 1;
}

static int on_end(void *ctx) {
        struct reading *reading = ctx;

        reading->depth--;
        return 1;
}

int metadata_each(struct index_str json,
                int (*fn)(struct index_str key, struct index_str value, void *ctx), void *ctx) {
        static const yajl_callbacks callbacks = {
                        .yajl_boolean = on_boolean,
                        .yajl_number = on_number,
                        .yajl_string = on_string,
                        .yajl_start_map = on_start_map,
                        .yajl_map_key = on_key,
                        .yajl_end_map = on_end,
                        .yajl_start_array = on_start_array,
                        .yajl_end_array = on_end,
        };
        struct reading reading = {.fn = fn, .ctx = ctx};
        yajl_handle parser;

        if (json.n_bytes == 0)
                return 0;
        parser = yajl_alloc(&callbacks, NULL, &reading);
        if (!parser)
                return -ENOMEM;
        if (yajl_parse(parser, (const unsigned char *)json.data, json.n_bytes) == yajl_status_ok)
                (void)yajl_complete_parse(parser);
        yajl_free(parser);
        buffer_clear(&reading.key);
        return reading.result;
}
