/*
 * log -- the response log of a lane: every event of every response, read in place by the gateways.
 *
 * Shape   header | n_responses entries | chains by request | presence by id | ids of the database |
 *         n_extents extents of LOG_EXTENT bytes
 * Units   a response is a byte stream of events, cut into extents; `end` counts its published bytes
 * Owner   written by the stream stage of the lane only; gateways map it read-only
 * Errors  0, -EPROTO, LOG_E_*
 * Limits  stream.log_bytes in all; an event <= LOG_EVENT_MAX bytes
 *
 * An event's bytes are written first, then one store of the response's `end` publishes it (I2, seq_cst:
 * it pairs with the gateways' tables of followed responses, SYNC(log.follow)). Reuse of an extent
 * raises its generation first (seq_cst); a reader copies, then checks the generation (seqlock).
 *
 * The last event of a detached response is written, and held back until the database has the whole
 * response: `pending` is the end that it will publish. Its input is acked meanwhile.
 *
 * A detached response that inference has lost in the middle runs anew when nobody has read it. `restart`
 * says so before stream looks for FOLLOW_READ in the gateways' tables; a gateway sets that mark before it
 * looks at `restart`, and that before it opens a cursor. So either stream sees the reader, or the reader
 * waits: SYNC(log.restart).
 */
#pragma once

#include <stdbool.h>

#include "shm/layout.h"

#define LOG_EXTENT 4096u
#define LOG_EXTENT_HEAD 32u
#define LOG_EXTENT_DATA (LOG_EXTENT - LOG_EXTENT_HEAD)
#define LOG_EVENT_MAX (256u * 1024u)
/* The largest event; every open response may keep one more extent, its last. */
#define LOG_EXTENTS_MIN(max_in_flight) ((max_in_flight) + LOG_EVENT_MAX / LOG_EXTENT_DATA + 2)
#define LOG_ID_MAX 128u
#define LOG_TENANT_MAX 64u
#define LOG_NONE UINT32_MAX
#define LOG_RESPONSES_MAX (1u << 22)
#define LOG_PAGE_SLACK 4096u /* what alignment may cost */

enum log_error {
        LOG_E_NONE = 1,  /* no such response here */
        LOG_E_AGAIN,     /* nothing published beyond the cursor yet */
        LOG_E_GONE,      /* evicted, or overwritten while it was copied: a cursor must be cut */
        LOG_E_SPACE,     /* `cap` is too small for the event; *ret says how much is needed */
};

enum log_state {
        LOG_FREE,     /* zeroed memory */
        LOG_OPEN,     /* its request runs */
        LOG_FINISHED, /* the terminal event is published */
        LOG_EVICTED,  /* its bytes are gone; the entry remembers that it was */
};

/* Each event in the byte stream; `len` payload bytes follow, padded to 8. Payload: one record map
 * (stages/common/record.def). */
struct log_event_head {
        uint32_t len;
        uint16_t type;   /* enum record_type: DELTA, DONE, ERROR */
        uint16_t flags;
        uint64_t seq;    /* event number, from 1 */
        uint64_t in_seq; /* input that made it */
};
static_assert(sizeof(struct log_event_head) == 24, "ABI");

struct log_extent {
        mr_au64 gen;    /* odd: belongs to a response; raised on every change of owner. SYNC(log.reuse) */
        mr_au64 req_id; /* owner */
        mr_au64 next;   /* index + 1 of the next extent, 0 = none yet */
        mr_au64 start;  /* byte position of data[0] << 16 | offset of the first event that begins here,
                         * LOG_EXTENT_DATA: none does */
        uint8_t data[LOG_EXTENT_DATA];
};
static_assert(sizeof(struct log_extent) == LOG_EXTENT, "ABI");

/* Where the stream stage stands in a response; the valid one of two is the one whose `end` equals the
 * published end, so that one store moves both. */
struct log_tail {
        uint64_t end;     /* bytes */
        uint64_t seq;     /* last event number */
        uint64_t in_seq;  /* last input logged */
        uint64_t outcome; /* LOG_OUTCOME_* when the last event is the terminal one, else 0 */
        uint32_t extent;  /* last extent (index), LOG_NONE */
        uint32_t used;    /* bytes used in it */
};

