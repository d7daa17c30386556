/*
 * test_reply -- what a service of vectors or of scores may answer, and what it may not.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/vectors/reply.h"
#include "stages/engines/vectors/vectors.h"

static int vectors(const char *json, uint32_t n, uint32_t *dimension, float **ret) {
        struct index_error err = {0};
        const int r = reply_vectors(json, strlen(json), n, &err, dimension, ret);

        if (r == -EBADMSG)
                ck_assert_msg(err.text[0] != '\0', "it must say why: %s", json);
        return r;
}

START_TEST(an_answer_that_makes_no_sense_is_refused) {
        static const char *const bad[] = {"", "{", "null", "[]", "{\"data\":[]}", "{\"data\":{}}",
                        "{\"data\":[{\"index\":0}]}", "{\"data\":[{\"index\":0,\"embedding\":[]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1]}]}", /* one of two */
                        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":2,\"embedding\":[1]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":-1,\"embedding\":[1,2]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[1,2]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1e999]},{\"index\":1,\"embedding\":[1]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":[1e39]},{\"index\":1,\"embedding\":[1]}]}",
                        "{\"data\":[{\"index\":0,\"embedding\":\"AACAPw==\"},{\"index\":1}]}",
                        "{\"data\":[[[1],[2]]]}"};
        uint32_t dimension = 77;
        float *got = NULL;

        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                ck_assert_msg(vectors(bad[i], 2, &dimension, &got) == -EBADMSG, "%s", bad[i]);
        ck_assert_uint_eq(dimension, 77);
        ck_assert_ptr_null(got);
}
END_TEST

START_TEST(a_vector_has_its_limit) {
        const size_t room = 64 + (size_t)(VECTORS_DIMENSION_MAX + 1) * 2;
        char *json = malloc(room);
        uint32_t dimension = 0;
        float *got = NULL;

        for (uint32_t n = VECTORS_DIMENSION_MAX; n <= VECTORS_DIMENSION_MAX + 1; n++) {
                size_t at = (size_t)snprintf(json, room, "{\"data\":[{\"embedding\":[1");

                for (uint32_t i = 1; i < n; i++, at += 2)
                        memcpy(json + at, ",1", 2);
                memcpy(json + at, "]}]}", 5);
                ck_assert_int_eq(vectors(json, 1, &dimension, &got),
                                n == VECTORS_DIMENSION_MAX ? 0 : -EBADMSG);
        }
        ck_assert_uint_eq(dimension, VECTORS_DIMENSION_MAX);
        free(got);
        free(json);
}
END_TEST

START_TEST(vectors_come_in_any_order_among_other_members) {
        const char *json = "{\"object\":\"list\",\"usage\":{\"data\":[1],\"prompt_tokens\":3},\"data\":["
                           "{\"object\":\"embedding\",\"index\":1,\"embedding\":[3,-4.5]},"
                           "{\"embedding\":[1,2e0],\"index\":0,\"x\":{\"embedding\":[9,9]}}],\"model\":\"m\"}";
        uint32_t dimension = 0;
        float *got = NULL;

        ck_assert_int_eq(vectors(json, 2, &dimension, &got), 0);
        ck_assert_uint_eq(dimension, 2);
        ck_assert(got[0] == 1 && got[1] == 2 && got[2] == 3 && got[3] == -4.5F);
        free(got);
}
END_TEST

START_TEST(scores_are_taken_of_each_dialect) {
        static const char *const good[] = {
                        "{\"results\":[{\"index\":2,\"relevance_score\":0.9},{\"index\":0,"
                        "\"relevance_score\":-3,\"document\":{\"text\":\"t\"}}],\"id\":\"1\"}",
                        "{\"model\":\"m\",\"object\":\"list\",\"results\":[{\"score\":0.9,\"index\":2},"
                        "{\"score\":-3,\"index\":0}]}"};
        double scores[3];

        for (size_t i = 0; i < 2; i++) {
                ck_assert_int_eq(reply_scores(good[i], strlen(good[i]), 3, NULL, scores), 0);
                ck_assert(scores[0] == -3 && scores[2] == 0.9);
                ck_assert(isinf(scores[1]) && scores[1] < 0);
        }
        ck_assert_int_eq(reply_scores("{\"results\":[]}", 14, 3, NULL, scores), -EBADMSG);
        ck_assert_int_eq(reply_scores("{\"results\":[{\"index\":0}]}", 25, 3, NULL, scores), -EBADMSG);
        ck_assert_int_eq(reply_scores("{\"results\":[{\"index\":3,\"score\":1}]}", 35, 3, NULL, scores),
                        -EBADMSG);
}
END_TEST

START_TEST(the_services_own_words_are_found) {
        static const char *const said[] = {"{\"error\":{\"message\":\"no such model\",\"code\":4}}",
                        "{\"message\":\"no such model\"}", "{\"error\":\"no such model\"}"};
        char text[64];

        for (size_t i = 0; i < 3; i++) {
                reply_complaint(said[i], strlen(said[i]), text, sizeof(text));
                ck_assert_str_eq(text, "no such model");
        }
        reply_complaint("<html>", 6, text, sizeof(text));
        ck_assert_str_eq(text, "");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("reply");
        TCase *tcase = tcase_create("reply");

        tcase_add_test(tcase, an_answer_that_makes_no_sense_is_refused);
        tcase_add_test(tcase, a_vector_has_its_limit);
        tcase_add_test(tcase, vectors_come_in_any_order_among_other_members);
        tcase_add_test(tcase, scores_are_taken_of_each_dialect);
        tcase_add_test(tcase, the_services_own_words_are_found);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
