/*
 * openai -- a worker that speaks OpenAI's dialect to a backend.
 *
 * Bytes come from curl in the loop's callbacks and go through the event parser straight into the
 * batch. When the ring is full the event at hand waits, what curl had handed over waits behind it,
 * and curl is told to stop reading: the backend feels it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "stages/inference/attempt.h"
#include "stages/inference/inference.h"
#include "stages/inference/openai.h"
#include "stages/inference/openai_request.h"
#include "stages/inference/request_body.h"
#include "stages/inference/routes.h"

#define KEEP_BYTES (64u << 10) /* a pooled call keeps buffers up to this */
#define RAW_MORE 8192u         /* the limit is looked at when the model's name is the public one */

/* ---- memory --------------------------------------------------------------------------------- */

int openai_bytes_add(struct openai_bytes *b, const char *p, uint32_t n) {
        uint64_t cap = b->cap ? b->cap : 1024;
        char *bigger;

        while (cap < (uint64_t)b->n + n)
                cap *= 2;
        if (cap > UINT32_MAX)
                return -1;
        if (cap != b->cap) {
                bigger = realloc(b->p, cap);
                if (!bigger)
                        return -1;
                b->p = bigger;
                b->cap = (uint32_t)cap;
        }
        if (n)
                memcpy(b->p + b->n, p, n);
        b->n += n;
        return 0;
}

static void bytes_forget(struct openai_bytes *b) {
        b->n = 0;
        if (b->cap <= KEEP_BYTES)
                return;
        free(b->p);
        *b = (struct openai_bytes){0};
}

static void bytes_free(struct openai_bytes *b) {
        free(b->p);
        *b = (struct openai_bytes){0};
}

static struct openai_call *call_new(struct openai_pool *pool) {
        struct openai_call *call = pool->free;

        if (call) {
                pool->free = call->next;
                return call;
        }
        call = calloc(1, sizeof(*call));
        if (call)
                sse_init(&call->sse, SSE_EVENT_BYTES_MAX);
        return call;
}

static void call_forget(struct openai_call *call) {
        struct openai_call clean = {.sse = call->sse};

        if (clean.sse.data_cap > KEEP_BYTES) {
                sse_close(&clean.sse);
                sse_init(&clean.sse, SSE_EVENT_BYTES_MAX);
        }
        sse_reset(&clean.sse);
        bytes_forget(&call->rest);
        bytes_forget(&call->whole);
        bytes_forget(&call->extra);
        bytes_forget(&call->last);
        bytes_forget(&call->details);
        clean.rest = call->rest;
        clean.whole = call->whole;
        clean.extra = call->extra;
        clean.last = call->last;
        clean.details = call->details;
        *call = clean;
}

void openai_release(struct openai_call *call, bool linger) {
        struct flight *f = call->f;
        struct inference *inf = f->inf;

        loop_timer_clear(inf->w->loop, &call->timer);
        if (call->http && linger)
                upstream_linger(call->http);
        else if (call->http)
                upstream_cancel(call->http);
        f->u.openai.call = NULL;
        call_forget(call);
        call->next = inf->openai->free;
        inf->openai->free = call;
}

int openai_pool_new(struct openai_pool **ret) {
        struct openai_pool *pool = calloc(1, sizeof(*pool));
        int r;

        if (!pool)
                return -ENOMEM;
        r = chunk_new(&pool->chunks);
        if (r) {
                free(pool);
                return r;
        }
        *ret = pool;
        return 0;
}

struct openai_pool *openai_pool_free(struct openai_pool *pool) {
        if (!pool)
                return NULL;
        while (pool->free) {
                struct openai_call *call = pool->free;
                pool->free = call->next;
                sse_close(&call->sse);
                bytes_free(&call->rest);
                bytes_free(&call->whole);
                bytes_free(&call->extra);
                bytes_free(&call->last);
                bytes_free(&call->details);
                free(call);
        }
        chunk_free(pool->chunks);
        free(pool);
        return NULL;
}

/* ---- clocks --------------------------------------------------------------------------------- */

static void time_out(struct openai_call *call, const char *what, uint64_t ms, bool retry) {
        struct flight *f = call->f;

        openai_release(call, false);
        attempt_failed(f,
                        &(struct attempt_failure){.code = MR_E_upstream_timeout,
                                        .retry = retry,
                                        .fall_back = true,
                                        .blame = true},
                        "worker %s: %s %llu ms", f->backend->settings->name, what,
                        (unsigned long long)ms);
}

