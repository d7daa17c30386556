/*
 * ring -- a single-producer single-consumer channel of variable-size records between two processes.
 *
 * Shape   producer's object: header page | N descriptors of 64 bytes | B payload bytes (mapped
 *         twice, so that a record never wraps). Consumer's object: header words | one state word
 *         per record.
 * Units   sequence numbers from 1, masked only when used; positions in bytes, free running,
 *         64-aligned
 * Owner   the supervisor creates both objects; the producer writes the first and maps the second
 *         read-only, the consumer the other way round. After either side dies its successor
 *         attaches.
 * Errors  0, -errno (give the ring up; -EBADMSG: the other side wrote nonsense, exit
 *         EXIT_SHARED_STATE), or RING_E_* (an expected outcome: the caller must act on it)
 * Limits  N = 2^k >= soft bound + 2 * max_batch; a record <= max_rec <= B / 4; at most max_batch
 *         records a commit; nothing here allocates, logs or sleeps after attach
 *
 * Sources: Lamport's SPSC queue; cached cursors after rigtorp's SPSCQueue; the event index of
 * virtio 1.1 (2.7.7); descriptor ring and credits after Firedancer's tango. Model-checked in
 * tests/models/doorbell.pml and handover.pml.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "shm/doorbell.h"
#include "shm/layout.h"

#define RING_MAX_BATCH 64u        /* of the daemon's rings; tests use smaller ones */
#define RING_DATA_BYTES_MIN 65536u
#define RING_CONTROL_N 256u
#define RING_CONTROL_BYTES 32768u
#define RING_SEQ_INVALID 0u       /* all seqs start at 1: zeroed memory is never valid */

enum ring_error {
        RING_E_EMPTY = 1, /* nothing to read now */
        RING_E_FULL,      /* no room for records or bytes; arm and wait, or come back next turn */
        RING_E_BATCH,     /* this batch holds max_batch records: commit first */
        RING_E_TOO_LARGE, /* the record can never fit: len > max_rec */
};

struct ring_geometry {
        uint32_t id;        /* 1..255, stands in `src` of what is made from this ring's records */
        uint32_t n;         /* descriptors, a power of two */
        uint32_t max_batch; /* records per commit; n >= 2 * max_batch */
        uint32_t max_rec;   /* payload bytes per record */
        uint64_t bytes;     /* payload area, a multiple of the page size and a power of two */
        uint32_t bound;     /* soft bound on records that wait (channels.X of the settings) */
};

enum ring_flag {
        RING_LAST = 1,  /* the last output of its input: an unacked input with it is finished */
        RING_ERROR = 2, /* the request ends here with an error */
        RING_HEAD = 4,  /* the first record of a request in this ring */
};
#define RING_FLAGS_ALL 7u
#define RING_HVER 1u

struct ring_desc {
        mr_au64 seq;     /* RING_SEQ_INVALID first, the real value last; SYNC(ring.desc) */
        uint64_t pos;    /* free-running byte position of the payload, 64-aligned */
        uint32_t len;    /* payload bytes */
        uint16_t type;   /* enum record_type */
        uint8_t hver;    /* RING_HVER */
        uint8_t flags;   /* enum ring_flag */
        uint64_t src;    /* input ring id << 56 | input seq; 0 = self-generated */
        uint32_t ord;    /* n-th output of that request, from 0 */
        uint32_t epoch;  /* low bits of the producer's incarnation */
        uint64_t req_id; /* end-to-end id */
        uint64_t t0;     /* ns, when the gateway took the request in */
        uint32_t crc;    /* 0 (a hostile peer could recompute it) */
        uint32_t rsv;    /* 0 */
};
static_assert(sizeof(struct ring_desc) == 64, "ABI: bump LAYOUT_VERSION");

struct ring_prod_shm {
        /* W: producer.  R: consumer.  Seq of the first unpublished record: THE commit (I2). */
        alignas(LAYOUT_SEPARATION) mr_au64 head;
        /* W: producer.  R: consumer after moving tail.  Wake me when tail is this seq; 0 = no. */
        alignas(LAYOUT_SEPARATION) mr_au64 space_at;
        /* W: producer.  R: consumer, telemetry.  Incarnation of the producer. */
        alignas(LAYOUT_SEPARATION) mr_au64 epoch;
};
static_assert(sizeof(struct ring_prod_shm) == 3 * LAYOUT_SEPARATION, "ABI: bump LAYOUT_VERSION");

