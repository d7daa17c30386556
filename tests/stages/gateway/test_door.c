#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client a, b;

static void door_settings(struct settings *s) {
        s->admission.queue = 8;
        s->admission.queue_timeout_ms = 60000;
}

static void start(const struct rig_setup *setup) {
        rig_new(&rig, setup);
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

static void setup(void) {
        start(&(struct rig_setup){.lanes = 1, .max_in_flight = 4, .settings = door_settings});
}

static void teardown(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

static void restart(const struct rig_setup *setup) {
        teardown();
        start(setup);
}

static void submit_n(struct rig_client *c, int from, int n) {
        char name[16];

        for (int i = from; i < from + n; i++) {
                snprintf(name, sizeof(name), "r%d", i);
                rig_say(c, "op", "submit", "id", name, "prompt", "x", NULL);
        }
        rig_settle(&rig);
}

/* Takes the next request and ends it. */
static void serve(const char *id) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        ck_assert(rig_take(&rig, 0, &request, &req_id));
        ck_assert_msg(request.id.n == strlen(id) && memcmp(request.id.p, id, request.id.n) == 0,
                        "took %.*s, expected %s", (int)request.id.n, request.id.p, id);
        r = rig_response(&rig, 0, req_id, &request);
        rig_done(&rig, 0, r, 1);
        rig_settle(&rig);
}

static void expect_accepted(struct rig_client *c, const char *id) {
        ck_assert(rig_is(rig_expect(&rig, c, "accepted"), "id", id));
}

START_TEST(a_full_door_refuses_at_once_and_the_rest_waits_its_turn) {
        const msgpack_object *event;
        char name[16];

        submit_n(&a, 1, 14);
        for (int i = 1; i <= 4; i++) {
                snprintf(name, sizeof(name), "r%d", i);
                expect_accepted(&a, name);
        }
        for (int i = 13; i <= 14; i++) {
                event = rig_expect(&rig, &a, "error");
                snprintf(name, sizeof(name), "r%d", i);
                ck_assert(rig_is(event, "id", name) && rig_is(event, "code", "overloaded"));
                ck_assert_ptr_null(rig_get(event, "seq"));
                ck_assert_uint_gt(rig_u64(event, "retry_after_ms"), 0);
                ck_assert(rig_get(event, "retryable")->via.boolean);
        }
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_door_waiting), 8);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_shed_door), 2);
        for (int i = 1; i <= 12; i++) {
                snprintf(name, sizeof(name), "r%d", i);
                serve(name);
        }
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_door_waiting), 0);
        ck_assert_uint_eq(rig.gw->door.bytes, 0);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_admitted), 12);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_completed), 12);
}
END_TEST

static void short_wait(struct settings *s) {
        s->admission.queue_timeout_ms = 30;
}

START_TEST(who_waits_too_long_is_refused) {
        restart(&(struct rig_setup){.lanes = 1, .max_in_flight = 4, .settings = short_wait});
        submit_n(&a, 1, 5);
        for (int i = 0; i < 4; i++)
                rig_expect(&rig, &a, "accepted");
        rig_wait_ms(&rig, 60);
        rig_expect_refusal(&rig, &a, "overloaded", "waited too long");
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_shed_timeout), 1);
        ck_assert_uint_eq(rig.gw->door.n, 0);
        rig_say(&a, "op", "result", "id", "r5", NULL);
        rig_expect_refusal(&rig, &a, "not_found", NULL);
}
END_TEST

static void no_queue_bytes(struct settings *s) {
        s->admission.queue_bytes = 2000;
}

START_TEST(the_door_is_bounded_in_bytes) {
        static char prompt[1500];

        restart(&(struct rig_setup){.lanes = 1, .max_in_flight = 1, .settings = no_queue_bytes});
        memset(prompt, 'p', sizeof(prompt) - 1);
        rig_say(&a, "op", "submit", "prompt", prompt, NULL);
        rig_expect(&rig, &a, "accepted");
        rig_say(&a, "op", "submit", "prompt", prompt, NULL);
        rig_say(&a, "op", "submit", "prompt", prompt, NULL);
        rig_expect_refusal(&rig, &a, "overloaded", NULL);
        ck_assert_uint_eq(rig.gw->door.n, 1);
}
END_TEST

