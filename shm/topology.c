/*
 * topology -- the object that says which processes and rings there are: its size, and its check.
 */
#include "shm/topology.h"

#include <errno.h>

#include "shm/segment.h"

uint64_t topology_bytes(void) {
        return layout_align(sizeof(struct topology_shm), LAYOUT_PAGE);
}

static bool proc_is_sound(const struct topology_shm *t, uint32_t p) {
        uint32_t role = t->procs[p].role;

        if (p < t->n_gateway_slots)
                return role == ROLE_GATEWAY && t->procs[p].slot == p;
        if (p == topology_proc_telemetry(t))
                return role == ROLE_TELEMETRY;
        if (p == topology_proc_watch(t))
                return role == ROLE_WATCH;
        return role == (p - t->n_gateway_slots) % LANE_STAGES_N &&
               t->procs[p].lane == (p - t->n_gateway_slots) / LANE_STAGES_N;
}

static bool ring_is_sound(const struct topology_shm *t, uint32_t i) {
        const struct topology_ring *ring = &t->rings[i];
        struct ring_geometry geo;

        if (ring->id != i + 1 || ring->kind > RING_LOOKUP || ring->lane >= t->n_lanes)
                return false;
        if (ring->from >= t->n_procs || ring->to >= t->n_procs || ring->from == ring->to)
                return false;
        topology_geometry(ring, &geo);
        return ring_geometry_check(&geo) == 0;
}

int topology_check(const struct topology_shm *t, uint64_t map_bytes) {
        if (map_bytes < topology_bytes() || t->magic != MAGIC_TOPOLOGY ||
                        t->layout != layout_hash())
                return -EPROTO;
        if (t->n_lanes < 1 || t->n_lanes > LANES_MAX || t->n_gateways < 1 ||
                        t->n_gateways > GATEWAY_PLACES_MAX || t->n_gateway_slots < t->n_gateways ||
                        t->n_gateway_slots > GATEWAY_SLOTS_MAX)
                return -EPROTO;
        if (t->n_procs != topology_proc_watch(t) + 1 || t->n_rings > RINGS_MAX)
                return -EPROTO;
        for (uint32_t p = 0; p < t->n_procs; p++)
                if (!proc_is_sound(t, p))
                        return -EPROTO;
        for (uint32_t i = 0; i < t->n_rings; i++)
                if (!ring_is_sound(t, i))
                        return -EPROTO;
        return 0;
}
