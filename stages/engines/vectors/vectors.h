/*
 * vectors -- what each passage of an index means, as a vector of a foreign model, in one file
 * beside it.
 *
 * Shape   VECTORS_FILE in the index's folder: a head of 128 bytes, the model's name, then rows of
 *         equal size in the order of their keys: Xapian's number of the passage, a hash of its text,
 *         a scale and the vector as bytes. A number is given once only, so the row of a passage that
 *         was removed or replaced is no one's; the hash tells an index that was built anew
 * Units   bytes; scores are cosines
 * Owner   a struct vectors maps the file as it was when opened, whatever comes in its place later; one
 *         struct vectors_table at a time is saved (the caller holds vectors_lock())
 * Errors  0, -errno, or VECTORS_E_*, with a sentence in *err
 * Limits  VECTORS_*_MAX. Saving writes a whole new file and renames it: a kill leaves the old one or
 *         the new one
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#define VECTORS_FILE "millrace.vectors"
#define VECTORS_FORMAT 1u
#define VECTORS_DIMENSION_MAX 8192u
#define VECTORS_MODEL_MAX 512u /* bytes of its name */
#define VECTORS_ROWS_MAX (1u << 26)

enum {
        VECTORS_E_MISSING = 1, /* there is no such file */
        VECTORS_E_FOREIGN,     /* something else, or a format that this program does not read */
        VECTORS_E_CORRUPT,     /* it does not hold together */
        VECTORS_E_LOCKED,      /* another process is making vectors */
};

/* ---- reading ------------------------------------------------------------------------------- */

struct vectors;

int vectors_open(const char *folder, struct index_error *err, struct vectors **ret_vectors);
struct vectors *vectors_close(struct vectors *vectors);
/* Is the folder's file still the one that was opened? */
bool vectors_same(const struct vectors *vectors, const char *folder);
const char *vectors_model(const struct vectors *vectors);
uint32_t vectors_dimension(const struct vectors *vectors);
uint32_t vectors_n(const struct vectors *vectors);
/* The row of a passage with this number and text; -1: none. */
int64_t vectors_find(const struct vectors *vectors, uint32_t passage, uint64_t hash);

/* How near all rows are to one vector. */
struct vectors_scan;

/* query: vectors_dimension() numbers of any length but zero. 0, -ENOMEM, -EINVAL. */
int vectors_scan_new(const struct vectors *vectors, const float *query, struct vectors_scan **ret);
struct vectors_scan *vectors_scan_free(struct vectors_scan *scan);
/* The n nearest, best first; of equal ones that of the smaller number. Returns how many there are.
 * ctx: the scan (index.h, struct index_meaning). */
size_t vectors_scan_nearest(void *ctx, size_t n, struct index_near *to);

/* ---- writing ------------------------------------------------------------------------------- */

struct vectors_table;

/* Held until the process ends or *ret_fd is closed; VECTORS_E_LOCKED when another holds it. */
int vectors_lock(const char *folder, int *ret_fd);
int vectors_table_new(const char *model, uint32_t dimension, struct vectors_table **ret_table);
struct vectors_table *vectors_table_free(struct vectors_table *table);
/* 0, -ENOMEM, or -EINVAL for a vector without length. */
int vectors_table_add(struct vectors_table *table, uint32_t passage, uint64_t hash,
                const float *vector);
/* A row as it was. */
int vectors_table_copy(struct vectors_table *table, const struct vectors *vectors, uint32_t row);
int vectors_table_save(struct vectors_table *table, const char *folder, struct index_error *err);
/* Of a folder that has none any more. 0 or -errno; none there is fine. */
int vectors_remove(const char *folder);
