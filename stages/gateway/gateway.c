/*
 * The gateway: one request in, one answer out.
 *
 * bytes -> conn.c -> http.c -> chat.c, or
 * bytes -> conn.c -> frames.c -> native.c (what is asked) -> submit.c -> admission and ring, or door.c
 * log -> reader.c (cursors) -> native_events.c -> conn_output.c -> bytes
 */
#include "stages/gateway/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stages/gateway/admit.h"
#include "stages/gateway/answers.h"
#include "stages/gateway/collect.h"
#include "stages/gateway/lanes.h"
#include "stages/gateway/http.h"
#include "stages/gateway/lookup.h"
#include "stages/gateway/native.h"
#include "stages/gateway/ops.h"
#include "stages/gateway/reader.h"
#include "stages/gateway/submit.h"

/* A client that does not read holds the end of a drain up for this long. */
#define FLUSH_NS (2 * NS_PER_S)
/* Another gateway has taken our place: who has just connected here may still ask. */
#define LAST_CALL_NS NS_PER_S

uint64_t gateway_retry_after_ms(const struct gateway *gw) {
        uint64_t ms = (gw->door.n + 1) * gw->close_gap_ns / NS_PER_MS;

        if (gw->close_gap_ns == 0)
                return 1000;
        return ms < 50 ? 50 : ms > 60000 ? 60000 : ms;
}

struct mr_view gateway_model_name(const struct gateway *gw, struct mr_view asked) {
        struct mr_view name = asked;

        if (name.n == 0) /* it is the one that is meant */
                name = text_view(gw->w->settings->inference.models.v[0].name);
        return name.n == 1 && name.p[0] == '*' ? text_view("default") : name;
}

/* ---- clients ---- */

void client_init(struct client *client, struct conn *c, const struct dialect *dialect) {
        const struct gateway *gw = gateway_of(c);

        *client = (struct client){.conn = c, .dialect = dialect};
        c->user = client;
        client->tenant_len = (uint32_t)(c->uid == gw->uid ? snprintf(client->tenant,
                                                                            sizeof(client->tenant),
                                                                            "local")
                                                          : snprintf(client->tenant,
                                                                            sizeof(client->tenant),
                                                                            "uid:%u", c->uid));
        counters_add(gw->w->counters, COUNTER_connections_total, 1);
}

void client_gone(struct client *client) {
        struct gateway *gw = gateway_of(client->conn);

        lookups_gone(gw, client->conn);
        readers_gone(gw, client);
        client->conn->user = NULL;
}

static void refuse(struct gateway *gw, struct client *client, struct mr_view id,
                enum mr_error code, const char *message) {
        counters_add(gw->w->counters, COUNTER_refused, 1);
        client_refuse(client, id, code, message, ASK_NO_RETRY);
}

/* ---- operations on a known id ---- */

static enum attached look(struct gateway *gw, struct answer *a, uint64_t after) {
        const struct log_view *view = &gw->w->logs[a->lane];
        struct log_event_head head;
        struct log_cursor cursor;
        struct record record;
        int e;

        if (a->where == ANSWER_DOOR || !lane_is_here(gw, a->lane))
                return ATTACHED_READS;
        if (a->response == LOG_NONE && log_find(view, a->req_id, &a->response) != 0)
                a->response = LOG_NONE;
        if (a->response == LOG_NONE || log_is_restarting(view, a->response))
                return ATTACHED_READS;
        e = log_open(view, a->req_id, a->response, after, &cursor);
        if (e != 0)
                return e == LOG_E_AGAIN ? ATTACHED_READS : ATTACHED_GONE;
        return log_response_state(view, a->response) == LOG_FINISHED &&
                                       collect_next(gw, a, &cursor, &head, &record) == LOG_E_AGAIN
                               ? ATTACHED_AT_END
                               : ATTACHED_READS;
}

static void attach(struct gateway *gw, struct client *client, struct answer *a, uint64_t after) {
        struct reader *r = reader_find(client, a);

        /* Once on one connection: no event is delivered twice. */
        if (r && r->kind != READER_DETACHED)
                return;
        if (r) {
                r->kind = READER_EVENTS;
                return;
        }
        r = reader_add(gw, client, a, READER_EVENTS, after);
        if (!r)
                client_refuse(client, answer_id(a), MR_E_overloaded, "too many readers",
                                gateway_retry_after_ms(gw));
        else if (client->dialect->attached)
                client->dialect->attached(client, r, look(gw, a, after));
}

