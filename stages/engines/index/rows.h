/*
 * rows -- a file taken line by line, or whole, with a bound on either.
 *
 * Shape   rows_next() until it returns ROWS_END; or rows_rest() once
 * Units   bytes; a row comes without its line break
 * Owner   what is handed out lives until the next call; the descriptor stays the caller's
 * Errors  0, -errno, ROWS_E_*
 * Limits  max_bytes for one row or the rest; of a longer row nothing is kept, and the next one is
 *         found
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/index.h"

enum {
        ROWS_END = 1,
        ROWS_E_LONG, /* over max_bytes */
};

struct rows {
        int fd;
        size_t max_bytes;
        struct buffer buffer;
        size_t start;    /* of what is not handed out yet */
        size_t scanned;  /* up to here there is no line break */
        bool end;        /* the file has */
        uint64_t n_read; /* since the start; the caller may watch it */
};

int rows_next(struct rows *rows, struct index_str *ret_row);
int rows_rest(struct rows *rows, struct index_str *ret_bytes);
/* The first byte that is no white space, or 0; nothing is handed out. */
int rows_peek(struct rows *rows, char *ret_byte);
void rows_clear(struct rows *rows);
