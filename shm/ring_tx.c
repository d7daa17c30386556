/*
 * The producer's side of a ring: room, emit, commit, wait for space.
 */
#include "shm/ring.h"

#include <assert.h>
#include <errno.h>

#include "shm/ring_state.h"

/* The consumer's cursor is input: it may only move forward, and never past what was published. */
static int tx_accept_tail(struct ring_tx *tx, uint64_t tail) {
        if (tail - tx->tail > tx->committed - tx->tail)
                return -EBADMSG;
        tx->tail = tail;
        return 0;
}

/* I4: everything from `tail` on stays as it is, and so do the last max_batch descriptors below it:
 * they are what recovery reads (I8). Bytes are counted from the oldest record that is still there;
 * the descriptors are our own memory. */
static bool tx_fits(const struct ring_tx *tx, uint64_t tail, uint32_t n, uint64_t need) {
        const struct ring_geometry *geo = &tx->map.geo;
        uint64_t from = tail == tx->next ? tx->pos : ring_desc_at(&tx->map, tail)->pos;

        return tx->next + n - tail <= geo->n - geo->max_batch &&
               tx->pos + need - from <= geo->bytes;
}

/* Bytes that n records of together `bytes` payload take at worst. */
static uint64_t tx_need(uint32_t n, uint64_t bytes) {
        return ring_align(bytes) + (n > 1 ? 64 * (uint64_t)(n - 1) : 0);
}

int ring_tx_room(struct ring_tx *tx, uint32_t n, uint64_t bytes) {
        uint64_t need, tail;
        int r;

        if (bytes > tx->map.geo.bytes || tx_need(n, bytes) > tx->map.geo.bytes)
                return RING_E_TOO_LARGE;
        if (n > tx->map.geo.max_batch - ring_tx_pending(tx))
                return RING_E_BATCH;
        need = tx_need(n, bytes);
        if (tx_fits(tx, tx->tail, n, need))
                return 0;
        /* SYNC(ring.space): the consumer's reads are over before we overwrite -> ring_rx_flush().
         */
        tail = atomic_load_explicit(&tx->map.cons->tail, memory_order_acquire);
        r = tx_accept_tail(tx, tail);
        if (r < 0)
                return r;
        return tx_fits(tx, tx->tail, n, need) ? 0 : RING_E_FULL;
}

