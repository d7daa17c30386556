/*
 * stream -- the last stage: every event goes into the response log, and who follows it is told.
 *
 * Shape   one data ring in (post), a ring of lookups from each gateway slot; notices out, likewise
 * Owner   the only writer of log.<lane>. An event is published, then its input is acked: after a kill an
 *         input that is in the log already is only acked, for each event names the input that made it
 *         The end of a detached response is held until the database has it (detached.c); one that runs anew
 *         begins again in the log (restart.c)
 * Errors  a record that is none: shared memory is inconsistent, the worker gives up
 * Limits  TURN_RECORDS inputs and one notice for each response and gateway a turn; notices are hints and
 *         never block: what does not fit raises `missed`
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/poison.h"
#include "stages/engines/store/store.h"
#include "stages/stream/detached.h"
#include "stages/stream/letters.h"
#include "stages/stream/lookup.h"
#include "stages/stream/notices.h"
#include "stages/stream/parts.h"
#include "stages/stream/restart.h"

#define EXPIRE_EVERY_NS NS_PER_S
#define FIRST_NS (10 * NS_PER_MS) /* this stage has its core to itself until its first turns are done */

/* ---- records ---- */

/* A gateway's slot stays open until it has seen the end: what it looks for must be found. */
static bool is_followed(void *ctx, uint64_t req_id) {
        struct worker *w = ctx;
        uint64_t flags;

        for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                if (w->admissions[g].shm && follow_get(&w->admissions[g], req_id, &flags) == 0)
                        return true;
        return false;
}

/* The log has no room before the database has answered: the record waits. */
static bool no_room(struct worker *w, int r) {
        if (r == RESPONSE_E_SPACE && parts_make_room(w))
                return true;
        if (r < 0 || r == RESPONSE_E_SPACE) /* attach has checked that the log is large enough */
                worker_fail(w, "stream: the log cannot take a record", r);
        return false;
}

/* The head of a request that a stage has given up says nothing: nobody has looked into it. Its gateway
 * knows whose it is, as long as somebody waits for it. */
static bool on_poisoned_head(struct worker *w, const struct ring_msg *msg, uint64_t in_seq) {
        struct stream *stream = w->stage;
        struct admission_slot slot;
        struct response_head head = {
                        .req_id = msg->req_id, .in_seq = in_seq, .now_ns = loop_now_ns(w->loop)};
        uint32_t response;

        if (!letters_slot(w, msg->req_id, &slot))
                return true;
        head.id = slot.id;
        head.id_len = slot.id_len;
        head.tenant = slot.tenant;
        head.tenant_len = slot.tenant_len;
        memcpy(head.digest, slot.digest, sizeof(head.digest));
        head.detached = slot.flags & ADMISSION_DETACHED;
        return !no_room(w, response_log_create(&stream->log, &head, &response));
}

static bool on_head(struct worker *w, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        struct response_head head = {
                        .req_id = msg->req_id, .in_seq = msg->seq, .now_ns = loop_now_ns(w->loop)};
        struct record record;
        uint32_t response;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r)
                worker_fail(w, "stream: post wrote a broken head", r);
        if (!(record.has & HAS(id)) || !(record.has & HAS(tenant)))
                return on_poisoned_head(w, msg, msg->seq);
        head.id = record.id.p;
        head.id_len = record.id.n;
        head.tenant = record.tenant.p;
        head.tenant_len = record.tenant.n;
        head.digest[0] = record.has & HAS(digest_hi) ? record.digest_hi : 0;
        head.digest[1] = record.has & HAS(digest_lo) ? record.digest_lo : 0;
        head.detached = record.has & HAS(options) && record.options & OPTION_DETACH;
        head.session = record.has & HAS(options) && record.options & OPTION_SESSION;
        return !no_room(w, response_log_create(&stream->log, &head, &response));
}

/* How a request that ended in this ERROR is to be remembered, and why, when it was given up. */
static uint64_t outcome_of(
                struct worker *w, const struct ring_msg *msg, struct response_letter *letter) {
        struct record record;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r)
                worker_fail(w, "stream: post wrote a broken error", r);
        if (!(record.has & HAS(code)))
                return LOG_OUTCOME_FAILED;
        (void)letter_cause(&record, letter);
        if (record.code == MR_E_cancelled)
                return LOG_OUTCOME_CANCELLED;
        return mr_error_retryable((enum mr_error)record.code) ? LOG_OUTCOME_RETRYABLE
                                                              : LOG_OUTCOME_FAILED;
}

