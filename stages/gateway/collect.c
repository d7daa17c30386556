#include "stages/gateway/collect.h"

#include <string.h>

#define KIND_MAX 32u

/* A run of deltas that make one text. */
struct run {
        uint64_t choice;
        uint32_t kind_n;
        char kind[KIND_MAX];
        uint64_t first, seq, n;
        uint64_t bytes;
};

static int next_event(struct gateway *gw, const struct answer *a, struct log_cursor *at,
                struct log_event_head *head, struct record *record) {
        int e = log_next(&gw->w->logs[a->lane], at, head, gw->event, sizeof(gw->event));

        if (e == 0 && record_decode(&gw->w->decoder, gw->event, head->len, record) < 0)
                return LOG_E_GONE;
        return e == LOG_E_SPACE ? LOG_E_GONE : e;
}

static uint64_t choice_of(const struct record *r) {
        return r->has & HAS(choice) ? r->choice : 0;
}

static struct mr_view kind_of(const struct record *r) {
        return r->has & HAS(delta_kind) ? r->delta_kind : (struct mr_view){"", 0};
}

/* Text alone may be joined with its neighbours. */
static bool plain(const struct log_event_head *head, const struct record *r) {
        return head->type == RECORD_DELTA && (r->has & HAS(text)) &&
               !(r->has & (HAS(tool) | HAS(extra))) && kind_of(r).n <= KIND_MAX;
}

static bool in_run(const struct run *run, const struct record *r) {
        struct mr_view kind = kind_of(r);

        return run->choice == choice_of(r) && run->kind_n == kind.n &&
               memcmp(run->kind, kind.p, kind.n) == 0;
}

static void run_begin(struct run *run, const struct log_event_head *head, const struct record *r) {
        struct mr_view kind = kind_of(r);

        *run = (struct run){.choice = choice_of(r),
                        .kind_n = kind.n,
                        .first = head->seq,
                        .seq = head->seq,
                        .n = 1,
                        .bytes = r->text.n};
        memcpy(run->kind, kind.p, kind.n);
}

/* Follows the run as far as it goes; the cursor stops before what does not belong to it. */
static int run_measure(struct gateway *gw, const struct answer *a, struct log_cursor *at,
                struct run *run) {
        for (;;) {
                struct log_cursor before = *at;
                struct log_event_head head;
                struct record record;
                int e = next_event(gw, a, at, &head, &record);

                if (e == LOG_E_AGAIN)
                        return 0;
                if (e != 0)
                        return e;
                if (!plain(&head, &record) || !in_run(run, &record) ||
                                run->bytes + record.text.n > UINT32_MAX / 2) {
                        *at = before;
                        return 0;
                }
                run->bytes += record.text.n;
                run->seq = head.seq;
                run->n++;
        }
}

static int run_write(struct gateway *gw, const struct reader *r, struct log_cursor at,
                const struct run *run) {
        struct record like = {.has = HAS(choice), .choice = run->choice};
        struct conn *c = r->client->conn;
        struct native_text text;

        if (run->kind_n > 0) {
                like.has |= HAS(delta_kind);
                like.delta_kind = (struct mr_view){run->kind, run->kind_n};
        }
        if (!native_text_delta(&text, c, answer_id(r->answer), run->first, run->seq, &like,
                            (uint32_t)run->bytes))
                return 0;
        for (uint64_t i = 0; i < run->n; i++) {
                struct log_event_head head;
                struct record record;
                int e = next_event(gw, r->answer, &at, &head, &record);

                if (e != 0 || !(record.has & HAS(text)))
                        return LOG_E_GONE;
                native_text_piece(&text, record.text);
        }
        native_text_end(&text);
        return 0;
}

int collect_answer(struct gateway *gw, struct reader *r, struct log_cursor from) {
        struct conn *c = r->client->conn;

        for (;;) {
                struct log_cursor start = from;
                struct log_event_head head;
                struct record record;
                struct run run;
                int e = next_event(gw, r->answer, &from, &head, &record);

                if (e == LOG_E_AGAIN)
                        return LOG_E_GONE; /* finished, but without a terminal event to be read */
                if (e != 0)
                        return e;
                if (!plain(&head, &record)) {
                        native_event(c, answer_id(r->answer), &head, 0, &record);
                        if (head.type != RECORD_DELTA || c->state == CONN_CLOSING)
                                return 0;
                        continue;
                }
                run_begin(&run, &head, &record);
                e = run_measure(gw, r->answer, &from, &run);
                if (e == 0)
                        e = run_write(gw, r, start, &run);
                if (e != 0 || c->state == CONN_CLOSING)
                        return e;
        }
}

/* ---- result ---- */

/* Only the text of the first choice is the answer's text. */
static bool answers_text(const struct log_event_head *head, const struct record *r) {
        return head->type == RECORD_DELTA && (r->has & HAS(text)) && choice_of(r) == 0 &&
               kind_of(r).n == 0;
}

struct whole {
        uint64_t events, text_bytes;
        uint16_t type; /* of the terminal event, 0: none yet */
        uint32_t rest_bytes;
        uint64_t code;
};

static int whole_measure(struct gateway *gw, const struct answer *a, struct log_cursor at,
                struct whole *ret) {
        *ret = (struct whole){0};
        while (ret->type == 0) {
                struct log_event_head head;
                struct record record;
                int e = next_event(gw, a, &at, &head, &record);

                if (e == LOG_E_AGAIN)
                        return 0;
                if (e != 0)
                        return e;
                ret->events++;
                if (answers_text(&head, &record))
                        ret->text_bytes += record.text.n;
                if (head.type == RECORD_DELTA)
                        continue;
                ret->type = head.type;
                ret->code = record.has & HAS(code) ? record.code : 0;
                /* Members of sources have names in the answer that they do not have in the record.
                 */
                ret->rest_bytes = head.len * 8 + 1024;
        }
        return 0;
}

static const char *status_of(const struct whole *whole) {
        if (whole->type == 0)
                return "running";
        if (whole->type == RECORD_DONE)
                return "completed";
        return whole->code == MR_E_cancelled ? "cancelled" : "failed";
}

int collect_result(struct gateway *gw, struct conn *c, const struct answer *a,
                struct log_cursor from) {
        struct native_text text;
        struct whole whole;
        struct record record = {0};
        int e = whole_measure(gw, a, from, &whole);

        if (e != 0 || whole.text_bytes > UINT32_MAX / 2)
                return LOG_E_GONE;
        if (!native_text_result(&text, c, answer_id(a), status_of(&whole),
                            (uint32_t)whole.text_bytes, whole.rest_bytes))
                return 0;
        for (uint64_t i = 0; i < whole.events; i++) {
                struct log_event_head head;

                e = next_event(gw, a, &from, &head, &record);
                if (e != 0)
                        return e;
                if (answers_text(&head, &record))
                        native_text_piece(&text, record.text);
        }
        native_result_end(&text, whole.type, &record);
        return 0;
}

int collect_nothing(struct conn *c, struct mr_view id, bool running) {
        struct record none = {0};
        struct native_text text;

        if (native_text_result(&text, c, id, running ? "running" : "queued", 0, 0))
                native_result_end(&text, 0, &none);
        return 0;
}
