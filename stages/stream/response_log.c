#include "stages/stream/response_log.h"

#include <errno.h>
#include <string.h>

#include "stages/common/stage.h"
#include "stages/stream/response_parts.h"

/* ---- private lists ---- */

void response_list_push(struct response_log *log, enum response_list which, uint32_t i) {
        struct response_link *link = &log->links[i];

        link->list = (uint8_t)which;
        link->next = LOG_NONE;
        link->prev = log->list[which].last;
        if (link->prev == LOG_NONE)
                log->list[which].first = i;
        else
                log->links[link->prev].next = i;
        log->list[which].last = i;
        log->list[which].n++;
}

static void list_remove(struct response_log *log, uint32_t i) {
        struct response_link *link = &log->links[i];
        enum response_list which = (enum response_list)link->list;

        if (link->prev == LOG_NONE)
                log->list[which].first = link->next;
        else
                log->links[link->prev].next = link->next;
        if (link->next == LOG_NONE)
                log->list[which].last = link->prev;
        else
                log->links[link->next].prev = link->prev;
        log->list[which].n--;
}

static void list_move(struct response_log *log, enum response_list to, uint32_t i) {
        list_remove(log, i);
        response_list_push(log, to, i);
}

/* ---- extents ---- */

/* SYNC(log.reuse): even: nobody's; a reader that copied from it finds out by the changed number. */
static void extent_void(struct log_extent *extent) {
        uint64_t gen = load(&extent->gen);

        if (gen & 1)
                atomic_store_explicit(&extent->gen, gen + 1, memory_order_seq_cst);
        layout_seqlock_fence();
}

static void extent_release(struct response_log *log, uint32_t e) {
        extent_void(&log->extents[e]);
        log->free_extents[log->n_free_extents++] = e;
}

static void extent_take(struct response_log *log, uint32_t e, uint64_t req_id, uint64_t pos) {
        struct log_extent *extent = &log->extents[e];

        extent_void(extent); /* whom a dead incarnation left it to */
        atomic_store_explicit(&extent->next, 0, memory_order_relaxed);
        atomic_store_explicit(&extent->start, pos << 16 | LOG_EXTENT_DATA, memory_order_relaxed);
        atomic_store_explicit(&extent->req_id, req_id, memory_order_relaxed);
        /* SYNC(log.reuse): odd again, with its owner in place. */
        atomic_store_explicit(&extent->gen, load(&extent->gen) + 1, memory_order_seq_cst);
}

void response_extents_release(struct response_log *log, uint32_t i) {
        struct log_response *r = entry(log, i);
        uint64_t at = load(&r->first);

        atomic_store_explicit(&r->first, 0, memory_order_release);
        for (uint32_t n = 0; at && n < log->links[i].n_extents; n++) {
                uint64_t next = load(&log->extents[at - 1].next);
                extent_release(log, (uint32_t)at - 1);
                at = next;
        }
        log->links[i].n_extents = 0;
}

/* All bytes of a response that is not open any more. */
static void evict(struct response_log *log, uint32_t i) {
        /* Readers (log_reader.c) see the state before they can miss a byte. */
        atomic_store_explicit(&entry(log, i)->state, LOG_EVICTED, memory_order_seq_cst);
        response_extents_release(log, i);
        list_move(log, LIST_EVICTED, i);
        log->n_evicted++;
}

static bool extent_has_start(const struct response_log *log, uint64_t index_plus_1) {
        return (load(&log->extents[index_plus_1 - 1].start) & 0xffff) < LOG_EXTENT_DATA;
}

void response_cut(struct response_log *log, uint32_t i, uint64_t keep) {
        struct log_response *r = entry(log, i);
        uint64_t first = load(&r->first);

        atomic_store_explicit(&r->first, keep, memory_order_seq_cst);
        while (first != keep) {
                uint64_t next = load(&log->extents[first - 1].next);
                extent_release(log, (uint32_t)first - 1);
                log->links[i].n_extents--;
                first = next;
        }
}

/* The oldest extents of an open response, up to the next one in which an event begins; or else up to its
 * last one, in which the next event will begin. */
static bool evict_head(struct response_log *log, uint32_t i) {
        struct log_response *r = entry(log, i);
        uint64_t first = load(&r->first), keep = first ? load(&log->extents[first - 1].next) : 0;

        while (keep && !extent_has_start(log, keep) && load(&log->extents[keep - 1].next))
                keep = load(&log->extents[keep - 1].next);
        if (!keep)
                return false;
        response_cut(log, i, keep);
        return true;
}

