#include "shm/calibration.h"

#include <string.h>

#include "shm/counters.h"

#define READS_MAX 8

bool calibration_read(const struct calibration_row_shm *row, struct calibration *ret) {
        uint64_t words[CALIBRATION_WORDS];

        for (int i = 0; i < READS_MAX; i++) {
                /* SYNC(calibration.publish): the copy that the version names was stored before it. */
                uint64_t version = atomic_load_explicit(&row->version, memory_order_acquire);
                if (version == 0)
                        return false;
                for (uint32_t k = 0; k < CALIBRATION_WORDS; k++)
                        words[k] = atomic_load_explicit(&row->word[version & 1][k], memory_order_relaxed);
                layout_seqlock_fence();
                /* The other copy is written next, this one only after that. */
                if (atomic_load_explicit(&row->version, memory_order_relaxed) != version)
                        continue;
                memcpy(ret, words, sizeof(words));
                return true;
        }
        return false;
}

bool calibration_find(const struct calibration_shm *shm, const char *name, uint32_t n,
                struct calibration *ret) {
        char padded[CALIBRATION_NAME_MAX] = "";

        if (n == 0 || n >= CALIBRATION_NAME_MAX)
                return false;
        memcpy(padded, name, n);
        for (uint32_t i = 0; i < CALIBRATION_MODELS; i++) {
                struct calibration c;
                if (!calibration_read(&shm->row[i], &c) || memcmp(c.name, padded, sizeof(padded)) != 0)
                        continue;
                *ret = c;
                return true;
        }
        return false;
}

static void row_write(struct calibration_row_shm *row, const struct calibration *c) {
        uint64_t version = atomic_load_explicit(&row->version, memory_order_relaxed) + 1;
        uint64_t words[CALIBRATION_WORDS];

        memcpy(words, c, sizeof(words));
        layout_seqlock_fence(); /* who still reads this copy sees by the version that it is old */
        for (uint32_t k = 0; k < CALIBRATION_WORDS; k++)
                atomic_store_explicit(&row->word[version & 1][k], words[k], memory_order_relaxed);
        /* SYNC(calibration.publish): the words are visible before the version -> calibration_read(). */
        atomic_store_explicit(&row->version, version, memory_order_release);
}

void calibration_store(struct calibration_shm *shm, const struct calibration *c) {
        struct calibration_row_shm *to = NULL;
        struct calibration new = *c, have;
        uint64_t oldest = UINT64_MAX, newest = 0;

        for (uint32_t i = 0; i < CALIBRATION_MODELS; i++) {
                bool used = calibration_read(&shm->row[i], &have);
                uint64_t stamp = used ? have.stamp : 0;
                if (used && memcmp(have.name, c->name, sizeof(have.name)) == 0) {
                        to = &shm->row[i];
                        oldest = 0;
                } else if (stamp < oldest) {
                        to = &shm->row[i];
                        oldest = stamp;
                }
                newest = stamp > newest ? stamp : newest;
        }
        new.stamp = newest + 1;
        row_write(to, &new);
}

/* ---- what several processes know ------------------------------------------------------------- */

static void add(struct calibration *to, const struct calibration *c) {
        to->n += c->n;
        for (unsigned i = 0; i < CALIBRATION_PAIRS; i++)
                to->pairs[i] += c->pairs[i];
        for (unsigned i = 0; i < CALIBRATION_PARTS; i++)
                to->parts[i] += c->parts[i];
}

static void add_all(struct calibration *to, const struct calibration_shm *shm) {
        struct calibration c;

        for (unsigned i = 0; i < CALIBRATION_MODELS; i++)
                if (calibration_read(&shm->row[i], &c))
                        add(to, &c);
}

static void gather(const struct counters_shm *const pages[], const char *name, uint32_t n,
                struct calibration *ret) {
        struct calibration c;

        for (unsigned p = 0; p < PROCS_MAX; p++) {
                if (pages[p] && n == 0)
                        add_all(ret, &pages[p]->calibration);
                else if (pages[p] && calibration_find(&pages[p]->calibration, name, n, &c))
                        add(ret, &c);
        }
}

void calibration_gather(const struct counters_shm *const pages[], const char *name, uint32_t n,
                struct calibration *ret) {
        *ret = (struct calibration){.n = 0};
        gather(pages, name, n, ret);
        if (ret->n == 0 && n > 0)
                gather(pages, "*", 1, ret);
}
