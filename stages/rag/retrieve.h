/*
 * retrieve -- index queries on threads of their own, so that a slow disk never stops the loop.
 *
 * Shape   a fixed pool of jobs; submitted ones are queued to the threads, finished ones come back by
 *         retrieve_done() after the owner's doorbell was rung
 * Units   nanoseconds of CLOCK_MONOTONIC
 * Owner   a job belongs to the pool, to a thread while it runs, to the caller from retrieve_done() until
 *         retrieve_release(); its result lives as long
 * Errors  0, -errno; a job's `status` is 0 or what index.h says
 * Limits  as question.h; one index reader a thread
 *
 * The one lock of the stage stands here: handing a query to a thread costs far more than taking it.
 */
#pragma once

#include <sys/queue.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/slab.h"
#include "stages/rag/question.h"
#include "stages/rag/services.h"

#define RETRIEVE_THREADS SLAB_ASIDE

struct retrieve;

struct retrieve_job {
        /* Set by the caller before retrieve_submit(): */
        uint32_t slot;
        uint32_t k;
        uint64_t req_id; /* whom a crash of the thread is blamed on */
        uint64_t start_ns;
        uint64_t deadline_ns;
        struct question question;
        bool abandoned; /* the caller went on without it; only its return is awaited */
        /* Set by the thread: */
        int status;
        struct index_error error;
        struct index_result *result;
        struct services_said said;
        STAILQ_ENTRY(retrieve_job) next;
};

/* bell: an eventfd to ring when a job is done, not owned. No thread runs yet. */
int retrieve_new(struct retrieve **ret, const char *index_path, const struct settings *settings,
                uint32_t n_jobs, int bell);
/* slab: where the threads say whose query they are at. */
int retrieve_start(struct retrieve *r, struct slab_shm *slab);
/* Is there anything at the index's path? Looked up at most once a second. */
bool retrieve_available(struct retrieve *r, uint64_t now_ns);
/* Was that last look at another folder than the one that retrieve_new() found, if any? Then this
 * process's sandbox does not let it in. */
bool retrieve_replaced(const struct retrieve *r);
/* A free job, or NULL: all are running. */
struct retrieve_job *retrieve_take(struct retrieve *r);
void retrieve_submit(struct retrieve *r, struct retrieve_job *job);
/* A finished job, or NULL. */
struct retrieve_job *retrieve_done(struct retrieve *r);
/* What came of asking the services, once for each job that is done. */
void retrieve_count(struct retrieve *r, const struct retrieve_job *job,
                struct counters_shm *counters);
void retrieve_release(struct retrieve *r, struct retrieve_job *job);
