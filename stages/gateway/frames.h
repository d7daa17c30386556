/*
 * frames -- the Unix socket's transport: connections over the loop, bytes <-> whole msgpack
 * objects.
 *
 * Shape   struct frames: the listener and its connections; struct conn: one client
 * Units   bytes; nanoseconds
 * Owner   frames owns connections and their buffers; conn->user belongs to the dialect
 * Errors  0 or -errno at the start; later a connection that cannot go on is closed, and `gone` is
 * called Limits  FRAMES_CONNS_MAX connections; an object <= limits.frame_bytes, all large ones
 * together
 *         <= limits.total_bytes; output of FRAMES_OUT_SOFT before the writer is asked to wait
 *
 * A connection's life:
 *   OPEN --(its sending half ends)--> HALF --(nothing more to answer)--> CLOSING --> freed
 *     `--(frames_finish: flush first)--> FINISHING --------------------------^
 *     `--(client gone, error, frames_drop)-----------------------------------^
 * frames_end_input() makes HALF of OPEN: what was sent before it is answered, what comes after it fails
 * in the client's own call, so no frame is taken and left unanswered.
 * Input stops while a client does not read its output, so that only its own requests wait.
 */
#pragma once

#include <stdbool.h>

#include "stages/common/loop.h"
#include "stages/common/record.h"

#define FRAMES_CONNS_MAX 4096u
#define FRAMES_IN 16384u
#define FRAMES_OUT 16384u
#define FRAMES_OUT_SOFT 65536u
#define FRAMES_DEPTH 32u
/* A frame over the limit is read to its end and forgotten, so that its client reads the answer and
 * the connection stays in step; one that says to be longer than this is not. */
#define FRAMES_SKIP_MAX (1ull << 30)

enum conn_state { CONN_OPEN, CONN_HALF, CONN_FINISHING, CONN_CLOSING };

enum frames_refusal {
        FRAMES_BROKEN,    /* not msgpack; the connection closes */
        FRAMES_DEEP,      /* nested too deep; the connection closes */
        FRAMES_LARGE,     /* over frame_bytes; it is skipped, and the connection goes on */
        FRAMES_HUGE,      /* over FRAMES_SKIP_MAX; the connection closes */
        FRAMES_NO_MEMORY, /* total_bytes are taken; the frame is skipped */
};

struct conn_out {
        uint8_t *at;
        uint32_t len, cap;
        uint8_t small[FRAMES_OUT];
};

struct frames;

struct conn {
        struct frames *frames;
        struct conn *next, *prev;             /* of all connections */
        struct conn *ready_next, *dirty_next; /* of those with input, with output */
        bool ready, dirty;
        struct conn *later_next, **later_self; /* of those whose output waits for more; NULL: not */
        enum conn_state state;
        int fd;
        uint32_t uid;
        void *user;
        uint32_t users; /* how much waits to be answered here: HALF closes at 0 */
        bool stalled;   /* a writer was refused: `writable` is due */
        struct loop_op recv_op, send_op, hup_op;

        uint8_t *in; /* in_small, or a larger one for a larger frame */
        uint32_t in_len, in_cap;
        bool skipping;
        struct msgpack_scanner scanner; /* of the frame at in[0] */

        struct conn_out out[2];
        uint32_t filling; /* which of the two is being filled; the other one is on its way */
        uint32_t sent;    /* bytes of the other one that are out */
        uint8_t in_small[FRAMES_IN];
};

struct frames_ops {
        void (*opened)(struct conn *c);
        void (*frame)(struct conn *c, const uint8_t *bytes, uint32_t len);
        void (*refused)(struct conn *c, enum frames_refusal why);
        /* Output has room again; only after frames_room() has said no. */
        void (*writable)(struct conn *c);
        /* The client is gone: let go of everything that names c. */
        void (*gone)(struct conn *c);
};

struct frames_limits {
        uint64_t frame_bytes, total_bytes;
};

struct frames {
        struct loop *loop;
        const struct frames_ops *ops;
        void *ctx;
        struct frames_limits limits;
        int listen_fd;
        struct loop_op accept_op;
        struct loop_timer accept_again;
        struct loop_timer later_due;
        struct conn *all, *ready, **ready_end, *dirty, *later;
        uint32_t n_conns;
        uint64_t n_accepted;
        uint64_t large_bytes; /* memory of grown input buffers */
        bool retired; /* nothing is accepted any more */
        bool closing;
};

/* listen_fd -1: connections come by frames_adopt() only. The descriptor stays the caller's, and does
 * not block. */
void frames_init(struct frames *f, struct loop *loop, int listen_fd, const struct frames_ops *ops,
                void *ctx, const struct frames_limits *limits);
/* A connected socket; taken over whether it succeeds or not. */
int frames_adopt(struct frames *f, int fd);
/* Hands over up to `max` whole frames. How many. */
unsigned frames_input(struct frames *f, unsigned max);
/* One send for each connection that has output. After the rings were committed. */
void frames_output(struct frames *f);
bool frames_idle(const struct frames *f);    /* no input waits to be handed over, nothing to send */
bool frames_flushed(const struct frames *f); /* all output is out */
/* Accepts no more connections; those that are there go on. */
void frames_retire(struct frames *f);
/* Ends every client's sending half. Who is in the middle of a frame is left alone, unless `all`. */
void frames_end_input(struct frames *f, bool all);
/* Retired, and the last connection has gone. */
bool frames_gone(const struct frames *f);
/* Closes everything; output that the sockets take at once still goes out. The loop may end after
 * it. */
void frames_close(struct frames *f);

/* Room for n bytes of output: where to write, or NULL when the connection cannot take them (it is
 * being closed). frames_wrote() says how many were used. */
uint8_t *frames_reserve(struct conn *c, uint32_t n);
void frames_wrote(struct conn *c, uint32_t n);
/* The same for what may wait some milliseconds for more output that goes with it. */
void frames_wrote_later(struct conn *c, uint32_t n);
/* May a writer that can wait go on? Below the soft limit: yes. Else `writable` will be called. */
bool frames_room(struct conn *c);
/* Takes no more input, sends what is there, closes. */
void frames_finish(struct conn *c);
/* users - 1. */
void frames_release(struct conn *c);
