/*
 * conn -- a client's socket over the loop: bytes in, bytes out, its end.
 *
 * Shape   struct conns: listeners and all their connections; struct conn: one client; struct
 *         protocol: what is made of its bytes
 * Units   bytes; nanoseconds
 * Owner   conns owns connections and their buffers; conn->own belongs to the protocol, conn->user
 *         to whoever serves the client
 * Errors  0 or -errno at the start; later a connection that cannot go on is closed, and `gone` is
 *         called
 * Limits  conns.max connections of each surface; grown input buffers together <= total_bytes;
 *         output of protocol.out_soft before the writer is asked to wait. A connection without anything
 *         to do costs its struct, protocol.own_bytes and protocol.in_bytes; output buffers are taken
 *         when there is output
 *
 * A connection's life:
 *   OPEN --(its sending half ends)--> HALF --(nothing more to answer)--> CLOSING --> freed
 *     |                   `--(protocol.fin_is_gone)-----------------------^  ^
 *     `--(conn_finish: flush first)--> FINISHING -----------------------'    |
 *     |                                  `--(fin_is_gone)--> LINGERING ------'
 *     `--(client gone, error)------------------------------------------------^
 * LINGERING: our half has ended, and what the client still sends is thrown away within bounds: a
 * socket closed with bytes unread takes the answer away from a client that has yet to read it.
 * conns_end_input() makes HALF of OPEN: what was sent before it is answered, what comes after it
 * fails in the client's own call, so nothing is taken and left unanswered.
 * Input stops while a client does not read its output, so that only its own requests wait.
 */
#pragma once

#include <stdbool.h>

#include "stages/common/loop.h"

#define CONN_LISTENERS_MAX 17u
#define CONN_OUT 16384u
#define CONN_SPARE_MAX 64u /* output buffers that are kept for the next one */

enum conn_state { CONN_OPEN, CONN_HALF, CONN_FINISHING, CONN_LINGERING, CONN_CLOSING };
enum surface { SURFACE_SOCKET, SURFACE_HTTP, SURFACES_N };

struct conn;
struct conns;

struct protocol {
        enum surface surface;
        uint32_t own_bytes;
        uint32_t in_bytes;
        uint32_t out_soft; /* bytes of output that a client has not taken before writers wait */
        bool fin_is_gone; /* a client that ends its sending half reads no more either */
        void (*opened)(struct conn *c);
        /* Takes up to `max` messages from c->in. How many; max: there may be more. */
        unsigned (*input)(struct conn *c, unsigned max);
        /* Output has room again; only after conn_room() has said no. */
        void (*writable)(struct conn *c);
        /* The client is gone: let go of everything that names c. */
        void (*gone)(struct conn *c);
};

struct conn_listener {
        struct conns *conns;
        const struct protocol *protocol;
        const void *ctx; /* the protocol's */
        int fd;          /* -1: connections come by conn_adopt() only */
        struct loop_op accept_op;
        struct loop_timer accept_again;
};

struct conn_out {
        uint8_t *at; /* NULL: there is nothing in it */
        uint32_t len, cap;
};

struct conn {
        struct conns *conns;
        const struct conn_listener *listener;
        const struct protocol *protocol;
        struct conn *next, *prev;             /* of all connections */
        struct conn *ready_next, *dirty_next; /* of those with input, with output */
        bool ready, dirty;
        struct conn *later_next, **later_self; /* of those whose output waits for more; NULL: not */
        enum conn_state state;
        int fd;
        uint32_t uid; /* Unix sockets: whose process it is; else UINT32_MAX */
        void *own, *user;
        uint32_t users; /* how much waits to be answered here: HALF closes at 0 */
        bool stalled;   /* a writer was refused: `writable` is due */
        bool hold;      /* nothing is to be read now */
        bool midway;    /* within a message, also when in_len is 0 */
        struct loop_op recv_op, send_op, hup_op;
        struct loop_timer timer; /* the protocol's; LINGERING: ours */

        uint8_t *in; /* in_small, or a larger one; not to be touched while recv_op is pending */
        uint32_t in_len, in_cap;
        uint32_t lingered; /* bytes thrown away */
        uint8_t *in_small;

        struct conn_out out[2];
        uint32_t filling; /* which of the two is being filled; the other one is on its way */
        uint32_t sent;    /* bytes of the other one that are out */
};

struct conns {
        struct loop *loop;
        void *ctx;
        uint64_t total_bytes; /* bound of large_bytes */
        struct conn_listener listeners[CONN_LISTENERS_MAX];
        uint32_t n_listeners;
        struct loop_timer later_due;
        struct conn *all, *ready, **ready_end, *dirty, *later;
        struct conn_spare *spare;
        uint32_t n_spare;
        uint32_t n[SURFACES_N], max[SURFACES_N];
        uint64_t large_bytes; /* memory of grown input buffers */
        bool retired;         /* nothing is accepted any more */
        bool closing;
};

void conns_init(struct conns *cs, struct loop *loop, void *ctx, uint64_t total_bytes);
/* The descriptor (-1: none) stays the caller's, and does not block. NULL: too many listeners. */
struct conn_listener *conns_listen(
                struct conns *cs, int fd, const struct protocol *protocol, const void *ctx);
/* A connected socket; taken over whether it succeeds or not. */
int conn_adopt(struct conn_listener *listener, int fd);
/* Lets protocols take up to `max` messages. How many. */
unsigned conns_input(struct conns *cs, unsigned max);
/* One send for each connection that has output. After the rings were committed. */
void conns_output(struct conns *cs);
bool conns_idle(const struct conns *cs);    /* no input waits to be taken, nothing to send */
bool conns_flushed(const struct conns *cs); /* all output is out */
/* Accepts no more connections; those that are there go on. */
void conns_retire(struct conns *cs);
/* Ends every client's sending half. Who is in the middle of a message is left alone, unless `all`. */
void conns_end_input(struct conns *cs, bool all);
/* Retired, and the last connection has gone. */
bool conns_gone(const struct conns *cs);
/* Closes everything; output that the sockets take at once still goes out. The loop may end after
 * it. */
void conns_close(struct conns *cs);

/* ---- input, for protocols ---- */

/* It is to be given to the protocol in the next round, also without new bytes. */
void conn_ready(struct conn *c);
void conn_eat(struct conn *c, uint32_t n);
/* Room for `cap` bytes of input in all. False: the memory for large messages is taken. */
bool conn_grow(struct conn *c, uint64_t cap);
/* Back to the small buffer when what is there fits into it. */
void conn_shrink(struct conn *c);

/* ---- output ---- */

/* Room for n bytes of output: where to write, or NULL when the connection cannot take them (it is
 * being closed). conn_wrote() says how many were used. */
uint8_t *conn_reserve(struct conn *c, uint32_t n);
void conn_wrote(struct conn *c, uint32_t n);
/* The same for what may wait some milliseconds for more output that goes with it. */
void conn_wrote_later(struct conn *c, uint32_t n);
/* May a writer that can wait go on? Below the soft limit: yes. Else `writable` will be called. */
bool conn_room(struct conn *c);

/* ---- its end ---- */

/* Takes no more input, sends what is there, closes. */
void conn_finish(struct conn *c);
/* Ends it now, whatever is on its way. */
void conn_close(struct conn *c);
/* users - 1. */
void conn_release(struct conn *c);
