/*
 * topology -- from the settings to processes, rings and shared-memory objects, all as data.
 */
#include "supervisor/topology.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "shm/admission.h"
#include "shm/arena.h"
#include "shm/counters.h"
#include "shm/log.h"
#include "shm/segment.h"
#include "shm/side.h"
#include "shm/slab.h"

#define CONTROL_BOUND 128u

/* Payload units of the stages that keep requests in a slab; 0: none. */
static const uint32_t slab_units[LANE_STAGES_N] = {
                [ROLE_RAG] = 2048,
                [ROLE_INFERENCE] = 3072,
                [ROLE_POST] = 1024,
};

uint32_t topology_cores(uint32_t *ret_cores, uint32_t cap) {
        cpu_set_t set;
        uint32_t n = 0;

        CPU_ZERO(&set);
        if (sched_getaffinity(0, sizeof(set), &set) == 0)
                for (uint32_t core = 0; core < CPU_SETSIZE && n < cap; core++)
                        if (CPU_ISSET(core, &set))
                                ret_cores[n++] = core;
        if (n == 0)
                ret_cores[n++] = 0; /* more cores than cpu_set_t knows: one is always there */
        return n;
}

uint32_t topology_lanes(const struct settings *s, uint32_t n_cores) {
        uint64_t lanes = s->lanes == SETTINGS_AUTO ? n_cores : s->lanes;

        return (uint32_t)(lanes > LANES_MAX ? LANES_MAX : lanes);
}

uint32_t topology_gateways(const struct settings *s, uint32_t n_lanes) {
        uint64_t places = s->gateways == SETTINGS_AUTO ? (n_lanes + 3) / 4 : s->gateways;

        return (uint32_t)(places > GATEWAY_PLACES_MAX ? GATEWAY_PLACES_MAX : places);
}

/* ---- building -------------------------------------------------------------------------------- */

static uint32_t power_of_two(uint64_t at_least) {
        uint32_t n = 1;

        while (n < at_least && n < 1u << 31)
                n <<= 1;
        return n;
}

static uint64_t channel_bound(const struct settings *s, enum mr_role consumer) {
        const uint64_t bounds[LANE_STAGES_N] = {
                        [ROLE_RAG] = s->channels.rag,
                        [ROLE_ASSEMBLE] = s->channels.assemble,
                        [ROLE_INFERENCE] = s->channels.inference,
                        [ROLE_POST] = s->channels.post,
                        [ROLE_STREAM] = s->channels.stream,
        };

        return bounds[consumer];
}

static void add_data_ring(struct topology_shm *t, const struct settings *s, uint32_t lane,
                uint32_t from, enum mr_role to) {
        struct topology_ring *ring = &t->rings[t->n_rings++];
        uint64_t bound = channel_bound(s, to);

        *ring = (struct topology_ring){.id = t->n_rings,
                        .kind = RING_DATA,
                        .lane = lane,
                        .from = from,
                        .to = topology_proc_stage(t, lane, to),
                        .n = power_of_two(bound + 2 * RING_MAX_BATCH),
                        .max_batch = RING_MAX_BATCH,
                        .max_rec = (uint32_t)(s->memory.ring_bytes / 4),
                        .bound = (uint32_t)bound,
                        .bytes = s->memory.ring_bytes};
}

static void add_control_ring(struct topology_shm *t, enum ring_kind kind, uint32_t lane,
                uint32_t from, uint32_t to) {
        struct topology_ring *ring = &t->rings[t->n_rings++];

        *ring = (struct topology_ring){.id = t->n_rings,
                        .kind = kind,
                        .lane = lane,
                        .from = from,
                        .to = to,
                        .n = RING_CONTROL_N,
                        .max_batch = RING_MAX_BATCH,
                        .max_rec = RING_CONTROL_BYTES / 4,
                        .bound = CONTROL_BOUND,
                        .bytes = RING_CONTROL_BYTES};
}

static void add_lane_rings(struct topology_shm *t, const struct settings *s, uint32_t lane) {
        uint32_t inference = topology_proc_stage(t, lane, ROLE_INFERENCE);
        uint32_t stream = topology_proc_stage(t, lane, ROLE_STREAM);

        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_data_ring(t, s, lane, topology_proc_gateway(g), ROLE_RAG);
        for (enum mr_role to = ROLE_ASSEMBLE; to <= ROLE_STREAM; to++)
                add_data_ring(t, s, lane, topology_proc_stage(t, lane, to - 1), to);
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_control_ring(t, RING_CANCEL, lane, topology_proc_gateway(g), inference);
        add_control_ring(t, RING_CANCEL, lane, topology_proc_stage(t, lane, ROLE_POST), inference);
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_control_ring(t, RING_NOTICE, lane, stream, topology_proc_gateway(g));
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_control_ring(t, RING_LOOKUP, lane, topology_proc_gateway(g), stream);
}

