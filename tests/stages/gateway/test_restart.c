/*
 * Detached answers that run anew: who has read one says so before he looks, who comes while it is decided
 * waits, and what nobody needs any more is cancelled.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client a, b;
static uint64_t req_id;
static uint32_t response;

/* A detached request "j" whose answer has begun. */
static void set_up(void) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa1j\xa6prompt\xa1x\xa6"
                                    "detach\xc3";
        struct record request;

        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 4});
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
        rig_send(&a, frame, sizeof(frame) - 1);
        ck_assert(rig_take(&rig, 0, &request, &req_id));
        response = rig_response(&rig, 0, req_id, &request);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, response, 1, "first ");
}

static void tear_down(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

static bool is_read(void) {
        struct admission_view view;
        uint64_t flags;

        rig_settle(&rig);
        ck_assert_int_eq(admission_view_init(&view, rig.own, admission_bytes(rig.own->n_slots)), 0);
        ck_assert_int_eq(follow_get(&view, req_id, &flags), 0);
        return flags & FOLLOW_READ;
}

START_TEST(to_submit_it_again_and_to_ask_for_its_result_is_not_to_read_it) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa1j\xa6prompt\xa1x\xa6"
                                    "detach\xc3";
        const msgpack_object *event;

        rig_send(&b, frame, sizeof(frame) - 1);
        rig_expect(&rig, &b, "accepted");
        rig_say(&b, "op", "result", "id", "j", NULL);
        event = rig_expect(&rig, &b, "result");
        ck_assert(rig_is(event, "status", "running"));
        ck_assert(rig_is(event, "text", ""));
        ck_assert(!is_read());
}
END_TEST

START_TEST(who_attaches_has_read_it_for_ever) {
        ck_assert(!is_read());
        rig_say(&b, "op", "attach", "id", "j", NULL);
        ck_assert(rig_is(rig_expect(&rig, &b, "delta"), "text", "first "));
        ck_assert(is_read());
        shutdown(b.fd, SHUT_RDWR);
        ck_assert(is_read());
        rig_kill(&rig);
        rig_revive(&rig);
        ck_assert(is_read());
}
END_TEST

START_TEST(a_submit_of_its_id_that_wants_the_events_reads_it) {
        rig_say(&b, "op", "submit", "id", "j", "prompt", "x", NULL);
        rig_expect(&rig, &b, "accepted");
        rig_expect(&rig, &b, "delta");
        ck_assert(is_read());
}
END_TEST

static void waits_while(uint64_t restart) {
        rig_restart(&rig, 0, response, restart);
        rig_say(&b, "op", "attach", "id", "j", NULL);
        rig_say(&b, "op", "ping", NULL);
        rig_expect(&rig, &b, "pong"); /* and nothing before */
        ck_assert(is_read());
}

START_TEST(who_comes_before_it_is_decided_waits_and_gets_the_new_answer_from_its_first_event) {
        waits_while(LOG_RESTART_ASKED);
        rig_restart(&rig, 0, response, LOG_RESTART_DROP);
        rig_say(&b, "op", "ping", NULL);
        rig_expect(&rig, &b, "pong");
        rig_restart(&rig, 0, response, 0);
        rig_delta(&rig, 0, response, 1, "second");
        ck_assert(rig_is(rig_expect(&rig, &b, "delta"), "text", "second"));
        rig_done(&rig, 0, response, 2);
        ck_assert_uint_eq(rig_u64(rig_expect(&rig, &b, "done"), "seq"), 2);
}
END_TEST

START_TEST(who_comes_while_it_is_dropped_waits) {
        waits_while(LOG_RESTART_DROP);
        rig_restart(&rig, 0, response, 0);
        rig_done(&rig, 0, response, 1);
        ck_assert_uint_eq(rig_u64(rig_expect(&rig, &b, "done"), "seq"), 1);
}
END_TEST

START_TEST(a_notice_that_was_missed_lets_who_waits_go_on_too) {
        waits_while(LOG_RESTART_ASKED);
        rig.lane[0].silent = true;
        rig_restart(&rig, 0, response, 0);
        rig_done(&rig, 0, response, 1);
        rig_expect(&rig, &b, "done");
}
END_TEST

START_TEST(a_lost_answer_is_read_to_its_error_and_what_was_begun_anew_is_cancelled_once) {
        uint64_t got;

        rig_say(&b, "op", "attach", "id", "j", NULL);
        rig_expect(&rig, &b, "delta");
        rig_restart(&rig, 0, response, LOG_RESTART_LOST);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        rig_error(&rig, 0, response, 2, MR_E_worker_restarted);
        ck_assert(rig_is(rig_expect(&rig, &b, "error"), "code", "worker_restarted"));
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_LOST);
        ck_assert_uint_eq(got, req_id);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_failed), 1);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(what_was_lost_while_nobody_lived_is_cancelled_by_the_successor) {
        uint64_t got;

        rig_kill(&rig);
        rig_restart(&rig, 0, response, LOG_RESTART_LOST);
        rig_error(&rig, 0, response, 2, MR_E_worker_restarted);
        rig_revive(&rig);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_LOST);
        ck_assert_uint_eq(got, req_id);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("restart");
        TCase *tc = tcase_create("restart");
        SRunner *runner;
        int failed;

        tcase_set_timeout(tc, 60);
        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, to_submit_it_again_and_to_ask_for_its_result_is_not_to_read_it);
        tcase_add_test(tc, who_attaches_has_read_it_for_ever);
        tcase_add_test(tc, a_submit_of_its_id_that_wants_the_events_reads_it);
        tcase_add_test(tc, who_comes_before_it_is_decided_waits_and_gets_the_new_answer_from_its_first_event);
        tcase_add_test(tc, who_comes_while_it_is_dropped_waits);
        tcase_add_test(tc, a_notice_that_was_missed_lets_who_waits_go_on_too);
        tcase_add_test(tc, a_lost_answer_is_read_to_its_error_and_what_was_begun_anew_is_cancelled_once);
        tcase_add_test(tc, what_was_lost_while_nobody_lived_is_cancelled_by_the_successor);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
