/*
 * snippet -- the few sentences of a passage that answer a query best.
 *
 * Shape   the text is cut into sentences, long ones into pieces; of all runs of neighbours that
 * fit, the one wins that has most of the query, then the earlier, then the shorter Units   bytes
 * within the text Owner   the caller owns text and weights Errors  0, -ENOMEM, or what the caller's
 * function returned Limits  INDEX_QUERY_TERMS_MAX terms; the result is never longer than asked, and
 * may be empty
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A bit for each term of the query. */
struct snippet_terms {
        uint64_t bits[INDEX_QUERY_TERMS_MAX / 64];
};

/* Says which terms a piece has: sets bits in *terms, which is empty before. 0, or an error. */
typedef int snippet_terms_fn(struct index_str piece, struct snippet_terms *terms, void *ctx);

int snippet_find(struct index_str text, size_t max_bytes, const double *weights, size_t n_weights,
                snippet_terms_fn *fn, void *ctx, size_t *ret_start, size_t *ret_end);

#ifdef __cplusplus
}
#endif
