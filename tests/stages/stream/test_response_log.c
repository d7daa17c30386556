/*
 * The writing side of the response log, seen through the reading side.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "stages/common/record.h"
#include "tests/stages/stream/tape.h"

#define SMALL 262144u /* the least that the settings allow */

static uint8_t buf[LOG_EVENT_MAX];

/* Reads one event, which must be number seq of the request. */
static void expect_event(struct rig *rig, struct log_cursor *cursor, uint64_t seq, uint32_t len) {
        struct log_event_head head;

        ck_assert_int_eq(log_next(&rig->view, cursor, &head, buf, sizeof(buf)), 0);
        ck_assert_uint_eq(head.seq, seq);
        ck_assert_uint_eq(head.len, len);
        ck_assert(pattern_is(buf, cursor->req_id, seq, len));
}

static int expect(struct rig *rig, struct log_cursor *cursor) {
        struct log_event_head head;

        return log_next(&rig->view, cursor, &head, buf, sizeof(buf));
}

static enum log_state state_of(struct rig *rig, uint64_t req_id) {
        uint32_t response;

        return log_find(&rig->view, req_id, &response) ? LOG_FREE
                                                       : log_response_state(&rig->view, response);
}

/* A response with one event of `len` bytes that ends it. */
/* A detached one is one that the database has. */
static void finished(struct rig *rig, uint64_t req_id, uint32_t len, bool detached) {
        uint32_t response = rig_create(rig, req_id, req_id * 10, detached);

        ck_assert_int_eq(rig_append(rig, req_id, req_id * 10 + 1, len, LOG_OUTCOME_DONE), 0);
        if (detached)
                response_log_settle(&rig->log, response, true, req_id * 10 + 1);
}

/* A detached one whose end the database is to have first. */
static uint32_t held(struct rig *rig, uint64_t req_id, uint32_t n_events, uint32_t len) {
        uint32_t response = rig_create(rig, req_id, req_id * 1000, true);

        for (uint32_t i = 1; i < n_events; i++)
                ck_assert_int_eq(rig_append(rig, req_id, req_id * 1000 + i, len, 0), 0);
        ck_assert_int_eq(rig_hold(rig, req_id, req_id * 1000 + n_events, len), 0);
        return response;
}

/* ---- refusals ---------------------------------------------------------------------------------- */

START_TEST(a_view_of_other_memory_is_refused) {
        struct rig rig = rig_new(SMALL);
        struct log_shm *shm = rig.map;
        struct log_view view;

        ck_assert_int_eq(log_view_init(&view, rig.map, sizeof(*shm) - 1), -EPROTO);
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes - 1), -EPROTO);
        shm->magic ^= 1;
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes), -EPROTO);
        shm->magic ^= 1;
        shm->layout ^= 1;
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes), -EPROTO);
        shm->layout ^= 1;
        shm->n_extents += 1;
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes), -EPROTO);
        shm->n_extents = UINT32_MAX;
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes), -EPROTO);
        shm->n_responses = 0;
        ck_assert_int_eq(log_view_init(&view, rig.map, rig.bytes), -EPROTO);
        rig_close(&rig);
}
END_TEST

START_TEST(an_event_beyond_the_limit_is_refused) {
        struct rig rig = rig_new(4 * SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);

        ck_assert_int_eq(response_log_append(&rig.log, response, 2, RECORD_DELTA, buf,
                                         LOG_EVENT_MAX + 1, 0, 0),
                        -EPROTO);
        ck_assert_int_eq(rig_append(&rig, 7, 2, LOG_EVENT_MAX, 0), 0);
        rig_close(&rig);
}
END_TEST

START_TEST(an_input_that_is_in_the_log_changes_nothing) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 5, false), again = LOG_NONE;
        struct response_head head = {.req_id = 7,
                        .in_seq = 5,
                        .id = "id-7",
                        .id_len = 4,
                        .tenant = "local",
                        .tenant_len = 5};
        struct log_cursor cursor;

        ck_assert_int_eq(response_log_create(&rig.log, &head, &again), RESPONSE_E_KNOWN);
        ck_assert_uint_eq(again, response);
        ck_assert_int_eq(
                        rig_append(&rig, 7, 5, 8, 0), RESPONSE_E_KNOWN); /* the head's own number */
        ck_assert_int_eq(rig_append(&rig, 7, 9, 8, 0), 0);
        ck_assert_int_eq(rig_append(&rig, 7, 9, 8, 0), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_append(&rig, 7, 8, 8, 0), RESPONSE_E_KNOWN);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        expect_event(&rig, &cursor, 1, 8);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        rig_close(&rig);
}
END_TEST

/* A response of three events whose request runs anew by input 50, up to the question. */
static uint32_t asked(struct rig *rig) {
        uint32_t response = rig_create(rig, 7, 1, true);
        uint64_t decision = 0;

        for (uint32_t i = 0; i < 3; i++)
                ck_assert_int_eq(rig_append(rig, 7, 2 + i, 3000, 0), 0);
        ck_assert_int_eq(response_log_restart(&rig->log, response, 50, &decision), 0);
        ck_assert_uint_eq(decision, LOG_RESTART_ASKED);
        ck_assert(log_is_restarting(&rig->view, response));
        return response;
}

