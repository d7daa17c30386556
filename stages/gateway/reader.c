#include "stages/gateway/reader.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/answers.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/lanes.h"

#define CHUNK_READERS 64u

struct readers_chunk {
        struct readers_chunk *next;
        struct reader readers[CHUNK_READERS];
};

int readers_init(struct readers *readers, uint32_t limit) {
        *readers = (struct readers){.limit = limit};
        return 0;
}

void readers_close(struct readers *readers) {
        while (readers->chunks) {
                struct readers_chunk *chunk = readers->chunks;

                readers->chunks = chunk->next;
                free(chunk);
        }
        *readers = (struct readers){0};
}

static bool chunk_add(struct readers *readers) {
        struct readers_chunk *chunk = malloc(sizeof(*chunk));

        if (!chunk)
                return false;
        chunk->next = readers->chunks;
        readers->chunks = chunk;
        for (uint32_t i = 0; i < CHUNK_READERS; i++) {
                chunk->readers[i].next = readers->free;
                readers->free = &chunk->readers[i];
        }
        return true;
}

/* ---- who reads what ---- */

struct reader *reader_find(const struct client *client, const struct answer *a) {
        struct reader *r = a->readers;

        while (r && r->client != client)
                r = r->next;
        return r;
}

static void answer_link(struct answer *a, struct reader *r) {
        r->answer = a;
        r->next = a->readers;
        r->self = &a->readers;
        if (r->next)
                r->next->self = &r->next;
        a->readers = r;
}

static void answer_unlink(struct reader *r) {
        *r->self = r->next;
        if (r->next)
                r->next->self = r->self;
}

/* Readers that look at the log are counted; who only wants `accepted` is not one. */
static void follow_count(
                struct gateway *gw, const struct answer *a, const struct reader *r, int delta) {
        if (a->req_id != 0 && r->kind != READER_DETACHED)
                follow_mark(gw->table.shm, a->req_id, delta > 0 ? FOLLOW_READ : 0, delta);
}

struct reader *reader_add(struct gateway *gw, struct client *client, struct answer *a,
                enum reader_kind kind, uint64_t after) {
        struct readers *readers = &gw->readers;
        struct reader *r;

        if (readers->n >= readers->limit || (!readers->free && !chunk_add(readers)))
                return NULL;
        r = readers->free;
        readers->free = r->next;
        readers->n++;
        *r = (struct reader){.client = client,
                        .kind = kind,
                        .after = after,
                        .client_next = client->readers,
                        .client_self = &client->readers};
        if (r->client_next)
                r->client_next->client_self = &r->client_next;
        client->readers = r;
        client->conn->users++;
        answer_link(a, r);
        follow_count(gw, a, r, 1);
        answer_dirty(gw, a);
        return r;
}

void reader_remove(struct gateway *gw, struct reader *r) {
        struct answer *a = r->answer;

        follow_count(gw, a, r, -1);
        answer_unlink(r);
        *r->client_self = r->client_next;
        if (r->client_next)
                r->client_next->client_self = r->client_self;
        conn_release(r->client->conn);
        r->next = gw->readers.free;
        gw->readers.free = r;
        gw->readers.n--;
        if (!a->readers)
                answer_dirty(gw, a); /* the turn frees what has ended */
}

void readers_follow(struct gateway *gw, struct answer *a) {
        for (struct reader *r = a->readers; r; r = r->next)
                follow_count(gw, a, r, 1);
}

void readers_accept(struct gateway *gw, struct answer *a) {
        struct reader *next;

        for (struct reader *r = a->readers; r; r = next) {
                struct conn *c = r->client->conn;

                next = r->next;
                while (r->accepts > 0 && c->state != CONN_CLOSING) {
                        r->accepts--;
                        r->client->dialect->accepted(r->client, a, r->kind == READER_EVENTS);
                }
                /* When the output failed, the client's readers are gone already. */
                if (c->state != CONN_CLOSING && r->kind == READER_DETACHED)
                        reader_remove(gw, r);
        }
}

