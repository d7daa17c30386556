/*
 * walk -- members and elements of JSON text, one after the other, without a parser's memory.
 *
 * Shape   struct json_walk: a place in the inside of an object or array; views into the text
 * Units   bytes
 * Owner   all memory is the caller's
 * Errors  0, WALK_E_END (nothing left), -EPROTO (not JSON from here on)
 * Limits  values nested WALK_DEPTH_MAX levels; nothing here allocates
 *
 * Strict as RFC 8259, but for bytes above 0x7f in strings, which are not looked at: whoever passes
 * text on has checked it. Keys come with their quotes, as they are written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WALK_DEPTH_MAX 64u

enum walk_error { WALK_E_END = 1 };

struct json_text {
        const char *p;
        uint32_t n;
};

struct json_walk {
        const char *p;
        uint32_t n, at;
        bool begun;
};

/* What is inside of a value's brackets; n 0 for anything else. */
struct json_text json_inside(struct json_text value);
static inline struct json_walk json_walk_in(struct json_text inside) {
        return (struct json_walk){.p = inside.p, .n = inside.n};
}
int json_walk_member(struct json_walk *w, struct json_text *ret_key, struct json_text *ret_value);
int json_walk_element(struct json_walk *w, struct json_text *ret_value);
/* The value of the last member of that name; false: *ret is untouched. */
bool json_find(struct json_text inside, const char *name, struct json_text *ret);
/* Is the text the inside of an object, to its end? */
bool json_is_members(struct json_text inside);
/* Is the key, with its quotes, this name as it stands? */
bool json_key_is(struct json_text key, const char *name);
/* A number without sign, fraction or exponent; false: it is no such number. */
bool json_u64(struct json_text value, uint64_t *ret);
