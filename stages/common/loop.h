/*
 * loop -- one io_uring, one turn at a time: eventfd, sockets, timers, child exits.
 *
 * Shape   operations (struct loop_op) embedded in owners; completions call op->fn(op, res, flags)
 * Units   absolute CLOCK_MONOTONIC nanoseconds for timers; res is what the syscall would return,
 *         with -errno for errors
 * Owner   an op belongs to its owner, which must stay in memory while op->pending > 0; closing
 *         means loop_cancel(), then waiting for the last completion (fn sees -ECANCELED), then
 *         freeing
 * Errors  0 or -errno; LOOP_E_FORBIDDEN when io_uring is missing or forbidden (say the remedy,
 *         exit 2)
 * Limits  at most LOOP_BATCH completions a turn; single-threaded
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define LOOP_BATCH 256

enum loop_error { LOOP_E_FORBIDDEN = 1 };

struct loop;
struct loop_op;
typedef void (*loop_fn)(struct loop_op *op, int res, uint32_t cqe_flags);

struct loop_op {
        loop_fn fn;
        void *owner;
        uint32_t pending; /* completions still to come; multishot counts as one until it ends */
};

struct loop_timer {
        void (*fn)(struct loop_timer *timer);
        void *owner;
        uint64_t at_ns;
        uint32_t heap; /* place + 1 in the loop's heap, 0 = not set */
};

/* entries: submission queue size. 0, LOOP_E_FORBIDDEN, -errno. */
int loop_new(struct loop **ret, unsigned entries);
/* The io_uring's descriptor. */
int loop_fd(const struct loop *loop);
struct loop *loop_free(struct loop *loop);
/* One line for the user when loop_new says LOOP_E_FORBIDDEN: what, why, remedy. */
const char *loop_forbidden_remedy(void);

/* The ring is created disabled, and enabled by loop_restrict() or the first turn; only the thread
 * that does so may use the loop. Restricted, it does nothing but what this header offers without
 * a socket, and these operations (IORING_OP_*), for good: any other ends with -EACCES. */
int loop_restrict(struct loop *loop, const uint8_t *ops, uint32_t n_ops);
/* One turn: submits what was prepared, runs due timers and up to LOOP_BATCH completions. With
 * wait_until_ns > now sleeps until a completion, a timer or that time (UINT64_MAX: no limit; 0:
 * does not sleep). Returns how many completions and timers ran, or -errno. */
int loop_turn(struct loop *loop, uint64_t wait_until_ns);
/* Anything that a turn without sleeping would run? (Completions ready, timers due.) */
bool loop_ready(struct loop *loop);
/* The time of the last turn (saves a clock read). */
uint64_t loop_now_ns(const struct loop *loop);
/* It is now, for a loop whose first turn comes long after it was made. */
void loop_see_time(struct loop *loop);

/* Prepared now, submitted by the next turn (earlier when the submission queue is full). All need
 * op->fn set and op->pending == 0 except cancel. Sockets for accept, recv and send should be
 * blocking ones: the kernel waits for them, and older ones answer -EAGAIN for O_NONBLOCK instead.
 * Multishot polls tell of what is there when they are armed and of each change after that: read
 * until it would block. */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t mask);
/* Multishot: fn arms it anew when !(flags & LOOP_MORE). */
void loop_poll_many(struct loop *loop, struct loop_op *op, int fd, uint32_t mask);
/* Multishot and edge-triggered: the descriptor need not be read at all (doorbells). */
void loop_poll_edge(struct loop *loop, struct loop_op *op, int fd, uint32_t mask);
/* res is a connection, or -errno. Of several processes that wait at one listener the kernel wakes the
 * first, and who asks again is the last: so they take turns. (Multishot keeps its place, and then one
 * of them gets all connections, also while it is stopped.) */
void loop_accept(struct loop *loop, struct loop_op *op, int fd);
void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len);
void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len);
void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, int flags);
/* Rings a doorbell (an eventfd that does not block) with the next turn's system call. Nobody is told. */
void loop_ring(struct loop *loop, int fd);
/* Asks the kernel to end the op; its fn still gets its last completion. No-op when not pending. */
void loop_cancel(struct loop *loop, struct loop_op *op);
#define LOOP_MORE 2u /* IORING_CQE_F_MORE */

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);
