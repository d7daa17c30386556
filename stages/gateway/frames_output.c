/*
 * What connections are sent: buffers, what may wait a little for more, the sockets.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/gateway/frames_conn.h"

/* An answer of a fast model comes sooner than this, and then one send carries it all; a slow one's
 * client learns this much later that it was accepted. */
#define FRAMES_LATER_NS (5 * NS_PER_MS)

void conn_out_shrink(struct conn_out *out) {
        if (out->at == out->small)
                return;
        free(out->at);
        out->at = out->small;
        out->cap = FRAMES_OUT;
}

uint32_t conn_pending(const struct conn *c) {
        return c->out[c->filling].len + c->out[!c->filling].len - c->sent;
}

uint8_t *frames_reserve(struct conn *c, uint32_t n) {
        struct conn_out *out = &c->out[c->filling];
        uint64_t need = (uint64_t)out->len + n, cap = out->cap;
        uint8_t *more;

        if (c->state == CONN_CLOSING)
                return NULL;
        if (need <= cap)
                return out->at + out->len;
        while (cap < need)
                cap *= 2;
        more = cap > UINT32_MAX ? NULL : malloc(cap);
        if (!more) {
                log_error("connection_dropped", "reason=no_memory bytes=%llu",
                                (unsigned long long)cap);
                conn_close(c);
                return NULL;
        }
        memcpy(more, out->at, out->len);
        conn_out_shrink(out);
        out->at = more;
        out->cap = (uint32_t)cap;
        return out->at + out->len;
}

void frames_wrote(struct conn *c, uint32_t n) {
        c->out[c->filling].len += n;
        conn_dirty(c);
}

/* ---- output that waits a little ---- */

void conn_later_end(struct conn *c) {
        struct frames *f = c->frames;

        if (!c->later_self)
                return;
        *c->later_self = c->later_next;
        if (c->later_next)
                c->later_next->later_self = c->later_self;
        c->later_self = NULL;
        if (!f->later)
                loop_timer_clear(f->loop, &f->later_due);
}

void frames_wrote_later(struct conn *c, uint32_t n) {
        struct frames *f = c->frames;

        c->out[c->filling].len += n;
        if (c->dirty || c->later_self)
                return;
        if (!f->later)
                loop_timer_set(f->loop, &f->later_due, loop_now_ns(f->loop) + FRAMES_LATER_NS);
        c->later_next = f->later;
        c->later_self = &f->later;
        if (f->later)
                f->later->later_self = &c->later_next;
        f->later = c;
}

void frames_on_later(struct loop_timer *timer) {
        struct frames *f = timer->owner;

        while (f->later) {
                conn_dirty(f->later);
                conn_later_end(f->later);
        }
}

/* ---- sending ---- */

bool frames_room(struct conn *c) {
        if (c->state == CONN_CLOSING || conn_pending(c) < FRAMES_OUT_SOFT)
                return true;
        c->stalled = true;
        return false;
}

/* Output has gone out: what waited for its room goes on. */
static void output_left(struct conn *c) {
        if (conn_pending(c) >= FRAMES_OUT_SOFT / 2)
                return;
        if (c->stalled) {
                c->stalled = false;
                c->frames->ops->writable(c);
        }
        if (c->in_len > 0)
                conn_ready(c); /* input may have waited for the output */
        conn_recv(c);
}

/* The buffer to be sent; NULL: all is sent. */
static struct conn_out *output_next(struct conn *c) {
        struct conn_out *out = &c->out[!c->filling];

        if (c->sent < out->len)
                return out;
        c->sent = out->len = 0;
        conn_out_shrink(out);
        if (c->out[c->filling].len == 0) {
                conn_later_end(c);
                c->filling = !c->filling; /* that one is in the cache */
                return NULL;
        }
        c->filling = !c->filling;
        return &c->out[!c->filling];
}

/* Mostly the socket takes everything at once, and then a plain call is cheaper than an operation:
 * that one's completion would end the coming sleep (one io_uring_enter less for each answer). What
 * it does not take waits in the kernel. */
static void send_more(struct conn *c) {
        struct conn_out *out;
        bool some = false;

        if (c->send_op.pending || c->state == CONN_CLOSING)
                return;
        while ((out = output_next(c)) != NULL) {
                uint32_t left = out->len - c->sent;
                ssize_t n = send(c->fd, out->at + c->sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n == -1 && errno != EAGAIN && errno != EINTR) {
                        conn_close(c); /* EPIPE, ECONNRESET: nobody reads any more */
                        return;
                }
                some = some || n > 0;
                c->sent += n > 0 ? (uint32_t)n : 0;
                if (n < (ssize_t)left) {
                        loop_send(c->frames->loop, &c->send_op, c->fd, out->at + c->sent,
                                        out->len - c->sent);
                        break;
                }
        }
        if (some)
                output_left(c);
}

void conn_on_sent(struct loop_op *op, int res, uint32_t cqe_flags) {
        struct conn *c = op->owner;

        (void)cqe_flags;
        if (c->state == CONN_CLOSING) {
                conn_reap(c);
                return;
        }
        if (res < 0 && res != -EINTR && res != -EAGAIN) {
                conn_close(c); /* EPIPE, ECONNRESET: nobody reads any more */
                return;
        }
        if (res > 0)
                c->sent += (uint32_t)res;
        conn_dirty(c);
        output_left(c);
}

void frames_output(struct frames *f) {
        struct conn *c = f->dirty;

        f->dirty = NULL;
        while (c) {
                struct conn *next = c->dirty_next;

                c->dirty = false;
                if (c->state == CONN_CLOSING) {
                        conn_reap(c);
                } else {
                        send_more(c);
                        conn_close_when_done(c);
                }
                c = next;
        }
}
