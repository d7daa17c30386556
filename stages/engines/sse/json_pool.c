#include "stages/engines/sse/json_pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 16u /* the size, for realloc; keeps what follows aligned */

static void *pool_malloc(void *ctx, size_t n) {
        struct json_pool *pool = ctx;
        uint64_t need = ((uint64_t)n + HEAD + 15) / 16 * 16;
        uint8_t *at;

        if (need > JSON_POOL_BYTES - pool->used) {
                at = malloc(n + HEAD);
                if (!at)
                        return NULL;
        } else {
                at = pool->bytes + pool->used;
                pool->used += (uint32_t)need;
        }
        memcpy(at, &n, sizeof(n));
        return at + HEAD;
}

static bool pool_owns(const struct json_pool *pool, const uint8_t *at) {
        return at >= pool->bytes && at < pool->bytes + JSON_POOL_BYTES;
}

static void pool_free(void *ctx, void *ptr) {
        uint8_t *at = ptr;

        if (at && !pool_owns(ctx, at - HEAD))
                free(at - HEAD);
}

static void *pool_realloc(void *ctx, void *ptr, size_t n) {
        void *to = pool_malloc(ctx, n);
        size_t old;

        if (!to || !ptr)
                return to;
        memcpy(&old, (uint8_t *)ptr - HEAD, sizeof(old));
        memcpy(to, ptr, old < n ? old : n);
        pool_free(ctx, ptr);
        return to;
}

yajl_alloc_funcs json_pool_funcs(struct json_pool *pool) {
        return (yajl_alloc_funcs){.malloc = pool_malloc,
                        .realloc = pool_realloc,
                        .free = pool_free,
                        .ctx = pool};
}
