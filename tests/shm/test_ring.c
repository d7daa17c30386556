/*
 * The ring with both sides in one process: what it refuses, then what it does.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

static const struct ring_geometry small = {
                .id = 7, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096, .bound = 8};

static struct pair pair;
static struct ring_tx tx;
static struct ring_rx rx;

static void attach(struct ring_geometry geo, uint64_t start) {
        pair = pair_new(geo, start);
        ck_assert_int_eq(ring_tx_attach(&tx, &pair.prod, pair.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &pair.cons, pair.bell_prod, false), 0);
}

static void setup(void) {
        attach(small, 1);
}

static void teardown(void) {
        ring_rx_close(&rx);
        pair_close(&pair);
}

static void publish(uint64_t first, uint32_t n, uint32_t len) {
        for (uint32_t i = 0; i < n; i++)
                ck_assert_int_eq(pair_emit(&tx, first + i, len, 0), 0);
        ring_tx_commit(&tx);
}

/* Takes the next record, which must be number n. */
static uint64_t take(uint64_t n, uint32_t len) {
        const struct ring_msg *msg;

        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->req_id, n);
        ck_assert_uint_eq(msg->len, len);
        ck_assert(pattern_is(msg->data, n, len));
        ring_rx_take(&rx);
        return msg->seq;
}

static uint64_t shared_tail(void) {
        return atomic_load_explicit(&pair.prod.cons->tail, memory_order_relaxed);
}

static void set(mr_au64 *word, uint64_t value) {
        atomic_store_explicit(word, value, memory_order_relaxed);
}

/* ---- refusals ---- */

START_TEST(geometry_that_breaks_a_limit_is_refused) {
        const struct ring_geometry bad[] = {
                        {.id = 0, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                        {.id = 256, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                        {.id = 1, .n = 12, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                        {.id = 1, .n = 0, .max_batch = 0, .max_rec = 1024, .bytes = 4096},
                        {.id = 1, .n = 16, .max_batch = 0, .max_rec = 1024, .bytes = 4096},
                        {.id = 1, .n = 4, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                        {.id = 1, .n = 16, .max_batch = UINT32_MAX, .max_rec = 1024, .bytes = 4096},
                        {.id = 1,
                                        .n = 16,
                                        .max_batch = 4,
                                        .max_rec = 1024,
                                        .bytes = 4096,
                                        .bound = 9},
                        {.id = 1, .n = 16, .max_batch = 4, .max_rec = 256, .bytes = 2048},
                        {.id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 12288},
                        {.id = 1, .n = 16, .max_batch = 4, .max_rec = 1025, .bytes = 4096},
                        {.id = 1, .n = 16, .max_batch = 4, .max_rec = 0, .bytes = 4096},
        };

        ck_assert_int_eq(ring_geometry_check(&small), 0);
        ck_assert_int_eq(ring_geometry_check(&bad[_i]), -EINVAL);
        ck_assert_uint_eq(sizeof(bad) / sizeof(bad[0]), 12);
}
END_TEST

START_TEST(producer_refuses_to_attach_to_an_impossible_tail_or_head) {
        const uint64_t bad[][2] = {{0, 1}, {1, 0}, {5, 6}, {20, 3}};
        struct ring_tx other;

        set(&pair.prod.prod->head, bad[_i][0]);
        set(&pair.cons.cons->tail, bad[_i][1]);
        ck_assert_int_eq(ring_tx_attach(&other, &pair.prod, -1), -EBADMSG);
}
END_TEST

START_TEST(producer_refuses_to_attach_to_descriptors_that_are_not_its_own) {
        struct ring_tx other;

        publish(1, 3, 10);
        set(&pair.prod.desc[3 & 15].seq, 19);
        ck_assert_int_eq(ring_tx_attach(&other, &pair.prod, -1), -EBADMSG);
        set(&pair.prod.desc[3 & 15].seq, 3);
        ck_assert_int_eq(ring_tx_attach(&other, &pair.prod, -1), 0);
        set(&pair.prod.desc[1 & 15].seq, 0);
        ck_assert_int_eq(ring_tx_attach(&other, &pair.prod, -1), -EBADMSG);
}
END_TEST

START_TEST(consumer_refuses_to_attach_to_an_impossible_tail_or_head) {
        const uint64_t bad[][2] = {{0, 1}, {1, 0}, {5, 6}, {20, 3}};
        struct ring_rx other;

        set(&pair.prod.prod->head, bad[_i][0]);
        set(&pair.cons.cons->tail, bad[_i][1]);
        ck_assert_int_eq(ring_rx_attach(&other, &pair.cons, -1, false), -EBADMSG);
}
END_TEST

/* Fills the ring, so that the producer must look at tail. */
static void fill_by_records(void) {
        for (uint64_t n = 1; n <= 12; n += 4)
                publish(n, 4, 1);
}

START_TEST(producer_refuses_a_tail_beyond_its_head) {
        fill_by_records();
        set(&pair.cons.cons->tail, 14);
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), -EBADMSG);
}
END_TEST

START_TEST(producer_refuses_a_tail_that_goes_back) {
        fill_by_records();
        set(&pair.cons.cons->tail, 5);
        ck_assert_uint_eq(ring_tx_depth(&tx), 8);
        publish(13, 4, 1);
        set(&pair.cons.cons->tail, 4);
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), -EBADMSG);
}
END_TEST

