/*
 * server -- the HTTP connections of the telemetry listener.
 *
 *   READING --whole head--> WRITING --response out--> READING      (pipelined requests: in order)
 *      |                       `--Connection: close--> LINGERING --client's end, time--> CLOSING
 *      `--refused, timeout--> WRITING (the refusal) -------^                   (freed from there)
 *
 * Shape   one allocation for each connection; its input grows from 4 KiB to 64 KiB only as a head
 *         does
 * Units   nanoseconds of CLOCK_MONOTONIC
 * Owner   the server owns its connections; each is freed when the kernel has no operation of it
 * Errors  none to the caller: a connection's trouble ends that connection
 * Limits  SERVER_CONNS_MAX connections, then the idle ones go, then new ones wait in the kernel's
 *         queue; a head within head_timeout_ns, a response taken within SERVER_SEND_NS, idle
 *         SERVER_IDLE_NS
 */
#pragma once

#include <stdbool.h>

#include "stages/common/http1.h"
#include "stages/common/loop.h"
#include "stages/telemetry/text.h"

#define SERVER_CONNS_MAX 64u
#define SERVER_IDLE_NS (120ull * 1000000000ull)
#define SERVER_SEND_NS (10ull * 1000000000ull)
#define SERVER_LINGER_NS (2ull * 1000000000ull)
#define SERVER_LINGER_BYTES (1u << 20)

/* Writes a whole response; false: the connection ends behind it. */
typedef bool (*server_answer_fn)(void *ctx, const struct http1_request *request, struct text *out);

struct server_conn;

struct server {
        struct loop *loop;
        int listen_fd;
        server_answer_fn answer;
        void *ctx;
        uint64_t head_timeout_ns;
        uint64_t send_timeout_ns; /* SERVER_SEND_NS, unless it is changed after server_init() */
        struct loop_op accept_op; /* or a poll that waits for someone to accept */
        struct loop_timer accept_again;
        struct server_conn *conns; /* a list */
        uint32_t n_conns;
        bool full;        /* nobody is accepted until one has gone */
        bool said_accept; /* that accepting fails was logged */
        bool closing;
};

/* listen_fd -1: nobody comes. The descriptor stays the caller's. */
void server_init(struct server *s, struct loop *loop, int listen_fd, uint64_t head_timeout_ns,
                server_answer_fn answer, void *ctx);
/* Ends all connections and gives the kernel a bounded time to let go of them; the loop may end
 * then. */
void server_close(struct server *s);
