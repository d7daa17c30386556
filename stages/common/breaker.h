/*
 * breaker -- leaves a backend alone that keeps failing, and tries it again with one request.
 *
 * Shape   the times of the last `failures` failures in a ring
 * Units   nanoseconds of any monotonic clock: the caller says what time it is
 * Owner   the caller; breaker_close() frees
 * Errors  0 or -ENOMEM
 * Limits  one probe at a time while half open
 *
 *   CLOSED -(failures within window)-> OPEN -(open_ns passed)-> HALF_OPEN -(probe ended well)->
 * CLOSED HALF_OPEN -(probe failed)-> OPEN; a probe that was cancelled says nothing: the next
 * request probes
 *
 * A request is scored when it has ended, not when its stream opened, so a backend that dies in the
 * middle of every answer is found out too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
        enum breaker_state state;
        uint64_t *failed_at; /* ring of max_failures times */
        uint32_t max_failures, n_failures, next;
        uint64_t window_ns, open_ns;
        uint64_t opened_at;
        bool probing;
};

int breaker_init(struct breaker *b, uint32_t failures, uint64_t window_ns, uint64_t open_ns);
void breaker_close(struct breaker *b);
/* May a request go there now? Every true is followed by exactly one of the three below. */
bool breaker_allow(struct breaker *b, uint64_t now);
void breaker_success(struct breaker *b);
/* True when this failure opened it. */
bool breaker_failure(struct breaker *b, uint64_t now);
/* The request ended without saying anything about the backend. */
void breaker_forget(struct breaker *b);
/* When the next request may try; 0: now. */
uint64_t breaker_wait_ns(const struct breaker *b, uint64_t now);
