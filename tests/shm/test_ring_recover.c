/*
 * The ring between two lives: what attach derives, whom it blames, what the descriptor scan
 * repairs.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

/* The input ring is tiny, so that state words are reused at once. */
static const struct ring_geometry in_geo = {
                .id = 5, .n = 4, .max_batch = 2, .max_rec = 1024, .bytes = 4096};
static const struct ring_geometry out_geo = {
                .id = 6, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096};

static struct pair in, out;
static struct ring_tx feeder; /* writes the input ring */
static struct ring_rx rx;     /* the stage's side of it */
static struct ring_tx tx;     /* the stage's side of the output ring */
static struct ring_rx drain;  /* reads the output ring */

static void attach_stage(bool blame) {
        ck_assert_int_eq(ring_tx_attach(&tx, &out.prod, out.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &in.cons, in.bell_prod, blame), 0);
}

/* The stage is killed: its private memory is gone, shared memory is as it stood. */
static void die_and_attach(bool blame) {
        ring_rx_close(&rx);
        memset(&rx, 0xaa, sizeof(rx));
        memset(&tx, 0xaa, sizeof(tx));
        attach_stage(blame);
}

static void setup(void) {
        in = pair_new(in_geo, 1);
        out = pair_new(out_geo, 1);
        ck_assert_int_eq(ring_tx_attach(&feeder, &in.prod, in.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&drain, &out.cons, out.bell_prod, false), 0);
        attach_stage(false);
}

static void teardown(void) {
        ring_rx_close(&rx);
        ring_rx_close(&drain);
        pair_close(&in);
        pair_close(&out);
}

static void feed(uint64_t n) {
        ck_assert_int_eq(pair_emit(&feeder, n, 40, 0), 0);
        ring_tx_commit(&feeder);
}

static uint64_t take(uint64_t n) {
        const struct ring_msg *msg;

        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->req_id, n);
        ck_assert(pattern_is(msg->data, n, 40));
        ring_rx_take(&rx);
        return msg->seq;
}

static void emit(uint64_t src, uint32_t ord, uint8_t flags) {
        const struct ring_meta meta = {
                        .type = 1, .flags = flags, .src = src, .ord = ord, .req_id = 1};
        uint8_t *to;

        ck_assert_int_eq(ring_tx_begin(&tx, 8, &to), 0);
        memset(to, 1, 8);
        ring_tx_end(&tx, &meta, 8);
}

/* Reads and acks everything in the output ring; returns how much that was. */
static uint32_t drain_all(void) {
        const struct ring_msg *msg;
        uint32_t n = 0;

        while (ring_rx_peek(&drain, &msg) == 0) {
                ring_rx_take(&drain);
                ring_rx_ack(&drain, msg->seq);
                n++;
        }
        ring_rx_flush(&drain, true);
        return n;
}

static void nothing_to_read(void) {
        const struct ring_msg *msg;

        ck_assert_int_eq(ring_rx_peek(&rx, &msg), RING_E_EMPTY);
}

/* ---- attach ---- */

START_TEST(attach_raises_the_incarnation_and_disarms) {
        uint64_t epoch = rx.epoch;

        ck_assert(ring_rx_may_sleep(&rx));
        die_and_attach(false);
        ck_assert_uint_eq(rx.epoch, epoch + 1);
        ck_assert_uint_eq(tx.epoch, 2);
        ck_assert_uint_eq(atomic_load_explicit(&in.prod.cons->wake_at, memory_order_relaxed), 0);
        ck_assert_uint_eq(atomic_load_explicit(&in.prod.cons->epoch, memory_order_relaxed),
                        epoch + 1);
}
END_TEST

START_TEST(attach_never_moves_a_shared_position) {
        feed(1);
        ring_rx_ack(&rx, take(1));
        ring_rx_flush(&rx, true);
        emit(0, 0, 0);
        ring_tx_commit(&tx);
        for (int i = 0; i < 3; i++)
                die_and_attach(false);
        ck_assert_uint_eq(atomic_load_explicit(&in.prod.cons->tail, memory_order_relaxed), 2);
        ck_assert_uint_eq(atomic_load_explicit(&out.prod.prod->head, memory_order_relaxed), 2);
        ck_assert_uint_eq(tx.next, 2);
        ck_assert_uint_eq(tx.pos, 64);
}
END_TEST

