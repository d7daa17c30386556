/*
 * memory -- the shared memory of an instance: made anew, or taken over from a dead one.
 *
 * Shape   a private copy of the topology, the list of objects, and two descriptors for each
 * Units   bytes
 * Owner   the supervisor, which must hold the instance lock; workers get copies of descriptors
 * Errors  0, or MEMORY_E_USER with one line; then nothing that was made here is left behind
 * Limits  maps counters for reading, and the topology for its lane words, for as long as it lives;
 *         everything else only while it formats or checks it
 *
 * What a dead instance left    topology missing or without its magic: never finished, removed
 *                              same layout and topology hash: taken over, nothing is formatted
 *                              same, but a lane is RESETTING: what goes with that lane is made anew
 *                              anything else: refused, unless `discard` says to remove it
 * The topology object is made last and its magic stored last, so a half-made instance shows as
 * such; it is unlinked first.
 *
 * An arena exists while its gateway slot is in use: the one that is missing says which slot is the
 * spare, also to who takes over. One that was not finished is removed then; no gateway has seen it.
 */
#pragma once

#include <stdbool.h>

#include "shm/counters.h"
#include "shm/segment.h"
#include "supervisor/report.h"
#include "supervisor/topology.h"

enum memory_error { MEMORY_E_USER = 1 };

struct memory {
        char instance[64];
        struct topology_shm *topology; /* private copy */
        struct topology_shm *shared;   /* the object, for memory_lane_set() alone */
        struct topology_object *objects;
        struct segment_fds *fds; /* by object */
        uint32_t n_objects;
        bool adopted;
        uint64_t arena[GATEWAY_SLOTS_MAX]; /* by slot: serial of the arena that exists, 0: none */
        uint64_t n_arenas;                 /* that were ever made or found here: the last serial */
        bool thin[GATEWAY_SLOTS_MAX];      /* without room for all of it yet */
        const struct counters_shm *counters[PROCS_MAX]; /* read-only; NULL: not mapped */
};

int memory_open(const struct settings *s, uint32_t n_cores, bool discard, struct memory *ret,
                struct report *report);
/* The arena of a slot that comes into use, or goes out of it. Where there is no room for a second
 * one it is thin, until the first has gone. 0 or -errno. */
int memory_arena_make(struct memory *memory, uint32_t slot);
void memory_arena_drop(struct memory *memory, uint32_t slot);

/* enum lane_state and generation, as lane_word() packs them. */
uint64_t memory_lane(const struct memory *memory, uint32_t lane);
void memory_lane_set(
                struct memory *memory, uint32_t lane, enum lane_state state, uint64_t generation);
/* A bit for each stage of the lane that is not ready. */
void memory_lane_missing(struct memory *memory, uint32_t lane, uint64_t stages);
/* Unlinks whatever there is of a lane's rings, slabs and log and makes them anew. Nobody may have
 * them mapped any more, or there is not the room. 0 or -errno. */
int memory_lane_remake(struct memory *memory, uint32_t lane);

/* Closes and unmaps; unlinks every object when nothing of it is to be taken over. Zeroed: no-op. */
void memory_close(struct memory *memory, bool unlink);
