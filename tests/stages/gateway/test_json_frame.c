#include "stages/gateway/json_frame.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/native.h"

static struct json_frame frame;
static struct ask_error error;
static struct ask ask;

static void teardown(void) {
        json_frame_close(&frame);
}

static int make(const char *text, const char *op, bool detach) {
        uint32_t n = (uint32_t)strlen(text);
        char *copy = malloc(n ? n : 1); /* exactly as long: a sanitizer sees a byte too many */
        const struct json_frame_more more[] = {
                        {.name = "op", .text = {op, op ? (uint32_t)strlen(op) : 0}, .force = true},
                        {.name = "detach", .number = UINT64_MAX, .force = true}};
        int r;

        memcpy(copy, text, n);
        error = (struct ask_error){0};
        r = json_frame(&frame, copy, n, more, op ? 1 + detach : 0, &error);
        free(copy);
        return r;
}

static const char *back(void) {
        static char text[4096];
        struct json_buf b = {.at = text, .cap = sizeof(text) - 1};

        ck_assert(json_from_frame(&b, frame.bytes, frame.len));
        ck_assert(!b.full);
        text[b.len] = '\0';
        return text;
}

START_TEST(what_is_no_json_object_is_refused_and_where) {
        static const struct {
                const char *text, *says;
        } rows[] = {{"", "not JSON at byte 0"}, {"{", "not JSON at byte 1"}, {"[1]", "expected an object"},
                        {"7", "expected an object"}, {"\"x\"", "expected an object"},
                        {"null", "expected an object"}, {"{\"a\":1,}", "not JSON at byte 8"},
                        {"{\"a\":\"\xff\"}", "not JSON"}, {"{} {}", "not JSON"},
                        {"{\"body\":\"x\"}", "body: expected an object"},
                        {"{\"body\":[1]}", "body: expected an object"},
                        {"{\"body\":7}", "body: expected an object"},
                        {"{\"a\":1e999}", "a number is too large"}};

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                ck_assert_msg(make(rows[i].text, NULL, false) == MR_E_invalid_request, "%s",
                                rows[i].text);
                ck_assert_msg(strstr(error.text, rows[i].says) != NULL, "%s: %s", rows[i].text,
                                error.text);
        }
}
END_TEST

START_TEST(what_is_too_deep_is_refused_within_a_body_too) {
        char deep[256];

        memset(deep, '[', sizeof(deep));
        memcpy(deep, "{\"a\":", 5);
        deep[sizeof(deep) - 1] = '\0';
        ck_assert_int_eq(make(deep, NULL, false), MR_E_invalid_request);
        ck_assert(strstr(error.text, "deeper"));
        memcpy(deep, "{\"body\":{\"a\":", 13);
        ck_assert_int_eq(make(deep, NULL, false), MR_E_invalid_request);
        ck_assert(strstr(error.text, "deeper"));
}
END_TEST

START_TEST(values_come_back_as_they_were) {
        static const char *const texts[] = {"{}",
                        "{\"a\":[],\"b\":{},\"c\":[{},[1,2],{\"d\":[3]}]}",
                        "{\"n\":[0,1,127,128,255,65536,4294967296,18446744073709551615,-1,-128]}",
                        "{\"i\":-9223372036854775808,\"f\":[0.5,-1.25,1e+300]}",
                        "{\"t\":true,\"f\":false,\"n\":null,\"s\":\"\xc3\xa9\\u0000\\\"\\n\"}"};

        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
                ck_assert_msg(make(texts[i], NULL, false) == 0, "%s: %s", texts[i], error.text);
                ck_assert_str_eq(back(), texts[i]);
        }
}
END_TEST

START_TEST(a_body_is_its_own_text) {
        const char *body = "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"h\\u00e9\"} ],\"x\":1.50 }";
        char text[512];

        snprintf(text, sizeof(text), " {\"id\":\"r1\", \"body\" : %s ,\"model\":\"m\",\"op\":\"cancel\"}",
                        body);
        ck_assert_msg(make(text, "submit", true) == 0, "%s", error.text);
        ck_assert_int_eq(native_parse(frame.bytes, frame.len, &ask, &error), 0);
        ck_assert_int_eq(ask.op, OP_SUBMIT);
        ck_assert_uint_ne(ask.options & OPTION_DETACH, 0);
        ck_assert_int_eq(ask.content, CONTENT_BODY);
        ck_assert_uint_eq(ask.text.n, strlen(body));
        ck_assert_mem_eq(ask.text.p, body, ask.text.n);
        ck_assert_mem_eq(ask.model.p, "m", 1);
}
END_TEST

START_TEST(the_surfaces_meaning_wins_whatever_the_text_says) {
        ck_assert_int_eq(make("{\"op\":{\"x\":[1]},\"detach\":false,\"prompt\":\"hi\"}", "submit", true), 0);
        ck_assert_str_eq(back(), "{\"prompt\":\"hi\",\"op\":\"submit\",\"detach\":true}");
        ck_assert_int_eq(make("{\"op\":\"ping\"}", NULL, false), 0);
        ck_assert_str_eq(back(), "{\"op\":\"ping\"}");
        ck_assert_int_eq(make("{\"body\":null,\"prompt\":\"hi\"}", "submit", false), 0);
        ck_assert_int_eq(native_parse(frame.bytes, frame.len, &ask, &error), 0);
        ck_assert_int_eq(ask.content, CONTENT_PROMPT);
}
END_TEST

START_TEST(what_the_surface_adds_gives_way_to_what_the_text_says) {
        const struct json_frame_more more[] = {{.name = "session", .text = {"s", 1}},
                        {.name = "deadline_ms", .number = 5},
                        {.name = "id", .text = {"head", 4}}};
        const char *text = "{\"id\":\"own\",\"a\":{\"session\":1}}";

        ck_assert_int_eq(json_frame(&frame, text, (uint32_t)strlen(text), more, 3, &error), 0);
        ck_assert_str_eq(back(), "{\"id\":\"own\",\"a\":{\"session\":1},\"session\":\"s\",\"deadline_ms\":5}");
}
END_TEST

START_TEST(extra_members_are_an_object_again) {
        ck_assert_int_eq(make("{\"ev\":\"delta\",\"extra\":\"{\\\"a\\\":[1.50]}\",\"tool\":{\"extra\":\"{}\","
                              "\"x\":{\"extra\":\"{}\"}}}",
                                         NULL, false),
                        0);
        ck_assert_str_eq(back(), "{\"ev\":\"delta\",\"extra\":{\"a\":[1.50]},\"tool\":{\"extra\":{},"
                                 "\"x\":{\"extra\":\"{}\"}}}");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("json_frame");
        TCase *tc = tcase_create("json_frame");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, NULL, teardown);
        tcase_add_test(tc, what_is_no_json_object_is_refused_and_where);
        tcase_add_test(tc, what_is_too_deep_is_refused_within_a_body_too);
        tcase_add_test(tc, values_come_back_as_they_were);
        tcase_add_test(tc, a_body_is_its_own_text);
        tcase_add_test(tc, the_surfaces_meaning_wins_whatever_the_text_says);
        tcase_add_test(tc, what_the_surface_adds_gives_way_to_what_the_text_says);
        tcase_add_test(tc, extra_members_are_an_object_again);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
