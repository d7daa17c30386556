/*
 * The consumer's side of a ring: peek, take, ack in any order, publish tail, wait for records.
 */
#include "shm/ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "shm/ring_state.h"

/* The producer's cursor is input: at most n records can be out, and it never goes back. */
static bool rx_head_possible(const struct ring_rx *rx, uint64_t head) {
        return head - rx->tail <= rx->map.geo.n && head - rx->tail >= rx->head - rx->tail;
}

static int rx_look(struct ring_rx *rx) {
        /* SYNC(ring.publish): what was written before head moved is visible -> ring_tx_commit(). */
        uint64_t head = atomic_load_explicit(&rx->map.prod->head, memory_order_acquire);

        if (!rx_head_possible(rx, head))
                return -EBADMSG;
        rx->head = head;
        if (head - rx->first > rx->high_water)
                rx->high_water = head - rx->first;
        return head == rx->rd ? RING_E_EMPTY : 0;
}

/* Copies the descriptor of seq once; every check and every use is of the copy. */
static int rx_fetch(const struct ring_rx *rx, uint64_t seq, struct ring_desc *ret) {
        const struct ring_desc *shared = ring_desc_at(&rx->map, seq);
        const size_t rest = offsetof(struct ring_desc, pos);
        uint64_t is = atomic_load_explicit(&shared->seq, memory_order_relaxed);

        memcpy((uint8_t *)ret + rest, (const uint8_t *)shared + rest, sizeof(*ret) - rest);
        /* The compiler may not go back to shared memory for what it has read. */
        atomic_signal_fence(memory_order_seq_cst);
        if (is != seq || ret->hver != RING_HVER || ret->pos % 64 != 0 ||
                        ret->len > rx->map.geo.max_rec || (ret->flags & ~RING_FLAGS_ALL) != 0 ||
                        ret->crc != 0 || ret->rsv != 0)
                return -EBADMSG;
        return 0;
}

static void rx_fill(const struct ring_rx *rx, uint64_t seq, const struct ring_desc *d,
                struct ring_msg *ret) {
        *ret = (struct ring_msg){
                        .seq = seq,
                        .src = d->src,
                        .req_id = d->req_id,
                        .t0 = d->t0,
                        .ord = d->ord,
                        .len = d->len,
                        .type = d->type,
                        .flags = d->flags,
                        .strikes = (uint8_t)ring_state_strikes(ring_state_load(rx, seq)),
        };
}

int ring_rx_peek(struct ring_rx *rx, const struct ring_msg **ret) {
        struct ring_desc d;
        int r;

        while (rx->peeked != rx->rd) {
                if (rx->rd == rx->head) {
                        r = rx_look(rx);
                        if (r != 0)
                                return r;
                }
                r = rx_fetch(rx, rx->rd, &d);
                if (r < 0)
                        return r;
                if (rx->pos != UINT64_MAX && d.pos != rx->pos)
                        return -EBADMSG;
                rx->pos = d.pos;
                if (ring_state_of(ring_state_load(rx, rx->rd)) == RING_ACKED) {
                        rx->pos += ring_align(d.len);
                        rx->rd++;
                        continue;
                }
                rx_fill(rx, rx->rd, &d, &rx->msg);
                /* len <= bytes / 4, so that offset + len stays within the two mappings. */
                memcpy(rx->copy, rx->map.data + (d.pos & (rx->map.geo.bytes - 1)), d.len);
                rx->msg.data = rx->copy;
                rx->peeked = rx->rd;
        }
        *ret = &rx->msg;
        return 0;
}

void ring_rx_take(struct ring_rx *rx) {
        uint64_t word = ring_state_load(rx, rx->rd);

        assert(rx->peeked == rx->rd);
        /* I3: whom to blame stands in memory before the handler touches the record. */
        ring_state_store(rx, rx->rd,
                        ring_state_pack(rx->rd, ring_state_emitted(word), ring_state_strikes(word),
                                        RING_CLAIMED));
        ring_rx_active(rx, rx->rd);
        rx->pos += ring_align(rx->msg.len);
        rx->rd++;
        rx->peeked = 0;
}

