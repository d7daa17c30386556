/*
 * json -- small pieces for JSON text: writing into a flat buffer, strings, UTF-8.
 *
 * Shape   struct json_buf: a buffer of the caller; `full` is set instead of writing beyond it
 * Units   bytes
 * Owner   all memory is the caller's
 * Errors  0, -EPROTO (not a JSON string)
 * Limits  none of their own; nothing here allocates
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define JSON_ESCAPE_GROWTH 6u
#define JSON_CHAR_MAX 4u /* bytes of a character */

struct json_buf {
        char *at;
        uint32_t len, cap;
        bool full;
};

void json_put(struct json_buf *b, const char *p, uint32_t n);
void json_put_text(struct json_buf *b, const char *text); /* a C string, as it stands */
/* The inside of a JSON string; grows by at most JSON_ESCAPE_GROWTH. */
void json_put_escaped(struct json_buf *b, const char *p, uint32_t n);
/* The same for what may not be UTF-8: U+FFFD for each byte that is wrong. */
void json_put_mended(struct json_buf *b, const char *p, uint32_t n);
/* A JSON string with its quotes; p must be UTF-8 (json_utf8_bad() says so). */
void json_put_string(struct json_buf *b, const char *p, uint32_t n);
void json_put_u64(struct json_buf *b, uint64_t v);
void json_put_i64(struct json_buf *b, int64_t v);
/* v must be finite; the shortest of 15 to 17 digits that reads back as v. */
void json_put_f64(struct json_buf *b, double v);

/* Offset of the first byte that is not UTF-8 (overlong forms and surrogates are not), or n. */
uint32_t json_utf8_bad(const char *p, uint32_t n);
/* The largest length <= max that does not cut a character of UTF-8 text. */
uint32_t json_utf8_cut(const char *p, uint32_t n, uint32_t max);
/* One escape, from behind its backslash: its UTF-8 bytes, and how much of p it took. 0 or -EPROTO. */
int json_unescape_one(const char *p, uint32_t left, char to[static JSON_CHAR_MAX], uint32_t *ret_n,
                uint32_t *ret_used);
/* Decodes a JSON string with its quotes; what does not fit is cut at a character. 0 or -EPROTO. */
int json_unescape(const char *p, uint32_t n, char *to, uint32_t cap, uint32_t *ret_len);
