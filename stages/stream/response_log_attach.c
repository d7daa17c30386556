/*
 * The response log between two lives: all that is private is derived from shared words (I6).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/stream/response_parts.h"

/* What a head says of itself, before anything that it names is looked at. */
static bool is_head(const struct log_response *r, const struct log_tail *tail) {
        uint64_t pending = load(&r->pending);

        if (tail_valid(r)->end != load(&r->end) ||
                        (pending && (tail->end != pending || !tail->outcome)) ||
                        load(&r->stored) > tail->end || r->id_len > LOG_ID_MAX ||
                        r->tenant_len > LOG_TENANT_MAX)
                return false;
        if (!tail->end)
                return tail->extent == LOG_NONE && !tail->used;
        return tail->used && tail->used <= LOG_EXTENT_DATA && tail->used <= tail->end;
}

/* It has ended, in one extent, and the database is not to have it any more: its head says all of it. The
 * extent is not touched, for a restart does not read the whole log; who reads it (log_reader.c) believes
 * nothing that lies there. */
static bool says_all(const struct log_response *r, const struct log_tail *tail) {
        return tail->outcome && !load(&r->pending) && load(&r->first) == (uint64_t)tail->extent + 1 &&
               list_finished(r) != LIST_UNSTORED;
}

/* Of the last extent, what was linked or marked and never published. Elsewhere nothing is written: to read a
 * page brings its neighbours, to write one is a fault of its own. */
static void cut_behind(struct log_extent *e, const struct log_tail *tail) {
        uint64_t start = load(&e->start);

        if (load(&e->next))
                atomic_store_explicit(&e->next, 0, memory_order_relaxed);
        if ((start & 0xffff) >= tail->used && (start & 0xffff) != LOG_EXTENT_DATA)
                atomic_store_explicit(&e->start, start >> 16 << 16 | LOG_EXTENT_DATA,
                                memory_order_relaxed);
}

/* Walks a response's extents up to its last one, and marks them. */
static int walk(struct response_log *log, uint32_t i, uint8_t *used) {
        const struct log_response *r = entry(log, i);
        const struct log_tail *tail = tail_kept(r);
        uint64_t at = load(&r->first), pos = 0;

        while (at && at <= log->shm->n_extents && !used[at - 1]) {
                struct log_extent *e = &log->extents[at - 1];
                bool last = at - 1 == tail->extent;

                used[at - 1] = 1;
                if (log->links[i].n_extents++ == 0 && says_all(r, tail))
                        return 0;
                if (log->links[i].n_extents > 1 && load(&e->start) >> 16 != pos)
                        return -EBADMSG;
                pos = (load(&e->start) >> 16) + LOG_EXTENT_DATA;
                if (last && pos - LOG_EXTENT_DATA + tail->used != tail->end)
                        return -EBADMSG;
                if (last) {
                        cut_behind(e, tail);
                        return 0;
                }
                at = load(&e->next);
        }
        return -EBADMSG;
}

/* What lies in its extents: counted, and as far as a kill may have left it half done, finished. */
static int attach_extents(struct response_log *log, uint32_t i, uint8_t *used) {
        struct log_response *r = entry(log, i);
        const struct log_tail *tail;
        int code;

        log->links[i].n_extents = 0;
        if (load(&r->pending) == load(&r->end)) /* published, and killed before the mark went */
                atomic_store_explicit(&r->pending, 0, memory_order_relaxed);
        tail = tail_kept(r);
        if (!is_head(r, tail))
                return -EBADMSG;
        if (!tail->end) {
                atomic_store_explicit(&r->first, 0, memory_order_relaxed);
                return 0;
        }
        code = walk(log, i, used);
        if (code == 0 && !tail->outcome && load(&r->stored))
                response_cut_stored(log, i);
        return code;
}

static int attach_entry(struct response_log *log, uint32_t i, uint8_t *used) {
        struct log_response *r = entry(log, i);
        int code;

        response_chain_add(log, i, load(&r->req_id));
        if (load(&r->state) == LOG_EVICTED) {
                atomic_store_explicit(&r->first, 0, memory_order_relaxed);
                response_list_push(log, LIST_EVICTED, i);
                return 0;
        }
        if ((load(&r->restart) & LOG_RESTART_MASK) == LOG_RESTART_DROP)
                response_drop_finish(r);
        code = attach_extents(log, i, used);
        if (code)
                return code;
        if (tail_valid(r)->outcome) {
                atomic_store_explicit(&r->state, LOG_FINISHED, memory_order_release);
                response_list_push(log, list_finished(r), i);
        } else {
                response_list_push(log, load(&r->pending) ? LIST_HELD : LIST_OPEN, i);
        }
        return 0;
}

/* ---- the order in which they ended, so that the lists are in order again ---- */

#define STEPS_EACH 8u /* beyond so many on average they are in no order at all */

static uint64_t finished_ns(const struct response_log *log, uint32_t i) {
        return load(&entry(log, i)->finished_ns);
}

static const struct response_log *sorting;
static int by_finished(const void *a, const void *b) {
        uint64_t x = finished_ns(sorting, *(const uint32_t *)a);
        uint64_t y = finished_ns(sorting, *(const uint32_t *)b);

        return x < y ? -1 : x > y;
}

