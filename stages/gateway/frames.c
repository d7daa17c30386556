#include "stages/gateway/frames.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/gateway/frames_conn.h"

#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)

/* ---- lists ---- */

void conn_ready(struct conn *c) {
        struct frames *f = c->frames;

        if (c->ready)
                return;
        c->ready = true;
        c->ready_next = NULL;
        *f->ready_end = c;
        f->ready_end = &c->ready_next;
}

static struct conn *ready_take(struct frames *f) {
        struct conn *c = f->ready;

        if (!c)
                return NULL;
        f->ready = c->ready_next;
        if (!f->ready)
                f->ready_end = &f->ready;
        c->ready = false;
        return c;
}

void conn_dirty(struct conn *c) {
        if (c->dirty)
                return;
        c->dirty = true;
        c->dirty_next = c->frames->dirty;
        c->frames->dirty = c;
}

/* ---- the end of a connection ---- */

static void input_shrink(struct conn *c) {
        if (c->in == c->in_small)
                return;
        c->frames->large_bytes -= c->in_cap;
        if (c->in_len <= FRAMES_IN) {
                memcpy(c->in_small, c->in, c->in_len);
                free(c->in);
                c->in = c->in_small;
                c->in_cap = FRAMES_IN;
                return;
        }
        c->frames->large_bytes += c->in_cap;
}

/* Frees a closed connection once the kernel has let go of its buffers and no list names it. */
void conn_reap(struct conn *c) {
        if (c->state != CONN_CLOSING || c->recv_op.pending || c->send_op.pending ||
                        c->hup_op.pending || c->ready || c->dirty)
                return;
        c->in_len = 0;
        input_shrink(c);
        for (int i = 0; i < 2; i++)
                conn_out_shrink(&c->out[i]);
        close(c->fd);
        if (c->next)
                c->next->prev = c->prev;
        if (c->prev)
                c->prev->next = c->next;
        else
                c->frames->all = c->next;
        c->frames->n_conns--;
        free(c);
}

/* Ends it now. The reaper frees it, from a completion or from frames_output(). */
void conn_close(struct conn *c) {
        struct frames *f = c->frames;

        if (c->state == CONN_CLOSING)
                return;
        c->state = CONN_CLOSING;
        f->ops->gone(c);
        conn_later_end(c);
        shutdown(c->fd, SHUT_RDWR);
        loop_cancel(f->loop, &c->recv_op);
        loop_cancel(f->loop, &c->send_op);
        loop_cancel(f->loop, &c->hup_op);
        conn_dirty(c);
}

/* Is there anything left that could make output? */
void conn_close_when_done(struct conn *c) {
        if (conn_pending(c) > 0)
                return;
        if (c->state == CONN_FINISHING || (c->state == CONN_HALF && c->users == 0 && !c->ready))
                conn_close(c);
}

void frames_finish(struct conn *c) {
        if (c->state >= CONN_FINISHING)
                return;
        c->state = CONN_FINISHING;
        c->in_len = 0;
        conn_dirty(c);
}

void frames_release(struct conn *c) {
        assert(c->users > 0);
        c->users--;
        if (c->users == 0 && c->state == CONN_HALF)
                conn_dirty(c);
}

/* ---- input ---- */

static void on_hup(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn *c = op->owner;

        if (c->state == CONN_CLOSING) {
                conn_reap(c);
                return;
        }
        if (res < 0 || (res & (POLLHUP | POLLERR)))
                conn_close(c);
        else if (!(cqe_flags & LOOP_MORE))
                loop_poll_edge(c->frames->loop, &c->hup_op, c->fd, POLLHUP);
}

/* End of file: the client ended its sending half, or it is gone altogether. */
static void input_ended(struct conn *c) {
        struct pollfd look = {.fd = c->fd, .events = 0};

        if (poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR))) {
                conn_close(c);
                return;
        }
        if (c->state == CONN_OPEN)
                c->state = CONN_HALF;
        loop_poll_edge(c->frames->loop, &c->hup_op, c->fd, POLLHUP);
        conn_dirty(c);
}

