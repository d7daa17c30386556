#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/common/log.h"

/* Each test runs in a process of its own (Check forks), so that stderr can be replaced. */
static int out;

static void stderr_to_pipe(void) {
        int fds[2];
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
        close(fds[1]);
        ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        out = fds[0];
        log_init("stage=rag lane=0", LOG_LEVEL_INFO);
}

static const char *written(void) {
        static char buf[131072];
        ssize_t n = read(out, buf, sizeof(buf) - 1);
        buf[n > 0 ? n : 0] = '\0';
        return buf;
}

/* What the lines about dropped lines add up to. */
static uint64_t reported(const char *text) {
        uint64_t sum = 0;
        for (const char *at = text; (at = strstr(at, "ev=log_dropped n=")); at++)
                sum += strtoull(at + strlen("ev=log_dropped n="), NULL, 10);
        return sum;
}

START_TEST(a_full_pipe_never_blocks_and_what_was_dropped_is_reported_later) {
        char line[200];
        memset(line, 'x', sizeof(line));
        line[sizeof(line) - 1] = '\0';

        stderr_to_pipe();
        for (int i = 0; i < 2000; i++) /* a pipe holds 64 KiB */
                log_info("fill", "text=%s", line);
        uint64_t dropped = log_dropped();
        ck_assert_uint_gt(dropped, 1000);
        ck_assert_uint_lt(dropped, 2000);
        uint64_t sum = reported(written());
        ck_assert_uint_lt(sum, dropped);
        log_info("after", "n=1");
        const char *rest = written();
        ck_assert_uint_eq(sum + reported(rest), dropped);
        ck_assert_ptr_nonnull(strstr(rest, "info stage=rag lane=0 ev=after n=1\n"));
        ck_assert_uint_eq(log_dropped(), dropped);
}
END_TEST

START_TEST(a_reader_that_has_gone_is_no_reason_to_stop) {
        signal(SIGPIPE, SIG_IGN);
        stderr_to_pipe();
        close(out);
        log_info("gone", "n=1");
        ck_assert_uint_eq(log_dropped(), 1);
}
END_TEST

START_TEST(a_line_says_level_who_event_and_values) {
        stderr_to_pipe();
        log_warn("query_timeout", "n=%d", 3);
        log_broken("x", "%s", "");
        ck_assert_str_eq(written(), "warn stage=rag lane=0 ev=query_timeout n=3\n"
                                    "broken stage=rag lane=0 ev=x \n");
}
END_TEST

START_TEST(foreign_text_cannot_forge_a_line) {
        stderr_to_pipe();
        log_warn("x", "name=%s", "a\nbroken stage=rag ev=forged\r\x1b[2J\x7f");
        ck_assert_str_eq(written(),
                        "warn stage=rag lane=0 ev=x name=a broken stage=rag ev=forged  [2J \n");
}
END_TEST

START_TEST(an_overlong_line_is_cut_and_still_ends) {
        char text[4096];
        memset(text, 'y', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        stderr_to_pipe();
        log_info("long", "text=%s", text);
        const char *line = written();
        ck_assert_uint_le(strlen(line), 1024);
        ck_assert_uint_gt(strlen(line), 1000);
        ck_assert_int_eq(line[strlen(line) - 1], '\n');
}
END_TEST

START_TEST(lines_below_the_level_are_not_written) {
        stderr_to_pipe();
        log_debug("quiet", "n=1");
        ck_assert_str_eq(written(), "");
        log_set_level(LOG_LEVEL_DEBUG);
        log_debug("loud", "n=1");
        ck_assert_str_eq(written(), "debug stage=rag lane=0 ev=loud n=1\n");
        log_set_level(LOG_LEVEL_ERROR);
        log_warn("quiet", "n=1");
        ck_assert_str_eq(written(), "");
}
END_TEST

START_TEST(the_last_line_is_kept_as_last_words) {
        char words[96 + 1] = {[96] = 'g'};
        char text[200];
        memset(text, 'z', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        stderr_to_pipe();
        log_set_last_words(words);
        log_error("first", "n=1");
        ck_assert_str_eq(words, "error stage=rag lane=0 ev=first n=1");
        log_error("second", "text=%s", text);
        ck_assert_uint_eq(strlen(words), 95);
        ck_assert_int_eq(words[96], 'g');
}
END_TEST

START_TEST(errno_is_left_as_it_was) {
        stderr_to_pipe();
        close(STDERR_FILENO);
        errno = ENOSPC;
        log_error("x", "n=1");
        ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("log");
        TCase *tcase = tcase_create("log");
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_full_pipe_never_blocks_and_what_was_dropped_is_reported_later);
        tcase_add_test(tcase, a_reader_that_has_gone_is_no_reason_to_stop);
        tcase_add_test(tcase, a_line_says_level_who_event_and_values);
        tcase_add_test(tcase, foreign_text_cannot_forge_a_line);
        tcase_add_test(tcase, an_overlong_line_is_cut_and_still_ends);
        tcase_add_test(tcase, lines_below_the_level_are_not_written);
        tcase_add_test(tcase, the_last_line_is_kept_as_last_words);
        tcase_add_test(tcase, errno_is_left_as_it_was);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
