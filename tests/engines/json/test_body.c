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

static int scan_as(enum body_kind kind, const char *body) {
        return body_scan(scanner, kind, body, (uint32_t)strlen(body), &found);
}

static int scan(const char *body) {
        return scan_as(BODY_CHAT, body);
}

static void expect_bad_as(enum body_kind kind, const char *body, const char *words) {
        ck_assert_int_eq(scan_as(kind, body), BODY_E_INVALID);
        ck_assert_msg(strstr(found.error, words), "%s: \"%s\" does not say \"%s\"", body,
                        found.error, words);
}

static void expect_bad(const char *body, const char *words) {
        expect_bad_as(BODY_CHAT, body, words);
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

START_TEST(a_value_of_the_wrong_type_is_named) {
        static const struct {
                const char *member, *is;
        } wrong[] = {{"model", "model"}, {"stream", "stream"}, {"stream_options", "stream_options"},
                        {"max_tokens", "max_tokens"}, {"max_completion_tokens", "max_tokens"}};
        char body[256];

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                snprintf(body, sizeof(body), "{\"messages\":[" USER "],\"%s\":[1]}",
                                wrong[i].member);
                expect_bad(body, "got an array at byte ");
                ck_assert_str_eq(found.member, wrong[i].is);
        }
        expect_bad("{\"messages\":[" USER ",{\"role\":7}]}", "got a number at byte 51");
        ck_assert_str_eq(found.member, "messages[1].role");
        expect_bad("{\"messages\":[" USER "],\"stream_options\":{\"include_usage\":1}}",
                        "stream_options.include_usage: expected a boolean, got a number");
        expect_bad("{\"messages\":[" USER "]", "not JSON");
        ck_assert_str_eq(found.member, "");
}
END_TEST

START_TEST(n_is_a_whole_number_within_bounds) {
        static const char *const bad[] = {"0", "129", "1.5", "-1", "1e1", "99999999999999999999"};
        char body[256];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                snprintf(body, sizeof(body), "{\"messages\":[" USER "],\"n\":%s}", bad[i]);
                expect_bad(body, "n: expected a whole number from 1 to 128 at byte ");
                ck_assert_str_eq(found.member, "n");
        }
        expect_bad("{\"messages\":[" USER "],\"n\":\"1\"}", "n: expected a number, got a string");
}
END_TEST

START_TEST(numbers_are_bounded) {
        char body[2048];
        int n = snprintf(body, sizeof(body), "{\"messages\":[" USER "],\"x\":");

        memset(body + n, '1', 1001);
        memcpy(body + n + 1000, "}", 2);
        ck_assert_int_eq(scan(body), 0);
        memcpy(body + n + 1000, "1}", 3);
        expect_bad(body, "a number of more than 1000 characters at byte ");
}
END_TEST

START_TEST(other_kinds_of_bodies_say_what_they_lack) {
        expect_bad_as(BODY_COMPLETIONS, "{\"messages\":[" USER "]}", "prompt: missing at byte");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":null}",
                        "prompt: expected a string or an array, got null");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":[]}", "prompt: expected at least one element");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":[{}]}",
                        "prompt[0]: expected a text or tokens, got an object at byte 11");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":[\"a\",1]}",
                        "prompt[1]: expected a string, got a number");
        ck_assert_str_eq(found.member, "prompt[1]");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":[[\"a\"]]}",
                        "prompt: expected tokens, got a string");
        expect_bad_as(BODY_COMPLETIONS, "{\"prompt\":[\"a\",\"b\"],\"n\":65}",
                        "prompt: with n more than 128 answers");
        expect_bad_as(BODY_EMBEDDINGS, "{\"prompt\":\"x\"}", "input: missing");
        expect_bad_as(BODY_EMBEDDINGS, "{\"input\":[true]}",
                        "input[0]: expected a text or tokens, got a boolean");
        expect_bad_as(BODY_RESPONSES, "{}", "input: missing");
        expect_bad_as(BODY_RESPONSES, "{\"input\":[\"a\"]}",
                        "input[0]: expected an object, got a string");
        expect_bad_as(BODY_RESPONSES, "{\"input\":\"x\",\"background\":1}",
                        "background: expected a boolean");
        expect_bad_as(BODY_RESPONSES, "{\"input\":\"x\",\"instructions\":[]}",
                        "instructions: expected a string, got an array");
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
        ck_assert_uint_eq(found.marks.n_users, 1);
        ck_assert_uint_eq(found.marks.n_assistants, 1);
        ck_assert_uint_eq(found.marks.goes_on, 0);
        expect_span(body, found.marks.conversation,
                        "{\"role\":\"assistant\",\"content\":null},{\"content\":"
                        "\"last\\u0020one\",\"role\":\"user\"}");
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

