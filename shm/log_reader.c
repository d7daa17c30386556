#include "shm/log.h"

#include <errno.h>
#include <string.h>

#define FIND_TRIES 4
#define OPEN_TRIES 3

static bool is_power(uint32_t n) {
        return n && (n & (n - 1)) == 0 && n <= 16 * LOG_RESPONSES_MAX;
}

int log_view_init(struct log_view *view, const void *map, uint64_t map_bytes) {
        const struct log_shm *shm = map;
        struct log_shm head; /* one copy: the sizes are checked and used, and never looked at again */
        uint64_t extents_at, chains_at, presence_at, stored_at, bit;

        if (map_bytes < sizeof(head))
                return -EPROTO;
        memcpy(&head, shm, sizeof(head));
        if (head.magic != MAGIC_LOG || head.layout != layout_hash())
                return -EPROTO;
        if (!head.n_responses || head.n_responses > LOG_RESPONSES_MAX ||
                        head.n_extents > LOG_RESPONSES_MAX || !is_power(head.n_chains) ||
                        !is_power(head.n_presence) || !is_power(head.n_stored))
                return -EPROTO;
        extents_at = (uintptr_t)log_extents(&head) - (uintptr_t)&head;
        if (extents_at + (uint64_t)head.n_extents * LOG_EXTENT > map_bytes)
                return -EPROTO;
        chains_at = (uintptr_t)log_chain(&head, 0) - (uintptr_t)&head;
        presence_at = (uintptr_t)log_presence(&head, 0) - (uintptr_t)&head;
        stored_at = (uintptr_t)log_stored(&head, 0, &bit) - (uintptr_t)&head;
        *view = (struct log_view){.shm = shm,
                        .extents = (const struct log_extent *)((uintptr_t)map + extents_at),
                        .chains = (const _Atomic uint32_t *)((uintptr_t)map + chains_at),
                        .presence = (const _Atomic uint32_t *)((uintptr_t)map + presence_at),
                        .stored = (const mr_au64 *)((uintptr_t)map + stored_at),
                        .n_responses = head.n_responses,
                        .n_extents = head.n_extents,
                        .n_chains = head.n_chains,
                        .n_presence = head.n_presence,
                        .n_stored = head.n_stored};
        return 0;
}

/* ---- finding a response ---- */

static bool is_request(const struct log_view *view, uint32_t response, uint64_t req_id) {
        /* SYNC(log.create): the number is stored after everything else of the entry. */
        return response < view->n_responses &&
               atomic_load_explicit(&view->shm->responses[response].req_id, memory_order_acquire) ==
                               req_id;
}

/* Looks along the request's chain. LOG_E_AGAIN: the chains changed under us, a miss proves nothing. */
static int find_in_chain(const struct log_view *view, uint64_t req_id, uint32_t *ret_response) {
        /* SYNC(log.chains) */
        uint64_t before = atomic_load_explicit(&view->shm->chains, memory_order_acquire);
        uint64_t at = atomic_load_explicit(
                        &view->chains[log_chain_of(req_id, view->n_chains)], memory_order_acquire);

        for (uint32_t n = 0; at && at <= view->n_responses && n < view->n_responses; n++) {
                if (is_request(view, (uint32_t)at - 1, req_id)) {
                        *ret_response = (uint32_t)at - 1;
                        return 0;
                }
                at = atomic_load_explicit(
                                &view->shm->responses[at - 1].chain, memory_order_acquire);
        }
        return !(before & 1) && atomic_load_explicit(&view->shm->chains, memory_order_acquire) ==
                                                               before
                               ? LOG_E_NONE
                               : LOG_E_AGAIN;
}

int log_find(const struct log_view *view, uint64_t req_id, uint32_t *ret_response) {
        int code = req_id ? LOG_E_AGAIN : LOG_E_NONE;

        for (int i = 0; i < FIND_TRIES && code == LOG_E_AGAIN; i++)
                code = find_in_chain(view, req_id, ret_response);
        if (code != LOG_E_AGAIN)
                return code;
        /* The writer died while it changed them, or changes them all the time: look everywhere. */
        for (uint32_t i = 0; i < view->n_responses; i++) {
                if (is_request(view, i, req_id)) {
                        *ret_response = i;
                        return 0;
                }
        }
        return LOG_E_NONE;
}

