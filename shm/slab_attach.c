/*
 * The slab between two lives: sizes, format, attach.
 */
#include "shm/slab.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/slab_index.h"
#include "shm/units.h"

static uint64_t extents_at(uint32_t n_slots) {
        return layout_align(
                        sizeof(struct slab_shm) + (uint64_t)n_slots * sizeof(struct slab_slot_shm),
                        LAYOUT_PAGE);
}

uint64_t slab_bytes(uint32_t n_slots, uint32_t n_units) {
        return extents_at(n_slots) + layout_align((uint64_t)n_units * SLAB_UNIT, LAYOUT_PAGE);
}

void slab_format(struct slab_shm *shm, uint32_t n_slots, uint32_t n_units) {
        shm->n_slots = n_slots;
        shm->n_units = n_units;
        shm->layout = layout_hash();
        shm->magic = MAGIC_SLAB;
}

void slab_close(struct slab *slab) {
        if (!slab)
                return;
        free(slab->slots);
        free(slab->touched);
        free(slab->by_req);
        free(slab->free_slots);
        free(slab->unit_used);
        *slab = (struct slab){.shm = NULL};
}

static int allocate(struct slab *slab, struct slab_shm *shm) {
        uint32_t places = 4;

        while (places < 2 * (uint64_t)shm->n_slots)
                places *= 2;
        *slab = (struct slab){
                        .shm = shm,
                        .extents = (uint8_t *)shm + extents_at(shm->n_slots),
                        .n_slots = shm->n_slots,
                        .n_units = shm->n_units,
                        .slots = calloc(shm->n_slots, sizeof(*slab->slots)),
                        .touched = calloc(shm->n_slots, sizeof(*slab->touched)),
                        .by_req = malloc(places * sizeof(*slab->by_req)),
                        .by_req_mask = places - 1,
                        .free_slots = calloc(shm->n_slots, sizeof(*slab->free_slots)),
                        .unit_used = units_new(shm->n_units),
        };
        if (!slab->slots || !slab->touched || !slab->by_req || !slab->free_slots ||
                        !slab->unit_used)
                return -ENOMEM;
        for (uint32_t i = 0; i < places; i++)
                slab->by_req[i] = SLAB_NONE;
        return 0;
}

static uint64_t tag_of(const struct slab_version *version) {
        return atomic_load_explicit(&version->tag, memory_order_relaxed);
}

/* A version whose batch was never committed never was. */
static void void_uncommitted(struct slab *slab, uint64_t committed) {
        for (uint32_t i = 0; i < 2 * slab->n_slots; i++) {
                struct slab_version *version = &slab->shm->slots[i / 2].v[i % 2];

                if (tag_of(version) > committed)
                        slab_void(version);
        }
}

/* The larger (tag, in_seq, count) of those that are not void. */
static uint32_t live_of(const struct slab_slot_shm *slot) {
        const struct slab_version *a = &slot->v[0], *b = &slot->v[1];
        uint64_t tag_a = tag_of(a), tag_b = tag_of(b);

        if (tag_a == SLAB_VOID || tag_b == SLAB_VOID)
                return tag_a != SLAB_VOID ? 0 : tag_b != SLAB_VOID ? 1 : SLAB_NONE;
        if (tag_a != tag_b)
                return tag_b > tag_a;
        return a->in_seq != b->in_seq ? b->in_seq > a->in_seq : b->count > a->count;
}

/* One slot per request, one owner per unit: anything else was not written by this code. */
static int rebuild(struct slab *slab) {
        for (uint32_t i = slab->n_slots; i-- > 0;) {
                const struct slab_slot_shm *shared = &slab->shm->slots[i];
                const struct slab_version *live;

                slab->slots[i].live = live_of(shared);
                if (slab->slots[i].live == SLAB_NONE) {
                        slab->free_slots[slab->n_free++] = i;
                        continue;
                }
                live = &shared->v[slab->slots[i].live];
                if (slab_find(slab, live->req_id) != SLAB_NONE)
                        return -EBADMSG;
                if (!units_claim(slab->unit_used, slab->n_units, shared->pay_off,
                                    slab_units(shared->pay_len)) ||
                                !units_claim(slab->unit_used, slab->n_units, live->ext_off,
                                                slab_units(live->ext_len)))
                        return -EBADMSG;
                slab_index_add(slab, live->req_id, i);
                slab->n_live++;
        }
        return 0;
}

/* An input that a live version contains was handed over; only its ack is missing. */
static void ack_contained(const struct slab *slab, struct ring_rx *rx) {
        for (uint64_t seq = rx->tail; seq != rx->head; seq++) {
                struct ring_msg msg;
                uint32_t slot;

                if (ring_rx_is_acked(rx, seq) || ring_rx_desc(rx, seq, &msg) != 0)
                        continue;
                slot = slab_find(slab, msg.req_id);
                if (slot != SLAB_NONE && slab_peek(slab, slot)->in_seq >= seq)
                        ring_rx_ack(rx, seq);
        }
}

static void strike_slot(struct slab *slab, uint64_t slot, bool blame) {
        mr_au64 *strikes;

        if (!blame || slot >= slab->n_slots || slab->slots[slot].live == SLAB_NONE)
                return;
        strikes = &slab->shm->slots[slot].strikes;
        atomic_store_explicit(strikes, atomic_load_explicit(strikes, memory_order_relaxed) + 1,
                        memory_order_release);
}

/* Cleared first: a crash in recovery itself must not strike a slot again. Whether it was the loop or a
 * thread that crashed nobody knows: each has what it had at hand blamed, and who is innocent passes when
 * it runs alone. */
static void strike(struct slab *slab, bool blame) {
        uint64_t slot = atomic_load_explicit(&slab->shm->active, memory_order_relaxed) - 1;

        slab_active(slab, SLAB_NONE);
        strike_slot(slab, slot, blame);
        for (uint32_t i = 0; i < SLAB_ASIDE; i++) {
                uint64_t req_id = atomic_load_explicit(&slab->shm->aside[i], memory_order_relaxed);
                uint64_t aside = req_id ? slab_find(slab, req_id) : SLAB_NONE;

                slab_aside(slab->shm, i, 0);
                if (aside != slot)
                        strike_slot(slab, aside, blame);
        }
}

int slab_attach(struct slab *slab, void *map, uint64_t map_bytes, const struct ring_tx *tx,
                struct ring_rx *const *rx, uint32_t n_rx, bool blame) {
        struct slab_shm *shm = map;
        int r;

        if (map_bytes < sizeof(*shm) || shm->magic != MAGIC_SLAB || shm->layout != layout_hash())
                return -EPROTO;
        if (shm->n_slots == 0 || slab_bytes(shm->n_slots, shm->n_units) != map_bytes)
                return -EPROTO;
        r = allocate(slab, shm);
        if (r == 0) {
                void_uncommitted(slab, tx->committed);
                r = rebuild(slab);
        }
        if (r < 0) {
                slab_close(slab);
                return r;
        }
        strike(slab, blame);
        for (uint32_t i = 0; i < n_rx; i++)
                ack_contained(slab, rx[i]);
        (void)slab_sweep(slab, tx->tail);
        return 0;
}