START_TEST(what_was_in_hand_comes_again_and_what_was_acked_does_not) {
        uint64_t second;

        for (uint64_t n = 1; n <= 2; n++)
                feed(n);
        take(1);
        second = take(2);
        ring_rx_ack(&rx, second);
        die_and_attach(false);
        take(1);
        nothing_to_read();
        ring_rx_ack(&rx, 1);
        ring_rx_flush(&rx, true);
        ck_assert_uint_eq(rx.tail, 3);
}
END_TEST

START_TEST(acked_records_ahead_of_tail_are_passed_over) {
        for (uint64_t n = 1; n <= 2; n++)
                feed(n);
        take(1);
        take(2);
        ring_rx_ack(&rx, 2);
        ring_rx_ack(&rx, 1); /* tail itself was never published */
        die_and_attach(false);
        nothing_to_read();
        ring_rx_flush(&rx, true);
        feed(3);
        take(3);
}
END_TEST

START_TEST(uncommitted_output_is_gone_and_its_place_is_used_again) {
        emit(0, 0, 0);
        ring_tx_commit(&tx);
        emit(0, 1, 0);
        emit(0, 2, 0);
        die_and_attach(false);
        ck_assert_uint_eq(tx.next, 2);
        emit(0, 9, 0);
        ring_tx_commit(&tx);
        ck_assert_uint_eq(drain_all(), 2);
}
END_TEST

START_TEST(only_the_record_at_hand_gets_a_strike) {
        const struct ring_msg *msg;

        feed(1);
        feed(2);
        take(1);
        take(2);
        die_and_attach(true);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 0);
        take(1);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 1);
        take(2);
        die_and_attach(true);
        take(1);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 2);
}
END_TEST

START_TEST(nobody_is_blamed_between_handlers_or_for_a_kill_from_outside) {
        const struct ring_msg *msg;

        feed(1);
        take(1);
        die_and_attach(false);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 0);
        take(1);
        ring_rx_idle(&rx);
        die_and_attach(true);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 0);
}
END_TEST

START_TEST(a_record_that_is_looked_into_before_it_is_taken_gets_the_strike) {
        const struct ring_msg *msg;

        feed(1);
        feed(2);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ring_rx_active(&rx, msg->seq);
        die_and_attach(true);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 1);
        ring_rx_active(&rx, 77); /* nonsense names nobody */
        die_and_attach(true);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 1);
}
END_TEST

START_TEST(the_newest_struck_record_is_found_until_it_is_acked) {
        uint64_t seq;

        ck_assert_uint_eq(ring_rx_struck(&rx), 0);
        feed(1);
        feed(2);
        take(1);
        seq = take(2);
        die_and_attach(true);
        ck_assert_uint_eq(ring_rx_struck(&rx), seq);
        take(1);
        take(2);
        ck_assert_uint_eq(ring_rx_struck(&rx), seq);
        ring_rx_ack(&rx, seq);
        ck_assert_uint_eq(ring_rx_struck(&rx), 0);
}
END_TEST

START_TEST(crash_in_recovery_strikes_nobody_twice) {
        const struct ring_msg *msg;

        feed(1);
        take(1);
        die_and_attach(true);
        die_and_attach(true);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 1);
}
END_TEST

/* ---- the scan ---- */

START_TEST(committed_and_unacked_is_acked_by_the_scan) {
        uint64_t seq;

        feed(1);
        seq = take(1);
        emit(ring_src(5, seq), 0, RING_LAST);
        ring_tx_commit(&tx);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        ck_assert(ring_rx_is_acked(&rx, seq));
        nothing_to_read();
        ring_rx_flush(&rx, true);
        ck_assert_uint_eq(rx.tail, 2);
}
END_TEST

START_TEST(uncommitted_output_acks_nothing) {
        uint64_t seq;

        feed(1);
        seq = take(1);
        emit(ring_src(5, seq), 0, RING_LAST);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        ck_assert(!ring_rx_is_acked(&rx, seq));
        take(1);
}
END_TEST

