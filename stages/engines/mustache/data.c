#include "stages/engines/mustache/data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_FIRST 64u
#define BLOCK_BYTES 65536u

struct block {
        struct block *next;
        size_t n, cap;
        char bytes[];
};

struct level {
        uint32_t container;
        uint32_t last; /* member; DATA_NONE: none yet */
};

struct mustache_data {
        struct mustache_value *values;
        uint32_t n, cap;
        struct level open[DATA_DEPTH_MAX];
        uint32_t n_open;
        struct block *blocks; /* of copied texts, the newest first */
        int error;
};

int mustache_data_new(struct mustache_data **ret) {
        struct mustache_data *data = calloc(1, sizeof(*data));

        if (!data)
                return -ENOMEM;
        *ret = data;
        return 0;
}

static void blocks_free(struct mustache_data *data) {
        while (data->blocks) {
                struct block *next = data->blocks->next;
                free(data->blocks);
                data->blocks = next;
        }
}

struct mustache_data *mustache_data_free(struct mustache_data *data) {
        if (!data)
                return NULL;
        blocks_free(data);
        free(data->values);
        free(data);
        return NULL;
}

void mustache_data_freep(struct mustache_data **data) {
        *data = mustache_data_free(*data);
}

void mustache_data_reset(struct mustache_data *data) {
        blocks_free(data);
        data->n = data->n_open = 0;
        data->error = 0;
}

int mustache_data_error(const struct mustache_data *data) {
        return data->error;
}

const struct mustache_value *mustache_data_values(const struct mustache_data *data) {
        return data->n ? data->values : NULL;
}

static bool grow(struct mustache_data *data) {
        uint32_t cap = data->cap ? data->cap * 2 : VALUES_FIRST;
        struct mustache_value *more;

        if (data->n < data->cap)
                return true;
        more = cap > data->cap ? realloc(data->values, cap * sizeof(*more)) : NULL;
        if (!more) {
                data->error = -ENOMEM;
                return false;
        }
        data->values = more;
        data->cap = cap;
        return true;
}

void mustache_data_put(struct mustache_data *data, struct mustache_text key, enum data_kind kind,
                struct mustache_text text) {
        uint32_t at = data->n;

        if (data->error || !grow(data))
                return;
        data->values[data->n++] = (struct mustache_value){.kind = kind,
                        .first = DATA_NONE,
                        .next = DATA_NONE,
                        .key = key,
                        .text = text};
        if (!data->n_open)
                return;
        struct level *level = &data->open[data->n_open - 1];
        if (level->last == DATA_NONE)
                data->values[level->container].first = at;
        else
                data->values[level->last].next = at;
        level->last = at;
}

void mustache_data_open(struct mustache_data *data, struct mustache_text key, enum data_kind kind) {
        uint32_t at = data->n;

        if (data->n_open == DATA_DEPTH_MAX && !data->error)
                data->error = -E2BIG;
        mustache_data_put(data, key, kind, (struct mustache_text){"", 0});
        if (!data->error)
                data->open[data->n_open++] = (struct level){at, DATA_NONE};
}

void mustache_data_close(struct mustache_data *data) {
        if (!data->error && data->n_open)
                data->n_open--;
}

struct mustache_text mustache_data_copy(struct mustache_data *data, const char *p, size_t n) {
        struct block *b = data->blocks;

        if (!b || b->cap - b->n < n) {
                size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
                b = n <= UINT32_MAX ? malloc(sizeof(*b) + cap) : NULL;
                if (!b) {
                        data->error = data->error ? data->error : -ENOMEM;
                        return (struct mustache_text){"", 0};
                }
                *b = (struct block){.next = data->blocks, .cap = cap};
                data->blocks = b;
        }
        char *to = b->bytes + b->n;
        if (n)
                memcpy(to, p, n);
        b->n += n;
        return (struct mustache_text){to, (uint32_t)n};
}
