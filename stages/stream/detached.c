#include "stages/stream/detached.h"

#include <string.h>

#include "stages/stream/letters.h"
#include "stages/stream/lookup.h"
#include "stages/stream/notices.h"
#include "stages/stream/parts.h"
#include "stages/stream/turns.h"

/* ---- to the database ---- */

static struct database_job *job_of(struct worker *w, uint32_t response, uint64_t bytes) {
        const struct stream *stream = w->stage;
        const struct log_response *r = &stream->log.shm->responses[response];
        struct database_job *job = database_job_new(DATABASE_STORE, bytes);
        int code;

        if (!job)
                return NULL;
        job->req_id = atomic_load_explicit(&r->req_id, memory_order_relaxed);
        job->response = response;
        job->run = r->head_seq;
        job->outcome = response_log_outcome(&stream->log, response);
        memcpy(job->digest, r->digest, sizeof(job->digest));
        job->id_len = r->id_len;
        job->tenant_len = r->tenant_len;
        memcpy(job->id, r->id, sizeof(job->id));
        memcpy(job->tenant, r->tenant, sizeof(job->tenant));
        code = bytes ? response_log_copy(&stream->log, response, bytes, job->events) : 0;
        if (code)
                worker_fail(w, "stream: an answer in the log is broken", code);
        return job;
}

struct database_job *detached_job(struct worker *w, uint32_t response, uint64_t bytes) {
        struct database_job *job = bytes ? job_of(w, response, bytes) : NULL;

        if (job)
                job->result = true;
        return job;
}

static void settle(struct worker *w, uint32_t response, uint64_t req_id, bool stored) {
        struct stream *stream = w->stage;

        response_log_settle(&stream->log, response, stored, loop_now_ns(w->loop));
        if (log_response_detached(&stream->log.view, response))
                counters_add(w->counters, stored ? COUNTER_results_stored : COUNTER_store_failures,
                                1);
        notices_touch(stream, req_id, response);
}

/* What is kept of its request: once its end is published its gateway has let go of that. */
static void add_request(struct worker *w, uint32_t response, bool turn, struct database_job *job) {
        const struct stream *stream = w->stage;
        const struct log_response *r = &stream->log.shm->responses[response];

        if (log_response_is_letter(&stream->log.view, response))
                job->letter = letters_make(w, response);
        if (!turn)
                return;
        job->turn = turns_make(w, response);
        if (!job->turn)
                turns_lost(w, job->req_id, "there is no copy of the request");
        else
                job->turn->begun = atomic_load_explicit(&r->stored, memory_order_relaxed) > 0;
}

static void store(struct worker *w, uint32_t response) {
        struct stream *stream = w->stage;
        const struct log_response *r = &stream->log.shm->responses[response];
        uint64_t req_id = atomic_load_explicit(&r->req_id, memory_order_relaxed);
        bool detached = log_response_detached(&stream->log.view, response);
        bool held = stream->log.links[response].list == LIST_HELD;
        bool letter = held && log_response_is_letter(&stream->log.view, response);
        bool turn = held && turns_wanted(stream, response,
                                            response_log_outcome(&stream->log, response));
        uint64_t bytes = detached || turn ? response_log_bytes(&stream->log, response) : 0;
        struct database_job *job = bytes || letter ? job_of(w, response, bytes) : NULL;

        if (job) {
                job->result = detached && bytes;
                if (held)
                        add_request(w, response, turn && bytes, job);
                stream->n_stores++;
                database_submit(stream->database, job);
                return;
        }
        /* Its beginning went when the log was full of open answers, or there is no memory. */
        if (turn)
                turns_lost(w, req_id, "its beginning is gone");
        if (detached)
                log_warn("result_not_stored", "req_id=%llu bytes=%llu", (unsigned long long)req_id,
                                (unsigned long long)response_log_bytes(&stream->log, response));
        settle(w, response, req_id, false);
}