static void add_procs(struct topology_shm *t) {
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                t->procs[t->n_procs++] = (struct topology_proc){.role = ROLE_GATEWAY, .slot = g};
        for (uint32_t lane = 0; lane < t->n_lanes; lane++)
                for (uint32_t role = ROLE_RAG; role <= ROLE_STREAM; role++)
                        t->procs[t->n_procs++] = (struct topology_proc){.role = role, .lane = lane};
        t->procs[t->n_procs++] = (struct topology_proc){.role = ROLE_TELEMETRY};
        t->procs[t->n_procs++] = (struct topology_proc){.role = ROLE_WATCH};
}

/* Of what does not change while the instance lives, so not of magic, generation and lane states. */
static uint64_t hash_of(const struct topology_shm *t) {
        size_t from = offsetof(struct topology_shm, n_lanes);
        size_t to = offsetof(struct topology_shm, slab_units) + sizeof(t->slab_units);
        uint64_t hash = XXH3_64bits_withSeed((const char *)t + from, to - from, LAYOUT_VERSION);

        hash = XXH3_64bits_withSeed(t->procs, sizeof(t->procs), hash);
        return XXH3_64bits_withSeed(t->rings, sizeof(t->rings), hash);
}

int topology_build(const struct settings *s, uint32_t n_cores, uint64_t generation,
                struct topology_shm *ret) {
        struct topology_shm *t = ret;
        struct ring_geometry geo;

        memset(t, 0, sizeof(*t));
        t->layout = layout_hash();
        t->generation = generation;
        t->n_lanes = topology_lanes(s, n_cores);
        t->n_gateways = topology_gateways(s, t->n_lanes);
        t->n_gateway_slots = t->n_gateways + 1;
        t->max_in_flight = (uint32_t)s->admission.max_in_flight;
        t->arena_bytes = s->admission.arena_bytes;
        t->log_bytes = s->stream.log_bytes;
        t->slab_slots = t->max_in_flight;
        t->n_slots_admission = t->n_lanes * t->max_in_flight;
        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++) {
                t->slab_units[stage] = slab_units[stage];
                /* A record that could never be claimed would stop the lane for ever. */
                if (slab_units[stage] && t->slab_units[stage] < s->memory.ring_bytes / SLAB_UNIT)
                        t->slab_units[stage] = s->memory.ring_bytes / SLAB_UNIT;
                /* What is in flight is to run, not to wait behind others. */
                if (slab_units[stage] && t->slab_units[stage] < t->max_in_flight)
                        t->slab_units[stage] = t->max_in_flight;
        }
        add_procs(t);
        for (uint32_t lane = 0; lane < t->n_lanes; lane++)
                add_lane_rings(t, s, lane);
        for (uint32_t i = 0; i < t->n_rings; i++) {
                topology_geometry(&t->rings[i], &geo);
                if (ring_geometry_check(&geo))
                        return -EINVAL;
        }
        t->hash = hash_of(t);
        return 0;
}

/* ---- objects --------------------------------------------------------------------------------- */

struct object_list {
        struct topology_object *at;
        uint32_t n;
};

static void add_object(struct object_list *list, enum mr_object kind, uint32_t a, uint32_t b,
                uint32_t writer, uint64_t bytes) {
        struct topology_object *o = &list->at[list->n++];

        *o = (struct topology_object){
                        .kind = kind, .a = a, .b = b, .writer = writer, .bytes = bytes};
        segment_object_name(o->name, sizeof(o->name), kind, a, b);
}

static void add_lane_objects(
                struct object_list *list, const struct topology_shm *t, uint32_t lane) {
        uint32_t responses, extents;

        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++)
                if (t->slab_units[stage])
                        add_object(list, OBJECT_SLAB, lane, stage,
                                        topology_proc_stage(t, lane, stage),
                                        slab_bytes(t->slab_slots, (uint32_t)t->slab_units[stage]));
        add_object(list, OBJECT_LOG, lane, UINT32_MAX, topology_proc_stage(t, lane, ROLE_STREAM),
                        log_bytes(t->log_bytes, &responses, &extents));
}

uint32_t topology_objects(const struct topology_shm *t, struct topology_object *ret) {
        struct object_list list = {.at = ret};
        struct ring_geometry geo;

        add_object(&list, OBJECT_TOPOLOGY, UINT32_MAX, UINT32_MAX, TOPOLOGY_NO_PROC,
                        topology_bytes());
        for (uint32_t i = 0; i < t->n_rings; i++) {
                topology_geometry(&t->rings[i], &geo);
                add_object(&list, OBJECT_RING_PROD, t->rings[i].id, UINT32_MAX, t->rings[i].from,
                                ring_prod_bytes(&geo));
                add_object(&list, OBJECT_RING_CONS, t->rings[i].id, UINT32_MAX, t->rings[i].to,
                                ring_cons_bytes(&geo));
        }
        for (uint32_t lane = 0; lane < t->n_lanes; lane++)
                add_lane_objects(&list, t, lane);
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_object(&list, OBJECT_ADMISSION, g, UINT32_MAX, topology_proc_gateway(g),
                                admission_bytes(t->n_slots_admission));
        for (uint32_t g = 0; g < t->n_gateway_slots; g++)
                add_object(&list, OBJECT_ARENA, g, UINT32_MAX, topology_proc_gateway(g),
                                arena_bytes(t->arena_bytes));
        for (uint32_t p = 0; p < t->n_procs; p++) {
                add_object(&list, OBJECT_COUNTERS, p, UINT32_MAX, p, counters_bytes());
                add_object(&list, OBJECT_SIDE, p, UINT32_MAX, p, side_bytes());
        }
        return list.n;
}

