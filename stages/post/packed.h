/*
 * packed -- plain values put behind each other, as a slab version keeps them, and taken apart again.
 *
 * Shape   packed_give() appends and returns what is behind it; struct packed: what is left
 * Units   bytes
 * Owner   the caller's memory
 * Errors  a cursor that was asked for more than it had is broken, and what it gave is zero
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct packed {
        const uint8_t *p;
        uint32_t n;
        bool broken;
};

static inline void packed_take(struct packed *from, void *to, uint32_t n) {
        if (from->broken || n > from->n) {
                from->broken = true;
                return;
        }
        memcpy(to, from->p, n);
        from->p += n;
        from->n -= n;
}

static inline uint8_t *packed_give(uint8_t *to, const void *p, size_t n) {
        memcpy(to, p, n);
        return to + n;
}
