/*
 * pages -- a topology of two lanes and two gateway slots (one of them the spare), with counters
 *          pages.
 *
 * Owner   pages_new() and pages_close(), the test
 */
#pragma once

#include "stages/telemetry/figures.h"

#define PAGES_NOW_NS UINT64_C(100000000000)

struct pages {
        struct topology_shm *topology;
        struct counters_shm *page[PROCS_MAX];
        struct figures figures;
};

/* Every process is in its first incarnation and has just given a sign of life; the spare has no
 * page. */
struct pages pages_new(void);
void pages_close(struct pages *pages);
struct counters_shm *pages_stage(struct pages *pages, uint32_t lane, enum mr_role role);