START_TEST(consumer_refuses_a_head_further_than_the_ring_is_long) {
        const struct ring_msg *msg;

        publish(1, 3, 8); /* what is there looks right */
        set(&pair.prod.prod->head, 1 + 17);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), -EBADMSG);
}
END_TEST

START_TEST(consumer_refuses_a_head_that_goes_back) {
        const struct ring_msg *msg;

        publish(1, 3, 8);
        for (uint64_t n = 1; n <= 3; n++)
                take(n, 8);
        ck_assert_int_eq(pair_emit(&tx, 4, 8, 0), 0); /* a descriptor that looks right */
        set(&pair.prod.prod->head, 3);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), -EBADMSG);
        ck_assert(!ring_rx_may_sleep(&rx));
}
END_TEST

static void spoil(struct ring_desc *d, int how) {
        switch (how) {
        case 0:
                set(&d->seq, RING_SEQ_INVALID);
                break;
        case 1:
                set(&d->seq, 2 + 16);
                break;
        case 2:
                d->hver = RING_HVER + 1;
                break;
        case 3:
                d->pos += 8;
                break;
        case 4:
                d->pos += 64;
                break;
        case 5:
                d->len = small.max_rec + 1;
                break;
        case 6:
                d->len = UINT32_MAX;
                break;
        case 7:
                d->flags = 8;
                break;
        case 8:
                d->crc = 1;
                break;
        case 9:
                d->rsv = 1;
                break;
        default:
                ck_abort_msg("no such spoil");
        }
}

START_TEST(consumer_refuses_a_descriptor_that_breaks_a_rule) {
        const struct ring_msg *msg;

        publish(1, 3, 100);
        take(1, 100);
        spoil(&pair.prod.desc[2], _i);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), -EBADMSG);
        /* It stays refused: nothing is skipped. */
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), -EBADMSG);
        ck_assert_uint_eq(rx.rd, 2);
}
END_TEST

START_TEST(record_over_the_limit_is_too_large_for_ever) {
        uint8_t *to;

        ck_assert_int_eq(ring_tx_begin(&tx, 1025, &to), RING_E_TOO_LARGE);
        ck_assert_int_eq(ring_tx_begin(&tx, UINT64_MAX, &to), RING_E_TOO_LARGE);
        ck_assert_int_eq(ring_tx_room(&tx, 1, UINT64_MAX), RING_E_TOO_LARGE);
        ck_assert_int_eq(ring_tx_begin(&tx, 1024, &to), 0);
}
END_TEST

