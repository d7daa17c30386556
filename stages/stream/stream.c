/*
 * stream -- the last stage: every event goes into the response log, and who follows it is told.
 *
 * Shape   one data ring in (post); notices out, a ring for each gateway slot
 * Owner   the only writer of log.<lane>. An event is published, then its input is acked: after a kill an
 *         input that is in the log already is only acked, for each event names the input that made it
 * Errors  a record that is none: shared memory is inconsistent, the worker gives up
 * Limits  TURN_RECORDS inputs and one notice for each response and gateway a turn; notices are hints and
 *         never block: what does not fit raises `missed`
 */
#include <errno.h>
#include <stdlib.h>

#include "shm/doorbell.h"
#include "stages/common/stage.h"
#include "stages/stream/response_log.h"

#define EXPIRE_EVERY_NS NS_PER_S

struct stream_touched {
        uint64_t req_id;
        uint32_t response;
};

struct stream {
        struct response_log log;
        struct ring_rx *rx;
        struct worker_out *notices[GATEWAY_SLOTS_MAX];
        struct stream_touched touched[TURN_RECORDS]; /* responses with news in this turn */
        uint32_t n_touched;
        struct loop_timer expire;
        bool said_unknown;
};

/* ---- notices ---- */

static void touch(struct stream *stream, uint64_t req_id, uint32_t response) {
        for (uint32_t i = stream->n_touched; i-- > 0;)
                if (stream->touched[i].req_id == req_id)
                        return;
        stream->touched[stream->n_touched++] = (struct stream_touched){req_id, response};
}

/* SYNC(log.missed): raised after `end`; a gateway compares it before it sleeps. */
static void look_again(struct worker *w, uint32_t gateway) {
        mr_au64 *missed = &w->log->missed[gateway];

        atomic_store_explicit(missed, atomic_load_explicit(missed, memory_order_relaxed) + 1,
                        memory_order_seq_cst);
        doorbell_ring(w->bells[topology_proc_gateway(gateway)]);
}

/* SYNC(log.follow): `end` was published (seq_cst) before this table is read; the gateway names the
 * response before it reads `end`. So either it sees the event or we see it. */
static void notify(struct worker *w, uint32_t gateway) {
        struct stream *stream = w->stage;
        struct ring_tx *tx = &stream->notices[gateway]->tx;
        bool dropped = false;

        for (uint32_t i = 0; i < stream->n_touched; i++) {
                const struct stream_touched *touched = &stream->touched[i];
                uint64_t flags;
                uint8_t *to;
                if (follow_get(&w->admissions[gateway], touched->req_id, &flags))
                        continue;
                if (ring_tx_begin(tx, 0, &to)) {
                        dropped = true;
                        break;
                }
                ring_tx_end(tx,
                                &(struct ring_meta){.type = RECORD_NOTICE,
                                                .ord = touched->response,
                                                .req_id = touched->req_id},
                                0);
        }
        ring_tx_commit(tx);
        if (dropped) {
                counters_add(w->counters, COUNTER_notices_missed, 1);
                look_again(w, gateway);
        }
}

/* A gateway's slot stays open until it has seen the end: what it looks for must be found. */
static bool is_followed(void *ctx, uint64_t req_id) {
        struct worker *w = ctx;
        uint64_t flags;

        for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                if (w->admissions[g].shm && follow_get(&w->admissions[g], req_id, &flags) == 0)
                        return true;
        return false;
}

/* ---- records ---- */

static void on_head(struct worker *w, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        struct response_head head = {
                        .req_id = msg->req_id, .in_seq = msg->seq, .now_ns = loop_now_ns(w->loop)};
        struct record record;
        uint32_t response;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r || !(record.has & HAS(id)) || !(record.has & HAS(tenant)))
                worker_fail(w, "stream: post wrote a broken head", r ? r : -EPROTO);
        head.id = record.id.p;
        head.id_len = record.id.n;
        head.tenant = record.tenant.p;
        head.tenant_len = record.tenant.n;
        head.digest[0] = record.has & HAS(digest_hi) ? record.digest_hi : 0;
        head.digest[1] = record.has & HAS(digest_lo) ? record.digest_lo : 0;
        head.detached = record.has & HAS(options) && record.options & OPTION_DETACH;
        r = response_log_create(&stream->log, &head, &response);
        if (r < 0 || r == RESPONSE_E_SPACE)
                worker_fail(w, "stream: the log cannot take a response", r);
}

/* How a request that ended in this ERROR is to be remembered. */
static uint64_t outcome_of(struct worker *w, const struct ring_msg *msg) {
        struct record record;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r)
                worker_fail(w, "stream: post wrote a broken error", r);
        if (!(record.has & HAS(code)))
                return LOG_OUTCOME_FAILED;
        if (record.code == MR_E_cancelled)
                return LOG_OUTCOME_CANCELLED;
        return mr_error_retryable((enum mr_error)record.code) ? LOG_OUTCOME_RETRYABLE
                                                              : LOG_OUTCOME_FAILED;
}

