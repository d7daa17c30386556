/*
 * attempt -- which worker answers a request, and what happens when it cannot.
 *
 * Shape   functions over struct flight; limits and breakers live in struct backend
 * Units   milliseconds in settings, nanoseconds inside
 * Owner   a flight holds at most one place at one backend
 * Errors  none returned: a request that nobody can answer ends with flight_fail()
 * Limits  inference.retry: attempts in total, a wait that doubles, and a budget of second attempts;
 *         a backend's own words of less than ATTEMPT_OWN_MAX bytes
 *
 * The model's workers are tried in order of preference. A failure before anything was emitted goes
 * to the next one at once, for another backend is better than waiting; when the list is at its end
 * and attempts are left, it starts anew after a wait. A backend with no free place makes requests
 * wait in line here; one whose breaker is open is passed over.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/record.h"

struct flight;
struct inference;

#define ATTEMPT_OWN_MAX 128u

/* What a backend calls its refusal, with its NUL; "": it does not say. */
struct attempt_own {
        char code[ATTEMPT_OWN_MAX], param[ATTEMPT_OWN_MAX];
};

struct attempt_failure {
        enum mr_error code;
        bool retry;     /* the same backend may well answer next time */
        bool fall_back; /* another backend may answer */
        bool blame;     /* counts against the backend */
        uint64_t retry_after_ms;
        struct attempt_own own;
};

void attempt_first(struct flight *f);
/* A place became free for this flight. */
void attempt_granted(struct flight *f);
/* The worker's attempt failed; it has let go of everything already. */
__attribute__((format(printf, 3, 4))) void attempt_failed(
                struct flight *f, const struct attempt_failure *failure, const char *format, ...);
/* The answer is complete. */
void attempt_succeeded(struct flight *f);
/* Lets go: a running worker's cancel() is called, the place is given on. */
void attempt_abandon(struct flight *f);
