#include "pages.h"

#include <check.h>
#include <stdlib.h>

#define LANES 2u
#define SLOTS 2u

static void add_proc(struct pages *pages, enum mr_role role, uint32_t lane, uint32_t slot) {
        struct topology_shm *t = pages->topology;

        t->procs[t->n_procs++] = (struct topology_proc){.role = role, .lane = lane, .slot = slot};
}

static void add_page(struct pages *pages, uint32_t p) {
        struct counters_shm *page = aligned_alloc(LAYOUT_SEPARATION, sizeof(*page));

        ck_assert_ptr_nonnull(page);
        *page = (struct counters_shm){0};
        counters_format(page);
        atomic_store(&page->epoch, 1);
        atomic_store(&page->heartbeat_ns, PAGES_NOW_NS - 1);
        pages->page[p] = page;
}

struct pages pages_new(void) {
        struct pages pages = {
                        .topology = aligned_alloc(LAYOUT_SEPARATION, sizeof(struct topology_shm))};
        struct topology_shm *t = pages.topology;

        ck_assert_ptr_nonnull(t);
        *t = (struct topology_shm){.n_lanes = LANES, .n_gateways = 1, .n_gateway_slots = SLOTS};
        for (uint32_t slot = 0; slot < SLOTS; slot++)
                add_proc(&pages, ROLE_GATEWAY, 0, slot);
        for (uint32_t lane = 0; lane < LANES; lane++)
                for (uint32_t role = 0; role < LANE_STAGES_N; role++) {
                        t->rings[t->n_rings] = (struct topology_ring){.id = t->n_rings + 1,
                                        .kind = RING_DATA,
                                        .lane = lane,
                                        .to = t->n_procs,
                                        .bound = 100 * (role + 1)};
                        t->n_rings++;
                        add_proc(&pages, role, lane, 0);
                }
        add_proc(&pages, ROLE_TELEMETRY, 0, 0);
        add_proc(&pages, ROLE_WATCH, 0, 0);
        for (uint32_t p = 0; p < t->n_procs; p++)
                if (p != topology_proc_gateway(1))
                        add_page(&pages, p);
        pages.figures = (struct figures){
                        .topology = t, .now_ns = PAGES_NOW_NS, .heartbeat_timeout_ns = 10000000000,
                        .watched = true};
        return pages;
}

void pages_close(struct pages *pages) {
        for (uint32_t p = 0; p < PROCS_MAX; p++)
                free(pages->page[p]);
        free(pages->topology);
}

struct counters_shm *pages_stage(struct pages *pages, uint32_t lane, enum mr_role role) {
        return pages->page[topology_proc_stage(pages->topology, lane, role)];
}
