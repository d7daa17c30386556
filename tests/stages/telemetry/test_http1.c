/* http1: what is refused, and what a head that is not refused says. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/http1.h"

static struct http1_request request;
static struct http1_refusal refusal;

/* At once, and byte by byte from a buffer that ends where the input ends: both must say the
 * same. */
static int parse_n(const char *head, uint32_t len) {
        struct http1_scan whole = {0}, slow = {0};
        char *copy = malloc(len ? len : 1);
        int r = HTTP1_E_MORE;
        struct http1_request again;

        memcpy(copy, head, len);
        for (uint32_t n = 0; n <= len && r == HTTP1_E_MORE; n++)
                r = http1_parse(&slow, copy, n, &again, &refusal);
        free(copy);
        refusal = (struct http1_refusal){0};
        ck_assert_int_eq(http1_parse(&whole, head, len, &request, &refusal), r);
        if (r == 0) {
                ck_assert_uint_eq(again.n_fields, request.n_fields);
                ck_assert_uint_eq(again.head_bytes, request.head_bytes);
        }
        return r;
}

static int parse(const char *head) {
        return parse_n(head, (uint32_t)strlen(head));
}

#define REFUSES(expected, head)                                                                    \
        do {                                                                                       \
                ck_assert_msg(parse(head) == HTTP1_E_REFUSED, "taken: %s", head);                  \
                ck_assert_msg(refusal.status == (expected), "%u for: %s", refusal.status, head);   \
                ck_assert_ptr_nonnull(refusal.why);                                                \
        } while (0)
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

START_TEST(a_line_that_does_not_end_in_crlf_is_refused) {
        REFUSES(400, "GET / HTTP/1.1\nHost: a\n\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a\r X: b\r\n\r\n");
        REFUSES(400, GET "\n");
        REFUSES(400, GET "\rX\r\n");
}
END_TEST

