#include "stages/gateway/http.h"

#include <stdlib.h>
#include <string.h>

#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/gateway/endpoints.h"
#include "stages/gateway/http_answer.h"
#include "stages/gateway/proxy_protocol.h"
#include "stages/gateway/reader.h"

#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
/* A body that comes in chunks begins with this much room. */
#define CHUNKED_ROOM 16384u

/* ---- time ---- */

static void on_timer(struct loop_timer *timer) {
        struct conn *c = timer->owner;
        struct http *h = http_of(c);
        uint64_t now = loop_now_ns(c->conns->loop);

        if (h->due_ns > now) {
                if (h->due_ns != UINT64_MAX)
                        loop_timer_set(c->conns->loop, timer, h->due_ns);
        } else if (h->phase == HTTP_ANSWERING) {
                if (h->kind)
                        h->kind->ping(c);
                http_due(c, now + HTTP_PING_NS);
        } else if (h->begun_ns == 0 || h->phase == HTTP_PROXY) {
                conn_close(c); /* idle for long, or nobody who could be answered */
        } else {
                h->last = true;
                http_refuse(c, 408, MR_E_invalid_request,
                                h->phase == HTTP_HEAD ? "the head of the request came too slowly"
                                                      : "the body of the request came too slowly",
                                NULL);
        }
}

/* The timer is only moved to an earlier time: it looks for itself whether it is due. */
void http_due(struct conn *c, uint64_t at_ns) {
        http_of(c)->due_ns = at_ns;
        if (at_ns != UINT64_MAX && (c->timer.heap == 0 || c->timer.at_ns > at_ns))
                loop_timer_set(c->conns->loop, &c->timer, at_ns);
}

static uint64_t head_timeout_ns(const struct conn *c) {
        return gateway_of(c)->w->settings->http.head_timeout_ms * NS_PER_MS;
}

/* More of it came, or the first of it. */
static void body_due(struct conn *c) {
        struct http *h = http_of(c);
        uint64_t bytes = c->in_len - h->head_bytes;

        http_due(c, h->begun_ns + head_timeout_ns(c) + bytes * (NS_PER_S / HTTP_BODY_RATE));
}

/* ---- the end of a request ---- */

static void forget(struct conn *c) {
        struct http *h = http_of(c);

        if (h->kind)
                h->kind->forget(c);
        h->kind = NULL;
        free(h->lines);
        h->lines = NULL;
        h->lines_len = 0;
        h->streaming = false;
        h->begun_ns = 0;
}

void http_done(struct conn *c) {
        struct http *h = http_of(c);

        forget(c);
        h->phase = HTTP_HEAD;
        if (c->state != CONN_OPEN)
                return;
        if (h->last) {
                conn_finish(c);
                return;
        }
        c->hold = false;
        http_due(c, loop_now_ns(c->conns->loop) + HTTP_IDLE_NS);
        conn_ready(c);
}

void http_broken(struct conn *c) {
        http_of(c)->last = true;
        http_done(c);
}

/* ---- a request ---- */

static struct mr_view body_of(const struct conn *c) {
        const struct http *h = http_of(c);

        return (struct mr_view){(const char *)c->in + h->head_bytes, h->body_bytes};
}

/* Runs it: all of it is there. */
static void run(struct conn *c, const struct http1_request *request) {
        struct http *h = http_of(c);

        h->phase = HTTP_ANSWERING;
        h->begun_ns = 0;
        c->hold = true;
        http_due(c, UINT64_MAX);
        h->endpoint->run(gateway_of(c), c, request, body_of(c));
        if (c->state != CONN_OPEN)
                return;
        conn_eat(c, h->head_bytes + h->body_bytes);
        conn_shrink(c);
}

/* The body is whole: the head is looked at again, since its bytes may have moved. */
static void run_again(struct conn *c) {
        struct http1_scan scan = {0};
        struct http1_request request;
        struct http1_refusal refusal;

        if (http1_parse(&scan, (const char *)c->in, http_of(c)->head_bytes, &request, &refusal) == 0)
                run(c, &request);
        else
                conn_close(c); /* it was read before: this does not happen */
}

static void refuse_head(struct conn *c, const struct http1_refusal *refusal) {
        enum mr_error code = refusal->status == 403   ? MR_E_forbidden
                             : refusal->status == 413 ? MR_E_too_large
                                                      : MR_E_invalid_request;
        struct http_lines lines;

        counters_add(gateway_of(c)->w->counters, COUNTER_refused, 1);
        http_lines_init(&lines);
        if (refusal->status == 415)
                json_put_text(&lines.b, HTTP_RULES_ACCEPTS);
        http_refuse(c, refusal->status, code, refusal->why, &lines);
}

