/*
 * The other side of a ring writes nonsense: whatever stands in its pages, the only outcomes are
 * right records and -EBADMSG. Run under the address sanitizer this also says that no byte outside
 * is touched.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

static const struct ring_geometry geo = {
                .id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096};

#define RECORD_LEN 100u

/* Bits of a descriptor that the consumer can check against what it knows; the others (type, src,
 * ord, req_id, t0, epoch, a shorter len) are the producer's own word. */
static bool bit_is_checked(size_t byte, unsigned bit) {
        if (byte == offsetof(struct ring_desc, flags))
                return (1u << bit & RING_FLAGS_ALL) == 0;
        return byte < offsetof(struct ring_desc, len) || byte == offsetof(struct ring_desc, hver) ||
               byte >= offsetof(struct ring_desc, crc);
}

START_TEST(each_single_bit_of_a_descriptor_is_refused_or_harmless) {
        struct pair pair = pair_new(geo, 1);
        struct ring_tx tx;
        struct ring_rx rx;
        uint8_t *desc = (uint8_t *)&pair.prod.desc[2];

        ck_assert_int_eq(ring_tx_attach(&tx, &pair.prod, -1), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &pair.cons, -1, false), 0);
        for (uint64_t n = 1; n <= 2; n++)
                ck_assert_int_eq(pair_emit(&tx, n, RECORD_LEN, 0), 0);
        ring_tx_commit(&tx);
        for (size_t bit = 0; bit < 8 * sizeof(struct ring_desc); bit++) {
                const struct ring_msg *msg;
                int r;

                rx.rd = rx.first = rx.tail = 1;
                rx.pos = 0;
                rx.peeked = 0;
                ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
                ring_rx_take(&rx);
                desc[bit / 8] ^= (uint8_t)(1u << bit % 8);
                r = ring_rx_peek(&rx, &msg);
                if (bit_is_checked(bit / 8, bit % 8))
                        ck_assert_int_eq(r, -EBADMSG);
                else if (r == 0)
                        ck_assert_uint_le(msg->len, geo.max_rec);
                desc[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        ring_rx_close(&rx);
        pair_close(&pair);
}
END_TEST

struct storm {
        uint8_t *page;
        size_t bytes;
        _Atomic bool over;
        uint64_t seed;
};

static void flip(struct storm *storm) {
        uint64_t where = pair_random(&storm->seed) % (storm->bytes * 8);

        __atomic_xor_fetch(&storm->page[where / 8], (uint8_t)(1u << where % 8), __ATOMIC_RELAXED);
}

static void *flip_for_ever(void *arg) {
        struct storm *storm = arg;

        while (!atomic_load_explicit(&storm->over, memory_order_relaxed))
                for (int i = 0; i < 64; i++)
                        flip(storm);
        return NULL;
}

/* Reads, takes, acks until the ring is empty or refused. */
static int read_all(struct ring_rx *rx, bool check) {
        for (;;) {
                const struct ring_msg *msg;
                int r = ring_rx_peek(rx, &msg);

                if (r != 0)
                        return r;
                ck_assert_uint_le(msg->len, geo.max_rec);
                ck_assert_uint_eq(msg->seq, rx->rd);
                if (check)
                        ck_assert(pattern_is(msg->data, msg->seq, RECORD_LEN));
                ring_rx_take(rx);
                ring_rx_ack(rx, msg->seq);
                ring_rx_flush(rx, true);
                (void)ring_rx_may_sleep(rx);
                ring_rx_disarm(rx);
        }
}

START_TEST(consumer_survives_random_bits_in_the_producers_object) {
        uint64_t seed = 0x9e3779b97f4a7c15;

        for (int round = 0; round < 300; round++) {
                struct pair pair = pair_new(geo, 1);
                struct ring_tx tx;
                struct ring_rx rx;
                struct storm storm = {.page = (uint8_t *)pair.prod.prod,
                                .bytes = LAYOUT_PAGE + geo.n * sizeof(struct ring_desc),
                                .seed = pair_random(&seed)};
                int r;

                ck_assert_int_eq(ring_tx_attach(&tx, &pair.prod, -1), 0);
                for (uint64_t n = 1; n <= 4; n++)
                        ck_assert_int_eq(pair_emit(&tx, n, RECORD_LEN, 0), 0);
                ring_tx_commit(&tx);
                for (int i = 0; i <= round; i++)
                        flip(&storm);
                r = ring_rx_attach(&rx, &pair.cons, -1, round % 2);
                ck_assert(r == 0 || r == -EBADMSG);
                if (r == 0) {
                        r = read_all(&rx, false);
                        ck_assert(r == RING_E_EMPTY || r == -EBADMSG);
                        ring_rx_close(&rx);
                }
                pair_close(&pair);
        }
}
END_TEST

START_TEST(consumer_survives_a_producers_object_that_changes_all_the_time) {
        struct pair pair = pair_new(geo, 1);
        struct storm storm = {.page = (uint8_t *)pair.prod.prod,
                        .bytes = LAYOUT_PAGE + geo.n * sizeof(struct ring_desc) + geo.bytes,
                        .seed = 42};
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, flip_for_ever, &storm), 0);
        for (uint64_t round = 0; round < 3000; round++) {
                struct ring_tx tx;
                struct ring_rx rx;
                int r;

                /* What a consumer finds that attaches again: fresh cursors, records in between. */
                atomic_store_explicit(&pair.prod.prod->head, 1, memory_order_relaxed);
                atomic_store_explicit(&pair.cons.cons->tail, 1, memory_order_relaxed);
                memset(pair.cons.cons->state, 0, geo.n * sizeof(mr_au64));
                if (ring_rx_attach(&rx, &pair.cons, -1, round % 2) < 0)
                        continue;
                if (ring_tx_attach(&tx, &pair.prod, -1) == 0) {
                        for (uint64_t n = 1; n <= 4; n++)
                                (void)pair_emit(&tx, n, RECORD_LEN, 0);
                        ring_tx_commit(&tx);
                }
                r = read_all(&rx, false);
                ck_assert(r == RING_E_EMPTY || r == -EBADMSG);
                ring_rx_close(&rx);
        }
        atomic_store_explicit(&storm.over, true, memory_order_relaxed);
        pthread_join(thread, NULL);
        pair_close(&pair);
}
END_TEST

