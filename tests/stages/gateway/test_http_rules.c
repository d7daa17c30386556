/* http_rules: what a web page may not do, and what everybody else may. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/http_rules.h"

static char *hosts[] = {"localhost", "127.0.0.1", "[::1]", "Box.Example."};
static char *origins[] = {"https://app.example", "http://localhost:3000"};
static struct settings settings;
static struct http_rules rules;
static struct http1_request request;
static struct http1_refusal refusal;
static char lines[HTTP_RULES_LINES_MAX];

static void set_up(void) {
        settings = (struct settings){.http.allowed_hosts = {hosts, 4}};
        http_rules_init(&rules, &settings, "127.0.0.1:8080");
}

static void list_origins(void) {
        settings.http.allowed_origins = (struct settings_strs){origins, 2};
}

/* 0, or the status of the refusal. The views stay until the next call. */
static unsigned check(const char *head) {
        static char bytes[HTTP1_HEAD_MAX];
        struct http1_scan scan = {0};
        int r;

        snprintf(bytes, sizeof(bytes), "%s\r\n", head);
        r = http1_parse(&scan, bytes, (uint32_t)strlen(bytes), &request, &refusal);
        ck_assert_msg(r == 0, "%s: %s", head, r == HTTP1_E_REFUSED ? refusal.why : "half a head");
        refusal = (struct http1_refusal){0};
        r = http_rules_check(&rules, &request, &refusal);
        ck_assert(r == 0 || (r == HTTP_RULES_E_REFUSED && refusal.why));
        return refusal.status;
}

static unsigned check_host(const char *host) {
        char head[512];

        snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: %s\r\n", host);
        return check(head);
}

static unsigned check_origin(const char *origin) {
        char head[512];

        snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: localhost:8080\r\nOrigin: %s\r\n", origin);
        return check(head);
}

#define POST "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
static unsigned check_body(const char *fields) {
        char head[1024];

        snprintf(head, sizeof(head), POST "%s", fields);
        return check(head);
}

/* ---- refusals ---- */

START_TEST(a_host_that_is_not_listed_is_refused) {
        ck_assert_uint_eq(check_host("evil.example"), 403);
        ck_assert_uint_eq(check_host("evil.example:8080"), 403);
        ck_assert_uint_eq(check_host("localhost.evil.example"), 403);
        ck_assert_uint_eq(check_host("localhos"), 403);
        ck_assert_uint_eq(check_host("localhostt"), 403);
        ck_assert_uint_eq(check_host("127.0.0.2"), 403);
        ck_assert_uint_eq(check_host("[::2]:80"), 403);
        ck_assert_uint_eq(check_host("localhost.."), 403);
        ck_assert_uint_eq(check_host(""), 403);
        ck_assert_uint_eq(check("GET http://evil.example/ HTTP/1.0\r\n"), 403);
}
END_TEST

START_TEST(an_origin_that_is_not_listed_is_refused) {
        ck_assert_uint_eq(check_origin("https://evil.example"), 403);
        ck_assert_uint_eq(check_origin("null"), 403);
        ck_assert_uint_eq(check_origin(""), 403);
        ck_assert_uint_eq(check_origin("http://localhost:3000"), 403);
        ck_assert_uint_eq(check_origin("http://localhost"), 403);
        ck_assert_uint_eq(check_origin("http://localhost:8080.evil.example"), 403);
        ck_assert_uint_eq(check_origin("file://localhost:8080"), 403);
        ck_assert_uint_eq(check_origin("https://app.example"), 403);
        list_origins();
        ck_assert_uint_eq(check_origin("https://app.example:444"), 403);
        ck_assert_uint_eq(check_origin("http://app.example"), 403);
        ck_assert_uint_eq(check_origin("https://app.example\r\nOrigin: https://evil.example"), 403);
        ck_assert_uint_eq(check_origin("null"), 403);
}
END_TEST

START_TEST(a_body_that_is_not_json_is_refused) {
        ck_assert_uint_eq(check_body(""), 415);
        ck_assert_uint_eq(check_body("Content-Type:\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: text/plain\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: application/x-www-form-urlencoded\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: application/jsonp\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: text/plain; application/json\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: application/json, text/plain\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nContent-Type: text/plain\r\n"), 415);
        ck_assert_uint_eq(check_body("Content-Type: application/json; charset=utf-16\r\n"), 415);
        ck_assert_uint_eq(check("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"), 415);
}
END_TEST

START_TEST(a_compressed_body_is_refused_with_what_to_do) {
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415);
        ck_assert_ptr_nonnull(strstr(refusal.why, "Content-Encoding"));
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nContent-Encoding: identity, br\r\n"), 415);
        rules.asks_key = true;
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nContent-Encoding: zstd\r\n"), 415);
}
END_TEST

