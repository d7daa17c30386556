#include "shm/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/units.h"

static uint64_t head_bytes(uint64_t n_units) {
        return layout_align(sizeof(struct arena_shm) + n_units * sizeof(mr_au64), LAYOUT_PAGE);
}

uint64_t arena_bytes(uint64_t body_bytes) {
        uint64_t n_units = layout_align(body_bytes, ARENA_UNIT) / ARENA_UNIT;

        return head_bytes(n_units) + n_units * ARENA_UNIT;
}

uint64_t arena_head_bytes(uint64_t body_bytes) {
        return head_bytes(layout_align(body_bytes, ARENA_UNIT) / ARENA_UNIT);
}

void arena_format(struct arena_shm *shm, uint64_t body_bytes) {
        shm->n_units = (uint32_t)(layout_align(body_bytes, ARENA_UNIT) / ARENA_UNIT);
        /* From 1, so that a zeroed reference names no body. */
        for (uint32_t i = 0; i < shm->n_units; i++)
                atomic_store_explicit(&shm->gen[i], 1, memory_order_relaxed);
        shm->layout = layout_hash();
        shm->magic = MAGIC_ARENA;
}

static int check(const struct arena_shm *shm, uint64_t map_bytes, uint32_t *ret_units) {
        uint32_t n_units;

        if (map_bytes < sizeof(*shm) || shm->magic != MAGIC_ARENA || shm->layout != layout_hash())
                return -EPROTO;
        n_units = shm->n_units;
        atomic_signal_fence(memory_order_seq_cst); /* fetched once */
        if (arena_bytes((uint64_t)n_units * ARENA_UNIT) != map_bytes)
                return -EPROTO;
        *ret_units = n_units;
        return 0;
}

static uint32_t units_of(uint32_t len) {
        return len == 0 ? 1 : (len - 1) / ARENA_UNIT + 1;
}

/* ---- owner ---- */

int arena_attach(struct arena *arena, void *map, uint64_t map_bytes) {
        uint32_t n_units;
        int r = check(map, map_bytes, &n_units);

        if (r < 0)
                return r;
        *arena = (struct arena){
                        .shm = map,
                        .base = (uint8_t *)map + head_bytes(n_units),
                        .n_units = n_units,
                        .used = units_new(n_units),
                        .touched = units_new(n_units),
        };
        if (arena->used && arena->touched)
                return 0;
        arena_close(arena);
        return -ENOMEM;
}

void arena_close(struct arena *arena) {
        if (!arena)
                return;
        free(arena->used);
        free(arena->touched);
        *arena = (struct arena){.shm = NULL};
}

static bool in_bounds(const struct arena_ref *ref, uint64_t body_bytes) {
        return ref->off % ARENA_UNIT == 0 && ref->off < body_bytes &&
               ref->len <= body_bytes - ref->off;
}

static mr_au64 *gen_of(const struct arena *arena, uint64_t off) {
        return &arena->shm->gen[off / ARENA_UNIT];
}

int arena_adopt(struct arena *arena, const struct arena_ref *ref) {
        if (!in_bounds(ref, (uint64_t)arena->n_units * ARENA_UNIT))
                return ARENA_E_BOUNDS;
        if (atomic_load_explicit(gen_of(arena, ref->off), memory_order_relaxed) != ref->gen)
                return ARENA_E_GONE;
        if (!units_claim(arena->used, arena->n_units, (uint32_t)(ref->off / ARENA_UNIT),
                            units_of(ref->len)))
                return ARENA_E_BOUNDS;
        arena->used_bytes += (uint64_t)units_of(ref->len) * ARENA_UNIT;
        return 0;
}

/* SYNC(arena.reuse): seq_cst, so that no byte of the unit's next body is visible before ->
 * arena_copy(). */
static void raise_gen(mr_au64 *gen) {
        uint64_t v = atomic_load_explicit(gen, memory_order_relaxed);

        atomic_store_explicit(gen, v + 1, memory_order_seq_cst);
        layout_seqlock_fence();
}

