#include "stages/engines/sse/sse.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Events as one text: name|data\n for each; splits the input after `cut` bytes (0: not at all). */
static void run(const char *in, size_t n, size_t cut, uint32_t max_bytes, char *to, size_t cap,
                int *ret_end) {
        const char *const ends[] = {in + (cut < n ? cut : n), in + n};
        const char *at = in;
        struct sse_event event;
        struct sse s;
        size_t len = 0;
        int r = SSE_MORE;

        sse_init(&s, max_bytes);
        to[0] = '\0';
        for (size_t i = 0; i < 2 && r != SSE_E_TOO_LARGE; i++) {
                while ((r = sse_next(&s, &at, ends[i], &event)) == SSE_EVENT)
                        len += (size_t)snprintf(to + len, cap - len, "%.*s|%.*s\n",
                                        (int)event.name_len, event.name, (int)event.data_len,
                                        event.data);
        }
        if (r == SSE_MORE && (r = sse_finish(&s, &event)) == SSE_EVENT)
                snprintf(to + len, cap - len, "%.*s|%.*s\n", (int)event.name_len, event.name,
                                (int)event.data_len, event.data);
        *ret_end = r;
        sse_close(&s);
}

static void expect(const char *in, const char *want) {
        char got[8192];
        int end;

        for (size_t cut = 0; cut <= strlen(in); cut++) {
                run(in, strlen(in), cut, SSE_EVENT_BYTES_MAX, got, sizeof(got), &end);
                ck_assert_msg(strcmp(got, want) == 0, "cut at %zu of \"%s\": \"%s\"", cut, in, got);
        }
}

START_TEST(a_line_over_the_limit_ends_the_stream) {
        char got[256];
        int end;

        run("data: 0123456789\n\n", 18, 0, 8, got, sizeof(got), &end);
        ck_assert_int_eq(end, SSE_E_TOO_LARGE);
        run(": 0123456789\n\n", 14, 3, 8, got, sizeof(got), &end);
        ck_assert_int_eq(end, SSE_E_TOO_LARGE);
        run("0123456789", 10, 3, 8, got, sizeof(got), &end);
        ck_assert_int_eq(end, SSE_E_TOO_LARGE);
}
END_TEST

START_TEST(an_event_over_the_limit_ends_the_stream_though_its_lines_are_short) {
        char got[256];
        int end;

        run("data: 0123\ndata: 0123\ndata: 0123\n\n", 34, 0, 10, got, sizeof(got), &end);
        ck_assert_int_eq(end, SSE_E_TOO_LARGE);
        run("data: 0123\n\ndata: 0123\n\ndata: 0123\n\n", 36, 0, 10, got, sizeof(got), &end);
        ck_assert_int_eq(end, SSE_MORE);
        ck_assert_str_eq(got, "|0123\n|0123\n|0123\n");
}
END_TEST

START_TEST(lines_end_in_lf_cr_or_crlf_wherever_the_stream_is_cut) {
        expect("data: a\n\ndata: b\n\n", "|a\n|b\n");
        expect("data: a\r\rdata: b\r\r", "|a\n|b\n");
        expect("data: a\r\n\r\ndata: b\r\n\r\n", "|a\n|b\n");
        expect("data: a\r\n\ndata: b\n\r\n", "|a\n|b\n");
}
END_TEST

START_TEST(a_line_of_any_length_ends_at_its_first_cr_or_lf) {
        char in[2100], want[2100], got[4096];
        int end;

        for (size_t n = 500; n < 1040; n++) {
                for (const char *stop = "\r\n"; *stop; stop++) {
                        char other = *stop == '\n' ? '\r' : '\n';
                        memcpy(in, "data: ", 6);
                        memset(in + 6, 'x', n);
                        snprintf(in + 6 + n, sizeof(in) - 6 - n, "%c%cdata: y%c%c", *stop, *stop,
                                        other, other);
                        snprintf(want, sizeof(want), "|%.*s\n|y\n", (int)n, in + 6);
                        run(in, strlen(in), 0, SSE_EVENT_BYTES_MAX, got, sizeof(got), &end);
                        ck_assert_str_eq(got, want);
                }
        }
}
END_TEST

