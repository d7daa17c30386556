#include "stages/common/loop.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"

/* A timeout that is armed in the ring, and ends sleeps that it was not armed for, too. */
struct tick {
        struct __kernel_timespec at;
        uint64_t at_ns; /* UINT64_MAX: not armed */
};

struct loop {
        struct io_uring ring;
        bool enabled;
        uint64_t now_ns;
        struct loop_timer **timers; /* binary heap, earliest first; timer->heap = place + 1 */
        uint32_t n_timers, timers_cap;
        struct tick near, far;
};

/* ---- life --------------------------------------------------------------------------------------
 */

/* Completions run when this process asks for them (no interrupts while it works), and the ring says
 * in a shared word that there are some, so that a busy turn costs no system call. Kernels
 * before 6.1 know none of this and work without. */
#define SETUP_FAST                                                                                 \
        (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |      \
                        IORING_SETUP_DEFER_TASKRUN)
/* Disabled until loop_restrict() or the first turn: only before that can it be restricted. */
#define SETUP_ALWAYS (IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE)

#define TIMERS_CAP_FIRST 64u
#define LOOP_OPS_MAX 16u
/* Sleeps from here on have their limit as a tick in the ring; longer ones share another tick. */
#define TICK_MIN_NS (2 * NS_PER_MS)
#define TICK_FAR_NS (100 * NS_PER_MS)

static int ring_setup(struct io_uring *ring, unsigned entries) {
        static const unsigned flags[] = {SETUP_ALWAYS | SETUP_FAST, SETUP_ALWAYS};
        int r = -EINVAL;

        for (size_t i = 0; r == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++) {
                /* Multishot operations complete more often than they are submitted. */
                struct io_uring_params params = {.flags = flags[i], .cq_entries = entries * 4};
                r = io_uring_queue_init_params(entries, ring, &params);
        }
        return r;
}

int loop_new(struct loop **ret, unsigned entries) {
        struct loop *loop = calloc(1, sizeof(*loop));
        if (!loop)
                return -ENOMEM;
        loop->timers = malloc(TIMERS_CAP_FIRST * sizeof(struct loop_timer *));
        loop->timers_cap = TIMERS_CAP_FIRST;
        int r = loop->timers ? ring_setup(&loop->ring, entries) : -ENOMEM;
        if (r < 0) {
                free(loop->timers);
                free(loop);
                return r == -ENOSYS || r == -EPERM || r == -EACCES ? LOOP_E_FORBIDDEN : r;
        }
        loop->now_ns = clock_now_ns();
        loop->near.at_ns = loop->far.at_ns = UINT64_MAX;
        *ret = loop;
        return 0;
}

struct loop *loop_free(struct loop *loop) {
        if (!loop)
                return NULL;
        for (uint32_t i = 0; i < loop->n_timers; i++)
                loop->timers[i]->heap = 0;
        io_uring_queue_exit(&loop->ring);
        free(loop->timers);
        free(loop);
        return NULL;
}

const char *loop_forbidden_remedy(void) {
        return "io_uring is missing or forbidden here: it needs Linux 6.1 or later, sysctl "
               "kernel.io_uring_disabled=0, and in a container a seccomp profile that allows "
               "io_uring "
               "(docker: --security-opt seccomp=unconfined)";
}

int loop_fd(const struct loop *loop) {
        return loop->ring.ring_fd;
}

uint64_t loop_now_ns(const struct loop *loop) {
        return loop->now_ns;
}

void loop_see_time(struct loop *loop) {
        loop->now_ns = clock_now_ns();
}

