#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/counters.h"

static struct calibration_shm *table;

static void setup(void) {
        table = calloc(1, sizeof(*table));
        ck_assert_ptr_nonnull(table);
}

static void teardown(void) {
        free(table);
}

static void store(const char *name, uint64_t n) {
        struct calibration c = {.n = n, .pairs = {(double)n}, .parts = {1.5}};

        snprintf(c.name, sizeof(c.name), "%s", name);
        calibration_store(table, &c);
}

/* 0: there is none. */
static uint64_t answers(const char *name) {
        struct calibration c = {.n = 0};

        return calibration_find(table, name, (uint32_t)strlen(name), &c) ? c.n : 0;
}

START_TEST(an_empty_table_knows_nobody) {
        struct calibration c;

        ck_assert(!calibration_find(table, "m", 1, &c));
        ck_assert(!calibration_find(table, "", 0, &c));
        ck_assert(!calibration_read(&table->row[0], &c));
}
END_TEST

START_TEST(a_name_that_no_row_can_hold_has_none) {
        char name[CALIBRATION_NAME_MAX + 1] = "";
        struct calibration c;

        memset(name, 'a', CALIBRATION_NAME_MAX);
        store(name, 3); /* cut */
        ck_assert(!calibration_find(table, name, CALIBRATION_NAME_MAX, &c));
        ck_assert(calibration_find(table, name, CALIBRATION_NAME_MAX - 1, &c));
}
END_TEST

START_TEST(a_store_replaces_the_models_row_and_no_other) {
        struct calibration c;

        store("one", 1);
        store("two", 2);
        store("one", 7);
        ck_assert_uint_eq(answers("one"), 7);
        ck_assert_uint_eq(answers("two"), 2);
        ck_assert_uint_eq(answers("on"), 0);
        ck_assert(calibration_find(table, "one", 3, &c));
        ck_assert_double_eq(c.pairs[0], 7);
        ck_assert_double_eq(c.parts[0], 1.5);
        ck_assert(!calibration_read(&table->row[2], &c));
}
END_TEST

START_TEST(of_too_many_models_the_one_that_was_stored_longest_ago_goes) {
        char name[32];

        for (unsigned i = 0; i < CALIBRATION_MODELS; i++) {
                snprintf(name, sizeof(name), "m%u", i);
                store(name, i + 1);
        }
        store("m0", 100);
        store("new", 200);
        ck_assert_uint_eq(answers("m0"), 100);
        ck_assert_uint_eq(answers("new"), 200);
        ck_assert_uint_eq(answers("m1"), 0);
        ck_assert_uint_eq(answers("m2"), 3);
}
END_TEST

START_TEST(a_store_that_was_cut_short_leaves_the_row_as_it_was) {
        struct calibration_row_shm *row = &table->row[0];
        uint64_t other;

        store("one", 1);
        store("one", 2);
        other = (atomic_load_explicit(&row->version, memory_order_relaxed) + 1) & 1;
        /* What a writer leaves that dies before the version: any words in the other copy. */
        for (unsigned k = 0; k < CALIBRATION_WORDS; k += 2)
                atomic_store_explicit(&row->word[other][k], UINT64_MAX, memory_order_relaxed);
        ck_assert_uint_eq(answers("one"), 2);
        store("one", 3);
        ck_assert_uint_eq(answers("one"), 3);
}
END_TEST

START_TEST(pages_add_up_and_a_star_stands_for_models_that_none_knows) {
        struct counters_shm *one = calloc(1, sizeof(*one)), *two = calloc(1, sizeof(*two));
        const struct counters_shm *pages[PROCS_MAX] = {NULL, one, NULL, two};
        struct calibration m = {.name = "m", .n = 10, .pairs = {3}, .parts = {4}};
        struct calibration star = {.name = "*", .n = 1}, sum;

        calibration_store(&one->calibration, &m);
        calibration_store(&two->calibration, &m);
        calibration_store(&two->calibration, &star);
        calibration_gather(pages, "m", 1, &sum);
        ck_assert_uint_eq(sum.n, 20);
        ck_assert_double_eq(sum.pairs[0], 6);
        ck_assert_double_eq(sum.parts[0], 8);
        calibration_gather(pages, "unknown", 7, &sum);
        ck_assert_uint_eq(sum.n, 1);
        calibration_gather(pages, "", 0, &sum);
        ck_assert_uint_eq(sum.n, 21);
        pages[1] = pages[3] = NULL;
        calibration_gather(pages, "m", 1, &sum);
        ck_assert_uint_eq(sum.n, 0);
        free(one);
        free(two);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("calibration");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, an_empty_table_knows_nobody);
        tcase_add_test(all, a_name_that_no_row_can_hold_has_none);
        tcase_add_test(all, a_store_replaces_the_models_row_and_no_other);
        tcase_add_test(all, of_too_many_models_the_one_that_was_stored_longest_ago_goes);
        tcase_add_test(all, a_store_that_was_cut_short_leaves_the_row_as_it_was);
        tcase_add_test(all, pages_add_up_and_a_star_stands_for_models_that_none_knows);
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