/* Printable ASCII; another one is made when there is none like that. */
static void request_id_take(struct http *h, struct gateway *gw, const struct http1_request *r) {
        static const char hex[] = "0123456789abcdef";
        const struct mr_view *given = http1_field(r, "x-request-id");
        uint8_t made[16] = {0};
        uint32_t n = 0;

        while (given && n < given->n && given->p[n] >= ' ' && given->p[n] < 0x7f)
                n++;
        if (given && n > 0 && n == given->n && n <= HTTP_REQUEST_ID_MAX) {
                memcpy(h->request_id, given->p, n);
                h->request_id_len = n;
                return;
        }
        (void)gateway_random(gw, made, sizeof(made));
        for (uint32_t i = 0; i < sizeof(made); i++) {
                h->request_id[2 * i] = hex[made[i] >> 4];
                h->request_id[2 * i + 1] = hex[made[i] & 15];
        }
        h->request_id_len = 2 * sizeof(made);
}

/* What pages of other origins are told. */
static void lines_take(struct http *h, const struct http_rules *rules, const struct http1_request *r) {
        char lines[HTTP_RULES_LINES_MAX];
        uint32_t n = rules->origins->n > 0 ? http_rules_answer(rules, r, lines) : 0;

        h->lines = n > 0 ? malloc(n) : NULL;
        h->lines_len = h->lines ? n : 0;
        if (h->lines)
                memcpy(h->lines, lines, n);
}

static const struct http_rules *rules_of(const struct conn *c) {
        return &((const struct http_listener *)c->listener->ctx)->rules;
}

static void begin(struct conn *c, const struct http1_request *request) {
        struct gateway *gw = gateway_of(c);
        struct http *h = http_of(c);

        h->scan = (struct http1_scan){0};
        h->begun_ns = 0;
        h->head_bytes = request->head_bytes;
        h->body_bytes = 0;
        h->body_expected = request->body_bytes;
        h->chunked = request->body == HTTP1_BODY_CHUNKED;
        h->decode = (struct http1_chunked){0};
        h->is_head = http1_is(request->method, "HEAD");
        h->minor0 = request->minor == 0;
        h->last = !request->keep_alive || gw->w->closing;
        request_id_take(h, gw, request);
        lines_take(h, rules_of(c), request);
}

static void preflight(struct conn *c, const struct http1_request *request) {
        struct http *h = http_of(c);
        char lines[HTTP_RULES_LINES_MAX];
        uint32_t n = http_rules_preflight(rules_of(c), request, lines);

        free(h->lines);
        h->lines = malloc(n + 1);
        h->lines_len = h->lines ? n : 0;
        if (h->lines)
                memcpy(h->lines, lines, n);
        http_answer_text(c, 204, NULL, NULL, "");
}

/* What OPTIONS asks. */
static void tell_methods(struct conn *c, const char *allow) {
        struct http_lines lines;

        http_lines_init(&lines);
        json_put_text(&lines.b, "Allow: OPTIONS, ");
        json_put_text(&lines.b, allow);
        json_put_text(&lines.b, "\r\n");
        http_answer_text(c, 204, NULL, &lines, "");
}

/* Nobody is there for it. */
static void refuse_path(struct conn *c, int e, const char *allow) {
        struct http_lines lines;

        counters_add(gateway_of(c)->w->counters, COUNTER_refused, 1);
        http_lines_init(&lines);
        if (e == ENDPOINT_E_METHOD)
                http_line(&lines, "Allow", text_view(allow));
        if (e == ENDPOINT_E_METHOD)
                http_refuse(c, 405, MR_E_invalid_request, "this path does not know this method",
                                &lines);
        else
                http_refuse(c, 404, MR_E_not_found, "nothing is served at this path", NULL);
}

static void refuse_many(struct conn *c, const char *why) {
        struct http_lines lines;

        http_of(c)->last = true;
        http_lines_init(&lines);
        http_retry_lines(&lines, &(struct openai_error){.code = MR_E_overloaded},
                        gateway_retry_after_ms(gateway_of(c)));
        http_refuse(c, 0, MR_E_overloaded, why, &lines);
}