START_TEST(an_empty_line_or_space_before_the_request_is_refused) {
        REFUSES(400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}
END_TEST

START_TEST(a_request_line_of_another_shape_is_refused) {
        REFUSES(400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / a HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / http/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / HTTP/11\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n");
        REFUSES(400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(501, "get / HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(501, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n");
}
END_TEST

START_TEST(another_version_is_refused) {
        REFUSES(505, "GET / HTTP/0.9\r\n\r\n");
        REFUSES(505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n");
        REFUSES(505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
        REFUSES(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}
END_TEST

START_TEST(a_target_that_is_none_is_refused) {
        REFUSES(400, "GET metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n");
        REFUSES(400, "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n");
        REFUSES(400, "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n");
}
END_TEST

START_TEST(a_header_line_of_another_shape_is_refused) {
        REFUSES(400, GET "X : b\r\n\r\n");
        REFUSES(400, GET " X: b\r\n\r\n");
        REFUSES(400, GET "X\r\n\r\n");
        REFUSES(400, GET ": b\r\n\r\n");
        REFUSES(400, GET "X(: b\r\n\r\n");
        REFUSES(400, GET "X y: b\r\n\r\n");
        REFUSES(400, GET "X\xc3\xa4: b\r\n\r\n");
        REFUSES(400, GET "X: a\r\n b\r\n\r\n");
        REFUSES(400, GET "X: a\r\n\tb\r\n\r\n");
        REFUSES(400, GET "X: a\x01\r\n\r\n");
        REFUSES(400, GET "X: a\x7f\r\n\r\n");
}
END_TEST

START_TEST(a_zero_byte_anywhere_is_refused) {
        static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n";

        for (uint32_t i = 0; i + 1 < sizeof(head) - 1; i++) {
                char with[sizeof(head)];
                memcpy(with, head, sizeof(head));
                with[i] = '\0';
                ck_assert_int_eq(parse_n(with, sizeof(head) - 1), HTTP1_E_REFUSED);
                ck_assert_uint_eq(refusal.status, 400);
        }
}
END_TEST

START_TEST(a_host_that_is_missing_or_none_or_twice_there_is_refused) {
        REFUSES(400, "GET / HTTP/1.1\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a\r\nhOsT: b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n");
        REFUSES(400, "GET / HTTP/1.1\r\nHost: [::1]x:80\r\n\r\n");
}
END_TEST

START_TEST(a_length_that_two_readers_can_read_in_two_ways_is_refused) {
        REFUSES(400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n");
        REFUSES(400, POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n");
        REFUSES(400, POST "Content-Length: 5, 5\r\n\r\n");
        REFUSES(400, POST "Content-Length: +5\r\n\r\n");
        REFUSES(400, POST "Content-Length: -1\r\n\r\n");
        REFUSES(400, POST "Content-Length: 0x5\r\n\r\n");
        REFUSES(400, POST "Content-Length: 5 5\r\n\r\n");
        REFUSES(400, POST "Content-Length: 5.0\r\n\r\n");
        REFUSES(400, POST "Content-Length:\r\n\r\n");
        REFUSES(400, POST "Content-Length:  \r\n\r\n");
        REFUSES(400, POST "Content-Length: 18446744073709551616\r\n\r\n");
        REFUSES(400, POST "Content-Length: 18446744073709551615\r\n\r\n");
        REFUSES(400, POST "Content-Length: 1000000000000000000\r\n\r\n");
}
END_TEST

START_TEST(a_transfer_coding_beside_a_length_or_unknown_or_twice_there_is_refused) {
        REFUSES(400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        REFUSES(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n");
        REFUSES(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n");
        REFUSES(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n");
        REFUSES(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: chunked, chunked\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: identity\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: xchunked\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: \"chunked\"\r\n\r\n");
        REFUSES(501, POST "Transfer-Encoding: chunked;a=b\r\n\r\n");
        REFUSES(400, POST "Transfer-Encoding: \x0b"
                          "chunked\r\n\r\n");
}
END_TEST

START_TEST(an_expectation_other_than_continue_is_refused) {
        REFUSES(417, POST "Content-Length: 5\r\nExpect: tea\r\n\r\n");
        REFUSES(400, POST "Content-Length: 5\r\nExpect: 100-continue\r\nExpect: "
                          "100-continue\r\n\r\n");
}
END_TEST

static char *head_of(uint32_t len) {
        static const char from[] = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        char *head = malloc(len + 1);

        memset(head, 'x', len);
        memcpy(head, from, sizeof(from) - 1);
        memcpy(head + len - 4, "\r\n\r\n", 5);
        return head;
}

START_TEST(a_head_of_64_kib_is_taken_and_one_byte_more_is_refused) {
        struct http1_scan scan = {0};
        char *head = head_of(HTTP1_HEAD_MAX);

        ck_assert_int_eq(http1_parse(&scan, head, HTTP1_HEAD_MAX, &request, &refusal), 0);
        ck_assert_uint_eq(request.head_bytes, HTTP1_HEAD_MAX);
        free(head);
        head = head_of(HTTP1_HEAD_MAX + 1);
        scan = (struct http1_scan){0};
        ck_assert_int_eq(http1_parse(&scan, head, HTTP1_HEAD_MAX + 1, &request, &refusal),
                        HTTP1_E_REFUSED);
        ck_assert_uint_eq(refusal.status, 431);
        /* Nothing more is waited for once it cannot become a head any more. */
        scan = (struct http1_scan){0};
        ck_assert_int_eq(http1_parse(&scan, head, HTTP1_HEAD_MAX, &request, &refusal),
                        HTTP1_E_REFUSED);
        ck_assert_uint_eq(refusal.status, 431);
        free(head);
}
END_TEST

START_TEST(a_long_target_alone_is_too_large) {
        struct http1_scan scan = {0};
        char *head = malloc(HTTP1_HEAD_MAX);

        memset(head, 'a', HTTP1_HEAD_MAX);
        memcpy(head, "GET /", 5);
        ck_assert_int_eq(http1_parse(&scan, head, HTTP1_HEAD_MAX, &request, &refusal),
                        HTTP1_E_REFUSED);
        ck_assert_uint_eq(refusal.status, 431);
        free(head);
}
END_TEST

START_TEST(more_headers_than_there_is_room_for_are_refused) {
        char head[HTTP1_FIELDS_MAX * 8 + 64];
        int n = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\n"), at;

        for (uint32_t i = 1; i < HTTP1_FIELDS_MAX; i++)
                n += snprintf(head + n, sizeof(head) - (size_t)n, "X: y\r\n");
        at = n;
        memcpy(head + n, "\r\n", 3);
        ck_assert_int_eq(parse(head), 0);
        ck_assert_uint_eq(request.n_fields, HTTP1_FIELDS_MAX);
        memcpy(head + at, "X: y\r\n\r\n", 9);
        REFUSES(431, head);
}
END_TEST

START_TEST(a_plain_get_is_read) {
        ck_assert_int_eq(parse("GET /metrics?a=b?c HTTP/1.1\r\nHost: localhost:9464\r\nAccept: \t "
                               "x \t\r\nE:\r\n\r\n"
                               "GET"),
                        0);
        ck_assert(http1_is(request.method, "GET"));
        ck_assert(http1_is(request.target, "/metrics?a=b?c"));
        ck_assert(http1_is(request.path, "/metrics"));
        ck_assert(http1_is(request.query, "a=b?c"));
        ck_assert(http1_is(request.host, "localhost"));
        ck_assert_uint_eq(request.minor, 1);
        ck_assert(request.keep_alive && !request.expects_continue && !request.upgrade);
        ck_assert_int_eq(request.body, HTTP1_BODY_NONE);
        ck_assert_uint_eq(request.n_fields, 3);
        ck_assert(http1_is(*http1_field(&request, "accept"), "x"));
        ck_assert(http1_is(*http1_field(&request, "e"), ""));
        ck_assert_ptr_null(http1_field(&request, "acc"));
        ck_assert_uint_eq(request.head_bytes,
                        strlen("GET /metrics?a=b?c HTTP/1.1\r\nHost: localhost:9464\r\n"
                               "Accept: \t x \t\r\nE:\r\n\r\n"));
}
END_TEST

START_TEST(half_a_head_asks_for_more) {
        static const char head[] = GET "\r\n";

        for (uint32_t n = 0; n < sizeof(head) - 1; n++)
                ck_assert_int_eq(parse_n(head, n), HTTP1_E_MORE);
}
END_TEST

START_TEST(the_host_is_split_from_its_port) {
        ck_assert_int_eq(parse("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0);
        ck_assert(http1_is(request.host, "[::1]"));
        ck_assert_int_eq(parse("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"), 0);
        ck_assert(http1_is(request.host, "[::1]"));
        ck_assert_int_eq(parse("GET / HTTP/1.1\r\nHost: 127.0.0.1:\r\n\r\n"), 0);
        ck_assert(http1_is(request.host, "127.0.0.1"));
        ck_assert_int_eq(parse("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 0);
        ck_assert_uint_eq(request.host.n, 0);
        ck_assert_int_eq(parse("GET / HTTP/1.0\r\n\r\n"), 0);
        ck_assert_uint_eq(request.host.n, 0);
}
END_TEST

START_TEST(a_target_may_name_the_host_or_nothing) {
        ck_assert_int_eq(parse("GET http://a:80/x?y HTTP/1.1\r\nHost: A:80\r\n\r\n"), 0);
        ck_assert(http1_is(request.host, "a"));
        ck_assert(http1_is(request.path, "/x"));
        ck_assert(http1_is(request.query, "y"));
        ck_assert_int_eq(parse("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
        ck_assert(http1_is(request.path, "/"));
        ck_assert(http1_is(request.query, "y"));
        ck_assert_int_eq(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
        ck_assert(http1_is(request.path, "*"));
        ck_assert_int_eq(parse("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), 0);
        ck_assert(http1_is(request.host, "a"));
}
END_TEST

START_TEST(the_connection_header_and_the_version_say_whether_it_goes_on) {
        ck_assert(parse(GET "Connection: close\r\n\r\n") == 0 && !request.keep_alive);
        ck_assert(parse(GET "Connection: keep-alive\r\n\r\n") == 0 && request.keep_alive);
        ck_assert(parse(GET "Connection: x, Close\r\n\r\n") == 0 && !request.keep_alive);
        ck_assert(parse("GET / HTTP/1.0\r\nHost: a\r\n\r\n") == 0 && !request.keep_alive);
        ck_assert(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == 0 &&
                        request.keep_alive);
        ck_assert(parse(GET "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n") == 0 && request.upgrade);
}
END_TEST

START_TEST(a_body_is_announced_by_its_length_or_as_chunked) {
        ck_assert_int_eq(parse(POST "Content-Length: 0\r\n\r\n"), 0);
        ck_assert_int_eq(request.body, HTTP1_BODY_NONE);
        ck_assert_int_eq(parse(POST "Content-Length: 123456789012345678 \r\n\r\n"), 0);
        ck_assert_int_eq(request.body, HTTP1_BODY_LENGTH);
        ck_assert_uint_eq(request.body_bytes, 123456789012345678ull);
        ck_assert_int_eq(parse(POST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello"), 0);
        ck_assert(request.expects_continue);
        ck_assert_int_eq(parse(POST "transfer-encoding: CHUNKED\r\n\r\n"), 0);
        ck_assert_int_eq(request.body, HTTP1_BODY_CHUNKED);
        ck_assert_int_eq(parse(POST "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: "
                                    "7\r\n\r\n"),
                        0);
        ck_assert_int_eq(request.body, HTTP1_BODY_LENGTH);
}
END_TEST

START_TEST(a_status_has_a_text) {
        ck_assert_str_eq(http1_status_text(431), "Request Header Fields Too Large");
        ck_assert_str_eq(http1_status_text(999), "Unknown");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("http1");
        TCase *refusals = tcase_create("refusals"), *reads = tcase_create("reads");
        int failed;

        tcase_add_test(refusals, a_line_that_does_not_end_in_crlf_is_refused);
        tcase_add_test(refusals, an_empty_line_or_space_before_the_request_is_refused);
        tcase_add_test(refusals, a_request_line_of_another_shape_is_refused);
        tcase_add_test(refusals, another_version_is_refused);
        tcase_add_test(refusals, a_target_that_is_none_is_refused);
        tcase_add_test(refusals, a_header_line_of_another_shape_is_refused);
        tcase_add_test(refusals, a_zero_byte_anywhere_is_refused);
        tcase_add_test(refusals, a_host_that_is_missing_or_none_or_twice_there_is_refused);
        tcase_add_test(refusals, a_length_that_two_readers_can_read_in_two_ways_is_refused);
        tcase_add_test(refusals,
                        a_transfer_coding_beside_a_length_or_unknown_or_twice_there_is_refused);
        tcase_add_test(refusals, an_expectation_other_than_continue_is_refused);
        tcase_add_test(refusals, a_head_of_64_kib_is_taken_and_one_byte_more_is_refused);
        tcase_add_test(refusals, a_long_target_alone_is_too_large);
        tcase_add_test(refusals, more_headers_than_there_is_room_for_are_refused);
        suite_add_tcase(suite, refusals);
        tcase_add_test(reads, a_plain_get_is_read);
        tcase_add_test(reads, half_a_head_asks_for_more);
        tcase_add_test(reads, the_host_is_split_from_its_port);
        tcase_add_test(reads, a_target_may_name_the_host_or_nothing);
        tcase_add_test(reads, the_connection_header_and_the_version_say_whether_it_goes_on);
        tcase_add_test(reads, a_body_is_announced_by_its_length_or_as_chunked);
        tcase_add_test(reads, a_status_has_a_text);
        suite_add_tcase(suite, reads);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