uint64_t topology_sum(
                const struct topology_shm *t, const struct topology_object *objects, uint32_t n) {
        uint64_t sum = 0;

        for (uint32_t i = 0; i < n; i++)
                if (!topology_is_spare(t, &objects[i]))
                        sum += layout_align(objects[i].bytes, LAYOUT_PAGE);
        return sum;
}

uint64_t topology_shm_bytes(const struct settings *s) {
        struct topology_shm *t = calloc(1, sizeof(*t));
        struct topology_object *objects = calloc(TOPOLOGY_OBJECTS_MAX, sizeof(*objects));
        uint32_t cores[CPU_SETSIZE];
        uint64_t sum = 0;

        if (t && objects && topology_build(s, topology_cores(cores, CPU_SETSIZE), 1, t) == 0) {
                uint32_t n = topology_objects(t, objects);

                sum = topology_sum(t, objects, n);
        }
        free(objects);
        free(t);
        return sum;
}

uint32_t topology_object_lane(const struct topology_shm *t, const struct topology_object *object) {
        switch (object->kind) {
        case OBJECT_RING_PROD:
        case OBJECT_RING_CONS:
                return t->rings[object->a - 1].lane;
        case OBJECT_SLAB:
        case OBJECT_LOG:
                return object->a;
        case OBJECT_TOPOLOGY:
        case OBJECT_ADMISSION:
        case OBJECT_ARENA:
        case OBJECT_COUNTERS:
        case OBJECT_SIDE:
        case OBJECTS_N:
                break;
        }
        return TOPOLOGY_NO_LANE;
}

/* ---- who may map what ------------------------------------------------------------------------ */

static enum topology_right ring_right(
                const struct topology_shm *t, const struct topology_object *object, uint32_t proc) {
        const struct topology_ring *ring = &t->rings[object->a - 1];

        if (object->writer == proc)
                return RIGHT_WRITE;
        return ring->from == proc || ring->to == proc ? RIGHT_READ : RIGHT_NONE;
}

/* What a lane's inference has learnt of its backends is every lane's. */
static bool teaches(const struct topology_shm *t, const struct topology_object *object, uint32_t proc) {
        return object->kind == OBJECT_COUNTERS && t->procs[object->writer].role == ROLE_INFERENCE &&
               t->procs[proc].role == ROLE_ASSEMBLE;
}

/* Roles that read an object of which they are not the writer; rings are decided by their ends. */
static const uint32_t readers[OBJECTS_N] = {
                [OBJECT_ADMISSION] = 1u << ROLE_GATEWAY | 1u << ROLE_INFERENCE | 1u << ROLE_STREAM,
                [OBJECT_ARENA] = 1u << ROLE_ASSEMBLE | 1u << ROLE_INFERENCE | 1u << ROLE_STREAM,
                [OBJECT_LOG] = 1u << ROLE_GATEWAY,
                [OBJECT_COUNTERS] = 1u << ROLE_TELEMETRY,
                [OBJECT_SIDE] = 1u << ROLE_TELEMETRY,
                [OBJECT_TOPOLOGY] = (1u << ROLES_N) - 1,
};

enum topology_right topology_grant(
                const struct topology_shm *t, const struct topology_object *object, uint32_t proc) {
        if (object->kind == OBJECT_RING_PROD || object->kind == OBJECT_RING_CONS)
                return ring_right(t, object, proc);
        if (object->writer == proc)
                return RIGHT_WRITE;
        if (teaches(t, object, proc))
                return RIGHT_READ;
        return readers[object->kind] & 1u << t->procs[proc].role ? RIGHT_READ : RIGHT_NONE;
}

int topology_neighbours(const struct topology_shm *t, uint32_t a, uint32_t b) {
        for (uint32_t i = 0; i < t->n_rings; i++) {
                const struct topology_ring *ring = &t->rings[i];

                if ((ring->from == a && ring->to == b) || (ring->from == b && ring->to == a))
                        return 1;
        }
        return 0;
}

uint32_t topology_core(const struct topology_shm *t, enum settings_pin pin, uint32_t proc,
                const uint32_t *cores, uint32_t n_cores) {
        bool in_lane = t->procs[proc].role < LANE_STAGES_N;

        if (pin == SETTINGS_PIN_SPREAD)
                return cores[proc % n_cores];
        if (pin == SETTINGS_PIN_LANE && in_lane)
                return cores[t->procs[proc].lane % n_cores];
        return UINT32_MAX;
}
