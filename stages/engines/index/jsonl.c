/*
 * jsonl -- one row of a JSON Lines file.
 */
#include "stages/engines/index/jsonl.h"

#include <stdio.h>

#include <yajl/yajl_parse.h>

static const char *const field_names[JSONL_STRINGS_N] = {[JSONL_ID] = "id",
                [JSONL_TITLE] = "title",
                [JSONL_TEXT] = "text",
                [JSONL_URL] = "url"};

enum key { KEY_OTHER = JSONL_STRINGS_N, KEY_METADATA };

struct reading {
        struct jsonl_row *row;
        yajl_handle parser;
        struct index_str line;
        unsigned depth;
        int key; /* enum jsonl_field or enum key: whose value comes, at depth 1 */
        size_t metadata_from;
        int error;
        struct index_error *why;
};

static int fail(struct reading *reading, int error, const char *what) {
        reading->error = error;
        if (error == -EBADMSG)
                snprintf(reading->why->text, sizeof(reading->why->text), "%s", what);
        return 0; /* yajl: stop */
}

static int expect(struct reading *reading, const char *what) {
        const char *name = reading->key < JSONL_STRINGS_N ? field_names[reading->key] : "metadata";

        reading->error = -EBADMSG;
        snprintf(reading->why->text, sizeof(reading->why->text), "\"%s\" must be %s", name, what);
        return 0;
}

static const char *expected(const struct reading *reading) {
        if (reading->key == KEY_METADATA)
                return "an object";
        return reading->key == JSONL_ID ? "a string or a number" : "a string";
}

/* A value that is neither a string nor an object. */
static int on_other(struct reading *reading) {
        if (reading->depth == 0)
                return fail(reading, -EBADMSG, "the row must be an object");
        if (reading->depth == 1 && reading->key != KEY_OTHER)
                return expect(reading, expected(reading));
        return 1;
}

static int on_null(void *ctx) {
        struct reading *reading = ctx;

        if (reading->depth != 1 || reading->key == KEY_OTHER)
                return reading->depth == 0 ? on_other(reading) : 1;
        if (reading->key == KEY_METADATA)
                reading->row->metadata = (struct index_str){"", 0};
        else
                reading->row->has[reading->key] = false;
        return 1;
}

static int on_boolean(void *ctx, int value) {
        (void)value;
        return on_other(ctx);
}

static int keep(struct reading *reading, const char *data, size_t n) {
        struct buffer *buffer = &reading->row->strings[reading->key];

        buffer->n_bytes = 0;
        reading->row->has[reading->key] = true;
        int r = buffer_append(buffer, data, n);
        return r < 0 ? fail(reading, r, "") : 1;
}

static int on_number(void *ctx, const char *digits, size_t n) {
        struct reading *reading = ctx;

        if (reading->depth != 1 || reading->key != JSONL_ID)
                return on_other(reading);
        reading->row->id_is_number = true;
        return keep(reading, digits, n);
}

static int on_string(void *ctx, const unsigned char *data, size_t n) {
        struct reading *reading = ctx;

        if (reading->depth != 1 || reading->key >= JSONL_STRINGS_N)
                return on_other(reading);
        if (reading->key == JSONL_ID)
                reading->row->id_is_number = false;
        return keep(reading, (const char *)data, n);
}

static int go_deeper(struct reading *reading) {
        if (reading->depth == JSONL_DEPTH_MAX)
                return fail(reading, -EBADMSG, "nested deeper than 64");
        reading->depth++;
        return 1;
}

static int on_start_map(void *ctx) {
        struct reading *reading = ctx;

        if (reading->depth == 1 && reading->key < JSONL_STRINGS_N)
                return expect(reading, expected(reading));
        if (reading->depth == 1 && reading->key == KEY_METADATA)
                reading->metadata_from = yajl_get_bytes_consumed(reading->parser) - 1;
        return go_deeper(reading);
}

static int on_end_map(void *ctx) {
        struct reading *reading = ctx;

        reading->depth--;
        if (reading->depth == 1 && reading->key == KEY_METADATA)
                reading->row->metadata = (struct index_str){
                                reading->line.data + reading->metadata_from,
                                yajl_get_bytes_consumed(reading->parser) - reading->metadata_from};
        return 1;
}

static int on_start_array(void *ctx) {
        return on_other(ctx) && go_deeper(ctx);
}

static int on_end_array(void *ctx) {
        struct reading *reading = ctx;

        reading->depth--;
        return 1;
}

static int on_key(void *ctx, const unsigned char *key, size_t n) {
        struct reading *reading = ctx;

        if (reading->depth != 1)
                return 1;
        reading->key = KEY_OTHER;
        for (int i = 0; i < JSONL_STRINGS_N; i++)
                if (strlen(field_names[i]) == n && memcmp(field_names[i], key, n) == 0)
                        reading->key = i;
        if (n == 8 && memcmp(key, "metadata", 8) == 0)
                reading->key = KEY_METADATA;
        return 1;
}

/* yajl's own words, on one line and without a picture of the text. */
static int explain(struct reading *reading) {
        unsigned char *text = yajl_get_error(reading->parser, 0, NULL, 0);
        const size_t at = yajl_get_bytes_consumed(reading->parser);

        if (!text)
                return -ENOMEM;
        text[strcspn((char *)text, "\n")] = '\0';
        snprintf(reading->why->text, sizeof(reading->why->text), "%s, at byte %zu of the row", text,
                        at);
        yajl_free_error(reading->parser, text);
        return -EBADMSG;
}

static void row_reset(struct jsonl_row *row) {
        for (int i = 0; i < JSONL_STRINGS_N; i++) {
                row->has[i] = false;
                row->strings[i].n_bytes = 0;
        }
        row->id_is_number = false;
        row->metadata = (struct index_str){"", 0};
}

int jsonl_row_read(struct jsonl_row *row, struct index_str line, struct index_error *why) {
        static const yajl_callbacks callbacks = {
                        .yajl_null = on_null,
                        .yajl_boolean = on_boolean,
                        .yajl_number = on_number,
                        .yajl_string = on_string,
                        .yajl_start_map = on_start_map,
                        .yajl_map_key = on_key,
                        .yajl_end_map = on_end_map,
                        .yajl_start_array = on_start_array,
                        .yajl_end_array = on_end_array,
        };
        struct reading reading = {.row = row, .line = line, .why = why, .key = KEY_OTHER};
        yajl_status status;
        int r = 0;

        row_reset(row);
        reading.parser = yajl_alloc(&callbacks, NULL, &reading);
        if (!reading.parser)
                return -ENOMEM;
        status = yajl_parse(reading.parser, (const unsigned char *)line.data, line.n_bytes);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(reading.parser);
        if (reading.error != 0)
                r = reading.error;
        else if (status != yajl_status_ok)
                r = explain(&reading);
        yajl_free(reading.parser);
        return r;
}

struct index_str jsonl_row_string(const struct jsonl_row *row, enum jsonl_field field) {
        if (!row->has[field] || row->strings[field].n_bytes == 0)
                return (struct index_str){"", 0};
        return (struct index_str){row->strings[field].data, row->strings[field].n_bytes};
}

void jsonl_row_clear(struct jsonl_row *row) {
        for (int i = 0; i < JSONL_STRINGS_N; i++)
                buffer_clear(&row->strings[i]);
        row->metadata = (struct index_str){"", 0};
}
