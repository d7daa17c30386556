/*
 * index -- which words find what: names in code, languages, earlier turns, expansion, neighbours.
 */
#include "tests/engines/index/test_index.h"

#include "stages/engines/index/identifier.h"

/* ---- names in code -------------------------------------------------------------------------- */

static int add_part(struct index_str part, void *ctx) {
        char *to = ctx;

        memcpy(to + strlen(to), part.data, part.n_bytes);
        strcat(to, " ");
        return strlen(to) > 200 ? 77 : 0;
}

static void parts_are(const char *text, const char *parts) {
        char told[512] = "";

        ck_assert_int_eq(identifier_parts(str(text), add_part, told), 0);
        ck_assert_str_eq(told, parts);
}

START_TEST(the_parts_of_a_name_are_told_and_what_has_no_seam_is_none) {
        parts_are("", "");
        parts_are("plain words, GPUs and CPUs: 42 x_ _y utf8 don't __ _", "");
        parts_are("call parse_http_header(x)", "parse http header ");
        parts_are("parseHTTPHeader Utf8Text", "parse HTTP Header Utf8 Text ");
        parts_are("MAX_REC_BYTES tRNAs iPhone", "MAX REC BYTES RNAs Phone ");
        parts_are("\xc3\xa9t\xc3\xa9_chaud caf\xc3\xa9", "\xc3\xa9t\xc3\xa9 chaud ");
        parts_are("a_b c__dd", "dd ");
}
END_TEST

START_TEST(telling_stops_where_it_is_told_to) {
        char told[512];

        memset(told, 'x', 210);
        told[210] = '\0';
        ck_assert_int_eq(identifier_parts(str("one_two three_four"), add_part, told), 77);
}
END_TEST