static void on_received(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn *c = op->owner;

        (void)cqe_flags;
        if (c->state == CONN_CLOSING) {
                conn_reap(c);
                return;
        }
        if (res == -EINTR || res == -EAGAIN) {
                conn_recv(c);
        } else if (res < 0) {
                conn_close(c);
        } else if (res == 0) {
                input_ended(c);
        } else if (c->state == CONN_OPEN) {
                c->in_len += (uint32_t)res;
                conn_ready(c);
        }
}

/* More input is wanted when there is room for it and the client reads what it is sent. */
void conn_recv(struct conn *c) {
        if (c->state != CONN_OPEN || c->recv_op.pending || c->ready || c->in_len == c->in_cap ||
                        conn_pending(c) >= FRAMES_OUT_SOFT)
                return;
        loop_recv(c->frames->loop, &c->recv_op, c->fd, c->in + c->in_len, c->in_cap - c->in_len);
}

static void input_eat(struct conn *c, uint32_t n) {
        c->in_len -= n;
        memmove(c->in, c->in + n, c->in_len);
}

/* Doubles the buffer for a frame that needs it. False: the memory for large frames is taken. */
static bool input_grow(struct conn *c) {
        struct frames *f = c->frames;
        uint64_t cap = (uint64_t)c->in_cap * 2;
        uint64_t held = c->in == c->in_small ? 0 : c->in_cap;
        uint8_t *more;

        if (cap > f->limits.frame_bytes)
                cap = f->limits.frame_bytes;
        if (cap <= c->in_cap || f->large_bytes - held + cap > f->limits.total_bytes)
                return false;
        more = malloc(cap);
        if (!more)
                return false;
        memcpy(more, c->in, c->in_len);
        if (c->in != c->in_small)
                free(c->in);
        f->large_bytes += cap - held;
        c->in = more;
        c->in_cap = (uint32_t)cap;
        return true;
}

/* The frame at `at` is not wanted. One error, and its bytes are forgotten as they come. */
static void skip_begin(struct conn *c, uint32_t at, enum frames_refusal why) {
        struct msgpack_scanner look;
        bool huge;

        msgpack_scanner_init(&look);
        huge = msgpack_scan(&look, c->in + at, c->in_len - at, FRAMES_DEPTH, FRAMES_SKIP_MAX) ==
               MSGPACK_SCAN_LARGE;
        c->frames->ops->refused(c, huge ? FRAMES_HUGE : why);
        if (huge) {
                frames_finish(c);
                return;
        }
        c->skipping = true;
        msgpack_scanner_init(&c->scanner);
}

/* Forgets bytes of a frame that is too large, as they come. True: its end was reached. */
static bool skip_on(struct conn *c) {
        enum msgpack_scan r =
                        msgpack_scan(&c->scanner, c->in, c->in_len, FRAMES_DEPTH, FRAMES_SKIP_MAX);
        uint32_t n;

        if (r != MSGPACK_SCAN_DONE && r != MSGPACK_SCAN_MORE) {
                frames_finish(c); /* its error has been said */
                return false;
        }
        n = c->scanner.at < c->in_len ? (uint32_t)c->scanner.at : c->in_len;
        c->scanner.at -= n;
        input_eat(c, n);
        input_shrink(c);
        if (r == MSGPACK_SCAN_MORE)
                return false;
        c->skipping = false;
        msgpack_scanner_init(&c->scanner);
        return true;
}

/* A frame that is not whole yet. False: no more can be done with what is there. */
static bool frame_wait(struct conn *c, uint32_t *at) {
        input_eat(c, *at);
        *at = 0;
        if (c->in_len < c->in_cap || input_grow(c))
                return false;
        skip_begin(c, 0,
                        c->in_cap >= c->frames->limits.frame_bytes ? FRAMES_LARGE
                                                                   : FRAMES_NO_MEMORY);
        return true;
}

