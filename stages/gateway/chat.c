#include "stages/gateway/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/clock.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/http_answer.h"
#include "stages/gateway/http_ask.h"
#include "stages/gateway/openai_whole.h"
#include "stages/gateway/submit.h"

#define JSON "application/json"
/* What an event has beside its JSON: "id: <id>.<seq>", "data: ", line ends. */
#define EVENT_BOUND (ADMISSION_ID_MAX + 64u)
#define DONE_BOUND 16u /* data: [DONE] */

static struct chat *chat_of(const struct client *client) {
        return &http_of(client->conn)->chat;
}

/* ---- what an answer says again and again ---- */

static void forget(struct conn *c) {
        struct chat *chat = &http_of(c)->chat;

        if (chat->model && chat->model != chat->model_small)
                free(chat->model);
        *chat = (struct chat){0};
}

static void model_keep(struct chat *chat, struct mr_view model) {
        if (chat->model && chat->model != chat->model_small)
                free(chat->model);
        chat->model = model.n <= sizeof(chat->model_small) ? chat->model_small : malloc(model.n);
        chat->model_len = chat->model ? model.n : 0;
        if (chat->model_len > 0)
                memcpy(chat->model, model.p, model.n);
}

static struct openai_answer answer_of(const struct chat *chat) {
        return (struct openai_answer){.kind = chat->kind,
                        .id = {chat->id, chat->id_len},
                        .model = {chat->model, chat->model_len},
                        .created = chat->created,
                        .usage_asked = chat->usage_asked};
}

/* The second in which the response was begun in the log: the same for everybody who reads it. */
static void created_find(struct chat *chat, const struct gateway *gw, const struct answer *a) {
        const struct log_response *r;

        if (chat->created != 0 || a->response == LOG_NONE)
                return;
        r = &gw->w->logs[a->lane].shm->responses[a->response];
        chat->created = gateway_epoch_s(
                        gw, atomic_load_explicit(&r->created_ns, memory_order_relaxed));
}

/* The id is known to the client also when nothing came of the request. */
static void id_keep(struct chat *chat, struct mr_view id) {
        if (id.n == 0 || id.n > sizeof(chat->id))
                return;
        memcpy(chat->id, id.p, id.n);
        chat->id_len = id.n;
}

static void put_lines(struct http_lines *lines, const struct chat *chat) {
        http_lines_init(lines);
        if (chat->id_len > 0)
                http_line(lines, "x-millrace-id", (struct mr_view){chat->id, chat->id_len});
        if (chat->accepted)
                http_line_u64(lines, "x-millrace-lane", chat->lane);
}

/* ---- asking ---- */

int chat_parse(const uint8_t *bytes, uint32_t len, struct ask *ret, struct ask_error *ret_error) {
        return http_ask_again(bytes, len, ret, ret_error);
}

static const struct http_kind chat_kind;

void chat_submit(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body, const struct dialect *dialect) {
        struct http *h = http_of(c);
        struct lookup_frame frame = {.conn = c,
                        .bytes = c->in,
                        .len = h->head_bytes + h->body_bytes,
                        .tenant = {h->client.tenant, h->client.tenant_len}};
        struct ask_error error;
        struct ask ask;

        h->client.dialect = dialect;
        h->chat = (struct chat){0};
        h->kind = &chat_kind;
        if (http_ask(request, body, &ask, &error)) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                client_refuse_ask(&h->client, ask.id, &error);
                return;
        }
        if (ask.kind == BODY_COMPLETIONS)
                h->chat.kind = OPENAI_COMPLETIONS;
        frame.id = ask.id;
        submit(gw, &h->client, &ask, &frame);
}

static const struct dialect chat_dialect;

void chat_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        chat_submit(gw, c, request, body, &chat_dialect);
}

void chat_composed(struct client *client, const struct composed *made) {
        struct chat *chat = chat_of(client);

        model_keep(chat, gateway_model_name(gateway_of(client->conn), made->model));
        chat->stream = made->options & OPTION_STREAM;
        chat->usage_asked = made->options & OPTION_USAGE_ASKED;
}

void chat_accepted(struct client *client, const struct answer *a, bool more) {
        struct chat *chat = chat_of(client);

        (void)more;
        chat->accepted = true;
        chat->lane = a->lane;
        id_keep(chat, answer_id(a));
        if (chat->stream)
                http_due(client->conn, loop_now_ns(client->conn->conns->loop) + HTTP_PING_NS);
}

/* ---- a stream ---- */

/* The head is out once this has been called. False: the connection is gone. */
static bool stream_open(struct client *client) {
        struct http *h = http_of(client->conn);
        struct http_lines lines;

        h->due_ns = loop_now_ns(client->conn->conns->loop) + HTTP_PING_NS;
        if (h->streaming)
                return true;
        put_lines(&lines, &h->chat);
        return http_events_begin(client->conn, &lines);
}

static void ping(struct conn *c) {
        if (stream_open(c->user))
                http_events_ping(c);
}

