#include "stages/telemetry/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_FIRST 4096u

/* Room for n more bytes. */
static bool text_room(struct text *text, size_t n) {
        size_t cap = text->cap ? text->cap : TEXT_FIRST;
        char *more;

        if (text->failed || n > TEXT_MAX - text->len) {
                text->failed = true;
                return false;
        }
        if (text->cap - text->len >= n)
                return true;
        while (cap - text->len < n)
                cap *= 2;
        more = realloc(text->at, cap);
        if (!more) {
                text->failed = true;
                return false;
        }
        text->at = more;
        text->cap = cap;
        return true;
}

void text_add(struct text *text, const char *bytes, size_t n) {
        if (n == 0 || !text_room(text, n))
                return;
        memcpy(text->at + text->len, bytes, n);
        text->len += n;
}

void text_print(struct text *text, const char *format, ...) {
        va_list args;
        char *at;
        int n;

        va_start(args, format);
        n = vsnprintf(NULL, 0, format, args);
        va_end(args);
        if (n < 0 || !text_room(text, (size_t)n + 1)) /* vsnprintf() adds a zero */
                return;
        at = text->at + text->len;
        va_start(args, format);
        n = vsnprintf(at, (size_t)n + 1, format, args);
        va_end(args);
        text->len += (size_t)n;
}

void text_reset(struct text *text) {
        text->len = 0;
        text->failed = false;
}

void text_close(struct text *text) {
        free(text->at);
        *text = (struct text){0};
}