/* May it be asked, and here? False: it was answered. */
static bool head_check(struct conn *c, const struct http1_request *request) {
        uint64_t max = gateway_of(c)->w->settings->admission.max_body_bytes;
        struct http *h = http_of(c);
        struct http1_refusal refusal = {413, "the body is larger than what is allowed"};
        char allow[ENDPOINT_ALLOW_MAX];
        int e;

        /* An answer that does not wait for the body is the last one, also where the body is there
         * already: what becomes of the bytes behind it is not to depend on how they came. */
        if (h->chunked || h->body_expected > 0)
                h->last = true;
        if (!http_peer_behind(c, request)) {
                refuse_many(c, "too many connections of this client's address");
                return false;
        }
        if (http_rules_check(rules_of(c), request, &refusal) != 0 || h->body_expected > max) {
                refuse_head(c, &refusal);
                return false;
        }
        if (http_rules_is_preflight(request)) {
                preflight(c, request);
                return false;
        }
        e = endpoint_find(request, &h->endpoint, allow);
        if (e == 0) {
                h->last = !request->keep_alive || gateway_of(c)->w->closing;
                return true;
        }
        if (e == ENDPOINT_E_METHOD && http1_is(request->method, "OPTIONS"))
                tell_methods(c, allow);
        else
                refuse_path(c, e, allow);
        return false;
}

/* Room for a body whose head is here. False: it was answered. */
static bool body_room(struct conn *c, uint64_t bytes) {
        if (conn_grow(c, (uint64_t)http_of(c)->head_bytes + bytes))
                return true;
        refuse_many(c, "too many large requests at once");
        return false;
}

static void body_begin(struct conn *c, const struct http1_request *request) {
        struct http *h = http_of(c);
        bool expects = request->expects_continue && c->in_len == h->head_bytes;
        uint8_t *to;

        if (!body_room(c, h->chunked ? CHUNKED_ROOM : h->body_expected))
                return;
        to = expects ? conn_reserve(c, sizeof(CONTINUE) - 1) : NULL;
        if (to) {
                memcpy(to, CONTINUE, sizeof(CONTINUE) - 1);
                conn_wrote(c, sizeof(CONTINUE) - 1);
        }
        h->phase = HTTP_BODY;
        h->begun_ns = loop_now_ns(c->conns->loop);
        body_due(c);
}

static void head_begins(struct conn *c) {
        struct http *h = http_of(c);

        if (h->begun_ns != 0)
                return;
        h->begun_ns = loop_now_ns(c->conns->loop);
        http_due(c, h->begun_ns + head_timeout_ns(c));
}

static void head_wait(struct conn *c) {
        struct http *h = http_of(c);

        if (c->in_len == c->in_cap && !conn_grow(c, (uint64_t)c->in_cap * 4)) {
                h->last = true;
                http_refuse(c, 0, MR_E_overloaded, "too many large requests at once", NULL);
                return;
        }
        head_begins(c);
}

/* False: no more can be done with what is there. */
static bool take_head(struct conn *c) {
        struct http *h = http_of(c);
        struct http1_request request;
        struct http1_refusal refusal;
        int r = http1_parse(&h->scan, (const char *)c->in, c->in_len, &request, &refusal);
        uint32_t behind;

        if (r == HTTP1_E_MORE) {
                head_wait(c);
                return false;
        }
        if (r != 0) {
                h->last = true;
                h->is_head = h->minor0 = false;
                h->request_id_len = 0;
                refuse_head(c, &refusal);
                return false;
        }
        begin(c, &request);
        behind = c->in_len - h->head_bytes;
        if (!head_check(c, &request)) {
                if (c->state == CONN_OPEN)
                        conn_eat(c, h->head_bytes);
        } else if (!h->chunked && h->body_expected <= behind) {
                h->body_bytes = (uint32_t)h->body_expected;
                run(c, &request);
        } else {
                body_begin(c, &request);
        }
        return true;
}

static bool take_chunks(struct conn *c) {
        struct http *h = http_of(c);
        uint64_t max = gateway_of(c)->w->settings->admission.max_body_bytes;
        uint32_t at = h->head_bytes + h->body_bytes, content = 0, taken = 0;
        uint32_t len = c->in_len - at;
        struct http1_refusal refusal;
        int r = http1_chunked_decode(&h->decode, (char *)c->in + at, len, max, &content, &taken,
                        &refusal);

        h->body_bytes += content;
        if (r != 0 && r != HTTP1_E_MORE) {
                h->last = true;
                refuse_head(c, &refusal);
                return false;
        }
        if (r == 0)
                memmove(c->in + at + content, c->in + at + taken, len - taken);
        c->in_len = at + content + (r == 0 ? len - taken : 0);
        if (r == 0) {
                run_again(c);
                return true;
        }
        if (c->in_len == c->in_cap)
                body_room(c, (uint64_t)h->body_bytes * 2);
        return false;
}

