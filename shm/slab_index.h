/*
 * slab_index -- the slab's private parts that both its files need: the hash of requests, extents,
 * voids.
 *
 * Shape   open addressing with linear probing over slot indexes; the keys stand in the slots
 * Units   slots; units of SLAB_UNIT bytes
 * Owner   the stage's process; nothing of it is shared
 * Errors  SLAB_NONE for a request without a slot
 * Limits  twice as many places as slots, so that a probe ends soon
 */
#pragma once

#include "shm/slab.h"

static inline uint32_t slab_units(uint32_t bytes) {
        return bytes == 0 ? 0 : (bytes - 1) / SLAB_UNIT + 1;
}

/* I3: in the order in which a kill cuts the program, nothing after this store is there without it.
 */
static inline void slab_void(struct slab_version *version) {
        atomic_store_explicit(&version->tag, SLAB_VOID, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}

void slab_index_add(struct slab *slab, uint64_t req_id, uint32_t slot);
void slab_index_remove(struct slab *slab, uint64_t req_id);
