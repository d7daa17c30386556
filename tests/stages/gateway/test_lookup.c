/*
 * Ids that no table knows and the database may have: what is asked waits, and is answered in its order.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client client;

static void mark_stored(const char *id) {
        uint64_t bit, hash = log_id_hash("local", 5, id, (uint32_t)strlen(id));
        mr_au64 *word = log_stored(rig.lane[0].log, hash, &bit);

        atomic_fetch_or(word, bit);
}

/* The number under which the lane is asked for this id; 0: it is not. */
static uint64_t asked_for(const char *id) {
        struct ring_rx *rx = &rig.lane[0].lookups;
        const struct ring_msg *msg;
        struct record record;

        rig_settle(&rig);
        if (ring_rx_peek(rx, &msg) != 0)
                return 0;
        ck_assert_int_eq(msg->type, RECORD_LOOKUP);
        ck_assert_int_eq(record_decode(&rig.decoder, msg->data, msg->len, &record), 0);
        ck_assert_uint_eq(record.id.n, strlen(id));
        ck_assert(memcmp(record.id.p, id, record.id.n) == 0);
        ck_assert_uint_eq(record.tenant.n, 5);
        uint64_t seq = msg->seq, number = msg->req_id;
        ring_rx_take(rx);
        ring_rx_ack(rx, seq);
        ring_rx_flush(rx, true);
        return number;
}

static void answer(uint64_t number, uint16_t type, uint8_t flags) {
        struct ring_tx *tx = &rig.lane[0].notices;
        uint8_t *to;

        ck_assert_int_eq(ring_tx_begin(tx, 0, &to), 0);
        ring_tx_end(tx, &(struct ring_meta){.type = type, .flags = flags, .req_id = number}, 0);
        ring_tx_commit(tx);
}

static void set_up(void) {
        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 4});
        rig_connect(&rig, &client);
}

static void tear_down(void) {
        if (client.fd != -1)
                rig_disconnect(&client);
        rig_free(&rig);
}

START_TEST(an_id_that_is_not_stored_costs_no_question) {
        struct record request;

        rig_say(&client, "op", "submit", "id", "new", "prompt", "x", NULL);
        ck_assert(rig_take(&rig, 0, &request, NULL));
        ck_assert_uint_eq(asked_for("new"), 0);
        rig_expect(&rig, &client, "accepted");
        rig_say(&client, "op", "result", "id", "nobody", NULL);
        rig_expect_refusal(&rig, &client, "not_found", NULL);
}
END_TEST

START_TEST(an_absent_id_runs_after_all_and_only_once) {
        struct record request;
        uint64_t number;

        mark_stored("a");
        rig_say(&client, "op", "submit", "id", "a", "prompt", "x", NULL);
        rig_say(&client, "op", "submit", "id", "a", "prompt", "x", NULL);
        number = asked_for("a");
        ck_assert_uint_ne(number, 0);
        ck_assert_uint_eq(asked_for("a"), 0);
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        answer(number, RECORD_ABSENT, 0);
        ck_assert(rig_take(&rig, 0, &request, NULL));
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        rig_expect(&rig, &client, "accepted");
        rig_expect(&rig, &client, "accepted");
}
END_TEST

START_TEST(what_is_asked_of_an_absent_id_is_refused_in_order) {
        uint64_t number;

        mark_stored("a");
        rig_say(&client, "op", "result", "id", "a", NULL);
        rig_say(&client, "op", "attach", "id", "a", NULL);
        rig_say(&client, "op", "cancel", "id", "a", NULL);
        rig_say(&client, "op", "ping", NULL);
        number = asked_for("a");
        rig_expect(&rig, &client, "pong"); /* nobody else waits */
        answer(number, RECORD_ABSENT, 0);
        for (int i = 0; i < 3; i++)
                rig_expect_refusal(&rig, &client, "not_found", NULL);
}
END_TEST

START_TEST(a_database_that_cannot_be_asked_lets_new_work_in_and_refuses_questions) {
        struct record request;

        mark_stored("a");
        mark_stored("b");
        rig_say(&client, "op", "submit", "id", "a", "prompt", "x", NULL);
        answer(asked_for("a"), RECORD_ABSENT, RING_ERROR);
        ck_assert(rig_take(&rig, 0, &request, NULL));
        rig_expect(&rig, &client, "accepted");
        rig_say(&client, "op", "result", "id", "b", NULL);
        answer(asked_for("b"), RECORD_ABSENT, RING_ERROR);
        rig_expect_refusal(&rig, &client, "overloaded", "database");
}
END_TEST

START_TEST(a_client_that_leaves_takes_its_questions_along) {
        struct record request;
        uint64_t number;

        mark_stored("a");
        rig_say(&client, "op", "submit", "id", "a", "prompt", "x", NULL);
        number = asked_for("a");
        rig_disconnect(&client);
        client.fd = -1;
        rig_settle(&rig);
        answer(number, RECORD_ABSENT, 0);
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        ck_assert_uint_eq(rig.gw->lookups.n, 0);
        ck_assert_uint_eq(rig.gw->lookups.bytes, 0);
}
END_TEST

START_TEST(an_answer_to_a_dead_gateway_is_nobodys) {
        uint64_t number;

        mark_stored("a");
        rig_say(&client, "op", "result", "id", "a", NULL);
        number = asked_for("a");
        rig_kill(&rig);
        rig_revive(&rig);
        answer(number, RECORD_ABSENT, 0);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->lookups.n, 0);
}
END_TEST

