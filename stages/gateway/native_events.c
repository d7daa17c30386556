#include <string.h>

#include "stages/common/pack.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/gateway.h"
#include "stages/gateway/native.h"
#include "stages/gateway/native_put.h"

/* Room for one event. False: the connection is gone. */
static bool begin(struct pack_buf *w, struct conn *c, uint32_t bytes) {
        uint8_t *to = conn_reserve(c, bytes);

        if (to)
                pack_buf_init(w, to, bytes);
        return to != NULL;
}

static void end(struct pack_buf *w, struct conn *c) {
        if (!w->full)
                conn_wrote(c, w->len);
}

void native_pong(struct conn *c) {
        struct pack_buf w;

        if (!begin(&w, c, NATIVE_EVENT_BOUND))
                return;
        native_put_begin(&w, "pong", (struct mr_view){0}, 0);
        end(&w, c);
}

/* more: one send and one wake-up of the client less. */
static void native_accepted(struct client *client, const struct answer *a, bool more) {
        struct pack_buf w;

        if (!begin(&w, client->conn, NATIVE_EVENT_BOUND))
                return;
        native_put_accepted(&w, answer_id(a), a->lane);
        if (more)
                conn_wrote_later(client->conn, w.len);
        else
                end(&w, client->conn);
}

static void native_cancelled(struct client *client, struct mr_view id) {
        struct pack_buf w;

        if (!begin(&w, client->conn, NATIVE_EVENT_BOUND))
                return;
        native_put_begin(&w, "cancelled", id, 0);
        end(&w, client->conn);
}

static void native_error(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *error) {
        struct pack_buf w;

        if (!begin(&w, client->conn, NATIVE_EVENT_BOUND + error->message.n))
                return;
        native_put_error(&w, id, seq, error->code, error->message, error->retry_after_ms);
        end(&w, client->conn);
}

static void native_event(struct client *client, const struct answer *a,
                const struct log_event_head *head, const struct record *record) {
        struct pack_buf w;

        if (!begin(&w, client->conn, native_event_bound(head, record)))
                return;
        native_put_event(&w, answer_id(a), head, record);
        end(&w, client->conn);
}

/* ---- texts from several events ---- */

static bool native_text_delta(struct dialect_text *t, struct client *client,
                const struct answer *a, uint64_t first, uint64_t seq, const struct record *like,
                uint32_t text_bytes) {
        uint32_t kind_bytes = like->has & HAS(delta_kind) ? like->delta_kind.n : 0;

        t->client = client;
        if (!begin(&t->w.pack, client->conn, NATIVE_EVENT_BOUND + kind_bytes + text_bytes))
                return false;
        native_put_text_head(&t->w.pack, answer_id(a), first, seq, like, text_bytes);
        return true;
}

static void native_text_piece(struct dialect_text *t, struct mr_view text) {
        pack_bytes(&t->w.pack, text.p, text.n);
}

static void native_text_end(struct dialect_text *t, const struct record *like) {
        (void)like; /* its choice and kind stand before the text */
        end(&t->w.pack, t->client->conn);
}

/* ---- results ---- */

static int native_result(struct gateway *gw, struct client *client, const struct answer *a,
                const struct log_cursor *from) {
        struct collect_whole whole = {0};
        struct record record = {0};
        struct log_cursor at = from ? *from : (struct log_cursor){0};
        const char *status = collect_status(a, NULL);
        struct pack_buf w;
        int e = from ? collect_measure(gw, a, at, &whole) : 0;

        if (e != 0 || whole.text_bytes > UINT32_MAX / 2)
                return LOG_E_GONE;
        if (from)
                status = collect_status(a, &whole);
        if (!begin(&w, client->conn,
                            2 * NATIVE_EVENT_BOUND + (uint32_t)whole.text_bytes + whole.rest_bytes))
                return 0;
        native_put_result_head(&w, answer_id(a), status, (uint32_t)whole.text_bytes);
        for (uint64_t i = 0; i < whole.events; i++) {
                struct log_event_head head;

                e = collect_next(gw, a, &at, &head, &record);
                if (e != 0)
                        return LOG_E_GONE;
                if (collect_is_text(&head, &record))
                        pack_bytes(&w, record.text.p, record.text.n);
        }
        native_put_result_rest(&w, whole.type, &record);
        end(&w, client->conn);
        return 0;
}

const struct dialect native_dialect = {.parse = native_parse,
                .accepted = native_accepted,
                .cancelled = native_cancelled,
                .error = native_error,
                .event = native_event,
                .text_delta = native_text_delta,
                .text_piece = native_text_piece,
                .text_end = native_text_end,
                .whole = collect_answer,
                .result = native_result};
