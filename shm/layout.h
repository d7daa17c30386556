/*
 * layout -- what every shared-memory object of an instance has in common: names, sizes, versions.
 *
 * Shape   named POSIX objects `/millrace.<uid>.<instance>.<object>`, each with exactly one writer
 * Units   bytes; nanoseconds of CLOCK_MONOTONIC; sequence numbers that start at 1 and count for
 *         ever
 * Owner   the supervisor creates and unlinks every object; workers map what their role may see
 * Errors  attach functions return -EPROTO when magic, version or size is not what this build
 *         expects
 * Limits  LANES_MAX lanes, GATEWAY_SLOTS_MAX gateway slots (one of them the spare), 255 rings
 *
 * Invariants of the ring protocol, named where each is kept in the code:
 *   I1 one writer per word, for ever          I2 one 64-bit store commits
 *   I3 persistence-ordered stores are release I4 nothing the consumer may still read is overwritten
 *   I5 start only after reaping               I6 attach derives all private state from shared words
 *   I7 attach rings all neighbours            I8 at most one committed-unacked batch <= MAX_BATCH
 *   I9 publish before waiting                 I10 nothing is reclaimed by timeout
 */
#pragma once

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint64_t mr_au64;

#define LAYOUT_VERSION 1
#define LAYOUT_SEPARATION 128 /* bytes between words of different writers: adjacent-line prefetch */
#define LAYOUT_PAGE 4096u

#define LANES_MAX 8
#define GATEWAY_PLACES_MAX 4
#define GATEWAY_SLOTS_MAX (GATEWAY_PLACES_MAX + 1) /* one spare, for lossless restarts */
#define LANE_STAGES_N 5
#define PROCS_MAX (GATEWAY_SLOTS_MAX + LANES_MAX * LANE_STAGES_N + 2)
#define RINGS_PER_LANE_MAX (4 * GATEWAY_SLOTS_MAX + 5)
#define RINGS_MAX (LANES_MAX * RINGS_PER_LANE_MAX)

static_assert(RINGS_MAX <= 255, "a descriptor names its input ring in 8 bits");
static_assert(ATOMIC_LONG_LOCK_FREE == 2 && sizeof(long) == 8,
        "atomics shared by processes must be lock-free");

/* The roles that have an executable of their own. Lane stages come in pipeline order. */
enum mr_role {
        ROLE_RAG,
        ROLE_ASSEMBLE,
        ROLE_INFERENCE,
        ROLE_POST,
        ROLE_STREAM,
        ROLE_GATEWAY,
        ROLE_TELEMETRY,
        ROLE_WATCH, /* runs only where rag.watch names a folder */
        ROLES_N,
};
static_assert(ROLE_STREAM + 1 == LANE_STAGES_N, "lane stages are the first roles");

/* Names as they stand in `millrace-<role>`, in `status` and in metrics. NULL for no role. */
const char *mr_role_name(enum mr_role role);

/* The kinds of object; the order is part of the layout hash. */
enum mr_object {
        OBJECT_TOPOLOGY,
        OBJECT_RING_PROD,
        OBJECT_RING_CONS,
        OBJECT_SLAB,
        OBJECT_ADMISSION,
        OBJECT_ARENA,
        OBJECT_LOG,
        OBJECT_COUNTERS,
        OBJECT_SIDE,
        OBJECTS_N,
};

#define MAGIC_TOPOLOGY 0x796f706f7472696dull /* "mirtopoy" */
#define MAGIC_SLAB 0x62616c735f72696dull
#define MAGIC_ADMISSION 0x73696d64615f726dull
#define MAGIC_ARENA 0x616e6572615f726dull
#define MAGIC_LOG 0x5f676f6c5f72696dull
#define MAGIC_COUNTERS 0x72746e635f72696dull
#define MAGIC_SIDE 0x656469735f72696dull

/* A hash over the sizes, offsets and constants of every shared structure, so that two builds that
 * disagree refuse each other instead of misreading memory. */
uint64_t layout_hash(void);

static inline uint64_t layout_align(uint64_t n, uint64_t to) {
        return (n + to - 1) / to * to;
}

/* Between the bytes of a seqlock and its word, on both sides: the one ordering that no single
 * operation gives (the word is checked after plain reads, or the bytes are written after it), so
 * the one fence of its own. On x86-64 it only binds the compiler. ThreadSanitizer has no model of
 * it. */
static inline void layout_seqlock_fence(void) {
#if defined(__SANITIZE_THREAD__)
        atomic_signal_fence(memory_order_seq_cst);
#else
        atomic_thread_fence(memory_order_acq_rel);
#endif
}
