#include "stages/engines/extract/extract.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct extract_text text(const char *s) {
        return (struct extract_text){s, (uint32_t)strlen(s)};
}

static struct extract_document doc(const char *s) {
        return (struct extract_document){.text = text(s)};
}

static bool picked(const struct extract_document *docs, const struct extract_pick *pick,
                const char *want) {
        return pick->to - pick->from == strlen(want) &&
               memcmp(docs[pick->document].text.p + pick->from, want, strlen(want)) == 0;
}

START_TEST(without_documents_or_sentences_there_is_nothing) {
        const struct extract_text question = text("what is a millrace");
        const struct extract_document empty[] = {doc(""), doc(" \n\n# \n")};
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        ck_assert_uint_eq(extract_best(&question, NULL, 0, picks), 0);
        ck_assert_uint_eq(extract_best(&question, empty, 2, picks), 0);
}
END_TEST

START_TEST(sentences_end_where_a_reader_sees_an_end) {
        const struct extract_text doc =
                        text("# Title\n\nOne is 2.5 ms, e.g. here. Two asks \"why?\" Then J. Smith "
                             "answers!\n\n- three\n  goes on.\n");
        static const char *const want[] = {"Title", "One is 2.5 ms, e.g. here.",
                        "Two asks \"why?\"", "Then J. Smith answers!", "three\n  goes on."};
        uint32_t at = 0, from, to, n = 0;

        while (extract_sentence(&doc, &at, &from, &to)) {
                ck_assert_uint_lt(n, sizeof(want) / sizeof(*want));
                ck_assert_msg(to - from == strlen(want[n]) &&
                                                memcmp(doc.p + from, want[n], to - from) == 0,
                                "%u: %.*s", n, (int)(to - from), doc.p + from);
                n++;
        }
        ck_assert_uint_eq(n, sizeof(want) / sizeof(*want));
}
END_TEST

START_TEST(the_sentence_that_answers_comes_before_others) {
        const struct extract_text question = text("Where do requests wait?");
        const struct extract_document docs[] = {
                        doc("The daemon has stages. Requests wait in one place, at the door of "
                             "the gateway. Rings are small."),
                        doc("Nothing here is about that. Water runs down.")};
        struct extract_pick picks[EXTRACT_PICKS_MAX];
        uint32_t n = extract_best(&question, docs, 2, picks);

        ck_assert_uint_ge(n, 1);
        ck_assert(picked(docs, &picks[0],
                        "Requests wait in one place, at the door of the gateway."));
        for (uint32_t i = 0; i < n; i++)
                ck_assert_uint_eq(picks[i].document, 0);
}
END_TEST

START_TEST(endings_do_not_hide_a_word) {
        const struct extract_text question = text("how are stages restarted?");
        const struct extract_document docs[] = {
                        doc("Configuration is YAML with many keys in it. A stage that dies is "
                             "restarting within a few milliseconds.")};
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        ck_assert_uint_ge(extract_best(&question, docs, 1, picks), 1);
        ck_assert_uint_gt(picks[0].from, 10);
}
END_TEST

START_TEST(a_repeated_sentence_is_said_once) {
        const struct extract_text question = text("slab versions");
        const struct extract_document docs[] = {doc("A slab slot has two versions of its state."),
                        doc("A slab slot has two versions of its state.")};
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        ck_assert_uint_eq(extract_best(&question, docs, 2, picks), 1);
}
END_TEST

START_TEST(documents_that_do_not_speak_of_it_have_no_answer) {
        const struct extract_document docs[] = {
                        doc("Rings carry records at every point. The boiling of water is noisy.")};
        const char *const questions[] = {"xylophone",
                        "What is the melting point of mercury on Mars?",
                        "Who won the election in the capital of France, and by what margin?"};
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        for (size_t i = 0; i < sizeof(questions) / sizeof(*questions); i++) {
                const struct extract_text question = text(questions[i]);
                ck_assert_uint_eq(extract_best(&question, docs, 1, picks), 0);
        }
        const struct extract_text known = text("What do rings carry?");
        ck_assert_uint_eq(extract_best(&known, docs, 1, picks), 1);
        ck_assert(picked(docs, &picks[0], "Rings carry records at every point."));
}
END_TEST

START_TEST(what_the_title_says_counts_as_said) {
        struct extract_document docs[] = {doc("It is closed at nine by the keeper.")};
        const struct extract_text question = text("iron gate hours and closing");
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        ck_assert_uint_eq(extract_best(&question, docs, 1, picks), 0);
        docs[0].title = text("The Iron Gate");
        ck_assert_uint_eq(extract_best(&question, docs, 1, picks), 1);
}
END_TEST

START_TEST(ideographs_are_matched_by_pairs) {
        const struct extract_document docs[] = {
                        doc("\xe6\xb0\xb4\xe8\xbd\xa6\xe5\xbe\x88\xe5\xa4\xa7\xe3\x80\x82"
                            "\xe7\xb4\xa2\xe5\xbc\x95\xe5\xb7\xa5\xe4\xbd\x9c\xe5\xbe\x88"
                            "\xe5\xbf\xab\xe3\x80\x82")};
        const struct extract_text question = text("\xe7\xb4\xa2\xe5\xbc\x95\xe6\x80\x8e\xe4\xb9"
                                                  "\x88\xe5\xb7\xa5\xe4\xbd\x9c\xef\xbc\x9f"),
                                  other = text("\xe9\x9d\xa2\xe5\x8c\x85\xe6\x80\x8e\xe4\xb9\x88"
                                               "\xe5\x81\x9a\xef\xbc\x9f");
        struct extract_pick picks[EXTRACT_PICKS_MAX];

        ck_assert_uint_eq(extract_best(&question, docs, 1, picks), 1);
        ck_assert(picked(docs, &picks[0],
                        "\xe7\xb4\xa2\xe5\xbc\x95\xe5\xb7\xa5\xe4\xbd\x9c\xe5\xbe\x88\xe5\xbf\xab"
                        "\xe3\x80\x82"));
        ck_assert_uint_eq(extract_best(&other, docs, 1, picks), 0);
}
END_TEST

START_TEST(a_sentence_without_end_is_cut_at_a_character) {
        char *long_one = malloc(4001);
        struct extract_text doc = {long_one, 4000};
        uint32_t at = 0, from, to;

        for (uint32_t i = 0; i < 4000; i += 2)
                memcpy(long_one + i, "\xc3\xa9", 2);
        ck_assert(extract_sentence(&doc, &at, &from, &to));
        ck_assert_uint_le(to - from, EXTRACT_SENTENCE_BYTES);
        ck_assert_uint_eq((to - from) % 2, 0);
        free(long_one);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("extract");
        TCase *tc = tcase_create("extract");

        tcase_add_test(tc, without_documents_or_sentences_there_is_nothing);
        tcase_add_test(tc, sentences_end_where_a_reader_sees_an_end);
        tcase_add_test(tc, the_sentence_that_answers_comes_before_others);
        tcase_add_test(tc, endings_do_not_hide_a_word);
        tcase_add_test(tc, a_repeated_sentence_is_said_once);
        tcase_add_test(tc, documents_that_do_not_speak_of_it_have_no_answer);
        tcase_add_test(tc, what_the_title_says_counts_as_said);
        tcase_add_test(tc, ideographs_are_matched_by_pairs);
        tcase_add_test(tc, a_sentence_without_end_is_cut_at_a_character);
        suite_add_tcase(suite, tc);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