/* The entry's names are plain bytes: compared, then the number is looked at again (seqlock). */
static bool has_id(const struct log_response *r, const char *tenant, uint32_t tenant_len,
                const char *id, uint32_t id_len) {
        uint64_t before = atomic_load_explicit(&r->req_id, memory_order_acquire);
        bool same;

        if (!before || tenant_len > LOG_TENANT_MAX || id_len > LOG_ID_MAX)
                return false;
        same = r->id_len == id_len && r->tenant_len == tenant_len && !memcmp(r->id, id, id_len) &&
               !memcmp(r->tenant, tenant, tenant_len);
        layout_seqlock_fence();
        return same && atomic_load_explicit(&r->req_id, memory_order_relaxed) == before;
}

int log_find_id(const struct log_view *view, const char *tenant, uint32_t tenant_len,
                const char *id, uint32_t id_len, uint32_t *ret_response) {
        uint64_t hash = log_id_hash(tenant, tenant_len, id, id_len), newest = 0;
        uint32_t found = LOG_NONE;

        /* SYNC(log.presence): most ids are new, and this one word says so. */
        if (!atomic_load_explicit(
                            &view->presence[hash & (view->n_presence - 1)], memory_order_seq_cst))
                return LOG_E_NONE;
        for (uint32_t i = 0; i < view->n_responses; i++) {
                const struct log_response *r = &view->shm->responses[i];
                uint64_t created;
                if (atomic_load_explicit(&r->id_hash, memory_order_relaxed) != hash ||
                                !has_id(r, tenant, tenant_len, id, id_len))
                        continue;
                created = atomic_load_explicit(&r->created_ns, memory_order_relaxed);
                if (found == LOG_NONE || created >= newest) {
                        found = i;
                        newest = created;
                }
        }
        if (found == LOG_NONE)
                return LOG_E_NONE;
        *ret_response = found;
        return 0;
}

enum log_state log_response_state(const struct log_view *view, uint32_t response) {
        uint64_t state;

        if (response >= view->n_responses)
                return LOG_FREE;
        state = atomic_load_explicit(&view->shm->responses[response].state, memory_order_acquire);
        return state <= LOG_EVICTED ? (enum log_state)state : LOG_FREE;
}

uint64_t log_response_outcome(const struct log_view *view, uint32_t response) {
        if (response >= view->n_responses)
                return 0;
        return atomic_load_explicit(&view->shm->responses[response].outcome, memory_order_acquire);
}

bool log_response_is_letter(const struct log_view *view, uint32_t response) {
        return response < view->n_responses &&
               view->shm->responses[response].flags & LOG_RESPONSE_LETTER;
}

bool log_response_in_session(const struct log_view *view, uint32_t response) {
        return response < view->n_responses &&
               view->shm->responses[response].flags & LOG_RESPONSE_SESSION;
}

bool log_response_detached(const struct log_view *view, uint32_t response) {
        return response < view->n_responses &&
               (view->shm->responses[response].flags & LOG_RESPONSE_DETACHED);
}

void log_response_digest(const struct log_view *view, uint32_t response, uint64_t ret[2]) {
        ret[0] = ret[1] = 0;
        if (response < view->n_responses)
                memcpy(ret, view->shm->responses[response].digest, 2 * sizeof(uint64_t));
}

bool log_is_restoring(const struct log_view *view, uint32_t response) {
        return log_response_state(view, response) == LOG_OPEN &&
               (view->shm->responses[response].flags & LOG_RESPONSE_STORED);
}

bool log_has_beginning(const struct log_view *view, uint32_t response) {
        uint64_t first = 0;

        if (response < view->n_responses)
                first = atomic_load_explicit(
                                &view->shm->responses[response].first, memory_order_acquire);
        return first && first <= view->n_extents &&
               atomic_load_explicit(&view->extents[first - 1].start, memory_order_acquire) >> 16 == 0;
}

static uint64_t restart_of(const struct log_view *view, uint32_t response) {
        if (response >= view->n_responses)
                return 0;
        /* SYNC(log.restart): seq_cst, after the reader's mark -> response_log_restart(). */
        return atomic_load_explicit(&view->shm->responses[response].restart, memory_order_seq_cst) &
               LOG_RESTART_MASK;
}

bool log_is_restarting(const struct log_view *view, uint32_t response) {
        uint64_t restart = restart_of(view, response);

        return restart == LOG_RESTART_ASKED || restart == LOG_RESTART_DROP;
}

bool log_was_lost(const struct log_view *view, uint32_t response) {
        return restart_of(view, response) == LOG_RESTART_LOST;
}

/* ---- what the database has ---- */

bool log_may_be_stored(const struct log_view *view, uint64_t id_hash) {
        uint64_t at = id_hash >> 32;

        /* SYNC(log.stored): an id is in the table before the transaction that stores it. */
        return !atomic_load_explicit(&view->shm->stored_known, memory_order_seq_cst) ||
               atomic_load_explicit(&view->stored[at >> 6 & (view->n_stored - 1)],
                               memory_order_seq_cst) >> (at & 63) & 1;
}

