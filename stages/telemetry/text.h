/*
 * text -- a text that grows while it is written.
 *
 * Shape   bytes, without a final zero
 * Owner   who zeroed it frees it with text_close(); a text may be reset and written again
 * Errors  none while writing: after a lack of memory (or at TEXT_MAX) `failed` is set, once for all
 * Limits  TEXT_MAX bytes
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_MAX (16u * 1024u * 1024u)

struct text {
        char *at;
        size_t len, cap;
        bool failed;
};

void text_add(struct text *text, const char *bytes, size_t n);
__attribute__((format(printf, 2, 3))) void text_print(struct text *text, const char *format, ...);
void text_reset(struct text *text);
void text_close(struct text *text);
