#include "stages/gateway/responses.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/admission.h"
#include "stages/common/clock.h"
#include "stages/engines/json/walk.h"
#include "stages/gateway/answers.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/endpoints.h"
#include "stages/gateway/http_answer.h"
#include "stages/gateway/http_ask.h"
#include "stages/gateway/reader.h"
#include "stages/gateway/responses_json.h"

#define JSON "application/json"
#define PATH "/v1/responses"
#define ID_PREFIX "resp_"

struct responses_ask {
        struct responses *fold; /* of a stream */
        bool stream, background, accepted;
        bool by_id;      /* asked for by its id: its failure is no failure of ours */
        bool cancelling; /* it is waited for until it has ended */
        uint64_t from;   /* the first event that is written */
        uint64_t created;
        uint32_t lane;
        uint32_t id_len, model_len;
        char *model;
        char id[ADMISSION_ID_MAX];
};

static const struct http_kind responses_kind;

static struct responses_ask *ask_of(const struct client *client) {
        return http_of(client->conn)->responses;
}

/* It was told that it failed, and its connection ends. */
static bool is_over(const struct client *client) {
        return http_of(client->conn)->kind != &responses_kind;
}

/* ---- what a response says again and again ---- */

static void model_keep(struct responses_ask *ask, struct mr_view model) {
        char *kept = malloc(model.n + 1);

        if (!kept)
                return;
        memcpy(kept, model.p, model.n);
        free(ask->model);
        ask->model = kept;
        ask->model_len = model.n;
}

static void id_keep(struct responses_ask *ask, struct mr_view id) {
        if (id.n == 0 || id.n > sizeof(ask->id))
                return;
        memcpy(ask->id, id.p, id.n);
        ask->id_len = id.n;
}

/* What its records say of it; else what is known of it here, or in the log. */
static void origin_keep(struct gateway *gw, struct responses_ask *ask, const struct answer *a,
                const struct record *record) {
        id_keep(ask, answer_id(a));
        if (record && record->has & HAS(model) && !ask->model)
                model_keep(ask, record->model);
        if (record && record->has & HAS(created))
                ask->created = record->created;
        if (ask->created == 0 && a->t0 != 0) {
                ask->created = gateway_epoch_s(gw, a->t0);
        } else if (ask->created == 0 && a->response != LOG_NONE) {
                const struct log_response *r = &gw->w->logs[a->lane].shm->responses[a->response];

                ask->created = gateway_epoch_s(
                                gw, atomic_load_explicit(&r->created_ns, memory_order_relaxed));
        }
}

static struct responses_answer answer_of(
                const struct gateway *gw, const struct responses_ask *ask) {
        return (struct responses_answer){.id = {ask->id, ask->id_len},
                        .model = gateway_model_name(
                                        gw, (struct mr_view){ask->model, ask->model_len}),
                        .created = ask->created,
                        .background = ask->background};
}

static uint64_t max_bytes(const struct gateway *gw) {
        return RESPONSES_TIMES * gw->w->settings->admission.max_response_bytes + LOG_EVENT_MAX;
}

static void put_lines(struct http_lines *lines, const struct responses_ask *ask) {
        http_lines_init(lines);
        if (ask->id_len > 0)
                http_line(lines, "x-millrace-id", (struct mr_view){ask->id, ask->id_len});
        if (ask->accepted)
                http_line_u64(lines, "x-millrace-lane", ask->lane);
}

/* ---- asking ---- */

static int query_read(const struct http1_request *request, bool *ret_stream, uint64_t *ret_from,
                struct ask_error *error) {
        struct mr_view value;
        uint64_t after;

        *ret_stream = false;
        *ret_from = 0;
        if (http_query(request->query, "stream", &value)) {
                *ret_stream = http1_is(value, "true");
                if (!*ret_stream && !http1_is(value, "false"))
                        return ask_fail(error, MR_E_invalid_request,
                                        "stream: expected true or false");
        }
        if (http_query(request->query, "starting_after", &value)) {
                if (!json_u64((struct json_text){value.p, value.n}, &after))
                        return ask_fail(error, MR_E_invalid_request,
                                        "starting_after: expected the number of an event");
                *ret_from = after + 1;
        }
        return 0;
}

