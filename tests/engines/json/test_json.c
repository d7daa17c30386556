#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"

static void expect_unescaped(const char *json, const char *want) {
        char to[64];
        uint32_t n;

        ck_assert_int_eq(json_unescape(json, (uint32_t)strlen(json), to, sizeof(to), &n), 0);
        ck_assert_uint_eq(n, strlen(want));
        ck_assert_mem_eq(to, want, n);
}

START_TEST(unescape_refuses_what_is_no_string) {
        static const char *const bad[] = {"", "\"", "x", "\"x", "x\"", "\"\\\"", "\"\\x\"",
                        "\"\\u12\"", "\"\\u12g4\"", "\"a\"b\"", "\"\\"};
        char to[8];
        uint32_t n;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_int_eq(
                                json_unescape(bad[i], (uint32_t)strlen(bad[i]), to, sizeof(to), &n),
                                -EPROTO);
}
END_TEST

START_TEST(utf8_says_where_it_is_broken) {
        static const struct {
                const char *text;
                uint32_t bad;
        } cases[] = {{"abc", 3}, {"", 0}, {"a\x80", 1}, {"\xc0\xaf", 0}, {"\xe0\x80\xaf", 0},
                        {"\xed\xa0\x80", 0}, {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0},
                        {"\xe2\x82\xac", 3}, {"\xf0\x9f\x98\x80", 4}, {"12345678\xff", 8},
                        {"1234567\xe2\x82", 7}, {"\xf0\x9f\x98", 0}};

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                ck_assert_uint_eq(json_utf8_bad(cases[i].text, (uint32_t)strlen(cases[i].text)),
                                cases[i].bad);
}
END_TEST

START_TEST(unescape_decodes_every_form) {
        expect_unescaped("\"\"", "");
        expect_unescaped("\"a\\n\\t\\r\\b\\f\\/\\\\\\\"z\"", "a\n\t\r\b\f/\\\"z");
        expect_unescaped("\"\\u00e9\\u20AC\"", "\xc3\xa9\xe2\x82\xac");
        expect_unescaped("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80");
        expect_unescaped("\"\\ud83d!\"", "\xef\xbf\xbd!");
        expect_unescaped("\"\\ude00\"", "\xef\xbf\xbd");
}
END_TEST

START_TEST(what_does_not_fit_is_cut_at_a_character) {
        char to[5];
        uint32_t n;

        ck_assert_int_eq(json_unescape("\"ab\xe2\x82\xac\xe2\x82\xac\"", 10, to, 5, &n), 0);
        ck_assert_uint_eq(n, 5);
        ck_assert_int_eq(json_unescape("\"ab\xe2\x82\xac\xe2\x82\xac\"", 10, to, 4, &n), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(json_unescape("\"ab\\u20ac\"", 10, to, 4, &n), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(json_utf8_cut("ab\xe2\x82\xac", 5, 4), 2);
        ck_assert_uint_eq(json_utf8_cut("ab\xe2\x82\xac", 5, 5), 5);
}
END_TEST

START_TEST(a_string_comes_back_as_it_was) {
        char text[256], json[2048], back[256];
        struct json_buf b = {json, 0, sizeof(json), false};
        uint32_t n;

        for (int i = 0; i < 128; i++)
                text[i] = (char)i;
        json_put_string(&b, text, 128);
        ck_assert(!b.full);
        ck_assert_int_eq(json_unescape(json, b.len, back, sizeof(back), &n), 0);
        ck_assert_uint_eq(n, 128);
        ck_assert_mem_eq(back, text, 128);
}
END_TEST

START_TEST(a_full_buffer_says_so_and_is_not_overrun) {
        char to[8] = "########";
        struct json_buf b = {to, 0, 4, false};

        json_put_string(&b, "abcdef", 6);
        ck_assert(b.full);
        ck_assert_mem_eq(to + 4, "####", 4);
}
END_TEST

START_TEST(numbers_are_short_and_read_back) {
        char to[128];
        struct json_buf b = {to, 0, sizeof(to), false};

        json_put_f64(&b, 0.1);
        json_put_text(&b, " ");
        json_put_f64(&b, 1e300);
        json_put_text(&b, " ");
        json_put_i64(&b, INT64_MIN);
        json_put_text(&b, " ");
        json_put_u64(&b, UINT64_MAX);
        json_put_text(&b, " ");
        json_put_u64(&b, 0);
        json_put_text(&b, " ");
        json_put_f64(&b, 1.0 / 3.0);
        to[b.len] = 0;
        ck_assert_str_eq(to, "0.1 1e+300 -9223372036854775808 18446744073709551615 0 "
                             "0.3333333333333333");
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("json");
        TCase *all = tcase_create("all");

        tcase_add_test(all, unescape_refuses_what_is_no_string);
        tcase_add_test(all, utf8_says_where_it_is_broken);
        tcase_add_test(all, unescape_decodes_every_form);
        tcase_add_test(all, what_does_not_fit_is_cut_at_a_character);
        tcase_add_test(all, a_string_comes_back_as_it_was);
        tcase_add_test(all, a_full_buffer_says_so_and_is_not_overrun);
        tcase_add_test(all, numbers_are_short_and_read_back);
        suite_add_tcase(s, all);
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
