/*
 * Sizes and formats of a ring, attach of either side, and the recovery of a stage that acks in
 * place.
 */
#include "shm/ring.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/ring_state.h"

#define RING_N_MAX (1u << 24)
#define RING_BYTES_LIMIT (UINT64_C(1) << 36)
#define RING_SEQ56 UINT64_C(0x00ffffffffffffff)

static bool power_of_two(uint64_t n) {
        return n != 0 && (n & (n - 1)) == 0;
}

int ring_geometry_check(const struct ring_geometry *geo) {
        if (geo->id < 1 || geo->id > 255)
                return -EINVAL;
        if (!power_of_two(geo->n) || geo->n > RING_N_MAX || geo->max_batch < 1 ||
                        geo->max_batch > RING_N_MAX || geo->bound > RING_N_MAX)
                return -EINVAL;
        /* I8: the descriptors of the newest batch are never overwritten by uncommitted ones. */
        if (geo->n < geo->bound + 2 * geo->max_batch)
                return -EINVAL;
        if (!power_of_two(geo->bytes) || geo->bytes % LAYOUT_PAGE != 0 ||
                        geo->bytes > RING_BYTES_LIMIT)
                return -EINVAL;
        if (geo->max_rec < 1 || geo->max_rec > geo->bytes / 4)
                return -EINVAL;
        return 0;
}

uint64_t ring_prod_bytes(const struct ring_geometry *geo) {
        return LAYOUT_PAGE +
               layout_align((uint64_t)geo->n * sizeof(struct ring_desc), LAYOUT_PAGE) + geo->bytes;
}

uint64_t ring_cons_bytes(const struct ring_geometry *geo) {
        return layout_align(sizeof(struct ring_cons_shm) + (uint64_t)geo->n * sizeof(mr_au64),
                        LAYOUT_PAGE);
}

void ring_prod_format(struct ring_prod_shm *prod) {
        atomic_store_explicit(&prod->head, 1, memory_order_relaxed);
}

void ring_cons_format(struct ring_cons_shm *cons) {
        atomic_store_explicit(&cons->tail, 1, memory_order_relaxed);
}

/* Our own descriptors say where the next payload goes; one that is not what it must be means that
 * our memory was stomped on. */
static int tx_derive_pos(struct ring_tx *tx) {
        const struct ring_desc *last = ring_desc_at(&tx->map, tx->committed - 1);
        const struct ring_desc *oldest = ring_desc_at(&tx->map, tx->tail);

        if (tx->committed == 1)
                return 0;
        if (atomic_load_explicit(&last->seq, memory_order_relaxed) != tx->committed - 1 ||
                        last->pos % 64 != 0 || last->len > tx->map.geo.max_rec)
                return -EBADMSG;
        if (tx->tail != tx->committed &&
                        atomic_load_explicit(&oldest->seq, memory_order_relaxed) != tx->tail)
                return -EBADMSG;
        tx->pos = last->pos + ring_align(last->len);
        return 0;
}

int ring_tx_attach(struct ring_tx *tx, const struct ring_map *map, int wake_fd) {
        uint64_t head = atomic_load_explicit(&map->prod->head, memory_order_relaxed);
        /* SYNC(ring.space) */
        uint64_t tail = atomic_load_explicit(&map->cons->tail, memory_order_acquire);
        int r;

        if (head == 0 || tail == 0 || head - tail > map->geo.n)
                return -EBADMSG;
        /* I6: every private variable comes from shared words. */
        *tx = (struct ring_tx){
                        .map = *map,
                        .wake_fd = wake_fd,
                        .next = head,
                        .committed = head,
                        .tail = tail,
                        .epoch = atomic_load_explicit(&map->prod->epoch, memory_order_relaxed) + 1,
        };
        r = tx_derive_pos(tx);
        if (r < 0)
                return r;
        ring_tx_disarm(tx);
        atomic_store_explicit(&map->prod->epoch, tx->epoch, memory_order_release);
        return 0;
}

/* `active` names the record that the dead incarnation had at hand. It is cleared first: a crash in
 * recovery itself must not strike the record again. */
