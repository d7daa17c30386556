/* A lane that is down, and one that is reset, as the gateway's clients see them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/lanes.h"
#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client a, b;
static char session[2][16]; /* by the lane that it goes to */

static void start(uint32_t max_in_flight) {
        rig_new(&rig, &(struct rig_setup){.lanes = 2, .max_in_flight = max_in_flight});
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

static void stop(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

/* Whatever the hash is: two sessions that go to different lanes. */
static void find_sessions(void) {
        struct record request;
        uint32_t found = 0;

        start(64);
        for (int i = 0; found != 3; i++) {
                char name[16];

                snprintf(name, sizeof(name), "s%d", i);
                rig_say(&a, "op", "submit", "id", name, "session", name, "prompt", "x", NULL);
                rig_expect(&rig, &a, "accepted");
                for (uint32_t lane = 0; lane < 2; lane++)
                        if (rig_take(&rig, lane, &request, NULL)) {
                                memcpy(session[lane], name, sizeof(name));
                                found |= 1u << lane;
                        }
        }
        stop();
}

static void setup(void) {
        find_sessions();
        start(2);
}

static void submit(struct rig_client *c, uint32_t lane, const char *id) {
        rig_say(c, "op", "submit", "id", id, "session", session[lane], "prompt", "x", NULL);
}

/* Admitted, taken out of the ring, and so much of its answer in the log. */
static uint32_t answered(struct rig_client *c, uint32_t lane, const char *id, uint64_t deltas) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        submit(c, lane, id);
        rig_expect(&rig, c, "accepted");
        ck_assert(rig_take(&rig, lane, &request, &req_id));
        r = rig_response(&rig, lane, req_id, &request);
        for (uint64_t i = 1; i <= deltas; i++) {
                rig_delta(&rig, lane, r, i, "word ");
                rig_expect(&rig, c, "delta");
        }
        return r;
}

static void expect_lost(struct rig_client *c, const char *id, uint64_t seq) {
        const msgpack_object *event = rig_expect(&rig, c, "error");

        ck_assert(rig_is(event, "id", id) && rig_is(event, "code", "internal"));
        ck_assert_uint_eq(rig_u64(event, "seq"), seq);
        ck_assert(!rig_get(event, "retryable")->via.boolean);
}

static void expect_silence(struct rig_client *c) {
        const msgpack_object *event = rig_event(&rig, c);

        ck_assert_msg(event == NULL, "an event too many");
}

/* ---- down ------------------------------------------------------------------------------------ */

START_TEST(what_needs_a_lane_that_is_down_is_refused_and_told_when_to_come_back) {
        rig_lane_state(&rig, 0, LANE_DOWN, 0);
        submit(&a, 0, "r1");
        const msgpack_object *event = rig_expect(&rig, &a, "error");

        ck_assert(rig_is(event, "code", "overloaded") && rig_is(event, "id", "r1"));
        ck_assert_ptr_null(rig_get(event, "seq"));
        ck_assert_uint_eq(rig_u64(event, "retry_after_ms"), LANES_RETRY_MS);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_shed_down), 1);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
        rig_done(&rig, 1, answered(&a, 1, "r2", 1), 2);
        rig_expect(&rig, &a, "done");
        rig_lane_state(&rig, 0, LANE_RUNNING, 0);
        rig_done(&rig, 0, answered(&a, 0, "r1", 1), 2);
        rig_expect(&rig, &a, "done");
}
END_TEST

START_TEST(who_waits_at_the_door_of_a_lane_that_goes_down_is_told) {
        uint32_t first = answered(&a, 0, "r1", 1);

        answered(&a, 0, "r2", 0);
        submit(&b, 0, "r3");
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        rig_lane_state(&rig, 0, LANE_DOWN, 0);
        rig_expect_refusal(&rig, &b, "overloaded", "down");
        ck_assert_uint_eq(rig.gw->door.n, 0);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_shed_down), 1);
        /* what is open stays so, can be read, and ends when its stage is back */
        ck_assert_uint_eq(rig.gw->table.n_open, 2);
        rig_say(&b, "op", "attach", "id", "r1", NULL);
        rig_expect(&rig, &b, "delta");
        submit(&b, 0, "r2"); /* the same again: it joins */
        rig_expect(&rig, &b, "accepted");
        rig_done(&rig, 0, first, 2);
        rig_expect(&rig, &a, "done");
        rig_expect(&rig, &b, "done");
}
END_TEST

START_TEST(what_needs_no_lane_in_particular_goes_to_one_that_runs) {
        struct record request;

        rig_lane_state(&rig, 1, LANE_DOWN, 0);
        for (int i = 0; i < 2; i++) {
                rig_say(&a, "op", "submit", "prompt", "x", NULL);
                rig_expect(&rig, &a, "accepted");
                ck_assert(rig_take(&rig, 0, &request, NULL));
        }
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_shed_down), 0);
        rig_lane_state(&rig, 0, LANE_DOWN, 0);
        rig_say(&a, "op", "submit", "prompt", "x", NULL);
        rig_expect_refusal(&rig, &a, "overloaded", NULL);
}
END_TEST

/* ---- reset ----------------------------------------------------------------------------------- */