struct ring_cons_shm {
        /* W: consumer.  R: producer when it believes the ring full.  Every seq < tail is acked. */
        alignas(LAYOUT_SEPARATION) mr_au64 tail;
        /* W: consumer.  R: producer after every commit.  Wake me when this seq is out; 0 = no. */
        alignas(LAYOUT_SEPARATION) mr_au64 wake_at;
        /* W: consumer.  R: its successor.  Seq at hand, 0 = none: whom a crash is blamed on. */
        alignas(LAYOUT_SEPARATION) mr_au64 active;
        /* W: consumer.  R: producer, telemetry.  Incarnation of the consumer. */
        alignas(LAYOUT_SEPARATION) mr_au64 epoch;
        /* W: consumer.  R: its successor.  n words: tag32 | emitted16 | strikes8 | state8. */
        alignas(LAYOUT_SEPARATION) mr_au64 state[];
};
static_assert(offsetof(struct ring_cons_shm, state) == 4 * LAYOUT_SEPARATION, "ABI");

enum ring_state { RING_NEW, RING_CLAIMED, RING_ACKED };

/* Sizes of the two objects, page-rounded. */
uint64_t ring_prod_bytes(const struct ring_geometry *geo);
uint64_t ring_cons_bytes(const struct ring_geometry *geo);
/* First store into new, zeroed objects (supervisor, before any worker): head = tail = 1. */
void ring_prod_format(struct ring_prod_shm *prod);
void ring_cons_format(struct ring_cons_shm *cons);
/* 0, or -EINVAL when the sizes do not obey the limits above. */
int ring_geometry_check(const struct ring_geometry *geo);

/* Both objects of one ring as mapped by one side; made by segment_map_ring_*(). */
struct ring_map {
        struct ring_geometry geo;
        struct ring_prod_shm *prod; /* descriptors and bytes lie behind it */
        struct ring_desc *desc;
        uint8_t *data; /* 2 * geo.bytes of address space */
        struct ring_cons_shm *cons;
};

/* ---- producer ---- */

struct ring_meta {
        uint16_t type;
        uint8_t flags;
        uint64_t src; /* ring_src(), 0 = self-generated */
        uint32_t ord;
        uint64_t req_id;
        uint64_t t0;
};

struct ring_tx {
        struct ring_map map;
        int wake_fd;          /* the consumer's doorbell (eventfd), not owned */
        struct doorbells *owed; /* where its ring is noted, not owned; NULL: it is rung at once */
        uint64_t next;        /* seq of the next record */
        uint64_t committed;   /* head as published */
        uint64_t pos;         /* where the next payload goes */
        uint64_t begun;       /* max_len of the record that was begun and not ended */
        uint64_t tail;        /* the consumer's tail when last looked at */
        uint64_t epoch;
        uint64_t n_doorbells; /* eventfd writes, for the counters */
};

static inline uint64_t ring_src(uint32_t ring_id, uint64_t seq) {
        return (uint64_t)ring_id << 56 | (seq & 0x00ffffffffffffffull);
}

/* Derives everything from shared words (I6), raises the epoch. Does not ring (the worker rings all
 * neighbours once recovery is done, I7). -EBADMSG when the consumer's tail is impossible. */
int ring_tx_attach(struct ring_tx *tx, const struct ring_map *map, int wake_fd);
/* May n more records of together `bytes` payload be emitted now? Looks at tail only when the copy
 * says no. -EBADMSG when tail is impossible; else 0, RING_E_FULL, RING_E_BATCH, or RING_E_TOO_LARGE
 * (the ring never has that many bytes). */
int ring_tx_room(struct ring_tx *tx, uint32_t n, uint64_t bytes);
/* Space for one record of up to max_len bytes, contiguous; the descriptor is invalidated first. 0,
 * RING_E_FULL, RING_E_BATCH, RING_E_TOO_LARGE, -EBADMSG. A second begin before end replaces it. */
int ring_tx_begin(struct ring_tx *tx, uint64_t max_len, uint8_t **ret_data);
/* Ends the record that was begun, with its real length. Still invisible. */
void ring_tx_end(struct ring_tx *tx, const struct ring_meta *meta, uint32_t len);
/* Publishes everything ended since the last commit with one store, and rings the consumer when its
 * event index was crossed. SYNC(ring.publish), SYNC(ring.sleep) = F1. */
void ring_tx_commit(struct ring_tx *tx);
/* Forgets what was ended and not committed. */
void ring_tx_rollback(struct ring_tx *tx);
static inline uint32_t ring_tx_pending(const struct ring_tx *tx) {
        return (uint32_t)(tx->next - tx->committed);
}
/* Records published and not yet acked, by a fresh look at tail (for soft bounds and gauges). */
uint64_t ring_tx_depth(struct ring_tx *tx);
/* SYNC(ring.space) = F2: asks to be woken when room for n records and bytes exists; false: there is
 * room already (or tail is impossible: ring_tx_room() says so), do not sleep. Nothing may be
 * pending (I9), n <= max_batch. Disarm after waking. */