START_TEST(a_restart_that_is_in_the_log_changes_nothing) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 10, true), ended = rig_create(&rig, 8, 11, true);
        uint64_t decision;

        ck_assert_int_eq(rig_append(&rig, 7, 20, 8, 0), 0);
        ck_assert_int_eq(rig_hold(&rig, 8, 21, 8), 0);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 10, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 20, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(response_log_restart(&rig.log, ended, 22, &decision), RESPONSE_E_KNOWN);
        response_log_settle(&rig.log, ended, true, 1);
        ck_assert_int_eq(response_log_restart(&rig.log, ended, 23, &decision), RESPONSE_E_KNOWN);
        ck_assert(!log_is_restarting(&rig.view, response) && !log_is_restarting(&rig.view, ended));
        ck_assert(!log_is_restarting(&rig.view, UINT32_MAX) && !log_was_lost(&rig.view, UINT32_MAX));
        rig_close(&rig);
}
END_TEST

START_TEST(a_dropped_answer_begins_anew_at_event_one) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = asked(&rig), n_free;
        struct log_cursor cursor;
        uint64_t decision;

        response_log_decide(&rig.log, response, LOG_RESTART_DROP);
        ck_assert(log_is_restarting(&rig.view, response));
        response_log_drop(&rig.log, response);
        ck_assert(!log_is_restarting(&rig.view, response) && !log_was_lost(&rig.view, response));
        ck_assert_uint_eq(rig.log.n_free_extents, rig.view.n_extents);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 50, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_append(&rig, 7, 50, 8, 0), RESPONSE_E_KNOWN);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert_int_eq(rig_append(&rig, 7, 51, 5000, 0), 0);
        expect_event(&rig, &cursor, 1, 5000);
        n_free = rig.log.n_free_extents;
        rig_attach(&rig);
        ck_assert_uint_eq(rig.log.n_free_extents, n_free);
        ck_assert_int_eq(rig_append(&rig, 7, 52, 8, LOG_OUTCOME_DONE), 0);
        expect_event(&rig, &cursor, 2, 8);
        rig_close(&rig);
}
END_TEST

START_TEST(an_answer_without_events_may_run_anew_too) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, true);
        uint64_t decision;

        ck_assert_int_eq(response_log_restart(&rig.log, response, 5, &decision), 0);
        response_log_decide(&rig.log, response, LOG_RESTART_DROP);
        response_log_drop(&rig.log, response);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 5, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 6, &decision), 0);
        rig_close(&rig);
}
END_TEST

START_TEST(a_question_without_an_answer_is_asked_again_after_a_kill) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = asked(&rig);
        uint64_t decision, last = rig_last(&rig, response);

        rig_attach(&rig);
        ck_assert(log_is_restarting(&rig.view, response));
        ck_assert_uint_eq(rig_last(&rig, response), last);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 50, &decision), 0);
        ck_assert_uint_eq(decision, LOG_RESTART_ASKED);
        rig_close(&rig);
}
END_TEST

START_TEST(a_decision_is_repeated_after_a_kill) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = asked(&rig);
        struct log_cursor cursor;
        uint64_t decision;

        response_log_decide(&rig.log, response, LOG_RESTART_DROP);
        rig_attach(&rig); /* drops */
        ck_assert(!log_is_restarting(&rig.view, response));
        ck_assert_uint_eq(rig.log.n_free_extents, rig.view.n_extents);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 50, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_append(&rig, 7, 51, 100, 0), 0);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 60, &decision), 0);
        response_log_decide(&rig.log, response, LOG_RESTART_LOST);
        rig_attach(&rig);
        ck_assert(!log_is_restarting(&rig.view, response) && log_was_lost(&rig.view, response));
        ck_assert_int_eq(response_log_restart(&rig.log, response, 60, &decision), 0);
        ck_assert_uint_eq(decision, LOG_RESTART_LOST);
        ck_assert_int_eq(rig_append(&rig, 7, 60, 8, LOG_OUTCOME_RETRYABLE), 0);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 60, &decision), RESPONSE_E_KNOWN);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        expect_event(&rig, &cursor, 1, 100);
        expect_event(&rig, &cursor, 2, 8);
        rig_close(&rig);
}
END_TEST

START_TEST(nothing_follows_the_last_event) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);

        ck_assert_int_eq(rig_append(&rig, 7, 2, 8, LOG_OUTCOME_FAILED), 0);
        ck_assert_int_eq(rig_append(&rig, 7, 3, 8, 0), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_append(&rig, 7, 4, 8, LOG_OUTCOME_DONE), RESPONSE_E_KNOWN);
        ck_assert_int_eq(log_response_state(&rig.view, response), LOG_FINISHED);
        ck_assert_uint_eq(log_response_outcome(&rig.view, response), LOG_OUTCOME_FAILED);
        rig_close(&rig);
}
END_TEST

START_TEST(what_was_never_there_is_not_found) {
        struct rig rig = rig_new(SMALL);
        struct log_cursor cursor;
        uint32_t response;

        rig_create(&rig, 7, 1, false);
        ck_assert_int_eq(log_find(&rig.view, 8, &response), LOG_E_NONE);
        ck_assert_int_eq(log_find(&rig.view, 0, &response), LOG_E_NONE);
        ck_assert_int_eq(log_find_id(&rig.view, "local", 5, "id-8", 4, &response), LOG_E_NONE);
        ck_assert_int_eq(log_find_id(&rig.view, "other", 5, "id-7", 4, &response), LOG_E_NONE);
        ck_assert_int_ne(log_open(&rig.view, 8, 0, 0, &cursor), 0);
        ck_assert_int_ne(log_open(&rig.view, 7, UINT32_MAX, 0, &cursor), 0);
        rig_close(&rig);
}
END_TEST

