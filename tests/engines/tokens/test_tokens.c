#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/tokens/tokens.h"

static uint64_t of(const char *text) {
        return tokens_estimate(text, strlen(text));
}

START_TEST(bytes_that_are_no_text_are_counted_and_nothing_behind_them_read) {
        static const char *const bad[] = {"\x80", "\xff", "\xe4", "\xe4\xb8", "\xf0\x9f\x98",
                        "\xc3", "\xe4xyz", "\xf8\x88\x80\x80\x80", "\xc3\xc3\xc3"};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                size_t n = strlen(bad[i]);
                char *exact = malloc(n); /* ASan sees a byte too many */
                ck_assert_ptr_nonnull(exact);
                memcpy(exact, bad[i], n);
                ck_assert_uint_ge(tokens_estimate(exact, n), 1);
                ck_assert_uint_le(tokens_estimate(exact, n), 2 * n);
                free(exact);
        }
        ck_assert_uint_eq(tokens_estimate("\0\0\0", 3), 2);
}
END_TEST

START_TEST(nothing_is_no_token_and_anything_else_at_least_one) {
        ck_assert_uint_eq(tokens_estimate(NULL, 0), 0);
        for (int c = 1; c < 128; c++) {
                const char text[2] = {(char)c, 'x'};
                ck_assert_uint_ge(tokens_estimate(text, 2), 1);
        }
}
END_TEST

START_TEST(words_take_the_space_before_them) {
        ck_assert_uint_eq(of("one"), 1);
        ck_assert_uint_eq(of("one two three"), 3);
        ck_assert_uint_eq(of("one  two"), 3);
        ck_assert_uint_eq(of("readOneRow"), 3);
        ck_assert_uint_eq(of("HTTP"), 1);
        ck_assert_uint_gt(of("counterrevolutionaries"), 2);
        ck_assert_uint_lt(of("counterrevolutionaries"), 6);
        ck_assert_uint_gt(of("qwkzjvbxpmfhqwkzjvbxpmfhqwkzjvbxpmfhqwkzjvbxpmfh"), 12);
}
END_TEST

START_TEST(numbers_are_split_and_keep_their_space_apart) {
        ck_assert_uint_eq(of("123"), 1);
        ck_assert_uint_eq(of("1234"), 2);
        ck_assert_uint_eq(of("1234567"), 3);
        ck_assert_uint_eq(of("a 123"), 3);
}
END_TEST

START_TEST(a_line_end_takes_the_indentation_behind_it) {
        ck_assert_uint_eq(of("a\n"), of("a\n\n                "));
        ck_assert_uint_eq(of("a\nb"), 3);
}
END_TEST

START_TEST(scripts_cost_what_vocabularies_make_of_them) {
        ck_assert_uint_eq(of("\u4eca\u65e5\u306f\u5bd2\u3044\u3002"), 5);
        ck_assert_uint_lt(of("\u043f\u0440\u0438\u0432\u0435\u0442"), 4);
        ck_assert_uint_eq(of("\U0001f600"), 2);
}
END_TEST

START_TEST(two_texts_cost_what_they_cost_together_but_for_their_seam) {
        static const char *const parts[] = {"The quick ", "{\"a\": [1, 2]}", "\n    return x;\n",
                        "\u4eca\u65e5"};
        char both[64];

        for (size_t i = 0; i < 4; i++)
                for (size_t j = 0; j < 4; j++) {
                        snprintf(both, sizeof(both), "%s%s", parts[i], parts[j]);
                        ck_assert_uint_le(of(both), of(parts[i]) + of(parts[j]) + 1);
                        ck_assert_uint_ge(of(both) + 3, of(parts[i]) + of(parts[j]));
                }
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("tokens");
        TCase *all = tcase_create("all");

        tcase_add_test(all, bytes_that_are_no_text_are_counted_and_nothing_behind_them_read);
        tcase_add_test(all, nothing_is_no_token_and_anything_else_at_least_one);
        tcase_add_test(all, words_take_the_space_before_them);
        tcase_add_test(all, numbers_are_split_and_keep_their_space_apart);
        tcase_add_test(all, a_line_end_takes_the_indentation_behind_it);
        tcase_add_test(all, scripts_cost_what_vocabularies_make_of_them);
        tcase_add_test(all, two_texts_cost_what_they_cost_together_but_for_their_seam);
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