static bool on_event(struct worker *w, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        struct response_letter letter = {.strikes = 0};
        uint64_t outcome = msg->type == RECORD_DONE    ? LOG_OUTCOME_DONE
                           : msg->type == RECORD_ERROR ? outcome_of(w, msg, &letter)
                                                       : 0;
        uint32_t response;
        int r = response_log_find(&stream->log, msg->req_id, &response);

        if (r) { /* its head was forgotten with an older log: nobody can ask for it */
                counters_add(w->counters, COUNTER_log_unknown, 1);
                if (!stream->said_unknown)
                        log_warn("unknown_response", "type=%s", record_type_name(msg->type));
                stream->said_unknown = true;
                return true;
        }
        if (letter.strikes && stream->log.links[response].list == LIST_OPEN)
                response_log_set_letter(&stream->log, response, &letter);
        r = msg->type == RECORD_RESTART ? restart_take(w, response, msg)
                                        : detached_append(w, response, msg, outcome);
        if (no_room(w, r))
                return false;
        if (r == 0)
                counters_add(w->counters, COUNTER_log_bytes_written, msg->len);
        return true;
}

/* This record has killed this stage often enough: nothing of it is looked at any more, and its request
 * ends here. */
static bool give_up(struct worker *w, const struct ring_msg *msg) {
        uint8_t bytes[POISON_ERROR_BYTES];
        struct poison_error error;
        struct ring_msg in_its_place = *msg;

        poison_error(w, msg->strikes, &error);
        if (record_encode(&error.record, bytes, sizeof(bytes), &in_its_place.len))
                worker_fail(w, "stream: an error is larger than its bound", -ENOBUFS);
        in_its_place.type = RECORD_ERROR;
        in_its_place.data = bytes;
        /* Before its input, so that the error, which has that input's number, comes after it. */
        if (msg->type == RECORD_REQUEST && !on_poisoned_head(w, msg, msg->seq - 1))
                return false;
        return on_event(w, &in_its_place);
}

/* False: it waits for room, and comes again. */
static bool handle(struct worker *w, const struct ring_msg *msg) {
        if (msg->strikes >= POISON_STRIKES)
                return give_up(w, msg);
        switch (msg->type) {
        case RECORD_REQUEST:
                return on_head(w, msg);
        case RECORD_DELTA:
        case RECORD_DONE:
        case RECORD_ERROR:
        case RECORD_RESTART:
                return on_event(w, msg);
        default:
                worker_fail(w, "stream: post wrote a record of unknown type", -EPROTO);
        }
}

/* A record that was taken: true when it is in the log, and acked. */
static bool finish_input(struct worker *w, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        bool logged;

        ring_rx_active(stream->rx, msg->seq);
        logged = handle(w, msg);
        ring_rx_idle(stream->rx);
        if (!logged) {
                stream->held = *msg; /* its bytes stay until the next peek */
                return false;
        }
        FAULT(w, "after_commit", NULL, 0);
        FAULT(w, "before_ack", NULL, 0);
        ring_rx_ack(stream->rx, msg->seq);
        FAULT(w, "after_ack", NULL, 0);
        if (msg->strikes >= POISON_STRIKES)
                poison_given_up(w, msg->req_id, msg->strikes);
        return true;
}

static unsigned take_inputs(struct worker *w) {
        struct stream *stream = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;
        int r = 0;

        if (stream->held.seq) {
                const struct ring_msg held = stream->held;
                stream->held.seq = 0;
                if (!finish_input(w, &held))
                        return 0;
                n++;
        }
        for (; n < TURN_RECORDS; n++) {
                r = ring_rx_peek(stream->rx, &msg);
                if (r)
                        break;
                ring_rx_take(stream->rx);
                if (msg->strikes < POISON_STRIKES)
                        FAULT(w, "on_record", msg->data, msg->len);
                if (!finish_input(w, msg))
                        break;
        }
        if (r < 0)
                worker_fail(w, "stream: post's ring is broken", r);
        return n;
}

static unsigned stream_turn(struct worker *w) {
        struct stream *stream = w->stage;
        unsigned n;

        n = detached_turn(w);
        n += take_inputs(w);
        if (n)
                FAULT(w, "published", NULL, 0);
        notices_send(w);
        n += lookup_turn(w);
        if (n) {
                counters_add(w->counters, COUNTER_evictions, stream->log.n_evicted);
                stream->log.n_evicted = 0;
        }
        ring_rx_flush(stream->rx, false);
        return n;
}

