/*
 * response_parts -- what the files of the response log share; nobody else includes it.
 *
 * Shape   an entry's words as their only writer sees them; the lists and chains that entries are in
 * Owner   struct response_log
 * Errors  none
 */
#pragma once

#include "stages/stream/response_log.h"

static inline struct log_response *entry(const struct response_log *log, uint32_t i) {
        return &log->shm->responses[i];
}

static inline uint64_t load(const mr_au64 *word) {
        return atomic_load_explicit(word, memory_order_relaxed); /* our own words */
}

static inline const struct log_tail *tail_valid(const struct log_response *r) {
        return &r->tail[r->tail[0].end == load(&r->end) ? 0 : 1];
}

/* The same, of all that is kept: what is held back lies behind the published end. */
static inline const struct log_tail *tail_kept(const struct log_response *r) {
        const struct log_tail *valid = tail_valid(r);

        if (!load(&r->pending))
                return valid;
        return valid == &r->tail[0] ? &r->tail[1] : &r->tail[0];
}

/* Where a response goes whose last event is published. */
static inline enum response_list list_finished(const struct log_response *r) {
        if (!(r->flags & LOG_RESPONSE_DETACHED))
                return LIST_FINISHED;
        return r->flags & LOG_RESPONSE_STORED ? LIST_DETACHED : LIST_UNSTORED;
}

/* Nothing of it is logged. */
static inline void response_tail_clear(struct log_response *r) {
        r->tail[0] = r->tail[1] = (struct log_tail){.extent = LOG_NONE};
        atomic_store_explicit(&r->end, 0, memory_order_relaxed);
}

/* Gives back the extents before this one (index + 1). */
void response_cut(struct response_log *log, uint32_t i, uint64_t keep);
/* Gives back those of an open one that the database has. */
void response_cut_stored(struct response_log *log, uint32_t i);
/* Gives all of its extents back. */
void response_extents_release(struct response_log *log, uint32_t i);
/* The last steps of a drop; each may be repeated. Its extents are given back. */
void response_drop_finish(struct log_response *r);
void response_list_push(struct response_log *log, enum response_list which, uint32_t i);
/* SYNC(log.chains), odd while they change. */
void response_chains_changing(struct response_log *log);
void response_chains_changed(struct response_log *log);
void response_chain_add(struct response_log *log, uint32_t i, uint64_t req_id);