struct log_response {
        mr_au64 req_id;    /* 0: free. Stored last on creation (release). SYNC(log.create) */
        mr_au64 state;     /* enum log_state */
        mr_au64 end;       /* bytes published; SYNC(log.follow) */
        mr_au64 first;     /* index + 1 of the first extent kept, 0 = none */
        mr_au64 id_hash;   /* log_id_hash(tenant, id) */
        mr_au64 finished_ns; /* CLOCK_MONOTONIC of the terminal event */
        mr_au64 created_ns;
        mr_au64 outcome;   /* LOG_OUTCOME_*, set before `end` covers the terminal event */
        struct log_tail tail[2];
        mr_au64 pending;   /* end of what is held back: the tail that is not valid tells of it; 0: nothing is */
        mr_au64 restart;   /* input that said RESTART << LOG_RESTART_SHIFT | LOG_RESTART_*; SYNC(log.restart) */
        mr_au64 stored;    /* of a detached one: bytes from the start that the database has; they may be evicted */
        mr_au64 chain;      /* index + 1 of the next entry whose number has the same hash; SYNC(log.chains) */
        uint64_t digest[2]; /* of what was asked (id_conflict) */
        uint64_t head_seq;  /* input that created it */
        uint16_t id_len, tenant_len;
        uint32_t flags;     /* LOG_RESPONSE_* */
        char id[LOG_ID_MAX];
        char tenant[LOG_TENANT_MAX];
};
#define LOG_OUTCOME_DONE 1u
#define LOG_OUTCOME_FAILED 2u     /* not to be run again under its id */
#define LOG_OUTCOME_RETRYABLE 3u  /* the id may run anew */
#define LOG_OUTCOME_CANCELLED 4u
#define LOG_RESTART_SHIFT 2
#define LOG_RESTART_MASK 3u
#define LOG_RESTART_ASKED 1u /* does anybody read it? Readers wait */
#define LOG_RESTART_DROP 2u  /* nobody does, what was logged goes; readers wait */
#define LOG_RESTART_LOST 3u  /* somebody does: it ends in an error, and what runs anew is for nobody */
#define LOG_RESPONSE_DETACHED 1u
#define LOG_RESPONSE_STORED 2u    /* the database has all of it */
#define LOG_RESPONSE_LETTER 4u    /* it ends as a dead letter, for the cause in the upper 24 bits */
#define LOG_RESPONSE_SESSION 8u   /* what is said is a part of a conversation that is kept */
#define LOG_LETTER_STAGE_SHIFT 8  /* enum mr_role */
#define LOG_LETTER_SIGNAL_SHIFT 16
#define LOG_LETTER_STRIKES_SHIFT 24

struct log_shm {
        uint64_t magic, layout;
        uint32_t n_responses, n_extents;
        uint32_t lane, n_chains;  /* a power of two */
        uint32_t n_presence; /* a power of two, so large that most counters are 0 */
        uint32_t n_stored;   /* words of 64 bits, a power of two */
        /* Raised (seq_cst, after `end`) when a notice to that gateway slot was dropped. */
        alignas(LAYOUT_SEPARATION) mr_au64 missed[GATEWAY_SLOTS_MAX];
        alignas(LAYOUT_SEPARATION) mr_au64 epoch; /* incarnation of the stream stage */
        mr_au64 chains; /* odd while the chains are being changed: a miss under it proves nothing */
        mr_au64 stored_known;    /* 1: every id that the database had at the start is in the table of ids */
        mr_au64 database_failed; /* 1: the database cannot be written now */
        alignas(LAYOUT_SEPARATION) struct log_response responses[];
};