/* Hands over whole frames of one connection, at most max. */
static unsigned conn_frames(struct conn *c, unsigned max) {
        struct frames *f = c->frames;
        uint32_t at = 0;
        unsigned n = 0;

        while (n < max && c->state <= CONN_HALF && at < c->in_len && frames_room(c)) {
                enum msgpack_scan r;

                if (c->skipping) {
                        input_eat(c, at);
                        at = 0;
                        if (!skip_on(c))
                                break;
                        continue;
                }
                r = msgpack_scan(&c->scanner, c->in + at, c->in_len - at, FRAMES_DEPTH,
                                f->limits.frame_bytes);
                if (r == MSGPACK_SCAN_MORE) {
                        if (!frame_wait(c, &at))
                                break;
                } else if (r == MSGPACK_SCAN_LARGE) {
                        skip_begin(c, at, FRAMES_LARGE);
                } else if (r != MSGPACK_SCAN_DONE) {
                        f->ops->refused(c, r == MSGPACK_SCAN_DEEP ? FRAMES_DEEP : FRAMES_BROKEN);
                        frames_finish(c);
                } else {
                        f->ops->frame(c, c->in + at, (uint32_t)c->scanner.at);
                        at += (uint32_t)c->scanner.at;
                        msgpack_scanner_init(&c->scanner);
                        n++;
                }
        }
        if (c->state > CONN_HALF)
                return n;
        if (at > 0)
                input_eat(c, at);
        if (c->in_len < FRAMES_IN)
                input_shrink(c); /* a full small buffer is about to be outgrown again */
        if (c->in_len > 0 && n == max)
                conn_ready(c);
        return n;
}

unsigned frames_input(struct frames *f, unsigned max) {
        unsigned n = 0;

        while (n < max) {
                struct conn *c = ready_take(f);

                if (!c)
                        break;
                if (c->state <= CONN_HALF)
                        n += conn_frames(c, max - n);
                if (c->state == CONN_CLOSING || c->state == CONN_HALF)
                        conn_dirty(c);
                conn_recv(c);
        }
        return n;
}

/* ---- connections ---- */

static void conn_ops_init(struct conn *c) {
        c->recv_op = (struct loop_op){.fn = on_received, .owner = c};
        c->send_op = (struct loop_op){.fn = conn_on_sent, .owner = c};
        c->hup_op = (struct loop_op){.fn = on_hup, .owner = c};
        c->in = c->in_small;
        c->in_cap = FRAMES_IN;
        for (int i = 0; i < 2; i++) {
                c->out[i].at = c->out[i].small;
                c->out[i].cap = FRAMES_OUT;
                c->out[i].len = 0;
        }
        msgpack_scanner_init(&c->scanner);
}

int frames_adopt(struct frames *f, int fd) {
        struct ucred peer = {.uid = (uid_t)-1};
        socklen_t len = sizeof(peer);
        struct conn *c = f->n_conns < FRAMES_CONNS_MAX && !f->closing ? malloc(sizeof(*c)) : NULL;

        if (!c) {
                close(fd);
                return -ENOMEM;
        }
        /* The buffers at the end are left alone: pages that are never used cost nothing. */
        memset(c, 0, offsetof(struct conn, out));
        c->filling = c->sent = 0;
        conn_ops_init(c);
        c->frames = f;
        c->fd = fd;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
                peer.uid = (uid_t)-1;
        c->uid = peer.uid;
        c->next = f->all;
        if (f->all)
                f->all->prev = c;
        f->all = c;
        f->n_conns++;
        f->n_accepted++;
        f->ops->opened(c);
        conn_recv(c);
        return 0;
}

static void take(struct frames *f, int fd) {
        if (frames_adopt(f, fd) < 0)
                log_warn("connection_refused", "connections=%u", f->n_conns);
}

/* For each connection the kernel wakes one of those who wait at the listener. When that was us, and we
 * stop just then, nobody looks at it until another one comes: so what is there is taken. */
static void take_backlog(struct frames *f) {
        int fd;

        while ((fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC)) != -1)
                take(f, fd);
}

