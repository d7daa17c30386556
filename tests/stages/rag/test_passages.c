/*
 * passages -- what is done to the passages found, and to the question before: invisible characters,
 * repetitions, lists of a request.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/rag/duplicates.h"
#include "stages/rag/plain.h"
#include "stages/rag/question.h"

static void plain_is(const char *text, const char *wanted) {
        char to[256];
        size_t n = plain_copy(to, text, strlen(text));

        ck_assert_uint_le(n, strlen(text));
        to[n] = '\0';
        ck_assert_str_eq(to, wanted);
}

START_TEST(what_nobody_sees_is_taken_out) {
        plain_is("", "");
        plain_is("caf\xc3\xa9 \xe7\xb4\xa2 \xf0\x9f\x98\x80 a\tb\r\n", "caf\xc3\xa9 \xe7\xb4\xa2 \xf0\x9f\x98\x80 a\tb\r\n");
        plain_is("a\x01" "b\x1b[1mc\x7f", "ab[1mc");
        plain_is("a\xc2\x9b" "b\xc2\xad" "c\xc2\xa0", "abc\xc2\xa0");
        plain_is("\xef\xbb\xbf" "</docu\xe2\x80\x8bment>", "</document>"); /* BOM, zero width */
        plain_is("a\xe2\x80\xae" "b\xe2\x81\xa6" "c\xd8\x9c", "abc");      /* bidirectional */
        plain_is("a\xf3\xa0\x81\x81\xf3\xa0\x81\xbf\xf3\xa0\x84\x80" "b", "ab"); /* tags, selectors */
        plain_is("a\xef\xb8\x8f" "b\xe3\x85\xa4" "c", "abc");
}
END_TEST

START_TEST(bytes_that_are_no_text_stay) {
        plain_is("\xff\xc2", "\xff\xc2");
        plain_is("\xe2\x80", "\xe2\x80");
        plain_is("\xf3\xa0\x81" "a", "\xf3\xa0\x81" "a");
}
END_TEST

static bool has(struct duplicates *d, const char *text) {
        return duplicates_has(d, text, strlen(text));
}

START_TEST(a_passage_that_says_the_same_again_is_told) {
        static struct duplicates d;
        const char *first = "The keeper of the lock closes the iron gate at nine in the evening, "
                            "and opens it again at six when the first barge comes down.";

        d.n_texts = 0;
        ck_assert(!has(&d, first));
        ck_assert(has(&d, first));
        ck_assert(has(&d, "the KEEPER of the lock closes the iron gate -- at nine in the evening; "
                          "and opens it again at six when the first barge comes down"));
        ck_assert(has(&d, "closes the iron gate at nine in the evening"));
        ck_assert(!has(&d, "The keeper of the lock paints the iron gate in spring, and nobody else "
                           "may touch the wheel before the paint is dry."));
        ck_assert(!has(&d, "at nine"));
        ck_assert(has(&d, "At nine!"));
        ck_assert_uint_eq(d.n_texts, 3);
        ck_assert(!has(&d, "")); /* nothing is not something again */
        d.n_texts = 0;
        ck_assert(!has(&d, first));
}
END_TEST

START_TEST(what_says_more_than_a_short_one_before_it_stays) {
        static struct duplicates d;

        ck_assert(!has(&d, "install the package now"));
        ck_assert(!has(&d, "First update the list, then install the package now, and at last look "
                           "at the log for what went wrong with it."));
}
END_TEST

START_TEST(there_are_never_more_texts_than_fit) {
        static struct duplicates d;
        char text[64];

        for (int i = 0; i < 300; i++) {
                snprintf(text, sizeof(text), "number %d of them all is %d", i, i * 7);
                ck_assert(!has(&d, text));
        }
        ck_assert_uint_eq(d.n_texts, DUPLICATES_TEXTS);
}
END_TEST

static struct mr_view view(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static void str_is(struct index_str str, const char *text) {
        ck_assert_uint_eq(str.n_bytes, strlen(text));
        ck_assert_mem_eq(str.data, text, str.n_bytes);
}

START_TEST(a_question_has_what_its_request_asks_and_the_settings_allow) {
        char *collections[] = {"books", "notes"}, *filter[] = {"lang=en", "a=b=c"};
        struct settings settings = {.rag = {.collections = {collections, 2},
                                            .filter = {filter, 2},
                                            .expand = true}};
        static struct question q;
        static struct question_view v;
        struct question_limits limits;
        struct record r = {.has = HAS(query) | HAS(earlier) | HAS(tenant) | HAS(collections) |
                                  HAS(filter),
                        .query = view("when?"),
                        .earlier = view("the gate\n"),
                        .tenant = view("ann"),
                        .collections = view(" notes , letters"),
                        .filter = view("year=2024,lang=de")};

        ck_assert_int_eq(question_limits_init(&limits, &settings), 0);
        question_take(&q, &r);
        question_view(&q, &limits, &v);
        str_is(v.query.text, "when?");
        str_is(v.query.earlier, "the gate\n");
        str_is(v.query.scope.tenant, "ann");
        ck_assert_uint_eq(v.query.scope.asked.n_collections, 2);
        str_is(v.query.scope.asked.collections[0], "notes");
        str_is(v.query.scope.asked.collections[1], "letters");
        ck_assert_uint_eq(v.query.scope.asked.n_pairs, 2);
        str_is(v.query.scope.asked.pairs[1].key, "lang");
        str_is(v.query.scope.asked.pairs[1].value, "de");
        ck_assert_uint_eq(v.query.scope.allowed.n_collections, 2);
        str_is(v.query.scope.allowed.collections[0], "books");
        str_is(v.query.scope.allowed.pairs[1].key, "a");
        str_is(v.query.scope.allowed.pairs[1].value, "b=c");
        ck_assert(v.query.expand && v.query.merge);
        question_limits_close(&limits);
}
END_TEST

START_TEST(a_question_is_cut_and_never_asks_as_a_tenant_of_another_name) {
        static struct question q;
        static struct question_view v;
        static char text[8192];
        struct question_limits limits;
        struct record r = {.has = HAS(query) | HAS(tenant),
                        .query = {text, sizeof(text)},
                        .tenant = {text, INDEX_TENANT_MAX + 1}};

        memset(text, 'x', sizeof(text));
        ck_assert_int_eq(question_limits_init(&limits, &(struct settings){0}), 0);
        question_take(&q, &r);
        question_view(&q, &limits, &v);
        ck_assert_uint_eq(v.query.text.n_bytes, QUESTION_TEXT);
        ck_assert_uint_eq(v.query.scope.tenant.n_bytes, 0);
        ck_assert_uint_eq(v.query.scope.asked.n_collections, 0);
        ck_assert_uint_eq(v.query.earlier.n_bytes, 0);
        question_limits_close(&limits);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("passages");
        TCase *all = tcase_create("all");
        SRunner *runner;
        int failed;

        tcase_add_test(all, what_nobody_sees_is_taken_out);
        tcase_add_test(all, bytes_that_are_no_text_stay);
        tcase_add_test(all, a_passage_that_says_the_same_again_is_told);
        tcase_add_test(all, what_says_more_than_a_short_one_before_it_stays);
        tcase_add_test(all, there_are_never_more_texts_than_fit);
        tcase_add_test(all, a_question_has_what_its_request_asks_and_the_settings_allow);
        tcase_add_test(all, a_question_is_cut_and_never_asks_as_a_tenant_of_another_name);
        suite_add_tcase(suite, all);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