static void cancel(struct gateway *gw, struct client *client, struct answer *a) {
        struct mr_view id = answer_id(a);

        client->dialect->cancelled(client, id);
        if (a->where == ANSWER_DOOR)
                submit_refuse_waiting(gw, a, MR_E_cancelled, "cancelled before it was admitted");
        else
                answer_cancel(gw, a, CANCEL_CLIENT);
}

static void on_known(struct gateway *gw, struct client *client, const struct ask *ask,
                const struct lookup_frame *frame) {
        struct mr_view tenant = {client->tenant, client->tenant_len};
        struct answer *a;
        int r = answer_find(gw, tenant, ask->id, &a);

        if ((r == ANSWER_E_NONE || r == ANSWER_E_GONE) && lookup_park(gw, frame))
                return;
        if ((r == ANSWER_E_NONE || r == ANSWER_E_GONE) && gw->lookups.failed) {
                client_refuse(client, ask->id, MR_E_overloaded, "the database cannot be read now",
                                gateway_retry_after_ms(gw));
        } else if (r == ANSWER_E_NONE || (r == 0 && ask->detached_only && !a->detached)) {
                refuse(gw, client, ask->id, MR_E_not_found, "id: not known");
        } else if (r == ANSWER_E_GONE && ask->op == OP_CANCEL) {
                client->dialect->cancelled(client, ask->id);
        } else if (r == ANSWER_E_GONE) {
                refuse(gw, client, ask->id, MR_E_gone, "its events are not kept any more");
        } else if (r != 0) {
                client_refuse(client, ask->id, MR_E_overloaded, "too many readers",
                                gateway_retry_after_ms(gw));
        } else if (ask->op == OP_ATTACH) {
                attach(gw, client, a, ask->after);
        } else if (ask->op == OP_CANCEL) {
                cancel(gw, client, a);
        } else {
                reader_result(gw, client, a);
        }
}

void gateway_ask(struct gateway *gw, struct client *client, const uint8_t *bytes, uint32_t len) {
        struct lookup_frame frame = {.conn = client->conn, .bytes = bytes, .len = len};
        struct ask_error error;
        struct ask ask;

        if (client->dialect->parse(bytes, len, &ask, &error)) {
                counters_add(gw->w->counters, COUNTER_refused, 1);
                client_refuse_ask(client, ask.id, &error);
                return;
        }
        frame.id = ask.id;
        frame.tenant = (struct mr_view){client->tenant, client->tenant_len};
        if (ask.op == OP_PING)
                native_pong(client->conn);
        else if (ask.op == OP_SUBMIT)
                submit(gw, client, &ask, &frame);
        else
                on_known(gw, client, &ask, &frame);
}

/* ---- the Unix socket ---- */

static void on_opened(struct conn *c) {
        struct client *client = calloc(1, sizeof(*client));

        frames_opened(c);
        if (client)
                client_init(client, c, &native_dialect);
        else
                conn_finish(c);
}

static void on_gone(struct conn *c) {
        struct client *client = c->user;

        if (client)
                client_gone(client);
        free(client);
}

static void on_writable(struct conn *c) {
        readers_resume(gateway_of(c), c->user);
}

static void on_frame(struct conn *c, const uint8_t *bytes, uint32_t len) {
        gateway_ask(gateway_of(c), c->user, bytes, len);
        /* What is no map has no fields to be wrong in: nothing that follows can be trusted. */
        if (!native_is_map(bytes, len))
                conn_finish(c);
}

static void on_refused(struct conn *c, enum frames_refusal why) {
        struct gateway *gw = gateway_of(c);
        static const struct {
                enum mr_error code;
                const char *message;
        } words[] = {
                        [FRAMES_BROKEN] = {MR_E_invalid_request,
                                        "not msgpack; the connection closes"},
                        [FRAMES_DEEP] = {MR_E_invalid_request,
                                        "nested deeper than 32 levels; the connection closes"},
                        [FRAMES_LARGE] = {MR_E_too_large,
                                        "the frame is larger than what is allowed"},
                        [FRAMES_HUGE] = {MR_E_too_large, "the frame is far larger than what is "
                                                         "allowed; the connection closes"},
                        [FRAMES_NO_MEMORY] = {MR_E_overloaded, "too many large requests at once"},
        };

        counters_add(gw->w->counters, COUNTER_refused, 1);
        client_refuse(c->user, (struct mr_view){0}, words[why].code, words[why].message,
                        why == FRAMES_NO_MEMORY ? gateway_retry_after_ms(gw) : ASK_NO_RETRY);
}

