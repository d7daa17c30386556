/*
 * test_fusion -- two lists become one, and the same one every time.
 */
#include <check.h>
#include <string.h>

#include "stages/engines/index/fusion.h"

#define ENTRY(text, points) {{(text), sizeof(text) - 1}, (points)}

static const struct fusion_entry words[] = {ENTRY("a", 30), ENTRY("b", 20), ENTRY("c", 10)};
static const struct fusion_entry meaning[] = {ENTRY("c", 0.9), ENTRY("d", 0.8), ENTRY("a", 0.1)};

static size_t join(enum index_fusion how, const struct fusion_entry *x, size_t n_x,
                const struct fusion_entry *y, size_t n_y, struct fusion_pick *to) {
        const struct fusion_list lists[2] = {{x, n_x}, {y, n_y}};
        size_t n = 0;

        ck_assert_int_eq(fusion_join(how, lists, to, &n), 0);
        return n;
}

START_TEST(nothing_and_nothing_is_nothing) {
        struct fusion_pick picks[1];

        ck_assert_uint_eq(join(INDEX_FUSION_RRF, NULL, 0, NULL, 0, picks), 0);
        ck_assert_uint_eq(join(INDEX_FUSION_MIN_MAX, NULL, 0, NULL, 0, picks), 0);
}
END_TEST

START_TEST(min_max_is_the_mean_of_stretched_scores) {
        struct fusion_pick picks[6];

        ck_assert_uint_eq(join(INDEX_FUSION_MIN_MAX, words, 3, meaning, 3, picks), 4);
        /* a: (1 + 0) / 2, c: (0 + 1) / 2, d: (0 + 0.875) / 2, b: (0.5 + 0) / 2 */
        ck_assert_uint_eq(picks[0].at[0], 0); /* equal sums and equal ranks: by name */
        ck_assert_uint_eq(picks[0].at[1], 2);
        ck_assert_double_eq_tol(picks[0].score, 0.5, 1e-9);
        ck_assert_uint_eq(picks[1].at[0], 2);
        ck_assert_uint_eq(picks[1].at[1], 0);
        ck_assert_double_eq_tol(picks[2].score, 0.4375, 1e-6);
        ck_assert_uint_eq(picks[2].at[0], FUSION_NONE);
        ck_assert_uint_eq(picks[3].at[0], 1);
        ck_assert_uint_eq(picks[3].at[1], FUSION_NONE);
}
END_TEST

START_TEST(a_list_without_differences_counts_whole) {
        static const struct fusion_entry one[] = {ENTRY("x", 7)};
        static const struct fusion_entry equal[] = {ENTRY("q", 3), ENTRY("p", 3)};
        struct fusion_pick picks[3];

        ck_assert_uint_eq(join(INDEX_FUSION_MIN_MAX, one, 1, NULL, 0, picks), 1);
        ck_assert_double_eq_tol(picks[0].score, 0.5, 1e-9);
        ck_assert_uint_eq(join(INDEX_FUSION_MIN_MAX, equal, 2, one, 1, picks), 3);
        for (int i = 0; i < 3; i++)
                ck_assert_double_eq_tol(picks[i].score, 0.5, 1e-9);
        /* the better rank first, then the name: q, x at rank 0, p at 1 */
        ck_assert_uint_eq(picks[0].at[0], 0);
        ck_assert_uint_eq(picks[1].at[1], 0);
        ck_assert_uint_eq(picks[2].at[0], 1);
}
END_TEST

START_TEST(rrf_goes_by_ranks_alone) {
        struct fusion_pick picks[6];

        ck_assert_uint_eq(join(INDEX_FUSION_RRF, words, 3, meaning, 3, picks), 4);
        ck_assert_double_eq_tol(picks[0].score, 1.0 / 61 + 1.0 / 63, 1e-12);
        ck_assert_uint_eq(picks[0].at[0], 0);
        ck_assert_double_eq_tol(picks[1].score, 1.0 / 61 + 1.0 / 63, 1e-12);
        ck_assert_uint_eq(picks[1].at[0], 2);
        ck_assert_uint_eq(picks[2].at[0], 1); /* b and d: 1 / 62 each, by name */
        ck_assert_uint_eq(picks[3].at[1], 1);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("fusion");
        TCase *tcase = tcase_create("fusion");

        tcase_add_test(tcase, nothing_and_nothing_is_nothing);
        tcase_add_test(tcase, min_max_is_the_mean_of_stretched_scores);
        tcase_add_test(tcase, a_list_without_differences_counts_whole);
        tcase_add_test(tcase, rrf_goes_by_ranks_alone);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
