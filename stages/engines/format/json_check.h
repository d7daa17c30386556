/*
 * json_check -- is a text that is still arriving the JSON that was asked for, as far as it has come?
 *
 * Shape   struct json_check: where the text stands, a plain value; zeroed, it is the start of one
 * Units   bytes
 * Owner   the caller's; the schema stays the same from a text's start to its end
 * Errors  none: what is wrong is a constant text
 * Limits  JSON_CHECK_DEPTH levels; of a string that is longer than JSON_CHECK_TEXT bytes the pattern is not
 *         looked at
 *
 * Strict as RFC 8259. Read byte by byte, so how the text was cut makes no difference. That the text is UTF-8 is
 * for whoever feeds it to see to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/engines/format/json_schema.h"

#define JSON_CHECK_DEPTH 32u
#define JSON_CHECK_TEXT 1024u

struct json_check_level {
        uint64_t seen; /* of the required members */
        uint32_t n;    /* members or elements so far */
        uint16_t node; /* whose members or elements they are */
        uint8_t object;
        uint8_t rsv;
};

struct json_check {
        uint8_t at;     /* enum json_at of json_check.c */
        uint8_t depth;
        uint8_t escape; /* in a string: behind a backslash, or hex digits to come */
        uint8_t over;  /* the string has more than n bytes */
        uint16_t node;  /* of the value that is read */
        uint16_t unit;  /* of an escape: what it has come to */
        uint16_t high;  /* half a pair, 0: none */
        uint16_t n;     /* bytes of text */
        uint32_t length; /* of the string, in characters */
        struct json_check_level level[JSON_CHECK_DEPTH];
        char text[JSON_CHECK_TEXT]; /* the number, word or string at hand; strings are decoded */
};

/* How much of the text may stand: n, or less, and then *ret_why says what is wrong with the byte behind it. */
uint32_t json_check_feed(struct json_check *check, const struct json_schema *schema, const char *text, uint32_t n,
                const char **ret_why);
/* The text ends here. NULL, or what is wrong with that. */
const char *json_check_end(struct json_check *check, const struct json_schema *schema);
