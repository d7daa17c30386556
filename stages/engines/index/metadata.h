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

int metadata_each(struct index_str json,
                int (*fn)(struct index_str key, struct index_str value, void *ctx), void *ctx);

#ifdef __cplusplus
}
#endif