static void data_begin(struct json_buf *b, const struct chat *chat, uint64_t seq) {
        if (seq > 0) {
                json_put_text(b, "id: ");
                json_put(b, chat->id, chat->id_len);
                json_put(b, ".", 1);
                json_put_u64(b, seq);
                json_put(b, "\n", 1);
        }
        json_put_text(b, "data: ");
}

static void data_end(struct json_buf *b) {
        json_put(b, "\n\n", 2);
}

static uint32_t roles_due(const struct chat *chat, const struct record *record) {
        struct openai_roles look = chat->roles;
        uint32_t n = 0, choice;

        while (chat->kind == OPENAI_CHAT && openai_role_due(&look, record, &choice))
                n++;
        return n;
}

static uint32_t roles_bound(const struct chat *chat, const struct openai_answer *answer,
                const struct record *record) {
        return roles_due(chat, record) * (openai_head_bound(answer) + EVENT_BOUND);
}

static void put_roles(struct json_buf *b, struct chat *chat, const struct openai_answer *answer,
                const struct record *record) {
        uint32_t choice;

        while (chat->kind == OPENAI_CHAT && openai_role_due(&chat->roles, record, &choice)) {
                data_begin(b, chat, 0);
                openai_role_chunk(b, answer, choice);
                data_end(b);
        }
}

static void put_delta(struct client *client, uint64_t seq, const struct record *record) {
        struct chat *chat = chat_of(client);
        struct openai_answer answer = answer_of(chat);
        struct json_buf b;

        if (!http_piece_begin(client->conn, &b,
                            EVENT_BOUND + openai_delta_bound(&answer, record) +
                                            roles_bound(chat, &answer, record)))
                return;
        put_roles(&b, chat, &answer, record);
        data_begin(&b, chat, seq);
        openai_delta_chunk(&b, &answer, record);
        data_end(&b);
        http_piece_end(client->conn, &b);
}

static void put_done(struct client *client, uint64_t seq, const struct record *record) {
        static const struct record nothing = {0};
        struct chat *chat = chat_of(client);
        struct openai_answer answer = answer_of(chat);
        uint32_t bound = openai_done_bound(&answer, record);
        struct json_buf b;

        if (!http_piece_begin(client->conn, &b,
                            2 * (EVENT_BOUND + bound) + DONE_BOUND +
                                            roles_bound(chat, &answer, &nothing)))
                return;
        put_roles(&b, chat, &answer, &nothing);
        data_begin(&b, chat, seq);
        openai_finish_chunk(&b, &answer, record);
        data_end(&b);
        if (chat->usage_asked) {
                data_begin(&b, chat, 0);
                openai_usage_chunk(&b, &answer, record);
                data_end(&b);
        }
        json_put_text(&b, "data: [DONE]\n\n");
        http_piece_end(client->conn, &b);
        http_stream_end(client->conn);
        http_done(client->conn);
}

/* ---- errors ---- */

/* Behind the head: an event, and an end that is none. */
static void stream_fail(struct client *client, uint64_t seq, const struct openai_error *error) {
        struct json_buf b;

        if (http_piece_begin(client->conn, &b, EVENT_BOUND + openai_error_bound(error))) {
                data_begin(&b, chat_of(client), seq);
                openai_error_body(&b, error);
                data_end(&b);
                http_piece_end(client->conn, &b);
        }
        http_broken(client->conn);
}

static void fail(struct client *client, uint64_t seq, const struct openai_error *error,
                uint64_t retry_after_ms) {
        struct conn *c = client->conn;
        struct http_lines lines;

        if (http_of(c)->streaming) {
                stream_fail(client, seq, error);
                return;
        }
        put_lines(&lines, chat_of(client));
        http_fail(c, error, &lines, retry_after_ms);
}

void chat_error(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *e) {
        struct openai_error body = {.code = e->code, .message = e->message, .param = e->param};

        id_keep(chat_of(client), id);
        fail(client, seq, &body, e->retry_after_ms);
}

void chat_failed(struct client *client, uint64_t seq, const struct record *record) {
        struct openai_error e = openai_error_of(record);

        fail(client, seq, &e, record->has & HAS(retry_after_ms) ? record->retry_after_ms : ASK_NO_RETRY);
}

static void event(struct client *client, const struct answer *a, const struct log_event_head *head,
                const struct record *record) {
        created_find(chat_of(client), gateway_of(client->conn), a);
        if (head->type == RECORD_ERROR)
                chat_failed(client, head->seq, record);
        else if (!stream_open(client))
                return;
        else if (head->type == RECORD_DELTA)
                put_delta(client, head->seq, record);
        else
                put_done(client, head->seq, record);
}

/* ---- texts from several events ---- */

static bool text_delta(struct dialect_text *t, struct client *client, const struct answer *a,
                uint64_t first, uint64_t seq, const struct record *like, uint32_t text_bytes) {
        struct chat *chat = chat_of(client);
        struct openai_answer answer;

        (void)first; /* its id says where to go on */
        created_find(chat, gateway_of(client->conn), a);
        answer = answer_of(chat);
        t->client = client;
        if (text_bytes > UINT32_MAX / 16 || !stream_open(client) ||
                        !http_piece_begin(client->conn, &t->w.json,
                                        EVENT_BOUND + openai_text_bound(&answer) +
                                                        JSON_ESCAPE_GROWTH * text_bytes +
                                                        roles_bound(chat, &answer, like)))
                return false;
        put_roles(&t->w.json, chat, &answer, like);
        data_begin(&t->w.json, chat, seq);
        openai_text_begin(&t->w.json, &answer, like);
        return true;
}