/* ---- events ------------------------------------------------------------------------------------ */

START_TEST(events_of_any_length_come_back_whole_and_in_order) {
        static const uint32_t edges[] = {
                        LOG_EXTENT_DATA - 24, LOG_EXTENT_DATA, LOG_EXTENT_DATA - 48};
        struct rig rig = rig_new(64 * SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false), lens[512], n = 0;
        struct log_cursor cursor;

        for (uint32_t i = 0; i < 40; i++)
                lens[n++] = i;
        for (uint32_t e = 0; e < 3; e++)
                for (uint32_t d = 0; d < 40; d++)
                        lens[n++] = edges[e] + d - 20;
        lens[n++] = LOG_EVENT_MAX;
        lens[n++] = LOG_EVENT_MAX - 1;
        lens[n++] = 1;
        for (uint32_t i = 0; i < n; i++)
                ck_assert_int_eq(rig_append(&rig, 7, 2 + i, lens[i], 0), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        for (uint32_t i = 0; i < n; i++)
                expect_event(&rig, &cursor, i + 1, lens[i]);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert(!log_has_more(&rig.view, &cursor));
        rig_close(&rig);
}
END_TEST

START_TEST(a_cursor_opens_behind_any_event) {
        struct rig rig = rig_new(4 * SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_cursor cursor;

        for (uint32_t i = 0; i < 50; i++)
                ck_assert_int_eq(rig_append(&rig, 7, 2 + i, 100 * i, 0), 0);
        for (uint32_t after = 0; after < 50; after++) {
                ck_assert_int_eq(log_open(&rig.view, 7, response, after, &cursor), 0);
                expect_event(&rig, &cursor, after + 1, 100 * after);
        }
        ck_assert_int_eq(log_open(&rig.view, 7, response, 50, &cursor), 0);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert_int_eq(log_open(&rig.view, 7, response, UINT64_MAX, &cursor), 0);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert_int_eq(rig_append(&rig, 7, 99, 5, 0), 0);
        expect_event(&rig, &cursor, 51, 5);
        rig_close(&rig);
}
END_TEST

START_TEST(a_cursor_opens_before_the_first_event_comes) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_cursor cursor;

        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert_int_eq(rig_append(&rig, 7, 2, 10, 0), 0);
        ck_assert(log_has_more(&rig.view, &cursor));
        expect_event(&rig, &cursor, 1, 10);
        rig_close(&rig);
}
END_TEST

START_TEST(a_buffer_that_is_too_small_moves_nothing) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_event_head head;
        struct log_cursor cursor;

        ck_assert_int_eq(rig_append(&rig, 7, 2, 100, 0), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        ck_assert_int_eq(log_next(&rig.view, &cursor, &head, buf, 99), LOG_E_SPACE);
        ck_assert_uint_eq(head.len, 100);
        expect_event(&rig, &cursor, 1, 100);
        rig_close(&rig);
}
END_TEST

START_TEST(the_newest_response_of_an_id_is_found) {
        struct rig rig = rig_new(SMALL);
        struct response_head head = {.id = "same", .id_len = 4, .tenant = "local", .tenant_len = 5};
        uint32_t response, found;

        for (uint64_t req = 1; req <= 5; req++) {
                head.req_id = req;
                head.in_seq = req;
                head.now_ns = req * 100;
                ck_assert_int_eq(response_log_create(&rig.log, &head, &response), 0);
                ck_assert_int_eq(log_find_id(&rig.view, "local", 5, "same", 4, &found), 0);
                ck_assert_uint_eq(found, response);
        }
        rig_close(&rig);
}
END_TEST

/* ---- eviction ---------------------------------------------------------------------------------- */

START_TEST(what_finished_first_is_evicted_first_stored_or_not) {
        struct rig rig = rig_new(SMALL);
        uint32_t response;
        uint64_t req = 1;

        finished(&rig, req++, 100, false);
        finished(&rig, req++, 100, true); /* 2: detached, and stored */
        while (rig.log.n_free_extents > 1)
                finished(&rig, req++, 100, false);
        rig_create(&rig, 1000, 100000, false);
        ck_assert_int_eq(rig_append(&rig, 1000, 100001, 3 * LOG_EXTENT_DATA, 0), 0);
        for (uint64_t evicted = 1; evicted <= 3; evicted++)
                ck_assert_int_eq(state_of(&rig, evicted), LOG_EVICTED);
        ck_assert_int_eq(state_of(&rig, 4), LOG_FINISHED);
        ck_assert_uint_eq(rig.log.n_evicted, 3);
        /* Tombstones are found by number and by id. */
        ck_assert_int_eq(log_find_id(&rig.view, "local", 5, "id-2", 4, &response), 0);
        ck_assert_int_eq(log_response_state(&rig.view, response), LOG_EVICTED);
        rig_close(&rig);
}
END_TEST

START_TEST(an_entry_is_taken_from_what_finished_first_stored_or_not) {
        struct rig rig = rig_new(SMALL);
        uint32_t n = rig.view.n_responses;
        uint64_t req = 1, again;

        while (req <= n) {
                finished(&rig, req, 8, req % 2 == 1); /* of two kinds in turn */
                req++;
        }
        for (again = 1; again <= n / 2; again++) {
                uint32_t response;

                finished(&rig, req++, 8, false);
                ck_assert_int_eq(log_find(&rig.view, again, &response), LOG_E_NONE);
                ck_assert_int_eq(state_of(&rig, again + 1), LOG_FINISHED);
        }
        rig_close(&rig);
}
END_TEST

START_TEST(a_reader_of_an_evicted_response_is_told) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_cursor behind, fresh;

        ck_assert_int_eq(rig_append(&rig, 7, 2, 100, 0), 0);
        ck_assert_int_eq(rig_append(&rig, 7, 3, 100, LOG_OUTCOME_DONE), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &behind), 0);
        expect_event(&rig, &behind, 1, 100);
        response_log_expire(&rig.log, 4);
        ck_assert_int_eq(expect(&rig, &behind), LOG_E_GONE);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &fresh), LOG_E_GONE);
        rig_close(&rig);
}
END_TEST

