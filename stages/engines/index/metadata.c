/*
 * metadata -- what a document's metadata can be filtered by.
 */
#include "stages/engines/index/metadata.h"

#include <stdbool.h>

#include <yajl/yajl_gen.h>
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

/* ---- joining ----------------------------------------------------------------------------------- */

static bool same(struct index_str a, struct index_str b) {
        return a.n_bytes == b.n_bytes && memcmp(a.data, b.data, a.n_bytes) == 0;
}

static int find_key(struct index_str key, struct index_str value, void *ctx) {
        const struct index_str *wanted = ctx;

        (void)value;
        return same(key, *wanted);
}

static void put(yajl_gen gen, struct index_str text) {
        yajl_gen_string(gen, (const unsigned char *)text.data, text.n_bytes);
}

/* The member of pair i, which is the first of its key. */
static void put_member(yajl_gen gen, const struct index_pair *pairs, size_t n_pairs, size_t i) {
        size_t n = 0;

        for (size_t k = i; k < n_pairs; k++)
                n += same(pairs[k].key, pairs[i].key);
        put(gen, pairs[i].key);
        if (n > 1)
                yajl_gen_array_open(gen);
        for (size_t k = i; k < n_pairs; k++)
                if (same(pairs[k].key, pairs[i].key))
                        put(gen, pairs[k].value);
        if (n > 1)
                yajl_gen_array_close(gen);
}

static bool is_first(const struct index_pair *pairs, size_t i) {
        for (size_t k = 0; k < i; k++)
                if (same(pairs[k].key, pairs[i].key))
                        return false;
        return true;
}

/* Two objects as one: what stands between their braces. */
static int append_members(struct buffer *to, struct index_str json) {
        const size_t before = to->n_bytes;
        size_t from = 0, end = json.n_bytes;

        while (from < end && json.data[from++] != '{')
                ;
        while (end > from && json.data[--end] != '}')
                ;
        while (from < end && strchr(" \t\r\n", json.data[from]))
                from++; /* an empty object has no members */
        if (from >= end)
                return 0;
        if (before > 1 && buffer_append(to, ",", 1) != 0)
                return -ENOMEM;
        return buffer_append(to, json.data + from, end - from);
}

int metadata_join(struct index_str json, const struct index_pair *pairs, size_t n_pairs,
                struct buffer *ret_json) {
        yajl_gen gen = yajl_gen_alloc(NULL);
        struct index_str more = {"", 0};
        int r = gen ? 0 : -ENOMEM;

        if (r == 0)
                yajl_gen_map_open(gen);
        for (size_t i = 0; r == 0 && i < n_pairs; i++)
                if (is_first(pairs, i) && metadata_each(json, find_key, (void *)&pairs[i].key) == 0)
                        put_member(gen, pairs, n_pairs, i);
        if (r == 0) {
                yajl_gen_map_close(gen);
                yajl_gen_get_buf(gen, (const unsigned char **)&more.data, &more.n_bytes);
                r = buffer_append(ret_json, "{", 1);
        }
        if (r == 0)
                r = append_members(ret_json, json);
        if (r == 0)
                r = append_members(ret_json, more);
        if (r == 0)
                r = buffer_append(ret_json, "}", 1);
        if (gen)
                yajl_gen_free(gen);
        return r;
}
