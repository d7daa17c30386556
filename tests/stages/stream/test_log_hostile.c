/*
 * The log as a hostile or broken stream stage could leave it: a reader may say anything, but it stays
 * within the mapping and comes to an end; so does a successor that attaches, or it refuses. (Under ASan the
 * image is a heap block of exactly its size.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "tests/stages/stream/tape.h"

#define MAX_LEN 9000u
#define EVENTS_MAX 100000u

static uint8_t buf[LOG_EVENT_MAX];

/* A log with finished, open and evicted responses, copied to a block of its own. */
static uint8_t *image_new(uint64_t *ret_bytes, uint64_t *ret_last_req) {
        struct rig rig = rig_new(262144);
        uint8_t *image;

        for (uint64_t s = TAPE_LANES; s < 3000; s++)
                tape_write(&rig, s, MAX_LEN);
        *ret_bytes = rig.bytes;
        *ret_last_req = tape_at(2999, MAX_LEN).req_id;
        image = aligned_alloc(4096, rig.bytes);
        ck_assert_ptr_nonnull(image);
        memcpy(image, rig.map, rig.bytes);
        rig_close(&rig);
        return image;
}

static void read_response(
                const struct log_view *view, uint64_t req, uint32_t response, uint64_t after) {
        struct log_event_head head;
        struct log_cursor cursor;
        uint32_t n = 0;

        if (log_open(view, req, response, after, &cursor))
                return;
        while (log_next(view, &cursor, &head, buf, sizeof(buf)) == 0 && n++ < EVENTS_MAX)
                ck_assert_uint_le(head.len, LOG_EVENT_MAX);
}

/* Everything that a gateway does with a log. */
static void use(const struct log_view *view, uint64_t last_req) {
        char id[32];
        uint64_t digest[2];
        uint32_t response;

        for (uint64_t req = last_req > 20 ? last_req - 20 : 1; req <= last_req + 1; req++) {
                uint32_t id_len = (uint32_t)snprintf(
                                id, sizeof(id), "id-%llu", (unsigned long long)req);
                if (log_find_id(view, "local", 5, id, id_len, &response) == 0)
                        ck_assert_uint_lt(response, view->n_responses);
                if (log_find(view, req, &response))
                        continue;
                ck_assert_uint_lt(response, view->n_responses);
                ck_assert_int_le(log_response_state(view, response), LOG_EVICTED);
                log_response_outcome(view, response);
                log_response_detached(view, response);
                log_response_digest(view, response, digest);
                read_response(view, req, response, 0);
                read_response(view, req, response, 5);
                read_response(view, req, response, UINT64_MAX);
        }
}

/* Anywhere, but mostly where it says something: the header, the entries, an extent's head. */
static uint8_t *victim(
                uint8_t *image, uint64_t bytes, const struct log_view *view, uint64_t *state) {
        uint64_t extents = (uint64_t)((const uint8_t *)view->extents - image),
                 where = tape_random(state) % 8;

        if (where == 0)
                return image + tape_random(state) % bytes;
        if (where == 1)
                return image + tape_random(state) % sizeof(struct log_shm);
        if (where < 5)
                return image + tape_random(state) % extents;
        return image + extents + tape_random(state) % view->n_extents * LOG_EXTENT +
               tape_random(state) % (LOG_EXTENT_HEAD + 64);
}

START_TEST(flipped_bits_never_lead_a_reader_astray) {
        uint64_t bytes, last_req, state = 0x9e3779b97f4a7c15ull, used = 0;
        uint8_t *image = image_new(&bytes, &last_req), *whole = malloc(bytes);
        struct log_view view, sound;

        ck_assert_ptr_nonnull(whole);
        memcpy(whole, image, bytes);
        ck_assert_int_eq(log_view_init(&sound, image, bytes), 0);
        for (int round = 0; round < 4000; round++) {
                uint64_t n = 1 + tape_random(&state) % 12;
                while (n--) {
                        uint8_t *at = victim(image, bytes, &sound, &state);
                        *at = tape_random(&state) % 2
                                              ? (uint8_t)tape_random(&state)
                                              : (uint8_t)(*at ^ 1u << tape_random(&state) % 8);
                }
                use(&sound, last_req); /* broken after the view was made */
                if (log_view_init(&view, image, bytes) == 0) {
                        used++;
                        use(&view, last_req);
                }
                if (round % 4 == 3)
                        memcpy(image, whole, bytes);
        }
        ck_assert_uint_gt(used, 100);
        free(image);
        free(whole);
}
END_TEST

