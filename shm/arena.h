/*
 * arena -- the bodies of requests, copied in once by the gateway that took them.
 *
 * Shape   header | one generation word per unit | n_units units of ARENA_UNIT bytes
 * Units   ARENA_UNIT bytes; a body takes a run of consecutive units
 * Owner   written by one gateway slot; every stage of every lane maps it read-only
 * Errors  0, -EPROTO (attach), ARENA_E_*
 * Limits  bodies up to admission.max_body_bytes; nothing allocates after attach. An arena may be thin
 *         (segment.h): its owner makes sure of a unit's page before it writes there for the first time
 *
 * A reference is {slot, off, len, gen}. The generation of a run's first unit is raised (seq_cst)
 * when the run is freed, before any of its units is used again: a reader copies, then checks
 * (seqlock).
 */
#pragma once

#include <stdbool.h>

#include "shm/layout.h"

#define ARENA_UNIT 4096u

enum arena_error {
        ARENA_E_FULL = 1, /* no run is free: the request waits at the door */
        ARENA_E_THIN,     /* one is, and /dev/shm has no room for its pages: likewise */
        ARENA_E_GONE,     /* the body was freed (or is being overwritten): its request has ended */
        ARENA_E_BOUNDS,   /* the reference does not lie in the arena: a peer wrote nonsense */
};

struct arena_ref {
        uint32_t slot; /* gateway slot that owns the arena */
        uint32_t len;  /* bytes */
        uint64_t off;  /* byte offset from the first unit */
        uint64_t gen;
};

struct arena_shm {
        uint64_t magic, layout;
        uint32_t n_units, rsv;
        alignas(LAYOUT_SEPARATION) mr_au64 gen[]; /* W: gateway.  R: stages.  SYNC(arena.reuse) */
};

uint64_t arena_bytes(uint64_t body_bytes);
/* Of that what comes before the bodies. */
uint64_t arena_head_bytes(uint64_t body_bytes);
void arena_format(struct arena_shm *shm, uint64_t body_bytes);

/* Owner's side. */
struct arena {
        struct arena_shm *shm;
        uint8_t *base;
        uint32_t n_units;
        uint64_t *used;    /* private bitmap, rebuilt from the admission slots on attach */
        uint64_t *touched; /* likewise: units whose pages are known to be there */
        uint32_t hint;
        uint64_t used_bytes;
};

/* All units free; the owner then calls arena_adopt() for each block that an open slot still names,
 * and arena_adopted() to raise the generation of everything else. 0, -EPROTO, -ENOMEM. */
int arena_attach(struct arena *arena, void *map, uint64_t map_bytes);
int arena_adopt(struct arena *arena, const struct arena_ref *ref);
void arena_adopted(struct arena *arena);
void arena_close(struct arena *arena);
/* A run for len bytes; *ret_data is where to write. slot is filled in by the caller. 0,
 * ARENA_E_FULL, ARENA_E_THIN. */
int arena_alloc(struct arena *arena, uint32_t len, struct arena_ref *ret, uint8_t **ret_data);
void arena_free(struct arena *arena, const struct arena_ref *ref);

/* Reader's side. */
struct arena_view {
        const struct arena_shm *shm;
        const uint8_t *base;
        uint64_t body_bytes;
};
/* 0, -EPROTO. */
int arena_view_init(struct arena_view *view, const void *map, uint64_t map_bytes);
/* Copies [from, from + len) of the body into `to`, then checks the generation. 0, ARENA_E_GONE,
 * ARENA_E_BOUNDS. */
int arena_copy(const struct arena_view *view, const struct arena_ref *ref, uint32_t from,
        uint32_t len, void *to);
/* The body where it lies, for who only counts its bytes: any of them may change under the reader, and
 * what it made of them is worth something if arena_holds() says so afterwards. Errors as above. */
int arena_look(const struct arena_view *view, const struct arena_ref *ref, const uint8_t **ret);
bool arena_holds(const struct arena_view *view, const struct arena_ref *ref);