START_TEST(a_foreign_page_is_refused_whatever_else_is_right) {
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nOrigin: http://a.example\r\n"), 403);
        ck_assert_uint_eq(check("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n"
                                "Access-Control-Request-Method: GET\r\n"),
                        403);
        ck_assert(http_rules_is_preflight(&request));
        ck_assert_uint_eq(http_rules_preflight(&rules, &request, lines), 0);
        ck_assert_uint_eq(http_rules_answer(&rules, &request, lines), 0);
}
END_TEST

START_TEST(over_a_unix_socket_a_foreign_origin_and_a_form_are_refused_too) {
        http_rules_init(&rules, &settings, "unix:/run/x");
        ck_assert_uint_eq(check_origin("http://localhost:8080"), 403);
        ck_assert_uint_eq(check_body("Content-Type: text/plain\r\n"), 415);
}
END_TEST

/* ---- what is allowed ---- */

START_TEST(a_known_host_is_allowed_however_it_is_written) {
        ck_assert_uint_eq(check_host("localhost"), 0);
        ck_assert_uint_eq(check_host("LocalHost:8080"), 0);
        ck_assert_uint_eq(check_host("localhost.:8080"), 0);
        ck_assert_uint_eq(check_host("127.0.0.1:1"), 0);
        ck_assert_uint_eq(check_host("[::1]"), 0);
        ck_assert_uint_eq(check_host("[0:0::1]:8080"), 0);
        ck_assert_uint_eq(check_host("box.example"), 0);
        ck_assert_uint_eq(check("GET / HTTP/1.0\r\n"), 0);
}
END_TEST

START_TEST(the_address_that_it_listens_on_is_a_known_host) {
        ck_assert_uint_eq(check_host("127.0.0.9:8080"), 403);
        http_rules_init(&rules, &settings, "127.0.0.9:8080");
        ck_assert_uint_eq(check_host("127.0.0.9:8080"), 0);
        http_rules_init(&rules, &settings, "[::2]:8080");
        ck_assert_uint_eq(check_host("[::2]"), 0);
        http_rules_init(&rules, &settings, "*:8080");
        ck_assert_uint_eq(check_host("localhost"), 0);
        ck_assert_uint_eq(check_host("x"), 403);
}
END_TEST

START_TEST(over_a_unix_socket_any_host_is_allowed) {
        http_rules_init(&rules, &settings, "unix:/run/x");
        ck_assert_uint_eq(check_host("whatever"), 0);
        ck_assert_uint_eq(check_host(""), 0);
}
END_TEST

START_TEST(an_origin_that_is_listed_or_its_own_is_allowed) {
        ck_assert_uint_eq(check_origin("http://localhost:8080"), 0);
        ck_assert_uint_eq(check_origin("https://LOCALHOST:8080"), 0);
        list_origins();
        ck_assert_uint_eq(check_origin("https://app.example"), 0);
        ck_assert_uint_eq(check_origin("http://localhost:3000"), 0);
        origins[1] = "null";
        ck_assert_uint_eq(check_origin("null"), 0);
        origins[1] = "http://localhost:3000";
}
END_TEST

START_TEST(json_may_have_parameters) {
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\n"), 0);
        ck_assert_uint_eq(check_body("Content-Type: Application/JSON ; Charset=UTF-8\r\n"), 0);
        ck_assert_uint_eq(check_body("Content-Type: application/json;charset=\"utf-8\";x=y\r\n"), 0);
        ck_assert_uint_eq(check_body("Content-Type: application/json;\r\n"), 0);
        ck_assert_uint_eq(check_body("Content-Type: application/json\r\nContent-Encoding: Identity\r\n"), 0);
}
END_TEST

START_TEST(without_a_body_no_type_is_asked_for) {
        ck_assert_uint_eq(check("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"), 0);
        ck_assert_uint_eq(check("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"), 0);
}
END_TEST

START_TEST(where_keys_are_asked_for_everybody_may_ask) {
        settings.auth.keys_file = "/keys";
        http_rules_init(&rules, &settings, "0.0.0.0:8080");
        ck_assert_uint_eq(check_host("a.example"), 0);
        ck_assert_uint_eq(check_origin("https://a.example"), 0);
        ck_assert_uint_eq(check_body("Content-Type: text/plain\r\n"), 0);
        ck_assert_uint_eq(http_rules_answer(&rules, &request, lines), 0);
}
END_TEST

/* ---- CORS ---- */

static void expect(uint32_t n, const char *line) {
        char text[HTTP_RULES_LINES_MAX + 1];

        memcpy(text, lines, n);
        text[n] = '\0';
        ck_assert_msg(strstr(text, line), "no \"%s\" in: %s", line, text);
        ck_assert_msg(n >= 2 && strcmp(text + n - 2, "\r\n") == 0, "%s", text);
        ck_assert_ptr_null(strstr(text, "\r\n\r\n"));
}

