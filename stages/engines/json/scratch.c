#include "stages/engines/json/scratch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct block {
        alignas(16) size_t n;
};

static bool is_inside(const struct scratch *s, const void *p) {
        return (uintptr_t)p >= (uintptr_t)s->bytes &&
               (uintptr_t)p < (uintptr_t)s->bytes + sizeof(s->bytes);
}

static void *take(void *ctx, size_t n) {
        struct scratch *s = ctx;
        size_t whole = (n + sizeof(struct block) + 15) & ~(size_t)15;
        struct block *b;

        if (whole <= sizeof(s->bytes) - s->used) {
                b = (struct block *)(void *)(s->bytes + s->used);
                s->used += (uint32_t)whole;
        } else {
                b = malloc(whole);
                if (!b)
                        return NULL;
        }
        b->n = n;
        return b + 1;
}

static void give(void *ctx, void *p) {
        if (p && !is_inside(ctx, p))
                free((struct block *)p - 1);
}

static void *resize(void *ctx, void *p, size_t n) {
        void *to = take(ctx, n);

        if (to && p) {
                size_t old = ((struct block *)p - 1)->n;

                memcpy(to, p, old < n ? old : n);
                give(ctx, p);
        }
        return to;
}

yajl_alloc_funcs scratch_funcs(struct scratch *scratch) {
        return (yajl_alloc_funcs){
                        .malloc = take, .realloc = resize, .free = give, .ctx = scratch};
}
