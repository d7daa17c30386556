#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stages/common/worker.h"

static struct counters_shm page;

static int hit(const char *stage, const char *point, const char *text) {
        return fault_point(stage, point, text, text ? (uint32_t)strlen(text) : 0);
}

/* The spec is read once in a process: each test has a process of its own, and this one more. */
static int status_of(const char *spec, const char *stage, const char *point, const char *text,
                int hits) {
        int status = 0;
        setenv("MILLRACE_FAULT", spec, 1);
        pid_t pid = fork();
        if (pid == 0) {
                for (int i = 0; i < hits; i++)
                        hit(stage, point, text);
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status;
}

START_TEST(a_spec_that_makes_no_sense_is_refused) {
        static const char *const specs[] = {"rag", "rag:on_record", "rag::kill", ":on_record:kill",
                        "rag:on_record:kill:often",
                        "rag:on_record:kill:match=", "rag:on_record:dance"};
        for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
                int status = status_of(specs[i], "rag", "on_record", "x", 1);
                ck_assert_msg(WIFEXITED(status), "%s", specs[i]);
                ck_assert_int_eq(WEXITSTATUS(status), EXIT_PERMANENT);
        }
}
END_TEST

START_TEST(signals_and_exits_happen_at_their_point_only) {
        ck_assert_int_eq(status_of("rag:on_record:kill", "rag", "after_ack", NULL, 1), 0);
        ck_assert_int_eq(status_of("rag:on_record:kill", "post", "on_record", NULL, 1), 0);
        ck_assert_int_eq(WTERMSIG(status_of("rag:on_record:kill", "rag", "on_record", NULL, 1)),
                        SIGKILL);
        ck_assert_int_eq(WTERMSIG(status_of("rag:on_record:abort", "rag", "on_record", NULL, 1)),
                        SIGABRT);
        ck_assert_int_eq(WEXITSTATUS(status_of("a:b:exit,rag:on_record:exit", "rag", "on_record",
                                         NULL, 1)),
                        1);
        ck_assert_int_eq(WEXITSTATUS(status_of("rag:on_record:exit=71", "rag", "on_record", NULL,
                                         1)),
                        EXIT_SHARED_STATE);
        ck_assert_int_eq(status_of("", "rag", "on_record", NULL, 1), 0);
}
END_TEST

START_TEST(a_match_looks_at_the_text) {
        const char *spec = "rag:on_record:exit:match=poi son";
        ck_assert_int_eq(status_of(spec, "rag", "on_record", "bread", 1), 0);
        ck_assert_int_eq(status_of(spec, "rag", "on_record", NULL, 1), 0);
        ck_assert_int_eq(WEXITSTATUS(status_of(spec, "rag", "on_record", "a poi son b", 1)), 1);
}
END_TEST

START_TEST(a_count_holds_over_incarnations) {
        setenv("MILLRACE_FAULT", "rag:on_record:enospc:count=2,rag:on_record:sleep=1", 1);
        fault_attach(&page);
        ck_assert_int_eq(hit("rag", "on_record", NULL), -ENOSPC);
        ck_assert_int_eq(hit("rag", "on_record", NULL), -ENOSPC);
        ck_assert_int_eq(hit("rag", "on_record", NULL), 0);
        ck_assert_uint_eq(atomic_load(&page.faults_fired[0]), 2);
        ck_assert_uint_eq(atomic_load(&page.faults_fired[1]), 3);
}
END_TEST

START_TEST(descriptors_can_run_out) {
        struct rlimit limit;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        setenv("MILLRACE_FAULT", "rag:on_record:emfile", 1);
        ck_assert_int_eq(hit("rag", "on_record", NULL), -EMFILE);
        int fd = open("/dev/null", O_RDONLY);
        int error = errno;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_int_eq(fd, -1);
        ck_assert_int_eq(error, EMFILE);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("fault");
        TCase *tcase = tcase_create("fault");
        tcase_add_test(tcase, a_spec_that_makes_no_sense_is_refused);
        tcase_add_test(tcase, signals_and_exits_happen_at_their_point_only);
        tcase_add_test(tcase, a_match_looks_at_the_text);
        tcase_add_test(tcase, a_count_holds_over_incarnations);
        tcase_add_test(tcase, descriptors_can_run_out);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
