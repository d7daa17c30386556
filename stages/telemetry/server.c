#include "stages/telemetry/server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/telemetry/answer.h"

#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)
#define INPUT_FIRST 4096u
#define CLOSE_TURNS 200 /* of at most 10 ms: the kernel answers cancelled operations at once */

enum conn_state { CONN_READING, CONN_WRITING, CONN_LINGERING, CONN_CLOSING };

struct server_conn {
        struct server *server;
        struct server_conn *prev, *next;
        int fd;
        enum conn_state state;
        struct loop_op recv_op, send_op;
        struct loop_timer timer; /* of the state */
        struct http1_scan scan;
        char *in;
        uint32_t in_len, in_cap;
        struct text out;
        size_t sent;
        uint32_t lingered; /* bytes thrown away */
        bool last;         /* the response on its way is the last one */
        bool end;          /* the client sends no more */
        bool answered;     /* it has had a response */
};

static void conn_read(struct server_conn *c);
static void conn_recv(struct server_conn *c);
static void accept_arm(struct server *s);

/* ---- the end of a connection ---- */

static void conn_reap(struct server_conn *c) {
        struct server *s = c->server;

        if (c->state != CONN_CLOSING || c->recv_op.pending || c->send_op.pending)
                return;
        loop_timer_clear(s->loop, &c->timer);
        close(c->fd);
        if (c->next)
                c->next->prev = c->prev;
        if (c->prev)
                c->prev->next = c->next;
        else
                s->conns = c->next;
        s->n_conns--;
        text_close(&c->out);
        free(c->in);
        free(c);
        accept_arm(s);
}

static void on_closing_time(struct loop_timer *timer) {
        conn_reap(timer->owner);
}

/* Ends it now; it is freed from the loop, never under its caller's feet. */
static void conn_close(struct server_conn *c) {
        struct server *s = c->server;

        if (c->state == CONN_CLOSING)
                return;
        c->state = CONN_CLOSING;
        shutdown(c->fd, SHUT_RDWR);
        loop_cancel(s->loop, &c->recv_op);
        loop_cancel(s->loop, &c->send_op);
        c->timer.fn = on_closing_time;
        loop_timer_set(s->loop, &c->timer, loop_now_ns(s->loop));
}

static void conn_deadline(struct server_conn *c, uint64_t after_ns) {
        loop_timer_set(c->server->loop, &c->timer, loop_now_ns(c->server->loop) + after_ns);
}

/* The response is out and the client may still be sending: closing now would send a reset that
 * takes the response away from it. So: no more from us, and what it sends is thrown away for a
 * while. */
static void conn_linger(struct server_conn *c) {
        c->state = CONN_LINGERING;
        c->in_len = 0;
        if (c->end || shutdown(c->fd, SHUT_WR) == -1) {
                conn_close(c);
                return;
        }
        conn_deadline(c, SERVER_LINGER_NS);
        conn_recv(c);
}

/* ---- writing ---- */

static void conn_send(struct server_conn *c) {
        loop_send(c->server->loop, &c->send_op, c->fd, c->out.at + c->sent,
                        (uint32_t)(c->out.len - c->sent));
}

static void conn_write(struct server_conn *c) {
        if (c->out.failed) {
                conn_close(c);
                return;
        }
        c->state = CONN_WRITING;
        c->sent = 0;
        c->answered = true;
        conn_deadline(c, c->server->send_timeout_ns);
        conn_send(c);
}

static void on_send(struct loop_op *op, int res, uint32_t flags) {
        struct server_conn *c = op->owner;
        (void)flags;

        if (c->state == CONN_CLOSING) {
                conn_reap(c);
                return;
        }
        if (res < 0 && res != -EINTR && res != -EAGAIN) {
                conn_close(c);
                return;
        }
        if (res > 0)
                c->sent += (size_t)res;
        if (c->sent < c->out.len) {
                conn_send(c);
                return;
        }
        text_close(&c->out); /* an idle connection holds little */
        if (c->last)
                conn_linger(c);
        else
                conn_read(c);
}

