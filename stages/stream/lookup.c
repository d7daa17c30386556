#include "stages/stream/lookup.h"

#include <errno.h>
#include <string.h>

#include "stages/stream/parts.h"

void lookup_init(struct stream *stream) {
        for (uint32_t i = 0; i < STREAM_LOOKUPS_MAX; i++) {
                stream->lookups[i].next = stream->free_lookups;
                stream->free_lookups = &stream->lookups[i];
        }
        stream->answers_end = &stream->answers;
}

void lookup_fini(struct stream *stream) {
        for (struct stream_lookup *l = stream->answers; l; l = l->next)
                l->job = database_job_free(l->job);
}

/* ---- questions ---- */

static void answer_later(struct stream *stream, struct stream_lookup *lookup) {
        lookup->next = NULL;
        *stream->answers_end = lookup;
        stream->answers_end = &lookup->next;
}

uint64_t lookup_whole_bytes(const struct worker *w) {
        return (uint64_t)(w->log->n_extents - w->topology->max_in_flight) * LOG_EXTENT_DATA;
}

void lookup_loaded(struct worker *w, struct database_job *job) {
        struct stream *stream = w->stage;
        struct stream_lookup *lookup = job->owner;

        if (job->status == DATABASE_DONE && job->events_bytes > lookup_whole_bytes(w)) {
                log_error("result_too_large", "key=stream.log_bytes bytes=%llu most=%llu",
                                (unsigned long long)job->events_bytes,
                                (unsigned long long)lookup_whole_bytes(w));
                job->status = DATABASE_FAILED;
        }
        lookup->job = job;
        answer_later(stream, lookup);
}

static void ask(struct worker *w, struct worker_in *in, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        struct stream_lookup *lookup = stream->free_lookups;
        struct database_job *job = database_job_new(DATABASE_LOAD, 0);
        struct record record;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r || msg->type != RECORD_LOOKUP || !(record.has & HAS(id)) ||
                        !(record.has & HAS(tenant)) || record.id.n > LOG_ID_MAX ||
                        record.tenant.n > LOG_TENANT_MAX)
                worker_fail(w, "stream: a gateway wrote a broken lookup", r ? r : -EPROTO);
        stream->free_lookups = lookup->next;
        stream->n_lookups++;
        *lookup = (struct stream_lookup){.in = in,
                        .seq = msg->seq,
                        .number = msg->req_id,
                        .gateway = w->topology->procs[in->ring->from].slot};
        counters_add(w->counters, COUNTER_lookups, 1);
        if (!job || !stream->database) { /* without a database nothing is kept */
                if (job)
                        job->status = DATABASE_ABSENT;
                lookup->job = job;
                answer_later(stream, lookup);
                return;
        }
        job->owner = lookup;
        job->id_len = (uint16_t)record.id.n;
        job->tenant_len = (uint16_t)record.tenant.n;
        memcpy(job->id, record.id.p, record.id.n);
        memcpy(job->tenant, record.tenant.p, record.tenant.n);
        database_submit(stream->database, job);
}

static unsigned take(struct worker *w) {
        struct stream *stream = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;

        for (uint32_t i = 0; i < w->n_in; i++) {
                struct ring_rx *rx = &w->in[i].rx;
                int r = 0;

                if (w->in[i].ring->kind != RING_LOOKUP)
                        continue;
                for (; stream->free_lookups && (r = ring_rx_peek(rx, &msg)) == 0; n++) {
                        ring_rx_take(rx);
                        ask(w, &w->in[i], msg);
                }
                if (r < 0)
                        worker_fail(w, "stream: a lookup ring is broken", r);
                ring_rx_idle(rx);
        }
        return n;
}

/* ---- answers ---- */

/* The response as it was stored, under its new number. False: the log has no room now. */
static bool restore(struct worker *w, struct stream_lookup *lookup) {
        struct stream *stream = w->stage;
        const struct database_job *job = lookup->job;
        uint64_t now = loop_now_ns(w->loop);
        struct response_head head = {.req_id = lookup->number,
                        .now_ns = now,
                        .id = job->id,
                        .id_len = job->id_len,
                        .tenant = job->tenant,
                        .tenant_len = job->tenant_len,
                        .digest = {job->digest[0], job->digest[1]},
                        .detached = true,
                        .stored = true};
        uint32_t response;
        int r;

        if (stream->restoring && stream->restoring != lookup)
                return false;
        stream->restoring = lookup;
        r = response_log_create(&stream->log, &head, &response);
        while (r == RESPONSE_E_KNOWN || r == 0) {
                struct log_event_head event;
                uint64_t outcome;

                if (lookup->at >= job->events_bytes) {
                        stream->restoring = NULL;
                        return true;
                }
                memcpy(&event, job->events + lookup->at, sizeof(event));
                outcome = event.type == RECORD_DELTA ? 0 : job->outcome;
                r = response_log_append(&stream->log, response, event.seq, event.type,
                                job->events + lookup->at + sizeof(event), event.len, outcome, now);
                if (r == 0 || r == RESPONSE_E_KNOWN)
                        lookup->at += sizeof(event) + layout_align(event.len, 8);
        }
        if (r < 0)
                worker_fail(w, "stream: the log cannot take a stored response", r);
        (void)parts_make_room(w);
        return false;
}

/* False: no room in the gateway's ring. */
static bool notify(struct worker *w, const struct stream_lookup *lookup) {
        struct stream *stream = w->stage;
        struct worker_out *out = stream->notices[lookup->gateway];
        bool found = lookup->job && lookup->job->status == DATABASE_DONE;
        bool absent = lookup->job && lookup->job->status == DATABASE_ABSENT;
        struct ring_meta meta = {.type = found ? RECORD_NOTICE : RECORD_ABSENT,
                        .flags = found || absent ? 0 : RING_ERROR,
                        .req_id = lookup->number};
        uint8_t *to;
        int r = ring_tx_begin(&out->tx, 0, &to);

        if (r == RING_E_BATCH) {
                ring_tx_commit(&out->tx);
                r = ring_tx_begin(&out->tx, 0, &to);
        }
        if (r < 0)
                worker_fail(w, "stream: a notice ring is broken", r);
        if (r) {
                out->blocked = true;
                out->want_n = 1;
                return false;
        }
        ring_tx_end(&out->tx, &meta, 0);
        ring_tx_commit(&out->tx);
        return true;
}

static void finish(struct stream *stream, struct stream_lookup *lookup) {
        ring_rx_ack(&lookup->in->rx, lookup->seq);
        lookup->job = database_job_free(lookup->job);
        lookup->next = stream->free_lookups;
        stream->free_lookups = lookup;
        stream->n_lookups--;
}

static unsigned answer(struct worker *w) {
        struct stream *stream = w->stage;
        struct stream_lookup *lookup = stream->answers;
        unsigned n = 0;

        stream->answers = NULL;
        stream->answers_end = &stream->answers;
        while (lookup) {
                struct stream_lookup *next = lookup->next;
                bool found = lookup->job && lookup->job->status == DATABASE_DONE;

                if ((!found || restore(w, lookup)) && notify(w, lookup)) {
                        finish(stream, lookup);
                        n++;
                } else {
                        answer_later(stream, lookup);
                }
                lookup = next;
        }
        return n;
}

unsigned lookup_turn(struct worker *w) {
        unsigned n = take(w);

        n += answer(w);
        for (uint32_t i = 0; i < w->n_in; i++)
                if (w->in[i].ring->kind == RING_LOOKUP)
                        ring_rx_flush(&w->in[i].rx, false);
        return n;
}
