/*
 * http -- HTTP/1.1 in the bytes of a connection: one request after the other, each with its answer.
 *
 * Shape   struct http: a connection's part of it (conn->own)
 * Units   bytes; nanoseconds of CLOCK_MONOTONIC
 * Owner   the connection; whoever answers calls http_done() once, when all of the answer is written
 * Errors  told to the client; where nobody knows where the next request begins, the connection ends
 *         behind the answer
 * Limits  a head <= HTTP1_HEAD_MAX within http.head_timeout_ms; a body <= admission.max_body_bytes, not
 *         slower than HTTP_BODY_RATE behind the first http.head_timeout_ms; HTTP_IDLE_NS between requests
 *
 *   PROXY --(http.proxy_protocol: a proxy's head)--> HEAD
 *   HEAD --(a head, no body to come)--> ANSWERING --(http_done)--> HEAD, or the connection finishes
 *     `--(a body to come)--> BODY --(all of it)--^
 *
 * Requests are answered in order: while one is answered, nothing is read. A client that is gone is
 * noticed all the same (POLLRDHUP). A body is decoded where it lies, behind its head.
 */
#pragma once

#include "stages/common/http1_chunked.h"
#include "stages/gateway/chat.h"
#include "stages/gateway/gateway.h"
#include "stages/gateway/jobs.h"
#include "stages/gateway/responses.h"

#define HTTP_IN 3072u
#define HTTP_OUT_SOFT 16384u
#define HTTP_BODY_RATE 16384u /* bytes a second */
#define HTTP_IDLE_NS (300ull * 1000000000ull)
#define HTTP_PING_NS (15ull * 1000000000ull)
#define HTTP_REQUEST_ID_MAX 128u

enum http_phase { HTTP_PROXY, HTTP_HEAD, HTTP_BODY, HTTP_ANSWERING };

struct endpoint;

/* What answers a request that stages work at. */
struct http_kind {
        void (*ping)(struct conn *c);   /* its answer has been silent for a while */
        void (*forget)(struct conn *c); /* the request is over, or its client is gone */
};

struct http {
        struct client client; /* conn->user */
        struct client_address from; /* who is connected, as the socket or the PROXY protocol says */
        struct http_peer *peer;     /* whose cap it counts for; NULL: nobody's */
        enum http_phase phase;
        struct http1_scan scan;
        uint64_t due_ns;   /* when the timer is to mean something */
        uint64_t begun_ns; /* when the head or the body began; 0: not yet */

        /* The request at hand; its bytes are in[0] and on until it is answered or sent on. */
        const struct endpoint *endpoint;
        uint32_t head_bytes, body_bytes; /* the body's so far */
        uint64_t body_expected;          /* HTTP1_BODY_LENGTH */
        bool chunked;
        struct http1_chunked decode;

        /* Its answer. */
        bool is_head;   /* HEAD: no body */
        bool minor0;    /* HTTP/1.0: no chunks */
        bool last;      /* the connection ends behind it */
        bool streaming; /* its head is out, its body comes in pieces */
        uint32_t request_id_len;
        char request_id[HTTP_REQUEST_ID_MAX];
        char *lines; /* CORS; NULL: none are due */
        uint32_t lines_len;
        const struct http_kind *kind; /* NULL: it is answered at once */
        union {
                struct chat chat;
                struct job job;
                struct responses_ask *responses;
        };
};

static inline struct http *http_of(const struct conn *c) {
        return c->own;
}

extern const struct protocol http_protocol;

/* 0 or -errno. */
int http_surface_init(struct gateway *gw);
void http_surface_close(struct gateway *gw);
/* `where`: the element of http.listen. fd -1: connections are handed over by hand (tests). */
struct conn_listener *http_listen(struct gateway *gw, int fd, const char *where);
/* Another gateway has our place: who asks nothing now is let go. */
void http_retire(struct gateway *gw);

/* ---- http_surface.c: who is connected from where ---- */

/* Of the connection's own peer. */
struct client_address http_peer_address(const struct conn *c);
/* False: too many connections come from that address. */
bool http_peer_enter(struct conn *c, const struct client_address *address);
/* A request of a trusted proxy counts for the client that it is passed on for. False: too many. */
bool http_peer_behind(struct conn *c, const struct http1_request *request);
void http_peer_leave(struct conn *c);

/* ---- the end of a request ---- */

/* The answer to the request at hand is written. */
void http_done(struct conn *c);
/* The same, but it must not look whole: what is there is flushed, then the sending half ends. */
void http_broken(struct conn *c);
/* The timer's next meaning, if the phase does not change before. */
void http_due(struct conn *c, uint64_t at_ns);