START_TEST(the_more_urgent_goes_first_and_nobody_overtakes_his_equals) {
        submit_n(&a, 1, 4);
        rig_say(&a, "op", "submit", "id", "late", "prompt", "x", "priority", "bulk", NULL);
        rig_say(&a, "op", "submit", "id", "d1", "prompt", "x", NULL);
        rig_say(&a, "op", "submit", "id", "d2", "prompt", "x", NULL);
        rig_say(&a, "op", "submit", "id", "now", "prompt", "x", "priority", "system", NULL);
        rig_say(&a, "op", "submit", "id", "soon", "prompt", "x", "priority", "interactive", NULL);
        rig_settle(&rig);
        serve("r1");
        serve("r2");
        serve("r3");
        serve("r4");
        serve("now");
        serve("soon");
        serve("d1");
        serve("d2");
        serve("late");
}
END_TEST

START_TEST(a_waiting_request_may_be_cancelled_joined_and_asked_for) {
        struct record request;

        submit_n(&a, 1, 6);
        for (int i = 0; i < 4; i++)
                rig_expect(&rig, &a, "accepted");
        rig_say(&b, "op", "result", "id", "r5", NULL);
        ck_assert(rig_is(rig_expect(&rig, &b, "result"), "status", "queued"));
        rig_say(&b, "op", "submit", "id", "r5", "prompt", "x", NULL);
        rig_say(&b, "op", "attach", "id", "r6", NULL);
        rig_say(&b, "op", "cancel", "id", "r6", NULL);
        rig_expect(&rig, &b, "cancelled");
        rig_expect_refusal(&rig, &b, "cancelled", NULL);
        rig_expect_refusal(&rig, &a, "cancelled", NULL);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        serve("r1");
        expect_accepted(&b, "r5");
        rig_expect(&rig, &a, "done");
        expect_accepted(&a, "r5");
        serve("r2");
        serve("r3");
        serve("r4");
        serve("r5");
        rig_expect(&rig, &b, "done");
        ck_assert(!rig_take(&rig, 0, &request, NULL));
}
END_TEST

START_TEST(who_leaves_the_door_is_forgotten) {
        struct record request;

        submit_n(&b, 1, 4);
        submit_n(&a, 5, 3);
        ck_assert_uint_eq(rig.gw->door.n, 3);
        shutdown(a.fd, SHUT_RDWR);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 0);
        serve("r1");
        serve("r2");
        serve("r3");
        serve("r4");
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(a_deadline_also_ends_the_wait_at_the_door) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa2rx\xa6prompt\xa1x\xab"
                                    "deadline_ms\x14";

        submit_n(&a, 1, 4);
        for (int i = 0; i < 4; i++)
                rig_expect(&rig, &a, "accepted");
        rig_send(&a, frame, sizeof(frame) - 1);
        rig_wait_ms(&rig, 40);
        rig_expect_refusal(&rig, &a, "deadline_exceeded", NULL);
}
END_TEST

START_TEST(draining_empties_the_door) {
        submit_n(&a, 1, 6);
        for (int i = 0; i < 4; i++)
                rig_expect(&rig, &a, "accepted");
        rig.w.draining = true;
        stage_gateway.drain(&rig.w);
        rig_expect_refusal(&rig, &a, "draining", NULL);
        rig_expect_refusal(&rig, &a, "draining", NULL);
        ck_assert_uint_eq(rig.gw->door.n, 0);
        serve("r1");
        rig_expect(&rig, &a, "done");
}
END_TEST

