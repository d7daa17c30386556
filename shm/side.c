#include "shm/side.h"

#include <errno.h>
#include <string.h>

static_assert((SIDE_N & (SIDE_N - 1)) == 0, "entry numbers are masked");

uint64_t side_bytes(void) {
        return layout_align(sizeof(struct side_shm), LAYOUT_PAGE);
}

void side_format(struct side_shm *shm) {
        atomic_store_explicit(&shm->head, 1, memory_order_relaxed);
        shm->layout = layout_hash();
        shm->magic = MAGIC_SIDE;
}

int side_check(const struct side_shm *shm, uint64_t map_bytes) {
        if (map_bytes < sizeof(*shm) || shm->magic != MAGIC_SIDE || shm->layout != layout_hash())
                return -EPROTO;
        return 0;
}

void side_write(struct side_shm *shm, enum side_kind kind, const void *bytes, uint32_t len) {
        uint64_t n = atomic_load_explicit(&shm->head, memory_order_relaxed);
        struct side_slot *slot = &shm->slot[n & (SIDE_N - 1)];

        if (len > sizeof(slot->bytes))
                len = sizeof(slot->bytes);
        /* SYNC(side.slot): a reader that sees any of the new bytes sees that they are not its
         * entry's
         * -> side_read(). */
        atomic_store_explicit(&slot->seq, 0, memory_order_release);
        layout_seqlock_fence();
        slot->len = len;
        slot->kind = kind;
        memcpy(slot->bytes, bytes, len);
        atomic_store_explicit(&slot->seq, n, memory_order_release);
        atomic_store_explicit(&shm->head, n + 1, memory_order_release);
}

/* The entry just behind the writer is being overwritten soonest: it counts as lost already. */
static uint64_t oldest_kept(uint64_t head) {
        return head > SIDE_N ? head - SIDE_N + 1 : 1;
}

int side_read(const struct side_shm *shm, uint64_t *cursor, void *to, uint32_t cap,
                uint32_t *ret_len, enum side_kind *ret_kind) {
        /* SYNC(side.slot) */
        uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire);
        const struct side_slot *slot;
        uint32_t len, kind;
        uint64_t before, after;

        if (*cursor == 0)
                *cursor = oldest_kept(head);
        if (*cursor >= head)
                return SIDE_E_EMPTY;
        if (*cursor < oldest_kept(head)) {
                *cursor = oldest_kept(head);
                return SIDE_E_LOST;
        }
        slot = &shm->slot[*cursor & (SIDE_N - 1)];
        before = atomic_load_explicit(&slot->seq, memory_order_acquire);
        len = slot->len;
        kind = slot->kind;
        /* One fetch: the writer may change them after any check. */
        atomic_signal_fence(memory_order_seq_cst);
        if (len > sizeof(slot->bytes))
                len = sizeof(slot->bytes);
        if (len > cap)
                len = cap;
        memcpy(to, slot->bytes, len);
        layout_seqlock_fence();
        after = atomic_load_explicit(&slot->seq, memory_order_relaxed);
        if (before != *cursor || after != *cursor) {
                head = atomic_load_explicit(&shm->head, memory_order_acquire);
                *cursor = *cursor < oldest_kept(head) ? oldest_kept(head) : *cursor + 1;
                return SIDE_E_LOST;
        }
        *cursor += 1;
        *ret_len = len;
        *ret_kind = (enum side_kind)kind;
        return 0;
}
