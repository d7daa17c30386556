#include "stages/gateway/conn.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/gateway/conn_own.h"

#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)
/* What a client may still send of a message that is refused, and how long. */
#define LINGER_BYTES (32u << 20)
#define LINGER_NS (2 * NS_PER_S)

/* ---- lists ---- */

void conn_ready(struct conn *c) {
        struct conns *cs = c->conns;

        if (c->ready)
                return;
        c->ready = true;
        c->ready_next = NULL;
        *cs->ready_end = c;
        cs->ready_end = &c->ready_next;
}

static struct conn *ready_take(struct conns *cs) {
        struct conn *c = cs->ready;

        if (!c)
                return NULL;
        cs->ready = c->ready_next;
        if (!cs->ready)
                cs->ready_end = &cs->ready;
        c->ready = false;
        return c;
}

void conn_dirty(struct conn *c) {
        if (c->dirty)
                return;
        c->dirty = true;
        c->dirty_next = c->conns->dirty;
        c->conns->dirty = c;
}

/* ---- input buffers ---- */

void conn_eat(struct conn *c, uint32_t n) {
        c->in_len -= n;
        memmove(c->in, c->in + n, c->in_len);
}

static void input_swap(struct conn *c, uint8_t *to, uint32_t cap) {
        memcpy(to, c->in, c->in_len);
        if (c->in != c->in_small)
                free(c->in);
        c->in = to;
        c->in_cap = cap;
}

bool conn_grow(struct conn *c, uint64_t cap) {
        struct conns *cs = c->conns;
        uint64_t held = c->in == c->in_small ? 0 : c->in_cap;
        uint8_t *more;

        if (cap <= c->in_cap)
                return true;
        if (cap > UINT32_MAX || cs->large_bytes - held + cap > cs->total_bytes)
                return false;
        more = malloc(cap);
        if (!more)
                return false;
        cs->large_bytes += cap - held;
        input_swap(c, more, (uint32_t)cap);
        return true;
}

void conn_shrink(struct conn *c) {
        if (c->in == c->in_small || c->in_len > c->protocol->in_bytes)
                return;
        c->conns->large_bytes -= c->in_cap;
        input_swap(c, c->in_small, c->protocol->in_bytes);
}

/* ---- the end of a connection ---- */

void conn_reap(struct conn *c) {
        struct conns *cs = c->conns;

        if (c->state != CONN_CLOSING || c->recv_op.pending || c->send_op.pending ||
                        c->hup_op.pending || c->ready || c->dirty)
                return;
        c->in_len = 0;
        conn_shrink(c);
        for (int i = 0; i < 2; i++)
                conn_out_drop(cs, &c->out[i]);
        close(c->fd);
        if (c->next)
                c->next->prev = c->prev;
        if (c->prev)
                c->prev->next = c->next;
        else
                cs->all = c->next;
        cs->n[c->protocol->surface]--;
        free(c);
}

/* The reaper frees it, from a completion or from conns_output(). */
void conn_close(struct conn *c) {
        struct conns *cs = c->conns;

        if (c->state == CONN_CLOSING)
                return;
        c->state = CONN_CLOSING;
        loop_timer_clear(cs->loop, &c->timer);
        c->protocol->gone(c);
        conn_later_end(c);
        shutdown(c->fd, SHUT_RDWR);
        loop_cancel(cs->loop, &c->recv_op);
        loop_cancel(cs->loop, &c->send_op);
        loop_cancel(cs->loop, &c->hup_op);
        conn_dirty(c);
}

static void on_lingered(struct loop_timer *timer) {
        conn_close(timer->owner);
}

static void linger_recv(struct conn *c) {
        if (!c->recv_op.pending)
                loop_recv(c->conns->loop, &c->recv_op, c->fd, c->in_small, c->protocol->in_bytes);
}

/* All is said. The client reads it before it learns that we read nothing more. */
static void linger_begin(struct conn *c) {
        c->state = CONN_LINGERING;
        c->in_len = 0;
        if (!c->recv_op.pending)
                conn_shrink(c);
        c->timer = (struct loop_timer){.fn = on_lingered, .owner = c};
        loop_timer_set(c->conns->loop, &c->timer, loop_now_ns(c->conns->loop) + LINGER_NS);
        shutdown(c->fd, SHUT_WR);
        linger_recv(c);
}

/* Is there anything left that could make output? */
void conn_close_when_done(struct conn *c) {
        if (conn_pending(c) > 0)
                return;
        if (c->state == CONN_HALF && c->users == 0 && !c->ready)
                conn_close(c);
        if (c->state != CONN_FINISHING)
                return;
        if (c->protocol->fin_is_gone)
                linger_begin(c);
        else
                conn_close(c);
}

void conn_finish(struct conn *c) {
        if (c->state >= CONN_FINISHING)
                return;
        c->state = CONN_FINISHING;
        loop_timer_clear(c->conns->loop, &c->timer);
        c->in_len = 0;
        conn_dirty(c);
}

void conn_release(struct conn *c) {
        assert(c->users > 0);
        c->users--;
        if (c->users == 0 && c->state == CONN_HALF)
                conn_dirty(c);
}