static bool take_body(struct conn *c) {
        struct http *h = http_of(c);
        uint32_t behind = c->in_len - h->head_bytes;

        if (h->chunked && behind > h->body_bytes) {
                if (take_chunks(c))
                        return true;
        } else if (!h->chunked && behind >= h->body_expected) {
                h->body_bytes = (uint32_t)h->body_expected;
                run_again(c);
                return true;
        }
        if (c->state == CONN_OPEN && h->phase == HTTP_BODY)
                body_due(c);
        return false;
}

/* ---- who it is ---- */

static void enter(struct conn *c, const struct client_address *address) {
        http_of(c)->from = *address;
        if (http_peer_enter(c, address))
                return;
        log_warn("connection_refused", "reason=address connections=%u",
                        gateway_of(c)->http.peers_max);
        conn_close(c);
}

static bool take_proxy(struct conn *c) {
        struct http *h = http_of(c);
        struct client_address address;
        struct proxy_protocol proxy;
        const char *why;
        int r = proxy_protocol_parse((const char *)c->in, c->in_len, &proxy, &why);

        if (r == PROXY_E_MORE && (c->in_len < c->in_cap || conn_grow(c, PROXY_HEAD_MAX))) {
                head_begins(c);
                return false;
        }
        if (r != 0) {
                log_warn("connection_refused", "reason=proxy why=\"%s\"",
                                r == PROXY_E_MORE ? "no memory" : why);
                conn_close(c);
                return false;
        }
        conn_eat(c, proxy.head_bytes);
        h->phase = HTTP_HEAD;
        h->begun_ns = 0;
        http_due(c, loop_now_ns(c->conns->loop) + HTTP_IDLE_NS);
        address = proxy.proxied ? proxy.client : http_peer_address(c);
        enter(c, &address);
        return true;
}

/* False: no more can be done with what is there. */
static bool take(struct conn *c) {
        switch (http_of(c)->phase) {
        case HTTP_PROXY:
                return take_proxy(c);
        case HTTP_HEAD:
                return take_head(c);
        case HTTP_BODY:
                return take_body(c);
        case HTTP_ANSWERING:
                break;
        }
        return false;
}

static unsigned http_input(struct conn *c, unsigned max) {
        struct http *h = http_of(c);
        unsigned n = 0;

        if (c->recv_op.pending) /* what is there was not enough the last time */
                return 0;
        while (n < max && c->state == CONN_OPEN && h->phase != HTTP_ANSWERING && conn_room(c) &&
                        c->in_len > 0) {
                if (!take(c))
                        break;
                n++;
        }
        if (c->state == CONN_OPEN && h->phase == HTTP_HEAD && c->in_len == 0)
                conn_shrink(c);
        return n;
}

/* ---- connections ---- */

static void http_opened(struct conn *c) {
        struct http *h = http_of(c);
        struct client_address address;

        client_init(&h->client, c, NULL);
        if (!rules_of(c)->unix_socket) {
                memcpy(h->client.tenant, "local", 5);
                h->client.tenant_len = 5;
        }
        c->timer = (struct loop_timer){.fn = on_timer, .owner = c};
        http_due(c, loop_now_ns(c->conns->loop) + HTTP_IDLE_NS);
        if (gateway_of(c)->w->settings->http.proxy_protocol)
                return; /* it says who it is */
        h->phase = HTTP_HEAD;
        address = http_peer_address(c);
        enter(c, &address);
}

static void http_gone(struct conn *c) {
        struct http *h = http_of(c);

        http_peer_leave(c);
        client_gone(&h->client);
        forget(c);
}

static void http_writable(struct conn *c) {
        readers_resume(gateway_of(c), c->user);
}

const struct protocol http_protocol = {.surface = SURFACE_HTTP,
                .own_bytes = sizeof(struct http),
                .in_bytes = HTTP_IN,
                .out_soft = HTTP_OUT_SOFT,
                .fin_is_gone = true,
                .opened = http_opened,
                .input = http_input,
                .writable = http_writable,
                .gone = http_gone};
