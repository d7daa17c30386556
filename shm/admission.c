#include "shm/admission.h"

#include <errno.h>
#include <string.h>

#include "shm/log.h"

/* Entries of the follow table: four for each slot, so that a bucket of eight hardly ever fills. */
#define FOLLOWS_PER_SLOT 4u
#define FOLLOWS_MIN 1024u

static uint32_t buckets_for(uint32_t n_slots) {
        uint64_t want = (uint64_t)n_slots * FOLLOWS_PER_SLOT;
        uint32_t n = FOLLOWS_MIN / ADMISSION_WAYS;

        while ((uint64_t)n * ADMISSION_WAYS < want && n < (1u << 30))
                n *= 2;
        return n;
}

static uint64_t follows_at(uint32_t n_slots) {
        return layout_align(sizeof(struct admission_shm) +
                                            (uint64_t)n_slots * sizeof(struct admission_slot),
                        LAYOUT_SEPARATION);
}

uint64_t admission_bytes(uint32_t n_slots) {
        uint64_t n = follows_at(n_slots);

        return layout_align(n + (uint64_t)buckets_for(n_slots) * sizeof(struct follow_bucket),
                        LAYOUT_PAGE);
}

void admission_format(struct admission_shm *shm, uint32_t n_slots, uint32_t gateway) {
        shm->n_slots = n_slots;
        shm->n_buckets = buckets_for(n_slots);
        shm->gateway = gateway;
        shm->layout = layout_hash();
        shm->magic = MAGIC_ADMISSION;
}

int admission_check(const struct admission_shm *shm, uint64_t map_bytes) {
        if (map_bytes < sizeof(*shm) || shm->magic != MAGIC_ADMISSION ||
                        shm->layout != layout_hash())
                return -EPROTO;
        if (shm->n_slots == 0 || shm->n_slots > map_bytes / sizeof(struct admission_slot) ||
                        shm->n_buckets != buckets_for(shm->n_slots) ||
                        shm->gateway >= GATEWAY_SLOTS_MAX)
                return -EPROTO;
        return admission_bytes(shm->n_slots) > map_bytes ? -EPROTO : 0;
}

struct follow_bucket *admission_follows(const struct admission_shm *shm) {
        return (struct follow_bucket *)((uintptr_t)shm + follows_at(shm->n_slots));
}

int admission_view_init(struct admission_view *view, const void *map, uint64_t map_bytes) {
        const struct admission_shm *shm = map;
        int r = admission_check(shm, map_bytes);

        if (r < 0)
                return r;
        *view = (struct admission_view){.shm = shm,
                        .buckets = admission_follows(shm),
                        .n_slots = shm->n_slots,
                        .n_buckets = shm->n_buckets};
        return 0;
}

/* ---- the table of followed responses: a request lives in one of two neighbouring buckets ---- */

static uint32_t bucket_of(uint64_t req_id, uint32_t n_buckets) {
        return (uint32_t)(req_id * 0x9e3779b97f4a7c15ull >> 32) & (n_buckets - 1);
}

int follow_get(const struct admission_view *view, uint64_t req_id, uint64_t *ret_flags) {
        uint32_t first = bucket_of(req_id, view->n_buckets);

        for (unsigned side = 0; side < 2; side++) {
                const struct follow_bucket *b = &view->buckets[first ^ side];

                for (unsigned i = 0; i < ADMISSION_WAYS; i++) {
                        /* SYNC(log.follow): the other half of follow_add(). */
                        if (atomic_load_explicit(&b->req_id[i], memory_order_seq_cst) != req_id)
                                continue;
                        /* SYNC(follow.cancel): the other half of follow_mark(). */
                        uint64_t flags = atomic_load_explicit(&b->flags[i], memory_order_seq_cst);
                        /* The place may have been given away between the two loads. */
                        if (atomic_load_explicit(&b->req_id[i], memory_order_seq_cst) != req_id)
                                continue;
                        *ret_flags = flags;
                        return 0;
                }
        }
        return ADMISSION_E_NONE;
}

/* The owner's own look: a relaxed load of one's own words. A req_id of 0 finds an empty place. */
static mr_au64 *place_of(struct admission_shm *shm, uint64_t req_id, uint64_t key) {
        struct follow_bucket *buckets = admission_follows(shm);
        uint32_t first = bucket_of(req_id, shm->n_buckets);

        for (unsigned side = 0; side < 2; side++) {
                struct follow_bucket *b = &buckets[first ^ side];

                for (unsigned i = 0; i < ADMISSION_WAYS; i++)
                        if (atomic_load_explicit(&b->req_id[i], memory_order_relaxed) == key)
                                return &b->req_id[i];
        }
        return NULL;
}