START_TEST(a_full_arena_holds_back_large_bodies_until_one_ends) {
        static char prompt[700000];
        struct record request;
        uint64_t first;
        uint32_t r;

        memset(prompt, 'p', sizeof(prompt) - 1);
        rig_settle(&rig);
        for (int i = 0; i < 2; i++) {
                /* Larger than a socket's buffer: sent in pieces, with turns in between. */
                uint8_t head[64];
                int n = snprintf((char *)head, sizeof(head),
                                "\x83\xa2op\xa6submit\xa2id\xa2r%d\xa6prompt", i);
                size_t at = 0, len = sizeof(prompt) - 1;

                head[n++] = 0xdb;
                head[n++] = 0;
                head[n++] = (uint8_t)(len >> 16);
                head[n++] = (uint8_t)(len >> 8);
                head[n++] = (uint8_t)len;
                rig_send(&a, head, (size_t)n);
                while (at < len) {
                        size_t part = len - at < 60000 ? len - at : 60000;

                        rig_send(&a, prompt + at, part);
                        at += part;
                        rig_settle(&rig);
                }
        }
        expect_accepted(&a, "r0");
        ck_assert_uint_eq(rig.gw->door.n, 1);
        ck_assert(rig_take(&rig, 0, &request, &first));
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        /* Small ones of the same priority wait behind it, more urgent ones do not. */
        rig_say(&b, "op", "submit", "id", "small", "prompt", "x", "priority", "system", NULL);
        expect_accepted(&b, "small");
        ck_assert(rig_take(&rig, 0, &request, NULL));
        request.id = (struct mr_view){"r0", 2};
        r = rig_response(&rig, 0, first, &request);
        rig_done(&rig, 0, r, 1);
        rig_expect(&rig, &a, "done");
        expect_accepted(&a, "r1");
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

START_TEST(the_soft_bound_of_the_ring_holds_requests_back) {
        struct record request;

        restart(&(struct rig_setup){.lanes = 1, .max_in_flight = 100});
        submit_n(&a, 0, 80);
        ck_assert_uint_eq(ring_tx_depth(&rig.gw->to_rag[0]->tx), 64); /* its bound in this rig */
        ck_assert_uint_eq(rig.gw->door.n, 16);
        for (int i = 0; i < 80; i++)
                ck_assert(rig_take(&rig, 0, &request, NULL));
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

START_TEST(overload_for_long_keeps_nothing) {
        char name[24];

        for (int round = 0; round < 200; round++) {
                for (int i = 0; i < 20; i++) {
                        snprintf(name, sizeof(name), "x%d.%d", round, i);
                        rig_say(&a, "op", "submit", "id", name, "prompt", "x", NULL);
                }
                rig_settle(&rig);
                while (recv(a.fd, name, sizeof(name), MSG_DONTWAIT) > 0)
                        rig_settle(&rig);
        }
        ck_assert_uint_eq(rig.gw->door.n, 8);
        ck_assert_uint_eq(rig.gw->answers.n, 12);
        ck_assert_uint_eq(rig.gw->readers.n, 12);
        ck_assert_ptr_null(*(void **)rig.gw->answers.chunks); /* one chunk did for all of it */
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway door");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_set_timeout(all, 60);
        tcase_add_test(all, a_full_door_refuses_at_once_and_the_rest_waits_its_turn);
        tcase_add_test(all, who_waits_too_long_is_refused);
        tcase_add_test(all, the_door_is_bounded_in_bytes);
        tcase_add_test(all, the_more_urgent_goes_first_and_nobody_overtakes_his_equals);
        tcase_add_test(all, a_waiting_request_may_be_cancelled_joined_and_asked_for);
        tcase_add_test(all, who_leaves_the_door_is_forgotten);
        tcase_add_test(all, a_deadline_also_ends_the_wait_at_the_door);
        tcase_add_test(all, draining_empties_the_door);
        tcase_add_test(all, a_full_arena_holds_back_large_bodies_until_one_ends);
        tcase_add_test(all, the_soft_bound_of_the_ring_holds_requests_back);
        tcase_add_test(all, overload_for_long_keeps_nothing);
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
