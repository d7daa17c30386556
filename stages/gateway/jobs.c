#include "stages/gateway/jobs.h"

#include <string.h>

#include "stages/common/pack.h"
#include "stages/gateway/answers.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/endpoints.h"
#include "stages/gateway/http_answer.h"
#include "stages/gateway/http_ask.h"
#include "stages/gateway/json_frame.h"
#include "stages/gateway/native.h"
#include "stages/gateway/native_put.h"
#include "stages/gateway/reader.h"

#define JSON "application/json"
#define PATH "/v1/jobs/"
#define EVENTS "/events"
/* What an SSE event has beside its JSON: "id: <id>.<seq>", "data: ", line ends. */
#define EVENT_BOUND (ADMISSION_ID_MAX + 64u)
#define CREATED_BOUND (8u * ADMISSION_ID_MAX + 256u)

static struct job *job_of(const struct client *client) {
        return &http_of(client->conn)->job;
}

static void id_keep(struct job *job, struct mr_view id) {
        if (id.n == 0 || id.n > sizeof(job->id))
                return;
        memcpy(job->id, id.p, id.n);
        job->id_len = id.n;
}

static void lines_put(struct http_lines *lines, const struct job *job) {
        http_lines_init(lines);
        if (job->id_len > 0)
                http_line(lines, "x-millrace-id", (struct mr_view){job->id, job->id_len});
}

/* ---- errors ---- */

static void fail(struct client *client, const struct dialect_error *e) {
        struct openai_error error = {.code = e->code, .message = e->message, .param = e->param};
        struct http_lines lines;

        lines_put(&lines, job_of(client));
        http_fail(client->conn, &error, &lines, e->retry_after_ms);
}

static void refuse(struct conn *c, const struct ask_error *error) {
        counters_add(gateway_of(c)->w->counters, COUNTER_refused, 1);
        client_refuse_ask(c->user, (struct mr_view){0}, error);
}

/* ---- events: msgpack of the socket's, in the gateway's scratch, then JSON ---- */

static bool scratch(struct client *client, struct pack_buf *w, uint64_t bytes) {
        struct json_frame *f = &gateway_of(client->conn)->http.frame;

        if (bytes > UINT32_MAX / JSON_EVENT_GROWTH || json_frame_room(f, bytes)) {
                conn_close(client->conn);
                return false;
        }
        pack_buf_init(w, f->bytes, (uint32_t)bytes);
        return true;
}

static bool stream_open(struct client *client) {
        struct http *h = http_of(client->conn);
        struct http_lines lines;

        http_due(client->conn, loop_now_ns(client->conn->conns->loop) + HTTP_PING_NS);
        if (h->streaming)
                return true;
        lines_put(&lines, &h->job);
        return http_events_begin(client->conn, &lines);
}

static void put_id(struct json_buf *b, const struct job *job, uint64_t seq) {
        json_put_text(b, "id: ");
        json_put(b, job->id, job->id_len);
        json_put(b, ".", 1);
        json_put_u64(b, seq);
        json_put_text(b, "\ndata: ");
}

static void send_event(struct client *client, const struct pack_buf *w, uint64_t seq) {
        struct json_buf b;

        if (w->full || !stream_open(client) ||
                        !http_piece_begin(client->conn, &b, EVENT_BOUND + JSON_EVENT_GROWTH * w->len))
                return;
        put_id(&b, job_of(client), seq);
        if (!json_from_frame(&b, w->at, w->len)) {
                conn_close(client->conn);
                return;
        }
        json_put(&b, "\n\n", 2);
        http_piece_end(client->conn, &b);
}

static void on_event(struct client *client, const struct answer *a,
                const struct log_event_head *head, const struct record *record) {
        struct conn *c = client->conn;
        struct pack_buf w;

        if (!scratch(client, &w, native_event_bound(head, record)))
                return;
        native_put_event(&w, answer_id(a), head, record);
        send_event(client, &w, head->seq);
        if (head->type == RECORD_DELTA || c->state == CONN_CLOSING)
                return;
        http_stream_end(c);
        http_done(c);
}

static void put_name(struct json_buf *b, const char *name, struct mr_view text) {
        json_put_text(b, name);
        json_put_mended(b, text.p, text.n);
        json_put(b, "\"", 1);
}

