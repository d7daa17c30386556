/* A gateway whose place another one has taken: it lets nobody in, answers what was asked, and goes. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/stages/gateway/rig.h"

#define LAST_CALL_MS 1000

static const char ping[] = "\x81\xa2op\xa4ping";

static struct rig rig;
static struct rig_client a, b;

static void setup(void) {
        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 4});
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

static void teardown(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

/* As the worker does when CHANNEL_CLOSE comes. */
static void close_it(void) {
        stage_gateway.close(&rig.w);
        rig.w.closing = true;
        rig_settle(&rig);
}

static bool has_closed(void) {
        rig_settle(&rig);
        return stage_gateway.drained(&rig.w);
}

static uint32_t begin_answer(struct rig_client *c, const char *id) {
        struct record request;
        uint64_t req_id;

        rig_say(c, "op", "submit", "id", id, "prompt", "x", NULL);
        ck_assert(rig_take(&rig, 0, &request, &req_id));
        rig_expect(&rig, c, "accepted");
        return rig_response(&rig, 0, req_id, &request);
}

START_TEST(without_clients_and_requests_it_has_closed_at_once) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_settle(&rig);
        close_it();
        ck_assert(has_closed());
        rig_kill(&rig);
        rig_revive(&rig);
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}
END_TEST

START_TEST(clients_may_ask_until_the_last_call_and_then_their_connections_end) {
        close_it();
        rig_say(&b, "op", "ping", NULL);
        rig_expect(&rig, &b, "pong");
        ck_assert(!has_closed());
        rig_wait_ms(&rig, LAST_CALL_MS + 100);
        ck_assert(rig_closed(&rig, &a));
        ck_assert(rig_closed(&rig, &b));
        ck_assert(has_closed());
}
END_TEST

START_TEST(an_answer_that_has_begun_is_finished_and_nothing_more_is_taken) {
        uint32_t r = begin_answer(&a, "r1");

        rig_delta(&rig, 0, r, 1, "one ");
        rig_expect(&rig, &a, "delta");
        close_it();
        rig_wait_ms(&rig, 2 * LAST_CALL_MS + 100);
        ck_assert(rig_closed(&rig, &b));
        ck_assert(!has_closed());
        errno = 0;
        ck_assert_int_eq(send(a.fd, ping, sizeof(ping) - 1, MSG_NOSIGNAL), -1);
        ck_assert_int_eq(errno, EPIPE); /* in its own call: it knows that nobody took it */
        rig_delta(&rig, 0, r, 2, "two");
        rig_expect(&rig, &a, "delta");
        rig_done(&rig, 0, r, 3);
        rig_expect(&rig, &a, "done");
        ck_assert(rig_closed(&rig, &a));
        ck_assert(has_closed());
}
END_TEST

START_TEST(what_was_sent_before_the_last_call_is_answered) {
        uint64_t until = clock_now_ns() + (LAST_CALL_MS + 50) * NS_PER_MS;

        close_it();
        for (int i = 0; i < 100; i++)
                rig_send(&b, ping, sizeof(ping) - 1);
        while (clock_now_ns() < until)
                continue; /* we are slow: the call and the frames are there together */
        for (int i = 0; i < 100; i++)
                rig_expect(&rig, &b, "pong");
        ck_assert(rig_closed(&rig, &b));
}
END_TEST

START_TEST(a_frame_that_has_begun_may_be_finished) {
        rig_send(&b, ping, 3);
        close_it();
        rig_wait_ms(&rig, LAST_CALL_MS + 100);
        ck_assert(rig_closed(&rig, &a));
        rig_send(&b, ping + 3, sizeof(ping) - 4);
        rig_expect(&rig, &b, "pong");
        ck_assert(!has_closed());
        rig_wait_ms(&rig, LAST_CALL_MS);
        ck_assert(rig_closed(&rig, &b));
        ck_assert(has_closed());
}
END_TEST

START_TEST(a_detached_request_is_waited_for_without_its_client) {
        static const char detached[] = "\x84\xa2op\xa6submit\xa2id\xa1"
                                       "d\xa6prompt\xa1x\xa6"
                                       "detach\xc3";
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_send(&a, detached, sizeof(detached) - 1);
        ck_assert(rig_take(&rig, 0, &request, &req_id));
        rig_expect(&rig, &a, "accepted");
        r = rig_response(&rig, 0, req_id, &request);
        close_it();
        rig_wait_ms(&rig, LAST_CALL_MS + 100);
        ck_assert(rig_closed(&rig, &a));
        ck_assert(!has_closed());
        rig_done(&rig, 0, r, 1);
        ck_assert(has_closed());
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_COMPLETED]), 1);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway closing");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_set_timeout(all, 60);
        tcase_add_test(all, without_clients_and_requests_it_has_closed_at_once);
        tcase_add_test(all, clients_may_ask_until_the_last_call_and_then_their_connections_end);
        tcase_add_test(all, an_answer_that_has_begun_is_finished_and_nothing_more_is_taken);
        tcase_add_test(all, what_was_sent_before_the_last_call_is_answered);
        tcase_add_test(all, a_frame_that_has_begun_may_be_finished);
        tcase_add_test(all, a_detached_request_is_waited_for_without_its_client);
        suite_add_tcase(s, all);
        return s;
}

int main(void) {
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