static void on_event(struct worker *w, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        uint64_t outcome = msg->type == RECORD_DONE    ? LOG_OUTCOME_DONE
                           : msg->type == RECORD_ERROR ? outcome_of(w, msg)
                                                       : 0;
        uint32_t response;
        int r = response_log_find(&stream->log, msg->req_id, &response);

        if (r) { /* its head was forgotten with an older log: nobody can ask for it */
                counters_add(w->counters, COUNTER_log_unknown, 1);
                if (!stream->said_unknown)
                        log_warn("unknown_response", "type=%s", record_type_name(msg->type));
                stream->said_unknown = true;
                return;
        }
        r = response_log_append(&stream->log, response, msg->seq, msg->type, msg->data, msg->len,
                        outcome, loop_now_ns(w->loop));
        if (r < 0 || r == RESPONSE_E_SPACE) /* attach has checked that the log is large enough */
                worker_fail(w, "stream: the log cannot take an event", r);
        if (r == 0) {
                counters_add(w->counters, COUNTER_log_bytes_written, msg->len);
                touch(stream, msg->req_id, response);
        }
}

static void handle(struct worker *w, const struct ring_msg *msg) {
        switch (msg->type) {
        case RECORD_REQUEST:
                on_head(w, msg);
                return;
        case RECORD_DELTA:
        case RECORD_DONE:
        case RECORD_ERROR:
                on_event(w, msg);
                return;
        default:
                worker_fail(w, "stream: post wrote a record of unknown type", -EPROTO);
        }
}

static unsigned stream_turn(struct worker *w) {
        struct stream *stream = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;
        int r = 0;

        stream->n_touched = 0;
        for (; n < TURN_RECORDS; n++) {
                r = ring_rx_peek(stream->rx, &msg);
                if (r)
                        break;
                ring_rx_take(stream->rx);
                FAULT(w, "on_record", msg->data, msg->len);
                handle(w, msg);
                FAULT(w, "after_commit", NULL, 0);
                FAULT(w, "before_ack", NULL, 0);
                ring_rx_ack(stream->rx, msg->seq);
                FAULT(w, "after_ack", NULL, 0);
        }
        if (r < 0)
                worker_fail(w, "stream: post's ring is broken", r);
        if (n) {
                FAULT(w, "published", NULL, 0);
                for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                        if (stream->notices[g] && w->admissions[g].shm)
                                notify(w, g);
                ring_rx_idle(stream->rx);
                counters_add(w->counters, COUNTER_evictions, stream->log.n_evicted);
                stream->log.n_evicted = 0;
        }
        ring_rx_flush(stream->rx, false);
        return n;
}

/* ---- life ---- */

static void on_expire(struct loop_timer *timer) {
        struct worker *w = timer->owner;
        struct stream *stream = w->stage;
        const struct response_log *log = &stream->log;
        uint64_t now = loop_now_ns(w->loop), ttl = w->settings->stream.response_ttl_s * NS_PER_S;

        if (now > ttl)
                response_log_expire(&stream->log, now - ttl);
        counters_set(w->counters, COUNTER_log_responses,
                        log->list[LIST_OPEN].n + log->list[LIST_FINISHED].n +
                                        log->list[LIST_DETACHED].n);
        counters_set(w->counters, COUNTER_log_used,
                        (uint64_t)(log->shm->n_extents - log->n_free_extents) * LOG_EXTENT);
        loop_timer_set(w->loop, timer, now + EXPIRE_EVERY_NS);
}

static int stream_init(struct worker *w) {
        w->stage = calloc(1, sizeof(struct stream));
        return w->stage ? 0 : -ENOMEM;
}

static int stream_attach(struct worker *w) {
        struct stream *stream = w->stage;
        int r;

        stream->rx = &worker_data_in(w)->rx;
        for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                stream->notices[g] = worker_find_out(
                                w, RING_NOTICE, w->hello.lane, topology_proc_gateway(g));
        r = response_log_attach(&stream->log, w->log, w->log_map_bytes);
        if (r)
                return r;
        stream->log.followed = is_followed;
        stream->log.followed_ctx = w;
        if (w->log->n_extents < LOG_EXTENTS_MIN(w->topology->max_in_flight)) {
                log_error("log_too_small", "key=stream.log_bytes extents=%u expected=%u",
                                w->log->n_extents, LOG_EXTENTS_MIN(w->topology->max_in_flight));
                return -EINVAL; /* no restart makes it larger */
        }
        /* Notices of the dead incarnation may be lost: everyone looks again. */
        for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                look_again(w, g);
        stream->expire = (struct loop_timer){.fn = on_expire, .owner = w};
        loop_timer_set(w->loop, &stream->expire, clock_now_ns());
        return 0;
}

static bool stream_drained(struct worker *w) {
        struct stream *stream = w->stage;

        return ring_rx_depth(stream->rx) == 0;
}

static void stream_fini(struct worker *w) {
        struct stream *stream = w->stage;

        loop_timer_clear(w->loop, &stream->expire);
        response_log_close(&stream->log);
        free(stream);
}

static const struct stage_ops stream_ops = {
                .name = "stream",
                .role = ROLE_STREAM,
                .loop_entries = 64,
                .init = stream_init,
                .attach = stream_attach,
                .turn = stream_turn,
                .drained = stream_drained,
                .fini = stream_fini,
};

int main(int argc, char **argv) {
        return worker_main(&stream_ops, argc, argv);
}