START_TEST(producer_survives_any_tail_and_its_records_stay_right) {
        uint64_t seed = 7;
        int n_refused = 0;

        for (int round = 0; round < 2000; round++) {
                struct pair pair = pair_new(geo, 1);
                struct ring_tx tx;
                struct ring_rx rx;
                int r = 0;

                ck_assert_int_eq(ring_tx_attach(&tx, &pair.prod, -1), 0);
                ck_assert_int_eq(ring_rx_attach(&rx, &pair.cons, -1, false), 0);
                for (uint64_t n = 1; r == 0; n++) {
                        uint64_t tail = pair_random(&seed) >> pair_random(&seed) % 64;

                        if (n % 4 == 0)
                                atomic_store_explicit(
                                                &pair.cons.cons->tail, tail, memory_order_relaxed);
                        r = pair_emit(&tx, n, RECORD_LEN, 0);
                        ring_tx_commit(&tx);
                        ck_assert_uint_le(tx.next - tx.tail, geo.n - geo.max_batch);
                        ck_assert_uint_le(ring_tx_depth(&tx), geo.n);
                        if (r == RING_E_FULL)
                                (void)ring_tx_may_sleep(&tx, 1, RECORD_LEN);
                }
                ck_assert(r == RING_E_FULL || r == -EBADMSG);
                n_refused += r == -EBADMSG;
                /* Nobody else's memory decides what we wrote. */
                if (tx.committed <= geo.n) {
                        rx.tail = rx.first = rx.rd = 1;
                        ck_assert_int_eq(read_all(&rx, true), RING_E_EMPTY);
                }
                ring_rx_close(&rx);
                pair_close(&pair);
        }
        ck_assert_int_gt(n_refused, 1000);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("ring, hostile");
        TCase *hostile = tcase_create("hostile");
        SRunner *runner;
        int failed;

        tcase_set_timeout(hostile, 120);
        tcase_add_test(hostile, each_single_bit_of_a_descriptor_is_refused_or_harmless);
        tcase_add_test(hostile, consumer_survives_random_bits_in_the_producers_object);
        tcase_add_test(hostile, consumer_survives_a_producers_object_that_changes_all_the_time);
        tcase_add_test(hostile, producer_survives_any_tail_and_its_records_stay_right);
        suite_add_tcase(suite, hostile);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
