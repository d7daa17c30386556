/*
 * pull -- reads msgpack item by item, in place: what a client sent costs no memory beyond its
 * bytes.
 *
 * Shape   struct pull: where we are in bytes that msgpack_scan() has found whole
 * Units   bytes
 * Owner   the bytes are the caller's and must not change meanwhile
 * Errors  0 or -EPROTO (the bytes end, or are no msgpack)
 * Limits  nothing here recurses or allocates
 */
#pragma once

#include <stdint.h>

#include "stages/common/record.h"

struct pull {
        const uint8_t *p, *end;
};

enum pull_type {
        PULL_NIL,
        PULL_BOOL,
        PULL_UINT,
        PULL_INT,
        PULL_FLOAT,
        PULL_STR,
        PULL_BIN,
        PULL_EXT,
        PULL_ARRAY,
        PULL_MAP
};

/* PULL_INT: a negative number. Arrays and maps: `count` elements (pairs) follow. */
struct pull_item {
        enum pull_type type;
        uint32_t count;
        struct mr_view view; /* str, bin */
        union {
                uint64_t u;
                int64_t i;
                double f;
                bool b;
        } v;
};

int pull_item(struct pull *from, struct pull_item *ret);
/* The next value whole, with everything inside it; *ret_raw (may be NULL) are its bytes. */
int pull_value(struct pull *from, struct mr_view *ret_raw);
/* "a string", "an array" ... for messages. */
const char *pull_type_name(enum pull_type type);