START_TEST(batch_holds_max_batch_records) {
        uint8_t *to;

        ck_assert_int_eq(ring_tx_room(&tx, 5, 0), RING_E_BATCH);
        for (int i = 0; i < 4; i++)
                ck_assert_int_eq(pair_emit(&tx, 1, 1, 0), 0);
        ck_assert_uint_eq(ring_tx_pending(&tx), 4);
        ck_assert_int_eq(ring_tx_begin(&tx, 1, &to), RING_E_BATCH);
        ring_tx_commit(&tx);
        ck_assert_int_eq(ring_tx_begin(&tx, 1, &to), 0);
}
END_TEST

START_TEST(ring_full_of_records_opens_with_the_tail) {
        fill_by_records();
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), RING_E_FULL);
        for (uint64_t n = 1; n <= 4; n++)
                ring_rx_ack(&rx, take(n, 1));
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), RING_E_FULL);
        ring_rx_flush(&rx, true);
        ck_assert_int_eq(ring_tx_room(&tx, 4, 4), 0);
        publish(13, 4, 1);
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), RING_E_FULL);
}
END_TEST

START_TEST(ring_full_of_bytes_opens_with_the_tail) {
        uint8_t *to;

        publish(1, 3, 1024);
        publish(4, 1, 961);
        ck_assert_int_eq(ring_tx_begin(&tx, 1, &to), RING_E_FULL);
        ck_assert_int_eq(ring_tx_begin(&tx, 0, &to), 0);
        ring_rx_ack(&rx, take(1, 1024));
        ring_rx_flush(&rx, true);
        ck_assert_int_eq(ring_tx_begin(&tx, 1024, &to), 0);
        ck_assert_int_eq(ring_tx_room(&tx, 2, 1024), RING_E_FULL);
        ck_assert_int_eq(ring_tx_room(&tx, 2, 960), 0);
}
END_TEST

/* ---- behaviour ---- */

START_TEST(record_arrives_with_every_field) {
        const struct ring_meta meta = {.type = 11,
                        .flags = RING_LAST | RING_HEAD,
                        .src = ring_src(200, 12345),
                        .ord = 77,
                        .req_id = 0xfedcba9876543210,
                        .t0 = 99};
        const struct ring_msg *msg, *again;
        uint8_t *to;

        ck_assert_int_eq(ring_rx_peek(&rx, &msg), RING_E_EMPTY);
        ck_assert_int_eq(ring_tx_begin(&tx, 500, &to), 0);
        memcpy(to, "hello", 5);
        ring_tx_end(&tx, &meta, 5);
        ring_tx_commit(&tx);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->seq, 1);
        ck_assert_uint_eq(msg->type, 11);
        ck_assert_uint_eq(msg->flags, RING_LAST | RING_HEAD);
        ck_assert_uint_eq(msg->src, (uint64_t)200 << 56 | 12345);
        ck_assert_uint_eq(msg->ord, 77);
        ck_assert_uint_eq(msg->req_id, 0xfedcba9876543210);
        ck_assert_uint_eq(msg->t0, 99);
        ck_assert_uint_eq(msg->strikes, 0);
        ck_assert_uint_eq(msg->len, 5);
        ck_assert_mem_eq(msg->data, "hello", 5);
        ck_assert_int_eq(ring_rx_peek(&rx, &again), 0);
        ck_assert_ptr_eq(again, msg);
}
END_TEST

START_TEST(payload_is_a_private_copy) {
        const struct ring_msg *msg;

        publish(1, 1, 64);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        memset(pair.prod.data, 0xee, 64);
        ck_assert(pattern_is(msg->data, 1, 64));
}
END_TEST