void readers_move(struct gateway *gw, struct answer *from, struct answer *to) {
        while (from->readers) {
                struct reader *r = from->readers;

                follow_count(gw, from, r, -1);
                answer_unlink(r);
                answer_link(to, r);
                follow_count(gw, to, r, 1);
        }
        answer_dirty(gw, to);
}

void reader_orphan(struct gateway *gw, struct answer *a) {
        if (gw->leaving || a->readers || a->detached ||
                        (a->where != ANSWER_OPEN && a->where != ANSWER_ELSEWHERE) ||
                        gw->w->settings->stream.on_disconnect != SETTINGS_ON_DISCONNECT_CANCEL)
                return;
        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++) {
                uint64_t flags;

                if (g != gw->slot && gw->w->admissions[g].shm &&
                                follow_get(&gw->w->admissions[g], a->req_id, &flags) == 0 &&
                                flags >= FOLLOW_READER)
                        return;
        }
        answer_cancel(gw, a, CANCEL_DISCONNECT);
}

void readers_gone(struct gateway *gw, struct client *client) {
        while (client->readers) {
                struct answer *a = client->readers->answer;

                reader_remove(gw, client->readers);
                reader_orphan(gw, a);
        }
}

void readers_resume(struct gateway *gw, struct client *client) {
        for (struct reader *r = client->readers; r; r = r->client_next)
                answer_dirty(gw, r->answer);
}

/* ---- events ---- */

static void first_delta(struct gateway *gw, struct answer *a) {
        if (a->first_ns != 0 || a->t0 == 0)
                return;
        a->first_ns = loop_now_ns(gw->w->loop);
        if (a->deadline_first)
                loop_timer_clear(gw->w->loop, &a->deadline);
        counters_observe(gw->w->counters, HISTOGRAM_ttft, a->first_ns - a->t0);
}

static void last_event(struct gateway *gw, struct answer *a, const struct record *record) {
        uint64_t now = loop_now_ns(gw->w->loop);

        if (a->first_ns == 0 || !(record->has & HAS(completion_tokens)) ||
                        record->completion_tokens < 2)
                return;
        counters_observe(gw->w->counters, HISTOGRAM_token,
                        (now - a->first_ns) / (record->completion_tokens - 1));
        a->first_ns = now; /* observed once, however many readers come */
}

/* The log moved on, or what it holds is no event: this cursor ends, the request goes on. */
static void reader_cut(
                struct gateway *gw, struct reader *r, enum mr_error code, const char *message) {
        struct client *client = r->client;
        struct mr_view id = answer_id(r->answer);

        counters_add(gw->w->counters, COUNTER_readers_cut, 1);
        reader_remove(gw, r);
        client_refuse(client, id, code, message, ASK_NO_RETRY);
}

enum pump { PUMP_MORE, PUMP_WAIT, PUMP_ENDED };

/* One event of one cursor. */
static enum pump pump_event(struct gateway *gw, struct reader *r) {
        const struct log_view *view = &gw->w->logs[r->answer->lane];
        struct conn *c = r->client->conn;
        struct log_cursor from = r->cursor;
        struct log_event_head head;
        struct record record;
        int e;

        if (!conn_room(c)) {
                r->behind = true;
                return PUMP_WAIT;
        }
        e = log_next(view, &r->cursor, &head, gw->event, sizeof(gw->event));
        if (e == LOG_E_AGAIN) {
                r->behind = false;
                return PUMP_WAIT;
        }
        if (e != 0) {
                reader_cut(gw, r, MR_E_gone, "these events are not kept any more");
                return PUMP_ENDED;
        }
        /* Attached before there was anything to pass over. The end ends everybody, also who asked for what
         * comes behind it. */
        if (head.seq <= r->after && head.type == RECORD_DELTA)
                return PUMP_MORE;
        if (record_decode(&gw->w->decoder, gw->event, head.len, &record) < 0) {
                reader_cut(gw, r, MR_E_internal, "an event of the answer cannot be read");
                return PUMP_ENDED;
        }
        if (head.type == RECORD_DELTA)
                first_delta(gw, r->answer);
        else if (head.type == RECORD_DONE)
                last_event(gw, r->answer, &record);
        e = COLLECT_E_ALONE;
        if (r->behind && r->client->dialect->text_delta && collect_joined(&record) == 0)
                e = collect_run(gw, r, &head, &record, from);
        if (e == COLLECT_E_ALONE)
                collect_event(r, &head, &record);
        else if (e != 0 && c->state != CONN_CLOSING) {
                reader_cut(gw, r, MR_E_gone, "these events are not kept any more");
                return PUMP_ENDED;
        }
        if (c->state == CONN_CLOSING)
                return PUMP_ENDED; /* and the reader with it */
        if (head.type == RECORD_DELTA)
                return PUMP_MORE;
        reader_remove(gw, r);
        return PUMP_ENDED;
}