int ring_tx_begin(struct ring_tx *tx, uint64_t max_len, uint8_t **ret_data) {
        struct ring_desc *d = ring_desc_at(&tx->map, tx->next);
        int r;

        if (max_len > tx->map.geo.max_rec)
                return RING_E_TOO_LARGE;
        r = ring_tx_room(tx, 1, max_len);
        if (r != 0)
                return r;
        /* SYNC(ring.desc), invalidate FIRST: a successor that finds this descriptor half written
         * must not take it for the one that stood here a lap ago -> ring_recover(). */
        atomic_store_explicit(&d->seq, RING_SEQ_INVALID, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
        tx->begun = max_len;
        *ret_data = tx->map.data + (tx->pos & (tx->map.geo.bytes - 1));
        return 0;
}

void ring_tx_end(struct ring_tx *tx, const struct ring_meta *meta, uint32_t len) {
        struct ring_desc *d = ring_desc_at(&tx->map, tx->next);

        assert(len <= tx->begun);
        d->pos = tx->pos;
        d->len = len;
        d->type = meta->type;
        d->hver = RING_HVER;
        d->flags = meta->flags;
        d->src = meta->src;
        d->ord = meta->ord;
        d->epoch = (uint32_t)tx->epoch;
        d->req_id = meta->req_id;
        d->t0 = meta->t0;
        d->crc = 0;
        d->rsv = 0;
        atomic_signal_fence(memory_order_seq_cst);
        /* SYNC(ring.desc), validate LAST. */
        atomic_store_explicit(&d->seq, tx->next, memory_order_release);
        tx->pos += ring_align(len);
        tx->next++;
        tx->begun = 0;
}

void ring_tx_commit(struct ring_tx *tx) {
        uint64_t old = tx->committed, wake_at;

        if (tx->next == old)
                return;
        /* I2, SYNC(ring.publish): descriptors and bytes are visible before head moves -> acquire in
         * ring_rx_peek(). F1: seq_cst, once per batch, because the load below must not pass it:
         * SYNC(ring.sleep) -> ring_rx_may_sleep(). */
        atomic_store_explicit(&tx->map.prod->head, tx->next, memory_order_seq_cst);
        tx->committed = tx->next;
        wake_at = atomic_load_explicit(&tx->map.cons->wake_at, memory_order_seq_cst);
        if (wake_at != 0 && wake_at - old < tx->next - old) {
                doorbell_owe(tx->owed, tx->wake_fd);
                tx->n_doorbells++;
        }
}

void ring_tx_rollback(struct ring_tx *tx) {
        if (tx->next != tx->committed)
                tx->pos = ring_desc_at(&tx->map, tx->committed)->pos;
        tx->next = tx->committed;
        tx->begun = 0;
}

uint64_t ring_tx_depth(struct ring_tx *tx) {
        /* SYNC(ring.space); an impossible tail is left for ring_tx_room() to refuse. */
        uint64_t tail = atomic_load_explicit(&tx->map.cons->tail, memory_order_acquire);

        (void)tx_accept_tail(tx, tail);
        return tx->committed - tx->tail;
}

/* The first tail at which n records of `need` bytes fit: it is monotone, and an empty ring takes
 * them. */
static uint64_t tx_tail_wanted(const struct ring_tx *tx, uint32_t n, uint64_t need) {
        uint64_t low = tx->tail, high = tx->next;

        while (low != high) {
                uint64_t mid = low + (high - low) / 2;

                if (tx_fits(tx, mid, n, need))
                        high = mid;
                else
                        low = mid + 1;
        }
        return low;
}

bool ring_tx_may_sleep(struct ring_tx *tx, uint32_t n, uint64_t bytes) {
        uint64_t need = tx_need(n, bytes), wanted, tail;

        /* I9: who waits for space has published what would make it. */
        assert(tx->next == tx->committed);
        assert(n <= tx->map.geo.max_batch && need <= tx->map.geo.bytes);
        wanted = tx_tail_wanted(tx, n, need);
        if (wanted == tx->tail)
                return false;
        /* F2, SYNC(ring.space): announce, then look again; either we see the space or the consumer
         * sees us -> ring_rx_flush(). */
        atomic_store_explicit(&tx->map.prod->space_at, wanted, memory_order_seq_cst);
        tail = atomic_load_explicit(&tx->map.cons->tail, memory_order_seq_cst);
        if (tx_accept_tail(tx, tail) == 0 && ring_seq_before(tx->tail, wanted))
                return true;
        /* Room, or an impossible tail: ring_tx_room() tells which. */
        ring_tx_disarm(tx);
        return false;
}

void ring_tx_disarm(struct ring_tx *tx) {
        atomic_store_explicit(&tx->map.prod->space_at, 0, memory_order_relaxed);
}

bool ring_tx_await(struct ring_tx *tx, uint64_t seq) {
        uint64_t armed = atomic_load_explicit(&tx->map.prod->space_at, memory_order_relaxed), tail;

        if (armed != 0 && ring_seq_before(armed, seq))
                seq = armed;
        /* F2, SYNC(ring.space), as in ring_tx_may_sleep(). */
        atomic_store_explicit(&tx->map.prod->space_at, seq, memory_order_seq_cst);
        tail = atomic_load_explicit(&tx->map.cons->tail, memory_order_seq_cst);
        if (tx_accept_tail(tx, tail) == 0 && ring_seq_before(tx->tail, seq))
                return true;
        ring_tx_disarm(tx);
        return false;
}