START_TEST(batch_becomes_visible_with_its_commit) {
        const struct ring_msg *msg;

        for (uint64_t n = 1; n <= 4; n++)
                ck_assert_int_eq(pair_emit(&tx, n, 30, 0), 0);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), RING_E_EMPTY);
        ring_tx_commit(&tx);
        for (uint64_t n = 1; n <= 4; n++)
                take(n, 30);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), RING_E_EMPTY);
        ck_assert_uint_eq(ring_rx_depth(&rx), 4);
}
END_TEST

START_TEST(rollback_forgets_what_was_not_committed) {
        const struct ring_msg *msg;

        publish(1, 2, 100);
        ck_assert_int_eq(pair_emit(&tx, 50, 900, 0), 0);
        ck_assert_int_eq(pair_emit(&tx, 51, 900, 0), 0);
        ring_tx_rollback(&tx);
        ck_assert_uint_eq(ring_tx_pending(&tx), 0);
        ring_tx_rollback(&tx);
        publish(3, 1, 200);
        take(1, 100);
        take(2, 100);
        take(3, 200);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), RING_E_EMPTY);
}
END_TEST

START_TEST(second_begin_replaces_the_first) {
        uint8_t *first, *second;

        ck_assert_int_eq(ring_tx_begin(&tx, 700, &first), 0);
        memset(first, 0xaa, 700);
        ck_assert_int_eq(ring_tx_begin(&tx, 20, &second), 0);
        ck_assert_ptr_eq(first, second);
        ring_tx_rollback(&tx);
        publish(1, 1, 20);
        take(1, 20);
}
END_TEST

START_TEST(acks_in_any_order_move_tail_over_the_oldest) {
        uint64_t seq[4];

        publish(1, 4, 8);
        for (uint64_t n = 0; n < 4; n++)
                seq[n] = take(n + 1, 8);
        ring_rx_ack(&rx, seq[2]);
        ring_rx_ack(&rx, seq[1]);
        ring_rx_flush(&rx, true);
        ck_assert_uint_eq(shared_tail(), 1);
        ck_assert(ring_rx_is_acked(&rx, seq[2]));
        ck_assert(!ring_rx_is_acked(&rx, seq[0]));
        ck_assert(!ring_rx_is_acked(&rx, seq[3]));
        ring_rx_ack(&rx, seq[0]);
        ring_rx_flush(&rx, true);
        ck_assert_uint_eq(shared_tail(), 4);
        ck_assert(ring_rx_is_acked(&rx, seq[0]));
        ck_assert_uint_eq(ring_rx_depth(&rx), 1);
}
END_TEST

START_TEST(tail_is_published_lazily_unless_forced_or_awaited) {
        publish(1, 4, 8);
        ring_rx_ack(&rx, take(1, 8));
        ring_rx_flush(&rx, false);
        ck_assert_uint_eq(shared_tail(), 1); /* 16 / 8 records make it worth while */
        ring_rx_ack(&rx, take(2, 8));
        ring_rx_flush(&rx, false);
        ck_assert_uint_eq(shared_tail(), 3);
        ring_rx_ack(&rx, take(3, 8));
        ring_rx_flush(&rx, true);
        ck_assert_uint_eq(shared_tail(), 4);
        ring_rx_ack(&rx, take(4, 8));
        set(&pair.prod.prod->space_at, 100);
        ring_rx_flush(&rx, false);
        ck_assert_uint_eq(shared_tail(), 5);
}
END_TEST

START_TEST(sleeping_consumer_is_rung_once) {
        ck_assert(ring_rx_may_sleep(&rx));
        publish(1, 2, 8);
        ck_assert(bell_rang(pair.bell_cons));
        publish(3, 2, 8);
        ck_assert(!bell_rang(pair.bell_cons));
        ck_assert_uint_eq(tx.n_doorbells, 1);
        ring_rx_disarm(&rx);
        for (uint64_t n = 1; n <= 4; n++)
                take(n, 8);
        publish(5, 1, 8);
        ck_assert(!bell_rang(pair.bell_cons));
}
END_TEST