/* ---- input ---- */

static void hup_arm(struct conn *c) {
        loop_poll_edge(c->conns->loop, &c->hup_op, c->fd,
                        c->protocol->fin_is_gone ? POLLRDHUP : POLLHUP);
}

/* The kernel tells of a half that has ended in any case. */
static void on_hup(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn *c = op->owner;
        int gone = c->protocol->fin_is_gone ? POLLHUP | POLLERR | POLLRDHUP : POLLHUP | POLLERR;

        if (c->state == CONN_CLOSING)
                conn_reap(c);
        else if (c->state == CONN_LINGERING)
                return; /* what is read tells of the end */
        else if (res < 0 || (res & gone))
                conn_close(c);
        else if (!(cqe_flags & LOOP_MORE))
                hup_arm(c);
}

/* End of file: the client ended its sending half, or it is gone altogether. */
static void input_ended(struct conn *c) {
        struct pollfd look = {.fd = c->fd, .events = 0};

        if (c->protocol->fin_is_gone ||
                        (poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)))) {
                conn_close(c);
                return;
        }
        if (c->state == CONN_OPEN)
                c->state = CONN_HALF;
        hup_arm(c);
        conn_dirty(c);
}

static void on_lingering(struct conn *c, int res) {
        if (res > 0)
                c->lingered += (uint32_t)res;
        if (res == 0 || (res < 0 && res != -EINTR && res != -EAGAIN) || c->lingered > LINGER_BYTES)
                conn_close(c);
        else
                linger_recv(c);
}

static void on_received(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn *c = op->owner;

        (void)cqe_flags;
        if (c->state == CONN_CLOSING) {
                conn_reap(c);
        } else if (c->state == CONN_LINGERING) {
                on_lingering(c, res);
        } else if (res == -EINTR || res == -EAGAIN) {
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
        if (c->state != CONN_OPEN || c->recv_op.pending || c->ready || c->hold ||
                        c->in_len == c->in_cap || conn_pending(c) >= c->protocol->out_soft)
                return;
        loop_recv(c->conns->loop, &c->recv_op, c->fd, c->in + c->in_len, c->in_cap - c->in_len);
}

unsigned conns_input(struct conns *cs, unsigned max) {
        unsigned n = 0;

        while (n < max) {
                struct conn *c = ready_take(cs);
                unsigned taken = 0;

                if (!c)
                        break;
                if (c->state <= CONN_HALF)
                        taken = c->protocol->input(c, max - n);
                if (c->state <= CONN_HALF && c->in_len > 0 && taken == max - n)
                        conn_ready(c);
                if (c->state == CONN_CLOSING || c->state == CONN_HALF)
                        conn_dirty(c);
                conn_recv(c);
                n += taken;
        }
        return n;
}

/* ---- connections ---- */

static uint32_t aligned(uint32_t n) {
        return (n + 15) & ~15u;
}

/* The buffers at the end are left alone: pages that are never used cost nothing. */
static struct conn *conn_new(struct conn_listener *listener) {
        const struct protocol *protocol = listener->protocol;
        uint32_t own_at = aligned(sizeof(struct conn));
        uint32_t in_at = own_at + aligned(protocol->own_bytes);
        uint8_t *at = malloc((size_t)in_at + protocol->in_bytes);
        struct conn *c = (struct conn *)at;

        if (!at)
                return NULL;
        memset(at, 0, in_at);
        c->conns = listener->conns;
        c->listener = listener;
        c->protocol = protocol;
        c->own = at + own_at;
        c->in = c->in_small = at + in_at;
        c->in_cap = protocol->in_bytes;
        c->recv_op = (struct loop_op){.fn = on_received, .owner = c};
        c->send_op = (struct loop_op){.fn = conn_on_sent, .owner = c};
        c->hup_op = (struct loop_op){.fn = on_hup, .owner = c};
        return c;
}

int conn_adopt(struct conn_listener *listener, int fd) {
        struct conns *cs = listener->conns;
        enum surface surface = listener->protocol->surface;
        struct ucred peer = {.uid = (uid_t)-1};
        socklen_t len = sizeof(peer);
        struct conn *c = cs->n[surface] < cs->max[surface] && !cs->closing ? conn_new(listener)
                                                                           : NULL;

        if (!c) {
                close(fd);
                return -ENOMEM;
        }
        c->fd = fd;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
                peer.uid = (uid_t)-1;
        c->uid = peer.uid;
        c->next = cs->all;
        if (cs->all)
                cs->all->prev = c;
        cs->all = c;
        cs->n[surface]++;
        if (c->protocol->fin_is_gone)
                hup_arm(c);
        c->protocol->opened(c);
        conn_recv(c);
        return 0;
}

static void take(struct conn_listener *listener, int fd) {
        if (conn_adopt(listener, fd) < 0)
                log_warn("connection_refused", "connections=%u",
                                listener->conns->n[listener->protocol->surface]);
}

/* For each connection the kernel wakes one of those who wait at the listener. When that was us, and we
 * stop just then, nobody looks at it until another one comes: so what is there is taken. */
static void take_backlog(struct conn_listener *listener) {
        int fd;

        while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC)) != -1)
                take(listener, fd);
}

