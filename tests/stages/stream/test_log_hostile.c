/*
 * The log as a hostile or broken stream stage could leave it: a reader may say anything, but it stays
 * within the mapping and comes to an end. (Under ASan the image is a heap block of exactly its size.)
 */
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

int main(void) {
        Suite *suite = suite_create("log_hostile");
        TCase *tcase = tcase_create("hostile");

        tcase_add_test(tcase, flipped_bits_never_lead_a_reader_astray);
        tcase_add_test(tcase, noise_behind_a_sound_header_never_leads_a_reader_astray);
        tcase_add_test(tcase, a_circle_of_extents_comes_to_an_end);
        tcase_set_timeout(tcase, 300);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