START_TEST(a_tombstone_stays_until_its_entry_is_needed) {
        struct rig rig = rig_new(SMALL);
        uint32_t n = rig.view.n_responses, response;

        finished(&rig, 1, 8, false);
        response_log_expire(&rig.log, UINT64_MAX);
        for (uint64_t req = 2; req <= n; req++)
                finished(&rig, req, 8, false);
        ck_assert_int_eq(state_of(&rig, 1), LOG_EVICTED);
        finished(&rig, n + 1, 8, false);
        ck_assert_int_eq(log_find(&rig.view, 1, &response), LOG_E_NONE);
        ck_assert_int_eq(log_find_id(&rig.view, "local", 5, "id-1", 4, &response), LOG_E_NONE);
        ck_assert_int_eq(state_of(&rig, n + 1), LOG_FINISHED);
        rig_close(&rig);
}
END_TEST

START_TEST(only_what_finished_before_expires) {
        struct rig rig = rig_new(SMALL);

        finished(&rig, 1, 8, false); /* at 11 */
        finished(&rig, 2, 8, true);  /* at 21 */
        finished(&rig, 3, 8, false); /* at 31 */
        rig_create(&rig, 4, 1, false);
        response_log_expire(&rig.log, 31);
        ck_assert_int_eq(state_of(&rig, 1), LOG_EVICTED);
        ck_assert_int_eq(state_of(&rig, 2), LOG_EVICTED);
        ck_assert_int_eq(state_of(&rig, 3), LOG_FINISHED);
        ck_assert_int_eq(state_of(&rig, 4), LOG_OPEN);
        rig_close(&rig);
}
END_TEST

/* Appends until the response has passed over the whole log several times. */
START_TEST(a_response_longer_than_the_log_loses_its_own_beginning) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        uint64_t seq = 0, total = 0;
        struct log_cursor live, old;

        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &live), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &old), 0);
        for (uint64_t in = 2; total < 5 * rig.bytes; in++) {
                uint32_t len = (uint32_t)(in * 7919 % 20000);
                ck_assert_int_eq(rig_append(&rig, 7, in, len, 0), 0);
                expect_event(&rig, &live, ++seq, len);
                total += len;
        }
        ck_assert_int_eq(expect(&rig, &old), LOG_E_GONE);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &old), LOG_E_GONE);
        ck_assert_int_eq(log_open(&rig.view, 7, response, seq - 2, &old), 0);
        expect_event(&rig, &old, seq - 1, (uint32_t)(seq * 7919 % 20000));
        rig_close(&rig);
}
END_TEST

/* The worst that the daemon can make of it: many open responses, and each event as long as can be. */
START_TEST(open_responses_never_wedge_the_log) {
        struct rig rig = rig_new(4 * SMALL);
        uint32_t open = rig.view.n_extents - LOG_EVENT_MAX / LOG_EXTENT_DATA - 2;
        uint64_t in = 1, state = 88172645463325252ull;

        for (uint64_t req = 1; req <= open; req++)
                rig_create(&rig, req, in++, false);
        for (uint64_t req = 1; req <= open; req++)
                ck_assert_int_eq(rig_append(&rig, req, in++, 10, 0), 0);
        for (uint32_t i = 0; i < 3000; i++) {
                uint64_t req = 1 + tape_random(&state) % open;
                uint32_t len = tape_random(&state) % 4 ? (uint32_t)(tape_random(&state) % 9000)
                                                       : LOG_EVENT_MAX;
                ck_assert_int_eq(rig_append(&rig, req, in++, len, 0), 0);
                if (i % 512 == 0)
                        rig_attach(&rig);
        }
        rig_close(&rig);
}
END_TEST

START_TEST(a_reader_that_has_read_all_is_not_cut) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_cursor cursor;
        uint64_t in = 2;

        /* It stands at the very end of an extent; that one is evicted, the next event is not. */
        ck_assert_int_eq(rig_append(&rig, 7, in++, LOG_EXTENT_DATA - 24, 0), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        expect_event(&rig, &cursor, 1, LOG_EXTENT_DATA - 24);
        ck_assert_int_eq(rig_append(&rig, 7, in++, 30 * LOG_EXTENT_DATA - 24, 0), 0);
        rig_create(&rig, 8, in++, false);
        for (int i = 0; rig.log.links[response].n_extents > 30; i++) {
                ck_assert_int_lt(i, 1000);
                ck_assert_int_eq(rig_append(&rig, 8, in++, 2000, 0), 0);
        }
        expect_event(&rig, &cursor, 2, 30 * LOG_EXTENT_DATA - 24);
        rig_close(&rig);
}
END_TEST

