#include "stages/gateway/embeddings.h"

#include <string.h>

#include "stages/gateway/collect.h"
#include "stages/gateway/http_answer.h"

static bool is_json(const struct record *r) {
        return (r->has & HAS(text)) && (r->has & HAS(delta_kind)) && r->delta_kind.n == 4 &&
               memcmp(r->delta_kind.p, "json", 4) == 0;
}

/* How many bytes the answer has; the terminal event is in *head and *record. 0 or LOG_E_GONE. */
static int measure(struct gateway *gw, const struct answer *a, struct log_cursor at, uint64_t *ret,
                struct log_event_head *head, struct record *record) {
        *ret = 0;
        do {
                if (collect_next(gw, a, &at, head, record) != 0)
                        return LOG_E_GONE;
                if (head->type == RECORD_DELTA && is_json(record))
                        *ret += record->text.n;
        } while (head->type == RECORD_DELTA);
        return 0;
}

static int whole(struct gateway *gw, struct reader *r, struct log_cursor at) {
        struct client *client = r->client;
        struct log_event_head head;
        struct http_lines lines;
        struct http_body body;
        struct record record;
        uint64_t bytes;

        if (measure(gw, r->answer, at, &bytes, &head, &record) != 0 || bytes > UINT32_MAX / 4)
                return LOG_E_GONE;
        if (head.type == RECORD_ERROR) {
                chat_failed(client, head.seq, &record);
                return 0;
        }
        chat_lines(&lines, &http_of(client->conn)->chat, &record);
        if (!http_answer_begin(&body, client->conn, 200, "application/json", &lines,
                            (uint32_t)bytes))
                return 0;
        while (body.b.len < bytes) {
                if (collect_next(gw, r->answer, &at, &head, &record) != 0)
                        return LOG_E_GONE; /* nothing was sent yet */
                if (is_json(&record))
                        json_put(&body.b, record.text.p, record.text.n);
        }
        http_answer_end(&body);
        http_done(client->conn);
        return 0;
}

static const struct dialect embeddings_dialect = {.parse = chat_parse,
                .composed = chat_composed,
                .accepted = chat_accepted,
                .error = chat_error,
                .whole = whole};

void embeddings_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body) {
        chat_submit(gw, c, request, body, &embeddings_dialect);
}
