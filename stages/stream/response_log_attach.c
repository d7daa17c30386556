/*
 * The response log between two lives: all that is private is derived from shared words (I6).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/stream/response_parts.h"

/* Walks a response's extents up to its last one; marks them, cuts what was linked and not published. */
static int walk(struct response_log *log, uint32_t i, uint8_t *used) {
        struct log_response *r = entry(log, i);
        uint64_t pending = load(&r->pending), at = load(&r->first);
        const struct log_tail *tail;

        log->links[i].n_extents = 0;
        if (pending == load(&r->end)) /* published, and killed before the mark went */
                atomic_store_explicit(&r->pending, 0, memory_order_relaxed);
        tail = tail_kept(r);
        if (tail_valid(r)->end != load(&r->end) ||
                        (load(&r->pending) && (tail->end != pending || !tail->outcome)) ||
                        load(&r->stored) > tail->end)
                return -EBADMSG;
        if (!tail->end) {
                atomic_store_explicit(&r->first, 0, memory_order_relaxed);
                return 0;
        }
        while (at) {
                struct log_extent *e;
                if (at > log->shm->n_extents || used[at - 1])
                        return -EBADMSG;
                e = &log->extents[at - 1];
                used[at - 1] = 1;
                log->links[i].n_extents++;
                if (at - 1 == tail->extent) {
                        atomic_store_explicit(&e->next, 0, memory_order_relaxed);
                        if ((load(&e->start) & 0xffff) >=
                                        tail->used) /* marked, but never published */
                                atomic_store_explicit(&e->start,
                                                load(&e->start) >> 16 << 16 | LOG_EXTENT_DATA,
                                                memory_order_relaxed);
                        return 0;
                }
                at = load(&e->next);
        }
        return -EBADMSG;
}

static int attach_entry(struct response_log *log, uint32_t i, uint8_t *used, uint32_t *presence) {
        struct log_response *r = entry(log, i);
        int code;

        presence[load(&r->id_hash) & (log->shm->n_presence - 1)]++;
        response_chain_add(log, i, load(&r->req_id));
        if (load(&r->state) == LOG_EVICTED) {
                atomic_store_explicit(&r->first, 0, memory_order_relaxed);
                response_list_push(log, LIST_EVICTED, i);
                return 0;
        }
        if ((load(&r->restart) & LOG_RESTART_MASK) == LOG_RESTART_DROP)
                response_drop_finish(r);
        code = walk(log, i, used);
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

/* Entries in the order in which they ended, so that the lists are in order again. */
static const struct log_shm *sorting;
static int by_finished(const void *a, const void *b) {
        uint64_t x = load(&sorting->responses[*(const uint32_t *)a].finished_ns);
        uint64_t y = load(&sorting->responses[*(const uint32_t *)b].finished_ns);

        return x < y ? -1 : x > y;
}

static int attach_all(
                struct response_log *log, uint8_t *used, uint32_t *presence, uint32_t *order) {
        uint32_t n = 0;
        int code = 0;

        for (uint32_t i = 0; i < log->shm->n_responses; i++) {
                /* What the database was writing back is asked for again. */
                if (log_is_restoring(&log->view, i))
                        atomic_store_explicit(&entry(log, i)->req_id, 0, memory_order_seq_cst);
                if (load(&entry(log, i)->req_id))
                        order[n++] = i;
                else
                        response_list_push(log, LIST_FREE, i);
        }
        response_chains_changing(log);
        for (uint64_t i = 0; i < log->shm->n_chains; i++)
                atomic_store_explicit(log_chain(log->shm, 0) + i, 0,
                                memory_order_release); /* 0: the first */
        sorting = log->shm;
        qsort(order, n, sizeof(*order), by_finished);
        for (uint32_t i = 0; i < n && !code; i++)
                code = attach_entry(log, order[i], used, presence);
        response_chains_changed(log);
        if (code)
                return code;
        /* From the last to the first: the stack then gives them out in order. They are not touched
         * before they are taken: a restart does not read the whole log. */
        for (uint32_t e = log->shm->n_extents; e-- > 0;)
                if (!used[e])
                        log->free_extents[log->n_free_extents++] = e;
        for (uint32_t i = 0; i < log->shm->n_presence; i++)
                if (atomic_load_explicit(log_presence(log->shm, i), memory_order_relaxed) != presence[i])
                        atomic_store_explicit(log_presence(log->shm, i), presence[i],
                                        memory_order_seq_cst);
        return 0;
}

int response_log_attach(struct response_log *log, void *map, uint64_t map_bytes) {
        struct log_view view;
        uint8_t *used;
        uint32_t *presence, *order;
        int code = log_view_init(&view, map, map_bytes);

        if (code)
                return code;
        *log = (struct response_log){.shm = map, .extents = log_extents(map), .view = view};
        for (int i = 0; i < LISTS_N; i++)
                log->list[i].first = log->list[i].last = LOG_NONE;
        log->links = calloc(view.n_responses, sizeof(*log->links));
        log->free_extents = calloc(view.n_extents, sizeof(*log->free_extents));
        used = calloc(view.n_extents, 1);
        presence = calloc(view.n_presence, sizeof(*presence));
        order = calloc(view.n_responses, sizeof(*order));
        code = -ENOMEM;
        if (log->links && log->free_extents && used && presence && order)
                code = attach_all(log, used, presence, order);
        free(used);
        free(presence);
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
