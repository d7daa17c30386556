/*
 * buffer -- bytes that grow.
 *
 * Shape   data[0..n_bytes), room behind it; all zero is an empty one
 * Owner   whoever declares it clears it
 * Errors  0 or -ENOMEM, after which the buffer is as before
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
        char *data;
        size_t n_bytes;
        size_t room;
};

static inline int buffer_reserve(struct buffer *buffer, size_t n_more) {
        if (buffer->room - buffer->n_bytes >= n_more)
                return 0;
        if (n_more > SIZE_MAX / 4 || buffer->n_bytes > SIZE_MAX / 4)
                return -ENOMEM;
        const size_t room = (buffer->n_bytes + n_more) * 3 / 2 + 64;
        char *more = realloc(buffer->data, room);
        if (!more)
                return -ENOMEM;
        buffer->data = more;
        buffer->room = room;
        return 0;
}

static inline int buffer_append(struct buffer *buffer, const char *data, size_t n_bytes) {
        int r = buffer_reserve(buffer, n_bytes);

        if (r < 0)
                return r;
        if (n_bytes > 0)
                memcpy(buffer->data + buffer->n_bytes, data, n_bytes);
        buffer->n_bytes += n_bytes;
        return 0;
}

static inline void buffer_clear(struct buffer *buffer) {
        free(buffer->data);
        *buffer = (struct buffer){0};
}