static bool on_text_delta(struct dialect_text *t, struct client *client, const struct answer *a,
                uint64_t first, uint64_t seq, const struct record *like, uint32_t text_bytes) {
        uint64_t bound = EVENT_BOUND + JSON_EVENT_GROWTH * ((uint64_t)NATIVE_EVENT_BOUND + text_bytes);
        struct json_buf *b = &t->w.json;

        if (like->has & HAS(delta_kind))
                bound += JSON_EVENT_GROWTH * like->delta_kind.n;
        t->client = client;
        if (bound > UINT32_MAX / 2 || !stream_open(client) ||
                        !http_piece_begin(client->conn, b, (uint32_t)bound))
                return false;
        put_id(b, job_of(client), seq);
        put_name(b, "{\"ev\":\"delta\",\"id\":\"", answer_id(a));
        json_put_text(b, ",\"seq\":");
        json_put_u64(b, seq);
        json_put_text(b, ",\"first\":");
        json_put_u64(b, first);
        if (like->has & HAS(choice) && like->choice > 0) {
                json_put_text(b, ",\"choice\":");
                json_put_u64(b, like->choice);
        }
        if (like->has & HAS(delta_kind))
                put_name(b, ",\"kind\":\"", like->delta_kind);
        json_put_text(b, ",\"text\":\"");
        return true;
}

static void on_text_piece(struct dialect_text *t, struct mr_view text) {
        json_put_mended(&t->w.json, text.p, text.n);
}

static void on_text_end(struct dialect_text *t, const struct record *like) {
        (void)like; /* its choice and kind stand before the text */
        json_put_text(&t->w.json, "\"}\n\n");
        http_piece_end(t->client->conn, &t->w.json);
}

static void ping(struct conn *c) {
        if (http_of(c)->job.asks == JOB_EVENTS && stream_open(c->user))
                http_events_ping(c);
}

static void forget(struct conn *c) {
        (void)c; /* it holds nothing */
}

static const struct http_kind job_kind = {.ping = ping, .forget = forget};

/* The stream is cut off: its last event, and an end that is none. */
static void stream_fail(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *e) {
        struct pack_buf w;

        if (!scratch(client, &w, NATIVE_EVENT_BOUND + e->message.n))
                return;
        native_put_error(&w, id, seq, e->code, e->message, e->retry_after_ms);
        send_event(client, &w, seq);
        http_broken(client->conn);
}

/* ---- results ---- */

static void send_result(struct client *client, const struct pack_buf *w) {
        struct http_lines lines;
        struct http_body body;

        lines_put(&lines, job_of(client));
        if (w->full || !http_answer_begin(&body, client->conn, 200, JSON, &lines,
                                       JSON_EVENT_GROWTH * w->len))
                return;
        (void)json_from_frame(&body.b, w->at, w->len);
        http_answer_end(&body);
        http_done(client->conn);
}

static int on_result(struct gateway *gw, struct client *client, const struct answer *a,
                const struct log_cursor *from) {
        struct log_cursor at = from ? *from : (struct log_cursor){0};
        struct collect_whole whole = {0};
        struct log_event_head head;
        struct record record = {0};
        struct pack_buf w;

        if (from && (collect_measure(gw, a, at, &whole) != 0 || whole.text_bytes > UINT32_MAX / 16))
                return LOG_E_GONE;
        if (!scratch(client, &w, 2 * NATIVE_EVENT_BOUND + whole.text_bytes + whole.rest_bytes))
                return 0;
        native_put_result_head(&w, answer_id(a), collect_status(a, from ? &whole : NULL),
                        (uint32_t)whole.text_bytes);
        for (uint64_t i = 0; i < whole.events; i++) {
                if (collect_next(gw, a, &at, &head, &record) != 0)
                        return LOG_E_GONE;
                if (collect_is_text(&head, &record))
                        pack_bytes(&w, record.text.p, record.text.n);
        }
        native_put_result_rest(&w, whole.type, &record);
        send_result(client, &w);
        return 0;
}

/* It was cancelled before it ran: nothing is known of it any more. */
static void result_cancelled(struct client *client, struct mr_view id, const struct dialect_error *e) {
        struct record record = {.has = HAS(code) | HAS(message), .code = e->code, .message = e->message};
        struct pack_buf w;

        if (!scratch(client, &w, 2 * NATIVE_EVENT_BOUND + 1024 + e->message.n))
                return;
        native_put_result_head(&w, id, "cancelled", 0);
        native_put_result_rest(&w, RECORD_ERROR, &record);
        send_result(client, &w);
}

