/*
 * metadata -- what a document's metadata can be filtered by.
 *
 * Shape   a JSON object; its members that are strings, numbers or booleans, and those in an array,
 *         are told as key and value, numbers as they were written
 * Units   bytes
 * Owner   what fn gets lives until it returns
 * Errors  0, -ENOMEM, or what fn returned; what is no JSON object tells nothing
 * Limits  METADATA_MAX pairs, the first ones
 */
#pragma once

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define METADATA_MAX 64u

struct buffer;

/* What a document is said to have besides: an object with the members of `json`, and the pairs whose
 * keys it does not have; of equal keys an array. */
int metadata_join(struct index_str json, const struct index_pair *pairs, size_t n_pairs,
                struct buffer *ret_json);
int metadata_each(struct index_str json,
                int (*fn)(struct index_str key, struct index_str value, void *ctx), void *ctx);

#ifdef __cplusplus
}
#endif