/* ---- held responses ---------------------------------------------------------------------------- */

/* Every event is in the copy that goes to the database. */
static void expect_copy(const struct rig *rig, uint64_t req_id, uint32_t response, uint32_t n_events,
                uint32_t len) {
        uint64_t bytes = response_log_bytes(&rig->log, response);
        uint8_t *copy = malloc(bytes + 1), *at = copy;

        ck_assert_ptr_nonnull(copy);
        ck_assert_uint_eq(bytes, n_events * (sizeof(struct log_event_head) + layout_align(len, 8)));
        ck_assert_int_eq(response_log_copy(&rig->log, response, bytes, copy), 0);
        for (uint32_t i = 1; i <= n_events; i++) {
                struct log_event_head head;

                memcpy(&head, at, sizeof(head));
                ck_assert_uint_eq(head.seq, i);
                ck_assert_uint_eq(head.len, len);
                ck_assert_uint_eq(head.type, i == n_events ? RECORD_DONE : RECORD_DELTA);
                at += sizeof(head);
                ck_assert(pattern_is(at, req_id, i, len));
                at += layout_align(len, 8);
        }
        free(copy);
}

START_TEST(nothing_is_held_twice_and_nothing_follows_it) {
        struct rig rig = rig_new(SMALL);

        held(&rig, 7, 3, 100);
        ck_assert_int_eq(rig_hold(&rig, 7, 7003, 100), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_hold(&rig, 7, 7004, 100), RESPONSE_E_KNOWN);
        ck_assert_int_eq(rig_append(&rig, 7, 7005, 100, 0), RESPONSE_E_KNOWN);
        rig_close(&rig);
}
END_TEST

START_TEST(a_held_end_is_published_when_the_database_has_it) {
        struct rig rig = rig_new(SMALL);
        uint32_t response = held(&rig, 7, 3, 100);
        struct log_cursor cursor;

        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        expect_event(&rig, &cursor, 1, 100);
        expect_event(&rig, &cursor, 2, 100);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        ck_assert_int_eq(log_response_state(&rig.view, response), LOG_OPEN);
        expect_copy(&rig, 7, response, 3, 100);
        response_log_settle(&rig.log, response, true, 99);
        expect_event(&rig, &cursor, 3, 100);
        ck_assert_int_eq(log_response_state(&rig.view, response), LOG_FINISHED);
        ck_assert_uint_eq(log_response_outcome(&rig.view, response), LOG_OUTCOME_DONE);
        ck_assert_uint_eq(rig.log.list[LIST_DETACHED].n, 1);
        rig_close(&rig);
}
END_TEST

START_TEST(a_successor_finds_what_is_held) {
        for (uint32_t len = 0; len <= 3 * LOG_EXTENT_DATA; len += LOG_EXTENT_DATA / 2) {
                struct rig rig = rig_new(SMALL);
                uint32_t response = held(&rig, 7, 4, len);

                rig_attach(&rig);
                ck_assert_uint_eq(rig.log.list[LIST_HELD].n, 1);
                ck_assert_int_eq(rig_hold(&rig, 7, 7004, len), RESPONSE_E_KNOWN);
                expect_copy(&rig, 7, response, 4, len);
                response_log_settle(&rig.log, response, false, 99);
                rig_attach(&rig);
                ck_assert_uint_eq(rig.log.list[LIST_UNSTORED].n, 1);
                expect_copy(&rig, 7, response, 4, len);
                response_log_settle(&rig.log, response, true, 99);
                rig_attach(&rig);
                ck_assert_uint_eq(rig.log.list[LIST_DETACHED].n, 1);
                rig_close(&rig);
        }
}
END_TEST

START_TEST(what_is_held_is_never_evicted_and_what_is_not_stored_last) {
        struct rig rig = rig_new(SMALL);
        uint32_t kept = held(&rig, 1, 3, 100), unstored = held(&rig, 2, 3, 100);
        uint64_t in = 100000;

        response_log_settle(&rig.log, unstored, false, 1);
        rig_create(&rig, 3, in++, false);
        for (int i = 0; i < 200; i++)
                ck_assert_int_eq(rig_append(&rig, 3, in++, LOG_EXTENT_DATA, 0), 0);
        ck_assert_int_eq(state_of(&rig, 2), LOG_FINISHED);
        expect_copy(&rig, 1, kept, 3, 100);
        expect_copy(&rig, 2, unstored, 3, 100);
        response_log_expire(&rig.log, UINT64_MAX);
        ck_assert_int_eq(state_of(&rig, 2), LOG_FINISHED);
        rig_close(&rig);
}
END_TEST

START_TEST(a_log_full_of_held_responses_waits_for_the_database) {
        struct rig rig = rig_new(4 * SMALL);
        uint64_t req = 1;
        uint32_t response, more;

        while (rig.log.n_free_extents > 4)
                held(&rig, req++, 1, 3 * LOG_EXTENT_DATA);
        more = rig_create(&rig, 1000, 5000000, true);
        ck_assert_int_eq(rig_append(&rig, 1000, 5000001, 5 * LOG_EXTENT_DATA, 0), RESPONSE_E_SPACE);
        ck_assert_int_eq(response_log_find(&rig.log, 1, &response), 0);
        response_log_settle(&rig.log, response, true, 1);
        ck_assert_int_eq(rig_append(&rig, 1000, 5000001, 5 * LOG_EXTENT_DATA, 0), 0);
        ck_assert_uint_eq(rig_last(&rig, more), 1);
        rig_close(&rig);
}
END_TEST