START_TEST(user_turns_before_the_last_are_kept_from_their_end) {
        char body[16384];
        int n = snprintf(body, sizeof(body), "{\"messages\":[");

        ck_assert_int_eq(scan("{\"messages\":[" USER "]}"), 0);
        ck_assert_uint_eq(found.earlier_len, 0);
        ck_assert_int_eq(scan("{\"messages\":[{\"role\":\"user\",\"content\":\"one\"},"
                              "{\"role\":\"assistant\",\"content\":\"two\"},"
                              "{\"role\":\"user\",\"content\":\"three\"}," USER "]}"),
                        0);
        ck_assert_uint_eq(found.earlier_len, 10);
        ck_assert_mem_eq(found.earlier, "one\nthree\n", 10);
        expect_query("q");
        for (int i = 0; i < 60; i++)
                n += snprintf(body + n, sizeof(body) - (size_t)n,
                                "{\"role\":\"user\",\"content\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                                "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 %d\"},",
                                i);
        snprintf(body + n, sizeof(body) - (size_t)n, USER "]}");
        ck_assert_int_eq(scan(body), 0);
        ck_assert_uint_le(found.earlier_len, BODY_EARLIER_MAX);
        ck_assert_uint_ge(found.earlier_len, BODY_EARLIER_MAX - 2);
        ck_assert_int_ne(found.earlier[0] & 0xc0, 0x80); /* no character is cut */
        ck_assert_mem_eq(found.earlier + found.earlier_len - 4, " 59\n", 4);
        expect_query("q");
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

static void expect_session(const char *body, const char *name, const char *value) {
        char whole[512];

        snprintf(whole, sizeof(whole), "{\"messages\":[" USER "],%s}", body);
        ck_assert_msg(scan(whole) == 0, "%s", found.error);
        ck_assert_str_eq(body_session_name(&found), name);
        expect_span(whole, body_session(&found), value);
}

START_TEST(the_first_of_four_members_names_the_session) {
        expect_session("\"metadata\":{\"user_id\":\"m\"},\"user\":\"u\",\"safety_identifier\":"
                       "\"s\",\"prompt_cache_key\":\"p\"",
                        "prompt_cache_key", "\"p\"");
        expect_session("\"metadata\":{\"user_id\":\"m\"},\"user\":\"u\",\"safety_identifier\":"
                       "\"s\",\"prompt_cache_key\":\"\"",
                        "safety_identifier", "\"s\"");
        expect_session("\"metadata\":{\"user_id\":\"m\"},\"user\":\"u\",\"safety_identifier\":"
                       "null",
                        "user", "\"u\"");
        expect_session("\"metadata\":{\"a\":{\"user_id\":\"no\"},\"user_id\":\"m\"},\"user\":7",
                        "metadata.user_id", "\"m\"");
        expect_session("\"metadata\":{\"user_id\":\"m\"},\"metadata\":null", "", "");
        expect_session("\"metadata\":[{\"user_id\":\"m\"}],\"user\":[\"u\"]", "", "");
        expect_session("\"user\":\"u\",\"user\":\"v\"", "user", "\"v\"");
}
END_TEST

START_TEST(the_body_says_how_it_is_to_be_answered) {
        ck_assert_int_eq(scan("{\"messages\":[" USER "]}"), 0);
        ck_assert(!found.stream && !found.usage_asked && found.n == 0);
        ck_assert_int_eq(scan("{\"messages\":[" USER "],\"stream\":true,\"n\":128,"
                              "\"stream_options\":{\"include_usage\":true}}"),
                        0);
        ck_assert(found.stream && found.usage_asked && found.n == 128);
        ck_assert_int_eq(scan("{\"stream\":true,\"stream\":null,\"n\":2,\"n\":null,\"messages\":["
                              USER "],\"stream_options\":{\"include_usage\":true},"
                              "\"stream_options\":null}"),
                        0);
        ck_assert(!found.stream && !found.usage_asked && found.n == 0);
        ck_assert_int_eq(scan("{\"messages\":[" USER "],\"stream_options\":{\"include_usage\":true,"
                              "\"include_usage\":null}}"),
                        0);
        ck_assert(!found.usage_asked);
}
END_TEST

START_TEST(a_prompt_of_texts_is_what_the_user_said) {
        static const char one[] = "{\"prompt\":\"tell \\u0041\",\"n\":2,\"model\":\"m\"}";
        static const char more[] = "{\"prompt\":[\"one\", \"two\"]}";
        static const char tokens[] = "{\"prompt\":\"x\",\"prompt\":[[1,2],[3]],\"n\":64}";
        static const char flat[] = "{\"prompt\":[1,2,3,4],\"n\":128}";

        ck_assert_msg(scan_as(BODY_COMPLETIONS, one) == 0, "%s", found.error);
        expect_span(one, found.input, "\"tell \\u0041\"");
        expect_span(one, found.marks.last_user, "\"tell \\u0041\"");
        expect_span(one, found.marks.model, "\"m\"");
        expect_query("tell A");
        ck_assert_uint_eq(found.n, 2);
        ck_assert_msg(scan_as(BODY_COMPLETIONS, more) == 0, "%s", found.error);
        expect_span(more, found.marks.last_user, "[\"one\", \"two\"]");
        expect_query("one\ntwo");
        ck_assert_msg(scan_as(BODY_COMPLETIONS, tokens) == 0, "%s", found.error);
        expect_span(tokens, found.input, "[[1,2],[3]]");
        ck_assert_uint_eq(found.marks.last_user.len, 0);
        expect_query("");
        ck_assert_msg(scan_as(BODY_COMPLETIONS, flat) == 0, "%s", found.error);
        ck_assert_uint_eq(found.marks.last_user.len, 0);
}
END_TEST

START_TEST(embeddings_and_responses_have_their_own_members) {
        static const char embed[] = "{\"input\":[1,2],\"stream\":7,\"user\":\"u\"}";
        static const char respond[] = "{\"input\":[{\"role\":\"user\",\"content\":\"q\"}],"
                                      "\"instructions\":\"be kind\",\"background\":true,"
                                      "\"previous_response_id\":\"resp_1\",\"stream\":true}";

        ck_assert_msg(scan_as(BODY_EMBEDDINGS, embed) == 0, "%s", found.error);
        expect_span(embed, found.input, "[1,2]");
        ck_assert_str_eq(body_session_name(&found), "user");
        ck_assert_uint_eq(found.marks.last_user.len, 0);
        ck_assert_msg(scan_as(BODY_RESPONSES, respond) == 0, "%s", found.error);
        expect_span(respond, found.input, "[{\"role\":\"user\",\"content\":\"q\"}]");
        ck_assert(found.background && found.stream);
        ck_assert_int_eq(scan_as(BODY_RESPONSES, "{\"input\":\"q\"}"), 0);
        ck_assert(!found.background);
}
END_TEST

START_TEST(lone_surrogates_pass) {
        ck_assert_int_eq(scan("{\"messages\":[{\"role\":\"user\",\"content\":\"a\\ud800\"}]}"), 0);
        expect_query("a\xef\xbf\xbd");
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("body");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, what_is_no_json_says_at_which_byte);
        tcase_add_test(refusals, a_body_that_is_no_chat_says_what_is_missing);
        tcase_add_test(refusals, a_value_of_the_wrong_type_is_named);
        tcase_add_test(refusals, n_is_a_whole_number_within_bounds);
        tcase_add_test(refusals, depth_is_bounded);
        tcase_add_test(refusals, numbers_are_bounded);
        tcase_add_test(refusals, other_kinds_of_bodies_say_what_they_lack);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, setup, teardown);
        tcase_add_test(behaviour, spans_lie_where_the_values_are);
        tcase_add_test(behaviour, of_duplicate_keys_the_last_counts);
        tcase_add_test(behaviour, parts_of_text_make_the_query);
        tcase_add_test(behaviour, user_turns_before_the_last_are_kept_from_their_end);
        tcase_add_test(behaviour, nothing_inside_other_values_is_taken_for_a_mark);
        tcase_add_test(behaviour, long_texts_are_cut_and_need_no_more_memory_afterwards);
        tcase_add_test(behaviour, an_error_leaves_the_scanner_usable);
        tcase_add_test(behaviour, the_first_of_four_members_names_the_session);
        tcase_add_test(behaviour, the_body_says_how_it_is_to_be_answered);
        tcase_add_test(behaviour, a_prompt_of_texts_is_what_the_user_said);
        tcase_add_test(behaviour, embeddings_and_responses_have_their_own_members);
        tcase_add_test(behaviour, lone_surrogates_pass);
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
