/*
 * place -- where in a file something is wrong, for people.
 *
 * Shape   an offset becomes line and column
 * Units   line and column from 1; a column is a character, a byte that begins none is counted with the
 *         one before
 * Owner   plain values
 * Errors  none; writes err->line and err->column, nothing else
 * Limits  reads the text up to the offset
 */
#pragma once

#include <stddef.h>

#include "stages/engines/mustache/data.h"

static inline void mustache_place(
                const char *text, size_t n, size_t at, struct mustache_error *err) {
        err->line = err->column = 1;
        for (size_t i = 0; i < at && i < n; i++) {
                if (text[i] == '\n') {
                        err->line++;
                        err->column = 1;
                } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
                        err->column++;
                }
        }
}