START_TEST(bells_owed_are_noted_once_and_rung_by_nobody_else) {
        struct doorbells owed = {.n = 0};

        tx.owed = &owed;
        for (uint64_t n = 1; n <= 4; n++) {
                ck_assert(ring_rx_may_sleep(&rx));
                publish(n, 1, 8);
                ring_rx_disarm(&rx);
                take(n, 8);
        }
        ck_assert_uint_eq(owed.n, 1);
        ck_assert_int_eq(owed.fds[0], pair.bell_cons);
        ck_assert(!bell_rang(pair.bell_cons));
        owed.n = PROCS_MAX; /* no room to owe another: it is rung at once */
        for (uint32_t i = 0; i < PROCS_MAX; i++)
                owed.fds[i] = -1;
        doorbell_owe(&owed, pair.bell_cons);
        ck_assert(bell_rang(pair.bell_cons));
        ck_assert_uint_eq(owed.n, PROCS_MAX);
        tx.owed = NULL;
}
END_TEST

START_TEST(consumer_does_not_sleep_on_a_record) {
        publish(1, 1, 8);
        ck_assert(!ring_rx_may_sleep(&rx));
        take(1, 8);
        ck_assert(ring_rx_may_sleep(&rx));
        ring_rx_disarm(&rx);
}
END_TEST

START_TEST(consumer_that_sleeps_has_published_its_tail) {
        publish(1, 1, 8);
        ring_rx_ack(&rx, take(1, 8));
        ck_assert_uint_eq(shared_tail(), 1);
        ck_assert(ring_rx_may_sleep(&rx));
        ck_assert_uint_eq(shared_tail(), 2);
}
END_TEST

START_TEST(producer_sleeps_until_there_is_room_for_what_it_wants) {
        fill_by_records();
        ck_assert_int_eq(ring_tx_room(&tx, 3, 0), RING_E_FULL);
        ck_assert(ring_tx_may_sleep(&tx, 3, 0));
        for (uint64_t n = 1; n <= 2; n++)
                ring_rx_ack(&rx, take(n, 1));
        ring_rx_flush(&rx, true);
        ck_assert(!bell_rang(pair.bell_prod));
        ring_rx_ack(&rx, take(3, 1));
        ring_rx_flush(&rx, true);
        ck_assert(bell_rang(pair.bell_prod));
        ring_rx_ack(&rx, take(4, 1));
        ring_rx_flush(&rx, true);
        ck_assert(!bell_rang(pair.bell_prod));
        ring_tx_disarm(&tx);
        ck_assert(!ring_tx_may_sleep(&tx, 3, 0));
}
END_TEST

START_TEST(producer_that_lacks_bytes_sleeps_until_enough_records_went) {
        publish(1, 4, 512);
        publish(5, 4, 512);
        ck_assert(ring_tx_may_sleep(&tx, 1, 1024));
        ring_rx_ack(&rx, take(1, 512));
        ring_rx_flush(&rx, true);
        ck_assert(!bell_rang(pair.bell_prod));
        ring_rx_ack(&rx, take(2, 512));
        ring_rx_flush(&rx, true);
        ck_assert(bell_rang(pair.bell_prod));
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1024), 0);
}
END_TEST

START_TEST(producer_does_not_sleep_when_space_came_meanwhile) {
        fill_by_records();
        ring_rx_ack(&rx, take(1, 1));
        ring_rx_flush(&rx, true);
        ck_assert(!ring_tx_may_sleep(&tx, 1, 1));
        ck_assert_uint_eq(atomic_load_explicit(&pair.prod.prod->space_at, memory_order_relaxed), 0);
}
END_TEST