/* ---- life ---- */

/* A thread that does not come back from the disk cannot be ended alone. */
static void watch_database(struct worker *w) {
        const struct stream *stream = w->stage;
        uint64_t since = stream->database ? database_since_ns(stream->database) : 0;
        uint64_t timeout_ns = w->settings->supervisor.heartbeat_timeout_ms * NS_PER_MS;

        if (since == 0 || loop_now_ns(w->loop) < since + timeout_ns || w->stuck)
                return;
        w->stuck = true;
        log_error("database_hangs", "path=%s why=\"nothing has come back for %llu ms\"",
                        w->settings->stream.database,
                        (unsigned long long)(timeout_ns / NS_PER_MS));
}

/* What is held waits for it as long as there is none. */
static void start_database(struct stream *stream) {
        int r = stream->database ? database_start(stream->database) : 0;

        if (r < 0 && !stream->said_no_thread)
                log_error("database_thread", "error=\"%s\"", strerror(-r));
        stream->said_no_thread = r < 0;
}

static void on_expire(struct loop_timer *timer) {
        struct worker *w = timer->owner;
        struct stream *stream = w->stage;
        const struct response_log *log = &stream->log;
        uint64_t now = loop_now_ns(w->loop), ttl = w->settings->stream.response_ttl_s * NS_PER_S;

        start_database(stream);
        if (now > ttl)
                response_log_expire(&stream->log, now - ttl);
        counters_set(w->counters, COUNTER_log_responses,
                        log->shm->n_responses - log->list[LIST_FREE].n - log->list[LIST_EVICTED].n);
        counters_set(w->counters, COUNTER_log_used,
                        (uint64_t)(log->shm->n_extents - log->n_free_extents) * LOG_EXTENT);
        watch_database(w);
        loop_timer_set(w->loop, timer, now + EXPIRE_EVERY_NS);
}

static bool has_database(const char *setting) {
        return setting && strcmp(setting, "none") != 0;
}

/* The folder of the database is made before the sandbox, which lets us into a folder that is there. */
static int stream_init(struct worker *w) {
        const char *database = w->settings->stream.database;
        int r = has_database(database) ? store_folder_make(database) : 0;

        if (r < 0) /* the database says so when it is needed */
                log_debug("database_folder", "path=%s error=\"%s\"", database, strerror(-r));
        w->stage = calloc(1, sizeof(struct stream));
        return w->stage ? 0 : -ENOMEM;
}

static int database_begin(struct worker *w) {
        struct stream *stream = w->stage;
        const struct settings *s = w->settings;
        struct database_options options = {.w = w,
                        .path = s->stream.database,
                        .full = s->stream.durability == SETTINGS_DURABILITY_FULL,
                        .checked = w->topology->generation,
                        .ttl_s = s->stream.results_ttl_s,
                        .session_ttl_s = s->sessions.ttl_s,
                        .session_turns = s->sessions.history_turns,
                        .letters_max = s->stream.dead_letters_max,
                        .lane = w->hello.lane,
                        .join_bytes = lookup_whole_bytes(w) / 4,
                        .expires = w->hello.lane == 0,
                        .bell = w->bells[w->hello.proc],
                        .log = w->log};
        int r;

        lookup_init(stream);
        stream->log.may_lose = !has_database(options.path);
        STAILQ_INIT(&stream->letters);
        atomic_store_explicit(&w->log->database_failed, 0, memory_order_relaxed);
        if (!has_database(options.path))
                return 0;
        r = database_new(&stream->database, &options);
        if (r == 0)
                detached_resume(w);
        return r;
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
        stream->expire = (struct loop_timer){.fn = on_expire, .owner = w};
        loop_timer_set(w->loop, &stream->expire, clock_now_ns() + FIRST_NS);
        r = database_begin(w);
        /* Notices of the dead incarnation may be lost: everyone looks again. */
        for (uint32_t g = 0; r == 0 && g < w->topology->n_gateway_slots; g++)
                notices_look_again(w, g);
        return r;
}

static bool stream_drained(struct worker *w) {
        struct stream *stream = w->stage;

        return ring_rx_depth(stream->rx) == 0 && detached_idle(stream) && stream->n_lookups == 0;
}

static void stream_fini(struct worker *w) {
        struct stream *stream = w->stage;

        loop_timer_clear(w->loop, &stream->expire);
        stream->database = database_free(stream->database);
        letters_fini(w);
        lookup_fini(stream);
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