static bool ended(const struct gateway *gw, const struct answer *a) {
        enum log_state state = log_response_state(&gw->w->logs[a->lane], a->response);

        return state == LOG_FINISHED || state == LOG_EVICTED;
}

static unsigned pump_unary(struct gateway *gw, struct reader *r) {
        struct conn *c = r->client->conn;
        struct log_cursor from = r->cursor;

        if (!ended(gw, r->answer) || !conn_room(c))
                return 0;
        if (r->client->dialect->whole(gw, r, from) != 0) {
                if (c->state != CONN_CLOSING)
                        reader_cut(gw, r, MR_E_gone, "these events are not kept any more");
                return 1;
        }
        if (c->state != CONN_CLOSING)
                reader_remove(gw, r);
        return 1;
}

/* What one reader gets in this turn. */
static unsigned pump_reader(struct gateway *gw, struct reader *r) {
        struct answer *a = r->answer;
        unsigned n = 0;
        enum pump pump = PUMP_MORE;

        if (r->accepts > 0 || r->kind == READER_DETACHED)
                return 0;
        /* SYNC(log.restart): the reader was marked before (follow_count); a notice comes when it may. */
        if (!r->opened && log_is_restarting(&gw->w->logs[a->lane], a->response))
                return 0;
        if (!r->opened) {
                int e = log_open(&gw->w->logs[a->lane], a->req_id, a->response, r->after,
                                &r->cursor);

                if (e != 0) {
                        reader_cut(gw, r, MR_E_gone, "these events are not kept any more");
                        return 1;
                }
                r->opened = true;
        }
        if (r->kind == READER_UNARY)
                return pump_unary(gw, r);
        while (pump == PUMP_MORE && n < GATEWAY_EVENTS_READER) {
                pump = pump_event(gw, r);
                n += pump != PUMP_WAIT;
        }
        if (pump == PUMP_MORE)
                answer_dirty(gw, a);
        if (n > 0)
                FAULT(gw->w, "event_copied", NULL, 0);
        return n;
}

static enum admission_outcome outcome_of(uint64_t outcome) {
        if (outcome == LOG_OUTCOME_DONE)
                return OUTCOME_COMPLETED;
        return outcome == LOG_OUTCOME_CANCELLED ? OUTCOME_CANCELLED : OUTCOME_FAILED;
}

/* The terminal event is in the log: the slot closes, whoever still reads. */
static void answer_finish(struct gateway *gw, struct answer *a) {
        uint64_t now = loop_now_ns(gw->w->loop);
        uint64_t outcome = log_response_outcome(&gw->w->logs[a->lane], a->response);

        if (a->where == ANSWER_OPEN) {
                table_close(&gw->table, a->slot, outcome_of(outcome));
                counters_observe(gw->w->counters, HISTOGRAM_request, now - a->t0);
                if (gw->closed_ns != 0)
                        gw->close_gap_ns = (gw->close_gap_ns * 7 + (now - gw->closed_ns)) / 8;
                gw->closed_ns = now;
        }
        /* Given up by a stage behind inference, which is still at it then. */
        if (log_was_lost(&gw->w->logs[a->lane], a->response) ||
                        log_response_is_letter(&gw->w->logs[a->lane], a->response))
                answer_stop(gw, a);
        a->where = ANSWER_FINISHED;
        a->slot = ADMISSION_NONE;
        loop_timer_clear(gw->w->loop, &a->deadline);
        follow_remove(gw->table.shm, a->req_id);
}

