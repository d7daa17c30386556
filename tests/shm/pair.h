/*
 * pair -- one ring with both of its sides in this process, for the suites of this folder.
 *
 * Shape   two shared-memory objects, unlinked as soon as they are mapped, and a bell for each side
 * Units   as shm/ring.h
 * Owner   the test
 * Errors  a failed check ends the test
 * Limits  none
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/doorbell.h"
#include "shm/ring.h"
#include "shm/segment.h"

struct pair {
        struct ring_geometry geo;
        struct ring_map prod; /* the producer's mapping */
        struct ring_map cons; /* the consumer's mapping */
        int bell_prod, bell_cons;
};

/* A name that no other test run has. */
void pair_object_name(char buf[static SEGMENT_NAME_MAX], const char *object);

/* `start`: first sequence number, 1 as the supervisor makes it. */
struct pair pair_new(struct ring_geometry geo, uint64_t start);
void pair_close(struct pair *pair);

/* Did the bell ring since the last look? */
bool bell_rang(int fd);
/* Waits for it; false: nothing came for so long that something is wrong. */
bool bell_wait(int fd);

/* Byte i of the record number n, so that any mix-up shows. */
static inline uint8_t pattern(uint64_t n, uint32_t i) {
        return (uint8_t)(n * 131 + (uint64_t)i * 7 + (i >> 8));
}
void pattern_fill(uint8_t *to, uint64_t n, uint32_t len);
bool pattern_is(const uint8_t *bytes, uint64_t n, uint32_t len);

/* One record with the pattern of `n`; what ring_tx_begin() says. */
int pair_emit(struct ring_tx *tx, uint64_t n, uint32_t len, uint8_t flags);

static inline uint64_t word_of(const mr_au64 *word) {
        return atomic_load_explicit(word, memory_order_relaxed);
}

uint64_t pair_random(uint64_t *state);

/* Runs fn(ctx) in a child; the exit status is 1 when it returns. */
pid_t pair_fork(void (*fn)(void *ctx), void *ctx);
/* Kills the child and reaps it. False when it had ended by itself (an assertion in it failed). */
bool pair_kill(pid_t pid);
