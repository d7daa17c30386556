/* When the process that waits may be used, and how often it is made anew. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stages/common/title.h"
#include "supervisor/standby.h"

#define MS 1000000ull
#define S 1000000000ull

/* ---- the program on disk --------------------------------------------------------------------- */

static char folder[] = "/tmp/millrace-standby-XXXXXX";
static char program[64], other[64];

static void write_file(const char *path, const char *text) {
        FILE *f = fopen(path, "w");

        ck_assert_ptr_nonnull(f);
        ck_assert_int_ge(fputs(text, f), 0);
        ck_assert_int_eq(fclose(f), 0);
}

static void set_up(void) {
        memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(program, sizeof(program), "%s/program", folder);
        snprintf(other, sizeof(other), "%s/other", folder);
        write_file(program, "one");
}

static void tear_down(void) {
        unlink(program);
        unlink(other);
        rmdir(folder);
}

static bool is_same_after(void (*change)(void)) {
        struct standby_file before, after;

        ck_assert_int_eq(standby_file_of(program, &before), 0);
        change();
        ck_assert_int_eq(standby_file_of(program, &after), 0);
        return standby_file_same(&before, &after);
}

static void change_nothing(void) {
}

static void put_another_in_its_place(void) {
        write_file(other, "one");
        ck_assert_int_eq(rename(other, program), 0);
}

static void write_over_it(void) {
        write_file(program, "four");
}

static void touch_it(void) {
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1, .tv_nsec = 2}};

        ck_assert_int_eq(utimensat(AT_FDCWD, program, times, 0), 0);
}

START_TEST(a_program_that_is_gone_is_no_program) {
        struct standby_file file;

        ck_assert_int_eq(standby_file_of(other, &file), -ENOENT);
}
END_TEST

START_TEST(a_program_is_the_same_until_somebody_touches_it) {
        ck_assert(is_same_after(change_nothing));
        ck_assert(!is_same_after(put_another_in_its_place));
        ck_assert(!is_same_after(write_over_it));
        ck_assert(!is_same_after(touch_it));
}
END_TEST

/* ---- the environment ------------------------------------------------------------------------- */

START_TEST(an_environment_is_the_same_when_each_variable_is) {
        struct spawn_env none = {.v = {NULL}};
        struct spawn_env a = {.v = {"PATH=/bin", "KEY=1", NULL}};
        struct spawn_env b = {.v = {"PATH=/bin", "KEY=2", NULL}};
        struct spawn_env c = {.v = {"PATH=/bin", NULL}};

        ck_assert(spawn_env_same(&none, &none));
        ck_assert(spawn_env_same(&a, &a));
        ck_assert(!spawn_env_same(&a, &b));
        ck_assert(!spawn_env_same(&a, &c));
        ck_assert(!spawn_env_same(&c, &a));
        ck_assert(!spawn_env_same(&none, &c));
}
END_TEST

/* ---- how often ------------------------------------------------------------------------------- */

START_TEST(the_pause_doubles_up_to_half_a_minute) {
        uint32_t k = 0;

        for (uint64_t pause = 10 * MS; pause < 30 * S; pause *= 2)
                ck_assert_uint_eq(standby_pause_ns(&k, 0), pause);
        for (int i = 0; i < 1000; i++)
                ck_assert_uint_eq(standby_pause_ns(&k, 0), 30 * S);
}
END_TEST

START_TEST(who_waited_for_ten_seconds_ends_the_doubling) {
        uint32_t k = 0;

        for (int i = 0; i < 5; i++)
                standby_pause_ns(&k, 0);
        ck_assert_uint_gt(standby_pause_ns(&k, 10 * S - 1), 10 * MS);
        ck_assert_uint_eq(standby_pause_ns(&k, 10 * S), 10 * MS);
}
END_TEST

/* ---- what ps shows --------------------------------------------------------------------------- */

START_TEST(there_is_room_for_the_title_of_what_it_becomes) {
        char standby[TITLE_BYTES], worker[TITLE_BYTES];

        for (uint32_t role = 0; role < ROLES_N; role++) {
                title_standby(standby, role, "main");
                title_worker(worker, role, "main", LANES_MAX - 1);
                ck_assert_uint_ge(strlen(standby), strlen(worker));
                title_set(standby, worker);
                ck_assert_str_eq(standby, worker);
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("standby");
        TCase *tc = tcase_create("policy");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, a_program_that_is_gone_is_no_program);
        tcase_add_test(tc, a_program_is_the_same_until_somebody_touches_it);
        tcase_add_test(tc, an_environment_is_the_same_when_each_variable_is);
        tcase_add_test(tc, the_pause_doubles_up_to_half_a_minute);
        tcase_add_test(tc, who_waited_for_ten_seconds_ends_the_doubling);
        tcase_add_test(tc, there_is_room_for_the_title_of_what_it_becomes);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
