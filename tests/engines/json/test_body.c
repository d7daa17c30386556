#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/body.h"

static struct body_scanner *scanner;
static struct body_found found;

static void setup(void) {
        ck_assert_int_eq(body_scanner_new(&scanner), 0);
}

static void teardown(void) {
        scanner = body_scanner_free(scanner);
}

static int scan(const char *body) {
        return body_scan(scanner, body, (uint32_t)strlen(body), &found);
}

static void expect_bad(const char *body, const char *words) {
        ck_assert_int_eq(scan(body), BODY_E_INVALID);
        ck_assert_msg(strstr(found.error, words), "%s: \"%s\" does not say \"%s\"", body,
                        found.error, words);
}

static void expect_span(const char *body, struct body_span span, const char *want) {
        ck_assert_msg(span.len == strlen(want) && memcmp(body + span.off, want, span.len) == 0,
                        "got \"%.*s\", want \"%s\"", (int)span.len, body + span.off, want);
}

static void expect_query(const char *want) {
        ck_assert_msg(found.query_len == strlen(want) &&
                                        memcmp(found.query, want, found.query_len) == 0,
                        "got \"%.*s\", want \"%s\"", (int)found.query_len, found.query, want);
}

#define USER "{\"role\":\"user\",\"content\":\"q\"}"

/* ---- refusals ---- */

START_TEST(what_is_no_json_says_at_which_byte) {
        expect_bad("", "not JSON");
        expect_bad("{", "not JSON");
        expect_bad("{\"messages\":[" USER "]", "not JSON");
        expect_bad("{\"messages\":[" USER "]} x", "not JSON");
        expect_bad("{\"messages\":[" USER "],}", "at byte 4");
        expect_bad("{\"a\":01}", "not JSON");
        expect_bad("{\"a\":nan}", "not JSON");
        expect_bad("{\"a\":\"\xff\"}", "not UTF-8 at byte 6");
        expect_bad("{\"a\":\"\xc1\xbb\"}", "not UTF-8 at byte 6");
        expect_bad("{\"a\":\"\n\"}", "not JSON");
        expect_bad("{\"a\": /* no */ 1}", "not JSON");
        expect_bad("{\"a\":\f1}", "control character between values at byte 5");
        expect_bad("{\"messages\":[" USER "]}\v", "control character behind the body");
}
END_TEST

START_TEST(a_body_that_is_no_chat_says_what_is_missing) {
        expect_bad("[]", "expected an object, got an array");
        expect_bad("7", "expected an object, got a number");
        expect_bad("{}", "messages: missing");
        expect_bad("{\"messages\":null}", "messages: expected an array, got null");
        expect_bad("{\"messages\":{}}", "messages: expected an array, got an object");
        expect_bad("{\"messages\":[]}", "messages: expected at least one message at byte 12");
        expect_bad("{\"messages\":[7]}",
                        "messages[0]: expected an object, got a number at byte 13");
        expect_bad("{\"messages\":[" USER ",{}]}", "messages[1]: no role");
        expect_bad("{\"messages\":[{\"role\":7}]}",
                        "messages[0].role: expected a string, got a number");
        expect_bad("{\"messages\":[{\"role\":\"user\",\"content\":7}]}",
                        "messages[0].content: expected a string or an array of parts, got a "
                        "number");
        expect_bad("{\"messages\":[{\"role\":\"user\",\"content\":[7]}]}",
                        "messages[0].content: expected parts, got a number");
        expect_bad("{\"messages\":[" USER "],\"model\":7}",
                        "model: expected a string, got a number");
        expect_bad("{\"messages\":[" USER "],\"stream\":1}",
                        "stream: expected a boolean, got a number");
        expect_bad("{\"messages\":[" USER "],\"max_tokens\":\"9\"}",
                        "max_tokens: expected a number");
}
END_TEST

START_TEST(depth_is_bounded) {
        char body[512];
        int n = snprintf(body, sizeof(body), "{\"messages\":[" USER "],\"x\":");

        memset(body + n, '[', 63);
        memset(body + n + 63, ']', 63);
        memcpy(body + n + 126, "}", 2);
        ck_assert_int_eq(scan(body), 0);
        memset(body + n, '[', 64);
        memset(body + n + 64, ']', 64);
        memcpy(body + n + 128, "}", 2);
        expect_bad(body, "nested deeper than 64 levels");
}
END_TEST

/* ---- behaviour ---- */