/* The id in /v1/responses/resp_…[/cancel]. */
static int id_read(const struct http1_request *request, char to[static ASK_NAME_MAX],
                struct mr_view *ret, struct ask_error *error) {
        const uint32_t before = sizeof(PATH "/") - 1, prefix = sizeof(ID_PREFIX) - 1;
        struct mr_view path = {request->path.p + before, request->path.n - before};
        const char *end = memchr(path.p, '/', path.n);
        uint32_t n = 0;

        path.n = end ? (uint32_t)(end - path.p) : path.n;
        if (!endpoint_decode(path, to, ASK_NAME_MAX, &n) || n <= prefix ||
                        memcmp(to, ID_PREFIX, prefix) != 0 || n - prefix > ADMISSION_ID_MAX)
                return ask_fail(error, MR_E_not_found, "id: not known");
        *ret = (struct mr_view){to + prefix, n - prefix};
        return 0;
}

static int ask_read(const struct http1_request *request, struct mr_view body, struct ask *ret,
                struct ask_error *error) {
        static char id[ASK_NAME_MAX]; /* until the next one is read: as a parser's views are */
        bool stream;
        uint64_t from;

        if (http1_is(request->path, PATH)) {
                int r = http_ask(request, body, ret, error);

                ret->kind = BODY_RESPONSES;
                return r;
        }
        *ret = (struct ask){.op = OP_RESULT, .detached_only = true};
        error->code = MR_E_none;
        if (id_read(request, id, &ret->id, error))
                return (int)error->code;
        if (http1_is(request->method, "POST"))
                ret->op = OP_CANCEL;
        else if (query_read(request, &stream, &from, error))
                return (int)error->code;
        else if (stream)
                ret->op = OP_ATTACH;
        return 0;
}

static int parse(const uint8_t *bytes, uint32_t len, struct ask *ret, struct ask_error *error) {
        struct http1_scan scan = {0};
        struct http1_request request;
        struct http1_refusal refusal;

        *ret = (struct ask){.op = OP_SUBMIT};
        if (http1_parse(&scan, (const char *)bytes, len, &request, &refusal) != 0)
                return ask_fail(error, MR_E_internal, "the request cannot be read again");
        return ask_read(&request,
                        (struct mr_view){(const char *)bytes + request.head_bytes,
                                        len - request.head_bytes},
                        ret, error);
}

static const struct dialect responses_dialect;

void responses_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        struct http *h = http_of(c);
        struct responses_ask *ask = calloc(1, sizeof(*ask));
        struct ask_error error;

        (void)body;
        if (!ask) {
                http_refuse(c, 0, MR_E_overloaded, "out of memory", NULL);
                return;
        }
        h->client.dialect = &responses_dialect;
        h->kind = &responses_kind;
        h->responses = ask;
        ask->by_id = !http1_is(request->path, PATH);
        ask->background = ask->by_id;
        /* What is wrong there is told by parse(). */
        if (ask->by_id && !http1_is(request->method, "POST"))
                (void)query_read(request, &ask->stream, &ask->from, &error);
        if (ask->stream)
                http_due(c, loop_now_ns(c->conns->loop) + HTTP_PING_NS);
        gateway_ask(gw, &h->client, c->in, h->head_bytes + h->body_bytes);
}

static void composed(struct client *client, const struct composed *made) {
        struct responses_ask *ask = ask_of(client);

        if (made->model.n > 0)
                model_keep(ask, made->model);
        ask->stream = made->options & OPTION_STREAM;
        ask->background = made->options & OPTION_DETACH;
}

/* ---- a stream ---- */

/* The head is out once this has been called. False: the connection is gone. */
static bool stream_open(struct client *client) {
        struct http *h = http_of(client->conn);
        struct http_lines lines;

        h->due_ns = loop_now_ns(client->conn->conns->loop) + HTTP_PING_NS;
        if (h->streaming)
                return true;
        put_lines(&lines, h->responses);
        return http_events_begin(client->conn, &lines);
}

static void ping(struct conn *c) {
        if (http_of(c)->responses->stream && stream_open(c->user))
                http_events_ping(c);
}

static void forget(struct conn *c) {
        struct responses_ask *ask = http_of(c)->responses;

        http_of(c)->responses = NULL;
        responses_free(ask->fold);
        free(ask->model);
        free(ask);
}

static const struct http_kind responses_kind = {.ping = ping, .forget = forget};