START_TEST(noise_behind_a_sound_header_never_leads_a_reader_astray) {
        uint64_t bytes, last_req, state = 0xda942042e4dd58b5ull;
        uint8_t *image = image_new(&bytes, &last_req);
        struct log_view view;

        ck_assert_int_eq(log_view_init(&view, image, bytes), 0);
        for (int round = 0; round < 60; round++) {
                for (uint64_t i = sizeof(struct log_shm); i + 8 <= bytes; i += 8) {
                        uint64_t word = tape_random(&state);
                        if (round % 3 == 1)
                                word %= 64;
                        if (round % 3 < 2 || tape_random(&state) % 16 == 0)
                                memcpy(image + i, &word, 8);
                }
                use(&view, last_req);
        }
        free(image);
}
END_TEST

/* A ring of extents, events that advance by the least, and no end in sight. */
START_TEST(a_circle_of_extents_comes_to_an_end) {
        struct rig rig = rig_new(262144);
        uint32_t response = rig_create(&rig, 7, 1, false);
        struct log_response *entry = &rig.log.shm->responses[response];

        ck_assert_int_eq(rig_append(&rig, 7, 2, 3 * LOG_EXTENT_DATA, 0), 0);
        for (uint32_t e = 0; e < rig.view.n_extents; e++) {
                struct log_extent *extent = &rig.log.extents[e];
                for (uint32_t at = 0; at + 24 <= LOG_EXTENT_DATA; at += 24)
                        memcpy(extent->data + at, &(struct log_event_head){.seq = 1}, 24);
                atomic_store(&extent->gen, 1);
                atomic_store(&extent->req_id, 7);
                atomic_store(&extent->next, e ? e : rig.view.n_extents);
                atomic_store(&extent->start, 0);
        }
        atomic_store(&entry->end, UINT64_MAX - 7);
        read_response(&rig.view, 7, response, UINT64_MAX);
        read_response(&rig.view, 7, response, 1);
        for (uint32_t i = 0; i < rig.view.n_responses; i++) { /* and of entries */
                atomic_store(&rig.log.shm->responses[i].chain, (i + 1) % rig.view.n_responses + 1);
                atomic_store(&rig.log.shm->responses[i].req_id, 9);
        }
        ck_assert_int_eq(log_find(&rig.view, 8, &response), LOG_E_NONE);
        rig_close(&rig);
}
END_TEST

/* ---- a successor --------------------------------------------------------------------------------- */

static uint8_t *image_of(const struct rig *rig) {
        uint8_t *image = aligned_alloc(4096, rig->bytes);

        ck_assert_ptr_nonnull(image);
        memcpy(image, rig->map, rig->bytes);
        return image;
}

/* Responses of every kind: ended in one extent and in many, open, held, not stored, partly stored, about to
 * begin anew, evicted. */
static uint8_t *image_of_all_kinds(uint64_t *ret_bytes) {
        struct rig rig = rig_new(262144);
        uint64_t in = 1000, part, decision;
        uint32_t response;
        uint8_t *image;

        rig_create(&rig, 1, in++, true);
        while (rig_append(&rig, 1, in, 700, 0) == 0)
                in++;
        part = response_log_part(&rig.log, &response);
        response_log_part_begin(&rig.log, response);
        response_log_part_done(&rig.log, response, part, true);
        for (uint64_t req = 2; req < 14; req++) {
                rig_create(&rig, req, in++, req % 2);
                ck_assert_int_eq(rig_append(&rig, req, in++, req % 3 ? 100 : 5000, 0), 0);
                if (req < 8)
                        ck_assert_int_eq(rig_append(&rig, req, in++, 20, LOG_OUTCOME_DONE), 0);
                else if (req < 12)
                        ck_assert_int_eq(rig_hold(&rig, req, in++, 20), 0);
        }
        ck_assert_int_eq(response_log_find(&rig.log, 9, &response), 0);
        response_log_settle(&rig.log, response, true, in);
        ck_assert_int_eq(response_log_find(&rig.log, 11, &response), 0);
        response_log_settle(&rig.log, response, false, in);
        ck_assert_int_eq(response_log_find(&rig.log, 13, &response), 0);
        ck_assert_int_eq(response_log_restart(&rig.log, response, in, &decision), 0);
        response_log_decide(&rig.log, response, LOG_RESTART_DROP);
        response_log_expire(&rig.log, 1006);
        *ret_bytes = rig.bytes;
        image = image_of(&rig);
        rig_close(&rig);
        return image;
}

