/*
 * The ring over many laps, with both sides in one process: random lengths, batches and orders of
 * acks, at the sizes and numbers where arithmetic goes wrong. Every byte is checked.
 */
#include <check.h>
#include <stdlib.h>

#include "pair.h"

static struct pair pair;
static struct ring_tx tx;
static struct ring_rx rx;

/* Takes the next record, which must be number n. */
static void take(uint64_t n, uint32_t len) {
        const struct ring_msg *msg;

        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->req_id, n);
        ck_assert_uint_eq(msg->len, len);
        ck_assert(pattern_is(msg->data, n, len));
        ring_rx_take(&rx);
}

static void run_laps(struct ring_geometry geo, uint64_t start, uint32_t total, const uint32_t *lens,
                uint32_t n_lens) {
        uint64_t in = 1, out = 1, rnd = 88172645463325252u, held = 0;
        uint32_t *len_of;
        uint8_t *unused;

        len_of = calloc(total + 1, sizeof(*len_of));
        ck_assert_ptr_nonnull(len_of);
        pair = pair_new(geo, start);
        ck_assert_int_eq(ring_tx_attach(&tx, &pair.prod, pair.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &pair.cons, pair.bell_prod, false), 0);
        while (out <= total) {
                const struct ring_msg *msg;

                while (in <= total) {
                        uint32_t len = lens[pair_random(&rnd) % n_lens];
                        int r = ring_tx_begin(&tx, len, &unused);

                        if (r == RING_E_FULL || (r == RING_E_BATCH && pair_random(&rnd) % 2))
                                break;
                        if (r == RING_E_BATCH) {
                                ring_tx_commit(&tx);
                                continue;
                        }
                        ck_assert_int_eq(pair_emit(&tx, in, len, 0), 0);
                        len_of[in++] = len;
                }
                ring_tx_commit(&tx);
                ck_assert_uint_le(ring_tx_depth(&tx), geo.n - geo.max_batch);
                while (ring_rx_peek(&rx, &msg) == 0) {
                        ck_assert_uint_eq(msg->seq, start + out - 1);
                        take(out, len_of[out]);
                        out++;
                        /* One is held back while the next is acked. */
                        if (held == 0 && pair_random(&rnd) % 3 == 0) {
                                held = msg->seq;
                                continue;
                        }
                        ring_rx_ack(&rx, msg->seq);
                        if (held != 0)
                                ring_rx_ack(&rx, held);
                        held = 0;
                        ring_rx_flush(&rx, false);
                }
                if (held != 0)
                        ring_rx_ack(&rx, held);
                held = 0;
                ring_rx_flush(&rx, true);
        }
        ck_assert_uint_eq(word_of(&pair.cons.cons->tail), start + total);
        ring_rx_close(&rx);
        pair_close(&pair);
        free(len_of);
}

START_TEST(bytes_survive_many_laps_at_the_edges_of_pages) {
        const struct ring_geometry geo = {
                        .id = 1, .n = 64, .max_batch = 8, .max_rec = 8192, .bytes = 32768};
        const uint32_t lens[] = {4095, 4096, 4097, 0, 1, 63, 64, 65, 8192, 8191, 333};

        run_laps(geo, 1, 20000, lens, sizeof(lens) / sizeof(lens[0]));
}
END_TEST

START_TEST(smallest_rings_work) {
        const uint32_t lens[] = {0, 1, 64, 1024, 65};
        const struct ring_geometry geo = {.id = 1,
                        .n = _i == 0 ? 2 : 4,
                        .max_batch = _i == 0 ? 1 : 2,
                        .max_rec = 1024,
                        .bytes = 4096};

        run_laps(geo, 1, 5000, lens, 5);
}
END_TEST

START_TEST(sequence_numbers_cross_every_boundary) {
        const uint64_t starts[] = {(UINT64_C(1) << 32) - 700, (UINT64_C(1) << 63) - 700,
                        (UINT64_C(1) << 31) - 700, (UINT64_C(1) << 56) - 700};
        const struct ring_geometry geo = {
                        .id = 1, .n = 4, .max_batch = 2, .max_rec = 1024, .bytes = 4096};
        const uint32_t lens[] = {0, 100, 1000};

        run_laps(geo, starts[_i], 3000, lens, 3);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("ring laps");
        TCase *laps = tcase_create("laps");
        SRunner *runner;
        int failed;

        tcase_set_timeout(laps, 60);
        tcase_add_test(laps, bytes_survive_many_laps_at_the_edges_of_pages);
        tcase_add_loop_test(laps, smallest_rings_work, 0, 2);
        tcase_add_loop_test(laps, sequence_numbers_cross_every_boundary, 0, 4);
        suite_add_tcase(suite, laps);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
