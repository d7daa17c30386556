/*
 * A kill at every instruction. A child writes to the log one instruction at a time; after each that changed
 * the log, what stands there is what SIGKILL would leave: a gateway reads it, a successor attaches to a copy
 * of it, writes the rest, and everything is there exactly once.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "tests/stages/stream/tape.h"

#define FIRST TAPE_LANES
#define BUDGET 262144u
#define MAX_LEN 6000u

static _Atomic uint64_t *acked;

static _Noreturn void stage(struct rig *rig, uint64_t last) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
                _exit(2);
        raise(SIGSTOP);
        for (uint64_t s = atomic_load(acked); s < last; s++) {
                tape_write(rig, s, MAX_LEN);
                atomic_store(acked, s + 1);
        }
        _exit(0);
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

static void kill_everywhere(uint64_t from, uint64_t n) {
        struct rig rig = rig_new(BUDGET), copy = rig_new(BUDGET);
        uint64_t points = 0, n_read = 0, seen = 0;
        int status;

        acked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(acked, MAP_FAILED);
        for (uint64_t s = FIRST; s < from; s++)
                tape_write(&rig, s, MAX_LEN);
        atomic_store(acked, from);
        pid_t pid = fork();
        ck_assert_int_ne(pid, -1);
        if (pid == 0)
                stage(&rig, from + n);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
                fprintf(stderr, "log_steps: ptrace is not allowed here, nothing was tested\n");
                return;
        }
        memcpy(copy.map, rig.map, rig.bytes);
        uint8_t *before = malloc(rig.bytes);
        ck_assert_ptr_nonnull(before);
        memcpy(before, rig.map, rig.bytes);
        while (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
                        WIFSTOPPED(status)) {
                if (atomic_load(acked) == seen && memcmp(before, rig.map, rig.bytes) == 0)
                        continue;
                memcpy(before, rig.map, rig.bytes);
                seen = atomic_load(acked);
                n_read += recover(&copy, &rig, from + n);
                points++;
        }
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the stage ended with %x",
                        status);
        ck_assert_uint_eq(atomic_load(acked), from + n);
        ck_assert_uint_gt(points, 20 * n);
        ck_assert_uint_gt(n_read, points);
        free(before);
        munmap((void *)acked, 4096);
        rig_close(&rig);
        rig_close(&copy);
}

/* Into a log that is still empty, and into one that is full and evicts. */
START_TEST(a_kill_at_every_instruction_of_the_first_events) {
        kill_everywhere(TAPE_STEPS * TAPE_LANES,
                        24); /* all before belongs to heads that never were */
}
END_TEST

START_TEST(a_kill_at_every_instruction_while_others_are_evicted) {
        kill_everywhere(TAPE_STEPS * TAPE_LANES * 30 - 8, 24);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("log_steps");
        TCase *tcase = tcase_create("steps");

        tcase_add_test(tcase, a_kill_at_every_instruction_of_the_first_events);
        tcase_add_test(tcase, a_kill_at_every_instruction_while_others_are_evicted);
        tcase_set_timeout(tcase, 600);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