static int loop_enable(struct loop *loop) {
        if (loop->enabled)
                return 0;
        int r = io_uring_register(
                        (unsigned)loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        if (r < 0)
                return r;
        loop->enabled = true;
        return 0;
}

/* What the loop itself needs, whatever its owner does. */
static const uint8_t own_ops[] = {IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_TIMEOUT,
                IORING_OP_WRITE}; /* of a bell */

int loop_restrict(struct loop *loop, const uint8_t *ops, uint32_t n_ops) {
        struct io_uring_restriction allowed[LOOP_OPS_MAX] = {{.opcode = 0}};
        uint32_t n = 0;

        if (n_ops + sizeof(own_ops) + 1 > LOOP_OPS_MAX)
                return -E2BIG;
        for (uint32_t i = 0; i < sizeof(own_ops) + n_ops; i++)
                allowed[n++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
                                .sqe_op = i < sizeof(own_ops) ? own_ops[i]
                                                              : ops[i - sizeof(own_ops)]};
        allowed[n++] = (struct io_uring_restriction){
                        .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
                        .sqe_flags = IOSQE_CQE_SKIP_SUCCESS};
        int r = io_uring_register((unsigned)loop->ring.ring_fd, IORING_REGISTER_RESTRICTIONS,
                        allowed, n);
        return r < 0 ? r : loop_enable(loop);
}

/* What an owner prepared must not be lost, and an owner cannot wait: there is no way to go on. The
 * successor recovers what this process held. */
static _Noreturn void loop_give_up(const char *what, int error) {
        log_broken("loop", "what=%s error=%s", what, strerror(-error));
        abort();
}

/* ---- timers ------------------------------------------------------------------------------------
 */

static void timer_place(struct loop *loop, uint32_t i, struct loop_timer *timer) {
        loop->timers[i] = timer;
        timer->heap = i + 1;
}

static void timer_up(struct loop *loop, uint32_t i, struct loop_timer *timer) {
        while (i > 0 && timer->at_ns < loop->timers[(i - 1) / 2]->at_ns) {
                timer_place(loop, i, loop->timers[(i - 1) / 2]);
                i = (i - 1) / 2;
        }
        timer_place(loop, i, timer);
}

static void timer_down(struct loop *loop, uint32_t i, struct loop_timer *timer) {
        for (;;) {
                uint32_t child = 2 * i + 1;
                if (child >= loop->n_timers)
                        break;
                if (child + 1 < loop->n_timers &&
                                loop->timers[child + 1]->at_ns < loop->timers[child]->at_ns)
                        child++;
                if (timer->at_ns <= loop->timers[child]->at_ns)
                        break;
                timer_place(loop, i, loop->timers[child]);
                i = child;
        }
        timer_place(loop, i, timer);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer) {
        if (timer->heap == 0)
                return;
        uint32_t i = timer->heap - 1;
        struct loop_timer *last = loop->timers[--loop->n_timers];
        timer->heap = 0;
        if (last == timer)
                return;
        if (last->at_ns < timer->at_ns)
                timer_up(loop, i, last);
        else
                timer_down(loop, i, last);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns) {
        loop_timer_clear(loop, timer);
        if (loop->n_timers == loop->timers_cap) {
                uint32_t cap = loop->timers_cap * 2;
                struct loop_timer **more = realloc(loop->timers, cap * sizeof(struct loop_timer *));
                if (!more)
                        loop_give_up("timer", -ENOMEM);
                loop->timers = more;
                loop->timers_cap = cap;
        }
        timer->at_ns = at_ns;
        timer_up(loop, loop->n_timers++, timer);
}

/* Bounded: a timer that sets itself anew for now runs again in the next turn. */
static int timers_run(struct loop *loop) {
        int n = 0;

        while (n < LOOP_BATCH && loop->n_timers > 0 && loop->timers[0]->at_ns <= loop->now_ns) {
                struct loop_timer *timer = loop->timers[0];
                loop_timer_clear(loop, timer);
                timer->fn(timer);
                n++;
        }
        return n;
}

/* ---- turns -------------------------------------------------------------------------------------
 */

/* Completions that the kernel has, and would hand over when entered. */
static bool kernel_has_more(struct loop *loop) {
        return IO_URING_READ_ONCE(*loop->ring.sq.kflags) &
               (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

bool loop_ready(struct loop *loop) {
        return io_uring_cq_ready(&loop->ring) > 0 || kernel_has_more(loop) ||
               (loop->n_timers > 0 && loop->timers[0]->at_ns <= clock_now_ns());
}

static bool tick_ended(struct loop *loop, const void *data) {
        struct tick *tick = data == &loop->near ? &loop->near : &loop->far;

        if (data != tick)
                return false;
        tick->at_ns = UINT64_MAX;
        return true;
}

/* The next completion, copied out, so that a handler may submit while others still wait. No op: of
 * a cancel (the operation itself reports its end), of the tick, or of a bell that is full. */
static bool completion_take(
                struct loop *loop, struct loop_op **ret_op, int *ret_res, uint32_t *ret_flags) {
        struct io_uring_cqe *cqe;
        unsigned head;

        io_uring_for_each_cqe(&loop->ring, head, cqe) {
                *ret_op = io_uring_cqe_get_data(cqe);
                *ret_res = cqe->res;
                *ret_flags = cqe->flags;
                io_uring_cq_advance(&loop->ring, 1);
                if ((void *)*ret_op == loop && *ret_res != -EAGAIN)
                        loop_give_up("bell", *ret_res);
                if ((void *)*ret_op == loop || tick_ended(loop, *ret_op))
                        *ret_op = NULL;
                return true;
        }
        return false;
}

static int completions_run(struct loop *loop) {
        struct loop_op *op;
        uint32_t flags;
        int n = 0, res;

        while (n < LOOP_BATCH && completion_take(loop, &op, &res, &flags)) {
                if (!op)
                        continue;
                if (!(flags & IORING_CQE_F_MORE)) {
                        assert(op->pending > 0);
                        op->pending--;
                }
                op->fn(op, res, flags);
                n++;
        }
        return n;
}

static struct io_uring_sqe *sqe_get(struct loop *loop);

static struct __kernel_timespec timespec_of(uint64_t ns) {
        return (struct __kernel_timespec){.tv_sec = (long long)(ns / NS_PER_S),
                        .tv_nsec = (long long)(ns % NS_PER_S)};
}

static void tick_arm(struct loop *loop, struct tick *tick, uint64_t at_ns) {
        struct io_uring_sqe *sqe = sqe_get(loop);

        tick->at = timespec_of(at_ns); /* read when it is submitted */
        tick->at_ns = at_ns;
        io_uring_prep_timeout(sqe, &tick->at, 0, IORING_TIMEOUT_ABS);
        io_uring_sqe_set_data(sqe, tick);
}

/* Does a tick end a sleep until then? */
static bool tick_covers(struct loop *loop, uint64_t until_ns) {
        uint64_t ns = until_ns - loop->now_ns;
        struct tick *tick = ns < TICK_FAR_NS ? &loop->near : &loop->far;

        if (until_ns == UINT64_MAX)
                return true; /* nothing needs to */
        if (tick->at_ns == UINT64_MAX && ns >= TICK_MIN_NS)
                tick_arm(loop, tick, until_ns);
        return loop->near.at_ns <= until_ns || loop->far.at_ns <= until_ns;
}

/* Was it only a tick that ended the sleep? Then it is gone. */
static bool tick_took(struct loop *loop) {
        struct io_uring_cqe *cqe;

        if (io_uring_cq_ready(&loop->ring) != 1 || io_uring_peek_cqe(&loop->ring, &cqe) != 0 ||
                        !tick_ended(loop, io_uring_cqe_get_data(cqe)))
                return false;
        io_uring_cq_advance(&loop->ring, 1);
        return true;
}

/* Sleeps with a limit of its own. */
static int wait_limited(struct loop *loop, uint64_t until_ns) {
        struct io_uring_cqe *cqe;

        loop->now_ns = clock_now_ns();
        if (loop->now_ns >= until_ns)
                return io_uring_submit(&loop->ring);
        struct __kernel_timespec limit = timespec_of(until_ns - loop->now_ns);
        return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &limit, NULL);
}

/* Submits, and sleeps until a completion or that time. A time limit costs each sleep 100 to 250 ns,
 * and microseconds in a virtual machine when it is the next one of its core, so limits that are not
 * quite near are ticks in the ring, armed once for many sleeps. A tick may come before a later
 * sleep's time, and that sleep goes on. The clock is read after the sleep only: before it the time
 * of the last turn will do. */
static int wait_completion(struct loop *loop, uint64_t until_ns) {
        int r;

        do {
                r = tick_covers(loop, until_ns) ? io_uring_submit_and_wait(&loop->ring, 1)
                                                : wait_limited(loop, until_ns);
                loop->now_ns = clock_now_ns();
        } while (r >= 0 && tick_took(loop) && loop->now_ns < until_ns);
        return r;
}

int loop_turn(struct loop *loop, uint64_t wait_until_ns) {
        int r = loop_enable(loop);
        if (r < 0)
                return r;
        uint64_t until = wait_until_ns;
        if (loop->n_timers > 0 && loop->timers[0]->at_ns < until)
                until = loop->timers[0]->at_ns;
        if (until > loop->now_ns && io_uring_cq_ready(&loop->ring) == 0) {
                r = wait_completion(loop, until);
        } else {
                loop->now_ns = clock_now_ns();
                r = io_uring_submit(
                                &loop->ring); /* enters the kernel only when there is a reason */
        }
        /* A full completion queue or a signal: what is there is run, the rest comes next turn. */
        if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN)
                return r;
        int n = timers_run(loop);
        return n + completions_run(loop);
}

/* ---- operations --------------------------------------------------------------------------------
 */

#define SUBMIT_TRIES 1000

static struct io_uring_sqe *sqe_get(struct loop *loop) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
        int r = 0;

        for (int i = 0; !sqe && i < SUBMIT_TRIES; i++) {
                r = loop_enable(loop);
                if (r == 0)
                        r = io_uring_submit(&loop->ring);
                if (r < 0 && r != -EINTR && r != -EBUSY && r != -EAGAIN)
                        break;
                sqe = io_uring_get_sqe(&loop->ring);
        }
        if (!sqe)
                loop_give_up("submission_queue", r);
        return sqe;
}

