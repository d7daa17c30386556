#include "shm/counters.h"

#include <errno.h>

static const struct {
        const char *name, *sentence;
} table[COUNTERS_N] = {
#define COUNTERS_ROW(name, sentence) [COUNTER_##name] = {#name, sentence},
                COUNTERS_TABLE(COUNTERS_ROW, COUNTERS_ROW)
#undef COUNTERS_ROW
};

uint64_t counters_bytes(void) {
        return layout_align(sizeof(struct counters_shm), LAYOUT_PAGE);
}

void counters_format(struct counters_shm *shm) {
        shm->layout = layout_hash();
        shm->magic = MAGIC_COUNTERS;
}

int counters_check(const struct counters_shm *shm, uint64_t map_bytes) {
        if (map_bytes < sizeof(*shm) || shm->magic != MAGIC_COUNTERS ||
                        shm->layout != layout_hash())
                return -EPROTO;
        return 0;
}

static void add(mr_au64 *word, uint64_t n) {
        atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n,
                        memory_order_relaxed);
}

void counters_observe(struct counters_shm *shm, enum histogram which, uint64_t ns) {
        struct counters_histogram *h = &shm->histogram[which];
        uint32_t bucket = 0;

        while (bucket < COUNTERS_BUCKETS - 1 && ns >= COUNTERS_BUCKET_NS << bucket)
                bucket++;
        add(&h->bucket[bucket], 1);
        add(&h->sum_ns, ns);
        add(&h->count, 1);
}

const char *counters_name(enum counter which) {
        return (unsigned)which < COUNTERS_N ? table[which].name : NULL;
}

const char *counters_sentence(enum counter which) {
        return (unsigned)which < COUNTERS_N ? table[which].sentence : NULL;
}
