#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/format/json_check.h"

static struct json_check check;

/* How far a text in pieces of `step` bytes is right, and why it is not; step 0: in one piece. */
static uint32_t right_until(const struct json_schema *s, const char *text, uint32_t step, const char **ret_why) {
        uint32_t n = (uint32_t)strlen(text), at = 0;

        memset(&check, 0, sizeof(check));
        *ret_why = NULL;
        while (at < n && !*ret_why) {
                uint32_t piece = step && step < n - at ? step : n - at;
                at += json_check_feed(&check, s, text + at, piece, ret_why);
        }
        if (!*ret_why)
                *ret_why = json_check_end(&check, s);
        return at;
}

/* The same however it is cut. */
static const char *judged(const struct json_schema *s, const char *text) {
        const char *whole, *cut;
        uint32_t at = right_until(s, text, 0, &whole);

        for (uint32_t step = 1; step <= 3; step++) {
                ck_assert_msg(right_until(s, text, step, &cut) == at, "%s", text);
                ck_assert_msg(cut == whole, "%s", text);
        }
        return whole;
}

static struct json_schema *form(const char *response_format) {
        struct json_schema *s = NULL;

        ck_assert_int_eq(json_schema_new(response_format, (uint32_t)strlen(response_format), &s), 0);
        return s;
}

static struct json_schema *schema_of(const char *text) {
        struct json_schema *s = NULL;

        ck_assert_int_eq(json_schema_of(text, (uint32_t)strlen(text), &s), 0);
        return s;
}

START_TEST(what_is_no_json_is_refused_and_what_is_passes) {
        static const char *const bad[] = {"", " ", "x", "{", "[1,]", "{\"a\":1,}", "{\"a\"}", "{a:1}", "[1 2]", "01", "-",
                        "1.", "1e", ".5", "+1", "tru", "truex", "nul", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\n\"", "[}",
                        "{]", "]", "{} {}", "1 1", "[\"a\",]", "{,}", "\f1", "'a'", "[1", "{\"a\":", "\"\\", "NaN"};
        static const char *const good[] = {"{}", "[]", "0", "-0", "1.5e+3", "1E2", "true", "false", "null", "\"\"",
                        " [ 1 , {\"a\" : [ ] } ] \n", "\"\\u00e9\\ud83d\\ude00\\\"\\/\"", "{\"a\":{\"b\":[[],{}]}}",
                        "[1,-2,3.5,true,false,null,\"x\"]"};
        struct json_schema *s = schema_of("true");

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_msg(judged(s, bad[i]) != NULL, "passed: %s", bad[i]);
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
                ck_assert_msg(judged(s, good[i]) == NULL, "refused: %s: %s", good[i], judged(s, good[i]));
        json_schema_free(s);
}
END_TEST

START_TEST(what_is_wrong_is_seen_at_its_byte) {
        struct json_schema *s = form("{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,\"schema\":{"
                                     "\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],"
                                     "\"additionalProperties\":false}}}");
        const char *why;

        ck_assert_uint_eq(right_until(s, "{\"b\":1}", 1, &why), 3); /* the name is whole */
        ck_assert_str_eq(why, "it is not what the schema asks for");
        ck_assert_uint_eq(right_until(s, "{\"a\":true}", 1, &why), 8); /* the value is whole */
        ck_assert_uint_eq(right_until(s, "{\"a\":\"x\"}", 1, &why), 7);
        ck_assert_uint_eq(right_until(s, "{}", 1, &why), 1);
        ck_assert_uint_eq(right_until(s, "Sure: {}", 1, &why), 0);
        ck_assert_str_eq(why, "it is not JSON");
        ck_assert_uint_eq(right_until(s, "{\"a\":1", 1, &why), 6);
        ck_assert_str_eq(why, "it ends within the document");
        ck_assert_ptr_null(judged(s, "{\"a\":1}"));
        ck_assert_ptr_null(judged(s, "{\"\\u0061\":1.0}"));
        json_schema_free(s);
}
END_TEST

START_TEST(a_format_that_asks_for_nothing_is_none) {
        ck_assert_ptr_null(form(""));
        ck_assert_ptr_null(form("null"));
        ck_assert_ptr_null(form("{\"type\":\"text\"}"));
        ck_assert_ptr_null(form("{}"));
        struct json_schema *s = form("{\"type\":\"json_object\"}");
        ck_assert_ptr_null(judged(s, "{\"a\":[1]}"));
        ck_assert_ptr_nonnull(judged(s, "[]"));
        ck_assert_ptr_nonnull(judged(s, "1"));
        json_schema_free(s);
        s = form("{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\"}}");
        ck_assert_ptr_null(judged(s, "[]"));
        json_schema_free(s);
}
END_TEST

