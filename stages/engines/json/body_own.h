/*
 * body_own -- what the two halves of a scan share: body.c (the parser, where it stands) and
 * body_values.c (what the values there mean).
 *
 * Shape   a level for each open bracket; the region says what a container is, the key whose value
 *         comes next in it
 * Owner   struct body_scanner
 */
#pragma once

#include <stddef.h>

#include <yajl/yajl_parse.h>

#include "stages/engines/json/body.h"
#include "stages/engines/json/scratch.h"

/* What a container is, by where it stands. */
enum region {
        AT_NOWHERE,
        AT_BODY,
        AT_MESSAGES,
        AT_MESSAGE,
        AT_CONTENT,
        AT_PART,
        AT_OPTIONS,
        AT_METADATA,
        AT_PROMPT, /* an array of texts or tokens */
        AT_TOKENS, /* an array in it */
        AT_OTHER
};

enum key {
        KEY_OTHER,
        /* of the body */
        KEY_MESSAGES,
        KEY_MODEL,
        KEY_STREAM,
        KEY_STREAM_OPTIONS,
        KEY_MAX_TOKENS,
        KEY_N,
        KEY_STOP,
        KEY_STOP_STAYS, /* an answer may have a stop string in it when this is true */
        KEY_FORMAT,
        KEY_PROMPT,
        KEY_INPUT,
        KEY_INSTRUCTIONS,
        KEY_BACKGROUND,
        KEY_PREVIOUS,
        KEY_CACHE_KEY,
        KEY_SAFETY_ID,
        KEY_USER,
        KEY_METADATA,
        BODY_KEYS_N,
        /* of a message */
        KEY_ROLE,
        KEY_CONTENT,
        /* of a part */
        KEY_TYPE,
        KEY_TEXT,
        KEY_INCLUDE_USAGE, /* of the options */
        KEY_USER_ID,       /* of the metadata */
};

enum value { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING, VALUE_ARRAY, VALUE_OBJECT };

struct level {
        uint8_t region, key;
        uint32_t start; /* offset of the bracket */
};

struct body_scanner {
        yajl_handle parser;
        enum body_kind kind;
        const char *text;
        uint32_t len;
        uint32_t prev; /* end of the token before */
        uint32_t depth;
        struct level level[BODY_DEPTH_MAX + 1]; /* 0: outside of everything */
        struct body_found *found;

        /* The message at hand. */
        enum body_role role;
        struct body_span content;
        uint32_t part_mark; /* length of `pending` where the part began */
        bool part_other;    /* the part says that it is no text */
        bool stop_stays;
        uint32_t n_prompts; /* elements of the prompt's array */
        enum value prompts; /* what they are */
        uint32_t pending_len;
        char pending[BODY_QUERY_MAX];

        struct scratch scratch;
};

/* Sets the error ("member: words at byte N") and returns 0, as the parser's callbacks do to stop.
 * member NULL: the body itself. */
__attribute__((format(printf, 4, 5))) int body_fail(struct body_scanner *s, uint32_t at,
                const char *member, const char *format, ...);
/* Where the parser stands: behind the token at hand. */
static inline uint32_t body_here(const struct body_scanner *s) {
        return (uint32_t)yajl_get_bytes_consumed(s->parser);
}

/* ---- body_values.c; those that return int: 0 stops the scan, the error is set ---- */

enum key body_key(const struct body_scanner *s, const unsigned char *name, size_t n);
enum region body_region_below(const struct body_scanner *s, bool object);
void body_region_begin(struct body_scanner *s, enum region region);
/* A string's text, before body_value() has it as a value. */
void body_string(struct body_scanner *s, const unsigned char *text, size_t n, uint32_t start);
/* A value is whole; its container decides what it means. */
int body_value(struct body_scanner *s, enum value value, struct body_span span);
/* The body is whole. */
int body_end(struct body_scanner *s);
