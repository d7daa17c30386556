/* The instance lock, with holders in processes of their own. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/lock.h"

static char instance[64];
static struct lock lock;
static struct report report;

static void set_up(void) {
        snprintf(instance, sizeof(instance), "test-lock-%ld", (long)getpid());
        lock.fd = -1;
        report.line[0] = '\0';
}

static void tear_down(void) {
        struct lock last;

        lock_drop(&lock);
        ck_assert_int_eq(lock_take(instance, 2000, &last, &report), 0);
        lock_drop(&last);
}

/* A process that holds the lock until it is killed; it has taken it when this returns. */
static pid_t hold(const char *control) {
        int ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(ready), 0);
        pid = fork();
        ck_assert_int_ne(pid, -1);
        if (pid == 0) {
                if (lock_take(instance, 0, &lock, &report) == 0) {
                        if (control)
                                lock_sign(&lock, control);
                        (void)!write(ready[1], "x", 1);
                }
                for (;;)
                        pause();
        }
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        return pid;
}

static void end(pid_t pid) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

START_TEST(an_instance_name_with_a_slash_is_refused) {
        ck_assert_int_ne(lock_take("../etc", 0, &lock, &report), 0);
        ck_assert_ptr_nonnull(strstr(report.line, "../etc"));
}
END_TEST

START_TEST(a_held_lock_is_refused_and_the_holder_named) {
        pid_t pid = hold(NULL);
        char text[32];

        ck_assert_int_eq(lock_take(instance, 100, &lock, &report), LOCK_E_HELD);
        snprintf(text, sizeof(text), "pid %ld", (long)pid);
        ck_assert_msg(strstr(report.line, text), "%s", report.line);
        ck_assert_ptr_nonnull(strstr(report.line, instance));
        end(pid);
}
END_TEST

START_TEST(a_lock_whose_file_is_no_file_is_refused) {
        char path[160];

        ck_assert_int_eq(lock_take(instance, 0, &lock, &report), 0);
        snprintf(path, sizeof(path), "%s", lock.path);
        lock_drop(&lock);
        ck_assert_int_eq(symlink("/etc/passwd", path), 0);
        ck_assert_int_lt(lock_take(instance, 0, &lock, &report), 0);
        ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(it_is_waited_for_a_holder_that_ends) {
        pid_t pid = hold(NULL), killer = fork();

        if (killer == 0) {
                usleep(300000);
                kill(pid, SIGKILL);
                _exit(0);
        }
        ck_assert_int_eq(lock_take(instance, 20000, &lock, &report), 0);
        waitpid(killer, NULL, 0);
        waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(an_inherited_descriptor_holds_it_as_well) {
        int hold_on[2];
        pid_t child;

        ck_assert_int_eq(lock_take(instance, 0, &lock, &report), 0);
        ck_assert_int_eq(pipe(hold_on), 0);
        child = fork();
        if (child == 0) {
                for (;;)
                        pause();
        }
        close(lock.fd); /* as when the supervisor is killed: no unlink */
        lock.fd = -1;
        ck_assert_int_eq(lock_take(instance, 100, &lock, &report), LOCK_E_HELD);
        end(child);
        ck_assert_int_eq(lock_take(instance, 5000, &lock, &report), 0);
        close(hold_on[0]);
        close(hold_on[1]);
}
END_TEST

START_TEST(dropping_it_removes_the_file) {
        struct stat st;
        char path[160];

        ck_assert_int_eq(lock_take(instance, 0, &lock, &report), 0);
        snprintf(path, sizeof(path), "%s", lock.path);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
        lock_drop(&lock);
        ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

START_TEST(a_lock_on_a_file_that_was_replaced_is_no_lock) {
        struct lock old;

        ck_assert_int_eq(lock_take(instance, 0, &old, &report), 0);
        ck_assert(lock_is_named(&old));
        ck_assert_int_eq(unlink(old.path), 0);
        ck_assert(!lock_is_named(&old));
        /* The next one makes a file of its own and gets that; the old lock guards nothing. */
        ck_assert_int_eq(lock_take(instance, 0, &lock, &report), 0);
        ck_assert(lock_is_named(&lock));
        ck_assert(!lock_is_named(&old));
        close(old.fd);
}
END_TEST

/* ---- a supervisor that answers --------------------------------------------------------------- */

/* Answers every ping on the socket with the given state until it is killed. */
static pid_t answer_pings(const char *path, const char *state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        char pong[256];
        int n;
        pid_t pid;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(fd, 8), 0);
        n = snprintf(pong, sizeof(pong),
                        "\x85\xa2ok\xc3\xa3pid\xcd\x10\x01\xa8instance\xd9%c%s\xa5state\xa8%"
                        "s\xa6socket\xa4/s/x",
                        (int)strlen(instance), instance, state);
        pid = fork();
        while (pid == 0) {
                int c = accept(fd, NULL, NULL);
                char buf[64];

                if (read(c, buf, sizeof(buf)) > 0)
                        (void)!write(c, pong, (size_t)n);
                close(c);
        }
        close(fd);
        return pid;
}

START_TEST(a_supervisor_that_answers_is_named_at_once) {
        char path[64];
        pid_t holder, answerer;

        snprintf(path, sizeof(path), "/tmp/test-lock-%ld.ctl", (long)getpid());
        answerer = answer_pings(path, "degraded");
        holder = hold(path);
        /* With ten minutes to wait this only ends because it does not wait. */
        ck_assert_int_eq(lock_take(instance, 600000, &lock, &report), LOCK_E_HELD);
        ck_assert_msg(strstr(report.line, "pid 4097"), "%s", report.line);
        ck_assert_ptr_nonnull(strstr(report.line, "/s/x"));
        end(holder);
        end(answerer);
        unlink(path);
}
END_TEST

START_TEST(a_supervisor_that_is_ending_is_waited_for) {
        char path[64];
        pid_t holder, answerer;

        snprintf(path, sizeof(path), "/tmp/test-lock-%ld.ctl", (long)getpid());
        answerer = answer_pings(path, "draining");
        holder = hold(path);
        ck_assert_int_eq(lock_take(instance, 200, &lock, &report), LOCK_E_HELD);
        ck_assert_msg(!strstr(report.line, "/s/x"), "%s", report.line);
        end(holder);
        end(answerer);
        unlink(path);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("lock");
        TCase *tc = tcase_create("lock");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, an_instance_name_with_a_slash_is_refused);
        tcase_add_test(tc, a_held_lock_is_refused_and_the_holder_named);
        tcase_add_test(tc, a_lock_whose_file_is_no_file_is_refused);
        tcase_add_test(tc, it_is_waited_for_a_holder_that_ends);
        tcase_add_test(tc, an_inherited_descriptor_holds_it_as_well);
        tcase_add_test(tc, dropping_it_removes_the_file);
        tcase_add_test(tc, a_lock_on_a_file_that_was_replaced_is_no_lock);
        tcase_add_test(tc, a_supervisor_that_answers_is_named_at_once);
        tcase_add_test(tc, a_supervisor_that_is_ending_is_waited_for);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
