/*
 * slab -- what a stage has in flight, kept so that a kill at any instruction loses nothing.
 *
 * Shape   header | n_slots slots of two versions each | extents (units of SLAB_UNIT bytes)
 * Units   tags are heads of the stage's primary output ring; 0 = VOID, so zeroed memory is void
 * Owner   written by one stage only (rag, inference or post of one lane); nobody else maps it
 * Errors  0, SLAB_E_*; attach: -EPROTO (another layout), -EBADMSG (stomped on), -ENOMEM
 * Limits  n_slots = admission.max_in_flight; nothing allocates after attach
 *
 * A slot's live version is the one with the largest (tag, in_seq, count) among 0 < tag <= O.head. A
 * batch computes privately (slab_edit), stores the versions that are not live with tag = O.head
 * after the batch, commits the ring, then acks. Model: tests/models/slab.pml; rules:
 * docs/architecture.md.
 */
#pragma once

#include <stdbool.h>

#include "shm/ring.h"

#define SLAB_UNIT 1024u
#define SLAB_STATE_BYTES 160u
#define SLAB_ASIDE 2u /* threads that work on requests beside the loop */
#define SLAB_VOID 0u
#define SLAB_NONE UINT32_MAX

enum slab_error {
        SLAB_E_FULL = 1,  /* no void slot: leave the input in the ring */
        SLAB_E_EXTENTS,   /* no room for the payload: likewise */
};

/* What one version says. `state` is the stage's own, fixed-size (static_assert its struct). */
struct slab_version {
        mr_au64 tag;      /* SLAB_VOID, or the output ring's head after the batch that made it */
        uint64_t req_id;
        uint64_t in_seq;  /* newest input folded in */
        uint64_t count;   /* tie-break: versions made for this request */
        uint32_t out_ord; /* ord of the next output */
        uint32_t done;    /* 1: the terminal record is part of this version's batch */
        uint32_t ext_off; /* folded bytes of variable size: first unit */
        uint32_t ext_len; /* bytes; 0: none */
        uint8_t state[SLAB_STATE_BYTES];
};
static_assert(sizeof(struct slab_version) == 208, "ABI: bump LAYOUT_VERSION");

struct slab_slot_shm {
        alignas(64) struct slab_version v[2];
        uint32_t pay_off; /* the claimed record: first unit; written before the claim's tag */
        uint32_t pay_len; /* bytes */
        uint64_t t0;
        mr_au64 strikes;  /* deaths with this slot at hand */
};

struct slab_shm {
        uint64_t magic, layout;
        uint32_t n_slots, n_units;
        alignas(LAYOUT_SEPARATION) mr_au64 active; /* slot index + 1 at hand, 0 = none */
        /* W: a thread of the stage's each.  The request at hand there, 0 = none. */
        alignas(LAYOUT_SEPARATION) mr_au64 aside[SLAB_ASIDE];
        alignas(LAYOUT_SEPARATION) struct slab_slot_shm slots[];
};

uint64_t slab_bytes(uint32_t n_slots, uint32_t n_units);
/* First store into a new, zeroed object. */
void slab_format(struct slab_shm *shm, uint32_t n_slots, uint32_t n_units);

/* Private view of one slot. */
struct slab_slot {
        uint32_t live;             /* 0, 1, or SLAB_NONE: void */
        bool touched;              /* edited in this batch */
        bool claimed;              /* touched by its claim */
        bool ack_pending;          /* a stage keeps the slot though done; false after attach */
        uint32_t unacked;          /* inputs taken and not acked */
        struct slab_version next;  /* what the batch will store */
        void *user;                /* the stage's private companion, NULL after attach */
};

struct slab {
        struct slab_shm *shm;
        uint8_t *extents;
        uint32_t n_slots, n_units;
        struct slab_slot *slots;
        uint32_t n_live;
        uint32_t *touched;         /* indexes of touched slots */
        uint32_t n_touched;
        uint32_t *by_req;          /* private hash: req_id -> slot */
        uint32_t by_req_mask;
        uint32_t *free_slots, n_free;
        uint64_t *unit_used;       /* bitmap */
        uint32_t unit_hint;
};

/* Attach, restartable anywhere: voids every tag > tx->committed, acks in `rx` (n_rx rings, may be
 * 0) what the live versions contain, rebuilds the private view, frees done slots whose inputs are
 * acked and whose outputs the consumer has passed (slab_sweep). All inputs of one request come
 * through one of these rings. `blame`: the slots at hand get a strike. Run after ring_tx_attach and
 * ring_rx_attach, before the first peek. 0, -EPROTO, -EBADMSG, -ENOMEM. */
int slab_attach(struct slab *slab, void *map, uint64_t map_bytes, const struct ring_tx *tx,
        struct ring_rx *const *rx, uint32_t n_rx, bool blame);
void slab_close(struct slab *slab);

/* The slot of a request, or SLAB_NONE. */
uint32_t slab_find(const struct slab *slab, uint64_t req_id);
/* A void slot for this input: payload is copied at once, fields are stored by slab_commit(). The
 * slot is touched. The request has none yet (slab_find()). 0, SLAB_E_FULL, SLAB_E_EXTENTS. */
int slab_claim(struct slab *slab, const struct ring_msg *msg, uint32_t *ret_slot);
/* The version that this batch will store, starting as a copy of the live one. */
struct slab_version *slab_edit(struct slab *slab, uint32_t slot);
/* The state as it will be after this batch (touched) or is (live). NULL for a void slot only. */
const struct slab_version *slab_peek(const struct slab *slab, uint32_t slot);
/* Replaces the variable-size bytes of the version being edited (copied). 0 or SLAB_E_EXTENTS. */
int slab_edit_bytes(struct slab *slab, uint32_t slot, const void *bytes, uint32_t len);
const uint8_t *slab_bytes_of(const struct slab *slab, uint32_t slot, uint32_t *ret_len);
const uint8_t *slab_payload(const struct slab *slab, uint32_t slot, uint32_t *ret_len);
/* Stores every touched version with tag = head after this batch (tx->next), then commits tx. The
 * caller acks its inputs after that. */
void slab_commit(struct slab *slab, struct ring_tx *tx);
/* Bookkeeping of inputs, the claimed one included: taken (before the batch), acked (after it). */
void slab_took(struct slab *slab, uint32_t slot);
void slab_acked(struct slab *slab, uint32_t slot);
/* Voids older, then live version, when done and all inputs taken are acked. True when it was freed.
 * Inputs that come later (after an early error) find no slot: the stage acks them without a
 * version. */
bool slab_free(struct slab *slab, uint32_t slot);
/* slab_free() for each slot whose live version has a tag <= passed: the output ring's tail for a
 * stage that keeps a slot until its consumer has read the last record, UINT64_MAX for one that need
 * not. Returns how many were freed. */
uint32_t slab_sweep(struct slab *slab, uint64_t passed);
/* Earlier incarnations that died with this slot (or, before it was claimed, its record) at hand. */
static inline uint64_t slab_strikes(const struct slab *slab, uint32_t slot) {
        return atomic_load_explicit(&slab->shm->slots[slot].strikes, memory_order_relaxed);
}
/* Whom a crash in the next handler slice is blamed on; SLAB_NONE: nobody. */
void slab_active(struct slab *slab, uint32_t slot);
/* The same for a thread beside the loop, whose request may have left its slot meanwhile; 0: nobody. */
void slab_aside(struct slab_shm *shm, uint32_t thread, uint64_t req_id);
