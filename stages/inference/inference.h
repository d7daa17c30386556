/*
 * inference -- the third stage: who answers, and what the answer is.
 *
 * Shape   struct inference: the stage's own state; one struct flight for each slot of the slab
 * Units   CLOCK_MONOTONIC nanoseconds
 * Owner   the process; single-threaded
 * Errors  named by each module
 * Limits  slots = admission.max_in_flight; TURN_RECORDS claims a turn
 *
 * A request's way through the files:
 *   inference.c claims it -> flight.c starts it -> routes.c says which workers answer for its model
 * -> attempt.c picks one -> workers/{echo,extract,openai}.c answer -> emit.c writes the records
 */
#pragma once

#include "stages/common/stage.h"
#include "stages/inference/flight.h"

#define INFERENCE_WINDOW 4096u
#define INFERENCE_SOURCES_MAX 128u
#define INFERENCE_SOURCE_FIELDS 7u

struct routes;
struct upstream;
struct chunk_parser;
struct openai_pool;

struct inference_claim {
        uint64_t seq;
        uint32_t slot;
};

struct inference {
        struct worker *w;
        struct ring_rx *rx;
        struct ring_tx *tx;
        struct worker_out *out;
        struct slab slab;
        struct flight *flights;      /* by slot */
        struct flight_list runnable; /* want to run: new, or waiting for room */
        struct flight_list suspects; /* with strikes: run one after the other, each alone (solo.h) */
        struct flight_list held;     /* new, until no suspect is left */
        struct flight *alone;        /* the suspect that runs, NULL: none */
        uint64_t struck_seq;         /* a record in the ring that is to be claimed before anybody runs */
        uint64_t given_up;           /* a request whose dead letter is in this batch, 0: none */
        uint32_t given_up_strikes;
        struct flight_list ended;    /* their last record is out; post has not passed it yet */
        uint32_t n_open;             /* flights that have not ended */
        bool full;                   /* the output ring had no room: nobody overtakes who waits */
        bool starved;                /* a request waits in the ring for a slot or for extents */
        bool awaiting;               /* armed for post's tail */

        struct routes *routes;
        struct upstream *upstream; /* NULL: no worker needs it */
        struct openai_pool *openai;

        struct inference_claim claims[TURN_RECORDS]; /* taken, not acked */
        uint32_t n_claims;

        struct record_decoder controls; /* of the control rings, so that `record` stays valid */
        struct record record;           /* the request of slot record_slot, decoded */
        uint32_t record_slot;
        struct record made; /* the output record at hand */

        uint8_t window[INFERENCE_WINDOW]; /* bytes [window_off, + window_len) of that slot's body */
        uint32_t window_slot, window_off, window_len;

        msgpack_object sources[INFERENCE_SOURCES_MAX][INFERENCE_SOURCE_FIELDS];
        msgpack_object source_rows[INFERENCE_SOURCES_MAX];
        msgpack_object source_list;
};

extern const struct stage_ops inference_ops;
