/*
 * response_log -- the writing side of a lane's response log (shm/log.h).
 *
 * Shape   private lists over the shared entries, one for each state below
 * Units   bytes; nanoseconds of CLOCK_MONOTONIC
 * Owner   the stream stage of the lane; all private state is derived from shared words on attach (I6)
 * Errors  0, -errno (-EPROTO: not our layout; -EBADMSG: a log that no writer of ours leaves), RESPONSE_E_*
 * Limits  stream.log_bytes; an event <= LOG_EVENT_MAX; nothing allocates after attach
 *
 *   FREE --create--> OPEN --terminal event--> FINISHED --room needed, TTL--> EVICTED --entry needed--> OPEN
 *   and of a detached one, which the database keeps:
 *   OPEN --hold--> HELD --settle(stored)--> DETACHED --room needed, TTL--> EVICTED
 *                    `----settle(not stored)--> UNSTORED --settle(stored)--> DETACHED
 *   and of one whose request runs anew:
 *   OPEN --restart, decide(nobody reads it), drop--> OPEN, empty
 *   OPEN --restart, decide(somebody does), append or hold(error)--> FINISHED, HELD
 *
 * What the database does not have is not given up as long as it can be written: of an open detached response
 * the oldest events go there first (part, part_done), and whoever needs the room waits. While it cannot
 * (may_lose), UNSTORED goes when no open response has anything else to give, then the beginning of an open
 * detached one; HELD never.
 *
 * A kill between any two stores leaves either the event published with its input's seq, or not at all:
 * bytes first, then tail[] (the one that is not valid), then one store of `end` (I2).
 */
#pragma once

#include <stdbool.h>

#include "shm/log.h"

enum response_error {
        RESPONSE_E_KNOWN = 1, /* this input is in the log already: only to be acked */
        RESPONSE_E_NONE,      /* no such response: its head was never logged here */
        RESPONSE_E_SPACE,     /* the database is to have something first: wait */
};

enum response_list {
        LIST_FREE,
        LIST_OPEN,
        LIST_HELD,
        LIST_FINISHED,
        LIST_DETACHED,
        LIST_UNSTORED,
        LIST_EVICTED,
        LISTS_N
};

struct response_log {
        struct log_shm *shm;
        struct log_extent *extents;
        struct log_view view; /* the same, as readers see it */
        struct {
                uint32_t first, last, n;
        } list[LISTS_N];
        struct response_link {
                uint32_t prev, next;
                uint32_t n_extents;
                uint8_t list;   /* enum response_list */
                bool part; /* a part of it is under way to the database */
        } *links;
        uint32_t *free_extents, n_free_extents;
        uint64_t n_evicted;
        bool may_lose; /* the database cannot be written, or there is none */
        /* Is a gateway still waiting for this request's end? Its entry is then not given to another.
         * NULL: nobody is. */
        bool (*followed)(void *ctx, uint64_t req_id);
        void *followed_ctx;
};

/* Why a response ends as a dead letter. */
struct response_letter {
        uint8_t stage; /* enum mr_role */
        uint8_t strikes, signal;
};

struct response_head {
        uint64_t req_id, in_seq, now_ns;
        const char *id, *tenant;
        uint32_t id_len, tenant_len;
        uint64_t digest[2];
        bool detached, stored, session;
};

int response_log_attach(struct response_log *log, void *map, uint64_t map_bytes);
void response_log_close(struct response_log *log);

/* The response of a request: 0 or RESPONSE_E_NONE. */
int response_log_find(const struct response_log *log, uint64_t req_id, uint32_t *ret);
/* A new open response. 0, RESPONSE_E_KNOWN, RESPONSE_E_SPACE. */
int response_log_create(struct response_log *log, const struct response_head *head, uint32_t *ret);
/* Appends and publishes one event; of a response that is written back (response_head.stored) in_seq is its number,
 * for what was joined has lost some. outcome 0 or LOG_OUTCOME_*: this one is the last.
 * 0, RESPONSE_E_KNOWN (in_seq was logged, or the response is finished), RESPONSE_E_SPACE. */
int response_log_append(struct response_log *log, uint32_t response, uint64_t in_seq, uint16_t type,
        const void *payload, uint32_t len, uint64_t outcome, uint64_t now_ns);
/* The last event, written and not published yet: nobody sees it before response_log_settle(). Held
 * already is RESPONSE_E_KNOWN. Else as response_log_append(). */
int response_log_hold(struct response_log *log, uint32_t response, uint64_t in_seq, uint16_t type,
        const void *payload, uint32_t len, uint64_t outcome);
/* Its end is a dead letter; said before that is held or appended. */
void response_log_set_letter(
        struct response_log *log, uint32_t response, const struct response_letter *letter);
/* True: it is one, for this cause. */
bool response_log_letter(
        const struct response_log *log, uint32_t response, struct response_letter *ret);
/* The database has said whether it has the response: publishes what is held; one that it has may be
 * evicted from now on. */
void response_log_settle(struct response_log *log, uint32_t response, bool stored, uint64_t now_ns);
/* Bytes of the events of a response that are not stored, what is held included: struct log_event_head,
 * payload, padding to 8; as many times as there are events. 0: some are not kept any more, or there are none. */
uint64_t response_log_bytes(const struct response_log *log, uint32_t response);
/* The first n of these bytes; -EBADMSG: they are no whole events. */
int response_log_copy(const struct response_log *log, uint32_t response, uint64_t n, uint8_t *ret);
/* The open detached response that holds most, and whose oldest events may go to the database: how many bytes, as
 * above. 0: there is none. */
uint64_t response_log_part(struct response_log *log, uint32_t *ret);
/* Is there such a response, or a part under way? */
bool response_log_gives(const struct response_log *log);
/* The database is writing one back: it has ended when that is done. */
bool response_log_restoring(const struct response_log *log);
/* These are under way; so it is no more, and with `stored` their extents are given back. */
void response_log_part_begin(struct response_log *log, uint32_t response);
void response_log_part_done(struct response_log *log, uint32_t response, uint64_t n, bool stored);
/* This input says that its request runs anew; whoever comes to read it waits from now on. *ret: LOG_RESTART_ASKED, or
 * what an earlier incarnation has decided. RESPONSE_E_KNOWN: the input is in the log already. */
int response_log_restart(struct response_log *log, uint32_t response, uint64_t in_seq, uint64_t *ret);
/* LOG_RESTART_DROP, LOG_RESTART_LOST: from now on that is what happens, whoever is killed. */
void response_log_decide(struct response_log *log, uint32_t response, uint64_t decision);
/* Forgets what was logged, with the input that said so in its place; who waits may read. Event numbers
 * begin anew: nobody has seen any. */
void response_log_drop(struct response_log *log, uint32_t response);
/* Outcome of the last event, published or held; 0: it is open. */
uint64_t response_log_outcome(const struct response_log *log, uint32_t response);
/* Evicts what finished before the given time. */
void response_log_expire(struct response_log *log, uint64_t before_ns);
