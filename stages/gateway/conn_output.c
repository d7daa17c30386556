/*
 * What connections are sent: buffers, what may wait a little for more, the sockets.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/gateway/conn_own.h"

/* An answer of a fast model comes sooner than this, and then one send carries it all; a slow one's
 * client learns this much later that it was accepted. */
#define CONN_LATER_NS (5 * NS_PER_MS)

/* ---- buffers ---- */

/* A buffer that nobody has: its first bytes lead to the next one. */
struct conn_spare {
        struct conn_spare *next;
};

static uint8_t *buffer_take(struct conns *cs, uint64_t cap) {
        struct conn_spare *spare = cap == CONN_OUT ? cs->spare : NULL;

        if (!spare)
                return cap > UINT32_MAX ? NULL : malloc(cap);
        cs->spare = spare->next;
        cs->n_spare--;
        return (uint8_t *)spare;
}

void conn_out_drop(struct conns *cs, struct conn_out *out) {
        if (out->cap == CONN_OUT && cs->n_spare < CONN_SPARE_MAX) {
                struct conn_spare *spare = (struct conn_spare *)out->at;

                spare->next = cs->spare;
                cs->spare = spare;
                cs->n_spare++;
        } else {
                free(out->at);
        }
        *out = (struct conn_out){0};
}

void conns_spare_free(struct conns *cs) {
        while (cs->spare) {
                struct conn_spare *spare = cs->spare;

                cs->spare = spare->next;
                free(spare);
        }
        cs->n_spare = 0;
}

uint32_t conn_pending(const struct conn *c) {
        return c->out[c->filling].len + c->out[!c->filling].len - c->sent;
}

/* The buffer gets larger, or there was none. */
static bool output_grow(struct conn *c, uint64_t need) {
        struct conn_out *out = &c->out[c->filling];
        uint64_t cap = out->cap ? out->cap : CONN_OUT;
        uint32_t len = out->len;
        uint8_t *more;

        while (cap < need)
                cap *= 2;
        more = buffer_take(c->conns, cap);
        if (!more) {
                log_error("connection_dropped", "reason=no_memory bytes=%llu",
                                (unsigned long long)cap);
                conn_close(c);
                return false;
        }
        if (out->at) {
                memcpy(more, out->at, len);
                conn_out_drop(c->conns, out);
        }
        *out = (struct conn_out){.at = more, .len = len, .cap = (uint32_t)cap};
        return true;
}

uint8_t *conn_reserve(struct conn *c, uint32_t n) {
        struct conn_out *out = &c->out[c->filling];
        uint64_t need = (uint64_t)out->len + n;

        if (c->state == CONN_CLOSING || (need > out->cap && !output_grow(c, need)))
                return NULL;
        return out->at + out->len;
}

void conn_wrote(struct conn *c, uint32_t n) {
        c->out[c->filling].len += n;
        conn_dirty(c);
}

/* ---- output that waits a little ---- */

void conn_later_end(struct conn *c) {
        struct conns *cs = c->conns;

        if (!c->later_self)
                return;
        *c->later_self = c->later_next;
        if (c->later_next)
                c->later_next->later_self = c->later_self;
        c->later_self = NULL;
        if (!cs->later)
                loop_timer_clear(cs->loop, &cs->later_due);
}

void conn_wrote_later(struct conn *c, uint32_t n) {
        struct conns *cs = c->conns;

        c->out[c->filling].len += n;
        if (c->dirty || c->later_self)
                return;
        if (!cs->later)
                loop_timer_set(cs->loop, &cs->later_due, loop_now_ns(cs->loop) + CONN_LATER_NS);
        c->later_next = cs->later;
        c->later_self = &cs->later;
        if (cs->later)
                cs->later->later_self = &c->later_next;
        cs->later = c;
}

void conns_on_later(struct loop_timer *timer) {
        struct conns *cs = timer->owner;

        while (cs->later) {
                conn_dirty(cs->later);
                conn_later_end(cs->later);
        }
}

/* ---- sending ---- */

/* It was as large as what came might have become, and may have to wait for long. */
static void output_shrink(struct conn_out *out) {
        uint8_t *less;

        if (out->len == 0 || out->cap <= CONN_OUT || out->len > out->cap / 2)
                return;
        less = realloc(out->at, out->len);
        if (!less)
                return;
        out->at = less;
        out->cap = out->len;
}

bool conn_room(struct conn *c) {
        if (c->state == CONN_CLOSING || conn_pending(c) < c->protocol->out_soft)
                return true;
        if (!c->stalled)
                output_shrink(&c->out[c->filling]);
        c->stalled = true;
        return false;
}

/* Output has gone out: what waited for its room goes on. */
static void output_left(struct conn *c) {
        if (conn_pending(c) >= c->protocol->out_soft / 2)
                return;
        if (c->stalled) {
                c->stalled = false;
                c->protocol->writable(c);
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
        c->sent = 0;
        if (out->at)
                conn_out_drop(c->conns, out);
        if (c->out[c->filling].len == 0) {
                conn_later_end(c);
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
                        loop_send(c->conns->loop, &c->send_op, c->fd, out->at + c->sent,
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

void conns_output(struct conns *cs) {
        struct conn *c = cs->dirty;

        cs->dirty = NULL;
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