/* As a job for the database. */
static void copy(struct response_log *log, uint32_t response, uint64_t n) {
        uint8_t *to = malloc(n + 1);

        ck_assert_ptr_nonnull(to);
        ck_assert_uint_le(n, (uint64_t)log->view.n_extents * LOG_EXTENT_DATA);
        (void)response_log_copy(log, response, n, to);
        free(to);
}

static void append(struct response_log *log, uint32_t response, uint64_t *in, uint32_t n) {
        static const uint8_t payload[20000];

        for (; n; n--, ++*in)
                (void)response_log_append(log, response, *in, 1, payload,
                                (uint32_t)(*in * 7919 % sizeof(payload)), n == 1, *in);
}

/* Everything that a successor does with a log. */
static void live(struct response_log *log) {
        uint64_t in = 1u << 20, n, decision;
        struct response_head head = {.id = "new", .id_len = 3, .tenant = "local", .tenant_len = 5};
        uint32_t i, next;

        if ((n = response_log_part(log, &i))) {
                copy(log, i, n);
                response_log_part_begin(log, i);
                response_log_part_done(log, i, n, true);
        }
        for (i = log->list[LIST_HELD].first; i != LOG_NONE; i = next) {
                next = log->links[i].next;
                copy(log, i, response_log_bytes(log, i));
                response_log_settle(log, i, i % 2, in);
        }
        for (i = log->list[LIST_UNSTORED].first; i != LOG_NONE; i = log->links[i].next)
                copy(log, i, response_log_bytes(log, i));
        for (i = log->list[LIST_OPEN].first; i != LOG_NONE; i = next) {
                next = log->links[i].next;
                if (i % 3 == 0 && response_log_restart(log, i, in++, &decision) == 0) {
                        response_log_decide(log, i, LOG_RESTART_DROP);
                        response_log_drop(log, i);
                }
                append(log, i, &in, 3);
        }
        for (log->may_lose = false;; log->may_lose = true) {
                for (head.req_id = 1u << 20; head.req_id < (1u << 20) + 90; head.req_id++) {
                        head.in_seq = in++;
                        if (response_log_create(log, &head, &i) == 0)
                                append(log, i, &in, 1 + head.req_id % 3);
                }
                if (log->may_lose)
                        break;
        }
        response_log_expire(log, UINT64_MAX);
}

/* True: it was refused. */
static bool attach(uint8_t *image, uint64_t bytes) {
        struct response_log log;
        int r = response_log_attach(&log, image, bytes);

        ck_assert(r == 0 || r == -EPROTO || r == -EBADMSG);
        if (r == 0) {
                live(&log);
                response_log_close(&log);
        }
        return r != 0;
}

START_TEST(flipped_bits_never_lead_a_successor_astray) {
        uint64_t bytes, state = 0x2545f4914f6cdd1dull, n_refused = 0, n_used = 0;
        uint8_t *image = image_of_all_kinds(&bytes), *whole = malloc(bytes);
        struct log_view sound;

        ck_assert_ptr_nonnull(whole);
        memcpy(whole, image, bytes);
        ck_assert_int_eq(log_view_init(&sound, image, bytes), 0);
        for (int round = 0; round < 1000; round++) {
                uint64_t n = 1 + tape_random(&state) % 12;
                while (n--) {
                        uint8_t *at = victim(image, bytes, &sound, &state);
                        *at = tape_random(&state) % 2
                                              ? (uint8_t)tape_random(&state)
                                              : (uint8_t)(*at ^ 1u << tape_random(&state) % 8);
                }
                if (attach(image, bytes))
                        n_refused++;
                else
                        n_used++;
                memcpy(image, whole, bytes);
        }
        ck_assert(!attach(image, bytes));
        ck_assert_uint_gt(n_refused, 100);
        ck_assert_uint_gt(n_used, 100);
        free(image);
        free(whole);
}
END_TEST