/* ---- parts ------------------------------------------------------------------------------------- */

/* Everything that the database has been given, and reads back as one stream of events. */
struct given {
        uint8_t bytes[4u << 20];
        uint64_t n;
};
static struct given given;

static void give(struct rig *rig, uint32_t response, uint64_t bytes) {
        ck_assert_uint_le(given.n + bytes, sizeof(given.bytes));
        ck_assert_int_eq(response_log_copy(&rig->log, response, bytes, given.bytes + given.n), 0);
        given.n += bytes;
}

static void expect_given(uint64_t req_id, uint32_t n_events, uint32_t len) {
        uint64_t at = 0;

        for (uint32_t i = 1; i <= n_events; i++) {
                struct log_event_head head;

                memcpy(&head, given.bytes + at, sizeof(head));
                ck_assert_uint_eq(head.seq, i);
                ck_assert_uint_eq(head.len, len);
                at += sizeof(head);
                ck_assert(pattern_is(given.bytes + at, req_id, i, len));
                at += layout_align(len, 8);
        }
        ck_assert_uint_eq(at, given.n);
}

/* An open detached response that fills the log. How many events it has. */
static uint32_t filled(struct rig *rig, uint64_t req_id, uint32_t len, uint32_t *ret) {
        uint32_t n = 0;

        given.n = 0;
        *ret = rig_create(rig, req_id, 1, true);
        while (rig_append(rig, req_id, 2 + n, len, 0) == 0)
                n++;
        ck_assert_uint_gt(n, 10);
        return n;
}

START_TEST(without_a_database_a_detached_response_loses_its_beginning_too) {
        struct rig rig = rig_new(SMALL);
        struct log_cursor cursor;
        uint32_t response, n = filled(&rig, 7, 5000, &response);

        rig.log.may_lose = true;
        ck_assert_int_eq(rig_append(&rig, 7, 2 + n, 5000, 0), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), LOG_E_GONE);
        ck_assert_uint_eq(response_log_bytes(&rig.log, response), 0);
        ck_assert_uint_eq(response_log_part(&rig.log, &response), 0);
        rig.log.may_lose = false; /* it can never be stored: so it may lose more */
        ck_assert_int_eq(rig_append(&rig, 7, 3 + n, 20000, 0), 0);
        rig_close(&rig);
}
END_TEST

START_TEST(a_part_is_given_back_only_when_it_is_stored) {
        struct rig rig = rig_new(SMALL);
        uint32_t response, n = filled(&rig, 7, 500, &response), which;
        uint64_t bytes = response_log_part(&rig.log, &which);
        struct log_cursor cursor;

        ck_assert_uint_eq(which, response);
        ck_assert_uint_gt(bytes, 0);
        response_log_part_begin(&rig.log, response);
        ck_assert_uint_eq(response_log_part(&rig.log, &which), 0); /* one at a time */
        ck_assert_int_eq(rig_append(&rig, 7, 2 + n, 500, 0), RESPONSE_E_SPACE);
        response_log_part_done(&rig.log, response, bytes, false);
        ck_assert_int_eq(rig_append(&rig, 7, 2 + n, 500, 0), RESPONSE_E_SPACE);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        ck_assert_uint_eq(response_log_part(&rig.log, &which), bytes);
        response_log_part_begin(&rig.log, response);
        response_log_part_done(&rig.log, response, bytes, true);
        ck_assert_int_eq(rig_append(&rig, 7, 2 + n, 500, 0), 0);
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), LOG_E_GONE);
        ck_assert_int_eq(log_open(&rig.view, 7, response, n, &cursor), 0);
        expect_event(&rig, &cursor, n + 1, 500);
        ck_assert(!log_has_beginning(&rig.view, response));
        rig_close(&rig);
}
END_TEST

START_TEST(parts_and_the_rest_are_all_of_the_answer_whatever_the_length_of_events) {
        static const uint32_t lens[] = {8, 500, LOG_EXTENT_DATA - 24, 5000, 20000, 100000};

        for (unsigned k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
                struct rig rig = rig_new(3 * SMALL);
                uint32_t response = rig_create(&rig, 7, 1, true), which, n = 0, n_parts = 0;
                uint64_t in = 2, bytes;

                given.n = 0;
                while (n_parts < 4) {
                        if (rig_append(&rig, 7, in, lens[k], 0) == 0) {
                                in++;
                                n++;
                                continue;
                        }
                        bytes = response_log_part(&rig.log, &which);
                        ck_assert_uint_gt(bytes, 0);
                        give(&rig, response, bytes);
                        response_log_part_begin(&rig.log, response);
                        if (n_parts % 2)
                                rig_attach(&rig); /* killed before it heard: it is given again */
                        if (n_parts % 2) {
                                given.n -= bytes;
                                bytes = response_log_part(&rig.log, &which);
                                give(&rig, response, bytes);
                        }
                        response_log_part_done(&rig.log, response, bytes, true);
                        rig_attach(&rig);
                        n_parts++;
                }
                ck_assert_int_eq(rig_hold(&rig, 7, in, lens[k]), 0);
                rig_attach(&rig);
                give(&rig, response, response_log_bytes(&rig.log, response));
                expect_given(7, n + 1, lens[k]);
                response_log_settle(&rig.log, response, true, 1);
                ck_assert_int_eq(state_of(&rig, 7), LOG_FINISHED);
                rig_close(&rig);
        }
}
END_TEST

