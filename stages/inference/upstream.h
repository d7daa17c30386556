/*
 * upstream -- HTTP exchanges with backends: libcurl's multi interface, driven by the loop.
 *
 * Shape   one struct upstream a process; one struct upstream_target a URL, one struct upstream_call
 *         an exchange
 * Units   bytes, milliseconds
 * Owner   a call belongs to upstream; its owner must cancel it or be told of its end, whichever is
 *         first. A target belongs to the caller and outlives upstream
 * Errors  0, -errno; what ends a call is told to on_end as a CURLcode
 * Limits  redirects are not followed, heads of UPSTREAM_HEAD_MAX bytes, HTTP/1.1 so that ending a
 *         call closes its connection
 *
 * curl's handles stay set up for their target between exchanges: a twentieth of an exchange's time.
 *
 * io_uring's poll holds a reference to the socket's file, so closing the descriptor alone would
 * leave the peer waiting: every socket is shut down before it is closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>

#define UPSTREAM_HEAD_MAX (256u << 10)

struct loop;
struct upstream;
struct upstream_call;

struct upstream_target {
        char *url;
        const char *authorization; /* header line or NULL */
        uint64_t connect_ms;
        bool loopback;              /* no proxy leads there */
        struct upstream_call *idle; /* upstream's: set up and not in use */
};

enum upstream_take { UPSTREAM_TAKEN, UPSTREAM_LATER /* not one byte: call upstream_resume() */ };

struct upstream_owner {
        /* Bytes of the response's body. May cancel the call. */
        enum upstream_take (*on_bytes)(void *ctx, const char *bytes, uint32_t n);
        /* Ended by itself; the call is gone after this returns, its upstream_* questions may be
         * asked here. */
        void (*on_end)(void *ctx, CURLcode code);
        void *ctx;
};

int upstream_new(struct upstream **ret, struct loop *loop);
/* Ends what runs, without a word to its owners. The loop is not turned afterwards: polls may be
 * pending. */
struct upstream *upstream_free(struct upstream *u);

/* The body is malloced, and freed by upstream, also when the start fails. */
int upstream_start(struct upstream *u, struct upstream_target *target, char *body,
                uint64_t body_len, const struct upstream_owner *owner, struct upstream_call **ret);
/* Ends the exchange and closes its connection now; the owner hears nothing more. */
void upstream_cancel(struct upstream_call *call);
/* The owner has what it wants: the rest of the response is read and dropped, so that the connection
 * can be used again, but not for long. */
void upstream_linger(struct upstream_call *call);
/* Takes bytes again. */
void upstream_resume(struct upstream_call *call);

/* 0 until the head has come. */
unsigned upstream_status(const struct upstream_call *call);
/* "" when there is none. */
const char *upstream_content_type(const struct upstream_call *call);
/* Of Retry-After or retry-after-ms; 0: none. */
uint64_t upstream_retry_after_ms(const struct upstream_call *call);