static void rx_blame(struct ring_rx *rx, bool blame) {
        uint64_t seq = atomic_load_explicit(&rx->map.cons->active, memory_order_relaxed);
        uint64_t word = ring_state_load(rx, seq);
        uint32_t strikes = ring_state_strikes(word);

        ring_rx_idle(rx);
        if (!blame || seq - rx->tail >= rx->head - rx->tail || ring_state_of(word) == RING_ACKED)
                return;
        strikes += strikes < RING_STRIKES_MAX;
        ring_state_store(rx, seq,
                        ring_state_pack(seq, ring_state_emitted(word), strikes, RING_CLAIMED));
}

int ring_rx_attach(struct ring_rx *rx, const struct ring_map *map, int space_fd, bool blame) {
        uint64_t tail = atomic_load_explicit(&map->cons->tail, memory_order_relaxed);
        /* SYNC(ring.publish) */
        uint64_t head = atomic_load_explicit(&map->prod->head, memory_order_acquire);
        uint8_t *copy;

        if (head == 0 || tail == 0 || head - tail > map->geo.n)
                return -EBADMSG;
        copy = malloc(map->geo.max_rec);
        if (!copy)
                return -ENOMEM;
        /* I6 */
        *rx = (struct ring_rx){
                        .map = *map,
                        .space_fd = space_fd,
                        .rd = tail,
                        .head = head,
                        .pos = UINT64_MAX,
                        .first = tail,
                        .tail = tail,
                        .epoch = atomic_load_explicit(&map->cons->epoch, memory_order_relaxed) + 1,
                        .copy = copy,
                        .high_water = head - tail,
        };
        rx_blame(rx, blame);
        ring_rx_advance(rx);
        ring_rx_disarm(rx);
        atomic_store_explicit(&map->cons->epoch, rx->epoch, memory_order_release);
        return 0;
}

void ring_rx_close(struct ring_rx *rx) {
        if (!rx)
                return;
        free(rx->copy);
        rx->copy = NULL;
}

/* The input that a descriptor of ours names, when it is still in [tail, head) of rx. Below tail it
 * was acked long ago, and its state word may belong to a newer record already. */
static bool recover_input(const struct ring_rx *rx, uint64_t src, uint64_t *ret_seq) {
        uint64_t ahead;

        if (src >> 56 != rx->map.geo.id)
                return false;
        ahead = (src - rx->tail) & RING_SEQ56;
        if (ahead >= rx->head - rx->tail)
                return false;
        *ret_seq = rx->tail + ahead;
        return true;
}

void ring_recover(struct ring_tx *tx, struct ring_rx *rx) {
        uint64_t back = tx->committed - 1;

        /* I8: the batch that may be committed and unacked is the newest, and at most max_batch
         * long. */
        if (back > tx->map.geo.max_batch)
                back = tx->map.geo.max_batch;
        for (uint64_t s = tx->committed - back; s != tx->committed; s++) {
                const struct ring_desc *d = ring_desc_at(&tx->map, s);
                uint64_t seq, word;
                uint32_t emitted;

                /* SYNC(ring.desc): another seq: being overwritten, so not of the newest batch. */
                if (atomic_load_explicit(&d->seq, memory_order_relaxed) != s)
                        continue;
                if (!recover_input(rx, d->src, &seq))
                        continue;
                word = ring_state_load(rx, seq);
                if (ring_state_of(word) == RING_ACKED)
                        continue;
                if ((d->flags & RING_LAST) != 0) {
                        ring_state_store(rx, seq, ring_state_pack(seq, 0, 0, RING_ACKED));
                        continue;
                }
                emitted = d->ord < RING_EMITTED_MAX ? d->ord + 1 : RING_EMITTED_MAX;
                if (emitted > ring_state_emitted(word))
                        ring_state_store(rx, seq,
                                        ring_state_pack(seq, emitted, ring_state_strikes(word),
                                                        ring_state_of(word)));
        }
        ring_rx_advance(rx);
}