/* One timer for the clock that runs out first. Silence that our own full ring made is not the
 * backend's. */
static void clock_check(struct openai_call *call) {
        const struct settings_worker *s = call->f->backend->settings;
        uint64_t now = clock_now_ns();
        uint64_t total = call->started_ns + s->timeouts.total_ms * NS_PER_MS;
        uint64_t quiet =
                        call->got_token ? call->last_ns + s->timeouts.idle_ms * NS_PER_MS
                                        : call->started_ns + s->timeouts.first_token_ms * NS_PER_MS;

        if (call->waits || call->rest.n)
                quiet = now + s->timeouts.idle_ms * NS_PER_MS;
        if (now >= total)
                time_out(call, "the answer took longer than", s->timeouts.total_ms, false);
        else if (now >= quiet && call->got_token)
                time_out(call, "silence for more than", s->timeouts.idle_ms, false);
        else if (now >= quiet)
                time_out(call, "no first token within", s->timeouts.first_token_ms, false);
        else
                loop_timer_set(call->f->inf->w->loop, &call->timer, total < quiet ? total : quiet);
}

static void timer_over(struct loop_timer *timer) {
        struct openai_call *call = timer->owner;
        struct slab *slab = &call->f->inf->slab;

        slab_active(slab, call->f->slot);
        clock_check(call);
        slab_active(slab, SLAB_NONE);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static enum openai_step too_large(struct openai_call *call) {
        struct flight *f = call->f;

        openai_release(call, false);
        attempt_failed(f, &(struct attempt_failure){.code = MR_E_upstream_error, .blame = true},
                        "worker %s: an event or a body of its answer is over the limit",
                        f->backend->settings->name);
        return OPENAI_OVER;
}

/* Events out of [*at, end) until one has to wait or the attempt is over. */
static enum openai_step pump(struct openai_call *call, const char **at, const char *end) {
        enum openai_step step = OPENAI_ON;

        while (step == OPENAI_ON) {
                int r = sse_next(&call->sse, at, end, &call->event);
                if (r == SSE_MORE)
                        return OPENAI_ON;
                if (r != SSE_EVENT)
                        return too_large(call);
                call->last_ns = loop_now_ns(call->f->inf->w->loop);
                step = openai_event(call);
        }
        return step;
}

static void mode_set(struct openai_call *call) {
        const char *type = upstream_content_type(call->http);

        call->status = upstream_status(call->http);
        if (call->status < 200 || call->status >= 300)
                call->mode = OPENAI_ERROR;
        else if (call->f->endpoint == ENDPOINT_EMBEDDINGS)
                call->mode = OPENAI_RAW;
        else
                call->mode = strncasecmp(type, "application/json", 16) == 0 ? OPENAI_WHOLE
                                                                            : OPENAI_STREAM;
}

static enum upstream_take take_whole(struct openai_call *call, const char *bytes, uint32_t n) {
        uint64_t limit = call->mode == OPENAI_RAW
                                         ? call->f->inf->w->settings->admission.max_response_bytes +
                                                           RAW_MORE
                                         : SSE_EVENT_BYTES_MAX;

        if (call->mode == OPENAI_ERROR) {
                limit = OPENAI_ERROR_BODY_MAX;
                if (n > limit - call->whole.n)
                        n = (uint32_t)limit - call->whole.n; /* its beginning says enough */
        }
        if (n > limit - call->whole.n || openai_bytes_add(&call->whole, bytes, n))
                (void)too_large(call);
        return UPSTREAM_TAKEN;
}

static enum upstream_take take_stream(struct openai_call *call, const char *bytes, uint32_t n) {
        const char *at = bytes, *end = bytes + n;

        if (pump(call, &at, end) != OPENAI_WAIT)
                return UPSTREAM_TAKEN;
        if (openai_bytes_add(&call->rest, at, (uint32_t)(end - at)))
                (void)too_large(call);
        return UPSTREAM_TAKEN;
}

static enum upstream_take on_bytes(void *ctx, const char *bytes, uint32_t n) {
        struct openai_call *call = ctx;
        struct slab *slab = &call->f->inf->slab;
        enum upstream_take take;

        if (call->waits || call->rest.n)
                return UPSTREAM_LATER;
        slab_active(slab, call->f->slot);
        if (call->mode == OPENAI_HEAD)
                mode_set(call);
        take = call->mode == OPENAI_STREAM ? take_stream(call, bytes, n)
                                           : take_whole(call, bytes, n);
        slab_active(slab, SLAB_NONE);
        return take;
}

/* The response is over, and nothing of it waits: what is left without its blank line, then the
 * verdict. */
static void settle(struct openai_call *call) {
        if (call->mode == OPENAI_STREAM && sse_finish(&call->sse, &call->event) == SSE_EVENT &&
                        openai_event(call) != OPENAI_ON)
                return;
        if (call->mode == OPENAI_RAW && call->code == CURLE_OK) {
                (void)openai_raw(call);
                return;
        }
        if (call->mode == OPENAI_WHOLE && call->whole.n) {
                call->event = (struct sse_event){
                                .data = call->whole.p, .data_len = call->whole.n, .name = ""};
                call->mode = OPENAI_STREAM; /* one event, and no more of it */
                if (openai_event(call) != OPENAI_ON)
                        return;
        }
        openai_conclude(call);
}

static void on_end(void *ctx, CURLcode code) {
        struct openai_call *call = ctx;
        struct slab *slab = &call->f->inf->slab;

        if (call->mode == OPENAI_HEAD)
                mode_set(call);
        call->retry_after_ms = upstream_retry_after_ms(call->http);
        if (call->mode == OPENAI_ERROR && call->status == 0)
                call->mode = OPENAI_HEAD; /* there was no head */
        call->http = NULL;
        call->ended = true;
        call->code = code;
        if (call->waits || call->rest.n)
                return;
        slab_active(slab, call->f->slot);
        settle(call);
        slab_active(slab, SLAB_NONE);
}

/* ---- the worker ----------------------------------------------------------------------------- */

static void openai_resume(struct flight *f) {
        struct openai_call *call = f->u.openai.call;
        const char *at, *end;

        if (call->mode == OPENAI_RAW) {
                (void)openai_raw(call);
                return;
        }
        if (call->waits && openai_event(call) != OPENAI_ON)
                return;
        if (call->rest.n) {
                enum openai_step step;
                at = call->rest.p + call->rest_at;
                end = call->rest.p + call->rest.n;
                step = pump(call, &at, end);
                if (step == OPENAI_OVER)
                        return;
                call->rest_at = (uint32_t)(at - call->rest.p);
                if (step == OPENAI_WAIT)
                        return;
                call->rest.n = call->rest_at = 0;
        }
        call->last_ns = clock_now_ns();
        if (call->ended)
                settle(call);
        else
                upstream_resume(call->http);
}

static void fail_start(struct flight *f, int r) {
        if (r == REQUEST_BODY_E_GONE)
                flight_fail(f, MR_E_cancelled, 0, "the request has ended already");
        else if (r == -ENOMEM)
                attempt_failed(f,
                                &(struct attempt_failure){
                                                .code = MR_E_overloaded, .fall_back = true},
                                "no memory for another request");
        else
                flight_fail(f, MR_E_internal, 0, "the request's body is not where its record says");
}

static void openai_start(struct flight *f) {
        struct inference *inf = f->inf;
        struct openai_call *call;
        uint64_t body_len;
        char *body;
        int r = openai_request_build(f, &body, &body_len);

        if (r) {
                fail_start(f, r);
                return;
        }
        call = call_new(inf->openai);
        if (!call) {
                free(body);
                fail_start(f, -ENOMEM);
                return;
        }
        call->f = f;
        call->started_ns = call->last_ns = clock_now_ns();
        call->timer.fn = timer_over;
        call->timer.owner = call;
        f->u.openai.call = call;
        r = upstream_start(inf->upstream, &f->backend->targets[f->endpoint], body, body_len,
                        &(struct upstream_owner){
                                        .on_bytes = on_bytes, .on_end = on_end, .ctx = call},
                        &call->http);
        if (r) {
                call->http = NULL;
                openai_release(call, false);
                fail_start(f, r);
                return;
        }
        clock_check(call);
}

static void openai_cancel(struct flight *f) {
        if (f->u.openai.call)
                openai_release(f->u.openai.call, false);
}

const struct worker_kind worker_openai = {
                .name = "openai",
                .remote = true,
                .embeds = true,
                .start = openai_start,
                .resume = openai_resume,
                .cancel = openai_cancel,
};
