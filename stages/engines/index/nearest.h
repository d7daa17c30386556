/*
 * nearest -- of some short texts those that are nearest to a question, by the words that they share.
 *
 * Shape   an index in memory, made once; the same terms and the same BM25 as the index of documents
 * Units   numbers of texts, from 0
 * Owner   the thread that made it
 * Errors  0, -ENOMEM, INDEX_E_ENGINE; nothing C++ leaves it
 * Limits  as index.h
 */
#pragma once

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

struct nearest;

int nearest_new(const struct index_str *texts, uint32_t n, struct nearest **ret);
struct nearest *nearest_free(struct nearest *nearest);
/* Up to k, the nearest first; *ret_n how many share a word with the question. */
int nearest_find(struct nearest *nearest, struct index_str question, uint32_t k, uint32_t *to,
                uint32_t *ret_n);

#ifdef __cplusplus
}
#endif