/* A detached response of which the database can never have all. */
static bool is_lost(const struct response_log *log, uint32_t i) {
        return entry(log, i)->flags & LOG_RESPONSE_DETACHED && log->links[i].n_extents &&
               !response_log_bytes(log, i);
}

/* Of which open responses the oldest extents may go: what the database writes back is left alone. */
enum give {
        GIVE_LOST,  /* what it can never have whole */
        GIVE_PLAIN, /* these, and what it is not to have */
        GIVE_ALL,
};

static bool may_cut(const struct response_log *log, uint32_t i, enum give give) {
        uint32_t flags = entry(log, i)->flags;

        return log->links[i].n_extents > 1 && !(flags & LOG_RESPONSE_STORED) &&
               (give == GIVE_ALL || is_lost(log, i) ||
                               (give == GIVE_PLAIN && !(flags & LOG_RESPONSE_DETACHED)));
}

static bool evict_largest_head(struct response_log *log, enum give give) {
        uint32_t largest = LOG_NONE;

        for (uint32_t i = log->list[LIST_OPEN].first; i != LOG_NONE; i = log->links[i].next)
                if (may_cut(log, i, give) &&
                                (largest == LOG_NONE || log->links[i].n_extents >
                                                                log->links[largest].n_extents))
                        largest = i;
        if (largest == LOG_NONE || !evict_head(log, largest))
                return false;
        /* What cannot be stored whole any more goes in large pieces: else whatever ends beside it would have
         * to make room for each of its events. */
        if (entry(log, largest)->flags & LOG_RESPONSE_DETACHED)
                for (uint32_t n = log->links[largest].n_extents / 2; n && evict_head(log, largest); n--)
                        ;
        return true;
}

static bool is_followed(const struct response_log *log, uint32_t i) {
        return log->followed && log->followed(log->followed_ctx, load(&entry(log, i)->req_id));
}

/* The first of a list; of those that no gateway waits for, or of all. */
static uint32_t list_first(const struct response_log *log, enum response_list which, bool all) {
        uint32_t i = log->list[which].first;

        while (i != LOG_NONE && !all && is_followed(log, i))
                i = log->links[i].next;
        return i;
}

/* Of what has ended, and is in the database where it must be, the one that ended first: a kind that goes
 * last would fill the log in time, and leave nothing to whoever still reads an answer of the other. */
static uint32_t oldest_ended(const struct response_log *log, bool all) {
        uint32_t i = list_first(log, LIST_FINISHED, all), stored = list_first(log, LIST_DETACHED, all);

        if (i == LOG_NONE || (stored != LOG_NONE && load(&entry(log, stored)->finished_ns) <
                                                                load(&entry(log, i)->finished_ns)))
                return stored;
        return i;
}

static bool evict_oldest(struct response_log *log, bool all) {
        uint32_t i = oldest_ended(log, all);

        if (i == LOG_NONE)
                return false;
        evict(log, i);
        return true;
}

/* What can never be stored, for its beginning is lost. */
static bool evict_lost(struct response_log *log) {
        uint32_t i = log->list[LIST_UNSTORED].first;

        while (i != LOG_NONE && !is_lost(log, i))
                i = log->links[i].next;
        if (i == LOG_NONE)
                return false;
        evict(log, i);
        return true;
}

/* Finished responses first, but for those whose end a gateway has not seen: before these, an open detached one
 * gives its beginning to the database. Then the oldest extents of the open one that holds most: so a small
 * answer beside large ones is there when its gateway comes to it. What the database does not have goes only
 * while it cannot be written, and not before it has said of all that it was given whether it has it. */
static bool make_room(struct response_log *log, uint32_t n_extents) {
        while (log->n_free_extents < n_extents) {
                if (evict_oldest(log, false) || evict_lost(log))
                        continue;
                if (!log->may_lose && response_log_gives(log))
                        return false;
                if (evict_largest_head(log, GIVE_LOST) || evict_largest_head(log, GIVE_PLAIN) ||
                                evict_oldest(log, true))
                        continue;
                if (!log->may_lose || log->list[LIST_HELD].n)
                        return false;
                if (log->list[LIST_UNSTORED].n)
                        evict(log, log->list[LIST_UNSTORED].first);
                else if (!evict_largest_head(log, GIVE_ALL))
                        return false;
        }
        return true;
}

/* ---- chains: SYNC(log.chains), odd while they change ---- */

void response_chains_changing(struct response_log *log) {
        atomic_store_explicit(&log->shm->chains, load(&log->shm->chains) | 1, memory_order_seq_cst);
}

