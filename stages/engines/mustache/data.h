/*
 * data -- the values that a template is rendered with: a tree, written front to back.
 *
 * Shape   one array of values, linked by index: container -> first member -> next member
 * Units   bytes; depth counts lists and maps
 * Owner   whoever called mustache_data_new(); texts are borrowed until the data is reset or freed,
 *         unless they were copied with mustache_data_copy()
 * Errors  the first failure sticks and is what mustache_data_error() says: 0, -ENOMEM, -E2BIG
 *         (nested deeper than DATA_DEPTH_MAX); from JSON also -EBADMSG, with the place
 * Limits  DATA_DEPTH_MAX levels; a reset keeps the memory, so that what is built again allocates nothing
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATA_DEPTH_MAX 256u
#define DATA_NONE UINT32_MAX
#define DATA_ROOT 0u

enum data_kind { DATA_NULL, DATA_FALSE, DATA_TRUE, DATA_NUMBER, DATA_TEXT, DATA_LIST, DATA_MAP };

struct mustache_text {
        const char *p;
        uint32_t n;
};

struct mustache_value {
        uint32_t kind;             /* enum data_kind */
        uint32_t first, next;      /* DATA_NONE: there is none */
        struct mustache_text key;  /* of a map's member */
        struct mustache_text text; /* of a text, a number (its digits), true and false */
};

struct mustache_data;

struct mustache_error {
        uint32_t line, column; /* from 1, in characters; 0: of no place */
        char name[256];        /* of the template; "": of the one that was given */
        char text[192];
};

int mustache_data_new(struct mustache_data **ret); /* 0 or -ENOMEM */
struct mustache_data *mustache_data_free(struct mustache_data *data);
void mustache_data_freep(struct mustache_data **data);
void mustache_data_reset(struct mustache_data *data);

/* A value at the end of the innermost open container; key is of no use within a list. */
void mustache_data_put(struct mustache_data *data, struct mustache_text key, enum data_kind kind,
                struct mustache_text text);
void mustache_data_open(struct mustache_data *data, struct mustache_text key, enum data_kind kind);
void mustache_data_close(struct mustache_data *data);
struct mustache_text mustache_data_copy(struct mustache_data *data, const char *p, size_t n);
int mustache_data_error(const struct mustache_data *data);

/* Any JSON value, in place of what the data held. */
int mustache_data_json(struct mustache_data *data, const char *json, size_t n,
                struct mustache_error *err);

/* The values; the first is the root. NULL: there are none. */
const struct mustache_value *mustache_data_values(const struct mustache_data *data);