START_TEST(a_byte_order_mark_is_skipped_once) {
        expect("\xef\xbb\xbf"
               "data: a\n\n",
                        "|a\n");
        expect("\xef\xbb\xbf\xef\xbb\xbf"
               "data: a\n\n",
                        "");
        expect("\xef\xbb"
               "data: a\n\ndata: b\n\n",
                        "|b\n");
}
END_TEST

START_TEST(comments_and_bare_colons_are_no_events) {
        expect(":\n\n: ping\n\n:ping\ndata: a\n:\ndata: b\n\n:\n", "|a\nb\n");
}
END_TEST

START_TEST(several_data_lines_are_joined_by_a_line_feed) {
        expect("data: a\ndata:\ndata: b\n\n", "|a\n\nb\n");
        expect("data\n\n", "|\n");
        expect("data:  two\n\n", "| two\n");
        expect("data:none\n\n", "|none\n");
}
END_TEST

START_TEST(the_name_belongs_to_the_next_event_only) {
        expect("event: error\ndata: x\n\ndata: y\n\n", "error|x\n|y\n");
        expect("event: ping\n\ndata: y\n\n", "|y\n");
        expect("data: x\nevent: late\n\n", "late|x\n");
        expect("event: a\nevent: b\ndata: x\n\n", "b|x\n");
}
END_TEST

START_TEST(other_fields_and_unknown_names_are_ignored) {
        expect("id: 7\nretry: 10\ndatabase: x\ndata: y\nfoo\n\n", "|y\n");
}
END_TEST

START_TEST(an_event_without_its_blank_line_counts_at_the_end) {
        expect("data: a\n\ndata: b\n", "|a\n|b\n");
        expect("data: a\n\ndata: b", "|a\n|b\n");
        expect("data: a\n\ndata", "|a\n|\n");
        expect("data: a\n\nda", "|a\n");
}
END_TEST

START_TEST(a_bare_error_line_is_an_event_of_that_name) {
        expect("error: {\"code\":500}\n\n", "error|{\"code\":500}\n");
}
END_TEST

START_TEST(byte_by_byte_gives_the_same_events) {
        static const char in[] = "\xef\xbb\xbf: hi\r\n\r\nevent: x\r\ndata: {\"a\":1}\rdata: "
                                 "2\n\ndata: [DONE]\r\n\r\n";
        struct sse_event event;
        char got[256] = "";
        struct sse s;

        sse_init(&s, 1024);
        for (size_t i = 0; i < sizeof(in) - 1; i++) {
                const char *at = in + i;
                int r = sse_next(&s, &at, in + i + 1, &event);
                ck_assert_ptr_eq(at, in + i + 1);
                if (r == SSE_EVENT)
                        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.*s|%.*s\n",
                                        (int)event.name_len, event.name, (int)event.data_len,
                                        event.data);
        }
        ck_assert_str_eq(got, "x|{\"a\":1}\n2\n|[DONE]\n");
        sse_close(&s);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("sse");
        TCase *tc = tcase_create("sse");

        tcase_add_test(tc, a_line_over_the_limit_ends_the_stream);
        tcase_add_test(tc, an_event_over_the_limit_ends_the_stream_though_its_lines_are_short);
        tcase_add_test(tc, lines_end_in_lf_cr_or_crlf_wherever_the_stream_is_cut);
        tcase_add_test(tc, a_line_of_any_length_ends_at_its_first_cr_or_lf);
        tcase_add_test(tc, a_byte_order_mark_is_skipped_once);
        tcase_add_test(tc, comments_and_bare_colons_are_no_events);
        tcase_add_test(tc, several_data_lines_are_joined_by_a_line_feed);
        tcase_add_test(tc, the_name_belongs_to_the_next_event_only);
        tcase_add_test(tc, other_fields_and_unknown_names_are_ignored);
        tcase_add_test(tc, an_event_without_its_blank_line_counts_at_the_end);
        tcase_add_test(tc, a_bare_error_line_is_an_event_of_that_name);
        tcase_add_test(tc, byte_by_byte_gives_the_same_events);
        suite_add_tcase(suite, tc);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