START_TEST(a_stored_response_is_read_by_who_asked_and_by_who_came_meanwhile) {
        struct record stored = {.has = HAS(id) | HAS(tenant), .id = {"a", 1}, .tenant = {"local", 5}};
        uint64_t number;
        uint32_t response;

        mark_stored("a");
        rig_say(&client, "op", "attach", "id", "a", NULL);
        number = asked_for("a");
        rig.lane[0].silent = true; /* the one notice that counts comes when all is there */
        response = rig_response(&rig, 0, number, &stored);
        rig_delta(&rig, 0, response, 1, "kept");
        rig_done(&rig, 0, response, 2);
        rig_say(&client, "op", "result", "id", "a", NULL); /* it is in the log already */
        ck_assert(rig_is(rig_expect(&rig, &client, "result"), "text", "kept"));
        answer(number, RECORD_NOTICE, 0);
        ck_assert(rig_is(rig_expect(&rig, &client, "delta"), "text", "kept"));
        rig_expect(&rig, &client, "done");
        ck_assert_uint_eq(rig.gw->lookups.n, 0);
}
END_TEST

/* "onetwothree!" as numbers 1 to 4 in one delta, then the end. */
static uint32_t joined(uint64_t number, const struct record *stored) {
        struct record delta = {.has = HAS(text) | HAS(cuts),
                        .text = {"onetwothree!", 12},
                        .cuts = {"\3\3\5\1", 4}};
        uint32_t response = rig_response(&rig, 0, number, stored);

        rig.lane[0].log->responses[response].flags |= LOG_RESPONSE_DETACHED;
        rig_log(&rig, 0, response, RECORD_DELTA, 4, &delta, 0);
        rig_done(&rig, 0, response, 5);
        return response;
}

static void attach_after(unsigned char after) {
        unsigned char frame[] = "\x83\xa2op\xa6" "attach\xa2id\xa1" "a\xa5" "after\x00";

        frame[sizeof(frame) - 2] = after;
        rig_send(&client, frame, sizeof(frame) - 1);
}

START_TEST(what_was_joined_is_told_apart_again) {
        static const char *const texts[] = {"onetwothree!", "twothree!", "three!", "!"};
        struct record stored = {.has = HAS(id) | HAS(tenant), .id = {"a", 1}, .tenant = {"local", 5}};

        joined(77, &stored);
        for (unsigned char after = 0; after < 4; after++) {
                const msgpack_object *event;

                attach_after(after);
                event = rig_expect(&rig, &client, "delta");
                ck_assert(rig_is(event, "text", texts[after]));
                ck_assert_uint_eq(rig_u64(event, "first"), after + 1u);
                ck_assert_uint_eq(rig_u64(event, "seq"), 4);
                ck_assert_uint_eq(rig_u64(rig_expect(&rig, &client, "done"), "seq"), 5);
        }
        attach_after(4);
        rig_expect(&rig, &client, "done");
        rig_say(&client, "op", "result", "id", "a", NULL);
        ck_assert(rig_is(rig_expect(&rig, &client, "result"), "text", "onetwothree!"));
}
END_TEST

START_TEST(an_answer_whose_beginning_only_the_database_has_is_asked_for) {
        struct record stored = {.has = HAS(id) | HAS(tenant), .id = {"a", 1}, .tenant = {"local", 5}};
        uint32_t response = joined(77, &stored);
        struct log_shm *log = rig.lane[0].log;
        uint64_t number, first = atomic_load(&log->responses[response].first);

        mark_stored("a");
        atomic_store(&log_extents(log)[first - 1].start, 5000ull << 16);
        rig_say(&client, "op", "result", "id", "a", NULL);
        number = asked_for("a");
        ck_assert_uint_ne(number, 0);
        rig.lane[0].silent = true;
        joined(number, &stored);
        answer(number, RECORD_NOTICE, 0);
        ck_assert(rig_is(rig_expect(&rig, &client, "result"), "text", "onetwothree!"));
}
END_TEST

START_TEST(detached_work_needs_a_database_that_works) {
        static const char detach[] =
                        "\x84\xa2op\xa6submit\xa2id\xa1" "d\xa6prompt\xa1x\xa6" "detach\xc3";
        struct record request;

        atomic_store(&rig.lane[0].log->database_failed, 1);
        rig_send(&client, detach, sizeof(detach) - 1);
        rig_expect_refusal(&rig, &client, "overloaded", "database");
        atomic_store(&rig.lane[0].log->database_failed, 0);
        rig_send(&client, detach, sizeof(detach) - 1);
        ck_assert(rig_take(&rig, 0, &request, NULL));
        rig_expect(&rig, &client, "accepted");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("gateway lookup");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, set_up, tear_down);
        tcase_set_timeout(all, 60);
        tcase_add_test(all, an_id_that_is_not_stored_costs_no_question);
        tcase_add_test(all, an_absent_id_runs_after_all_and_only_once);
        tcase_add_test(all, what_is_asked_of_an_absent_id_is_refused_in_order);
        tcase_add_test(all, a_database_that_cannot_be_asked_lets_new_work_in_and_refuses_questions);
        tcase_add_test(all, a_client_that_leaves_takes_its_questions_along);
        tcase_add_test(all, an_answer_to_a_dead_gateway_is_nobodys);
        tcase_add_test(all, a_stored_response_is_read_by_who_asked_and_by_who_came_meanwhile);
        tcase_add_test(all, what_was_joined_is_told_apart_again);
        tcase_add_test(all, an_answer_whose_beginning_only_the_database_has_is_asked_for);
        tcase_add_test(all, detached_work_needs_a_database_that_works);
        suite_add_tcase(suite, all);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
