/*
 * The stream stage dies at any instruction: what is published stays, what was not is written again, and
 * every event is in the log exactly once, in order, byte for byte -- before and after a successor attaches.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "tests/stages/stream/tape.h"

#define FIRST TAPE_LANES /* input 0 is none */

/* What stands for the input ring: everything below is acked. */
static _Atomic uint64_t *acked;
static _Atomic uint64_t *alive; /* how many inputs the child at hand has written */

static void setup(void) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        ck_assert_ptr_ne(page, MAP_FAILED);
        acked = page;
        alive = acked + 64;
        atomic_store(acked, FIRST);
}

static void teardown(void) {
        munmap((void *)acked, 4096);
}

/* The stage: attach, then write from the first input that is not acked on, at most `most` of them. */
static _Noreturn void stage(struct rig *rig, uint32_t max_len, uint64_t most) {
        uint64_t first = atomic_load(acked);

        rig_attach(rig);
        for (uint64_t s = first; s < first + most; s++) {
                tape_write(rig, s, max_len);
                atomic_store(acked, s + 1);
                atomic_fetch_add(alive, 1);
        }
        for (;;)
                pause();
}

static pid_t begin(struct rig *rig, uint32_t max_len, uint64_t most) {
        pid_t pid;

        atomic_store(alive, 0);
        pid = fork();
        ck_assert_int_ne(pid, -1);
        if (pid == 0)
                stage(rig, max_len, most);
        return pid;
}

/* Killed by us, not by an assertion of its own. */
static void end(pid_t pid) {
        int status;

        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                        "the stage ended by itself: %x", status);
}

static void nap(uint64_t ns) {
        nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

/* `most` inputs in each life: so many fit into the log where it is to keep all. */
static void kill_many(
                uint64_t budget, uint32_t max_len, unsigned rounds, uint64_t most, bool keeps_all) {
        struct rig rig = rig_new(budget);
        uint64_t state = 0x853c49e6748fea9bull, n_read = 0, in_the_middle = 0;

        for (unsigned round = 0; round < rounds; round++) {
                uint64_t goal = tape_random(&state) % 40;
                pid_t pid = begin(&rig, max_len, most);
                for (int i = 0; i < 20000 && atomic_load(alive) < goal; i++)
                        nap(10000);
                nap(tape_random(&state) % 60000);
                in_the_middle += atomic_load(alive) < most;
                end(pid);
                /* As the gateways see it meanwhile. */
                n_read += tape_check(&rig.view, FIRST, atomic_load(acked), max_len, keeps_all);
                if (round % 8 == 0) {
                        rig_attach(&rig);
                        n_read += tape_check(
                                        &rig.view, FIRST, atomic_load(acked), max_len, keeps_all);
                }
        }
        ck_assert_uint_gt(in_the_middle, 0);
        ck_assert_uint_gt(n_read, 0);
        rig_close(&rig);
}

START_TEST(a_kill_anywhere_loses_and_repeats_nothing) {
        kill_many(64u << 20, 3000, 100, 1000, true);
}
END_TEST

START_TEST(a_kill_in_the_middle_of_long_events_loses_and_repeats_nothing) {
        kill_many(128u << 20, 200000, 60, 100, true);
}
END_TEST

START_TEST(a_kill_in_the_middle_of_eviction_loses_nothing_that_is_kept) {
        kill_many(1u << 20, 9000, 100, 10000, false);
}
END_TEST

/* A reader that lives on while one stage after the other dies: it sees each event once, in order. */
START_TEST(a_reader_outlives_every_stage) {
        struct rig rig = rig_new(64u << 20);
        uint64_t state = 0x2545f4914f6cdd1dull, reading = 0, delivered = 0;
        struct log_cursor cursor = {0};
        static uint8_t buf[LOG_EVENT_MAX];
        uint32_t response;

        for (unsigned round = 0; round < 80; round++) {
                pid_t pid = begin(&rig, 3000, 1000);
                uint64_t goal = tape_random(&state) % 40;
                for (int i = 0; i < 20000 && atomic_load(alive) < goal; i++) {
                        struct log_event_head head;
                        uint64_t req = 2 + TAPE_LANES + delivered % 40;
                        if (!reading && log_find(&rig.view, req, &response) == 0) {
                                ck_assert_int_eq(log_open(&rig.view, req, response, 0, &cursor), 0);
                                reading = req;
                        }
                        if (!reading || log_next(&rig.view, &cursor, &head, buf, sizeof(buf))) {
                                nap(10000);
                                continue;
                        }
                        ck_assert_uint_eq(head.in_seq, tape_input_of(reading, head.seq));
                        ck_assert_uint_eq(cursor.seq, head.seq);
                        ck_assert(pattern_is(buf, reading, head.seq, head.len));
                        delivered++;
                        if (head.seq == TAPE_STEPS - 1)
                                reading = 0;
                }
                end(pid);
        }
        ck_assert_uint_gt(delivered, 0);
        rig_close(&rig);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("log_kill");
        TCase *tcase = tcase_create("kill");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, a_kill_anywhere_loses_and_repeats_nothing);
        tcase_add_test(tcase, a_kill_in_the_middle_of_long_events_loses_and_repeats_nothing);
        tcase_add_test(tcase, a_kill_in_the_middle_of_eviction_loses_nothing_that_is_kept);
        tcase_add_test(tcase, a_reader_outlives_every_stage);
        tcase_set_timeout(tcase, 300);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
