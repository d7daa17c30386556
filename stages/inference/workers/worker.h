/*
 * worker -- what a kind of model worker is: three functions and some state in the flight.
 *
 * Shape   const struct worker_kind, one for each kind
 * Owner   the state is the flight's; what it points to is freed by cancel() or before the flight
 * ends Errors  start() returns nothing: what goes wrong is told to attempt_failed() or
 * flight_fail() Limits  a slice of work emits at most WORKER_SLICE records, then yields
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/loop.h"
#include "stages/inference/said.h"

#define WORKER_SLICE 32u
#define EXTRACT_PICKS 4u

struct flight;
struct openai_call;

struct worker_kind {
        const char *name;
        bool remote; /* has a backend: breaker, max_concurrency and retries apply */
        bool embeds; /* makes embeddings */
        void (*start)(struct flight *f);
        void (*resume)(struct flight *f);
        void (*cancel)(struct flight *f);
};

struct echo_state {
        struct said said;
        struct loop_timer timer;
};

/* Sentences lie in the request's record, which the slab keeps. */
struct extract_state {
        struct {
                const char *p;
                uint32_t n, number;
        } picks[EXTRACT_PICKS];
        uint32_t n_picks, pick, at;
};

struct openai_state {
        struct openai_call *call;
};

union worker_state {
        struct echo_state echo;
        struct extract_state extract;
        struct openai_state openai;
};

extern const struct worker_kind worker_echo, worker_extract, worker_openai;