START_TEST(a_preflight_of_a_listed_origin_is_answered) {
        uint32_t n;

        list_origins();
        ck_assert_uint_eq(check("OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n"
                                "Access-Control-Request-Method: POST\r\n"
                                "Access-Control-Request-Headers: authorization,x-stainless-os\r\n"),
                        0);
        ck_assert(http_rules_is_preflight(&request));
        n = http_rules_preflight(&rules, &request, lines);
        expect(n, "Access-Control-Allow-Origin: https://app.example\r\n");
        expect(n, "Access-Control-Allow-Methods: GET, HEAD, POST, DELETE\r\n");
        expect(n, "Access-Control-Allow-Headers: authorization,x-stainless-os\r\n");
        expect(n, "Vary: Origin");
        lines[n] = '\0';
        ck_assert_ptr_null(strstr(lines, "Private-Network"));
}
END_TEST

START_TEST(a_preflight_that_asks_for_too_much_gets_nothing) {
        static char head[HTTP_RULES_LINES_MAX + 512];
        int n;

        list_origins();
        n = snprintf(head, sizeof(head), "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n"
                        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: ");
        memset(head + n, 'x', HTTP_RULES_LINES_MAX);
        memcpy(head + n + HTTP_RULES_LINES_MAX, "\r\n", 3);
        ck_assert_uint_eq(check(head), 0);
        ck_assert_uint_eq(http_rules_preflight(&rules, &request, lines), 0);
}
END_TEST

START_TEST(options_without_a_page_is_no_preflight) {
        ck_assert_uint_eq(check("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n"), 0);
        ck_assert(!http_rules_is_preflight(&request));
        ck_assert_uint_eq(check("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
                                "Access-Control-Request-Method: GET\r\n"),
                        0);
        ck_assert(!http_rules_is_preflight(&request));
}
END_TEST

START_TEST(every_answer_says_that_it_depends_on_the_origin) {
        uint32_t n;

        list_origins();
        ck_assert_uint_eq(check_origin("http://localhost:3000"), 0);
        n = http_rules_answer(&rules, &request, lines);
        expect(n, "Access-Control-Allow-Origin: http://localhost:3000\r\n");
        expect(n, "x-millrace-id");
        expect(n, "Vary: Origin\r\n");
        ck_assert_uint_eq(check_host("localhost"), 0);
        n = http_rules_answer(&rules, &request, lines);
        expect(n, "Vary: Origin\r\n");
        ck_assert_uint_eq(n, strlen("Vary: Origin\r\n"));
        ck_assert_uint_eq(check_origin("https://evil.example"), 403);
        n = http_rules_answer(&rules, &request, lines);
        ck_assert_uint_eq(n, strlen("Vary: Origin\r\n"));
}
END_TEST

int main(void) {
        Suite *suite = suite_create("http_rules");
        TCase *refusals = tcase_create("refusals"), *allowed = tcase_create("allowed");
        TCase *cors = tcase_create("cors");
        int failed;

        tcase_add_checked_fixture(refusals, set_up, NULL);
        tcase_add_test(refusals, a_host_that_is_not_listed_is_refused);
        tcase_add_test(refusals, an_origin_that_is_not_listed_is_refused);
        tcase_add_test(refusals, a_body_that_is_not_json_is_refused);
        tcase_add_test(refusals, a_compressed_body_is_refused_with_what_to_do);
        tcase_add_test(refusals, a_foreign_page_is_refused_whatever_else_is_right);
        tcase_add_test(refusals, over_a_unix_socket_a_foreign_origin_and_a_form_are_refused_too);
        suite_add_tcase(suite, refusals);
        tcase_add_checked_fixture(allowed, set_up, NULL);
        tcase_add_test(allowed, a_known_host_is_allowed_however_it_is_written);
        tcase_add_test(allowed, the_address_that_it_listens_on_is_a_known_host);
        tcase_add_test(allowed, over_a_unix_socket_any_host_is_allowed);
        tcase_add_test(allowed, an_origin_that_is_listed_or_its_own_is_allowed);
        tcase_add_test(allowed, json_may_have_parameters);
        tcase_add_test(allowed, without_a_body_no_type_is_asked_for);
        tcase_add_test(allowed, where_keys_are_asked_for_everybody_may_ask);
        suite_add_tcase(suite, allowed);
        tcase_add_checked_fixture(cors, set_up, NULL);
        tcase_add_test(cors, a_preflight_of_a_listed_origin_is_answered);
        tcase_add_test(cors, a_preflight_that_asks_for_too_much_gets_nothing);
        tcase_add_test(cors, options_without_a_page_is_no_preflight);
        tcase_add_test(cors, every_answer_says_that_it_depends_on_the_origin);
        suite_add_tcase(suite, cors);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