void response_chains_changed(struct response_log *log) {
        atomic_store_explicit(&log->shm->chains, load(&log->shm->chains) + 1, memory_order_seq_cst);
}

void response_chain_add(struct response_log *log, uint32_t i, uint64_t req_id) {
        _Atomic uint32_t *head = log_chain(log->shm, req_id);

        atomic_store_explicit(&entry(log, i)->chain,
                        atomic_load_explicit(head, memory_order_relaxed), memory_order_release);
        atomic_store_explicit(head, i + 1, memory_order_release);
}

static void chain_remove(struct response_log *log, uint32_t i, uint64_t req_id) {
        _Atomic uint32_t *head = log_chain(log->shm, req_id);
        uint64_t at = atomic_load_explicit(head, memory_order_relaxed),
                 next = load(&entry(log, i)->chain);

        if (at == (uint64_t)i + 1) {
                atomic_store_explicit(head, (uint32_t)next, memory_order_release);
                return;
        }
        while (at && load(&entry(log, (uint32_t)at - 1)->chain) != (uint64_t)i + 1)
                at = load(&entry(log, (uint32_t)at - 1)->chain);
        if (at)
                atomic_store_explicit(
                                &entry(log, (uint32_t)at - 1)->chain, next, memory_order_release);
}

/* ---- responses ---- */

int response_log_find(const struct response_log *log, uint64_t req_id, uint32_t *ret) {
        return log_find(&log->view, req_id, ret) ? RESPONSE_E_NONE : 0;
}

/* An entry to write a new response into: free, else the one that was evicted longest ago, else the one
 * that ended longest ago; what is not stored only while the database cannot be written. */
static uint32_t entry_take(struct response_log *log) {
        uint32_t i = log->list[LIST_FREE].first;

        if (i == LOG_NONE)
                i = list_first(log, LIST_EVICTED, false);
        if (i == LOG_NONE)
                i = oldest_ended(log, false);
        if (i == LOG_NONE && log->may_lose)
                i = list_first(log, LIST_UNSTORED, false);
        if (i != LOG_NONE && log->links[i].list != LIST_FREE && log->links[i].list != LIST_EVICTED)
                evict(log, i);
        return i;
}

/* The old response is forgotten: first its number, then what it counted for. */
static void entry_clear(struct response_log *log, struct log_response *r) {
        uint64_t id_hash = load(&r->id_hash), req_id = load(&r->req_id);

        if (req_id)
                chain_remove(log, (uint32_t)(r - log->shm->responses), req_id);
        atomic_store_explicit(&r->req_id, 0, memory_order_seq_cst);
        layout_seqlock_fence();
        if (req_id)
                atomic_fetch_sub_explicit(log_presence(log->shm, id_hash), 1, memory_order_seq_cst);
}

int response_log_create(struct response_log *log, const struct response_head *head, uint32_t *ret) {
        uint64_t id_hash = log_id_hash(head->tenant, head->tenant_len, head->id, head->id_len);
        struct log_response *r;
        uint32_t i;

        if (head->id_len > LOG_ID_MAX || head->tenant_len > LOG_TENANT_MAX)
                return -EPROTO;
        if (response_log_find(log, head->req_id, &i) == 0) {
                *ret = i;
                return RESPONSE_E_KNOWN;
        }
        i = entry_take(log);
        if (i == LOG_NONE)
                return RESPONSE_E_SPACE;
        r = entry(log, i);
        response_chains_changing(log);
        entry_clear(log, r);
        response_tail_clear(r);
        atomic_store_explicit(&r->first, 0, memory_order_relaxed);
        atomic_store_explicit(&r->outcome, 0, memory_order_relaxed);
        atomic_store_explicit(&r->pending, 0, memory_order_relaxed);
        atomic_store_explicit(&r->restart, 0, memory_order_relaxed);
        atomic_store_explicit(&r->stored, 0, memory_order_relaxed);
        atomic_store_explicit(&r->finished_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&r->created_ns, head->now_ns, memory_order_relaxed);
        atomic_store_explicit(&r->id_hash, id_hash, memory_order_relaxed);
        memcpy(r->digest, head->digest, sizeof(r->digest));
        r->head_seq = head->in_seq;
        r->id_len = (uint16_t)head->id_len;
        r->tenant_len = (uint16_t)head->tenant_len;
        r->flags = (head->detached ? LOG_RESPONSE_DETACHED : 0) |
                   (head->stored ? LOG_RESPONSE_STORED : 0) |
                   (head->session ? LOG_RESPONSE_SESSION : 0);
        memcpy(r->id, head->id, head->id_len);
        memcpy(r->tenant, head->tenant, head->tenant_len);
        atomic_store_explicit(&r->state, LOG_OPEN, memory_order_release);
        /* SYNC(log.presence): counted before it can be found. */
        atomic_fetch_add_explicit(log_presence(log->shm, id_hash), 1, memory_order_seq_cst);
        response_chain_add(log, i, head->req_id);
        response_chains_changed(log);
        /* SYNC(log.create): the number says that all of the above is there. */
        atomic_store_explicit(&r->req_id, head->req_id, memory_order_seq_cst);
        log->links[i].n_extents = 0;
        log->links[i].part = false;
        list_move(log, LIST_OPEN, i);
        *ret = i;
        return 0;
}

