/*
 * pack -- the heads of msgpack, written straight into a flat buffer.
 *
 * Shape   inline writers over struct pack_buf; what is rare goes by msgpack_pack_*(&w->pk), and
 *         both may be mixed. Every head is the shortest one, as the library's are
 * Units   bytes
 * Owner   the buffer is the caller's
 * Errors  `full` is set instead of writing beyond cap, and stays set
 * Limits  texts of 32 bits
 *
 * The library calls a function for each head and each run of bytes, which cost a third of a
 * record's encoding.
 */
#pragma once

#include <string.h>

#include "stages/common/record.h"

/* n bytes of room, or NULL and `full`. */
static inline uint8_t *pack_room(struct pack_buf *w, uint32_t n) {
        uint8_t *to = w->at + w->len;

        if (w->full || n > w->cap - w->len) {
                w->full = true;
                return NULL;
        }
        w->len += n;
        return to;
}

static inline void pack_byte(struct pack_buf *w, uint8_t byte) {
        uint8_t *to = pack_room(w, 1);

        if (to)
                *to = byte;
}

static inline void pack_16(struct pack_buf *w, uint8_t head, uint16_t v) {
        uint8_t *to = pack_room(w, 3);

        if (!to)
                return;
        v = __builtin_bswap16(v);
        to[0] = head;
        memcpy(to + 1, &v, sizeof(v));
}

static inline void pack_32(struct pack_buf *w, uint8_t head, uint32_t v) {
        uint8_t *to = pack_room(w, 5);

        if (!to)
                return;
        v = __builtin_bswap32(v);
        to[0] = head;
        memcpy(to + 1, &v, sizeof(v));
}

static inline void pack_64(struct pack_buf *w, uint8_t head, uint64_t v) {
        uint8_t *to = pack_room(w, 9);

        if (!to)
                return;
        v = __builtin_bswap64(v);
        to[0] = head;
        memcpy(to + 1, &v, sizeof(v));
}

static inline void pack_uint(struct pack_buf *w, uint64_t v) {
        if (v < 128) {
                pack_byte(w, (uint8_t)v);
        } else if (v <= UINT8_MAX) {
                uint8_t *to = pack_room(w, 2);
                if (to) {
                        to[0] = 0xcc;
                        to[1] = (uint8_t)v;
                }
        } else if (v <= UINT16_MAX) {
                pack_16(w, 0xcd, (uint16_t)v);
        } else if (v <= UINT32_MAX) {
                pack_32(w, 0xce, (uint32_t)v);
        } else {
                pack_64(w, 0xcf, v);
        }
}

static inline void pack_bytes(struct pack_buf *w, const char *p, uint32_t n) {
        uint8_t *to = pack_room(w, n);

        if (to && n > 0) /* an empty text may have no address */
                memcpy(to, p, n);
}

/* The head of a text or of bytes; as many bytes come next. `wide` is its form with one byte of
 * length. */
static inline void pack_length(struct pack_buf *w, uint8_t wide, uint32_t n) {
        if (n <= UINT8_MAX) {
                uint8_t *to = pack_room(w, 2);
                if (to) {
                        to[0] = wide;
                        to[1] = (uint8_t)n;
                }
        } else if (n <= UINT16_MAX) {
                pack_16(w, wide + 1, (uint16_t)n);
        } else {
                pack_32(w, wide + 2, n);
        }
}

static inline void pack_str_head(struct pack_buf *w, uint32_t n) {
        if (n < 32)
                pack_byte(w, (uint8_t)(0xa0 | n));
        else
                pack_length(w, 0xd9, n);
}

static inline void pack_str(struct pack_buf *w, struct mr_view text) {
        pack_str_head(w, text.n);
        pack_bytes(w, text.p, text.n);
}

static inline void pack_bin(struct pack_buf *w, struct mr_view bytes) {
        pack_length(w, 0xc4, bytes.n);
        pack_bytes(w, bytes.p, bytes.n);
}

static inline void pack_map(struct pack_buf *w, uint32_t n) {
        if (n < 16)
                pack_byte(w, (uint8_t)(0x80 | n));
        else if (n <= UINT16_MAX)
                pack_16(w, 0xde, (uint16_t)n);
        else
                pack_32(w, 0xdf, n);
}

static inline void pack_bool(struct pack_buf *w, bool v) {
        pack_byte(w, v ? 0xc3 : 0xc2);
}
