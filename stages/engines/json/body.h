/*
 * body -- one scan of an OpenAI chat body: is it one, and where are the parts that stages edit?
 *
 * Shape   struct body_scanner: memory for the parser, made once; struct body_found: what a scan
 * found Units   byte offsets into the body; spans of values include their quotes or brackets Owner
 * whoever called body_scanner_new(); a scan keeps nothing of the body Errors  0, BODY_E_INVALID
 * (body_found.error says what and at which byte), -ENOMEM Limits  BODY_DEPTH_MAX levels,
 * BODY_QUERY_MAX bytes of query; a scan allocates only for strings with escapes that are longer
 * than BODY_SCRATCH bytes
 *
 * Strict JSON (RFC 8259), UTF-8 checked. Of duplicate keys the last one counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/engines/json/marks.h"

#define BODY_DEPTH_MAX 64u
#define BODY_QUERY_MAX 4096u
#define BODY_SCRATCH 32768u
#define BODY_ERROR_MAX 160u

enum body_error { BODY_E_INVALID = 1 };

struct body_found {
        struct body_marks marks;
        bool usage_asked; /* stream_options.include_usage is true */
        uint32_t query_len;
        char query[BODY_QUERY_MAX]; /* decoded text of the last user message, cut at a character */
        char error[BODY_ERROR_MAX];
};

struct body_scanner;

int body_scanner_new(struct body_scanner **ret); /* 0 or -ENOMEM */
struct body_scanner *body_scanner_free(struct body_scanner *s);

int body_scan(struct body_scanner *s, const char *body, uint32_t len, struct body_found *ret);
