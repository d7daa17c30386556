/*
 * json_pool -- memory for a parser that lives for one document: handed out, then forgotten whole.
 *
 * Shape   a fixed block; what does not fit it comes from malloc and goes back there
 * Units   bytes
 * Owner   the caller's; the parser is freed before json_pool_reset()
 * Errors  NULL where malloc says so
 * Limits  JSON_POOL_BYTES without an allocation
 */
#pragma once

#include <stdalign.h>
#include <stdint.h>

#include <yajl/yajl_common.h>

#define JSON_POOL_BYTES 16384u

struct json_pool {
        alignas(16) uint8_t bytes[JSON_POOL_BYTES];
        uint32_t used;
};

static inline void json_pool_reset(struct json_pool *pool) {
        pool->used = 0;
}

yajl_alloc_funcs json_pool_funcs(struct json_pool *pool);