void arena_adopted(struct arena *arena) {
        /* The dead incarnation may have handed out what no open slot names: nobody may trust it. */
        for (uint32_t i = 0; i < arena->n_units; i++)
                if ((arena->used[i / 64] >> (i % 64) & 1) == 0)
                        raise_gen(&arena->shm->gen[i]);
}

/* Takes the pages of a run where this has not been done yet; false: there is no room for them. Linux
 * before 5.14 does not know the advice, and then a thin arena cannot be told from a full one. */
static bool touch(struct arena *arena, uint32_t at, uint32_t n) {
        if (units_are_used(arena->touched, at, n))
                return true;
        if (madvise(arena->base + (uint64_t)at * ARENA_UNIT, (uint64_t)n * ARENA_UNIT,
                            MADV_POPULATE_WRITE) == -1 &&
                        errno != EINVAL)
                return false;
        units_use(arena->touched, at, n);
        return true;
}

int arena_alloc(struct arena *arena, uint32_t len, struct arena_ref *ret, uint8_t **ret_data) {
        uint32_t n = units_of(len);
        uint32_t at = units_take(arena->used, arena->n_units, &arena->hint, n);

        if (at == UNITS_NONE)
                return ARENA_E_FULL;
        if (!touch(arena, at, n)) {
                units_release(arena->used, at, n);
                return ARENA_E_THIN;
        }
        arena->used_bytes += (uint64_t)n * ARENA_UNIT;
        *ret = (struct arena_ref){
                        .len = len,
                        .off = (uint64_t)at * ARENA_UNIT,
                        .gen = atomic_load_explicit(&arena->shm->gen[at], memory_order_relaxed),
        };
        *ret_data = arena->base + ret->off;
        return 0;
}

void arena_free(struct arena *arena, const struct arena_ref *ref) {
        uint32_t n = units_of(ref->len);

        raise_gen(gen_of(arena, ref->off));
        units_release(arena->used, (uint32_t)(ref->off / ARENA_UNIT), n);
        /* The lowest first: what was in use lately is still in some cache, and a thin arena stays so. */
        if (ref->off / ARENA_UNIT < arena->hint)
                arena->hint = (uint32_t)(ref->off / ARENA_UNIT);
        arena->used_bytes -= (uint64_t)n * ARENA_UNIT;
}

/* ---- reader ---- */

int arena_view_init(struct arena_view *view, const void *map, uint64_t map_bytes) {
        uint32_t n_units;
        int r = check(map, map_bytes, &n_units);

        if (r < 0)
                return r;
        *view = (struct arena_view){
                        .shm = map,
                        .base = (const uint8_t *)map + head_bytes(n_units),
                        .body_bytes = (uint64_t)n_units * ARENA_UNIT,
        };
        return 0;
}

int arena_look(const struct arena_view *view, const struct arena_ref *ref, const uint8_t **ret) {
        if (!in_bounds(ref, view->body_bytes))
                return ARENA_E_BOUNDS;
        /* SYNC(arena.reuse): the bytes were this body's as long as the generation still is. */
        if (atomic_load_explicit(&view->shm->gen[ref->off / ARENA_UNIT], memory_order_acquire) !=
                        ref->gen)
                return ARENA_E_GONE;
        *ret = view->base + ref->off;
        return 0;
}

bool arena_holds(const struct arena_view *view, const struct arena_ref *ref) {
        layout_seqlock_fence();
        return atomic_load_explicit(&view->shm->gen[ref->off / ARENA_UNIT], memory_order_relaxed) ==
               ref->gen;
}

int arena_copy(const struct arena_view *view, const struct arena_ref *ref, uint32_t from,
                uint32_t len, void *to) {
        const uint8_t *body;
        int r;

        if (from > ref->len || len > ref->len - from)
                return ARENA_E_BOUNDS;
        r = arena_look(view, ref, &body);
        if (r)
                return r;
        memcpy(to, body + from, len);
        return arena_holds(view, ref) ? 0 : ARENA_E_GONE;
}
