/*
 * What goes from the response log to the database: a whole response at its end, or before that, when the log
 * needs the room, the oldest events of an open one.
 */
#include <errno.h>
#include <string.h>

#include "stages/stream/response_parts.h"

static uint64_t start_of(const struct response_log *log, uint64_t index_plus_1) {
        return load(&log->extents[index_plus_1 - 1].start) >> 16;
}

uint64_t response_log_bytes(const struct response_log *log, uint32_t response) {
        const struct log_response *r = entry(log, response);
        uint64_t first = load(&r->first), stored = load(&r->stored);

        if (!first || start_of(log, first) > stored)
                return 0;
        return tail_kept(r)->end - stored;
}

/* Whole events, one after the other, and nothing else. */
static bool are_events(const uint8_t *bytes, uint64_t n) {
        struct log_event_head head;

        for (uint64_t at = 0; at < n; at += sizeof(head) + layout_align(head.len, 8)) {
                if (n - at < sizeof(head))
                        return false;
                memcpy(&head, bytes + at, sizeof(head));
                if (head.len > LOG_EVENT_MAX || layout_align(head.len, 8) > n - at - sizeof(head))
                        return false;
        }
        return true;
}

int response_log_copy(const struct response_log *log, uint32_t response, uint64_t n, uint8_t *ret) {
        const struct log_response *r = entry(log, response);
        uint64_t at = load(&r->first), pos = load(&r->stored), n_copied = 0;

        while (n_copied < n) {
                const struct log_extent *e = &log->extents[at - 1];
                uint64_t offset = pos - start_of(log, at), part;

                at = load(&e->next);
                if (offset >= LOG_EXTENT_DATA)
                        continue; /* stored, and not given back */
                part = LOG_EXTENT_DATA - offset < n - n_copied ? LOG_EXTENT_DATA - offset : n - n_copied;
                memcpy(ret + n_copied, e->data + offset, part);
                pos += part;
                n_copied += part;
        }
        return are_events(ret, n) ? 0 : -EBADMSG;
}

/* About half of its extents, up to where an event begins in a later one; else all events, up to its last
 * extent, in which the next one will begin. */
static uint64_t half_of(const struct response_log *log, uint32_t i) {
        const struct log_response *r = entry(log, i);
        uint64_t at = load(&log->extents[load(&r->first) - 1].next), end = 0;

        for (uint32_t n = 1; at && (!end || n < log->links[i].n_extents / 2); n++) {
                uint64_t start = load(&log->extents[at - 1].start);

                if ((start & 0xffff) < LOG_EXTENT_DATA)
                        end = (start >> 16) + (start & 0xffff);
                at = load(&log->extents[at - 1].next);
        }
        return end ? end : tail_valid(r)->end;
}

static bool may_give(const struct response_log *log, uint32_t i) {
        return log->links[i].n_extents > 1 && !log->links[i].part &&
               (entry(log, i)->flags & (LOG_RESPONSE_DETACHED | LOG_RESPONSE_STORED)) ==
                               LOG_RESPONSE_DETACHED &&
               response_log_bytes(log, i);
}

bool response_log_gives(const struct response_log *log) {
        uint32_t i = log->list[LIST_OPEN].first;

        while (i != LOG_NONE && !log->links[i].part && !may_give(log, i))
                i = log->links[i].next;
        return i != LOG_NONE;
}

uint64_t response_log_part(struct response_log *log, uint32_t *ret) {
        uint32_t largest = LOG_NONE;
        uint64_t stored, end;

        for (uint32_t i = log->list[LIST_OPEN].first; i != LOG_NONE; i = log->links[i].next)
                if (may_give(log, i) && (largest == LOG_NONE || log->links[i].n_extents >
                                                                         log->links[largest].n_extents))
                        largest = i;
        *ret = largest;
        if (largest == LOG_NONE)
                return 0;
        stored = load(&entry(log, largest)->stored);
        end = half_of(log, largest);
        return end > stored ? end - stored : 0;
}

void response_log_part_begin(struct response_log *log, uint32_t response) {
        log->links[response].part = true;
}

void response_cut_stored(struct response_log *log, uint32_t response) {
        struct log_response *r = entry(log, response);
        uint64_t keep = load(&r->first), stored = load(&r->stored), next;

        while (keep && (next = load(&log->extents[keep - 1].next)) && start_of(log, next) <= stored)
                keep = next;
        if (keep)
                response_cut(log, response, keep);
}

void response_log_part_done(struct response_log *log, uint32_t response, uint64_t n, bool stored) {
        struct log_response *r = entry(log, response);

        log->links[response].part = false;
        if (!stored)
                return;
        /* Said before anything goes: a successor that finds it gone knows that the database has it. */
        atomic_store_explicit(&r->stored, load(&r->stored) + n, memory_order_seq_cst);
        response_cut_stored(log, response);
}

bool response_log_restoring(const struct response_log *log) {
        uint32_t i = log->list[LIST_OPEN].first;

        while (i != LOG_NONE && !(entry(log, i)->flags & LOG_RESPONSE_STORED))
                i = log->links[i].next;
        return i != LOG_NONE;
}
