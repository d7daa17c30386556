/*
 * One writer and three readers on one log that is too small for what is written: a reader gets an event
 * whole and right, or is told that it is gone.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <check.h>

#include "tests/stages/stream/tape.h"

#define INPUTS 150000u
#define MAX_LEN 9000u
#define READERS 3

struct reading {
        const struct log_view *view;
        const _Atomic uint64_t *written;
        uint64_t n_events, n_gone, n_wrong;
};

/* An event is what the tape has at the input that it names. */
static bool is_right(const struct log_event_head *head, uint64_t req, uint64_t last,
                const uint8_t *bytes) {
        struct tape_input input = tape_at(head->in_seq, MAX_LEN);

        return head->seq == last + 1 && head->in_seq == tape_input_of(req, head->seq) &&
               head->len == input.len && head->type == input.type &&
               pattern_is(bytes, req, head->seq, head->len);
}

/* Reads a response as far as it goes, and once more when it was cut. */
static void read_one(struct reading *r, uint64_t req, uint8_t *buf) {
        struct log_event_head head;
        struct log_cursor cursor;
        uint32_t response;
        int code = log_find(r->view, req, &response);

        if (!code)
                code = log_open(r->view, req, response, 0, &cursor);
        while (!code) {
                uint64_t last = cursor.seq;
                code = log_next(r->view, &cursor, &head, buf, LOG_EVENT_MAX);
                if (code)
                        break;
                r->n_events++;
                r->n_wrong += !is_right(&head, req, last, buf);
        }
        r->n_gone += code == LOG_E_GONE;
}

static void *reader(void *arg) {
        struct reading *r = arg;
        uint8_t *buf = malloc(LOG_EVENT_MAX);
        uint64_t s, state = 88172645463325252ull + (uintptr_t)r;

        while (buf && (s = atomic_load(r->written)) < INPUTS) {
                uint64_t back = tape_random(&state) % (TAPE_LANES * TAPE_STEPS * 6);
                if (s > back + TAPE_LANES)
                        read_one(r, tape_at(s - back, MAX_LEN).req_id, buf);
        }
        free(buf);
        return NULL;
}

START_TEST(readers_get_events_whole_or_not_at_all) {
        struct rig rig = rig_new(262144);
        _Atomic uint64_t written = TAPE_LANES;
        struct reading readings[READERS];
        pthread_t threads[READERS];
        uint64_t n_events = 0, n_gone = 0;

        for (int i = 0; i < READERS; i++) {
                readings[i] = (struct reading){.view = &rig.view, .written = &written};
                ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, &readings[i]), 0);
        }
        for (uint64_t s = TAPE_LANES; s < INPUTS; s++) {
                tape_write(&rig, s, MAX_LEN);
                atomic_store(&written, s + 1);
        }
        for (int i = 0; i < READERS; i++) {
                pthread_join(threads[i], NULL);
                ck_assert_uint_eq(readings[i].n_wrong, 0);
                n_events += readings[i].n_events;
                n_gone += readings[i].n_gone;
        }
        ck_assert_uint_gt(n_events, 0);
        ck_assert_uint_gt(n_gone, 0); /* else it was no test */
        rig_close(&rig);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("log_threads");
        TCase *tcase = tcase_create("threads");

        tcase_add_test(tcase, readers_get_events_whole_or_not_at_all);
        tcase_set_timeout(tcase, 300);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