bool log_database_failed(const struct log_view *view) {
        return atomic_load_explicit(&view->shm->database_failed, memory_order_relaxed) != 0;
}

/* ---- reading events ---- */

/* The response's bytes published so far; 0 with LOG_E_GONE when it is not that request's any more. */
static int published(const struct log_view *view, const struct log_cursor *cursor, uint64_t *ret) {
        const struct log_response *r = &view->shm->responses[cursor->response];

        /* SYNC(log.follow): seq_cst against the gateway's own table of followed responses. */
        *ret = atomic_load_explicit(&r->end, memory_order_seq_cst);
        if (!is_request(view, cursor->response, cursor->req_id) ||
                        log_response_state(view, cursor->response) == LOG_EVICTED)
                return LOG_E_GONE;
        return 0;
}

/* Puts the cursor at data[0] of an extent, if that extent is the request's. */
static int enter(const struct log_view *view, struct log_cursor *cursor, uint64_t index_plus_1) {
        const struct log_extent *e;
        uint64_t gen;

        if (!index_plus_1 || index_plus_1 > view->n_extents)
                return LOG_E_GONE;
        e = &view->extents[index_plus_1 - 1];
        /* SYNC(log.reuse): odd and the owner's: the bytes are this response's until gen moves. */
        gen = atomic_load_explicit(&e->gen, memory_order_acquire);
        if (!(gen & 1) || atomic_load_explicit(&e->req_id, memory_order_acquire) != cursor->req_id)
                return LOG_E_GONE;
        cursor->extent = (uint32_t)index_plus_1 - 1;
        cursor->gen = gen;
        cursor->extent_at = 0;
        return 0;
}

static int next_extent(const struct log_view *view, struct log_cursor *cursor) {
        const struct log_extent *e = &view->extents[cursor->extent];
        uint64_t next = atomic_load_explicit(&e->next, memory_order_acquire);
        int code;

        if (atomic_load_explicit(&e->gen, memory_order_acquire) != cursor->gen)
                return LOG_E_GONE;
        code = enter(view, cursor, next);
        if (code)
                return code;
        /* Both extents may have been evicted meanwhile and the second one taken again, by this response and
         * for later bytes. Its place is set before its generation, so a later change shows in copy(). */
        e = &view->extents[cursor->extent];
        return atomic_load_explicit(&e->start, memory_order_acquire) >> 16 == cursor->at
                               ? 0
                               : LOG_E_GONE;
}

/* The first event that is kept. The extents themselves say where they stand in the stream, and whether an
 * event begins in them. */
static int enter_first(const struct log_view *view, struct log_cursor *cursor) {
        const struct log_response *r = &view->shm->responses[cursor->response];
        int code = enter(view, cursor, atomic_load_explicit(&r->first, memory_order_acquire));

        while (!code) {
                const struct log_extent *e = &view->extents[cursor->extent];
                uint64_t start = atomic_load_explicit(&e->start, memory_order_acquire);
                uint64_t offset = start & 0xffff;
                if (atomic_load_explicit(&e->gen, memory_order_acquire) != cursor->gen)
                        return LOG_E_GONE;
                cursor->extent_at = (uint32_t)(offset < LOG_EXTENT_DATA ? offset : LOG_EXTENT_DATA);
                cursor->at = (start >> 16) + cursor->extent_at;
                if (offset < LOG_EXTENT_DATA)
                        return 0;
                code = next_extent(view, cursor);
        }
        return code;
}

/* Copies n bytes (to NULL: passes over them); each extent's generation is checked after its copy. */
static int copy(const struct log_view *view, struct log_cursor *cursor, uint8_t *to, uint64_t n) {
        while (n) {
                const struct log_extent *e;
                uint64_t part;
                if (cursor->extent_at >= LOG_EXTENT_DATA) {
                        int code = next_extent(view, cursor);
                        if (code)
                                return code;
                }
                e = &view->extents[cursor->extent];
                part = LOG_EXTENT_DATA - cursor->extent_at;
                if (part > n)
                        part = n;
                if (to) {
                        memcpy(to, e->data + cursor->extent_at, part);
                        to += part;
                }
                layout_seqlock_fence();
                /* SYNC(log.reuse) */
                if (atomic_load_explicit(&e->gen, memory_order_relaxed) != cursor->gen)
                        return LOG_E_GONE;
                cursor->extent_at += (uint32_t)part;
                cursor->at += part;
                n -= part;
        }
        return 0;
}