START_TEST(scan_does_not_start_at_the_consumers_tail) {
        uint64_t seq;

        feed(1);
        seq = take(1);
        emit(ring_src(5, seq), 0, RING_LAST);
        ring_tx_commit(&tx);
        ck_assert_uint_eq(drain_all(), 1); /* the consumer was faster than our ack */
        die_and_attach(false);
        ring_recover(&tx, &rx);
        nothing_to_read();
}
END_TEST

START_TEST(scan_covers_a_whole_batch) {
        emit(0, 0, 0);
        ring_tx_commit(&tx);
        ck_assert_uint_eq(drain_all(), 1);
        feed(1);
        feed(2);
        take(1);
        take(2);
        emit(ring_src(5, 1), 0, RING_LAST);
        for (uint32_t ord = 0; ord < 3; ord++)
                emit(ring_src(5, 2), ord, ord == 2 ? RING_LAST : 0);
        ring_tx_commit(&tx);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        nothing_to_read();
}
END_TEST

START_TEST(torn_stream_gets_its_resume_point_and_keeps_its_strikes) {
        const struct ring_msg *msg;

        feed(1);
        take(1);
        for (uint32_t ord = 0; ord < 3; ord++)
                emit(ring_src(5, 1), ord, 0);
        ring_tx_commit(&tx);
        die_and_attach(true);
        ring_recover(&tx, &rx);
        ck_assert_uint_eq(ring_rx_emitted(&rx, 1), 3);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->strikes, 1);
        take(1);
        ck_assert_uint_eq(ring_rx_emitted(&rx, 1), 3);
        emit(ring_src(5, 1), 3, 0);
        ring_tx_commit(&tx);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        ck_assert_uint_eq(ring_rx_emitted(&rx, 1), 4);
}
END_TEST

/* An input that was acked long ago is still named by the newest output; its state word belongs to a
 * newer record by now, whose strikes and resume point must stay. */
START_TEST(scan_leaves_the_word_of_a_newer_record_alone) {
        const struct ring_msg *msg;

        feed(1);
        take(1);
        emit(ring_src(5, 1), 0, RING_LAST);
        ring_tx_commit(&tx);
        ring_rx_ack(&rx, 1);
        ring_rx_flush(&rx, true);
        for (uint64_t n = 2; n <= 4; n++) {
                feed(n);
                ring_rx_ack(&rx, take(n));
                ring_rx_flush(&rx, true);
        }
        feed(5); /* reuses the word of 1 */
        take(5);
        die_and_attach(true);
        ring_recover(&tx, &rx);
        ck_assert(!ring_rx_is_acked(&rx, 5));
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_uint_eq(msg->seq, 5);
        ck_assert_uint_eq(msg->strikes, 1);
}
END_TEST

START_TEST(scan_heeds_only_its_own_input_ring_and_what_is_in_it) {
        feed(1);
        take(1);
        emit(ring_src(4, 1), 0, RING_LAST);
        emit(ring_src(5, 2), 0, RING_LAST); /* beyond head */
        emit(0, 0, RING_LAST);
        ring_tx_commit(&tx);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        ck_assert(!ring_rx_is_acked(&rx, 1));
        ck_assert(!ring_rx_is_acked(&rx, 2));
        feed(2);
        take(1);
        take(2);
}
END_TEST

/* A descriptor that is being overwritten still holds fields of the lap before. */
START_TEST(scan_passes_over_an_invalidated_descriptor) {
        feed(1);
        take(1);
        emit(ring_src(5, 1), 0, RING_LAST);
        ring_tx_commit(&tx);
        die_and_attach(false);
        atomic_store_explicit(&out.prod.desc[1].seq, RING_SEQ_INVALID, memory_order_relaxed);
        ring_recover(&tx, &rx);
        ck_assert(!ring_rx_is_acked(&rx, 1));
}
END_TEST

