/*
 * rows -- a file taken line by line, or whole.
 */
#include "stages/engines/index/rows.h"

#include <unistd.h>

#define READ_BYTES (256u * 1024)

/* Makes room by moving what is left to the front, then reads once. */
static int rows_fill(struct rows *rows) {
        struct buffer *buffer = &rows->buffer;
        ssize_t n;
        int r;

        if (rows->start > 0) {
                buffer->n_bytes -= rows->start;
                rows->scanned -= rows->start;
                memmove(buffer->data, buffer->data + rows->start, buffer->n_bytes);
                rows->start = 0;
        }
        r = buffer_reserve(buffer, READ_BYTES);
        if (r < 0)
                return r;
        n = read(rows->fd, buffer->data + buffer->n_bytes, READ_BYTES);
        if (n == -1)
                return -errno;
        rows->end = n == 0;
        rows->n_read += (size_t)n;
        buffer->n_bytes += (size_t)n;
        return 0;
}

static const char *find_break(struct rows *rows) {
        const size_t n = rows->buffer.n_bytes - rows->scanned;
        const char *found = n > 0 ? memchr(rows->buffer.data + rows->scanned, '\n', n) : NULL;

        rows->scanned = rows->buffer.n_bytes;
        return found;
}

int rows_next(struct rows *rows, struct index_str *ret_row) {
        bool too_long = false;

        for (;;) {
                const char *found = find_break(rows);
                const size_t end =
                                found ? (size_t)(found - rows->buffer.data) : rows->buffer.n_bytes;
                const size_t n = end - rows->start;
                int r;

                too_long = too_long || n > rows->max_bytes;
                if (found || rows->end) {
                        if (!found && n == 0 && !too_long)
                                return ROWS_END;
                        *ret_row = (struct index_str){
                                        n > 0 ? rows->buffer.data + rows->start : "", n};
                        rows->start = rows->scanned = end + (found ? 1 : 0);
                        return too_long ? ROWS_E_LONG : 0;
                }
                if (too_long)
                        rows->start = rows->buffer.n_bytes; /* let go of what nobody will see */
                r = rows_fill(rows);
                if (r < 0)
                        return r;
        }
}

int rows_rest(struct rows *rows, struct index_str *ret_bytes) {
        while (!rows->end) {
                int r = rows_fill(rows);

                if (r < 0)
                        return r;
                if (rows->buffer.n_bytes > rows->max_bytes)
                        return ROWS_E_LONG;
        }
        *ret_bytes = (struct index_str){
                        rows->buffer.n_bytes > rows->start ? rows->buffer.data + rows->start : "",
                        rows->buffer.n_bytes - rows->start};
        rows->start = rows->buffer.n_bytes;
        return 0;
}

int rows_peek(struct rows *rows, char *ret_byte) {
        for (;;) {
                for (size_t i = rows->start; i < rows->buffer.n_bytes; i++) {
                        const char c = rows->buffer.data[i];

                        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
                                *ret_byte = c;
                                return 0;
                        }
                }
                if (rows->end || rows->buffer.n_bytes - rows->start > READ_BYTES) {
                        *ret_byte = '\0';
                        return 0;
                }
                int r = rows_fill(rows);
                if (r < 0)
                        return r;
        }
}

void rows_clear(struct rows *rows) {
        buffer_clear(&rows->buffer);
}