/* The events that are due, from the first that is wanted. False: the connection is gone. */
static bool events_put(struct client *client) {
        struct responses_ask *ask = ask_of(client);
        struct responses_answer answer = answer_of(gateway_of(client->conn), ask);
        struct json_buf b;

        while (responses_due(ask->fold)) {
                uint64_t bound = responses_event_bound(ask->fold, &answer);

                if (responses_number(ask->fold) < ask->from) {
                        responses_pass(ask->fold);
                        continue;
                }
                if (!http_piece_begin(client->conn, &b,
                                    bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX))
                        return false;
                responses_event(&b, ask->fold, &answer);
                http_piece_end(client->conn, &b);
        }
        return true;
}

/* Before the head: a status; behind it: an event, and an end that is none. */
static void fail(struct client *client, const struct openai_error *error, uint64_t retry_after_ms) {
        struct conn *c = client->conn;
        struct responses_ask *ask = ask_of(client);
        struct responses_answer answer = answer_of(gateway_of(c), ask);
        struct http_lines lines;
        struct json_buf b;

        if (http_of(c)->streaming) {
                if (ask->fold && http_piece_begin(c, &b, responses_error_bound(&answer, error))) {
                        responses_error(&b, ask->fold, &answer, error);
                        http_piece_end(c, &b);
                }
                http_broken(c);
                return;
        }
        put_lines(&lines, ask);
        http_fail(c, error, &lines, retry_after_ms);
}

static void fail_fold(struct client *client, int e) {
        const struct openai_error large = {.code = MR_E_too_large,
                        .message = text_view("the answer is too large to be put together")};
        const struct openai_error memory = {
                        .code = MR_E_overloaded, .message = text_view("out of memory")};

        fail(client, e == RESPONSES_E_LARGE ? &large : &memory, ASK_NO_RETRY);
}

static bool stream_begin(struct client *client) {
        struct responses_ask *ask = ask_of(client);

        if (ask->fold || responses_new(&ask->fold, max_bytes(gateway_of(client->conn))) == 0)
                return true;
        fail_fold(client, -ENOMEM);
        return false;
}

static void fail_record(struct client *client, const struct record *record) {
        struct openai_error e = openai_error_of(record);

        fail(client, &e,
                        record->has & HAS(retry_after_ms) ? record->retry_after_ms : ASK_NO_RETRY);
}

static void event(struct client *client, const struct answer *a, const struct log_event_head *head,
                const struct record *record) {
        struct http *h = http_of(client->conn);
        struct responses_ask *ask = ask_of(client);
        int e;

        if (is_over(client))
                return;
        origin_keep(gateway_of(client->conn), ask, a, record);
        if (head->type == RECORD_ERROR && !ask->background && !h->streaming) {
                fail_record(client, record);
                return;
        }
        if (!stream_open(client) || !stream_begin(client))
                return;
        e = responses_add(ask->fold, (enum record_type)head->type, record);
        if (e != 0) {
                fail_fold(client, e);
                return;
        }
        if (!events_put(client) || head->type == RECORD_DELTA)
                return;
        if (head->type == RECORD_ERROR && !ask->background) {
                http_broken(client->conn);
                return;
        }
        http_stream_end(client->conn);
        http_done(client->conn);
}

/* ---- whole responses ---- */

/* `last`: its newest record. */
static void whole_put(struct client *client, const struct responses *fold, enum responses_say say,
                const struct record *last) {
        struct responses_ask *ask = ask_of(client);
        struct responses_answer answer = answer_of(gateway_of(client->conn), ask);
        uint64_t bound = responses_whole_bound(fold, &answer);
        struct http_lines lines;
        struct http_body body;

        put_lines(&lines, ask);
        chat_times(&lines, last);
        if (!http_answer_begin(&body, client->conn, 200, JSON, &lines,
                            bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX))
                return;
        responses_whole(&body.b, fold, &answer, say);
        http_answer_end(&body);
        http_done(client->conn);
}

/* A response of which there is nothing yet. */
static void empty_put(struct client *client, enum responses_say say) {
        static const struct record nothing = {0};
        struct responses *fold = NULL;

        if (responses_new(&fold, 0) == 0)
                whole_put(client, fold, say, &nothing);
        else
                fail_fold(client, -ENOMEM);
        responses_free(fold);
}

/* Everything from the cursor on, up to the end or as far as there is anything. 0 or LOG_E_GONE. The
 * last record is in *record. */
