/* answer: which request gets which answer. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"
#include "stages/telemetry/answer.h"

static struct pages pages;
static struct text out;
static struct answer_allow allow;
static char *hosts[] = {"localhost", "127.0.0.1", "[::1]"};
static char *origins[] = {"https://board.example"};
static const struct settings_strs host_list = {hosts, 3}, origin_list = {origins, 1};

static void setup(void) {
        pages = pages_new();
        pages.figures.pages = (const struct counters_shm *const *)pages.page;
        out = (struct text){0};
        allow = (struct answer_allow){.hosts = &host_list,
                        .origins = &origin_list,
                        .listen_host = {"10.1.2.3", 8}};
}

static void teardown(void) {
        text_close(&out);
        pages_close(&pages);
}

/* The status; the response is in out, with a zero behind it. */
static unsigned ask(const char *head, bool *ret_keep_alive) {
        static struct http1_request request;
        struct http1_refusal refusal;
        struct http1_scan scan = {0};
        unsigned status;

        ck_assert_int_eq(http1_parse(&scan, head, (uint32_t)strlen(head), &request, &refusal), 0);
        *ret_keep_alive = answer_request(&out, &request, &allow, &pages.figures);
        text_add(&out, "", 1);
        ck_assert(!out.failed);
        ck_assert_int_eq(sscanf(out.at, "HTTP/1.1 %u ", &status), 1);
        return status;
}

static unsigned status_of(const char *head) {
        bool keep_alive;

        return ask(head, &keep_alive);
}

/* The body, after its length was held against what the head says. */
static const char *body(void) {
        const char *body = strstr(out.at, "\r\n\r\n"), *length = strstr(out.at, "Content-Length: ");

        ck_assert(body && length && length < body);
        ck_assert_uint_eq(strtoul(length + 16, NULL, 10), strlen(body + 4));
        return body + 4;
}

#define HOST "Host: localhost\r\n"

START_TEST(what_is_not_there_is_404) {
        ck_assert_uint_eq(status_of("GET /x HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_uint_eq(status_of("GET /metrics/ HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_uint_eq(status_of("GET //metrics HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_uint_eq(status_of("GET /%6detrics HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_uint_eq(status_of("POST /x HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_uint_eq(status_of("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_ptr_nonnull(strstr(body(), "/metrics"));
}
END_TEST

START_TEST(another_method_is_405_and_says_which_are_allowed) {
        ck_assert_uint_eq(status_of("POST /metrics HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"),
                        405);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nAllow: GET, HEAD\r\n"));
        ck_assert_uint_eq(status_of("DELETE / HTTP/1.1\r\n" HOST "\r\n"), 405);
}
END_TEST

START_TEST(a_body_is_refused_and_ends_the_connection) {
        bool keep_alive = true;

        ck_assert_uint_eq(
                        ask("GET / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", &keep_alive),
                        413);
        ck_assert(!keep_alive);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nConnection: close\r\n"));
        keep_alive = true;
        ck_assert_uint_eq(ask("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                                          &keep_alive),
                        413);
        ck_assert(!keep_alive);
}
END_TEST

START_TEST(a_foreign_host_is_403) {
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: local\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: 10.1.2.4\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET http://evil.example/ HTTP/1.1\r\nHost: "
                                    "evil.example\r\n\r\n"),
                        403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: LocalHost:9464\r\n\r\n"), 200);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n"), 200);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: 10.1.2.3:9464\r\n\r\n"), 200);
        ck_assert_uint_eq(status_of("GET / HTTP/1.0\r\n\r\n"), 200); /* no browser */
        allow.any = true;
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 200);
}
END_TEST

START_TEST(a_foreign_origin_is_403) {
        ck_assert_uint_eq(
                        status_of("GET / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n"),
                        403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST "Origin: null\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST "Origin:\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST "Origin: http://\r\n\r\n"), 403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST "Origin: http://localhost.x\r\n\r\n"),
                        403);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST
                                    "Origin: http://localhost:9464\r\n\r\n"),
                        200);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST
                                    "Origin: https://board.example\r\n\r\n"),
                        200);
        allow.any = true;
        ck_assert_uint_eq(
                        status_of("GET / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n"),
                        403);
}
END_TEST

