/*
 * The slab in a batch: claim, edit, store, commit, free.
 */
#include "shm/slab.h"

#include <assert.h>
#include <string.h>

#include "shm/slab_index.h"
#include "shm/units.h"

/* ---- request -> slot ---- */

static uint32_t home_of(const struct slab *slab, uint64_t req_id) {
        return (uint32_t)(req_id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & slab->by_req_mask;
}

static uint64_t key_at(const struct slab *slab, uint32_t place) {
        return slab_peek(slab, slab->by_req[place])->req_id;
}

/* The place of a request, or the empty one where it would go. */
static uint32_t place_of(const struct slab *slab, uint64_t req_id) {
        uint32_t place = home_of(slab, req_id);

        while (slab->by_req[place] != SLAB_NONE && key_at(slab, place) != req_id)
                place = (place + 1) & slab->by_req_mask;
        return place;
}

uint32_t slab_find(const struct slab *slab, uint64_t req_id) {
        return slab->by_req[place_of(slab, req_id)];
}

void slab_index_add(struct slab *slab, uint64_t req_id, uint32_t slot) {
        slab->by_req[place_of(slab, req_id)] = slot;
}

void slab_index_remove(struct slab *slab, uint64_t req_id) {
        uint32_t mask = slab->by_req_mask, hole = place_of(slab, req_id);

        if (slab->by_req[hole] == SLAB_NONE)
                return;
        /* What was pushed past the hole by it moves back, so that no probe ends too early. */
        for (uint32_t at = (hole + 1) & mask; slab->by_req[at] != SLAB_NONE; at = (at + 1) & mask) {
                uint32_t home = home_of(slab, key_at(slab, at));

                if (((at - home) & mask) < ((at - hole) & mask))
                        continue;
                slab->by_req[hole] = slab->by_req[at];
                hole = at;
        }
        slab->by_req[hole] = SLAB_NONE;
}

/* ---- a batch ---- */

static void touch(struct slab *slab, uint32_t slot) {
        slab->slots[slot].touched = true;
        slab->touched[slab->n_touched++] = slot;
}

int slab_claim(struct slab *slab, const struct ring_msg *msg, uint32_t *ret_slot) {
        uint32_t n = slab_units(msg->len), at = 0, slot;
        struct slab_slot_shm *shared;

        if (slab->n_free == 0)
                return SLAB_E_FULL;
        if (n > 0) {
                at = units_take(slab->unit_used, slab->n_units, &slab->unit_hint, n);
                if (at == UNITS_NONE)
                        return SLAB_E_EXTENTS;
                memcpy(slab->extents + (uint64_t)at * SLAB_UNIT, msg->data, msg->len);
        }
        slot = slab->free_slots[--slab->n_free];
        /* Both versions are void: what the slot says about its payload counts for nobody until the
         * tag that slab_commit() stores last. */
        shared = &slab->shm->slots[slot];
        shared->pay_off = at;
        shared->pay_len = msg->len;
        shared->t0 = msg->t0;
        atomic_store_explicit(&shared->strikes, msg->strikes, memory_order_relaxed);
        slab->slots[slot] = (struct slab_slot){
                        .live = SLAB_NONE,
                        .claimed = true,
                        .next = {.req_id = msg->req_id, .in_seq = msg->seq, .count = 1},
        };
        touch(slab, slot);
        slab_index_add(slab, msg->req_id, slot);
        slab->n_live++;
        *ret_slot = slot;
        return 0;
}

static const struct slab_version *live_version(const struct slab *slab, uint32_t slot) {
        uint32_t live = slab->slots[slot].live;

        return live == SLAB_NONE ? NULL : &slab->shm->slots[slot].v[live];
}

const struct slab_version *slab_peek(const struct slab *slab, uint32_t slot) {
        return slab->slots[slot].touched ? &slab->slots[slot].next : live_version(slab, slot);
}

struct slab_version *slab_edit(struct slab *slab, uint32_t slot) {
        struct slab_slot *private = &slab->slots[slot];

        if (!private->touched) {
                const struct slab_version *live = live_version(slab, slot);

                assert(live != NULL);
                memcpy(&private->next, live, sizeof(private->next));
                private->next.count++;
                touch(slab, slot);
        }
        return &private->next;
}

static void release_extent(struct slab *slab, const struct slab_version *version) {
        units_release(slab->unit_used, version->ext_off, slab_units(version->ext_len));
}

static bool same_extent(const struct slab_version *a, const struct slab_version *b) {
        return a->ext_len != 0 && b->ext_len != 0 && a->ext_off == b->ext_off;
}

int slab_edit_bytes(struct slab *slab, uint32_t slot, const void *bytes, uint32_t len) {
        struct slab_version *next = slab_edit(slab, slot);
        const struct slab_version *live = live_version(slab, slot);
        /* The live version's bytes are copied on write: it counts until the commit. */
        bool own = next->ext_len != 0 && (!live || !same_extent(live, next));
        uint32_t n = slab_units(len), had = own ? slab_units(next->ext_len) : 0;
        uint32_t at = next->ext_off;

        if (n > had) {
                at = units_take(slab->unit_used, slab->n_units, &slab->unit_hint, n);
                if (at == UNITS_NONE)
                        return SLAB_E_EXTENTS;
        }
        /* `bytes` may lie in the extent that is replaced. */
        if (len > 0 && (n > had || own))
                memmove(slab->extents + (uint64_t)at * SLAB_UNIT, bytes, len);
        if (n > had)
                units_release(slab->unit_used, next->ext_off, had);
        else
                units_release(slab->unit_used, next->ext_off + n, had - n);
        next->ext_off = len > 0 ? at : 0;
        next->ext_len = len;
        return 0;
}

const uint8_t *slab_bytes_of(const struct slab *slab, uint32_t slot, uint32_t *ret_len) {
        const struct slab_version *version = slab_peek(slab, slot);

        *ret_len = version->ext_len;
        return slab->extents + (uint64_t)version->ext_off * SLAB_UNIT;
}

const uint8_t *slab_payload(const struct slab *slab, uint32_t slot, uint32_t *ret_len) {
        const struct slab_slot_shm *shared = &slab->shm->slots[slot];

        *ret_len = shared->pay_len;
        return slab->extents + (uint64_t)shared->pay_off * SLAB_UNIT;
}

/* Void FIRST, fields, tag LAST: a kill in between leaves the other version, the live one, as it is.
 */
static void store_version(
                struct slab_version *version, const struct slab_version *next, uint64_t tag) {
        const size_t fields = offsetof(struct slab_version, req_id);

        slab_void(version);
        memcpy((uint8_t *)version + fields, (const uint8_t *)next + fields,
                        sizeof(*version) - fields);
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store_explicit(&version->tag, tag, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}

void slab_commit(struct slab *slab, struct ring_tx *tx) {
        for (uint32_t i = 0; i < slab->n_touched; i++) {
                uint32_t slot = slab->touched[i];
                struct slab_slot *private = &slab->slots[slot];

                store_version(&slab->shm->slots[slot].v[private->live == 0], &private->next,
                                tx->next);
        }
        /* I2: this store makes the outputs visible and the versions live at once. */
        ring_tx_commit(tx);
        for (uint32_t i = 0; i < slab->n_touched; i++) {
                uint32_t slot = slab->touched[i];
                struct slab_slot *private = &slab->slots[slot];
                const struct slab_version *old = live_version(slab, slot);

                /* Only now is the old version past; nobody can return to its bytes. */
                if (old && !same_extent(old, &private->next))
                        release_extent(slab, old);
                private->live = private->live == 0;
                private->touched = false;
                private->claimed = false;
        }
        slab->n_touched = 0;
}

void slab_took(struct slab *slab, uint32_t slot) {
        slab->slots[slot].unacked++;
}

void slab_acked(struct slab *slab, uint32_t slot) {
        assert(slab->slots[slot].unacked > 0);
        slab->slots[slot].unacked--;
}

bool slab_free(struct slab *slab, uint32_t slot) {
        struct slab_slot *private = &slab->slots[slot];
        struct slab_slot_shm *shared = &slab->shm->slots[slot];
        const struct slab_version *live = live_version(slab, slot);

        if (!live || private->touched || !live->done || private->unacked > 0 ||
                        private->ack_pending)
                return false;
        slab_index_remove(slab, live->req_id);
        units_release(slab->unit_used, shared->pay_off, slab_units(shared->pay_len));
        release_extent(slab, live);
        /* The older one first: the other order would resurrect it. */
        slab_void(&shared->v[1 - private->live]);
        slab_void(&shared->v[private->live]);
        *private = (struct slab_slot){.live = SLAB_NONE};
        slab->free_slots[slab->n_free++] = slot;
        slab->n_live--;
        return true;
}

uint32_t slab_sweep(struct slab *slab, uint64_t passed) {
        uint32_t n = 0;

        for (uint32_t slot = 0; slot < slab->n_slots; slot++) {
                const struct slab_version *live = live_version(slab, slot);

                if (live && atomic_load_explicit(&live->tag, memory_order_relaxed) <= passed)
                        n += slab_free(slab, slot);
        }
        return n;
}

void slab_active(struct slab *slab, uint32_t slot) {
        atomic_store_explicit(&slab->shm->active, slot == SLAB_NONE ? 0 : (uint64_t)slot + 1,
                        memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}

void slab_aside(struct slab_shm *shm, uint32_t thread, uint64_t req_id) {
        atomic_store_explicit(&shm->aside[thread], req_id, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}
