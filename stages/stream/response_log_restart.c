/*
 * The response log of a request that runs anew: asked, decided, dropped. The question is published before
 * anybody looks for readers, the answer is stored before anything goes (log.h).
 */
#include "stages/stream/response_parts.h"

int response_log_restart(
                struct response_log *log, uint32_t response, uint64_t in_seq, uint64_t *ret) {
        struct log_response *r = entry(log, response);

        if (load(&r->state) != LOG_OPEN || load(&r->pending) || in_seq <= tail_valid(r)->in_seq ||
                        in_seq <= r->head_seq)
                return RESPONSE_E_KNOWN;
        if (load(&r->restart) >> LOG_RESTART_SHIFT != in_seq)
                /* SYNC(log.restart): seq_cst, before the marks are looked at -> log_is_restarting(). */
                atomic_store_explicit(&r->restart, in_seq << LOG_RESTART_SHIFT | LOG_RESTART_ASKED,
                                memory_order_seq_cst);
        *ret = load(&r->restart) & LOG_RESTART_MASK;
        return 0;
}

void response_log_decide(struct response_log *log, uint32_t response, uint64_t decision) {
        struct log_response *r = entry(log, response);
        uint64_t asked = load(&r->restart) & ~(uint64_t)LOG_RESTART_MASK;

        /* I2: a replay repeats this. Seq_cst, for who waits may go on when somebody reads it. */
        atomic_store_explicit(&r->restart, asked | decision, memory_order_seq_cst);
}

void response_log_drop(struct response_log *log, uint32_t response) {
        log->links[response].part = false; /* what is under way is of the run before */
        response_extents_release(log, response);
        response_drop_finish(entry(log, response));
}

void response_drop_finish(struct log_response *r) {
        uint64_t in_seq = load(&r->restart) >> LOG_RESTART_SHIFT;

        atomic_signal_fence(memory_order_seq_cst); /* not before the decision */
        atomic_store_explicit(&r->first, 0, memory_order_relaxed);
        atomic_store_explicit(&r->stored, 0, memory_order_relaxed);
        response_tail_clear(r);
        r->head_seq = in_seq; /* as if this input had created it */
        /* SYNC(log.restart): it is empty before anybody may look. */
        atomic_store_explicit(&r->restart, 0, memory_order_seq_cst);
}