/* ---- reading ---- */

static void conn_refuse(struct server_conn *c, const struct http1_refusal *refusal) {
        c->last = true;
        answer_refusal(&c->out, refusal);
        conn_write(c);
}

/* The next whole head in the input, if there is one, is answered. */
static void conn_parse(struct server_conn *c) {
        struct http1_request request;
        struct http1_refusal refusal;
        int r = http1_parse(&c->scan, c->in, c->in_len, &request, &refusal);

        if (r == HTTP1_E_MORE)
                return;
        if (r == HTTP1_E_REFUSED) {
                conn_refuse(c, &refusal);
                return;
        }
        c->last = !c->server->answer(c->server->ctx, &request, &c->out);
        c->in_len -= request.head_bytes;
        memmove(c->in, c->in + request.head_bytes, c->in_len);
        c->scan = (struct http1_scan){0};
        conn_write(c);
}

static bool conn_room(struct server_conn *c) {
        uint32_t cap = c->in_cap ? c->in_cap * 2 : INPUT_FIRST;
        char *more;

        if (c->in_len < c->in_cap)
                return true;
        if (c->in_cap >= HTTP1_HEAD_MAX)
                return false;
        more = realloc(c->in, cap);
        if (!more)
                return false;
        c->in = more;
        c->in_cap = cap;
        return true;
}

static void conn_recv(struct server_conn *c) {
        if (c->recv_op.pending)
                return;
        if (!conn_room(c)) { /* a whole head fits, so there is one, or no memory */
                conn_close(c);
                return;
        }
        loop_recv(c->server->loop, &c->recv_op, c->fd, c->in + c->in_len, c->in_cap - c->in_len);
}

/* Looks for a head in what is there, then for more. While a response is on its way nothing is
 * read, so that a client cannot make us hold more than one head and one response. */
static void conn_read(struct server_conn *c) {
        c->state = CONN_READING;
        if (c->in_len > 0)
                conn_parse(c);
        if (c->state != CONN_READING)
                return;
        if (c->end || (c->in_len == 0 && c->server->full)) {
                /* Half a head is nobody's request; and others wait for an idle one's place. */
                conn_close(c);
                return;
        }
        conn_deadline(c, c->in_len == 0 ? SERVER_IDLE_NS : c->server->head_timeout_ns);
        conn_recv(c);
}

static void received(struct server_conn *c, uint32_t n) {
        if (c->in_len == 0 && n > 0)
                conn_deadline(c, c->server->head_timeout_ns);
        c->in_len += n;
        conn_parse(c);
        if (c->state != CONN_READING)
                return;
        if (c->end)
                conn_close(c);
        else
                conn_recv(c);
}

static void thrown_away(struct server_conn *c, uint32_t n) {
        c->lingered += n;
        if (c->end || c->lingered > SERVER_LINGER_BYTES)
                conn_close(c);
        else
                conn_recv(c);
}

static void on_recv(struct loop_op *op, int res, uint32_t flags) {
        struct server_conn *c = op->owner;
        uint32_t n = res > 0 ? (uint32_t)res : 0;
        (void)flags;

        if (c->state == CONN_CLOSING) {
                conn_reap(c);
                return;
        }
        if (res < 0 && res != -EINTR && res != -EAGAIN && res != -ECANCELED) {
                conn_close(c);
                return;
        }
        if (res == 0)
                c->end = true;
        if (c->state == CONN_READING)
                received(c, n);
        else if (c->state == CONN_LINGERING)
                thrown_away(c, n);
}

/* ---- time ---- */

static void on_deadline(struct loop_timer *timer) {
        static const struct http1_refusal slow = {408, "the head did not come in time"};
        struct server_conn *c = timer->owner;

        switch (c->state) {
        case CONN_READING:
                if (c->in_len == 0) {
                        conn_close(c);
                        return;
                }
                loop_cancel(c->server->loop, &c->recv_op);
                conn_refuse(c, &slow);
                return;
        case CONN_WRITING:
        case CONN_LINGERING:
                conn_close(c);
                return;
        case CONN_CLOSING:
                conn_reap(c);
                return;
        }
}