static int fold_read(struct gateway *gw, struct client *client, const struct answer *a,
                struct log_cursor at, struct responses *fold, struct record *record, int *ret_e) {
        struct log_event_head head;
        int r, e = 0;

        do {
                r = collect_next(gw, a, &at, &head, record);
                if (r == LOG_E_AGAIN)
                        return 0;
                if (r != 0)
                        return LOG_E_GONE;
                origin_keep(gw, ask_of(client), a, record);
                e = responses_add(fold, (enum record_type)head.type, record);
        } while (e == 0 && head.type == RECORD_DELTA);
        *ret_e = e;
        return 0;
}

static int answer_put(struct gateway *gw, struct client *client, const struct answer *a,
                struct log_cursor from) {
        struct responses *fold = NULL;
        struct record record = {0};
        int e = 0, r = responses_new(&fold, max_bytes(gw));

        if (r == 0)
                r = fold_read(gw, client, a, from, fold, &record, &e);
        else
                e = r;
        if (r == LOG_E_GONE) {
                responses_free(fold);
                return r;
        }
        if (e != 0)
                fail_fold(client, e);
        else if (record.has & HAS(code) && !ask_of(client)->by_id)
                fail_record(client, &record);
        else
                whole_put(client, fold, RESPONSES_AS_IT_IS, &record);
        responses_free(fold);
        return 0;
}

static int whole(struct gateway *gw, struct reader *r, struct log_cursor from) {
        return answer_put(gw, r->client, r->answer, from);
}

static int result(struct gateway *gw, struct client *client, const struct answer *a,
                const struct log_cursor *from) {
        struct responses_ask *ask = ask_of(client);

        origin_keep(gw, ask, a, NULL);
        if (from)
                return answer_put(gw, client, a, *from);
        empty_put(client, RESPONSES_QUEUED);
        return 0;
}

/* ---- the ends of operations ---- */

static void accepted(struct client *client, const struct answer *a, bool more) {
        struct responses_ask *ask = ask_of(client);

        (void)more;
        ask->accepted = true;
        ask->lane = a->lane;
        id_keep(ask, answer_id(a));
        if (!ask->background) {
                if (ask->stream)
                        http_due(client->conn,
                                        loop_now_ns(client->conn->conns->loop) + HTTP_PING_NS);
                return;
        }
        origin_keep(gateway_of(client->conn), ask, a, NULL);
        if (!ask->stream) {
                empty_put(client, RESPONSES_QUEUED);
                return;
        }
        /* Whoever is cut off from now on knows the id to go on with. Of what another gateway runs the
         * records say when it began. */
        if (!stream_open(client) || !stream_begin(client) || a->t0 == 0)
                return;
        if (responses_begin(ask->fold) != 0)
                fail_fold(client, -ENOMEM);
        else
                (void)events_put(client);
}

/* It is answered with the response, once that has ended. */
static void cancelled(struct client *client, struct mr_view id) {
        struct gateway *gw = gateway_of(client->conn);
        struct mr_view tenant = {client->tenant, client->tenant_len};
        struct answer *a;
        int r = answer_find(gw, tenant, id, &a);

        id_keep(ask_of(client), id);
        ask_of(client)->cancelling = true;
        if (r == 0)
                origin_keep(gw, ask_of(client), a, NULL);
        if (r != 0)
                client_refuse(client, id, MR_E_gone, "its events are not kept any more",
                                ASK_NO_RETRY);
        else if (!reader_add(gw, client, a, READER_UNARY, 0))
                client_refuse(client, id, MR_E_overloaded, "too many readers",
                                gateway_retry_after_ms(gw));
}

static void error(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *error) {
        struct openai_error e = {
                        .code = error->code, .message = error->message, .param = error->param};
        struct responses_ask *ask = ask_of(client);

        (void)seq;
        if (is_over(client))
                return;
        id_keep(ask, id);
        if (ask->cancelling && e.code == MR_E_cancelled) /* at the door */
                empty_put(client, RESPONSES_CANCELLED);
        else
                fail(client, &e, error->retry_after_ms);
}

static const struct dialect responses_dialect = {.parse = parse,
                .composed = composed,
                .accepted = accepted,
                .cancelled = cancelled,
                .error = error,
                .event = event,
                .whole = whole,
                .result = result};
