/*
 * database -- the store, on a thread of its own: the loop hands over jobs and never waits for a disk.
 *
 * Shape   jobs are queued to the thread; what has come together is one transaction (group commit);
 *         finished ones come back by database_done() after the bell was rung
 * Units   bytes; milliseconds of the wall clock in the file
 * Owner   a job belongs to whoever holds it: caller, thread from database_submit() on, caller again from
 *         database_done() on; database_job_free() takes its events too
 * Errors  a job's status; the state of the whole by database_state()
 * Limits  DATABASE_BATCH jobs a transaction; nothing is dropped: the caller bounds what it hands over
 *
 *   CLOSED --(there is a file, or a job needs one)--> OPEN --(a transaction fails)--> FAILED
 *   FAILED --(once a second: a transaction of one row works)--> OPEN
 */
#pragma once

#include <sys/queue.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/log.h"
#include "stages/engines/store/store.h"
#include "stages/stream/response_log.h"

#define DATABASE_BATCH 256u

enum database_task {
        /* A response with its events, or with outcome 0 a part of them: it has not ended. A dead letter. A turn
         * of a session. Or several of these. */
        DATABASE_STORE,
        DATABASE_LOAD,  /* the newest response of an id */
};

enum database_status {
        DATABASE_DONE,
        DATABASE_ABSENT, /* LOAD: no such id */
        DATABASE_FAILED,
};

struct database_letter {
        struct response_letter cause;
        uint32_t body_len, record_len; /* of `bytes`, in this order; both 0: they could not be had */
        uint8_t bytes[];
};

/* An exchange of a session: what was asked; its answer is in the events. */
struct database_turn {
        char *answer; /* owned; made by the thread. NULL: not yet, or nothing was said */
        uint32_t answer_len;
        bool goes_on; /* no turn begins here */
        bool begun;   /* the first events are in the database */
        bool lost;    /* by the thread: the events are gone */
        uint32_t name_len, asked_len; /* of `bytes`, in this order */
        char bytes[];
};

struct database_job {
        STAILQ_ENTRY(database_job) next;
        enum database_task task;
        enum database_status status;
        void *owner; /* the caller's own */
        uint64_t req_id;
        uint32_t response; /* STORE: where the caller has it */
        uint64_t run;      /* STORE: the input that began it, or began it anew */
        uint64_t outcome;
        uint64_t digest[2];
        uint16_t id_len, tenant_len;
        char id[LOG_ID_MAX];
        char tenant[LOG_TENANT_MAX];
        uint8_t *events; /* struct log_event_head, payload, padding to 8; as often as there are events */
        uint64_t events_bytes;
        bool result; /* STORE: the events are to be stored, as those of a result */
        struct database_letter *letter; /* owned; NULL: none */
        struct database_turn *turn;     /* likewise */
};

struct worker;

struct database_options {
        struct worker *w; /* whose fault points these are */
        const char *path;
        bool full;
        uint64_t checked; /* number of this instance's memory: each is checked once */
        uint64_t ttl_s, session_ttl_s;
        uint64_t session_turns; /* that are kept of a session */
        uint64_t letters_max;
        uint32_t lane;
        uint64_t join_bytes; /* what is larger is loaded with its deltas joined (join.h) */
        bool expires; /* this one forgets old results */
        int bell;
        struct log_shm *log; /* whose table of ids is filled */
};

struct database;

int database_new(struct database **ret, const struct database_options *options);
/* Its thread runs from now on, or from the first job on. 0, -errno: there is none, and jobs wait for it. */
int database_start(struct database *db);
/* Ends the thread once it has done what it holds; jobs that nobody took are freed. NULL: no-op. */
struct database *database_free(struct database *db);

struct database_job *database_job_new(enum database_task task, uint64_t events_bytes);
struct database_job *database_job_free(struct database_job *job);
void database_submit(struct database *db, struct database_job *job);
/* A finished job, or NULL. */
struct database_job *database_done(struct database *db);

/* CLOCK_MONOTONIC of when the thread took what it is at; 0: it waits for work. */
uint64_t database_since_ns(const struct database *db);

struct database_state {
        bool failed;
        bool aside;               /* a broken file was found */
        char why[STORE_WHY_MAX];  /* of the failure, or of what is broken */
        char name[STORE_WHY_MAX]; /* that the broken file has now */
};
/* True: it has changed since it was asked last. */
bool database_state(struct database *db, struct database_state *ret);
