/*
 * test_vectors -- the file of vectors: what is refused, what comes back, what is near.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "stages/engines/vectors/vectors.h"
#include "tests/engines/index/test_folder.h"

#define DIMENSION 20u

static void fill(float *v, uint32_t seed) {
        for (uint32_t i = 0; i < DIMENSION; i++) {
                seed = seed * 1664525u + 1013904223u;
                v[i] = (float)(int32_t)seed / 2147483648.0F;
        }
}

static void save(uint32_t n) {
        struct vectors_table *table = NULL;
        float v[DIMENSION];

        ck_assert_int_eq(vectors_table_new("a-model", DIMENSION, &table), 0);
        for (uint32_t i = n; i > 0; i--) { /* in any order */
                fill(v, i);
                ck_assert_int_eq(vectors_table_add(table, i * 10, i, v), 0);
        }
        ck_assert_int_eq(vectors_table_save(table, test_folder, NULL), 0);
        vectors_table_free(table);
}

static int reopen(struct vectors **ret) {
        struct index_error err = {0};
        const int r = vectors_open(test_folder, &err, ret);

        if (r != 0)
                ck_assert(err.text[0] != '\0');
        return r;
}

START_TEST(what_is_not_there_is_missing_and_what_is_something_else_is_foreign) {
        struct vectors *v = NULL;

        ck_assert_int_eq(reopen(&v), VECTORS_E_MISSING);
        file_write(VECTORS_FILE, "", 0);
        ck_assert_int_eq(reopen(&v), VECTORS_E_FOREIGN);
        file_write(VECTORS_FILE, "hello", 5);
        ck_assert_int_eq(reopen(&v), VECTORS_E_FOREIGN);
        ck_assert_ptr_null(v);
}
END_TEST

START_TEST(every_changed_byte_and_every_cut_is_noticed) {
        struct vectors *v = NULL;
        char bytes[1024];
        FILE *file;
        size_t n;

        save(3);
        file = fopen(in_folder(VECTORS_FILE), "r");
        n = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        ck_assert_uint_gt(n, 128);
        for (size_t i = 0; i < n; i++) {
                bytes[i] = (char)(bytes[i] ^ 0x10);
                file_write(VECTORS_FILE, bytes, n);
                const int r = reopen(&v);
                bytes[i] = (char)(bytes[i] ^ 0x10);
                /* Between the name and the rows lie bytes that nothing says anything with. */
                if (r == 0 && i >= 128 + strlen("a-model") && i < 192) {
                        v = vectors_close(v);
                        continue;
                }
                ck_assert_msg(r == VECTORS_E_FOREIGN || r == VECTORS_E_CORRUPT, "byte %zu: %d", i, r);
        }
        for (size_t cut = 0; cut < n; cut++) {
                file_write(VECTORS_FILE, bytes, cut);
                ck_assert_int_ne(reopen(&v), 0);
        }
}
END_TEST

START_TEST(vectors_without_length_or_number_are_refused) {
        struct vectors_table *table = NULL;
        float v[DIMENSION] = {0};

        ck_assert_int_eq(vectors_table_new("m", 0, &table), -EINVAL);
        ck_assert_int_eq(vectors_table_new("m", VECTORS_DIMENSION_MAX + 1, &table), -EINVAL);
        ck_assert_int_eq(vectors_table_new("m", DIMENSION, &table), 0);
        ck_assert_int_eq(vectors_table_add(table, 1, 1, v), -EINVAL);
        v[3] = NAN;
        ck_assert_int_eq(vectors_table_add(table, 1, 1, v), -EINVAL);
        v[3] = INFINITY;
        ck_assert_int_eq(vectors_table_add(table, 1, 1, v), -EINVAL);
        vectors_table_free(table);
}
END_TEST

START_TEST(rows_are_found_by_number_and_text_only) {
        struct vectors *v = NULL;

        save(100);
        ck_assert_int_eq(reopen(&v), 0);
        ck_assert_str_eq(vectors_model(v), "a-model");
        ck_assert_uint_eq(vectors_dimension(v), DIMENSION);
        ck_assert_uint_eq(vectors_n(v), 100);
        for (uint32_t i = 1; i <= 100; i++)
                ck_assert_int_eq(vectors_find(v, i * 10, i), i - 1);
        ck_assert_int_eq(vectors_find(v, 10, 2), -1);
        ck_assert_int_eq(vectors_find(v, 11, 1), -1);
        ck_assert_int_eq(vectors_find(v, 1010, 101), -1);
        ck_assert(vectors_same(v, test_folder));
        save(99);
        ck_assert(!vectors_same(v, test_folder));
        ck_assert_uint_eq(vectors_n(v), 100);
        vectors_close(v);
}
END_TEST