/* Of one entry at a time, so that what it says is what is wrong. */
START_TEST(noise_in_an_entry_never_leads_a_successor_astray) {
        static const uint64_t words[] = {0, 1, 2, 63, 64, LOG_EXTENT_DATA, LOG_EXTENT_DATA + 1, UINT32_MAX,
                        1ull << 47, UINT64_MAX};
        uint64_t bytes, state = 0x853c49e6748fea9bull;
        uint8_t *image = image_of_all_kinds(&bytes), *whole = malloc(bytes);
        struct log_view sound;

        ck_assert_ptr_nonnull(whole);
        memcpy(whole, image, bytes);
        ck_assert_int_eq(log_view_init(&sound, image, bytes), 0);
        for (int round = 0; round < 1000; round++) {
                uint8_t *entry = (uint8_t *)(uintptr_t)&sound.shm->responses[round % 14];
                uint64_t word = words[tape_random(&state) % 10];
                memcpy(entry + tape_random(&state) % (sizeof(struct log_response) / 8) * 8, &word, 8);
                (void)attach(image, bytes);
                memcpy(image, whole, bytes);
        }
        free(image);
        free(whole);
}
END_TEST

/* A successor does not touch the extent of an answer that has ended in one: who reads it must refuse it. */
START_TEST(a_kept_answer_that_is_broken_is_refused_when_it_is_read) {
        struct rig rig = rig_new(262144);
        struct log_event_head head;
        struct log_cursor cursor;
        struct log_extent *extent;
        uint32_t response;

        for (uint64_t req = 1; req <= 3; req++) {
                response = rig_create(&rig, req, 10 * req, false);
                ck_assert_int_eq(rig_append(&rig, req, 10 * req + 1, 100, LOG_OUTCOME_DONE), 0);
        }
        extent = &rig.log.extents[atomic_load(&rig.log.shm->responses[response].first) - 1];
        memset(extent, 0xff, sizeof(*extent));
        rig_attach(&rig);
        ck_assert_int_eq(log_open(&rig.view, 3, response, 0, &cursor), LOG_E_GONE);
        atomic_store(&extent->req_id, 3); /* its owner's, and noise */
        ck_assert_int_eq(log_open(&rig.view, 3, response, 0, &cursor), LOG_E_GONE);
        for (uint64_t req = 1; req <= 2; req++) { /* its neighbours are as they were */
                ck_assert_int_eq(log_find(&rig.view, req, &response), 0);
                ck_assert_int_eq(log_open(&rig.view, req, response, 0, &cursor), 0);
                ck_assert_int_eq(log_next(&rig.view, &cursor, &head, buf, sizeof(buf)), 0);
                ck_assert(pattern_is(buf, req, 1, 100));
        }
        response_log_expire(&rig.log, UINT64_MAX); /* and its extent is another's again */
        ck_assert_uint_eq(rig.log.n_free_extents, rig.view.n_extents);
        rig_close(&rig);
}
END_TEST

START_TEST(what_the_database_is_to_have_is_looked_at_before_it_gets_it) {
        struct rig rig = rig_new(262144);
        uint32_t response = rig_create(&rig, 7, 1, true);
        uint8_t *data;

        ck_assert_int_eq(rig_append(&rig, 7, 2, 100, 0), 0);
        ck_assert_int_eq(rig_hold(&rig, 7, 3, 100), 0);
        rig_attach(&rig);
        ck_assert_int_eq(response_log_copy(&rig.log, response, response_log_bytes(&rig.log, response), buf), 0);
        data = rig.log.extents[atomic_load(&rig.log.shm->responses[response].first) - 1].data;
        memcpy(data, &(struct log_event_head){.len = 1000}, sizeof(struct log_event_head));
        ck_assert_int_eq(response_log_copy(&rig.log, response, response_log_bytes(&rig.log, response), buf),
                        -EBADMSG);
        memcpy(data, &(struct log_event_head){.len = UINT32_MAX}, sizeof(struct log_event_head));
        ck_assert_int_eq(response_log_copy(&rig.log, response, response_log_bytes(&rig.log, response), buf),
                        -EBADMSG);
        rig_close(&rig);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("log_hostile");
        TCase *tcase = tcase_create("hostile");

        tcase_add_test(tcase, flipped_bits_never_lead_a_reader_astray);
        tcase_add_test(tcase, noise_behind_a_sound_header_never_leads_a_reader_astray);
        tcase_add_test(tcase, a_circle_of_extents_comes_to_an_end);
        tcase_add_test(tcase, flipped_bits_never_lead_a_successor_astray);
        tcase_add_test(tcase, noise_in_an_entry_never_leads_a_successor_astray);
        tcase_add_test(tcase, a_kept_answer_that_is_broken_is_refused_when_it_is_read);
        tcase_add_test(tcase, what_the_database_is_to_have_is_looked_at_before_it_gets_it);
        tcase_set_timeout(tcase, 300);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
