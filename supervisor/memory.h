/*
 * memory -- the shared memory of an instance: made anew, or taken over from a dead one.
 *
 * Shape   a private copy of the topology, the list of objects, and two descriptors for each
 * Units   bytes
 * Owner   the supervisor, which must hold the instance lock; workers get copies of descriptors
 * Errors  0, or MEMORY_E_USER with one line; then nothing that was made here is left behind
 * Limits  maps counters for reading for as long as it lives; everything else only while it formats
 * it
 *
 * What a dead instance left    topology missing or without its magic: never finished, removed
 *                              same layout and topology hash: taken over, nothing is formatted
 *                              anything else: refused, unless `discard` says to remove it
 * The topology object is made last and its magic stored last, so a half-made instance shows as
 * such; it is unlinked first.
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
        struct topology_object *objects;
        struct segment_fds *fds; /* by object */
        uint32_t n_objects;
        bool adopted;
        const struct counters_shm *counters[PROCS_MAX]; /* read-only; NULL: not mapped */
};

int memory_open(const struct settings *s, uint32_t n_cores, bool discard, struct memory *ret,
                struct report *report);
/* Closes and unmaps; unlinks every object when nothing of it is to be taken over. Zeroed: no-op. */
void memory_close(struct memory *memory, bool unlink);