START_TEST(the_nearest_are_the_nearest_of_the_floats) {
        struct vectors *v = NULL;
        struct vectors_scan *scan = NULL;
        struct index_near near[500];
        float query[DIMENSION];
        float other[DIMENSION];

        save(400);
        ck_assert_int_eq(reopen(&v), 0);
        fill(query, 77);
        ck_assert_int_eq(vectors_scan_new(v, query, &scan), 0);
        ck_assert_uint_eq(vectors_scan_nearest(scan, 500, near), 400);
        for (size_t i = 0; i < 400; i++) {
                double dot = 0, a = 0, b = 0;

                fill(other, (uint32_t)near[i].hash);
                for (uint32_t k = 0; k < DIMENSION; k++) {
                        dot += (double)query[k] * other[k];
                        a += (double)query[k] * query[k];
                        b += (double)other[k] * other[k];
                }
                ck_assert_double_eq_tol(near[i].score, dot / sqrt(a * b), 0.01);
                ck_assert(i == 0 || near[i].score <= near[i - 1].score);
        }
        ck_assert_uint_eq(near[0].hash, 77);
        ck_assert_double_eq_tol(near[0].score, 1, 0.01);
        const uint32_t second = near[1].passage;
        ck_assert_uint_eq(vectors_scan_nearest(scan, 2, near), 2);
        ck_assert_uint_eq(near[1].passage, second);
        vectors_scan_free(scan);
        vectors_close(v);
}
END_TEST

START_TEST(equal_ones_come_in_the_order_of_their_numbers) {
        struct vectors_table *table = NULL;
        struct vectors *v = NULL;
        struct vectors_scan *scan = NULL;
        struct index_near near[8];
        float one[DIMENSION];

        fill(one, 5);
        ck_assert_int_eq(vectors_table_new("", DIMENSION, &table), 0);
        for (uint32_t i = 20; i > 0; i--)
                ck_assert_int_eq(vectors_table_add(table, i, i, one), 0);
        ck_assert_int_eq(vectors_table_save(table, test_folder, NULL), 0);
        ck_assert_int_eq(reopen(&v), 0);
        ck_assert_int_eq(vectors_scan_new(v, one, &scan), 0);
        ck_assert_uint_eq(vectors_scan_nearest(scan, 8, near), 8);
        for (uint32_t i = 0; i < 8; i++)
                ck_assert_uint_eq(near[i].passage, i + 1);
        vectors_scan_free(scan);
        vectors_table_free(table);
        vectors_close(v);
}
END_TEST

START_TEST(a_table_takes_rows_of_the_file_and_an_empty_one_leaves_none) {
        struct vectors_table *table = NULL;
        struct vectors *v = NULL;
        struct vectors *w = NULL;

        save(5);
        ck_assert_int_eq(reopen(&v), 0);
        ck_assert_int_eq(vectors_table_new("a-model", DIMENSION, &table), 0);
        ck_assert_int_eq(vectors_table_copy(table, v, 3), 0);
        ck_assert_int_eq(vectors_table_save(table, test_folder, NULL), 0);
        ck_assert_int_eq(reopen(&w), 0);
        ck_assert_uint_eq(vectors_n(w), 1);
        ck_assert_int_eq(vectors_find(w, 40, 4), 0);
        vectors_table_free(table);
        ck_assert_int_eq(vectors_table_new("a-model", DIMENSION, &table), 0);
        ck_assert_int_eq(vectors_table_save(table, test_folder, NULL), 0);
        vectors_close(w);
        ck_assert_int_eq(reopen(&w), VECTORS_E_MISSING);
        vectors_table_free(table);
        vectors_close(v);
}
END_TEST

START_TEST(one_at_a_time_makes_vectors) {
        int first = -1;
        int second = -1;

        ck_assert_int_eq(vectors_lock(test_folder, &first), 0);
        ck_assert_int_eq(vectors_lock(test_folder, &second), VECTORS_E_LOCKED);
        close(first);
        ck_assert_int_eq(vectors_lock(test_folder, &second), 0);
        close(second);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("vectors");
        TCase *tcase = tcase_create("vectors");

        tcase_add_checked_fixture(tcase, folder_setup, folder_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, what_is_not_there_is_missing_and_what_is_something_else_is_foreign);
        tcase_add_test(tcase, every_changed_byte_and_every_cut_is_noticed);
        tcase_add_test(tcase, vectors_without_length_or_number_are_refused);
        tcase_add_test(tcase, rows_are_found_by_number_and_text_only);
        tcase_add_test(tcase, the_nearest_are_the_nearest_of_the_floats);
        tcase_add_test(tcase, equal_ones_come_in_the_order_of_their_numbers);
        tcase_add_test(tcase, a_table_takes_rows_of_the_file_and_an_empty_one_leaves_none);
        tcase_add_test(tcase, one_at_a_time_makes_vectors);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