/* Nobody needs it any more? Then it goes. */
static void answer_settle(struct gateway *gw, struct answer *a) {
        if (a->readers || a->dirty || a->cancel_due)
                return;
        if (a->where == ANSWER_DOOR && a->waiting)
                door_leave(gw, a->waiting); /* everybody who waited for it left */
        if (a->where == ANSWER_DOOR || a->where == ANSWER_FINISHED)
                answer_free(gw, a);
}

static unsigned pump_answer(struct gateway *gw, struct answer *a) {
        const struct log_view *view = &gw->w->logs[a->lane];
        unsigned n = 0;
        bool end;

        if (a->where == ANSWER_DOOR || !lane_is_here(gw, a->lane))
                return 0;
        /* SYNC(log.follow): the table says that we follow before the log is looked at. */
        if (a->response == LOG_NONE && log_find(view, a->req_id, &a->response) != 0) {
                a->response = LOG_NONE;
                return 0;
        }
        end = ended(gw, a);
        for (struct reader *r = a->readers, *next; r; r = next) {
                next = r->next;
                n += pump_reader(gw, r);
        }
        if (end && a->where != ANSWER_FINISHED) {
                answer_finish(gw, a);
                n++;
        }
        return n;
}

unsigned readers_turn(struct gateway *gw) {
        struct answer *last = NULL;
        unsigned n = 0;

        /* Those that become dirty on the way wait for the next turn. */
        if (gw->dirty)
                last = (struct answer *)(void *)((char *)gw->dirty_end -
                                                 offsetof(struct answer, next_dirty));
        while (gw->dirty && n < GATEWAY_EVENTS_TURN) {
                struct answer *a = gw->dirty;

                gw->dirty = a->next_dirty;
                if (!gw->dirty)
                        gw->dirty_end = &gw->dirty;
                a->dirty = false;
                n += pump_answer(gw, a);
                answer_settle(gw, a);
                if (a == last)
                        break;
        }
        return n;
}

void reader_fail(struct gateway *gw, struct reader *r, enum mr_error code, const char *message,
                uint64_t retry_after_ms) {
        struct client *client = r->client;
        struct mr_view id = answer_id(r->answer);
        uint64_t seq = r->answer->where == ANSWER_DOOR ? 0 : r->cursor.seq + 1;

        if (r->cursor.seq < r->after)
                seq = r->after + 1;
        reader_remove(gw, r);
        client->dialect->error(client, id, seq,
                        &(struct dialect_error){.code = code,
                                        .message = text_view(message),
                                        .retry_after_ms = retry_after_ms});
}

void readers_cut(struct gateway *gw) {
        for (struct conn *c = gw->conns.all; c; c = c->next) {
                struct client *client = c->user;

                while (c->state != CONN_CLOSING && client->readers)
                        reader_fail(gw, client->readers, MR_E_draining,
                                        "the daemon is shutting down", gateway_retry_after_ms(gw));
                conn_finish(c);
        }
}

void reader_result(struct gateway *gw, struct client *client, struct answer *a) {
        const struct log_view *view;
        struct log_cursor cursor = {0};
        int e = LOG_E_AGAIN;

        if (a->where != ANSWER_DOOR) {
                view = &gw->w->logs[a->lane];
                if (a->response == LOG_NONE && log_find(view, a->req_id, &a->response) != 0)
                        a->response = LOG_NONE;
                /* Nothing is said of a detached answer before its end: to ask for it is not to read it, so
                 * that it still may run anew. */
                if (a->response != LOG_NONE && (!a->detached || ended(gw, a)))
                        e = log_open(view, a->req_id, a->response, 0, &cursor);
        }
        if (e == 0 || e == LOG_E_AGAIN)
                e = client->dialect->result(gw, client, a, e == 0 ? &cursor : NULL);
        if (e != 0)
                client_refuse(client, answer_id(a), MR_E_gone, "its events are not kept any more",
                                ASK_NO_RETRY);
}
