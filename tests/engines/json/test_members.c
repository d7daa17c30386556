#include "stages/engines/json/members.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct json_member found[3];

static int look(const char *text) {
        uint32_t n = (uint32_t)strlen(text);
        char *copy = malloc(n ? n : 1); /* exactly as long: a sanitizer sees a byte too many */
        int r;

        memcpy(copy, text, n);
        memcpy(found, (struct json_member[]){{.name = "a"}, {.name = "bc"}, {.name = "none"}},
                        sizeof(found));
        r = json_members(copy, n, found, 3);
        free(copy);
        return r;
}

static bool is(const char *text, struct body_span span, const char *want) {
        return span.len == strlen(want) && memcmp(text + span.off, want, span.len) == 0;
}

START_TEST(what_is_no_json_object_is_refused) {
        static const char *const bad[] = {"", "{", "[]", "7", "\"x\"", "null", "{\"a\":}", "{} {}",
                        "{\"a\":1,}", "{\"a\":\"\xff\"}", "[{\"a\":1}]"};

        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                ck_assert_msg(look(bad[i]) == -EPROTO, "%s", bad[i]);
}
END_TEST

START_TEST(what_is_too_deep_is_refused) {
        char deep[256];

        memset(deep, '[', sizeof(deep));
        memcpy(deep, "{\"a\":", 5);
        deep[sizeof(deep) - 1] = '\0';
        ck_assert_int_eq(look(deep), -EPROTO);
}
END_TEST

START_TEST(values_of_every_type_are_found_with_their_brackets) {
        static const char *const values[] = {"1.50e3", "-0", "true", "false", "\"\"", "\"x\\\"y\"",
                        "[]", "[1,{\"a\":2}]", "{}", "{\"a\":[{\"bc\":3}]}"};
        char text[256];

        for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
                snprintf(text, sizeof(text), " { \"z\" : [ 1 ] ,\n\"a\" : %s , \"bc\":%s} ",
                                values[i], values[i]);
                ck_assert_int_eq(look(text), 0);
                ck_assert_msg(is(text, found[0].value, values[i]), "%s: %u+%u", text,
                                found[0].value.off, found[0].value.len);
                ck_assert(is(text, found[1].value, values[i]));
                ck_assert_uint_eq(found[2].value.len, 0);
        }
}
END_TEST

START_TEST(the_last_of_one_name_counts_and_null_is_none) {
        const char *text = "{\"a\":1,\"bc\":null,\"a\":\"two\",\"x\":{\"a\":3}}";

        ck_assert_int_eq(look(text), 0);
        ck_assert(is(text, found[0].value, "\"two\""));
        ck_assert_uint_eq(found[1].value.len, 0);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("members");
        TCase *tc = tcase_create("members");
        SRunner *runner;
        int failed;

        tcase_add_test(tc, what_is_no_json_object_is_refused);
        tcase_add_test(tc, what_is_too_deep_is_refused);
        tcase_add_test(tc, values_of_every_type_are_found_with_their_brackets);
        tcase_add_test(tc, the_last_of_one_name_counts_and_null_is_none);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
