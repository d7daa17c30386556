/* What a client's own body decides where nothing else does: over HTTP; and what becomes of it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/compose.h"

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]"

static struct composer composer;
static struct ask_error error;
static struct composed made;

static void setup(void) {
        ck_assert_int_eq(composer_init(&composer, 100000), 0);
}

static void teardown(void) {
        composer_close(&composer);
}

static struct ask ask_of(const char *body) {
        return (struct ask){.op = OP_SUBMIT,
                        .content = CONTENT_BODY,
                        .body_decides = true,
                        .text = {body, (uint32_t)strlen(body)}};
}

static int compose_body(const char *body) {
        struct ask ask = ask_of(body);

        return compose(&composer, &ask, &made, &error);
}

static void expect_bad(const char *body, const char *words, const char *param) {
        ck_assert_int_eq(compose_body(body), MR_E_invalid_request);
        ck_assert_msg(strstr(error.text, words), "\"%s\" does not say \"%s\"", error.text, words);
        ck_assert_str_eq(error.param, param);
}

static void expect_view(struct mr_view view, const char *want) {
        ck_assert_msg(view.n == strlen(want) && memcmp(view.p, want, view.n) == 0,
                        "got \"%.*s\", want \"%s\"", (int)view.n, view.p, want);
}

START_TEST(an_error_names_the_member_that_is_wrong) {
        expect_bad("{" MESSAGES ",\"stream\":\"yes\"}", "body: stream: expected a boolean",
                        "stream");
        expect_bad("{\"messages\":[{}]}", "body: messages[0]: no role at byte 13", "messages[0]");
        expect_bad("{" MESSAGES, "body: not JSON", "");
}
END_TEST

START_TEST(a_name_that_is_too_long_or_unprintable_is_refused) {
        char body[8192];
        int n = snprintf(body, sizeof(body), "{" MESSAGES ",\"user\":\"");

        for (int i = 0; i < 1024; i++)
                n += snprintf(body + n, sizeof(body) - (size_t)n, "\\u0041");
        memcpy(body + n, "\"}", 3);
        ck_assert_int_eq(compose_body(body), 0);
        ck_assert_uint_eq(made.session.n, 1024);
        memcpy(body + n, "B\"}", 4);
        expect_bad(body, "body: user: 1025 bytes, at most 1024 are allowed", "user");
        expect_bad("{" MESSAGES ",\"metadata\":{\"user_id\":\"a\\n\"}}",
                        "body: metadata.user_id: holds unprintable characters", "metadata.user_id");
        expect_bad("{" MESSAGES ",\"model\":\"a\\u0000\"}",
                        "body: model: holds unprintable characters", "model");
}
END_TEST

START_TEST(an_error_that_is_not_the_bodys_names_no_member) {
        struct ask ask = ask_of("{" MESSAGES ",\"n\":0}");

        ck_assert_int_ne(compose(&composer, &ask, &made, &error), 0);
        ck_assert_str_eq(error.param, "n");
        composer.max_body_bytes = 5;
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), MR_E_too_large);
        ck_assert_str_eq(error.param, "");
}
END_TEST

static int compose_response(const char *body) {
        struct ask ask = ask_of(body);

        ask.kind = BODY_RESPONSES;
        return compose(&composer, &ask, &made, &error);
}

START_TEST(a_response_that_cannot_be_a_chat_is_refused_by_its_member) {
        ck_assert_int_eq(compose_response("{\"input\":7}"), MR_E_invalid_request);
        ck_assert_str_eq(error.param, "input");
        ck_assert_int_eq(compose_response("{\"input\":\"x\",\"prompt\":{}}"), MR_E_invalid_request);
        ck_assert_str_eq(error.param, "prompt");
        ck_assert_int_eq(strncmp(error.text, "body: prompt: not supported", 27), 0);
        ck_assert_int_eq(compose_response("{\"input\":[{\"type\":\"reasoning\"}]}"),
                        MR_E_invalid_request);
        ck_assert_str_eq(error.param, "messages");
}
END_TEST

START_TEST(a_response_that_is_too_large_as_a_chat_is_refused) {
        static const char item[] = "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\","
                                   "\"arguments\":\"\"}";
        char *body = malloc(100000);
        uint32_t n;

        ck_assert(body);
        n = (uint32_t)sprintf(body, "{\"input\":[%s", item);
        while (n + sizeof(item) + 4 < 100000)
                n += (uint32_t)sprintf(body + n, ",%s", item);
        strcpy(body + n, "]}");
        ck_assert_int_eq(compose_response(body), MR_E_too_large);
        free(body);
        ck_assert_int_eq(compose_response("{\"input\":\"x\"}"), 0);
}
END_TEST

START_TEST(a_response_is_composed_as_a_chat) {
        ck_assert_int_eq(compose_response("{\"input\":\"hi\",\"model\":\"m\",\"user\":\"u\"}"), 0);
        expect_view(made.body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                               "\"model\":\"m\",\"user\":\"u\"}");
        expect_view(made.model, "m");
        expect_view(made.session, "u");
        expect_view(made.query, "hi");
        ck_assert_int_eq(memcmp(made.body.p + made.marks.messages.off, "[{\"role\"", 8), 0);
        ck_assert(!(made.options & (OPTION_DETACH | OPTION_STREAM)) && !made.followed);
        ck_assert_int_eq(compose_response("{\"input\":\"hi\",\"background\":true}"), 0);
        ck_assert(made.options & OPTION_DETACH && !made.followed);
        ck_assert_int_eq(compose_response("{\"input\":\"hi\",\"background\":true,\"stream\":true}"), 0);
        ck_assert(made.options & OPTION_DETACH && made.options & OPTION_STREAM && made.followed);
}
END_TEST

START_TEST(the_body_says_whether_it_is_a_stream_and_whose) {
        ck_assert_int_eq(compose_body("{" MESSAGES ",\"stream\":true,\"n\":3,\"user\":\"a\\u00e9\","
                                      "\"model\":\"m\",\"stream_options\":{\"include_usage\":"
                                      "true}}"),
                        0);
        ck_assert_uint_eq(made.options, OPTION_STREAM | OPTION_USAGE_ASKED | OPTION_CHOICES);
        expect_view(made.session, "a\xc3\xa9");
        expect_view(made.model, "m");
        ck_assert_int_eq(compose_body("{" MESSAGES ",\"stream\":false}"), 0);
        ck_assert_uint_eq(made.options, 0);
        ck_assert_uint_eq(made.session.n, 0);
}
END_TEST

START_TEST(what_an_answer_cannot_be_held_to_is_refused) {
        char body[COMPOSE_FORMAT_MAX + 200];

        expect_bad("{" MESSAGES ",\"stop\":[1]}", "a string or an array of strings", "stop");
        expect_bad("{" MESSAGES ",\"stop\":{}}", "a string or an array of strings", "stop");
        expect_bad("{" MESSAGES ",\"response_format\":\"json\"}", "an object", "response_format");
        snprintf(body, sizeof(body), "{" MESSAGES ",\"response_format\":{\"x\":\"%0*d\"}}", COMPOSE_FORMAT_MAX, 0);
        expect_bad(body, "at most 32768 bytes", "response_format");
        snprintf(body, sizeof(body), "{" MESSAGES ",\"stop\":[\"%0*d\"]}", 256, 0);
        expect_bad(body, "16 strings", "stop");
}
END_TEST

START_TEST(what_bounds_an_answer_is_found) {
        ck_assert_int_eq(compose_body("{" MESSAGES ",\"stop\":[\"a\",\"b\"],\"max_completion_tokens\":7,\"n\":2,"
                                      "\"response_format\":{\"type\":\"json_object\"}}"),
                        0);
        expect_view(made.stop, "[\"a\",\"b\"]");
        expect_view(made.response_format, "{\"type\":\"json_object\"}");
        ck_assert_uint_eq(made.max_tokens, 14);
        ck_assert(made.options & OPTION_CHOICES);
        ck_assert_int_eq(compose_body("{" MESSAGES ",\"stop\":null,\"response_format\":null,\"max_tokens\":1.5}"), 0);
        ck_assert(made.stop.n == 0 && made.response_format.n == 0 && made.max_tokens == 0);
        ck_assert_int_eq(compose_body("{" MESSAGES ",\"stop\":\"x\",\"include_stop_str_in_output\":true}"), 0);
        ck_assert_uint_eq(made.stop.n, 0);
        ck_assert_int_eq(compose_response("{\"input\":\"hi\",\"max_output_tokens\":9,\"text\":{\"format\":{\"type\":"
                                          "\"json_object\"}}}"),
                        0);
        ck_assert_uint_eq(made.max_tokens, 9);
        expect_view(made.response_format, "{\"type\":\"json_object\"}");
}
END_TEST

START_TEST(what_the_client_says_beside_the_body_wins) {
        struct ask ask = ask_of("{" MESSAGES ",\"user\":\"u\",\"model\":\"m\"}");

        ask.session = (struct mr_view){"header", 6};
        ask.model = (struct mr_view){"other", 5};
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), 0);
        expect_view(made.session, "header");
        expect_view(made.model, "other");
}
END_TEST

START_TEST(in_a_frame_the_body_decides_neither) {
        struct ask ask = ask_of("{" MESSAGES ",\"user\":\"u\\n\",\"stream\":true}");

        ask.body_decides = false;
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), 0);
        ck_assert_uint_eq(made.options & OPTION_STREAM, 0);
        ck_assert_uint_eq(made.session.n, 0);
}
END_TEST

START_TEST(a_body_may_be_of_another_kind) {
        struct ask ask = ask_of("{\"prompt\":\"tell me\",\"input\":\"x\"}");
        uint64_t digests[2][2];

        ask.kind = BODY_COMPLETIONS;
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), 0);
        expect_view(made.query, "tell me");
        memcpy(digests[0], made.digest, sizeof(made.digest));
        ask.kind = BODY_EMBEDDINGS;
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), 0);
        expect_view(made.query, "");
        memcpy(digests[1], made.digest, sizeof(made.digest));
        ck_assert_mem_ne(digests[0], digests[1], sizeof(made.digest));
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway compose");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, an_error_names_the_member_that_is_wrong);
        tcase_add_test(refusals, a_name_that_is_too_long_or_unprintable_is_refused);
        tcase_add_test(refusals, an_error_that_is_not_the_bodys_names_no_member);
        tcase_add_test(refusals, a_response_that_cannot_be_a_chat_is_refused_by_its_member);
        tcase_add_test(refusals, a_response_that_is_too_large_as_a_chat_is_refused);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, setup, teardown);
        tcase_add_test(behaviour, a_response_is_composed_as_a_chat);
        tcase_add_test(behaviour, what_an_answer_cannot_be_held_to_is_refused);
        tcase_add_test(behaviour, what_bounds_an_answer_is_found);
        tcase_add_test(behaviour, the_body_says_whether_it_is_a_stream_and_whose);
        tcase_add_test(behaviour, what_the_client_says_beside_the_body_wins);
        tcase_add_test(behaviour, in_a_frame_the_body_decides_neither);
        tcase_add_test(behaviour, a_body_may_be_of_another_kind);
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