static const struct protocol socket_protocol = {.surface = SURFACE_SOCKET,
                .own_bytes = sizeof(struct frames),
                .in_bytes = FRAMES_IN,
                .out_soft = FRAMES_OUT_SOFT,
                .opened = on_opened,
                .input = frames_input,
                .writable = on_writable,
                .gone = on_gone};

/* ---- a turn ---- */

static unsigned notices_turn(struct gateway *gw) {
        unsigned n = 0;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                struct ring_rx *rx = &gw->notices[lane]->rx;
                const struct ring_msg *msg;
                unsigned taken = 0;
                int r = 0;

                if (!lane_is_here(gw, lane))
                        continue;
                while (taken < TURN_RECORDS && (r = ring_rx_peek(rx, &msg)) == 0) {
                        struct answer *a = answers_by_req(&gw->answers, msg->req_id);
                        uint64_t seq = msg->seq;

                        if (a)
                                answer_dirty(gw, a);
                        lookup_answered(gw, msg);
                        ring_rx_take(rx);
                        ring_rx_ack(rx, seq);
                        taken++;
                }
                if (r < 0)
                        worker_fail_lane(gw->w, lane, "notice ring", r);
                if (taken > 0) {
                        FAULT(gw->w, "noticed", NULL, 0);
                        ring_rx_idle(rx);
                        ring_rx_flush(rx, false);
                }
                n += taken;
        }
        return n;
}

static bool lane_missed(const struct gateway *gw, uint32_t lane, uint64_t *ret) {
        if (!lane_is_here(gw, lane))
                return false;
        /* SYNC(log.missed): raised after `end`, so that the rescan finds what the notice was about.
         */
        *ret = atomic_load_explicit(&gw->w->logs[lane].shm->missed[gw->slot], memory_order_seq_cst);
        return *ret != gw->missed[lane];
}

static unsigned missed_turn(struct gateway *gw) {
        unsigned n = 0;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                uint64_t missed;

                if (!lane_missed(gw, lane, &missed))
                        continue;
                gw->missed[lane] = missed;
                answers_dirty_lane(gw, lane);
                n++;
        }
        return n;
}

static void publish(struct gateway *gw) {
        bool any = false;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                struct worker_out *outs[] = {gw->to_inference[lane], gw->to_stream[lane]};

                if (ring_tx_pending(&gw->to_rag[lane]->tx) > 0) {
                        admit_commit(gw, lane);
                        any = true;
                }
                for (size_t i = 0; i < sizeof(outs) / sizeof(outs[0]); i++)
                        if (ring_tx_pending(&outs[i]->tx) > 0) {
                                ring_tx_commit(&outs[i]->tx);
                                any = true;
                        }
        }
        if (any)
                FAULT(gw->w, "after_commit", NULL, 0);
}

static void count(struct gateway *gw) {
        struct counters_shm *counters = gw->w->counters;
        uint64_t completed = table_total(&gw->table, OUTCOME_COMPLETED);
        uint64_t failed = table_total(&gw->table, OUTCOME_FAILED);
        uint64_t cancelled = table_total(&gw->table, OUTCOME_CANCELLED);

        counters_set(counters, COUNTER_completed, completed);
        counters_set(counters, COUNTER_failed, failed);
        counters_set(counters, COUNTER_cancelled, cancelled);
        counters_set(counters, COUNTER_in_flight, gw->table.n_open);
        /* Never stored by itself: the sum holds at every instant. */
        counters_set(counters, COUNTER_admitted, completed + failed + cancelled + gw->table.n_open);
        counters_set(counters, COUNTER_connections,
                        gw->conns.n[SURFACE_SOCKET] + gw->conns.n[SURFACE_HTTP]);
        counters_set(counters, COUNTER_connections_socket, gw->conns.n[SURFACE_SOCKET]);
        counters_set(counters, COUNTER_connections_http, gw->conns.n[SURFACE_HTTP]);
        counters_set(counters, COUNTER_arena_used, gw->arena.used_bytes);
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++)
                atomic_store_explicit(&counters->lane_in_flight[lane], gw->table.in_flight[lane],
                                memory_order_relaxed);
}

