#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/footprint.h"

#define MORE (64u << 20)

START_TEST(the_heap_is_counted_and_what_was_there_before) {
        struct footprint footprint;
        uint64_t before, with;
        char *volatile memory; /* else clang knows that nobody looks, and allocates nothing */

        ck_assert_int_eq(footprint_begin(&footprint), 0);
        before = footprint_bytes(&footprint);
        ck_assert_uint_gt(before, 0);
        memory = malloc(MORE);
        ck_assert_ptr_nonnull(memory);
        memset(memory, 1, MORE);
        with = footprint_bytes(&footprint);
        ck_assert_uint_ge(with, before + MORE);
        ck_assert_uint_le(with, before + MORE + (1u << 20));
        free(memory);
        ck_assert_uint_le(footprint_bytes(&footprint), before + (1u << 20));
}
END_TEST

int main(void) {
        Suite *suite = suite_create("footprint");
        TCase *tcase = tcase_create("footprint");
        tcase_add_test(tcase, the_heap_is_counted_and_what_was_there_before);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
