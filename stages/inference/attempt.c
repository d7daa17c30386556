#include "stages/inference/attempt.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/routes.h"

#define BUDGET_MAX 10.0

/* ---- places at a backend -------------------------------------------------------------------- */

/* The place goes to whoever waits longest; it starts in the turn, not from within another's end. */
static void place_release(struct flight *f) {
        struct backend *b = f->backend;
        struct flight *next;

        if (!f->holds)
                return;
        f->holds = false;
        b->busy--;
        next = flight_list_pop(&b->waiting);
        if (!next)
                return;
        b->busy++;
        next->holds = true;
        next->state = FLIGHT_READY;
        flight_list_push(&f->inf->runnable, next);
}

static void start(struct flight *f) {
        f->n_attempts++;
        f->state = FLIGHT_RUNNING;
        f->working = true;
        memset(&f->u, 0, sizeof(f->u));
        f->backend->kind->start(f);
}

void attempt_granted(struct flight *f) {
        start(f);
}

static void take(struct flight *f, struct backend *b) {
        f->backend = b;
        f->probe = b->kind->remote && b->breaker.state == BREAKER_HALF_OPEN;
        f->state = FLIGHT_RUNNING;
        if (b->kind->remote && b->busy >= b->limit) {
                flight_list_push(&b->waiting, f);
                return;
        }
        if (b->kind->remote) {
                b->busy++;
                f->holds = true;
        }
        start(f);
}

static bool suits(const struct flight *f, const struct backend *b) {
        return b->kind->embeds || f->endpoint != ENDPOINT_EMBEDDINGS;
}

/* The first worker from `place` on that may be tried now. False: none. */
static bool try_from(struct flight *f, uint32_t place, uint64_t *ret_wait_ns) {
        for (; place < f->route->n_backends; place++) {
                struct backend *b = f->route->backends[place];
                uint64_t now = b->kind->remote ? clock_now_ns() : 0;
                if (b->unusable[0] || !suits(f, b))
                        continue;
                if (b->kind->remote && !breaker_allow(&b->breaker, now)) {
                        uint64_t wait = breaker_wait_ns(&b->breaker, now);
                        if (*ret_wait_ns == 0 || wait < *ret_wait_ns)
                                *ret_wait_ns = wait;
                        continue;
                }
                f->place = place;
                take(f, b);
                return true;
        }
        return false;
}

/* ---- failures ------------------------------------------------------------------------------- */

static void score(struct flight *f, bool blame) {
        struct backend *b = f->backend;

        if (blame && breaker_failure(&b->breaker, clock_now_ns()))
                log_warn("breaker_open", "worker=%s open_ms=%llu", b->settings->name,
                                (unsigned long long)(b->breaker.open_ns / NS_PER_MS));
        else if (!blame && f->probe)
                breaker_forget(&b->breaker);
        f->probe = false;
}

static void fail_unavailable(struct flight *f, uint64_t wait_ns) {
        const struct route *route = f->route;
        const struct backend *first = route->n_backends ? route->backends[0] : NULL;

        if (wait_ns)
                flight_fail(f, MR_E_upstream_error, wait_ns / NS_PER_MS + 1,
                                "every worker for this model has failed lately and is left alone "
                                "for now");
        else if (first && f->endpoint == ENDPOINT_EMBEDDINGS)
                flight_fail(f, MR_E_invalid_request, 0,
                                "model: no worker for it can make embeddings");
        else if (first)
                flight_fail(f, MR_E_upstream_error, 0, "worker %s cannot be used: %s",
                                first->settings->name, first->unusable);
        else
                flight_fail(f, MR_E_model_not_found, 0, "no worker answers for this model");
}

/* Wait before the next attempt: doubles from one to the next, less up to a quarter, so that those
 * who failed together do not come back together. */
static uint64_t backoff_ms(const struct flight *f) {
        const struct settings *s = f->inf->w->settings;
        uint64_t ms = s->inference.retry.base_ms;
        uint64_t spread;

        for (uint32_t i = 1; i < f->n_attempts && ms < s->inference.retry.cap_ms; i++)
                ms *= 2;
        if (ms > s->inference.retry.cap_ms)
                ms = s->inference.retry.cap_ms;
        spread = (f->req_id * UINT64_C(0x9e3779b97f4a7c15) >> 32) % (ms / 4 + 1);
        return ms - spread;
}

static void backoff_over(struct loop_timer *timer) {
        struct flight *f = timer->owner;
        uint64_t wait_ns = 0;

        slab_active(&f->inf->slab, f->slot);
        if (!try_from(f, 0, &wait_ns))
                fail_unavailable(f, wait_ns);
        slab_active(&f->inf->slab, SLAB_NONE);
}

/* Another round through the list, if there is still something to be hoped for. */
static bool again(struct flight *f, const struct attempt_failure *failure) {
        const struct settings *s = f->inf->w->settings;
        struct routes *routes = f->inf->routes;
        uint64_t ms = backoff_ms(f);

        if (!failure->retry || f->n_attempts >= s->inference.retry.attempts || routes->budget < 1.0)
                return false;
        if (failure->retry_after_ms > s->inference.retry.cap_ms)
                return false;
        if (failure->retry_after_ms > ms)
                ms = failure->retry_after_ms;
        routes->budget -= 1.0;
        f->backoff.fn = backoff_over;
        f->backoff.owner = f;
        loop_timer_set(f->inf->w->loop, &f->backoff, clock_now_ns() + ms * NS_PER_MS);
        return true;
}

void attempt_failed(
                struct flight *f, const struct attempt_failure *failure, const char *format, ...) {
        char message[FLIGHT_MESSAGE_MAX];
        uint64_t wait_ns = 0;
        va_list args;

        va_start(args, format);
        vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        counters_add(f->inf->w->counters,
                        failure->code == MR_E_upstream_timeout ? COUNTER_upstream_timeout
                                                               : COUNTER_upstream_error,
                        1);
        log_debug("attempt_failed", "worker=%s attempt=%u code=%s", f->backend->settings->name,
                        f->n_attempts, mr_error_name(failure->code));
        f->working = false;
        score(f, failure->blame);
        place_release(f);
        if (!flight_has_begun(f)) {
                if (failure->fall_back && try_from(f, f->place + 1, &wait_ns))
                        return;
                if (again(f, failure))
                        return;
        }
        f->own = failure->own;
        flight_fail(f, failure->code, failure->retry_after_ms, "%s", message);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

void attempt_first(struct flight *f) {
        struct routes *routes = f->inf->routes;
        uint64_t wait_ns = 0;

        routes->budget += f->inf->w->settings->inference.retry.budget_ratio;
        if (routes->budget > BUDGET_MAX)
                routes->budget = BUDGET_MAX;
        if (!try_from(f, 0, &wait_ns))
                fail_unavailable(f, wait_ns);
}

void attempt_succeeded(struct flight *f) {
        f->working = false;
        if (f->backend->kind->remote) {
                breaker_success(&f->backend->breaker);
                counters_add(f->inf->w->counters, COUNTER_upstream_ok, 1);
        }
        f->probe = false;
        place_release(f);
}

void attempt_abandon(struct flight *f) {
        loop_timer_clear(f->inf->w->loop, &f->backoff);
        if (!f->backend)
                return;
        if (f->working) {
                f->working = false;
                f->backend->kind->cancel(f);
                if (f->backend->kind->remote)
                        counters_add(f->inf->w->counters, COUNTER_upstream_cancelled, 1);
        }
        score(f, false);
        flight_list_remove(f);
        place_release(f);
}
