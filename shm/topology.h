/*
 * topology -- which processes and rings an instance consists of; written once, before any worker.
 *
 * Shape   header | process table | ring table
 * Owner   the supervisor writes it before any worker exists, later only two words a lane
 * Errors  topology_check: -EPROTO when magic, layout hash or sizes are not this build's
 * Limits  LANES_MAX, GATEWAY_SLOTS_MAX, RINGS_MAX
 */
#pragma once

#include "shm/layout.h"
#include "shm/ring.h"

enum ring_kind {
        RING_DATA,   /* gateway -> rag -> assemble -> inference -> post -> stream */
        RING_CANCEL, /* gateway -> inference, post -> inference */
        RING_NOTICE, /* stream -> gateway */
        RING_LOOKUP, /* gateway -> stream: does the database have this id? */
};

struct topology_proc {
        uint32_t role; /* enum mr_role */
        uint32_t lane; /* 0 for those that serve all lanes */
        uint32_t slot; /* gateway slot, else 0 */
        uint32_t rsv;
};

struct topology_ring {
        uint32_t id;   /* = index + 1 */
        uint32_t kind; /* enum ring_kind */
        uint32_t lane;
        uint32_t from, to; /* process indexes */
        uint32_t n, max_batch, max_rec;
        uint32_t bound, rsv;
        uint64_t bytes;
};

/*
 *   RUNNING --(supervisor: a stage is down)--> DOWN --(all five are ready)--> RUNNING
 *   RUNNING, DOWN --(supervisor: shared state is inconsistent)--> RESETTING, with a new generation
 *   RESETTING --(gateways have let go, objects made anew)--> RUNNING
 */
enum lane_state {
        LANE_RUNNING,
        LANE_RESETTING, /* found by a new supervisor: it makes the lane's objects anew */
        LANE_DOWN,      /* gateways refuse what needs the lane; what it holds stays */
};

struct topology_shm {
        uint64_t magic, layout;
        uint64_t hash;       /* of everything below that does not change: lanes, slots, sizes */
        uint64_t generation; /* 20 bits: the top of every req_id */
        uint32_t n_lanes, n_gateways, n_gateway_slots, n_procs, n_rings;
        uint32_t max_in_flight;   /* per lane */
        uint64_t arena_bytes, log_bytes;
        uint32_t slab_slots, n_slots_admission;
        uint64_t slab_units[LANE_STAGES_N];
        /* W: supervisor, which then rings the gateways.  R: gateways, each turn; telemetry.
         * SYNC(lane.state) */
        alignas(LAYOUT_SEPARATION) mr_au64 lane_state[LANES_MAX]; /* lane_word() */
        /* W: supervisor, whenever it changes.  R: gateways, when they are asked whether all is ready. A bit for
         * each stage of the lane that is not: starting, draining or gone. */
        mr_au64 lane_missing[LANES_MAX];
        struct topology_proc procs[PROCS_MAX];
        struct topology_ring rings[RINGS_MAX];
};

uint64_t topology_bytes(void);
int topology_check(const struct topology_shm *topology, uint64_t map_bytes);

/* A lane's state and its generation (how often it was reset) in one word. */
static inline uint64_t lane_word(enum lane_state state, uint64_t generation) {
        return (uint64_t)state | generation << 8;
}
static inline enum lane_state lane_word_state(uint64_t word) {
        return (enum lane_state)(word & 0xff);
}
static inline uint64_t lane_word_generation(uint64_t word) {
        return word >> 8;
}

/* Process indexes: gateway slots, then lanes' stages in pipeline order, then telemetry, then watch. */
static inline uint32_t topology_proc_gateway(uint32_t slot) {
        return slot;
}
static inline uint32_t topology_proc_stage(const struct topology_shm *t, uint32_t lane, enum mr_role stage) {
        return t->n_gateway_slots + lane * LANE_STAGES_N + (uint32_t)stage;
}
static inline uint32_t topology_proc_telemetry(const struct topology_shm *t) {
        return t->n_gateway_slots + t->n_lanes * LANE_STAGES_N;
}
static inline uint32_t topology_proc_watch(const struct topology_shm *t) {
        return topology_proc_telemetry(t) + 1;
}
static inline void topology_geometry(const struct topology_ring *ring, struct ring_geometry *ret) {
        *ret = (struct ring_geometry){ .id = ring->id, .n = ring->n, .max_batch = ring->max_batch,
                .max_rec = ring->max_rec, .bytes = ring->bytes, .bound = ring->bound };
}