static void on_accept(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct frames *f = op->owner;

        if (res >= 0)
                take(f, res);
        if (f->retired && !f->closing && !(cqe_flags & LOOP_MORE))
                take_backlog(f);
        if ((cqe_flags & LOOP_MORE) || f->closing || f->retired || res == -ECANCELED)
                return;
        /* Out of descriptors, or the like: the listener is asked again a little later. */
        if (res < 0) {
                log_warn("accept", "error=%s", strerror(-res));
                loop_timer_set(f->loop, &f->accept_again, loop_now_ns(f->loop) + ACCEPT_AGAIN_NS);
        } else {
                loop_accept_many(f->loop, &f->accept_op, f->listen_fd);
        }
}

static void on_accept_again(struct loop_timer *timer) {
        struct frames *f = timer->owner;

        loop_accept_many(f->loop, &f->accept_op, f->listen_fd);
}

void frames_init(struct frames *f, struct loop *loop, int listen_fd, const struct frames_ops *ops,
                void *ctx, const struct frames_limits *limits) {
        *f = (struct frames){.loop = loop,
                        .ops = ops,
                        .ctx = ctx,
                        .limits = *limits,
                        .listen_fd = listen_fd};
        f->accept_op = (struct loop_op){.fn = on_accept, .owner = f};
        f->accept_again = (struct loop_timer){.fn = on_accept_again, .owner = f};
        f->later_due = (struct loop_timer){.fn = frames_on_later, .owner = f};
        f->ready_end = &f->ready;
        if (listen_fd != -1)
                loop_accept_many(loop, &f->accept_op, listen_fd);
}

bool frames_idle(const struct frames *f) {
        return !f->ready && !f->dirty;
}

bool frames_flushed(const struct frames *f) {
        for (const struct conn *c = f->all; c; c = c->next)
                if (c->state != CONN_CLOSING && conn_pending(c) > 0)
                        return false;
        return true;
}

void frames_retire(struct frames *f) {
        f->retired = true;
        loop_timer_clear(f->loop, &f->accept_again);
        loop_cancel(f->loop, &f->accept_op); /* what is accepted until it has ended is kept */
}

/* On a Unix socket the peer's calls fail from here on, and what it had sent is still read: its end
 * then shows as the client's own end of file would. */
void frames_end_input(struct frames *f, bool all) {
        for (struct conn *c = f->all; c; c = c->next)
                if (c->state == CONN_OPEN && (all || (c->in_len == 0 && !c->skipping)))
                        shutdown(c->fd, SHUT_RD);
}

bool frames_gone(const struct frames *f) {
        return f->retired && !f->accept_op.pending && f->n_conns == 0;
}

/* What the kernel takes at once. */
static void last_words(struct conn *c) {
        struct conn_out *out[2] = {&c->out[!c->filling], &c->out[c->filling]};

        if (c->send_op.pending)
                return; /* the order would be lost */
        for (int i = 0; i < 2; i++) {
                uint32_t from = i == 0 ? c->sent : 0;

                if (send(c->fd, out[i]->at + from, out[i]->len - from,
                                    MSG_DONTWAIT | MSG_NOSIGNAL) < (ssize_t)(out[i]->len - from))
                        return;
        }
}

void frames_close(struct frames *f) {
        f->closing = true;
        loop_timer_clear(f->loop, &f->accept_again);
        loop_timer_clear(f->loop, &f->later_due);
        loop_cancel(f->loop, &f->accept_op);
        for (struct conn *c = f->all; c; c = c->next) {
                if (c->state != CONN_CLOSING)
                        last_words(c);
                conn_close(c);
        }
        while (ready_take(f))
                ;
        /* The kernel answers cancelled operations at once; a bound only guards against its bugs. */
        for (int i = 0; i < 1000 && (f->all || f->accept_op.pending); i++) {
                frames_output(f);
                if (f->all || f->accept_op.pending)
                        loop_turn(f->loop, loop_now_ns(f->loop) + 10 * NS_PER_MS);
        }
}
