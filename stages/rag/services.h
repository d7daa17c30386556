/*
 * services -- rag.embeddings and rag.rerank, as the threads of retrieval ask them.
 *
 * Shape   one struct services a process, one struct services_thread a thread; what came of a question's
 *         asking is written into struct services_said and counted by the loop, whose the counters are
 * Units   as in the settings
 * Owner   whoever called services_new(); it is never freed, since threads may be asking
 * Errors  0, -errno; a service that cannot be used is logged and not asked
 * Limits  SERVICES_FAILURES within SERVICES_WINDOW_S keep questions away for SERVICES_OPEN_MS, then one
 *         may try
 */
#pragma once

#include <stdint.h>

#include "shm/counters.h"
#include "stages/common/settings.h"
#include "stages/engines/vectors/hybrid.h"

#define SERVICES_N 2u /* by enum remote_kind */
#define SERVICES_FAILURES 5u
#define SERVICES_WINDOW_S 60u
#define SERVICES_OPEN_MS 10000u

enum services_outcome { SERVICE_UNASKED, SERVICE_OK, SERVICE_TIMEOUT, SERVICE_ERROR, SERVICE_UNFIT, SERVICE_SKIPPED };

struct services_said {
        uint8_t outcome[SERVICES_N]; /* enum services_outcome */
        char why[SERVICES_N][256];
};

struct services;

struct services_thread {
        struct services *services; /* NULL: none is configured */
        struct services_said *said;
        struct hybrid_conf conf;
};

/* *ret stays NULL where the settings name none. Before any thread. */
int services_new(struct services **ret, const struct settings *s);
/* NULL: out of memory. */
struct hybrid *services_hybrid(struct services_thread *thread, const char *folder);
/* Of the next question, what came of it goes there. */
void services_begin(struct services_thread *thread, struct services_said *said);
/* On the loop, once for each question; a log line for each change. services may be NULL. */
void services_count(struct services *services, const struct services_said *said,
                struct counters_shm *counters);