START_TEST(what_a_lane_held_ends_in_one_error_and_other_lanes_go_on) {
        uint32_t other = answered(&b, 1, "other", 1);

        answered(&a, 0, "begun", 2);
        submit(&a, 0, "fresh");
        rig_expect(&rig, &a, "accepted");
        rig_say(&b, "op", "attach", "id", "begun", NULL);
        rig_expect(&rig, &b, "delta");
        rig_expect(&rig, &b, "delta");
        rig_lane_state(&rig, 0, LANE_RESETTING, 1);
        ck_assert_ptr_null(rig.w.logs[0].shm);
        ck_assert_ptr_null(rig.w.out[0].tx.map.prod);
        ck_assert_ptr_null(rig.w.in[0].rx.map.prod);
        const msgpack_object *event = rig_expect(&rig, &a, "error");

        if (rig_is(event, "id", "begun")) {
                ck_assert_uint_eq(rig_u64(event, "seq"), 3);
                expect_lost(&a, "fresh", 1);
        } else {
                ck_assert_uint_eq(rig_u64(event, "seq"), 1);
                expect_lost(&a, "begun", 3);
        }
        expect_lost(&b, "begun", 3);
        expect_silence(&a);
        ck_assert_uint_eq(rig.gw->table.n_open, 1);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_failed), 2);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_reset_lost), 2);
        rig_done(&rig, 1, other, 2);
        rig_expect(&rig, &b, "done");
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_completed), 1);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(requests_wait_while_their_lane_is_reset_and_then_run) {
        rig_done(&rig, 0, answered(&a, 0, "before", 1), 2);
        rig_expect(&rig, &a, "done");
        rig_lane_state(&rig, 0, LANE_RESETTING, 1);
        submit(&a, 0, "meanwhile");
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        rig_say(&a, "op", "result", "id", "before", NULL);
        rig_expect_refusal(&rig, &a, "not_found", NULL);
        rig_lane_back(&rig, 0, 1);
        struct record request;
        uint64_t req_id;

        ck_assert(rig_take(&rig, 0, &request, &req_id));
        rig_expect(&rig, &a, "accepted");
        rig_done(&rig, 0, rig_response(&rig, 0, req_id, &request), 1);
        rig_expect(&rig, &a, "done");
        rig_done(&rig, 0, answered(&a, 0, "before", 1), 2); /* its id is as good as new */
        rig_expect(&rig, &a, "done");
}
END_TEST

START_TEST(a_cancel_that_was_due_goes_with_its_request) {
        answered(&a, 0, "r1", 1);
        rig_say(&a, "op", "cancel", "id", "r1", NULL);
        rig_expect(&rig, &a, "cancelled");
        rig_lane_state(&rig, 0, LANE_RESETTING, 1);
        expect_lost(&a, "r1", 2);
        rig_lane_back(&rig, 0, 1);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, NULL), 0);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(a_lane_can_be_reset_again_and_again) {
        for (uint64_t generation = 1; generation < 6; generation++) {
                answered(&a, 0, "r1", 1);
                rig_lane_state(&rig, 0, LANE_RESETTING, generation);
                expect_lost(&a, "r1", 2);
                ck_assert_uint_eq(atomic_load(&rig.own->committed[0]), 2);
                rig_lane_back(&rig, 0, generation);
                ck_assert_uint_eq(atomic_load(&rig.own->committed[0]), 1);
        }
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_failed), 5);
        ck_assert_uint_eq(rig.gw->table.in_flight[0], 0);
}
END_TEST

START_TEST(who_runs_under_another_gateway_in_a_reset_lane_is_not_found) {
        static const char tenant[] = "local", id[] = "theirs";
        struct admission_slot *slot = &rig.other->slots[0];

        memcpy(slot->id, id, sizeof(id) - 1);
        memcpy(slot->tenant, tenant, sizeof(tenant) - 1);
        slot->id_len = sizeof(id) - 1;
        slot->tenant_len = sizeof(tenant) - 1;
        atomic_store(&rig.other->next_request, 1);
        atomic_store(&slot->id_hash, log_id_hash(tenant, sizeof(tenant) - 1, id, sizeof(id) - 1));
        atomic_store(&slot->req_id, 4711);
        atomic_store(&slot->ring_seq, 7);
        atomic_store(&rig.other->committed[0], 8);
        atomic_store(&slot->state, ADMISSION_OPEN);
        rig_say(&a, "op", "result", "id", id, NULL);
        rig_expect(&rig, &a, "result");
        rig_lane_state(&rig, 0, LANE_RESETTING, 1);
        rig_say(&a, "op", "result", "id", id, NULL);
        rig_expect_refusal(&rig, &a, "not_found", NULL);
        rig_lane_back(&rig, 0, 1);
        rig_say(&a, "op", "result", "id", id, NULL);
        rig_expect_refusal(&rig, &a, "not_found", NULL);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("gateway lanes");
        TCase *down = tcase_create("down"), *reset = tcase_create("reset");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(down, setup, stop);
        tcase_set_timeout(down, 60);
        tcase_add_test(down, what_needs_a_lane_that_is_down_is_refused_and_told_when_to_come_back);
        tcase_add_test(down, who_waits_at_the_door_of_a_lane_that_goes_down_is_told);
        tcase_add_test(down, what_needs_no_lane_in_particular_goes_to_one_that_runs);
        suite_add_tcase(suite, down);
        tcase_add_checked_fixture(reset, setup, stop);
        tcase_set_timeout(reset, 60);
        tcase_add_test(reset, what_a_lane_held_ends_in_one_error_and_other_lanes_go_on);
        tcase_add_test(reset, requests_wait_while_their_lane_is_reset_and_then_run);
        tcase_add_test(reset, a_cancel_that_was_due_goes_with_its_request);
        tcase_add_test(reset, a_lane_can_be_reset_again_and_again);
        tcase_add_test(reset, who_runs_under_another_gateway_in_a_reset_lane_is_not_found);
        suite_add_tcase(suite, reset);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