static uint64_t padded(uint32_t len) {
        return layout_align(len, 8);
}

/* The head of the event at the cursor (a copy moves). What the log says is bounded before it is used. */
static int peek_head(const struct log_view *view, struct log_cursor *cursor, uint64_t end,
                struct log_event_head *ret) {
        int code = copy(view, cursor, (uint8_t *)ret, sizeof(*ret));

        if (code)
                return code;
        if (ret->len > LOG_EVENT_MAX || cursor->at > end || padded(ret->len) > end - cursor->at)
                return LOG_E_GONE;
        return 0;
}

/* Passes over the event at the cursor. */
static int skip(const struct log_view *view, struct log_cursor *cursor, uint64_t end,
                struct log_event_head *ret) {
        int code = peek_head(view, cursor, end, ret);

        if (!code)
                code = copy(view, cursor, NULL, padded(ret->len));
        if (!code)
                cursor->seq = ret->seq;
        return code;
}

/* Walks from the first event that is kept to the one behind `after`, or to the end. */
static int walk(const struct log_view *view, struct log_cursor *cursor, uint64_t after,
                uint64_t end) {
        uint64_t most = (uint64_t)view->n_extents * LOG_EXTENT_DATA, from;
        struct log_event_head head;
        int code = enter_first(view, cursor);

        from = cursor->at;
        while (!code && cursor->at < end) {
                struct log_cursor next = *cursor;
                code = cursor->at - from > most
                                       ? LOG_E_GONE /* a chain that no honest writer makes */
                                       : skip(view, &next, end, &head);
                if (code)
                        break;
                if (cursor->at == from && from > 0 && head.seq - 1 > after)
                        return LOG_E_GONE; /* what was asked for is evicted */
                if (head.seq > after)
                        break;
                *cursor = next;
        }
        return code;
}

/* The extent that the cursor stood in is gone. A reader that had read all of it has missed nothing. */
static int reenter(const struct log_view *view, struct log_cursor *cursor, uint64_t end) {
        struct log_cursor again = {
                        .req_id = cursor->req_id, .response = cursor->response, .extent = LOG_NONE};
        int code = walk(view, &again, cursor->seq, end);

        if (code || again.at != cursor->at)
                return LOG_E_GONE;
        again.seq = cursor->seq;
        *cursor = again;
        return 0;
}

int log_open(const struct log_view *view, uint64_t req_id, uint32_t response, uint64_t after,
                struct log_cursor *ret) {
        struct log_cursor cursor;
        uint64_t end;
        int code = LOG_E_GONE;

        if (response >= view->n_responses)
                return LOG_E_NONE;
        /* The oldest extents may be evicted just while they are looked at. */
        for (int i = 0; i < OPEN_TRIES && code == LOG_E_GONE; i++) {
                cursor = (struct log_cursor){
                                .req_id = req_id, .response = response, .extent = LOG_NONE};
                code = published(view, &cursor, &end);
                if (code)
                        return code;
                if (end) /* nothing yet: starts at the first event, skips on the way */
                        code = walk(view, &cursor, after, end);
        }
        if (!code)
                *ret = cursor;
        return code;
}

int log_next(const struct log_view *view, struct log_cursor *cursor, struct log_event_head *ret,
                uint8_t *buf, uint32_t cap) {
        struct log_cursor next = *cursor, start;
        struct log_event_head head;
        uint64_t end;
        int code = published(view, cursor, &end);

        if (code)
                return code;
        if (next.at >= end)
                return LOG_E_AGAIN;
        if (next.extent == LOG_NONE) {
                code = enter_first(view, &next);
                if (!code && next.at != cursor->at)
                        code = LOG_E_GONE;
                if (code)
                        return code;
        }
        start = next;
        code = peek_head(view, &next, end, &head);
        if (code) {
                next = start;
                code = reenter(view, &next, end);
                if (!code)
                        code = peek_head(view, &next, end, &head);
        }
        if (code)
                return code;
        if (head.len > cap) {
                *ret = head;
                return LOG_E_SPACE;
        }
        code = copy(view, &next, buf, head.len);
        if (!code)
                code = copy(view, &next, NULL, padded(head.len) - head.len);
        if (code)
                return code;
        next.seq = head.seq;
        *cursor = next;
        *ret = head;
        return 0;
}

bool log_has_more(const struct log_view *view, const struct log_cursor *cursor) {
        if (cursor->response >= view->n_responses)
                return false;
        /* SYNC(log.follow) */
        return atomic_load_explicit(&view->shm->responses[cursor->response].end,
                               memory_order_seq_cst) > cursor->at;
}
