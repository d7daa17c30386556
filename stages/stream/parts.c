#include "stages/stream/parts.h"

#include "stages/stream/detached.h"

/* False: there is no part, or no memory for it. */
static bool hand_over(struct worker *w, uint32_t response, uint64_t bytes) {
        struct stream *stream = w->stage;
        struct database_job *job = detached_job(w, response, bytes);

        if (!job)
                return false;
        response_log_part_begin(&stream->log, response);
        counters_add(w->counters, COUNTER_result_parts, 1);
        stream->n_stores++;
        database_submit(stream->database, job);
        return true;
}

bool parts_make_room(struct worker *w) {
        struct stream *stream = w->stage;
        uint32_t response;
        uint64_t bytes;

        if (stream->n_stores)
                return true;
        if (!stream->database)
                return false;
        bytes = response_log_part(&stream->log, &response);
        if (bytes) {
                (void)hand_over(w, response, bytes); /* no memory for a copy: the timer looks again */
                return true;
        }
        if (stream->log.list[LIST_UNSTORED].n) {
                detached_again(w); /* what could not be copied when it ended */
                return true;
        }
        return response_log_restoring(&stream->log);
}

void parts_done(struct worker *w, const struct database_job *job) {
        struct stream *stream = w->stage;

        response_log_part_done(&stream->log, job->response, job->events_bytes,
                        job->status == DATABASE_DONE);
}
