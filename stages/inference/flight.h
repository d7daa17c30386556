/*
 * flight -- one running request, from its claim to its last record.
 *
 * Shape   one for each slot of the slab, at the slot's index; never allocated
 * Units   CLOCK_MONOTONIC nanoseconds, bytes
 * Owner   struct inference owns the array; a flight is in at most one list
 * Errors  none returned: what goes wrong with a request becomes its ERROR record
 * Limits  a message of FLIGHT_MESSAGE_MAX bytes; max_response_bytes of answer
 *
 *   FREE -(claim, attach)-> READY -(turn: flight_run; solo.h may hold it)-> RUNNING -(worker: flight_done, flight_fail;
 *   cancel, deadline: flight_fail)-> ENDING -(room in the ring)-> ENDED -(post's tail)-> FREE
 *   RUNNING, READY -(drain, nothing emitted)-> PARKED: the successor runs it from the slab
 *
 * One that attach finds with a part of its answer out ends in worker_restarted. A detached one that nobody
 * has read runs anew instead, behind a RESTART; stream has the last word, for a reader may just come.
 *
 * A worker's view: start() is called once per attempt. It answers with emit_*() and ends with
 * flight_done() or attempt_failed(); when emit_*() says EMIT_E_FULL it calls flight_wait() and goes
 * on in resume(). cancel() makes it let go of everything at once; nothing of it runs afterwards.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/loop.h"
#include "stages/common/record.h"
#include "stages/engines/tokens/tokens.h"
#include "stages/inference/attempt.h"
#include "stages/inference/workers/worker.h"

#define FLIGHT_MESSAGE_MAX 512u

struct inference;
struct backend;
struct route;
struct ring_msg;

enum flight_state {
        FLIGHT_FREE,
        FLIGHT_READY,
        FLIGHT_RUNNING,
        FLIGHT_ENDING,
        FLIGHT_ENDED,
        FLIGHT_PARKED
};

struct flight_list {
        struct flight *first, *last;
        uint32_t n;
};

struct flight_usage {
        bool counted; /* by the backend; else estimated */
        uint64_t prompt, completion, total;
};

/* Of an error dead_letter: which stage gave the request up, and why. */
struct flight_letter {
        uint8_t stage; /* enum mr_role */
        uint32_t strikes, signal;
};

struct flight {
        struct inference *inf;
        uint32_t slot;
        enum flight_state state;
        struct flight_list *in; /* the list that it is in, NULL: none */
        struct flight *next, *prev;
        bool restored; /* taken over from a dead incarnation */
        uint32_t first_ord; /* of this run's outputs: not 0 behind a RESTART */

        uint64_t req_id, t0;
        enum record_endpoint endpoint;
        uint64_t claim_ns, first_ns; /* first_ns 0: nothing emitted yet */
        uint64_t answer_bytes;       /* of text, of all kinds */
        struct tokens_count answer;  /* what that costs, where the backend does not count */
        struct loop_timer deadline;

        /* attempt.c */
        const struct route *route;
        struct backend *backend; /* whose slot it holds or waits for, NULL: none */
        bool holds;              /* counted in backend->busy */
        bool working;            /* between start() and its end: cancel() is due */
        bool probe;              /* the one that a half-open breaker let through */
        uint32_t place;          /* in the route */
        uint32_t n_attempts;
        struct loop_timer backoff;

        /* how it ends */
        enum mr_error code; /* MR_E_none: done */
        uint64_t retry_after_ms;
        struct attempt_own own;
        struct flight_letter letter;
        bool poisons; /* it is this stage that died of it */
        char finish[24];
        char message[FLIGHT_MESSAGE_MAX];
        struct flight_usage usage;
        char *extra; /* JSON members for the DONE record; the flight frees it */
        uint32_t extra_len;
        uint64_t passed_seq; /* post's tail must reach it before the slot is free */

        union worker_state u; /* of the worker that runs it */
};

void flight_list_push(struct flight_list *list, struct flight *f);
struct flight *flight_list_pop(struct flight_list *list);
void flight_list_remove(struct flight *f);

/* A claimed record: READY, with deadline and cancel marks looked at. */
void flight_claimed(struct inference *inf, uint32_t slot, const struct ring_msg *msg);
/* Attach found it in the slab, live and not done. */
void flight_restored(struct inference *inf, uint32_t slot);
/* Does what it can do now: start, go on, or end. */
void flight_run(struct flight *f);

/* The answer is complete. */
void flight_done(struct flight *f, const char *finish, uint32_t n);
/* It ends with an error; the worker (if one runs) lets go at once. */
__attribute__((format(printf, 4, 5))) void flight_fail(struct flight *f, enum mr_error code,
                uint64_t retry_after_ms, const char *format, ...);
/* Somebody wants it to end: enum cancel_reason. No-op when it has ended. */
void flight_cancel(struct flight *f, uint64_t reason);
/* No room in the ring: resume() is called when there is. */
void flight_wait(struct flight *f);
/* Its turn is over, others come first: resume() is called in the next turn. */
void flight_yield(struct flight *f);
/* Drain: what has emitted nothing is left to the successor. */
void flight_park(struct flight *f);
/* The process leaves: lets go of what runs, says nothing. */
void flight_drop(struct flight *f);
/* Was it cancelled in some gateway's table? */
bool flight_is_marked(const struct inference *inf, uint64_t req_id);
/* The request, decoded; views live until another flight's record is asked for. */
const struct record *flight_record(struct flight *f);
/* Anything emitted already, by this run? Then there is no second attempt. */
bool flight_has_begun(const struct flight *f);
/* Post has passed these: their slots are free. */
void flight_free_passed(struct inference *inf);