START_TEST(recovery_can_be_killed_and_repeated) {
        feed(1);
        feed(2);
        take(1);
        take(2);
        emit(ring_src(5, 1), 0, RING_LAST);
        emit(ring_src(5, 2), 0, 0);
        ring_tx_commit(&tx);
        for (int i = 0; i < 4; i++) {
                die_and_attach(false);
                ring_recover(&tx, &rx);
        }
        ck_assert(ring_rx_is_acked(&rx, 1));
        ck_assert_uint_eq(ring_rx_emitted(&rx, 2), 1);
        take(2);
}
END_TEST

START_TEST(scan_works_where_sequence_numbers_leave_56_bits) {
        const uint64_t start = (UINT64_C(1) << 63) + 3;
        uint64_t seq;

        teardown();
        in = pair_new(in_geo, start);
        out = pair_new(out_geo, start);
        ck_assert_int_eq(ring_tx_attach(&feeder, &in.prod, in.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&drain, &out.cons, out.bell_prod, false), 0);
        attach_stage(false);
        feed(1);
        feed(2);
        seq = take(1);
        emit(ring_src(5, seq), 0, RING_LAST);
        ring_tx_commit(&tx);
        die_and_attach(false);
        ring_recover(&tx, &rx);
        take(2);
}
END_TEST

START_TEST(descriptor_of_an_unacked_record_can_be_asked_for) {
        struct ring_msg msg;

        feed(1);
        take(1);
        feed(2);
        ck_assert_int_eq(ring_rx_desc(&rx, 0, &msg), RING_E_EMPTY);
        ck_assert_int_eq(ring_rx_desc(&rx, 3, &msg), RING_E_EMPTY);
        ck_assert_int_eq(ring_rx_desc(&rx, 2, &msg), RING_E_EMPTY); /* not looked at yet */
        die_and_attach(false);
        ck_assert_int_eq(ring_rx_desc(&rx, 2, &msg), 0);
        ck_assert_uint_eq(msg.req_id, 2);
        ck_assert_ptr_null(msg.data);
        in.prod.desc[2].hver = 9;
        ck_assert_int_eq(ring_rx_desc(&rx, 2, &msg), RING_E_EMPTY);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("ring recovery");
        TCase *attach = tcase_create("attach"), *scan = tcase_create("scan");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(attach, setup, teardown);
        tcase_add_test(attach, attach_raises_the_incarnation_and_disarms);
        tcase_add_test(attach, attach_never_moves_a_shared_position);
        tcase_add_test(attach, what_was_in_hand_comes_again_and_what_was_acked_does_not);
        tcase_add_test(attach, acked_records_ahead_of_tail_are_passed_over);
        tcase_add_test(attach, uncommitted_output_is_gone_and_its_place_is_used_again);
        tcase_add_test(attach, only_the_record_at_hand_gets_a_strike);
        tcase_add_test(attach, nobody_is_blamed_between_handlers_or_for_a_kill_from_outside);
        tcase_add_test(attach, a_record_that_is_looked_into_before_it_is_taken_gets_the_strike);
        tcase_add_test(attach, the_newest_struck_record_is_found_until_it_is_acked);
        tcase_add_test(attach, crash_in_recovery_strikes_nobody_twice);
        tcase_add_test(attach, descriptor_of_an_unacked_record_can_be_asked_for);
        tcase_add_checked_fixture(scan, setup, teardown);
        tcase_add_test(scan, committed_and_unacked_is_acked_by_the_scan);
        tcase_add_test(scan, uncommitted_output_acks_nothing);
        tcase_add_test(scan, scan_does_not_start_at_the_consumers_tail);
        tcase_add_test(scan, scan_covers_a_whole_batch);
        tcase_add_test(scan, torn_stream_gets_its_resume_point_and_keeps_its_strikes);
        tcase_add_test(scan, scan_leaves_the_word_of_a_newer_record_alone);
        tcase_add_test(scan, scan_heeds_only_its_own_input_ring_and_what_is_in_it);
        tcase_add_test(scan, scan_passes_over_an_invalidated_descriptor);
        tcase_add_test(scan, recovery_can_be_killed_and_repeated);
        tcase_add_test(scan, scan_works_where_sequence_numbers_leave_56_bits);
        suite_add_tcase(suite, attach);
        suite_add_tcase(suite, scan);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