/* As Pydantic writes them: references, and a null beside each type. */
static const char nested[] =
                "{\"$defs\":{\"Kind\":{\"enum\":[\"cat\",\"dog\"],\"type\":\"string\"},\"Pet\":{\"properties\":{"
                "\"name\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":4},\"kind\":{\"$ref\":\"#/$defs/Kind\"},"
                "\"friend\":{\"anyOf\":[{\"$ref\":\"#/$defs/Pet\"},{\"type\":\"null\"}],\"default\":null},"
                "\"age\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":0},{\"type\":\"null\"}]}},"
                "\"required\":[\"name\",\"kind\"],\"type\":\"object\"}},\"items\":{\"$ref\":\"#/$defs/Pet\"},"
                "\"type\":\"array\",\"minItems\":1,\"maxItems\":2}";

static const char unicode[] =
                "[{\"name\":\"\\u00e9\xc3\xa9\\ud83d\\ude00z\",\"kind\":\"dog\",\"age\":null,\"friend\":{\"name\":\"Jo\","
                "\"kind\":\"dog\",\"friend\":null}}]";

START_TEST(references_and_alternatives_are_followed) {
        static const char *const good[] = {
                        "[{\"name\":\"Tom\",\"kind\":\"cat\"}]",
                        unicode,
                        "[{\"kind\":\"cat\",\"name\":\"Tom\",\"more\":[1]},{\"name\":\"To\",\"kind\":\"dog\",\"age\":3}]"};
        static const char *const bad[] = {"[]", "{}", "[{\"name\":\"Tom\"}]", "[{\"name\":\"Tom\",\"kind\":\"cow\"}]",
                        "[{\"name\":\"T\",\"kind\":\"cat\"}]", "[{\"name\":\"Tommy\",\"kind\":\"cat\"}]",
                        "[{\"name\":\"Tom\",\"kind\":\"cat\",\"age\":-1}]", "[{\"name\":\"Tom\",\"kind\":\"cat\",\"age\":\"1\"}]",
                        "[{\"name\":\"Tom\",\"kind\":\"cat\",\"age\":1.5}]",
                        "[{\"name\":\"Tom\",\"kind\":\"cat\",\"friend\":{\"name\":\"Jo\"}}]",
                        "[{\"name\":\"To\",\"kind\":\"cat\"},{\"name\":\"To\",\"kind\":\"cat\"},{\"name\":\"To\",\"kind\":\"cat\"}]"};
        struct json_schema *s = schema_of(nested);

        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
                ck_assert_msg(judged(s, good[i]) == NULL, "refused: %s", good[i]);
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_msg(judged(s, bad[i]) != NULL, "passed: %s", bad[i]);
        json_schema_free(s);
}
END_TEST

START_TEST(a_document_that_is_nested_too_deep_is_refused) {
        struct json_schema *s = schema_of("{}");
        char text[2 * JSON_CHECK_DEPTH + 3];

        memset(text, '[', JSON_CHECK_DEPTH);
        memset(text + JSON_CHECK_DEPTH, ']', JSON_CHECK_DEPTH);
        text[2 * JSON_CHECK_DEPTH] = '\0';
        ck_assert_ptr_null(judged(s, text));
        memset(text, '[', JSON_CHECK_DEPTH + 1);
        ck_assert_str_eq(judged(s, text), "it is nested too deep");
        json_schema_free(s);
}
END_TEST

START_TEST(a_schema_that_is_none_asks_for_nothing) {
        static const char *const odd[] = {"{\"type\":7,\"enum\":7,\"required\":{},\"properties\":[],\"items\":7}", "[]", "7",
                        "{\"$ref\":\"#/no/where\"}", "{\"$ref\":\"#\"}", "{\"pattern\":\"(\"}", "{\"allOf\":[],\"anyOf\":[]}",
                        "{\"$ref\":\"http://example.com/s\"}", "{\"minimum\":\"x\",\"maxLength\":-1}"};

        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
                struct json_schema *s = schema_of(odd[i]);
                ck_assert_msg(judged(s, "{\"a\":[1,\"x\"]}") == NULL, "%s", odd[i]);
                json_schema_free(s);
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("json check");
        TCase *all = tcase_create("json check");
        SRunner *runner;
        int failed;

        tcase_add_test(all, what_is_no_json_is_refused_and_what_is_passes);
        tcase_add_test(all, what_is_wrong_is_seen_at_its_byte);
        tcase_add_test(all, a_format_that_asks_for_nothing_is_none);
        tcase_add_test(all, references_and_alternatives_are_followed);
        tcase_add_test(all, a_document_that_is_nested_too_deep_is_refused);
        tcase_add_test(all, a_schema_that_is_none_asks_for_nothing);
        suite_add_tcase(suite, all);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
