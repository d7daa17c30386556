/*
 * admission -- every admitted request of one gateway slot, and the responses that it follows.
 *
 * Shape   header | n_slots admission slots | follow table of ADMISSION_WAYS-wide buckets
 * Owner   written by gateway slot g only; other gateways, stream and inference map it read-only
 * Errors  0, -EPROTO, ADMISSION_E_*
 * Limits  n_slots = lanes * max_in_flight; a follow table of 4 * n_slots entries (at least 1024)
 *
 *   FREE --(gateway: id is new)--> CLAIMING --(no other gateway has it; arena block, seq written)-->
 *   OPEN --(terminal event read)--> CLOSING --(totals moved)--> FREE
 *
 * CLAIMING is published (seq_cst) before the other tables are read: SYNC(admission.claim). A slot says
 * everything before it says OPEN. Totals: `counted = total + 1` is stored in the slot, then CLOSING,
 * then total = max(total, counted), then FREE, so that a kill anywhere counts once.
 */
#pragma once

#include <stdbool.h>

#include "shm/arena.h"
#include "shm/layout.h"

#define ADMISSION_ID_MAX 128u
#define ADMISSION_TENANT_MAX 64u
#define ADMISSION_WAYS 8u
#define ADMISSION_NONE UINT32_MAX
/* req_id: generation | gateway slot | the slot's own counter. */
#define REQ_ID_GENERATION_SHIFT 44
#define REQ_ID_SLOT_SHIFT 40
#define REQ_ID_SLOT_MASK 15ull
#define REQ_ID_COUNTER_MASK ((1ull << REQ_ID_SLOT_SHIFT) - 1)

enum admission_state { ADMISSION_FREE, ADMISSION_CLAIMING, ADMISSION_OPEN, ADMISSION_CLOSING };
enum admission_error {
        ADMISSION_E_NONE = 1, /* not in this table */
        ADMISSION_E_FULL,     /* no slot, or no place in the follow table */
};
enum admission_outcome { OUTCOME_COMPLETED, OUTCOME_FAILED, OUTCOME_CANCELLED, OUTCOMES_N };

#define ADMISSION_DETACHED 1u

struct admission_slot {
        mr_au64 state;     /* enum admission_state; SYNC(admission.claim) */
        mr_au64 id_hash;   /* log_id_hash(tenant, id) */
        mr_au64 req_id;
        mr_au64 ring_seq;  /* seq of its REQUEST in the lane's ring */
        uint32_t lane, flags;
        uint64_t lane_gen;
        struct arena_ref block; /* body_len bytes of body, then at 8 the record; len 0: no block */
        uint64_t digest[2];
        uint64_t t0;       /* ns */
        mr_au64 outcome;   /* enum admission_outcome, with CLOSING */
        mr_au64 counted;   /* value that total[outcome] will have */
        uint16_t id_len, tenant_len;
        uint32_t body_len;   /* 0: it travelled inline, and is in the record */
        uint32_t record_len; /* 0: there was no room for a copy of the record */
        uint32_t rsv;
        char id[ADMISSION_ID_MAX];
        char tenant[ADMISSION_TENANT_MAX];
};

#define FOLLOW_CANCELLED 1ull
#define FOLLOW_READ 2ull           /* sticky: somebody reads it, or has; SYNC(log.restart) */
#define FOLLOW_READER (1ull << 16) /* one reader; the count is flags >> 16 */

/* Eight request ids in one cache line, their flags in the next. */
struct follow_bucket {
        alignas(64) mr_au64 req_id[ADMISSION_WAYS]; /* 0: empty; seq_cst, SYNC(log.follow) */
        mr_au64 flags[ADMISSION_WAYS];              /* seq_cst, SYNC(follow.cancel) */
};

struct admission_shm {
        uint64_t magic, layout;
        uint32_t n_slots, n_buckets;
        uint32_t gateway, rsv;
        alignas(LAYOUT_SEPARATION) mr_au64 next_request; /* 40-bit counter of req_id; stored before use */
        mr_au64 total[OUTCOMES_N];
        mr_au64 lane_in_flight[LANES_MAX];               /* this gateway's contribution; SYNC(admission.sum) */
        /* Head of our ring into each lane, stored after its commit: an OPEN slot whose ring_seq lies
         * below it is admitted, whatever kills us; any other may be undone. SYNC(admission.commit) */
        mr_au64 committed[LANES_MAX];
        alignas(LAYOUT_SEPARATION) struct admission_slot slots[];
};

uint64_t admission_bytes(uint32_t n_slots);
void admission_format(struct admission_shm *shm, uint32_t n_slots, uint32_t gateway);
int admission_check(const struct admission_shm *shm, uint64_t map_bytes);
struct follow_bucket *admission_follows(const struct admission_shm *shm);

/* ---- reading (other gateways, stream, inference) ---- */

struct admission_view {
        const struct admission_shm *shm;
        const struct follow_bucket *buckets;
        uint32_t n_slots, n_buckets; /* copied once, checked */
};
int admission_view_init(struct admission_view *view, const void *map, uint64_t map_bytes);
/* Flags of a followed response: 0 or ADMISSION_E_NONE. seq_cst loads. */
int follow_get(const struct admission_view *view, uint64_t req_id, uint64_t *ret_flags);
/* Where in the block of a slot the copy of its record lies. */
static inline uint64_t admission_record_at(uint32_t body_len) {
        return layout_align(body_len, 8);
}
/* A private copy of the open slot of a request; its writer may be changing it. 0 or ADMISSION_E_NONE. */
int admission_find_request(
        const struct admission_view *view, uint64_t req_id, struct admission_slot *ret);
/* The slot with this id in state CLAIMING or OPEN or CLOSING: 0 or ADMISSION_E_NONE. */
int admission_find_id(const struct admission_view *view, const char *tenant, uint32_t tenant_len,
        const char *id, uint32_t id_len, uint32_t *ret_slot);

/* ---- writing (the owner) ---- */

/* Starts to follow a response: 0 or ADMISSION_E_FULL. Already followed: 0. */
int follow_add(struct admission_shm *shm, uint64_t req_id);
void follow_remove(struct admission_shm *shm, uint64_t req_id);
/* flags |= set, then + readers_delta readers. ADMISSION_E_NONE when not followed. */
int follow_mark(struct admission_shm *shm, uint64_t req_id, uint64_t set, int readers_delta);