START_TEST(an_answer_that_begins_anew_has_nothing_stored) {
        struct rig rig = rig_new(SMALL);
        uint32_t response, n = filled(&rig, 7, 500, &response), which;
        uint64_t bytes = response_log_part(&rig.log, &which), decision;

        response_log_part_begin(&rig.log, response);
        response_log_part_done(&rig.log, response, bytes, true);
        bytes = response_log_part(&rig.log, &which);
        response_log_part_begin(&rig.log, response);
        ck_assert_int_eq(response_log_restart(&rig.log, response, 1000 + n, &decision), 0);
        response_log_decide(&rig.log, response, LOG_RESTART_DROP);
        response_log_drop(&rig.log, response);
        ck_assert_int_eq(rig_append(&rig, 7, 2000 + n, 500, 0), 0);
        ck_assert_uint_eq(response_log_bytes(&rig.log, response), 24 + 504);
        rig_attach(&rig);
        give(&rig, response, response_log_bytes(&rig.log, response));
        expect_given(7, 1, 500);
        ck_assert(log_has_beginning(&rig.view, response));
        rig_close(&rig);
}
END_TEST

START_TEST(what_is_written_back_half_way_is_forgotten_by_a_successor) {
        struct rig rig = rig_new(SMALL);
        struct response_head head = {.req_id = 9,
                        .id = "id-9",
                        .id_len = 4,
                        .tenant = "local",
                        .tenant_len = 5,
                        .detached = true,
                        .stored = true};
        uint32_t response;

        ck_assert_int_eq(response_log_create(&rig.log, &head, &response), 0);
        ck_assert_int_eq(rig_append(&rig, 9, 1, 20000, 0), 0);
        ck_assert(response_log_restoring(&rig.log) && log_is_restoring(&rig.view, response));
        ck_assert_uint_eq(response_log_part(&rig.log, &response), 0);
        rig_attach(&rig);
        ck_assert(!response_log_restoring(&rig.log));
        ck_assert_int_eq(state_of(&rig, 9), LOG_FREE);
        ck_assert_uint_eq(rig.log.n_free_extents, rig.view.n_extents);
        ck_assert_int_eq(log_find_id(&rig.view, "local", 5, "id-9", 4, &response), LOG_E_NONE);
        rig_close(&rig);
}
END_TEST

/* ---- attach ------------------------------------------------------------------------------------ */

START_TEST(a_successor_goes_on_where_the_log_stands) {
        struct rig rig = rig_new(4 * SMALL);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_cursor cursor;

        for (uint32_t i = 0; i < 30; i++) {
                ck_assert_int_eq(rig_append(&rig, 7, 2 + i, 500 * i, 0), 0);
                rig_attach(&rig);
                ck_assert_int_eq(rig_append(&rig, 7, 2 + i, 500 * i, 0), RESPONSE_E_KNOWN);
        }
        ck_assert_int_eq(log_open(&rig.view, 7, response, 0, &cursor), 0);
        for (uint32_t i = 0; i < 30; i++)
                expect_event(&rig, &cursor, i + 1, 500 * i);
        ck_assert_int_eq(expect(&rig, &cursor), LOG_E_AGAIN);
        rig_close(&rig);
}
END_TEST

START_TEST(a_successor_evicts_in_the_same_order) {
        struct rig rig = rig_new(SMALL);
        uint64_t free_before;

        for (uint64_t req = 9; req >= 1;
                        req--) { /* 1 finishes last, but has the lowest entry of none */
                rig_create(&rig, req, 100 - req, false);
                ck_assert_int_eq(rig_append(&rig, req, 200 - req, 8, LOG_OUTCOME_DONE), 0);
        }
        free_before = rig.log.n_free_extents;
        rig_attach(&rig);
        ck_assert_uint_eq(rig.log.n_free_extents, free_before);
        response_log_expire(&rig.log, 200 - 5);
        for (uint64_t req = 1; req <= 9; req++)
                ck_assert_int_eq(state_of(&rig, req), req > 5 ? LOG_EVICTED : LOG_FINISHED);
        rig_close(&rig);
}
END_TEST

#define ORDER_N 100u

/* In turn from any entry on, backwards, and in no order at all. */
START_TEST(a_successor_finds_any_order_again) {
        for (uint64_t kind = 0; kind < 3; kind++) {
                struct rig rig = rig_new(4 * SMALL);
                uint64_t last = 0, n = 0;

                for (uint64_t req = 1; req <= ORDER_N; req++) {
                        uint64_t turn = kind == 0   ? (req + 70) % ORDER_N
                                        : kind == 1 ? ORDER_N - req
                                                    : req * 37 % ORDER_N;
                        rig_create(&rig, req, 100, false);
                        ck_assert_int_eq(rig_append(&rig, req, 200 + turn, 8, LOG_OUTCOME_DONE), 0);
                }
                rig_create(&rig, ORDER_N + 1, 1000, false); /* and one that is open */
                rig_attach(&rig);
                ck_assert_uint_eq(rig.log.list[LIST_FINISHED].n, ORDER_N);
                for (uint32_t i = rig.log.list[LIST_FINISHED].first; i != LOG_NONE;
                                i = rig.log.links[i].next, n++) {
                        uint64_t finished_ns = atomic_load(&rig.log.shm->responses[i].finished_ns);
                        ck_assert_uint_lt(last, finished_ns);
                        last = finished_ns;
                }
                ck_assert_uint_eq(n, ORDER_N);
                rig_close(&rig);
        }
}
END_TEST