uint64_t log_bytes(uint64_t budget, uint32_t *ret_responses, uint32_t *ret_extents);
void log_format(struct log_shm *shm, uint64_t budget, uint32_t lane);
struct log_extent *log_extents(const struct log_shm *shm);
static inline uint32_t log_chain_of(uint64_t req_id, uint32_t n_chains) {
        return (uint32_t)(req_id * 0x9e3779b97f4a7c15ull >> 32) & (n_chains - 1);
}
/* Head of the chain of entries whose number has this hash: index + 1, 0 = none. */
_Atomic uint32_t *log_chain(const struct log_shm *shm, uint64_t req_id);
/* How many entries have an id whose hash falls here; 0: no entry has that id. Never lower than the truth.
 * SYNC(log.presence) */
_Atomic uint32_t *log_presence(const struct log_shm *shm, uint64_t id_hash);
/* The word and bit that say whether the database may have an id; SYNC(log.stored) */
mr_au64 *log_stored(const struct log_shm *shm, uint64_t id_hash, uint64_t *ret_bit);
uint64_t log_id_hash(const char *tenant, uint32_t tenant_len, const char *id, uint32_t id_len);

/* ---- reading (gateways) ---- */

struct log_view {
        const struct log_shm *shm;
        const struct log_extent *extents;
        const _Atomic uint32_t *chains, *presence;
        const mr_au64 *stored;
        /* Copied once, checked against the mapping. */
        uint32_t n_responses, n_extents, n_chains, n_presence, n_stored;
};

/* A reader's place in one response. */
struct log_cursor {
        uint64_t req_id;
        uint32_t response;  /* index */
        uint32_t extent;    /* index, LOG_NONE: not started */
        uint64_t gen;       /* of that extent */
        uint64_t at;        /* bytes consumed */
        uint32_t extent_at; /* bytes consumed in the extent */
        uint64_t seq;       /* last event delivered */
};

/* 0 or -EPROTO. */
int log_view_init(struct log_view *view, const void *map, uint64_t map_bytes);
/* The response of a request (newest state), LOG_E_NONE. */
int log_find(const struct log_view *view, uint64_t req_id, uint32_t *ret_response);
/* Likewise by the client's id. Evicted ones are found too. The caller checks `state`. */
int log_find_id(const struct log_view *view, const char *tenant, uint32_t tenant_len, const char *id,
        uint32_t id_len, uint32_t *ret_response);
enum log_state log_response_state(const struct log_view *view, uint32_t response);
uint64_t log_response_outcome(const struct log_view *view, uint32_t response);
bool log_response_detached(const struct log_view *view, uint32_t response);
bool log_response_is_letter(const struct log_view *view, uint32_t response);
bool log_response_in_session(const struct log_view *view, uint32_t response);
void log_response_digest(const struct log_view *view, uint32_t response, uint64_t ret[2]);
/* The database is writing it back, and it is not all here. */
bool log_is_restoring(const struct log_view *view, uint32_t response);
/* Its first event is still here. */
bool log_has_beginning(const struct log_view *view, uint32_t response);
/* Whether it runs anew is not decided, or what it had said is just going: no cursor may be opened now, and
 * a notice comes when one may. Its reader is marked (FOLLOW_READ) before this is asked. */
bool log_is_restarting(const struct log_view *view, uint32_t response);
/* It has ended, or is about to, while its request was begun anew: that run is to be cancelled. */
bool log_was_lost(const struct log_view *view, uint32_t response);
/* May the database have this id, as far as this lane knows? Never a wrong no. */
bool log_may_be_stored(const struct log_view *view, uint64_t id_hash);
bool log_database_failed(const struct log_view *view);
/* A cursor before the first event with number > after (walks from the first kept event), or at the end
 * when there is none yet (the caller then passes over what is <= after). LOG_E_GONE when that event was
 * evicted. */
int log_open(const struct log_view *view, uint64_t req_id, uint32_t response, uint64_t after,
        struct log_cursor *ret);
/* The next event: head into *ret, payload copied to buf, generation checked, cursor moved.
 * 0, LOG_E_AGAIN, LOG_E_GONE, LOG_E_SPACE (cursor unmoved). */
int log_next(const struct log_view *view, struct log_cursor *cursor, struct log_event_head *ret,
        uint8_t *buf, uint32_t cap);
/* Is there something to read? SYNC(log.follow): seq_cst load of end. */
bool log_has_more(const struct log_view *view, const struct log_cursor *cursor);
