/*
 * One ring between two threads, both of which sleep whenever they can: no record may be lost,
 * doubled, torn or slept on. Built a second time under ThreadSanitizer.
 *
 * Both threads use one mapping of each object, because ThreadSanitizer knows memory by its address.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "pair.h"

#define RECORDS 200000u

struct run {
        struct pair pair;
        struct ring_map map;
        _Atomic bool failed;
        uint64_t n_sleeps[2];
};

/* Sets the flag instead of ending the thread: Check ends tests in the main thread only. */
#define EXPECT(run, condition)                                                                     \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
                        atomic_store_explicit(&(run)->failed, true, memory_order_relaxed);         \
                        return;                                                                    \
                }                                                                                  \
        } while (0)

static bool failed(struct run *run) {
        return atomic_load_explicit(&run->failed, memory_order_relaxed);
}

static uint32_t len_of(uint64_t n, uint32_t max) {
        return (uint32_t)(n * 2654435761u >> 7) % (n % 16 == 0 ? max : 200);
}

static void produce(struct run *run) {
        struct ring_tx tx;
        uint64_t n = 1, rnd = 0x1234567;

        EXPECT(run, ring_tx_attach(&tx, &run->map, run->pair.bell_cons) == 0);
        while (n <= RECORDS && !failed(run)) {
                uint32_t batch = 1 + (uint32_t)(pair_random(&rnd) % tx.map.geo.max_batch);
                uint32_t len = len_of(n, tx.map.geo.max_rec);
                int r = 0;

                for (uint32_t i = 0; i < batch && n <= RECORDS; i++) {
                        len = len_of(n, tx.map.geo.max_rec);
                        r = pair_emit(&tx, n, len, 0);
                        if (r != 0)
                                break;
                        n++;
                }
                EXPECT(run, r == 0 || r == RING_E_FULL);
                ring_tx_commit(&tx);
                if (r != RING_E_FULL || !ring_tx_may_sleep(&tx, 1, len))
                        continue;
                run->n_sleeps[0]++;
                EXPECT(run, bell_wait(run->pair.bell_prod));
                ring_tx_disarm(&tx);
        }
}

static void consume(struct run *run) {
        struct ring_rx rx;
        uint64_t n = 1, held = 0;

        EXPECT(run, ring_rx_attach(&rx, &run->map, run->pair.bell_prod, false) == 0);
        while (n <= RECORDS && !failed(run)) {
                const struct ring_msg *msg;
                int r = ring_rx_peek(&rx, &msg);

                if (r == 0) {
                        EXPECT(run, msg->req_id == n && msg->len == len_of(n, rx.map.geo.max_rec));
                        EXPECT(run, pattern_is(msg->data, n, msg->len));
                        ring_rx_take(&rx);
                        if (held == 0 && n % 5 == 0) {
                                held = msg->seq;
                        } else {
                                ring_rx_ack(&rx, msg->seq);
                                if (held != 0)
                                        ring_rx_ack(&rx, held);
                                held = 0;
                        }
                        ring_rx_flush(&rx, false);
                        n++;
                        continue;
                }
                EXPECT(run, r == RING_E_EMPTY);
                if (held != 0)
                        ring_rx_ack(&rx, held);
                held = 0;
                if (!ring_rx_may_sleep(&rx))
                        continue;
                run->n_sleeps[1]++;
                EXPECT(run, bell_wait(run->pair.bell_cons));
                ring_rx_disarm(&rx);
        }
        ring_rx_close(&rx);
}

static void *produce_thread(void *arg) {
        produce(arg);
        return NULL;
}

static void run_both(struct ring_geometry geo, uint64_t start) {
        struct run run = {.pair = pair_new(geo, start)};
        pthread_t thread;

        run.map = run.pair.prod;
        run.map.cons = run.pair.cons.cons;
        ck_assert_int_eq(pthread_create(&thread, NULL, produce_thread, &run), 0);
        consume(&run);
        pthread_join(thread, NULL);
        ck_assert(!failed(&run));
        /* A run in which nobody slept says nothing about bells. */
        ck_assert_uint_gt(run.n_sleeps[0] + run.n_sleeps[1], 0);
        pair_close(&run.pair);
}

START_TEST(records_pass_through_a_ring_of_ordinary_shape) {
        const struct ring_geometry geo = {
                        .id = 1, .n = 256, .max_batch = 32, .max_rec = 4096, .bytes = 65536};

        run_both(geo, 1);
}
END_TEST

START_TEST(records_pass_through_a_ring_where_both_sides_mostly_sleep) {
        const struct ring_geometry geo = {
                        .id = 1, .n = 4, .max_batch = 2, .max_rec = 1024, .bytes = 4096};

        run_both(geo, (UINT64_C(1) << 32) - RECORDS / 2);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("ring threads");
        TCase *threads = tcase_create("threads");
        SRunner *runner;
        int n_failed;

        tcase_set_timeout(threads, 300);
        tcase_add_test(threads, records_pass_through_a_ring_of_ordinary_shape);
        tcase_add_test(threads, records_pass_through_a_ring_where_both_sides_mostly_sleep);
        suite_add_tcase(suite, threads);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed != 0;
}
