/*
 * state_path -- where the files of an instance lie when nobody says.
 */
#include "stages/common/state_path.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static char path[256];

static void clean(void) {
        unsetenv("STATE_DIRECTORY");
        unsetenv("XDG_STATE_HOME");
        setenv("HOME", "/home/ada", 1);
}

START_TEST(a_buffer_too_small_is_refused) {
        ck_assert_int_eq(state_default_path("main", ".index", path, 10), -ENAMETOOLONG);
        ck_assert_int_eq(state_default_path("main", ".index", path, 0), -ENAMETOOLONG);
}
END_TEST

START_TEST(the_state_directory_comes_first_and_of_several_the_first) {
        setenv("XDG_STATE_HOME", "/xdg", 1);
        setenv("STATE_DIRECTORY", "/var/lib/millrace", 1);
        ck_assert_int_eq(state_default_path("main", ".index", path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/var/lib/millrace/main.index");
        setenv("STATE_DIRECTORY", "/a:/b", 1);
        ck_assert_int_eq(state_default_path("other", ".db", path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/a/other.db");
}
END_TEST

START_TEST(then_xdg_unless_it_is_relative_then_home) {
        setenv("XDG_STATE_HOME", "/xdg", 1);
        ck_assert_int_eq(state_default_path("main", ".index", path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/xdg/millrace/main.index");
        setenv("XDG_STATE_HOME", "relative", 1);
        setenv("STATE_DIRECTORY", "", 1);
        ck_assert_int_eq(state_default_path("main", ".index", path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/home/ada/.local/state/millrace/main.index");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("state_path");
        TCase *cases = tcase_create("state_path");

        tcase_add_checked_fixture(cases, clean, NULL);
        tcase_add_test(cases, a_buffer_too_small_is_refused);
        tcase_add_test(cases, the_state_directory_comes_first_and_of_several_the_first);
        tcase_add_test(cases, then_xdg_unless_it_is_relative_then_home);
        suite_add_tcase(suite, cases);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