bool ring_tx_may_sleep(struct ring_tx *tx, uint32_t n, uint64_t bytes);
void ring_tx_disarm(struct ring_tx *tx);
/* The same for a stage that waits until the consumer has passed a certain record: asks to be woken
 * when tail reaches seq (or what was asked for already, if that is nearer); false: it has. */
bool ring_tx_await(struct ring_tx *tx, uint64_t seq);

/* ---- consumer ---- */

struct ring_msg {
        uint64_t seq;
        uint64_t src;
        uint64_t req_id;
        uint64_t t0;
        uint32_t ord;
        uint32_t len;
        uint16_t type;
        uint8_t flags;
        uint8_t strikes;     /* earlier incarnations that died with this record at hand */
        const uint8_t *data; /* private copy, valid until the next peek on this ring */
};

struct ring_rx {
        struct ring_map map;
        int space_fd;     /* the producer's doorbell (eventfd), not owned */
        struct doorbells *owed; /* as in struct ring_tx */
        uint64_t rd;      /* next seq to look at */
        uint64_t head;    /* the producer's head when last looked at */
        uint64_t pos;     /* position that seq rd must have; UINT64_MAX: take its own word */
        uint64_t first;   /* first seq not acked */
        uint64_t tail;    /* tail as published */
        uint64_t epoch;
        uint64_t peeked;  /* seq whose payload is in copy, 0 = none */
        struct ring_msg msg;
        uint8_t *copy;    /* max_rec bytes, owned */
        uint64_t n_doorbells;
        uint64_t high_water;
};

/* Walks [tail, head): acked records are skipped, claimed ones (their consumer died) come again.
 * `blame`: the record named by `active` gets a strike when the last death was self-inflicted.
 * 0, -ENOMEM, -EBADMSG. */
int ring_rx_attach(struct ring_rx *rx, const struct ring_map *map, int space_fd, bool blame);
void ring_rx_close(struct ring_rx *rx);
/* The next record that is not acked, checked and copied; peeking again gives the same one.
 * 0, RING_E_EMPTY, -EBADMSG. *ret stays valid until the next peek after a take. */
int ring_rx_peek(struct ring_rx *rx, const struct ring_msg **ret);
/* The peeked record is mine now: rd moves on. CLAIMED and `active` are stored first (I3). */
void ring_rx_take(struct ring_rx *rx);
/* A record is at hand: one that was peeked and is looked into before it is taken, or one that another
 * handler slice goes on with. */
void ring_rx_active(struct ring_rx *rx, uint64_t seq);
/* The handler slice is over: nothing is at hand. */
void ring_rx_idle(struct ring_rx *rx);
/* The newest record in [tail, head) that has a strike and is not acked; 0: there is none. */
uint64_t ring_rx_struck(const struct ring_rx *rx);
/* seq (taken before) is finished; any order. Comes after the commit of its outputs (release). */
void ring_rx_ack(struct ring_rx *rx, uint64_t seq);
bool ring_rx_is_acked(const struct ring_rx *rx, uint64_t seq);
/* Publishes tail, lazily (every n/8) unless forced or awaited, and rings a producer that waits for
 * space (F3). */
void ring_rx_flush(struct ring_rx *rx, bool force);
/* SYNC(ring.sleep) = F4: publishes tail (I9) and announces that we sleep; false: a record came, do
 * not. A consumer that leaves records in the ring on purpose flushes (forced) and does not call
 * this. */
bool ring_rx_may_sleep(struct ring_rx *rx);
void ring_rx_disarm(struct ring_rx *rx);
/* The descriptor of seq as the producer wrote it, without payload, for attach of stages that must
 * know whose record an unacked seq is. 0 or RING_E_EMPTY (not in what was looked at, nonsense). */
int ring_rx_desc(const struct ring_rx *rx, uint64_t seq, struct ring_msg *ret);
/* Records published and not acked. */
uint64_t ring_rx_depth(const struct ring_rx *rx);

/* ---- recovery of a stage without a slab (acks in place) ---- */

/* The descriptor scan: inputs named by the last max_batch committed descriptors of `tx` and not
 * acked are acked (RING_LAST) or get their resume point. Run after ring_tx_attach and
 * ring_rx_attach, before the first peek. Restartable anywhere (tests/models/handover.pml). */
void ring_recover(struct ring_tx *tx, struct ring_rx *rx);
/* How many outputs of a taken input were published by a dead incarnation (resume point). Holds for
 * the inputs of the newest batch: a stage that interleaves the outputs of several inputs over more
 * than one commit keeps a slab. */
uint32_t ring_rx_emitted(const struct ring_rx *rx, uint64_t seq);
