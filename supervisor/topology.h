/*
 * topology -- from the settings to processes, rings and shared-memory objects, all as data.
 *
 * Shape   topology_build() fills struct topology_shm; topology_objects() lists every object of the
 *         instance with size and writer; topology_grant() says what a process may map, and how
 * Units   bytes; process indexes as in shm/topology.h; ring ids from 1
 * Owner   pure functions of their arguments, apart from topology_cores(), which asks the kernel
 * Errors  0 or -errno; the settings were checked before, so sizes that no ring can have are -EINVAL
 * Limits  TOPOLOGY_OBJECTS_MAX objects
 *
 * Per lane, in this order: DATA from each gateway slot to rag, then along the stages; CANCEL from
 * each gateway slot and from post to inference; NOTICE from stream to each gateway slot; LOOKUP from
 * each gateway slot to stream.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shm/topology.h"
#include "stages/common/settings.h"

#define TOPOLOGY_NO_PROC UINT32_MAX /* the supervisor is the writer */
#define TOPOLOGY_OBJECTS_MAX                                                                       \
        (1 + 2 * RINGS_MAX + 3 * LANES_MAX + 2 * GATEWAY_SLOTS_MAX + LANES_MAX + 2 * PROCS_MAX)

struct topology_object {
        enum mr_object kind;
        uint32_t a, b;   /* as in struct channel_object */
        uint32_t writer; /* process index or TOPOLOGY_NO_PROC */
        uint64_t bytes;
        char name[32]; /* the object's own part of its name */
};

enum topology_right { RIGHT_NONE, RIGHT_READ, RIGHT_WRITE };

/* Cores that this process may run on, in ascending order; at least one. Returns how many. */
uint32_t topology_cores(uint32_t *ret_cores, uint32_t cap);
/* Resolves `auto`. */
uint32_t topology_lanes(const struct settings *s, uint32_t n_cores);
uint32_t topology_gateways(const struct settings *s, uint32_t n_lanes);

/* Everything but magic, which whoever publishes the object stores last. */
int topology_build(const struct settings *s, uint32_t n_cores, uint64_t generation,
                struct topology_shm *ret);
/* The objects, topology itself first; ret has room for TOPOLOGY_OBJECTS_MAX. Returns how many. */
uint32_t topology_objects(const struct topology_shm *t, struct topology_object *ret);
/* The arena of the slot that is the spare at first. A spare slot has none: it would cost as much as
 * all the rings of a lane. */
static inline bool topology_is_spare(
                const struct topology_shm *t, const struct topology_object *object) {
        return object->kind == OBJECT_ARENA && object->a >= t->n_gateways;
}
/* What they take while one slot is the spare. */
uint64_t topology_sum(
                const struct topology_shm *t, const struct topology_object *objects, uint32_t n);
/* How much shared memory an instance with these settings takes; 0 when it cannot be laid out. */
uint64_t topology_shm_bytes(const struct settings *s);

/* The lane that an object goes with when that lane is reset; TOPOLOGY_NO_LANE: it stays. */
#define TOPOLOGY_NO_LANE UINT32_MAX
uint32_t topology_object_lane(const struct topology_shm *t, const struct topology_object *object);

enum topology_right topology_grant(
                const struct topology_shm *t, const struct topology_object *object, uint32_t proc);
/* Whether two processes share a ring. */
int topology_neighbours(const struct topology_shm *t, uint32_t a, uint32_t b);
/* The core that a process is pinned to, UINT32_MAX: none. */
uint32_t topology_core(const struct topology_shm *t, enum settings_pin pin, uint32_t proc,
                const uint32_t *cores, uint32_t n_cores);