static void text_piece(struct dialect_text *t, struct mr_view text) {
        openai_text_piece(&t->w.json, text);
}

static void text_end(struct dialect_text *t, const struct record *like) {
        struct openai_answer answer = answer_of(chat_of(t->client));

        openai_text_end(&t->w.json, &answer, like);
        data_end(&t->w.json);
        http_piece_end(t->client->conn, &t->w.json);
}

/* ---- a whole answer ---- */

static void put_time(struct http_lines *lines, bool *any, const char *name, bool has, uint64_t us) {
        static const char digits[] = "0123456789";

        if (!has)
                return;
        json_put_text(&lines->b, *any ? ", " : "Server-Timing: ");
        *any = true;
        json_put_text(&lines->b, name);
        json_put_text(&lines->b, ";dur=");
        json_put_u64(&lines->b, us / 1000);
        json_put(&lines->b, ".", 1);
        json_put(&lines->b, &digits[us / 100 % 10], 1);
        json_put(&lines->b, &digits[us / 10 % 10], 1);
        json_put(&lines->b, &digits[us % 10], 1);
}

void chat_times(struct http_lines *lines, const struct record *r) {
        bool worked = r->has & (HAS(rag_us) | HAS(assemble_us) | HAS(inference_us)), any = false;

        put_time(lines, &any, "rag", worked, r->rag_us); /* where there was nothing to look for: 0 */
        put_time(lines, &any, "assemble", worked, r->assemble_us);
        put_time(lines, &any, "inference", r->has & HAS(inference_us), r->inference_us);
        put_time(lines, &any, "post", r->has & HAS(post_us), r->post_us);
        if (any)
                json_put(&lines->b, "\r\n", 2);
}

void chat_lines(struct http_lines *lines, const struct chat *chat, const struct record *done) {
        put_lines(lines, chat);
        if (done)
                chat_times(lines, done);
}

static void whole_put(struct client *client, const struct openai_whole *w, const struct record *done) {
        struct openai_answer answer = answer_of(chat_of(client));
        uint64_t bound = openai_whole_bound(w, &answer, done);
        struct http_lines lines;
        struct http_body body;

        chat_lines(&lines, chat_of(client), done);
        if (!http_answer_begin(&body, client->conn, 200, JSON, &lines,
                            bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX))
                return;
        openai_whole_put(&body.b, w, &answer, done);
        http_answer_end(&body);
        http_done(client->conn);
}

/* Feeds all events into w. The last one is in *record. 0, LOG_E_GONE, or the code of a failure. */
static int whole_read(struct gateway *gw, struct reader *r, struct log_cursor *at,
                struct openai_whole *w, struct log_event_head *head, struct record *record) {
        int e;

        do {
                if (collect_next(gw, r->answer, at, head, record) != 0)
                        return LOG_E_GONE;
                e = head->type == RECORD_ERROR ? 0 : openai_whole_add(w, record);
        } while (e == 0 && head->type == RECORD_DELTA);
        return e == 0 ? 0 : e == WHOLE_E_LARGE ? -E2BIG : -ENOMEM;
}

static int whole_answer(struct gateway *gw, struct reader *r, struct log_cursor from,
                struct openai_whole *w) {
        struct client *client = r->client;
        struct log_event_head head;
        struct record record;
        int e = w ? whole_read(gw, r, &from, w, &head, &record) : -ENOMEM;

        if (e == LOG_E_GONE)
                return e;
        if (e < 0)
                client_refuse(client, answer_id(r->answer),
                                e == -E2BIG ? MR_E_too_large : MR_E_overloaded,
                                "the answer is too large to be put together", ASK_NO_RETRY);
        else if (head.type == RECORD_ERROR)
                chat_failed(client, head.seq, &record);
        else
                whole_put(client, w, &record);
        return 0;
}

static int whole(struct gateway *gw, struct reader *r, struct log_cursor from) {
        uint64_t max = 2 * gw->w->settings->admission.max_response_bytes + LOG_EVENT_MAX;
        struct openai_whole *w = NULL;
        struct collect_whole size;
        int e;

        if (collect_measure(gw, r->answer, from, &size) != 0 || size.type == 0)
                return LOG_E_GONE;
        created_find(chat_of(r->client), gw, r->answer);
        (void)openai_whole_new(&w, size.bytes, max);
        e = whole_answer(gw, r, from, w);
        openai_whole_free(w);
        return e;
}

static const struct http_kind chat_kind = {.ping = ping, .forget = forget};

static const struct dialect chat_dialect = {.parse = chat_parse,
                .composed = chat_composed,
                .accepted = chat_accepted,
                .error = chat_error,
                .event = event,
                .text_delta = text_delta,
                .text_piece = text_piece,
                .text_end = text_end,
                .whole = whole};