START_TEST(producer_awaits_the_tail_behind_a_certain_record) {
        publish(1, 4, 8);
        ck_assert(ring_tx_await(&tx, 3));
        ck_assert(ring_tx_await(&tx, 5)); /* the nearer one stays */
        ring_rx_ack(&rx, take(1, 8));
        ring_rx_flush(&rx, false); /* not lazy: somebody waits */
        ck_assert_uint_eq(shared_tail(), 2);
        ck_assert(!bell_rang(pair.bell_prod));
        ring_rx_ack(&rx, take(2, 8));
        ring_rx_flush(&rx, false);
        ck_assert(bell_rang(pair.bell_prod));
        ring_tx_disarm(&tx);
        ck_assert(!ring_tx_await(&tx, 3));
        ck_assert_uint_eq(word_of(&pair.prod.prod->space_at), 0);
        set(&pair.cons.cons->tail, 99);
        ck_assert(!ring_tx_await(&tx, 5));
}
END_TEST

START_TEST(producer_does_not_sleep_on_an_impossible_tail) {
        fill_by_records();
        set(&pair.cons.cons->tail, 1000);
        ck_assert(!ring_tx_may_sleep(&tx, 1, 1));
        ck_assert_int_eq(ring_tx_room(&tx, 1, 1), -EBADMSG);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("ring");
        TCase *refuses = tcase_create("refuses"), *does = tcase_create("does");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(refuses, setup, teardown);
        tcase_add_loop_test(refuses, geometry_that_breaks_a_limit_is_refused, 0, 12);
        tcase_add_loop_test(
                        refuses, producer_refuses_to_attach_to_an_impossible_tail_or_head, 0, 4);
        tcase_add_test(refuses, producer_refuses_to_attach_to_descriptors_that_are_not_its_own);
        tcase_add_loop_test(
                        refuses, consumer_refuses_to_attach_to_an_impossible_tail_or_head, 0, 4);
        tcase_add_test(refuses, producer_refuses_a_tail_beyond_its_head);
        tcase_add_test(refuses, producer_refuses_a_tail_that_goes_back);
        tcase_add_test(refuses, consumer_refuses_a_head_further_than_the_ring_is_long);
        tcase_add_test(refuses, consumer_refuses_a_head_that_goes_back);
        tcase_add_loop_test(refuses, consumer_refuses_a_descriptor_that_breaks_a_rule, 0, 10);
        tcase_add_test(refuses, record_over_the_limit_is_too_large_for_ever);
        tcase_add_test(refuses, batch_holds_max_batch_records);
        tcase_add_test(refuses, ring_full_of_records_opens_with_the_tail);
        tcase_add_test(refuses, ring_full_of_bytes_opens_with_the_tail);
        tcase_add_checked_fixture(does, setup, teardown);
        tcase_add_test(does, record_arrives_with_every_field);
        tcase_add_test(does, payload_is_a_private_copy);
        tcase_add_test(does, batch_becomes_visible_with_its_commit);
        tcase_add_test(does, rollback_forgets_what_was_not_committed);
        tcase_add_test(does, second_begin_replaces_the_first);
        tcase_add_test(does, acks_in_any_order_move_tail_over_the_oldest);
        tcase_add_test(does, tail_is_published_lazily_unless_forced_or_awaited);
        tcase_add_test(does, sleeping_consumer_is_rung_once);
        tcase_add_test(does, bells_owed_are_noted_once_and_rung_by_nobody_else);
        tcase_add_test(does, consumer_does_not_sleep_on_a_record);
        tcase_add_test(does, consumer_that_sleeps_has_published_its_tail);
        tcase_add_test(does, producer_sleeps_until_there_is_room_for_what_it_wants);
        tcase_add_test(does, producer_that_lacks_bytes_sleeps_until_enough_records_went);
        tcase_add_test(does, producer_does_not_sleep_when_space_came_meanwhile);
        tcase_add_test(does, producer_awaits_the_tail_behind_a_certain_record);
        tcase_add_test(does, producer_does_not_sleep_on_an_impossible_tail);
        suite_add_tcase(suite, refuses);
        suite_add_tcase(suite, does);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