START_TEST(a_name_finds_its_words_and_its_words_find_the_name) {
        struct index_writer *writer = writer_open();

        put(writer, "code", "", "It calls parse_http_header for each line.");
        put(writer, "camel", "", "It calls loadConfigFile at the start.");
        put(writer, "prose", "", "How to read an http header by hand.");
        put(writer, "other", "", "Nothing of that sort is here, only a grain store.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        ck_assert_uint_eq(n_found(reader, "parse_http_header"), 2);
        best_is(reader, "parse_http_header", "code");
        ck_assert_uint_eq(n_found(reader, "http header"), 2);
        best_is(reader, "config file", "camel");
        best_is(reader, "loadConfigFile", "camel");
        best_is(reader, "LOADCONFIGFILE", "camel");
        index_reader_free(reader);
}
END_TEST

/* ---- languages ------------------------------------------------------------------------------- */

START_TEST(an_unknown_language_or_another_than_the_indexs_is_refused) {
        struct index_writer *writer = NULL;
        struct index_error err = {0};

        ck_assert_int_eq(index_writer_open(in_folder("ix"), "klingon", &err, &writer),
                        INDEX_E_LANGUAGE);
        ck_assert_ptr_nonnull(strstr(err.text, "german"));
        ck_assert_int_eq(access(in_folder("ix"), F_OK), -1);
        index_writer_free(writer_open());
        ck_assert_int_eq(index_writer_open(in_folder("ix"), "german", &err, &writer),
                        INDEX_E_LANGUAGE);
        ck_assert_ptr_nonnull(strstr(err.text, "english"));
        ck_assert_int_eq(index_writer_open(in_folder("ix"), "english", &err, &writer), 0);
        index_writer_free(writer);
}
END_TEST

START_TEST(an_index_keeps_its_language_and_stems_by_it) {
        struct index_writer *writer = NULL;

        ck_assert_int_eq(index_writer_open(in_folder("ix"), "german", NULL, &writer), 0);
        put(writer, "haus", "", "In den alten H\xc3\xa4usern brannte Licht.");
        put(writer, "will", "", "Er ist da und will nach Hause.");
        commit(writer);
        index_writer_free(writer);
        writer = writer_open();
        put(writer, "boot", "", "Zwei Boote lagen am Ufer.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        ck_assert_str_eq(index_reader_language(reader), "german");
        best_is(reader, "h\xc3\xa4user", "haus");
        best_is(reader, "booten", "boot");
        best_is(reader, "wer will was", "will"); /* no stop word here */
        index_reader_free(reader);
}
END_TEST

/* ---- more than the question ------------------------------------------------------------------ */

static struct index_result *ask_query(
                struct index_reader *reader, const struct index_query *query) {
        struct index_result *result = NULL;
        struct index_error err = {0};

        ck_assert_msg(index_reader_query(reader, query, &err, &result) == 0, "%s", err.text);
        return result;
}

static const char *hit_id(const struct index_result *result, size_t i) {
        ck_assert_uint_lt(i, index_result_n(result));
        return index_result_hit(result, i)->key.id.data;
}

START_TEST(words_of_earlier_turns_help_and_weigh_less) {
        struct index_writer *writer = writer_open();

        put(writer, "bread", "", "Bread rises for two hours in the warm kitchen.");
        put(writer, "cake", "", "Cake bakes for one hour in the hot oven.");
        put(writer, "oven", "", "An oven is hot.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_query query = {.text = str("for how long?"), .k = 3};
        struct index_result *result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 0);
        index_result_free(result);
        query.earlier = str("tell me of cake");
        result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 1);
        ck_assert_str_eq(hit_id(result, 0), "cake");
        index_result_free(result);
        query.text = str("and bread?"); /* the turn itself counts more than the one before */
        result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 2);
        ck_assert_str_eq(hit_id(result, 0), "bread");
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

START_TEST(expansion_finds_what_shares_no_word_with_the_question) {
        struct index_writer *writer = writer_open();
        char id[16];

        for (int i = 0; i < 4; i++) {
                snprintf(id, sizeof(id), "near%d", i);
                put(writer, id, "", "The aileron is a flap on the trailing edge of a wing.");
        }
        put(writer, "far", "", "A flap on the trailing edge lets the plane roll.");
        for (int i = 0; i < 20; i++) {
                snprintf(id, sizeof(id), "other%d", i);
                put(writer, id, "", "The baker sells bread on the market square.");
        }
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_query query = {.text = str("aileron"), .k = 10};
        struct index_result *result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 4);
        index_result_free(result);
        query.expand = true;
        result = ask_query(reader, &query);
        ck_assert_uint_ge(index_result_n(result), 5);
        ck_assert_str_eq(hit_id(result, 4), "far");
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

/* ---- neighbours ------------------------------------------------------------------------------ */

START_TEST(neighbours_that_answer_too_become_one_passage_of_exact_bytes) {
        struct index_writer *writer = writer_open();
        static char text[40000];
        size_t n = 0;

        for (int i = 0; i < 400; i++)
                n = appendf(text, sizeof(text), n, "Sentence %d speaks of granite%s. ", i,
                                i >= 190 && i < 230 ? " and of a lonely nightingale" : "");
        put(writer, "long", "Long", text);
        put(writer, "short", "Short", "A short word on the nightingale.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_query query = {.text = str("lonely nightingale"), .k = 10};
        struct index_result *result = ask_query(reader, &query);
        const struct index_hit *hit = index_result_hit(result, 0);
        ck_assert_str_eq(hit->key.id.data, "long");
        const uint64_t alone = hit->end - hit->start;
        index_result_free(result);
        query.merge = true;
        result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 2);
        hit = index_result_hit(result, 0);
        ck_assert_str_eq(hit->key.id.data, "long");
        ck_assert_uint_gt(hit->end - hit->start, alone);
        ck_assert_uint_eq(hit->text.n_bytes, hit->end - hit->start);
        ck_assert_mem_eq(hit->text.data, text + hit->start, hit->text.n_bytes);
        ck_assert_int_eq(hit->text.data[hit->text.n_bytes], '\0');
        query.k = 1;
        index_result_free(result);
        result = ask_query(reader, &query);
        ck_assert_uint_eq(index_result_n(result), 1);
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

static const struct {
        const char *name, *code, *words;
} stop_lists[] = {
#define LANGUAGE(name, code, words) {#name, code, words},
#include "stages/engines/index/stop_words.def"
};
#define N_STOP_LISTS (sizeof(stop_lists) / sizeof(stop_lists[0]))

/* How often the word stands in the list. */
static unsigned n_times(const char *words, const char *word, size_t len) {
        unsigned n = 0;

        for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ')
                n += strcspn(at, " ") == len && memcmp(at, word, len) == 0;
        return n;
}

START_TEST(a_stop_word_stands_once_in_its_list_in_small_letters) {
        for (size_t i = 0; i < N_STOP_LISTS; i++) {
                const char *words = stop_lists[i].words;

                for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ') {
                        const size_t len = strcspn(at, " ");

                        ck_assert_msg(n_times(words, at, len) == 1, "%s: %.*s", stop_lists[i].name,
                                        (int)len, at);
                        for (size_t k = 0; k < len; k++)
                                ck_assert(at[k] < 'A' || at[k] > 'Z');
                }
        }
}
END_TEST

/* A document of nothing but stop words is found by no question that has another word. */
static void drops_its_stop_words(const char *language, const char *words) {
        struct index_writer *writer = NULL;
        struct index_reader *reader = NULL;
        char question[2048];

        snprintf(question, sizeof(question), "%s vitriol", words);
        ck_assert_int_eq(index_writer_open(in_folder(language), language, NULL, &writer), 0);
        put(writer, "stop", "", words);
        put(writer, "word", "", "vitriol");
        commit(writer);
        index_writer_free(writer);
        ck_assert_int_eq(index_reader_open(in_folder(language), NULL, &reader), 0);
        ck_assert_msg(n_found(reader, question) == 1, "%s", language);
        best_is(reader, question, "word");
        best_is(reader, words, "stop"); /* nothing else is left to ask for */
        index_reader_free(reader);
}

START_TEST(each_language_drops_its_own_stop_words) {
        for (size_t i = 0; i < N_STOP_LISTS; i++)
                drops_its_stop_words(i % 2 ? stop_lists[i].code : stop_lists[i].name,
                                stop_lists[i].words);
        drops_its_stop_words("german2", "der die das");
}
END_TEST

START_TEST(a_language_without_a_list_drops_operators_alone) {
        struct index_writer *writer = NULL;
        struct index_reader *reader = NULL;

        ck_assert_int_eq(index_writer_open(in_folder("ix"), "turkish", NULL, &writer), 0);
        put(writer, "all", "", "the und not");
        commit(writer);
        index_writer_free(writer);
        ck_assert_int_eq(index_reader_open(in_folder("ix"), NULL, &reader), 0);
        ck_assert_uint_eq(n_found(reader, "the vitriol"), 1);
        ck_assert_uint_eq(n_found(reader, "not vitriol"), 0);
        index_reader_free(reader);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("index, words");
        TCase *refusals = tcase_create("refusals");
        TCase *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, folder_setup, folder_teardown);
        tcase_add_checked_fixture(behaviour, folder_setup, folder_teardown);
        tcase_set_timeout(refusals, 60);
        tcase_set_timeout(behaviour, 60);
        tcase_add_test(refusals, an_unknown_language_or_another_than_the_indexs_is_refused);
        tcase_add_test(behaviour, the_parts_of_a_name_are_told_and_what_has_no_seam_is_none);
        tcase_add_test(behaviour, telling_stops_where_it_is_told_to);
        tcase_add_test(behaviour, a_name_finds_its_words_and_its_words_find_the_name);
        tcase_add_test(behaviour, an_index_keeps_its_language_and_stems_by_it);
        tcase_add_test(behaviour, words_of_earlier_turns_help_and_weigh_less);
        tcase_add_test(behaviour, expansion_finds_what_shares_no_word_with_the_question);
        tcase_add_test(behaviour, neighbours_that_answer_too_become_one_passage_of_exact_bytes);
        tcase_add_test(behaviour, a_stop_word_stands_once_in_its_list_in_small_letters);
        tcase_add_test(behaviour, each_language_drops_its_own_stop_words);
        tcase_add_test(behaviour, a_language_without_a_list_drops_operators_alone);
        suite_add_tcase(suite, refusals);
        suite_add_tcase(suite, behaviour);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
