/*
 * figures -- what the counters pages of all processes say together.
 *
 * Shape   the topology names processes; each has a page, or NULL where none is mapped
 * Units   those of the counters; times in nanoseconds of CLOCK_MONOTONIC
 * Owner   the pages are other processes' and read-only here: every word is read once, relaxed,
 *         and a sum of words is no instant's truth
 * Errors  none: any value may stand in a page
 * Limits  PROCS_MAX pages; nothing here allocates, locks or writes
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shm/counters.h"
#include "shm/topology.h"

#define FIGURES_LANE_ANY UINT32_MAX
#define FIGURES_ROLE_ANY ROLES_N

struct figures {
        const struct topology_shm *topology;
        const struct counters_shm *const *pages; /* by process index; PROCS_MAX of them */
        uint64_t now_ns;
        uint64_t heartbeat_timeout_ns; /* an older heartbeat is nobody's */
        bool watched; /* the settings want a watcher */
};

/* A histogram's words, read once; count is the sum of the buckets, so that they always agree. */
struct figures_histogram {
        uint64_t bucket[COUNTERS_BUCKETS];
        uint64_t count, sum_ns;
};

/* Over all processes of a role (FIGURES_ROLE_ANY) and a lane (FIGURES_LANE_ANY). */
uint64_t figures_sum(const struct figures *f, enum mr_role role, uint32_t lane, enum counter which);
/* Of the post stages: finds of an entity, by its place in the engine's table. */
uint64_t figures_redactions(const struct figures *f, uint32_t entity);
/* A row of some page, by a number below PROCS_MAX * CALIBRATION_MODELS; false: there is none, or one of
 * a smaller number has the same model. */
bool figures_calibration(const struct figures *f, uint32_t i, struct calibration *ret);
void figures_histogram(const struct figures *f, enum mr_role role, uint32_t lane,
                enum histogram which, struct figures_histogram *ret);
/* A value that at least this part of all has not passed, by the buckets; 0: nothing was counted. */
double figures_quantile_s(const struct figures_histogram *h, double part);
/* What a lane holds, by all gateways. */
uint64_t figures_in_flight(const struct figures *f, uint32_t lane);
/* Of the gateways: true when as many are up as should be. */
bool figures_up(const struct figures *f, enum mr_role role, uint32_t lane);
/* How many incarnations replaced another one; and how many of them one that had died of itself. */
uint64_t figures_restarts(const struct figures *f, enum mr_role role, uint32_t lane);
uint64_t figures_crashes(const struct figures *f, enum mr_role role, uint32_t lane);
/* And one that had grown too large. */
uint64_t figures_recycles(const struct figures *f, enum mr_role role, uint32_t lane);
/* channels.X of a lane's stage: how many records may wait in its data ring. */
uint64_t figures_ring_capacity(const struct figures *f, enum mr_role role, uint32_t lane);
