#include "stages/stream/restart.h"

#include "stages/stream/detached.h"
#include "stages/stream/notices.h"

/* SYNC(log.restart): asked after the response says that it restarts. The marks stay until a response has
 * ended, also over the death of the gateway that set them. */
static bool is_read(const struct worker *w, uint64_t req_id) {
        uint64_t flags;

        for (uint32_t g = 0; g < w->topology->n_gateway_slots; g++)
                if (w->admissions[g].shm && follow_get(&w->admissions[g], req_id, &flags) == 0 &&
                                flags & FOLLOW_READ)
                        return true;
        return false;
}

static int drop(struct worker *w, uint32_t response, const struct ring_msg *msg) {
        struct stream *stream = w->stage;

        response_log_drop(&stream->log, response);
        counters_add(w->counters, COUNTER_restart_reruns, 1);
        notices_touch(stream, msg->req_id, response); /* who came meanwhile may look now */
        return 0;
}

/* The record says which error it ends in. */
static int lose(struct worker *w, uint32_t response, const struct ring_msg *msg) {
        struct ring_msg error = *msg;
        int r;

        error.type = RECORD_ERROR;
        r = detached_append(w, response, &error, LOG_OUTCOME_RETRYABLE);
        if (r == 0)
                counters_add(w->counters, COUNTER_restart_lost, 1);
        return r;
}

int restart_take(struct worker *w, uint32_t response, const struct ring_msg *msg) {
        struct stream *stream = w->stage;
        uint64_t decision;
        int r = response_log_restart(&stream->log, response, msg->seq, &decision);

        if (r)
                return r;
        if (decision == LOG_RESTART_ASKED) {
                decision = is_read(w, msg->req_id) ? LOG_RESTART_LOST : LOG_RESTART_DROP;
                response_log_decide(&stream->log, response, decision);
        }
        return decision == LOG_RESTART_LOST ? lose(w, response, msg) : drop(w, response, msg);
}