/* ---- events ---- */

/* Writes bytes behind `tail`, taking extents as needed; room was made before. */
static void write_bytes(struct response_log *log, uint32_t i, struct log_tail *tail,
                const void *bytes, uint64_t n) {
        struct log_response *r = entry(log, i);
        const uint8_t *from = bytes;

        while (n) {
                uint64_t part;
                if (tail->extent == LOG_NONE || tail->used == LOG_EXTENT_DATA) {
                        uint32_t e = log->free_extents[--log->n_free_extents];
                        extent_take(log, e, load(&r->req_id), tail->end);
                        atomic_store_explicit(tail->extent == LOG_NONE
                                                              ? &r->first
                                                              : &log->extents[tail->extent].next,
                                        (uint64_t)e + 1, memory_order_release);
                        log->links[i].n_extents++;
                        tail->extent = e;
                        tail->used = 0;
                }
                part = LOG_EXTENT_DATA - tail->used;
                if (part > n)
                        part = n;
                memcpy(log->extents[tail->extent].data + tail->used, from, part);
                from += part;
                tail->used += (uint32_t)part;
                tail->end += part;
                n -= part;
        }
}

/* An event begins at the end of `tail` (in the next extent when that one is full). */
static void mark_start(struct response_log *log, uint32_t i, const struct log_tail *before) {
        const struct log_response *r = entry(log, i);
        bool fresh = before->extent == LOG_NONE || before->used == LOG_EXTENT_DATA;
        uint64_t at = !fresh                       ? (uint64_t)before->extent + 1
                      : before->extent == LOG_NONE ? load(&r->first)
                                                   : load(&log->extents[before->extent].next);
        struct log_extent *e = &log->extents[at - 1];
        uint64_t start = load(&e->start);

        if ((start & 0xffff) == LOG_EXTENT_DATA)
                atomic_store_explicit(&e->start, (start & ~0xffffull) | (fresh ? 0 : before->used),
                                memory_order_release);
}

/* The tail that does not count yet: what it says counts with the store of `end`. */
static struct log_tail *tail_next(struct log_response *r) {
        return &r->tail[tail_valid(r) == &r->tail[0] ? 1 : 0];
}

/* Everything between the bytes and the commit, then the commit itself. */
static void publish(struct response_log *log, uint32_t i, uint64_t now_ns) {
        struct log_response *r = entry(log, i);
        const struct log_tail next = *tail_next(r);

        if (next.outcome) {
                atomic_store_explicit(&r->outcome, next.outcome, memory_order_relaxed);
                atomic_store_explicit(&r->finished_ns, now_ns, memory_order_relaxed);
        }
        /* SYNC(log.follow): bytes and tail are there; seq_cst, because who follows is looked up next. */
        atomic_store_explicit(&r->end, next.end, memory_order_seq_cst);
        if (!next.outcome)
                return;
        atomic_store_explicit(&r->pending, 0, memory_order_release);
        atomic_store_explicit(&r->state, LOG_FINISHED, memory_order_seq_cst);
        list_move(log, list_finished(r), i);
}

/* An event as it comes from post. */
struct event {
        uint64_t in_seq, outcome;
        const void *payload;
        uint32_t len;
        uint16_t type;
};

