#include "shm/log.h"

#include <string.h>

#include <xxhash.h>

/* A 64th of the memory tells ids that are in the database from most others. */
static uint32_t stored_words(uint64_t budget) {
        uint32_t n = 8;

        while ((uint64_t)n * 2 * sizeof(uint64_t) <= budget / 64 && n < LOG_RESPONSES_MAX)
                n *= 2;
        return n;
}

/* Entries get what one extent each would need: a short answer takes one of each. */
static void shape(uint64_t budget, struct log_shm *ret) {
        uint64_t stored = stored_words(budget);
        uint64_t fixed = sizeof(struct log_shm) + 2 * LOG_PAGE_SLACK + stored * sizeof(uint64_t);
        /* Up to 4 chains and 16 counters of presence. */
        uint64_t each = sizeof(struct log_response) + 20 * sizeof(uint32_t) + LOG_EXTENT;
        uint64_t n = budget > fixed + 16 * each ? (budget - fixed) / each : 16;
        uint32_t chains = 16, presence = 64;

        if (n > LOG_RESPONSES_MAX)
                n = LOG_RESPONSES_MAX;
        while (chains < n * 2)
                chains *= 2;
        while (presence < n * 8)
                presence *= 2;
        ret->n_responses = ret->n_extents = (uint32_t)n;
        ret->n_chains = chains;
        ret->n_presence = presence;
        ret->n_stored = (uint32_t)stored;
}

static uint64_t chains_at(uint32_t n_responses) {
        return layout_align(sizeof(struct log_shm) +
                                            (uint64_t)n_responses * sizeof(struct log_response),
                        LAYOUT_SEPARATION);
}

static uint64_t presence_at(const struct log_shm *shm) {
        return chains_at(shm->n_responses) + (uint64_t)shm->n_chains * sizeof(uint32_t);
}

static uint64_t stored_at(const struct log_shm *shm) {
        return layout_align(presence_at(shm) + (uint64_t)shm->n_presence * sizeof(uint32_t),
                        sizeof(uint64_t));
}

static uint64_t extents_at(const struct log_shm *shm) {
        return layout_align(
                        stored_at(shm) + (uint64_t)shm->n_stored * sizeof(uint64_t), LAYOUT_PAGE);
}

uint64_t log_bytes(uint64_t budget, uint32_t *ret_responses, uint32_t *ret_extents) {
        struct log_shm head = {0};

        shape(budget, &head);
        if (ret_responses)
                *ret_responses = head.n_responses;
        if (ret_extents)
                *ret_extents = head.n_extents;
        return extents_at(&head) + (uint64_t)head.n_extents * LOG_EXTENT;
}

void log_format(struct log_shm *shm, uint64_t budget, uint32_t lane) {
        shape(budget, shm);
        shm->lane = lane;
        shm->layout = layout_hash();
        shm->magic = MAGIC_LOG;
}

struct log_extent *log_extents(const struct log_shm *shm) {
        return (struct log_extent *)((uintptr_t)shm + extents_at(shm));
}

_Atomic uint32_t *log_chain(const struct log_shm *shm, uint64_t req_id) {
        _Atomic uint32_t *chains =
                        (_Atomic uint32_t *)((uintptr_t)shm + chains_at(shm->n_responses));

        return &chains[log_chain_of(req_id, shm->n_chains)];
}

_Atomic uint32_t *log_presence(const struct log_shm *shm, uint64_t id_hash) {
        return (_Atomic uint32_t *)((uintptr_t)shm + presence_at(shm)) +
               (id_hash & (shm->n_presence - 1));
}

/* Other bits of the hash than those that find a counter of presence. */
mr_au64 *log_stored(const struct log_shm *shm, uint64_t id_hash, uint64_t *ret_bit) {
        uint64_t at = id_hash >> 32;

        *ret_bit = 1ull << (at & 63);
        return (mr_au64 *)((uintptr_t)shm + stored_at(shm)) + (at >> 6 & (shm->n_stored - 1));
}

uint64_t log_id_hash(const char *tenant, uint32_t tenant_len, const char *id, uint32_t id_len) {
        return XXH3_64bits_withSeed(id, id_len, XXH3_64bits(tenant, tenant_len));
}