/* ---- accepting ---- */

/* The one that has been idle for longest makes room. */
static bool evict_idle(struct server *s) {
        struct server_conn *oldest = NULL;

        for (struct server_conn *c = s->conns; c; c = c->next)
                if (c->state == CONN_READING && c->in_len == 0 && c->answered &&
                                (!oldest || c->timer.at_ns < oldest->timer.at_ns))
                        oldest = c;
        if (oldest)
                conn_close(oldest);
        return oldest != NULL;
}

static void conn_new(struct server *s, int fd) {
        struct server_conn *c = s->n_conns < 2 * SERVER_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

        if (!c) {
                close(fd);
                return;
        }
        c->server = s;
        c->fd = fd;
        c->recv_op = (struct loop_op){.fn = on_recv, .owner = c};
        c->send_op = (struct loop_op){.fn = on_send, .owner = c};
        c->timer = (struct loop_timer){.fn = on_deadline, .owner = c};
        c->next = s->conns;
        if (c->next)
                c->next->prev = c;
        s->conns = c;
        s->n_conns++;
        c->state = CONN_READING;
        conn_deadline(c, s->head_timeout_ns); /* a stranger has no idle time */
        conn_recv(c);
}

static void on_acceptable(struct loop_op *op, int res, uint32_t flags) {
        struct server *s = op->owner;
        (void)res;
        (void)flags;

        accept_arm(s);
}

static void on_accept(struct loop_op *op, int res, uint32_t flags) {
        struct server *s = op->owner;

        (void)flags;
        if (res >= 0) {
                s->said_accept = false;
                conn_new(s, res);
                s->full = s->n_conns >= SERVER_CONNS_MAX && !evict_idle(s);
        }
        if (res >= 0 || res == -ECANCELED || s->closing) {
                accept_arm(s);
                return;
        }
        if (res == -EAGAIN) { /* a non-blocking listener, and a kernel that minds */
                op->fn = on_acceptable;
                loop_poll(s->loop, op, s->listen_fd, POLLIN);
                return;
        }
        if (!s->said_accept)
                log_warn("accept", "error=\"%s\"", strerror(-res));
        s->said_accept = true;
        loop_timer_set(s->loop, &s->accept_again, loop_now_ns(s->loop) + ACCEPT_AGAIN_NS);
}

static void on_accept_again(struct loop_timer *timer) {
        accept_arm(timer->owner);
}

/* Accepts, when there is room and nothing else is going to. */
static void accept_arm(struct server *s) {
        if (s->n_conns < SERVER_CONNS_MAX)
                s->full = false;
        if (s->listen_fd < 0 || s->closing || s->full || s->accept_op.pending ||
                        s->accept_again.heap)
                return;
        s->accept_op.fn = on_accept;
        loop_accept(s->loop, &s->accept_op, s->listen_fd);
}

void server_init(struct server *s, struct loop *loop, int listen_fd, uint64_t head_timeout_ns,
                server_answer_fn answer, void *ctx) {
        *s = (struct server){.loop = loop,
                        .listen_fd = listen_fd,
                        .answer = answer,
                        .ctx = ctx,
                        .head_timeout_ns = head_timeout_ns,
                        .send_timeout_ns = SERVER_SEND_NS};
        s->accept_op = (struct loop_op){.fn = on_accept, .owner = s};
        s->accept_again = (struct loop_timer){.fn = on_accept_again, .owner = s};
        accept_arm(s);
}

void server_close(struct server *s) {
        s->closing = true;
        loop_timer_clear(s->loop, &s->accept_again);
        loop_cancel(s->loop, &s->accept_op);
        for (struct server_conn *c = s->conns; c; c = c->next)
                conn_close(c);
        for (int i = 0; i < CLOSE_TURNS && (s->conns || s->accept_op.pending); i++)
                if (loop_turn(s->loop, clock_now_ns() + 10 * NS_PER_MS) < 0)
                        return;
}