START_TEST(a_refusal_closes_and_says_why) {
        answer_refusal(&out, &(struct http1_refusal){431, "too much"});
        text_add(&out, "", 1);
        ck_assert_int_eq(
                        strncmp(out.at, "HTTP/1.1 431 Request Header Fields Too Large\r\n", 46), 0);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nConnection: close\r\n"));
        ck_assert_str_eq(body(), "too much\n");
}
END_TEST

START_TEST(metrics_come_as_plain_text_or_openmetrics) {
        bool keep_alive = false;

        ck_assert_uint_eq(ask("GET /metrics?x=y HTTP/1.1\r\n" HOST "\r\n", &keep_alive), 200);
        ck_assert(keep_alive);
        ck_assert_ptr_nonnull(strstr(
                        out.at, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        ck_assert_int_eq(strncmp(body(), "# HELP millrace_", 16), 0);
        ck_assert_uint_eq(status_of("GET /metrics HTTP/1.1\r\n" HOST
                                    "Accept: application/openmetrics-text\r\n\r\n"),
                        200);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nContent-Type: application/openmetrics-text; "
                                             "version=1.0.0; charset=utf-8\r\n"));
        ck_assert_str_eq(body() + strlen(body()) - 6, "# EOF\n");
}
END_TEST

START_TEST(the_page_shows_what_the_counters_say) {
        counters_add(pages.page[0], COUNTER_completed, 4711);
        ck_assert_uint_eq(status_of("GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
        ck_assert_ptr_nonnull(strstr(body(), "<tr><td>completed</td><td>4711</td></tr>"));
        ck_assert_ptr_nonnull(strstr(body(), "<tr><td>stream 1</td><td>up</td>"));
        ck_assert_str_eq(body() + strlen(body()) - 15, "</body></html>\n");
}
END_TEST

START_TEST(head_is_get_without_the_body) {
        size_t length;

        ck_assert_uint_eq(status_of("GET /metrics HTTP/1.1\r\n" HOST "\r\n"), 200);
        length = strlen(body());
        ck_assert_uint_eq(status_of("HEAD /metrics HTTP/1.1\r\n" HOST "\r\n"), 200);
        ck_assert_uint_eq(strtoul(strstr(out.at, "Content-Length: ") + 16, NULL, 10), length);
        ck_assert_str_eq(strstr(out.at, "\r\n\r\n"), "\r\n\r\n");
        ck_assert_uint_eq(status_of("HEAD /x HTTP/1.1\r\n" HOST "\r\n"), 404);
        ck_assert_str_eq(strstr(out.at, "\r\n\r\n"), "\r\n\r\n");
}
END_TEST

START_TEST(a_client_that_asks_to_close_is_told_so) {
        bool keep_alive = true;

        ck_assert_uint_eq(ask("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", &keep_alive),
                        200);
        ck_assert(!keep_alive);
        ck_assert_ptr_nonnull(strstr(out.at, "\r\nConnection: close\r\n"));
}
END_TEST

int main(void) {
        Suite *suite = suite_create("answer");
        TCase *all = tcase_create("all");
        int failed;

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, what_is_not_there_is_404);
        tcase_add_test(all, another_method_is_405_and_says_which_are_allowed);
        tcase_add_test(all, a_body_is_refused_and_ends_the_connection);
        tcase_add_test(all, a_foreign_host_is_403);
        tcase_add_test(all, a_foreign_origin_is_403);
        tcase_add_test(all, a_refusal_closes_and_says_why);
        tcase_add_test(all, metrics_come_as_plain_text_or_openmetrics);
        tcase_add_test(all, the_page_shows_what_the_counters_say);
        tcase_add_test(all, head_is_get_without_the_body);
        tcase_add_test(all, a_client_that_asks_to_close_is_told_so);
        suite_add_tcase(suite, all);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