/* Lanes whose ring holds more records than channels.rag allows; the turn finds out anew. */
static void bounds_clear(struct gateway *gw) {
        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                if (gw->over_bound[lane] && !gw->to_rag[lane]->blocked)
                        ring_tx_disarm(&gw->to_rag[lane]->tx);
                gw->over_bound[lane] = false;
        }
}

static unsigned gateway_turn(struct worker *w) {
        struct gateway *gw = w->stage;
        unsigned n;

        bounds_clear(gw);
        n = lanes_turn(gw);
        n += notices_turn(gw);
        n += missed_turn(gw);
        if (w->cut) {
                lookups_refuse(gw, MR_E_draining, "the daemon is shutting down");
                readers_cut(gw);
        }
        n += readers_turn(gw);
        n += door_turn(gw);
        n += conns_input(&gw->conns, GATEWAY_FRAMES_TURN);
        n += lookups_turn(gw);
        n += cancels_turn(gw);
        /* Committed first: `accepted` says that the request is in the ring. */
        publish(gw);
        conns_output(&gw->conns);
        count(gw); /* also without work: a connection's end is none */
        return n;
}

static bool gateway_may_sleep(struct worker *w) {
        struct gateway *gw = w->stage;
        uint64_t missed;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                struct ring_tx *tx = &gw->to_rag[lane]->tx;

                if (lane_missed(gw, lane, &missed))
                        return false;
                if (gw->over_bound[lane] && !ring_tx_await(tx, tx->next - tx->map.geo.bound + 1))
                        return false;
        }
        return !gw->dirty && conns_idle(&gw->conns);
}

static void gateway_drain(struct worker *w) {
        struct gateway *gw = w->stage;

        door_refuse_all(gw, MR_E_draining, "the daemon is shutting down");
}

static void on_last_call(struct loop_timer *timer) {
        struct gateway *gw = timer->owner;

        /* A frame that has begun has another round to be finished. */
        conns_end_input(&gw->conns, gw->called);
        http_retire(gw);
        gw->called = true;
        loop_timer_set(gw->w->loop, timer, loop_now_ns(gw->w->loop) + LAST_CALL_NS);
}

static void gateway_close(struct worker *w) {
        struct gateway *gw = w->stage;

        conns_retire(&gw->conns);
        gw->last_call = (struct loop_timer){.fn = on_last_call, .owner = gw};
        loop_timer_set(w->loop, &gw->last_call, loop_now_ns(w->loop) + LAST_CALL_NS);
}

/* Closing: nothing that we know of runs any more, and everybody has gone. Marks of ours that others
 * look for would be lost with us, so also what is only read here is waited for. */
static bool gateway_closed(const struct gateway *gw) {
        return gw->answers.n == 0 && conns_gone(&gw->conns);
}

static bool gateway_drained(struct worker *w) {
        struct gateway *gw = w->stage;

        if (w->closing && !w->draining)
                return gateway_closed(gw);
        if (w->cut) /* every reader has had its last word, and nothing more is waited for */
                return conns_flushed(&gw->conns);
        if (gw->table.n_open > 0 || gw->door.n > 0 || gw->lookups.n > 0)
                return false;
        return (conns_flushed(&gw->conns) && !gw->dirty) ||
               loop_now_ns(w->loop) > gw->closed_ns + FLUSH_NS;
}

const struct stage_ops stage_gateway = {
                .name = "gateway",
                .role = ROLE_GATEWAY,
                .loop_entries = 1024,
                .init = gateway_init,
                .attach = gateway_attach,
                .turn = gateway_turn,
                .may_sleep = gateway_may_sleep,
                .drain = gateway_drain,
                .close = gateway_close,
                .drained = gateway_drained,
                .lane = gateway_lane,
                .fini = gateway_fini,
};

void gateway_listen(struct gateway *gw, int fd) {
        const struct settings *s = gw->w->settings;

        gw->frames = (struct frames_ops){
                        .frame_bytes = s->admission.max_body_bytes + GATEWAY_FRAME_MORE,
                        .frame = on_frame,
                        .refused = on_refused};
        conns_init(&gw->conns, gw->w->loop, gw,
                        s->admission.queue_bytes + s->admission.max_body_bytes +
                                        GATEWAY_FRAME_MORE);
        gw->conns.max[SURFACE_SOCKET] = GATEWAY_SOCKET_MAX;
        gw->conns.max[SURFACE_HTTP] = (uint32_t)s->http.max_connections;
        gw->socket = conns_listen(&gw->conns, fd, &socket_protocol, &gw->frames);
}