void ring_rx_active(struct ring_rx *rx, uint64_t seq) {
        atomic_store_explicit(&rx->map.cons->active, seq, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}

void ring_rx_idle(struct ring_rx *rx) {
        atomic_store_explicit(&rx->map.cons->active, 0, memory_order_release);
}

uint64_t ring_rx_struck(const struct ring_rx *rx) {
        for (uint64_t seq = rx->head; seq != rx->first; seq--) {
                uint64_t word = ring_state_load(rx, seq - 1);

                if (ring_state_of(word) == RING_CLAIMED && ring_state_strikes(word) > 0)
                        return seq - 1;
        }
        return 0;
}

void ring_rx_advance(struct ring_rx *rx) {
        while (rx->first != rx->head && ring_state_of(ring_state_load(rx, rx->first)) == RING_ACKED)
                rx->first++;
        /* Recovery acks what was not read in this life: tail may pass rd then, and the producer may
         * reuse what lies below tail. */
        if (ring_seq_before(rx->rd, rx->first)) {
                rx->rd = rx->first;
                rx->pos = UINT64_MAX;
                rx->peeked = 0;
        }
}

void ring_rx_ack(struct ring_rx *rx, uint64_t seq) {
        /* (d): release, so that a kill that leaves the ack leaves the commit before it (I3, I8). */
        ring_state_store(rx, seq, ring_state_pack(seq, 0, 0, RING_ACKED));
        if (seq == rx->first)
                ring_rx_advance(rx);
}

bool ring_rx_is_acked(const struct ring_rx *rx, uint64_t seq) {
        return ring_seq_before(seq, rx->first) ||
               ring_state_of(ring_state_load(rx, seq)) == RING_ACKED;
}

void ring_rx_flush(struct ring_rx *rx, bool force) {
        uint64_t old = rx->tail, tail = rx->first, space_at;

        if (tail == old)
                return;
        /* Lazy only while nobody waits for the space: with long records few of them fill the bytes.
         */
        if (!force && tail - old < rx->map.geo.n / 8 &&
                        atomic_load_explicit(&rx->map.prod->space_at, memory_order_relaxed) == 0)
                return;
        /* SYNC(ring.space): our reads are over before tail moves -> acquire in ring_tx_room(). F3:
         * seq_cst because the load below must not pass it -> ring_tx_may_sleep(). */
        atomic_store_explicit(&rx->map.cons->tail, tail, memory_order_seq_cst);
        rx->tail = tail;
        space_at = atomic_load_explicit(&rx->map.prod->space_at, memory_order_seq_cst);
        if (space_at != 0 && space_at - 1 - old < tail - old) {
                doorbell_owe(rx->owed, rx->space_fd);
                rx->n_doorbells++;
        }
}

bool ring_rx_may_sleep(struct ring_rx *rx) {
        /* I9: a tail held back could be what our producer sleeps on. */
        ring_rx_flush(rx, true);
        /* F4, SYNC(ring.sleep): announce, then look again; either we see the record or the producer
         * sees us -> ring_tx_commit(). */
        atomic_store_explicit(&rx->map.cons->wake_at, rx->rd, memory_order_seq_cst);
        if (atomic_load_explicit(&rx->map.prod->head, memory_order_seq_cst) == rx->rd)
                return true;
        ring_rx_disarm(rx);
        return false;
}

void ring_rx_disarm(struct ring_rx *rx) {
        atomic_store_explicit(&rx->map.cons->wake_at, 0, memory_order_relaxed);
}

int ring_rx_desc(const struct ring_rx *rx, uint64_t seq, struct ring_msg *ret) {
        struct ring_desc d;

        if (seq - rx->tail >= rx->head - rx->tail || rx_fetch(rx, seq, &d) < 0)
                return RING_E_EMPTY;
        rx_fill(rx, seq, &d, ret);
        return 0;
}

uint64_t ring_rx_depth(const struct ring_rx *rx) {
        /* SYNC(ring.publish); an impossible head is left for ring_rx_peek() to refuse. */
        uint64_t head = atomic_load_explicit(&rx->map.prod->head, memory_order_acquire);

        return (rx_head_possible(rx, head) ? head : rx->head) - rx->first;
}

uint32_t ring_rx_emitted(const struct ring_rx *rx, uint64_t seq) {
        return ring_state_emitted(ring_state_load(rx, seq));
}