/* Its bytes and the tail behind them; nobody sees them yet. */
static int write_event(struct response_log *log, uint32_t response, const struct event *event) {
        static const uint8_t padding[8];
        struct log_response *r = entry(log, response);
        struct log_tail before = *tail_valid(r), next = before;
        struct log_event_head head = {.len = event->len,
                        .type = event->type,
                        .seq = r->flags & LOG_RESPONSE_STORED ? event->in_seq : before.seq + 1,
                        .in_seq = event->in_seq};
        uint64_t padded = layout_align(event->len, 8), total = sizeof(head) + padded;
        uint32_t used = before.extent == LOG_NONE ? LOG_EXTENT_DATA : before.used;
        uint64_t over = total > LOG_EXTENT_DATA - used ? total - (LOG_EXTENT_DATA - used) : 0;

        if (event->len > LOG_EVENT_MAX)
                return -EPROTO;
        if (load(&r->state) != LOG_OPEN || load(&r->pending) || event->in_seq <= before.in_seq ||
                        event->in_seq <= r->head_seq)
                return RESPONSE_E_KNOWN;
        if (!make_room(log, (uint32_t)((over + LOG_EXTENT_DATA - 1) / LOG_EXTENT_DATA)))
                return RESPONSE_E_SPACE;
        write_bytes(log, response, &next, &head, sizeof(head));
        mark_start(log, response, &before);
        write_bytes(log, response, &next, event->payload, event->len);
        write_bytes(log, response, &next, padding, padded - event->len);
        next.seq = head.seq;
        next.in_seq = event->in_seq;
        next.outcome = event->outcome;
        *tail_next(r) = next;
        FAULT_AT("stream", "log_written");
        return 0;
}

int response_log_append(struct response_log *log, uint32_t response, uint64_t in_seq, uint16_t type,
                const void *payload, uint32_t len, uint64_t outcome, uint64_t now_ns) {
        int r = write_event(log, response, &(struct event){in_seq, outcome, payload, len, type});

        if (r == 0)
                publish(log, response, now_ns);
        return r;
}

/* ---- what the database is to have first ---- */

int response_log_hold(struct response_log *log, uint32_t response, uint64_t in_seq, uint16_t type,
                const void *payload, uint32_t len, uint64_t outcome) {
        struct log_response *r = entry(log, response);
        int code = write_event(log, response, &(struct event){in_seq, outcome, payload, len, type});

        if (code)
                return code;
        /* I2: with this store the event is there for whoever attaches, and for nobody else. */
        atomic_store_explicit(&r->pending, tail_next(r)->end, memory_order_release);
        list_move(log, LIST_HELD, response);
        return 0;
}

void response_log_set_letter(struct response_log *log, uint32_t response,
                const struct response_letter *letter) {
        struct log_response *r = entry(log, response);

        r->flags = (r->flags & (LOG_RESPONSE_DETACHED | LOG_RESPONSE_STORED | LOG_RESPONSE_SESSION)) |
                   LOG_RESPONSE_LETTER |
                   (uint32_t)letter->stage << LOG_LETTER_STAGE_SHIFT |
                   (uint32_t)letter->signal << LOG_LETTER_SIGNAL_SHIFT |
                   (uint32_t)letter->strikes << LOG_LETTER_STRIKES_SHIFT;
        atomic_signal_fence(memory_order_seq_cst);
}

bool response_log_letter(
                const struct response_log *log, uint32_t response, struct response_letter *ret) {
        uint32_t flags = entry(log, response)->flags;

        *ret = (struct response_letter){.stage = (uint8_t)(flags >> LOG_LETTER_STAGE_SHIFT),
                        .signal = (uint8_t)(flags >> LOG_LETTER_SIGNAL_SHIFT),
                        .strikes = (uint8_t)(flags >> LOG_LETTER_STRIKES_SHIFT)};
        return flags & LOG_RESPONSE_LETTER;
}

void response_log_settle(
                struct response_log *log, uint32_t response, bool stored, uint64_t now_ns) {
        struct log_response *r = entry(log, response);

        if (stored)
                r->flags |= LOG_RESPONSE_STORED;
        atomic_signal_fence(memory_order_seq_cst);
        if (load(&r->pending))
                publish(log, response, now_ns);
        else if (stored && log->links[response].list == LIST_UNSTORED)
                list_move(log, LIST_DETACHED, response);
}

uint64_t response_log_outcome(const struct response_log *log, uint32_t response) {
        return tail_kept(entry(log, response))->outcome;
}

void response_log_expire(struct response_log *log, uint64_t before_ns) {
        static const enum response_list lists[] = {LIST_FINISHED, LIST_DETACHED};

        for (int k = 0; k < 2; k++) {
                while (log->list[lists[k]].n) {
                        uint32_t i = log->list[lists[k]].first;
                        if (load(&entry(log, i)->finished_ns) >= before_ns)
                                break;
                        evict(log, i);
                }
        }
}