static void op_begin(struct loop_op *op, struct io_uring_sqe *sqe) {
        assert(op->fn && op->pending == 0);
        op->pending = 1;
        io_uring_sqe_set_data(sqe, op);
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t mask) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_poll_add(sqe, fd, mask);
        op_begin(op, sqe);
}

void loop_poll_many(struct loop *loop, struct loop_op *op, int fd, uint32_t mask) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_poll_multishot(sqe, fd, mask);
        op_begin(op, sqe);
}

void loop_poll_edge(struct loop *loop, struct loop_op *op, int fd, uint32_t mask) {
        loop_poll_many(loop, op, fd, mask | EPOLLET);
}

void loop_accept(struct loop *loop, struct loop_op *op, int fd) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
        op_begin(op, sqe);
}

void loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_recv(sqe, fd, buf, len, 0);
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; /* mostly nothing is there yet */
        op_begin(op, sqe);
}

void loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL);
        op_begin(op, sqe);
}

void loop_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg, int flags) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_recvmsg(sqe, fd, msg, (unsigned)flags);
        op_begin(op, sqe);
}

void loop_ring(struct loop *loop, int fd) {
        static const uint64_t one = 1;
        struct io_uring_sqe *sqe = sqe_get(loop);

        io_uring_prep_write(sqe, fd, &one, sizeof(one), (uint64_t)-1);
        io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
        io_uring_sqe_set_data(sqe, loop); /* says: of a bell that could not be rung */
}

void loop_cancel(struct loop *loop, struct loop_op *op) {
        if (op->pending == 0)
                return;
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_cancel(sqe, op, 0);
        io_uring_sqe_set_data(sqe, NULL);
}