static void on_accept(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn_listener *listener = op->owner;
        struct conns *cs = listener->conns;

        (void)cqe_flags;
        if (res >= 0)
                take(listener, res);
        if (cs->retired && !cs->closing)
                take_backlog(listener);
        if (cs->closing || cs->retired || res == -ECANCELED)
                return;
        /* Out of descriptors, or the like: the listener is asked again a little later. */
        if (res < 0) {
                log_warn("accept", "error=%s", strerror(-res));
                loop_timer_set(cs->loop, &listener->accept_again,
                                loop_now_ns(cs->loop) + ACCEPT_AGAIN_NS);
        } else {
                loop_accept(cs->loop, &listener->accept_op, listener->fd);
        }
}

static void on_accept_again(struct loop_timer *timer) {
        struct conn_listener *listener = timer->owner;

        loop_accept(listener->conns->loop, &listener->accept_op, listener->fd);
}

void conns_init(struct conns *cs, struct loop *loop, void *ctx, uint64_t total_bytes) {
        *cs = (struct conns){.loop = loop, .ctx = ctx, .total_bytes = total_bytes};
        cs->later_due = (struct loop_timer){.fn = conns_on_later, .owner = cs};
        cs->ready_end = &cs->ready;
}

struct conn_listener *conns_listen(
                struct conns *cs, int fd, const struct protocol *protocol, const void *ctx) {
        struct conn_listener *listener;

        if (cs->n_listeners == CONN_LISTENERS_MAX)
                return NULL;
        listener = &cs->listeners[cs->n_listeners++];
        *listener = (struct conn_listener){
                        .conns = cs, .protocol = protocol, .ctx = ctx, .fd = fd};
        listener->accept_op = (struct loop_op){.fn = on_accept, .owner = listener};
        listener->accept_again = (struct loop_timer){.fn = on_accept_again, .owner = listener};
        if (fd != -1)
                loop_accept(cs->loop, &listener->accept_op, fd);
        return listener;
}

bool conns_idle(const struct conns *cs) {
        return !cs->ready && !cs->dirty;
}

bool conns_flushed(const struct conns *cs) {
        for (const struct conn *c = cs->all; c; c = c->next)
                if (c->state != CONN_CLOSING && conn_pending(c) > 0)
                        return false;
        return true;
}

/* What is accepted until the operations have ended is kept. */
void conns_retire(struct conns *cs) {
        cs->retired = true;
        for (uint32_t i = 0; i < cs->n_listeners; i++) {
                loop_timer_clear(cs->loop, &cs->listeners[i].accept_again);
                loop_cancel(cs->loop, &cs->listeners[i].accept_op);
        }
}

/* On a Unix socket the peer's calls fail from here on, and what it had sent is still read: its end
 * then shows as the client's own end of file would. */
void conns_end_input(struct conns *cs, bool all) {
        for (struct conn *c = cs->all; c; c = c->next)
                if (c->state == CONN_OPEN && !c->protocol->fin_is_gone &&
                                (all || (c->in_len == 0 && !c->midway)))
                        shutdown(c->fd, SHUT_RD);
}

static bool accepting(const struct conns *cs) {
        for (uint32_t i = 0; i < cs->n_listeners; i++)
                if (cs->listeners[i].accept_op.pending)
                        return true;
        return false;
}

bool conns_gone(const struct conns *cs) {
        return cs->retired && !accepting(cs) && !cs->all;
}

/* What the kernel takes at once. */
static void last_words(struct conn *c) {
        struct conn_out *out[2] = {&c->out[!c->filling], &c->out[c->filling]};

        if (c->send_op.pending)
                return; /* the order would be lost */
        for (int i = 0; i < 2; i++) {
                uint32_t from = i == 0 ? c->sent : 0;

                if (out[i]->len > from && send(c->fd, out[i]->at + from, out[i]->len - from,
                                                          MSG_DONTWAIT | MSG_NOSIGNAL) <
                                                          (ssize_t)(out[i]->len - from))
                        return;
        }
}

void conns_close(struct conns *cs) {
        cs->closing = true;
        loop_timer_clear(cs->loop, &cs->later_due);
        for (uint32_t i = 0; i < cs->n_listeners; i++) {
                loop_timer_clear(cs->loop, &cs->listeners[i].accept_again);
                loop_cancel(cs->loop, &cs->listeners[i].accept_op);
        }
        for (struct conn *c = cs->all; c; c = c->next) {
                if (c->state != CONN_CLOSING)
                        last_words(c);
                conn_close(c);
        }
        while (ready_take(cs))
                ;
        /* The kernel answers cancelled operations at once; a bound only guards against its bugs. */
        for (int i = 0; i < 1000 && (cs->all || accepting(cs)); i++) {
                conns_output(cs);
                if (cs->all || accepting(cs))
                        loop_turn(cs->loop, loop_now_ns(cs->loop) + 10 * NS_PER_MS);
        }
        conns_spare_free(cs);
}