START_TEST(spans_lie_where_the_values_are) {
        static const char body[] = " { \"model\" : \"m\\\"x\" ,\t\"messages\":[ "
                                   "{\"role\":\"system\",\"content\":\"sys\"}, "
                                   "{\"role\":\"assistant\",\"content\":null},{\"content\":"
                                   "\"last\\u0020one\",\"role\":\"user\"} ],"
                                   "\"stream\" :true,\"stream_options\": {\"include_usage\" : true "
                                   "} ,\"max_tokens\":12e1 } \n";

        ck_assert_msg(scan(body) == 0, "%s", found.error);
        expect_span(body, found.marks.model, "\"m\\\"x\"");
        expect_span(body, found.marks.first_system, "\"sys\"");
        expect_span(body, found.marks.last_user, "\"last\\u0020one\"");
        expect_span(body, found.marks.stream, "true");
        expect_span(body, found.marks.stream_options, "{\"include_usage\" : true }");
        expect_span(body, found.marks.max_tokens, "12e1");
        ck_assert_int_eq(body[found.marks.messages.off], '[');
        ck_assert_int_eq(body[found.marks.messages.off + found.marks.messages.len - 1], ']');
        ck_assert_uint_eq(found.marks.object_end, strrchr(body, '}') - body);
        ck_assert_uint_eq(found.marks.n_messages, 3);
        ck_assert(found.usage_asked);
        expect_query("last one");
}
END_TEST

START_TEST(of_duplicate_keys_the_last_counts) {
        static const char body[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"}," USER
                                   "],\"model\":\"one\","
                                   "\"messages\":[{\"role\":\"tool\",\"role\":\"user\",\"content\":"
                                   "\"b\",\"content\":\"c\"}],"
                                   "\"model\":\"two\"}";

        ck_assert_int_eq(scan(body), 0);
        ck_assert_uint_eq(found.marks.n_messages, 1);
        ck_assert_uint_eq(found.marks.first_system.len, 0);
        expect_span(body, found.marks.last_user, "\"c\"");
        expect_span(body, found.marks.model, "\"two\"");
        expect_query("c");
}
END_TEST

START_TEST(parts_of_text_make_the_query) {
        static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                                   "\"text\",\"text\":\"one\"},"
                                   "{\"text\":\"no\",\"type\":\"image_url\",\"image_url\":{\"url\":"
                                   "\"x\",\"text\":\"deep\"}},"
                                   "{\"type\":\"text\",\"text\":\"two\"}]},{\"role\":\"assistant\","
                                   "\"content\":\"done\"}]}";

        ck_assert_int_eq(scan(body), 0);
        expect_query("one\ntwo");
        ck_assert_int_eq(body[found.marks.last_user.off], '[');
}
END_TEST

START_TEST(nothing_inside_other_values_is_taken_for_a_mark) {
        static const char body[] = "{\"metadata\":{\"model\":\"x\",\"messages\":[1],\"role\":"
                                   "\"user\"},\"messages\":["
                                   "{\"role\":\"user\",\"content\":\"q\",\"extra\":{\"content\":"
                                   "\"no\",\"role\":\"system\"}}],"
                                   "\"tools\":[{\"content\":\"no\",\"stream\":1}]}";

        ck_assert_msg(scan(body) == 0, "%s", found.error);
        ck_assert_uint_eq(found.marks.model.len, 0);
        ck_assert_uint_eq(found.marks.stream.len, 0);
        ck_assert_uint_eq(found.marks.n_messages, 1);
        expect_query("q");
}
END_TEST

#define ROOM 400000u

START_TEST(long_texts_are_cut_and_need_no_more_memory_afterwards) {
        char *body = malloc(ROOM);
        int n = snprintf(body, ROOM, "{\"messages\":[{\"role\":\"user\",\"content\":\"");

        /* Escapes make the parser decode into its own buffer, larger than the scanner's. */
        for (int i = 0; i < 60000; i++)
                n += snprintf(body + n, ROOM - (size_t)n, "\\n\xc3\xa9");
        snprintf(body + n, ROOM - (size_t)n, "\"}]}");
        for (int i = 0; i < 3; i++) {
                ck_assert_int_eq(scan(body), 0);
                ck_assert_uint_ge(found.query_len, BODY_QUERY_MAX - 1);
                ck_assert_uint_le(found.query_len, BODY_QUERY_MAX);
                ck_assert_int_ne(found.query[found.query_len - 1] & 0xff, 0xc3);
        }
        free(body);
}
END_TEST

START_TEST(an_error_leaves_the_scanner_usable) {
        for (int i = 0; i < 3; i++) {
                expect_bad("{\"messages\":[[", "at byte 14");
                ck_assert_int_eq(scan("{\"messages\":[" USER "]}"), 0);
                expect_query("q");
        }
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("body");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, what_is_no_json_says_at_which_byte);
        tcase_add_test(refusals, a_body_that_is_no_chat_says_what_is_missing);
        tcase_add_test(refusals, depth_is_bounded);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, setup, teardown);
        tcase_add_test(behaviour, spans_lie_where_the_values_are);
        tcase_add_test(behaviour, of_duplicate_keys_the_last_counts);
        tcase_add_test(behaviour, parts_of_text_make_the_query);
        tcase_add_test(behaviour, nothing_inside_other_values_is_taken_for_a_mark);
        tcase_add_test(behaviour, long_texts_are_cut_and_need_no_more_memory_afterwards);
        tcase_add_test(behaviour, an_error_leaves_the_scanner_usable);
        suite_add_tcase(s, behaviour);
        return s;
}

int main(void) {
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