/* Entries are taken in turn, so they come here nearly as they ended. */
static void sort(const struct response_log *log, uint32_t *order, uint32_t n) {
        uint64_t steps = (uint64_t)STEPS_EACH * n;

        for (uint32_t k = 1; k < n && steps; k++) {
                uint32_t i = order[k], at = k;

                for (; at && steps && finished_ns(log, order[at - 1]) > finished_ns(log, i); at--, steps--)
                        order[at] = order[at - 1];
                order[at] = i;
        }
        if (steps)
                return;
        sorting = log;
        qsort(order, n, sizeof(*order), by_finished);
}

/* The one that ended first. */
static uint32_t first_ended(const struct response_log *log) {
        uint64_t first_ns = UINT64_MAX;
        uint32_t first = 0;

        for (uint32_t i = 0; i < log->shm->n_responses; i++) {
                uint64_t ns = finished_ns(log, i);

                if (ns && ns < first_ns && load(&entry(log, i)->req_id)) {
                        first_ns = ns;
                        first = i;
                }
        }
        return first;
}

static int attach_entries(struct response_log *log, uint8_t *used, uint32_t *order) {
        uint32_t n_responses = log->shm->n_responses, i = first_ended(log), n = 0;
        int code = 0;

        for (uint32_t k = 0; k < n_responses && !code; k++, i = i + 1 < n_responses ? i + 1 : 0) {
                /* What the database was writing back is asked for again. */
                if (log_is_restoring(&log->view, i))
                        atomic_store_explicit(&entry(log, i)->req_id, 0, memory_order_seq_cst);
                if (!load(&entry(log, i)->req_id))
                        response_list_push(log, LIST_FREE, i);
                else if (finished_ns(log, i))
                        order[n++] = i;
                else
                        code = attach_entry(log, i, used);
        }
        sort(log, order, n);
        for (uint32_t k = 0; k < n && !code; k++)
                code = attach_entry(log, order[k], used);
        return code;
}

/* ---- presence by id ---- */

static int presence_count(struct response_log *log) {
        uint32_t n_presence = log->shm->n_presence, *presence = calloc(n_presence, sizeof(*presence));

        if (!presence)
                return -ENOMEM;
        for (uint32_t i = 0; i < log->shm->n_responses; i++)
                if (load(&entry(log, i)->req_id))
                        presence[load(&entry(log, i)->id_hash) & (n_presence - 1)]++;
        for (uint32_t k = 0; k < n_presence; k++)
                if (atomic_load_explicit(log_presence(log->shm, k), memory_order_relaxed) != presence[k])
                        atomic_store_explicit(log_presence(log->shm, k), presence[k],
                                        memory_order_seq_cst);
        free(presence);
        return 0;
}

/* None is ever lower than the truth (SYNC(log.presence)): when they are right together, each of them is. */
static int presence_attach(struct response_log *log) {
        const _Atomic uint32_t *presence = log->view.presence;
        uint64_t sum = 0;

        for (uint32_t k = 0; k < log->view.n_presence; k++)
                sum += atomic_load_explicit(&presence[k], memory_order_relaxed);
        return sum == log->shm->n_responses - log->list[LIST_FREE].n ? 0 : presence_count(log);
}

/* ---- all of it ---- */

static int attach_all(struct response_log *log, uint8_t *used, uint32_t *order) {
        _Atomic uint32_t *chains = log_chain(log->shm, 0); /* 0: the first */
        int code;

        response_chains_changing(log);
        for (uint32_t k = 0; k < log->view.n_chains; k++)
                if (atomic_load_explicit(&chains[k], memory_order_relaxed))
                        atomic_store_explicit(&chains[k], 0, memory_order_release);
        code = attach_entries(log, used, order);
        response_chains_changed(log);
        if (code)
                return code;
        /* From the last to the first: the stack then gives them out in order. They are not touched
         * before they are taken: a restart does not read the whole log. */
        for (uint32_t e = log->shm->n_extents; e-- > 0;)
                if (!used[e])
                        log->free_extents[log->n_free_extents++] = e;
        return presence_attach(log);
}

int response_log_attach(struct response_log *log, void *map, uint64_t map_bytes) {
        struct log_view view;
        uint8_t *used;
        uint32_t *order;
        int code = log_view_init(&view, map, map_bytes);

        if (code)
                return code;
        *log = (struct response_log){.shm = map, .extents = log_extents(map), .view = view};
        for (int i = 0; i < LISTS_N; i++)
                log->list[i].first = log->list[i].last = LOG_NONE;
        log->links = calloc(view.n_responses, sizeof(*log->links));
        log->free_extents = calloc(view.n_extents, sizeof(*log->free_extents));
        used = calloc(view.n_extents, 1);
        order = calloc(view.n_responses, sizeof(*order));
        code = -ENOMEM;
        if (log->links && log->free_extents && used && order)
                code = attach_all(log, used, order);
        free(used);
        free(order);
        if (code)
                response_log_close(log);
        return code;
}

void response_log_close(struct response_log *log) {
        free(log->links);
        free(log->free_extents);
        log->links = NULL;
        log->free_extents = NULL;
}