START_TEST(a_successor_counts_ids_again_when_a_kill_left_too_many) {
        struct rig rig = rig_new(SMALL);
        uint64_t hash = log_id_hash("local", 5, "id-7", 4);
        _Atomic uint32_t *right, *other;

        rig_create(&rig, 7, 1, false);
        right = log_presence(rig.log.shm, hash);
        other = log_presence(rig.log.shm, hash + 1);
        atomic_fetch_add(right, 1);
        atomic_fetch_add(other, 1);
        rig_attach(&rig);
        ck_assert_uint_eq(atomic_load(right), 1);
        ck_assert_uint_eq(atomic_load(other), 0);
        rig_close(&rig);
}
END_TEST

START_TEST(no_extent_is_lost_over_many_lives) {
        struct rig rig = rig_new(2 * SMALL);

        for (uint64_t s = TAPE_LANES; s < 20000; s++) {
                tape_write(&rig, s, 30000);
                if (s % 997 == 0)
                        rig_attach(&rig);
        }
        uint64_t held = 0;
        for (uint32_t i = 0; i < rig.view.n_responses; i++)
                held += rig.log.links[i].n_extents;
        ck_assert_uint_eq(held + rig.log.n_free_extents, rig.view.n_extents);
        rig_close(&rig);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("response_log");
        TCase *refusals = tcase_create("refusals"), *events = tcase_create("events");
        TCase *eviction = tcase_create("eviction"), *attach = tcase_create("attach");
        TCase *holding = tcase_create("holding");

        tcase_add_test(refusals, a_view_of_other_memory_is_refused);
        tcase_add_test(refusals, an_event_beyond_the_limit_is_refused);
        tcase_add_test(refusals, an_input_that_is_in_the_log_changes_nothing);
        tcase_add_test(refusals, nothing_follows_the_last_event);
        tcase_add_test(refusals, a_restart_that_is_in_the_log_changes_nothing);
        tcase_add_test(refusals, a_dropped_answer_begins_anew_at_event_one);
        tcase_add_test(refusals, an_answer_without_events_may_run_anew_too);
        tcase_add_test(refusals, a_question_without_an_answer_is_asked_again_after_a_kill);
        tcase_add_test(refusals, a_decision_is_repeated_after_a_kill);
        tcase_add_test(refusals, what_was_never_there_is_not_found);
        tcase_add_test(events, events_of_any_length_come_back_whole_and_in_order);
        tcase_add_test(events, a_cursor_opens_behind_any_event);
        tcase_add_test(events, a_cursor_opens_before_the_first_event_comes);
        tcase_add_test(events, a_buffer_that_is_too_small_moves_nothing);
        tcase_add_test(events, the_newest_response_of_an_id_is_found);
        tcase_add_test(eviction, what_finished_first_is_evicted_first_stored_or_not);
        tcase_add_test(eviction, an_entry_is_taken_from_what_finished_first_stored_or_not);
        tcase_add_test(eviction, a_reader_of_an_evicted_response_is_told);
        tcase_add_test(eviction, a_tombstone_stays_until_its_entry_is_needed);
        tcase_add_test(eviction, only_what_finished_before_expires);
        tcase_add_test(eviction, a_response_longer_than_the_log_loses_its_own_beginning);
        tcase_add_test(eviction, open_responses_never_wedge_the_log);
        tcase_add_test(eviction, a_reader_that_has_read_all_is_not_cut);
        tcase_add_test(holding, nothing_is_held_twice_and_nothing_follows_it);
        tcase_add_test(holding, a_held_end_is_published_when_the_database_has_it);
        tcase_add_test(holding, a_successor_finds_what_is_held);
        tcase_add_test(holding, what_is_held_is_never_evicted_and_what_is_not_stored_last);
        tcase_add_test(holding, a_log_full_of_held_responses_waits_for_the_database);
        tcase_add_test(holding, without_a_database_a_detached_response_loses_its_beginning_too);
        tcase_add_test(holding, a_part_is_given_back_only_when_it_is_stored);
        tcase_add_test(holding, parts_and_the_rest_are_all_of_the_answer_whatever_the_length_of_events);
        tcase_add_test(holding, an_answer_that_begins_anew_has_nothing_stored);
        tcase_add_test(holding, what_is_written_back_half_way_is_forgotten_by_a_successor);
        tcase_add_test(attach, a_successor_goes_on_where_the_log_stands);
        tcase_add_test(attach, a_successor_evicts_in_the_same_order);
        tcase_add_test(attach, a_successor_finds_any_order_again);
        tcase_add_test(attach, a_successor_counts_ids_again_when_a_kill_left_too_many);
        tcase_add_test(attach, no_extent_is_lost_over_many_lives);
        for (int i = 0; i < 5; i++) {
                TCase *cases[] = {refusals, events, eviction, holding, attach};
                tcase_set_timeout(cases[i], 120);
                suite_add_tcase(suite, cases[i]);
        }
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