int detached_append(struct worker *w, uint32_t response, const struct ring_msg *msg, uint64_t outcome) {
        struct stream *stream = w->stage;
        struct response_log *log = &stream->log;
        int r;

        if (outcome && stream->database && (log_response_detached(&log->view, response) ||
                                                       log_response_is_letter(&log->view, response) ||
                                                       turns_wanted(stream, response, outcome))) {
                r = response_log_hold(log, response, msg->seq, msg->type, msg->data, msg->len, outcome);
                if (r == 0)
                        store(w, response);
                return r;
        }
        r = response_log_append(log, response, msg->seq, msg->type, msg->data, msg->len, outcome,
                        loop_now_ns(w->loop));
        if (r == 0)
                notices_touch(stream, msg->req_id, response);
        return r;
}

static void store_list(struct worker *w, enum response_list which) {
        struct stream *stream = w->stage;
        uint32_t i = stream->log.list[which].first;

        while (i != LOG_NONE) {
                uint32_t next = stream->log.links[i].next;

                /* What is held must hear of it; the beginning of the others may be gone. */
                if (which == LIST_HELD || response_log_bytes(&stream->log, i))
                        store(w, i);
                i = next;
        }
}

void detached_again(struct worker *w) {
        store_list(w, LIST_UNSTORED);
}

void detached_resume(struct worker *w) {
        store_list(w, LIST_HELD);
        store_list(w, LIST_UNSTORED);
}

/* ---- from the database ---- */

static void on_stored(struct worker *w, const struct database_job *job) {
        struct stream *stream = w->stage;
        const struct log_response *r;

        stream->n_stores--;
        if (job->turn && job->turn->lost)
                turns_lost(w, job->req_id, "its beginning is gone");
        else if (job->turn && job->status == DATABASE_DONE)
                counters_add(w->counters, COUNTER_turns_stored, 1);
        if (job->response == LOG_NONE) /* a letter or a turn that was kept */
                return;
        r = &stream->log.shm->responses[job->response];
        /* What was not held may have given its place to another since, and what was open may have begun
         * anew. */
        if (atomic_load_explicit(&r->req_id, memory_order_relaxed) != job->req_id ||
                        log_response_state(&stream->log.view, job->response) == LOG_EVICTED ||
                        r->head_seq != job->run)
                return;
        if (!job->outcome)
                parts_done(w, job);
        else
                settle(w, job->response, job->req_id,
                                job->status == DATABASE_DONE && job->result);
}

static void state_look(struct worker *w) {
        struct stream *stream = w->stage;
        struct database_state *state = &stream->state;
        const char *path = w->settings->stream.database;
        bool failed = state->failed;

        if (!database_state(stream->database, state))
                return;
        if (state->aside)
                log_error("database_broken", "path=%s why=\"%s\" renamed=%s", path, state->why,
                                state->name);
        atomic_store_explicit(&w->log->database_failed, state->failed, memory_order_relaxed);
        stream->log.may_lose = state->failed;
        counters_set(w->counters, COUNTER_database_failed, state->failed);
        if (state->failed && !failed)
                log_error("database_failed", "path=%s why=\"%s\"", path, state->why);
        if (failed && !state->failed) {
                log_info("database_works", "path=%s unstored=%u", path,
                                stream->log.list[LIST_UNSTORED].n);
                store_list(w, LIST_UNSTORED);
                letters_retry(w);
        }
}

unsigned detached_turn(struct worker *w) {
        struct stream *stream = w->stage;
        struct database_job *job;
        unsigned n = 0;

        if (!stream->database)
                return 0;
        state_look(w);
        for (; n < TURN_RECORDS && (job = database_done(stream->database)); n++) {
                if (job->task == DATABASE_LOAD) {
                        lookup_loaded(w, job);
                        continue;
                }
                on_stored(w, job);
                if ((job->letter || job->turn) && job->status != DATABASE_DONE)
                        letters_keep(w, job);
                else
                        database_job_free(job);
        }
        return n;
}

bool detached_idle(const struct stream *stream) {
        return stream->n_stores == 0;
}