static int on_whole(struct gateway *gw, struct reader *r, struct log_cursor from) {
        return on_result(gw, r->client, r->answer, &from);
}

/* ---- what comes of a request ---- */

static const char *status_of(const struct gateway *gw, const struct answer *a) {
        const struct log_view *view = &gw->w->logs[a->lane];

        if (a->where == ANSWER_DOOR || a->response == LOG_NONE)
                return "queued";
        if (log_response_state(view, a->response) != LOG_FINISHED)
                return "running";
        switch (log_response_outcome(view, a->response)) {
        case LOG_OUTCOME_DONE:
                return "completed";
        case LOG_OUTCOME_CANCELLED:
                return "cancelled";
        default:
                return "failed";
        }
}

/* In a path: what is no letter or digit is written by its number. */
static void put_encoded(struct json_buf *b, struct mr_view id) {
        static const char hex[] = "0123456789ABCDEF";

        for (uint32_t i = 0; i < id.n; i++) {
                unsigned char ch = (unsigned char)id.p[i];
                char out[3] = {'%', hex[ch >> 4], hex[ch & 15]};
                bool plain = (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') ||
                             (ch && strchr("-._~", ch));

                json_put(b, plain ? (const char *)&id.p[i] : out, plain ? 1 : 3);
        }
}

static void on_accepted(struct client *client, const struct answer *a, bool more) {
        struct gateway *gw = gateway_of(client->conn);
        struct http_lines lines;
        struct http_body body;

        (void)more;
        id_keep(job_of(client), answer_id(a));
        lines_put(&lines, job_of(client));
        http_line_u64(&lines, "x-millrace-lane", a->lane);
        if (!http_answer_begin(&body, client->conn, 202, JSON, &lines, CREATED_BOUND))
                return;
        put_name(&body.b, "{\"id\":\"", answer_id(a));
        json_put_text(&body.b, ",\"status\":\"");
        json_put_text(&body.b, status_of(gw, a));
        json_put_text(&body.b, "\",\"events_url\":\"" PATH);
        put_encoded(&body.b, answer_id(a));
        json_put_text(&body.b, EVENTS "\"}");
        http_answer_end(&body);
        http_done(client->conn);
}

/* DELETE: its result is the answer, once it has ended. */
static void on_cancelled(struct client *client, struct mr_view id) {
        struct gateway *gw = gateway_of(client->conn);
        struct mr_view tenant = {client->tenant, client->tenant_len};
        struct answer *a;

        if (answer_find(gw, tenant, id, &a) != 0)
                client_refuse(client, id, MR_E_gone, "its events are not kept any more", ASK_NO_RETRY);
        else if (!reader_add(gw, client, a, READER_UNARY, 0))
                client_refuse(client, id, MR_E_overloaded, "too many readers",
                                gateway_retry_after_ms(gw));
}

/* A cursor at the end of a finished job has nothing to wait for. */
static void on_attached(struct client *client, struct reader *r, enum attached how) {
        if (how == ATTACHED_READS)
                (void)stream_open(client);
        if (how != ATTACHED_AT_END)
                return;
        reader_remove(gateway_of(client->conn), r);
        http_answer_text(client->conn, 204, NULL, NULL, "");
}

static void on_error(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *e) {
        if (http_of(client->conn)->streaming)
                stream_fail(client, id, seq, e);
        else if (job_of(client)->asks == JOB_DELETE && e->code == MR_E_cancelled)
                result_cancelled(client, id, e);
        else
                fail(client, e);
}

static const struct dialect job_dialect = {.parse = native_parse,
                .accepted = on_accepted,
                .cancelled = on_cancelled,
                .attached = on_attached,
                .error = on_error,
                .event = on_event,
                .text_delta = on_text_delta,
                .text_piece = on_text_piece,
                .text_end = on_text_end,
                .whole = on_whole,
                .result = on_result};

/* ---- asking ---- */

static void job_begin(struct conn *c, enum job_asks asks) {
        struct http *h = http_of(c);

        h->client.dialect = &job_dialect;
        h->job = (struct job){.asks = asks};
        h->kind = &job_kind;
}

static uint32_t more_text(struct json_frame_more *more, uint32_t n, const char *name,
                struct mr_view text) {
        if (text.n > 0)
                more[n++] = (struct json_frame_more){.name = name, .text = text};
        return n;
}

/* What the headers say counts where the body says nothing. */
static uint32_t more_of(const struct ask *ask, struct json_frame_more more[JSON_FRAME_MORE_MAX]) {
        static const char *const priorities[PRIORITIES_N] = {"system", "interactive", "default", "bulk"};
        uint32_t n = 0;

        more[n++] = (struct json_frame_more){.name = "op", .text = {"submit", 6}, .force = true};
        more[n++] = (struct json_frame_more){.name = "detach", .number = UINT64_MAX, .force = true};
        n = more_text(more, n, "id", ask->id);
        n = more_text(more, n, "session", ask->session);
        n = more_text(more, n, "template", ask->template_name);
        if (ask->priority != PRIORITY_DEFAULT)
                n = more_text(more, n, "priority", text_view(priorities[ask->priority]));
        if (ask->deadline_ms > 0)
                more[n++] = (struct json_frame_more){.name = "deadline_ms", .number = ask->deadline_ms};
        return n;
}

void jobs_create(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        struct json_frame_more more[JSON_FRAME_MORE_MAX];
        struct json_frame *f = &gw->http.frame;
        struct ask_error error = {.code = MR_E_none};
        struct ask ask;

        job_begin(c, JOB_CREATE);
        if (http_ask(request, body, &ask, &error) ||
                        json_frame(f, body.p, body.n, more, more_of(&ask, more), &error)) {
                refuse(c, &error);
                return;
        }
        gateway_ask(gw, c->user, f->bytes, f->len);
}

/* {"op":op,"id":id(,"after":after)} as a frame. */
static void ask_known(struct gateway *gw, struct conn *c, const char *op, uint64_t after) {
        const struct job *job = &http_of(c)->job;
        uint8_t bytes[ADMISSION_ID_MAX + 64];
        struct pack_buf w;

        pack_buf_init(&w, bytes, sizeof(bytes));
        pack_map(&w, after > 0 ? 3 : 2);
        pack_str(&w, text_view("op"));
        pack_str(&w, text_view(op));
        pack_str(&w, text_view("id"));
        pack_str(&w, (struct mr_view){job->id, job->id_len});
        if (after > 0) {
                pack_str(&w, text_view("after"));
                pack_uint(&w, after);
        }
        gateway_ask(gw, c->user, bytes, w.len);
}

/* The id in the path. False: it was refused. */
static bool id_take(struct conn *c, struct mr_view path) {
        struct job *job = &http_of(c)->job;

        if (endpoint_decode(path, job->id, sizeof(job->id), &job->id_len))
                return true;
        job->id_len = 0;
        client_refuse(c->user, (struct mr_view){0}, MR_E_not_found, "id: not known", ASK_NO_RETRY);
        return false;
}

/* Last-Event-ID, which a client that reconnects sends with the same URL as before; else ?after=N. False: it is
 * neither. */
static bool after_take(const struct http1_request *request, const struct job *job, uint64_t *ret) {
        const struct mr_view *last = http1_field(request, "last-event-id");
        struct mr_view after;

        *ret = 0;
        if (last && last->n > 0) {
                if (last->n <= job->id_len || memcmp(last->p, job->id, job->id_len) != 0 ||
                                last->p[job->id_len] != '.')
                        return false;
                after = (struct mr_view){last->p + job->id_len + 1, last->n - job->id_len - 1};
                return http_number(after, ret);
        }
        if (http_query(request->query, "after", &after))
                return http_number(after, ret);
        return true;
}

void jobs_get(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        const uint32_t prefix = sizeof(PATH) - 1, suffix = sizeof(EVENTS) - 1;
        struct mr_view path = {request->path.p + prefix, request->path.n - prefix};
        bool events = path.n > suffix && memcmp(path.p + path.n - suffix, EVENTS, suffix) == 0;
        uint64_t after = 0;

        (void)body;
        job_begin(c, events ? JOB_EVENTS : JOB_RESULT);
        if (events)
                path.n -= suffix;
        if (!id_take(c, path))
                return;
        if (events && !after_take(request, &http_of(c)->job, &after))
                client_refuse(c->user, (struct mr_view){0}, MR_E_invalid_request,
                                "Last-Event-ID or after: expected the number of an event of this job",
                                ASK_NO_RETRY);
        else
                ask_known(gw, c, events ? "attach" : "result", after);
}

void jobs_delete(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        const uint32_t prefix = sizeof(PATH) - 1;

        (void)body;
        job_begin(c, JOB_DELETE);
        if (id_take(c, (struct mr_view){request->path.p + prefix, request->path.n - prefix}))
                ask_known(gw, c, "cancel", 0);
}
