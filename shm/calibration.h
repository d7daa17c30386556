/*
 * calibration -- what backends' own counts have taught about the estimate of tokens, by model.
 *
 * Shape   a part of a counters page: CALIBRATION_MODELS rows, each with a version word and two copies
 *         of its words; copy (version & 1) is the one that counts, version 0: the row is free
 * Units   sums that stages/engines/tokens/fit.h makes and reads; here they are only carried
 * Owner   written by inference, in its own page; assemble, telemetry and the supervisor map it read-only.
 *         It outlives its writer: a kill in the middle of a store loses that one store
 * Errors  none: whatever stands there is a row, and whoever uses one bounds what it says
 * Limits  names of CALIBRATION_NAME_MAX bytes; of more models those that were counted last are kept
 */
#pragma once

#include <stdbool.h>

#include "shm/layout.h"

#define CALIBRATION_MODELS 16u
#define CALIBRATION_NAME_MAX 64u
#define CALIBRATION_PARTS 6u
#define CALIBRATION_PAIRS (CALIBRATION_PARTS * (CALIBRATION_PARTS + 1) / 2)
#define CALIBRATION_WORDS (CALIBRATION_NAME_MAX / 8 + 2 + CALIBRATION_PAIRS + CALIBRATION_PARTS)

/* One model's, in private memory. All zero: nothing is known. */
struct calibration {
        char name[CALIBRATION_NAME_MAX]; /* zero-padded */
        uint64_t n;                      /* answers that have counted */
        uint64_t stamp;                  /* of the table's stores: which one this was */
        double pairs[CALIBRATION_PAIRS]; /* lower triangle, row by row */
        double parts[CALIBRATION_PARTS];
};
static_assert(sizeof(struct calibration) == CALIBRATION_WORDS * 8, "words are copied one by one");

struct calibration_row_shm {
        /* W: inference.  R: assemble, telemetry, supervisor. */
        mr_au64 version; /* SYNC(calibration.publish) */
        mr_au64 word[2][CALIBRATION_WORDS];
};

struct calibration_shm {
        struct calibration_row_shm row[CALIBRATION_MODELS];
};

/* False: the row is free, or its writer is faster than we are. */
bool calibration_read(const struct calibration_row_shm *row, struct calibration *ret);
/* Of a model; false: it has no row. */
bool calibration_find(const struct calibration_shm *shm, const char *name, uint32_t n,
                struct calibration *ret);
struct counters_shm;
/* What all pages (PROCS_MAX, NULL: none) say of a model, together; of one that none knows what they say of
 * "*". Without a name: of all models. */
void calibration_gather(const struct counters_shm *const pages[], const char *name, uint32_t n,
                struct calibration *ret);
/* In place of the model's row, else of a free one, else of the one that was stored longest ago. */
void calibration_store(struct calibration_shm *shm, const struct calibration *c);