static mr_au64 *flags_of(mr_au64 *place) {
        return place + ADMISSION_WAYS;
}
static_assert(offsetof(struct follow_bucket, flags) == ADMISSION_WAYS * sizeof(mr_au64),
                "flags lie right behind the ids");

int follow_add(struct admission_shm *shm, uint64_t req_id) {
        mr_au64 *place = place_of(shm, req_id, req_id);

        if (place)
                return 0;
        place = place_of(shm, req_id, 0);
        if (!place)
                return ADMISSION_E_FULL;
        atomic_store_explicit(flags_of(place), 0, memory_order_seq_cst);
        /* SYNC(log.follow): stored before we look at the log; stream publishes `end`, then looks
         * here. Either it sees us or we see the event. */
        atomic_store_explicit(place, req_id, memory_order_seq_cst);
        return 0;
}

void follow_remove(struct admission_shm *shm, uint64_t req_id) {
        mr_au64 *place = place_of(shm, req_id, req_id);

        if (place)
                atomic_store_explicit(place, 0, memory_order_seq_cst);
}

int follow_mark(struct admission_shm *shm, uint64_t req_id, uint64_t set, int readers_delta) {
        mr_au64 *place = place_of(shm, req_id, req_id);

        if (!place)
                return ADMISSION_E_NONE;
        uint64_t flags = atomic_load_explicit(flags_of(place), memory_order_relaxed) | set;
        if (readers_delta >= 0)
                flags += FOLLOW_READER * (uint64_t)readers_delta;
        else
                flags -= FOLLOW_READER * (uint64_t)-readers_delta;
        /* SYNC(follow.cancel): the mark is visible before the CANCEL record is sent ->
         * follow_get(). SYNC(log.restart): and a reader's before it asks log_is_restarting(). */
        atomic_store_explicit(flags_of(place), flags, memory_order_seq_cst);
        return 0;
}

/* ---- slots of another gateway ---- */

/* The texts are the writer's; its lengths are not believed. */
static bool slot_is(const struct admission_slot *slot, const char *tenant, uint32_t tenant_len,
                const char *id, uint32_t id_len) {
        return slot->id_len == id_len && slot->tenant_len == tenant_len &&
               id_len <= sizeof(slot->id) && tenant_len <= sizeof(slot->tenant) &&
               memcmp(slot->id, id, id_len) == 0 && memcmp(slot->tenant, tenant, tenant_len) == 0;
}

int admission_find_id(const struct admission_view *view, const char *tenant, uint32_t tenant_len,
                const char *id, uint32_t id_len, uint32_t *ret_slot) {
        uint64_t hash = log_id_hash(tenant, tenant_len, id, id_len);

        /* SYNC(admission.claim): a gateway stores its first request number before its first claim,
         * so a table that was never used need not be walked. */
        if (atomic_load_explicit(&view->shm->next_request, memory_order_seq_cst) == 0)
                return ADMISSION_E_NONE;
        for (uint32_t i = 0; i < view->n_slots; i++) {
                const struct admission_slot *slot = &view->shm->slots[i];

                /* SYNC(admission.claim): our own claim was stored before this load. */
                if (atomic_load_explicit(&slot->state, memory_order_seq_cst) == ADMISSION_FREE)
                        continue;
                if (atomic_load_explicit(&slot->id_hash, memory_order_relaxed) != hash)
                        continue;
                if (slot_is(slot, tenant, tenant_len, id, id_len)) {
                        *ret_slot = i;
                        return 0;
                }
        }
        return ADMISSION_E_NONE;
}

static bool slot_copy(const struct admission_slot *slot, uint64_t req_id, struct admission_slot *ret) {
        /* SYNC(admission.claim): open, so that everything it says is there; looked at again below. */
        if (atomic_load_explicit(&slot->req_id, memory_order_relaxed) != req_id ||
                        atomic_load_explicit(&slot->state, memory_order_seq_cst) != ADMISSION_OPEN)
                return false;
        memcpy(ret, (const void *)slot, sizeof(*ret));
        layout_seqlock_fence();
        return atomic_load_explicit(&slot->req_id, memory_order_relaxed) == req_id &&
               atomic_load_explicit(&slot->state, memory_order_seq_cst) == ADMISSION_OPEN &&
               ret->id_len <= ADMISSION_ID_MAX && ret->tenant_len <= ADMISSION_TENANT_MAX;
}

int admission_find_request(const struct admission_view *view, uint64_t req_id,
                struct admission_slot *ret) {
        for (uint32_t i = 0; i < view->n_slots; i++)
                if (slot_copy(&view->shm->slots[i], req_id, ret))
                        return 0;
        return ADMISSION_E_NONE;
}
