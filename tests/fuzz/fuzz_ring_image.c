/*
 * Fuzzer of what the other side of a ring can write: the image of the producer's object as a
 * consumer meets it, and the sequence of words that a hostile consumer shows a producer.
 *
 * Input: one byte of choices, then for a consumer the image (header words, descriptors, payload),
 * for a producer eight bytes for each look at tail.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct ring_geometry geo = {
                .id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096};

/* A ring in plain memory: the second half of its bytes is no alias here, which only matters to what
 * the records say. Everything is of exact size, so that the address sanitizer sees a byte too many.
 */
static struct ring_map map_new(void) {
        struct ring_map map = {
                        .geo = geo,
                        .prod = aligned_alloc(LAYOUT_SEPARATION, sizeof(struct ring_prod_shm)),
                        .desc = aligned_alloc(64, geo.n * sizeof(struct ring_desc)),
                        .data = malloc(2 * geo.bytes),
                        .cons = aligned_alloc(LAYOUT_SEPARATION, ring_cons_bytes(&geo)),
        };

        if (!map.prod || !map.desc || !map.data || !map.cons)
                abort();
        memset(map.prod, 0, sizeof(*map.prod));
        memset(map.desc, 0, geo.n * sizeof(*map.desc));
        memset(map.data, 0, 2 * geo.bytes);
        memset(map.cons, 0, ring_cons_bytes(&geo));
        ring_prod_format(map.prod);
        ring_cons_format(map.cons);
        return map;
}

static void map_free(struct ring_map *map) {
        free(map->prod);
        free(map->desc);
        free(map->data);
        free(map->cons);
}

static void overlay(void *to, size_t to_size, const uint8_t **data, size_t *size) {
        size_t n = *size < to_size ? *size : to_size;

        memcpy(to, *data, n);
        *data += n;
        *size -= n;
}

static void consume(struct ring_map *map, bool blame) {
        struct ring_rx rx;
        const struct ring_msg *msg;
        struct ring_msg ahead;
        uint64_t seq = 0;
        int r = ring_rx_attach(&rx, map, -1, blame);

        assert(r == 0 || r == -EBADMSG);
        if (r < 0)
                return;
        for (uint64_t s = rx.tail; s != rx.head; s++)
                (void)ring_rx_desc(&rx, s, &ahead);
        while ((r = ring_rx_peek(&rx, &msg)) == 0) {
                volatile uint8_t sum = 0;

                assert(msg->seq > seq && msg->len <= geo.max_rec);
                seq = msg->seq;
                for (uint32_t i = 0; i < msg->len; i++)
                        sum = (uint8_t)(sum + msg->data[i]);
                ring_rx_take(&rx);
                if (seq % 3 != 0)
                        ring_rx_ack(&rx, seq);
                ring_rx_flush(&rx, false);
        }
        assert(r == RING_E_EMPTY || r == -EBADMSG);
        (void)ring_rx_may_sleep(&rx);
        (void)ring_rx_depth(&rx);
        ring_rx_close(&rx);
}

static void produce(struct ring_map *map, const uint8_t *data, size_t size) {
        const struct ring_meta meta = {.type = 1};
        struct ring_tx tx;
        int r = ring_tx_attach(&tx, map, -1);

        assert(r == 0);
        while (size >= 8) {
                uint64_t tail;
                uint8_t *to;

                memcpy(&tail, data, 8);
                atomic_store_explicit(&map->cons->tail, tail, memory_order_relaxed);
                atomic_store_explicit(&map->cons->wake_at, tail >> 1, memory_order_relaxed);
                r = ring_tx_begin(&tx, tail % (geo.max_rec + 2), &to);
                assert(r == 0 || r == RING_E_FULL || r == RING_E_TOO_LARGE || r == RING_E_BATCH ||
                                r == -EBADMSG);
                if (r == 0) {
                        memset(to, 0xaa, tail % (geo.max_rec + 2));
                        ring_tx_end(&tx, &meta, (uint32_t)(tail % (geo.max_rec + 2)));
                }
                if (r != 0 || tail % 2 == 0)
                        ring_tx_commit(&tx);
                if (r == RING_E_FULL)
                        (void)ring_tx_may_sleep(&tx, 1, geo.max_rec);
                /* What the consumer claims never lets us overwrite what it could still read. */
                assert(tx.next - tx.tail <= geo.n - geo.max_batch);
                assert(ring_tx_depth(&tx) <= geo.n);
                if (r == -EBADMSG)
                        return;
                data += 8;
                size -= 8;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct ring_map map;
        uint8_t choice;

        if (size == 0)
                return 0;
        choice = *data++;
        size--;
        map = map_new();
        if (choice & 1) {
                produce(&map, data, size);
        } else {
                overlay(map.prod, sizeof(*map.prod), &data, &size);
                overlay(map.desc, geo.n * sizeof(*map.desc), &data, &size);
                overlay(map.data, 2 * geo.bytes, &data, &size);
                consume(&map, choice & 2);
        }
        map_free(&map);
        return 0;
}
