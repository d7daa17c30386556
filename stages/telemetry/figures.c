#include "stages/telemetry/figures.h"

#include <string.h>

static uint32_t n_procs(const struct figures *f) {
        return f->topology->n_procs < PROCS_MAX ? f->topology->n_procs : PROCS_MAX;
}

/* The page of process p, if it has one and is one of those. */
static const struct counters_shm *page_of(
                const struct figures *f, uint32_t p, enum mr_role role, uint32_t lane) {
        const struct topology_proc *proc = &f->topology->procs[p];

        if (role != FIGURES_ROLE_ANY && proc->role != (uint32_t)role)
                return NULL;
        if (lane != FIGURES_LANE_ANY && proc->lane != lane)
                return NULL;
        return f->pages[p];
}

/* A crash handler's last words are cleared by the next incarnation; a SIGKILL leaves none, and its
 * heartbeat grows old. */
static bool page_up(const struct figures *f, const struct counters_shm *page) {
        uint64_t beat = atomic_load_explicit(&page->heartbeat_ns, memory_order_relaxed);

        if (!beat || atomic_load_explicit(&page->crash_signal, memory_order_relaxed))
                return false;
        return beat >= f->now_ns || f->now_ns - beat < f->heartbeat_timeout_ns;
}

/* What a process took with it when it died. Requests and log stay where they are. */
static bool dies_with_process(enum counter which) {
        return which == COUNTER_connections || which == COUNTER_connections_socket ||
               which == COUNTER_connections_http || which == COUNTER_door_waiting ||
               which == COUNTER_door_bytes;
}

uint64_t figures_sum(
                const struct figures *f, enum mr_role role, uint32_t lane, enum counter which) {
        uint64_t sum = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (page && (!dies_with_process(which) || page_up(f, page)))
                        sum += counters_get(page, which);
        }
        return sum;
}

uint64_t figures_redactions(const struct figures *f, uint32_t entity) {
        uint64_t sum = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, ROLE_POST, FIGURES_LANE_ANY);
                if (!page)
                        page = page_of(f, p, ROLE_ASSEMBLE, FIGURES_LANE_ANY);
                if (page)
                        sum += atomic_load_explicit(&page->redactions[entity], memory_order_relaxed);
        }
        return sum;
}

static bool row_of(const struct figures *f, uint32_t i, struct calibration *ret) {
        uint32_t p = i / CALIBRATION_MODELS;
        const struct counters_shm *page =
                        p < n_procs(f) ? page_of(f, p, ROLE_INFERENCE, FIGURES_LANE_ANY) : NULL;

        return page && calibration_read(&page->calibration.row[i % CALIBRATION_MODELS], ret);
}

bool figures_calibration(const struct figures *f, uint32_t i, struct calibration *ret) {
        struct calibration before;

        if (!row_of(f, i, ret))
                return false;
        for (uint32_t k = 0; k < i; k++)
                if (row_of(f, k, &before) && memcmp(before.name, ret->name, sizeof(ret->name)) == 0)
                        return false;
        return true;
}

void figures_histogram(const struct figures *f, enum mr_role role, uint32_t lane,
                enum histogram which, struct figures_histogram *ret) {
        *ret = (struct figures_histogram){0};
        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (!page)
                        continue;
                for (uint32_t i = 0; i < COUNTERS_BUCKETS; i++)
                        ret->bucket[i] += atomic_load_explicit(
                                        &page->histogram[which].bucket[i], memory_order_relaxed);
                ret->sum_ns += atomic_load_explicit(
                                &page->histogram[which].sum_ns, memory_order_relaxed);
        }
        for (uint32_t i = 0; i < COUNTERS_BUCKETS; i++)
                ret->count += ret->bucket[i];
}

double figures_quantile_s(const struct figures_histogram *h, double part) {
        double wanted = part * (double)h->count, so_far = 0;

        for (uint32_t i = 0; h->count && i < COUNTERS_BUCKETS; i++) {
                so_far += (double)h->bucket[i];
                if (so_far >= wanted)
                        return (double)(COUNTERS_BUCKET_NS << i) / 1e9;
        }
        return 0;
}

uint64_t figures_in_flight(const struct figures *f, uint32_t lane) {
        uint64_t sum = 0;

        for (uint32_t p = 0; p < n_procs(f) && lane < LANES_MAX; p++) {
                const struct counters_shm *page = page_of(f, p, ROLE_GATEWAY, FIGURES_LANE_ANY);
                if (page)
                        sum += atomic_load_explicit(
                                        &page->lane_in_flight[lane], memory_order_relaxed);
        }
        return sum;
}

/* How many processes of a role should run: gateways have a spare slot. */
static uint32_t n_wanted(const struct figures *f, enum mr_role role) {
        return role == ROLE_GATEWAY ? f->topology->n_gateways : 1;
}

bool figures_up(const struct figures *f, enum mr_role role, uint32_t lane) {
        uint32_t n = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (page && page_up(f, page))
                        n++;
        }
        return n > 0 && n >= n_wanted(f, role);
}

uint64_t figures_restarts(const struct figures *f, enum mr_role role, uint32_t lane) {
        uint64_t incarnations = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (page)
                        incarnations += atomic_load_explicit(&page->epoch, memory_order_relaxed);
        }
        return incarnations > n_wanted(f, role) ? incarnations - n_wanted(f, role) : 0;
}

uint64_t figures_crashes(const struct figures *f, enum mr_role role, uint32_t lane) {
        uint64_t sum = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (page)
                        sum += atomic_load_explicit(&page->crashes, memory_order_relaxed);
        }
        return sum;
}

uint64_t figures_recycles(const struct figures *f, enum mr_role role, uint32_t lane) {
        uint64_t sum = 0;

        for (uint32_t p = 0; p < n_procs(f); p++) {
                const struct counters_shm *page = page_of(f, p, role, lane);
                if (page)
                        sum += atomic_load_explicit(&page->recycles, memory_order_relaxed);
        }
        return sum;
}

uint64_t figures_ring_capacity(const struct figures *f, enum mr_role role, uint32_t lane) {
        for (uint32_t i = 0; i < f->topology->n_rings && i < RINGS_MAX; i++) {
                const struct topology_ring *ring = &f->topology->rings[i];
                if (ring->kind == RING_DATA && ring->lane == lane && ring->to < n_procs(f) &&
                                f->topology->procs[ring->to].role == (uint32_t)role)
                        return ring->bound;
        }
        return 0;
}
