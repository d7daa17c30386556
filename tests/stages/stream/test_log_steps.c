/*
 * A kill at every instruction. A child writes to the log one instruction at a time; after each that changed
 * the log, what stands there is what SIGKILL would leave: a gateway reads it, a successor attaches to a copy
 * of it, writes the rest, and everything is there exactly once.
 *
 * usage: test_log_steps [--short]   fewer events, and a successor after each eighth state only
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "tests/stages/stream/tape.h"
#include "tests/steps/steps.h"

#define FIRST TAPE_LANES
#define BUDGET 262144u
#define MAX_LEN 6000u

static _Atomic uint64_t *acked;
static uint64_t n_events = 24, every = 1; /* of a life; a successor after each every-th state */

struct life {
        struct rig *rig;
        uint64_t last;
};

static void stage(void *ctx) {
        const struct life *life = ctx;

        steps_mark();
        for (uint64_t s = atomic_load(acked); s < life->last; s++) {
                tape_write(life->rig, s, MAX_LEN);
                atomic_store(acked, s + 1);
        }
}

/* What is kept of a response, from its first event that is kept on. */
static void check_kept(struct rig *rig, uint32_t response) {
        static uint8_t buf[LOG_EVENT_MAX];
        uint64_t req = atomic_load(&rig->log.shm->responses[response].req_id);
        uint64_t last = rig_last(rig, response), after = last;
        struct log_event_head head;
        struct log_cursor cursor;

        while (after > 0 && log_open(&rig->view, req, response, after - 1, &cursor) == 0)
                after--;
        ck_assert_uint_lt(after, last);
        ck_assert_int_eq(log_open(&rig->view, req, response, after, &cursor), 0);
        for (uint64_t seq = after + 1; seq <= last; seq++) {
                ck_assert_int_eq(log_next(&rig->view, &cursor, &head, buf, sizeof(buf)), 0);
                ck_assert_uint_eq(head.seq, seq);
                ck_assert(pattern_is(buf, req, seq, head.len));
        }
}

/* Open responses grow until they lose their beginnings: what a kill left behind must not show then. */
static void squeeze(struct rig *rig, uint64_t s) {
        uint32_t first = rig->log.list[LIST_OPEN].first;

        for (int round = 0; round < 12; round++)
                for (uint32_t i = first; i != LOG_NONE; i = rig->log.links[i].next)
                        ck_assert_int_eq(rig_append(rig,
                                                         atomic_load(&rig->log.shm->responses[i]
                                                                                         .req_id),
                                                         s++, 3700, 0),
                                        0);
        for (uint32_t i = first; i != LOG_NONE; i = rig->log.links[i].next)
                check_kept(rig, i);
}

/* What would follow if the child had been killed now. */
static uint64_t recover(struct rig *copy, const struct rig *rig, uint64_t last) {
        uint64_t s = atomic_load(acked), n;

        memcpy(copy->map, rig->map, rig->bytes);
        n = tape_check(&copy->view, FIRST, s, MAX_LEN, false);
        rig_attach(copy);
        for (; s < last; s++)
                tape_write(copy, s, MAX_LEN);
        n += tape_check(&copy->view, FIRST, s, MAX_LEN, false);
        uint64_t held = 0;
        for (uint32_t i = 0; i < copy->view.n_responses; i++)
                held += copy->log.links[i].n_extents;
        ck_assert_uint_eq(held + copy->log.n_free_extents, copy->view.n_extents);
        squeeze(copy, s);
        return n;
}

static void kill_everywhere(const char *name, uint64_t from) {
        struct rig rig = rig_new(BUDGET), copy = rig_new(BUDGET);
        struct life life = {&rig, from + n_events};
        struct steps steps = {.n_areas = 0};
        uint64_t points = 0, states = 0, n_read = 0;
        int status = 0;

        acked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(acked, MAP_FAILED);
        for (uint64_t s = FIRST; s < from; s++)
                tape_write(&rig, s, MAX_LEN);
        atomic_store(acked, from);
        pid_t pid = steps_start(stage, &life);
        if (pid == -1) {
                fprintf(stderr, "log_steps: ptrace is not allowed here, nothing was tested\n");
                return;
        }
        steps_area(&steps, rig.map, rig.bytes);
        steps_area(&steps, (void *)acked, sizeof(*acked));
        while (steps_one(pid, &status) == STEPS_STEPPED) {
                points++;
                if (!steps_look(&steps))
                        continue;
                if (states++ % every == 0)
                        n_read += recover(&copy, &rig, from + n_events);
        }
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the stage ended with %x",
                        status);
        ck_assert_uint_eq(atomic_load(acked), from + n_events);
        ck_assert_uint_gt(states, 20 * n_events);
        ck_assert_uint_gt(n_read, states / every);
        printf("steps stage=%s points=%llu states=%llu\n", name, (unsigned long long)points,
                        (unsigned long long)states);
        fflush(stdout);
        steps_free(&steps);
        munmap((void *)acked, 4096);
        rig_close(&rig);
        rig_close(&copy);
}

