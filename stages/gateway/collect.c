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

int collect_next(struct gateway *gw, const struct answer *a, struct log_cursor *at,
                struct log_event_head *head, struct record *record) {
        int e = log_next(&gw->w->logs[a->lane], at, head, gw->event, sizeof(gw->event));

        if (e == 0 && record_decode(&gw->w->decoder, gw->event, head->len, record) < 0)
                return LOG_E_GONE;
        return e == LOG_E_SPACE ? LOG_E_GONE : e;
}

uint64_t collect_joined(const struct record *r) {
        uint64_t n = 0;

        if (!(r->has & HAS(cuts)))
                return 0;
        for (uint32_t i = 0; i < r->cuts.n; i++)
                n += !(r->cuts.p[i] & 0x80);
        return n;
}

void collect_event(struct reader *r, const struct log_event_head *head, struct record *record) {
        const struct dialect *dialect = r->client->dialect;
        uint64_t n = collect_joined(record), first = head->seq - n + 1;
        struct dialect_text text;

        if (n == 0 || !dialect->text_delta) {
                dialect->event(r->client, r->answer, head, record);
                return;
        }
        for (; first <= r->after; first++) {
                uint32_t gone = record_cut_take(&record->cuts);

                gone = gone < record->text.n ? gone : record->text.n;
                record->text.p += gone;
                record->text.n -= gone;
        }
        record->has &= ~HAS(cuts);
        if (!dialect->text_delta(&text, r->client, r->answer, first, head->seq, record,
                            record->text.n))
                return;
        dialect->text_piece(&text, record->text);
        dialect->text_end(&text, record);
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
                        .first = head->seq - (collect_joined(r) ? collect_joined(r) - 1 : 0),
                        .seq = head->seq,
                        .n = 1,
                        .bytes = r->text.n};
        memcpy(run->kind, kind.p, kind.n);
}

/* Follows the run as far as it goes; the cursor stops before what does not belong to it. */
static int run_measure(struct gateway *gw, const struct answer *a, struct log_cursor *at,
                uint64_t max_bytes, struct run *run) {
        for (;;) {
                struct log_cursor before = *at;
                struct log_event_head head;
                struct record record;
                int e = collect_next(gw, a, at, &head, &record);

                if (e == LOG_E_AGAIN)
                        return 0;
                if (e != 0)
                        return e;
                if (!plain(&head, &record) || !in_run(run, &record) ||
                                run->bytes + record.text.n > max_bytes) {
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
        const struct dialect *dialect = r->client->dialect;
        struct dialect_text text;

        if (run->kind_n > 0) {
                like.has |= HAS(delta_kind);
                like.delta_kind = (struct mr_view){run->kind, run->kind_n};
        }
        if (!dialect->text_delta(&text, r->client, r->answer, run->first, run->seq, &like,
                            (uint32_t)run->bytes))
                return 0;
        for (uint64_t i = 0; i < run->n; i++) {
                struct log_event_head head;
                struct record record;
                int e = collect_next(gw, r->answer, &at, &head, &record);

                if (e != 0 || !(record.has & HAS(text)))
                        return LOG_E_GONE;
                dialect->text_piece(&text, record.text);
        }
        dialect->text_end(&text, &like);
        return 0;
}

int collect_answer(struct gateway *gw, struct reader *r, struct log_cursor from) {
        struct conn *c = r->client->conn;

        for (;;) {
                struct log_cursor start = from;
                struct log_event_head head;
                struct record record;
                struct run run;
                int e = collect_next(gw, r->answer, &from, &head, &record);

                if (e == LOG_E_AGAIN)
                        return LOG_E_GONE; /* finished, but without a terminal event to be read */
                if (e != 0)
                        return e;
                if (!plain(&head, &record)) {
                        r->client->dialect->event(r->client, r->answer, &head, &record);
                        if (head.type != RECORD_DELTA || c->state == CONN_CLOSING)
                                return 0;
                        continue;
                }
                run_begin(&run, &head, &record);
                e = run_measure(gw, r->answer, &from, UINT32_MAX / 2, &run);
                if (e == 0)
                        e = run_write(gw, r, start, &run);
                if (e != 0 || c->state == CONN_CLOSING)
                        return e;
        }
}

/* ---- result ---- */

int collect_run(struct gateway *gw, struct reader *r, const struct log_event_head *head,
                const struct record *record, struct log_cursor from) {
        struct run run;
        int e;

        if (!plain(head, record))
                return COLLECT_E_ALONE;
        run_begin(&run, head, record);
        e = run_measure(gw, r->answer, &r->cursor, COLLECT_RUN_BYTES, &run);
        return e == 0 ? run_write(gw, r, from, &run) : e;
}

bool collect_is_text(const struct log_event_head *head, const struct record *r) {
        return head->type == RECORD_DELTA && (r->has & HAS(text)) && choice_of(r) == 0 &&
               kind_of(r).n == 0;
}

int collect_measure(struct gateway *gw, const struct answer *a, struct log_cursor at,
                struct collect_whole *ret) {
        *ret = (struct collect_whole){0};
        while (ret->type == 0) {
                struct log_event_head head;
                struct record record;
                int e = collect_next(gw, a, &at, &head, &record);

                if (e == LOG_E_AGAIN)
                        return 0;
                if (e != 0)
                        return e;
                ret->events++;
                ret->bytes += head.len;
                if (collect_is_text(&head, &record))
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

const char *collect_status(const struct answer *a, const struct collect_whole *whole) {
        if (!whole)
                return a->response != LOG_NONE ? "running" : "queued";
        if (whole->type == 0)
                return "running";
        if (whole->type == RECORD_DONE)
                return "completed";
        return whole->code == MR_E_cancelled ? "cancelled" : "failed";
}
