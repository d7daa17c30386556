/*
 * ring_state -- how the consumer's state word of one record is packed; for the ring's own files.
 *
 * Shape   tag32 | emitted16 | strikes8 | state8, the tag in the top half
 * Units   tag: low 32 bits of the record's seq; a word with another tag says NEW about this record
 * Owner   the consumer alone writes and reads these words
 * Errors  none
 * Limits  an input has at most RING_EMITTED_MAX outputs that a resume can count
 */
#pragma once

#include <stdbool.h>

#include "shm/ring.h"

#define RING_EMITTED_MAX UINT16_MAX
#define RING_STRIKES_MAX UINT8_MAX

static inline uint64_t ring_state_pack(
                uint64_t seq, uint32_t emitted, uint32_t strikes, enum ring_state state) {
        return seq << 32 | (uint64_t)emitted << 16 | (uint64_t)strikes << 8 | (uint64_t)state;
}

static inline mr_au64 *ring_state_word(const struct ring_rx *rx, uint64_t seq) {
        return &rx->map.cons->state[seq & (rx->map.geo.n - 1)];
}

/* The word of seq, or that of a new record where the slot still speaks of an older one. */
static inline uint64_t ring_state_load(const struct ring_rx *rx, uint64_t seq) {
        uint64_t word = atomic_load_explicit(ring_state_word(rx, seq), memory_order_relaxed);

        return word >> 32 == (seq & UINT32_MAX) ? word : ring_state_pack(seq, 0, 0, RING_NEW);
}

static inline enum ring_state ring_state_of(uint64_t word) {
        return (enum ring_state)(word & 0xff);
}

static inline uint32_t ring_state_strikes(uint64_t word) {
        return word >> 8 & 0xff;
}

static inline uint32_t ring_state_emitted(uint64_t word) {
        return word >> 16 & 0xffff;
}

/* I3: release, so that in the order in which a kill cuts the program no earlier store is missing.
 */
static inline void ring_state_store(const struct ring_rx *rx, uint64_t seq, uint64_t word) {
        atomic_store_explicit(ring_state_word(rx, seq), word, memory_order_release);
}

static inline bool ring_seq_before(uint64_t a, uint64_t b) {
        return (int64_t)(a - b) < 0;
}

/* Payloads start on cache lines. */
static inline uint64_t ring_align(uint64_t bytes) {
        return (bytes + 63) & ~UINT64_C(63);
}

static inline struct ring_desc *ring_desc_at(const struct ring_map *map, uint64_t seq) {
        return &map->desc[seq & (map->geo.n - 1)];
}

/* Moves `first` over everything acked, and `rd` with it. */
void ring_rx_advance(struct ring_rx *rx);