/* ---- a part that the database has ---------------------------------------------------------------- */

#define PART_REQ 7u
#define PART_LEN 1000u
#define PART_EVENT (sizeof(struct log_event_head) + PART_LEN)
static_assert(PART_LEN % 8 == 0, "no padding");

struct part {
        struct rig *rig;
        uint32_t response;
        uint64_t bytes, n; /* of the part; events so far */
};

/* It is stored: its extents are given back, and what waited for them is written. */
static void give_back(void *ctx) {
        const struct part *part = ctx;

        steps_mark();
        response_log_part_done(&part->rig->log, part->response, part->bytes, true);
        if (rig_append(part->rig, PART_REQ, 2 + part->n, PART_LEN, 0) != 0)
                abort();
}

/* A successor finds all that the database has not been told that it has, and as many events as were published. */
static void recover_part(struct rig *copy, const struct part *part) {
        static uint8_t rest[BUDGET];
        uint64_t stored, bytes, last, at = 0;
        uint32_t which;

        memcpy(copy->map, part->rig->map, copy->bytes);
        rig_attach(copy);
        stored = atomic_load(&copy->log.shm->responses[part->response].stored);
        bytes = response_log_bytes(&copy->log, part->response);
        last = rig_last(copy, part->response);
        ck_assert(stored == 0 || stored == part->bytes);
        ck_assert_uint_le(part->n, last);
        ck_assert_uint_eq(stored + bytes, last * PART_EVENT);
        ck_assert_int_eq(response_log_copy(&copy->log, part->response, bytes, rest), 0);
        for (uint64_t seq = stored / PART_EVENT + 1; seq <= last; seq++, at += PART_EVENT) {
                struct log_event_head head;

                memcpy(&head, rest + at, sizeof(head));
                ck_assert_uint_eq(head.seq, seq);
                ck_assert(pattern_is(rest + at + sizeof(head), PART_REQ, seq, PART_LEN));
        }
        check_kept(copy, part->response);
        /* And may go on: there is room, or a part that makes room. */
        ck_assert(response_log_part(&copy->log, &which) ||
                        rig_append(copy, PART_REQ, 3 + last, PART_LEN, 0) == 0);
}

START_TEST(a_kill_at_every_instruction_while_a_part_is_given_back) {
        struct rig rig = rig_new(BUDGET), copy = rig_new(BUDGET);
        struct part part = {&rig, rig_create(&rig, PART_REQ, 1, true), 0, 0};
        struct steps steps = {.n_areas = 0};
        uint64_t points = 0, states = 0;
        int status = 0;
        pid_t pid;

        while (rig_append(&rig, PART_REQ, 2 + part.n, PART_LEN, 0) == 0)
                part.n++;
        part.bytes = response_log_part(&rig.log, &part.response);
        ck_assert_uint_eq(part.bytes % PART_EVENT, 0);
        response_log_part_begin(&rig.log, part.response);
        pid = steps_start(give_back, &part);
        if (pid == -1)
                return; /* ptrace is not allowed here */
        steps_area(&steps, rig.map, rig.bytes);
        while (steps_one(pid, &status) == STEPS_STEPPED) {
                points++;
                if (!steps_look(&steps))
                        continue;
                recover_part(&copy, &part);
                states++;
        }
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended with %x", status);
        ck_assert_uint_eq(rig_last(&rig, part.response), part.n + 1);
        printf("steps stage=log-part points=%llu states=%llu\n", (unsigned long long)points,
                        (unsigned long long)states);
        fflush(stdout);
        steps_free(&steps);
        rig_close(&rig);
        rig_close(&copy);
}
END_TEST

/* Into a log that is still empty, and into one that is full and evicts. */
START_TEST(a_kill_at_every_instruction_of_the_first_events) {
        /* All before belongs to heads that never were. */
        kill_everywhere("log-append", TAPE_STEPS * TAPE_LANES);
}
END_TEST

START_TEST(a_kill_at_every_instruction_while_others_are_evicted) {
        kill_everywhere("log-evict", TAPE_STEPS * TAPE_LANES * 30 - 8);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("log_steps");
        TCase *tcase = tcase_create("steps"), *part = tcase_create("part");

        if (argc > 1 && strcmp(argv[1], "--short") == 0) {
                n_events = 16;
                every = 8;
        }
        tcase_add_test(tcase, a_kill_at_every_instruction_of_the_first_events);
        tcase_add_test(tcase, a_kill_at_every_instruction_while_others_are_evicted);
        tcase_add_test(part, a_kill_at_every_instruction_while_a_part_is_given_back);
        tcase_set_timeout(tcase, 600);
        tcase_set_timeout(part, 600);
        suite_add_tcase(suite, tcase);
        suite_add_tcase(suite, part);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
