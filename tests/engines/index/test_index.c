/*
 * index -- what is found, and what comes with it.
 */
#include "tests/engines/index/test_index.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

static int open_code(const char *path) {
        struct index_reader *reader = NULL;
        struct index_error err = {0};
        int r = index_reader_open(path, &err, &reader);

        ck_assert_ptr_null(reader);
        ck_assert_uint_gt(strlen(err.text), 0);
        return r;
}

static int open_writer_code(const char *path) {
        struct index_writer *writer = NULL;
        struct index_error err = {0};
        int r = index_writer_open(path, NULL, &err, &writer);

        ck_assert_ptr_null(writer);
        ck_assert_uint_gt(strlen(err.text), 0);
        return r;
}

/* Writes over the marker's key, or over its value, which is a 2 close behind, wherever it stands.
 */
static void patch_marker(bool value, const char *with) {
        static char data[1 << 20];
        FILE *file = fopen(in_folder("ix/postlist.glass"), "r+");
        int n_patched = 0;

        ck_assert_ptr_nonnull(file);
        const size_t n = fread(data, 1, sizeof(data) - 1, file);
        for (char *at = data; (at = memmem(at, n - (size_t)(at - data), "millrace.format", 15));
                        at++) {
                char *to = value ? memchr(at + 15, '2', 16) : at;

                ck_assert_ptr_nonnull(to);
                memcpy(to, with, strlen(with));
                n_patched++;
        }
        ck_assert_int_gt(n_patched, 0);
        rewind(file);
        ck_assert_uint_eq(fwrite(data, 1, n, file), n);
        ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_missing_folder_and_an_empty_one_are_missing) {
        ck_assert_int_eq(open_code(in_folder("nothing")), INDEX_E_MISSING);
        ck_assert_int_eq(open_code(test_folder), INDEX_E_MISSING);
        ck_assert_int_eq(open_code(""), INDEX_E_MISSING);
}
END_TEST

START_TEST(a_plain_file_is_foreign_even_one_that_names_databases) {
        const char *path = file_write("stub", "auto /tmp\n", 10);

        ck_assert_int_eq(open_code(path), INDEX_E_FOREIGN);
        ck_assert_int_eq(open_writer_code(path), INDEX_E_FOREIGN);
}
END_TEST

START_TEST(a_folder_of_other_things_is_foreign_and_stays_as_it_is) {
        file_write("letter.txt", "dear", 4);
        ck_assert_int_eq(open_code(test_folder), INDEX_E_FOREIGN);
        ck_assert_int_eq(open_writer_code(test_folder), INDEX_E_FOREIGN);
        ck_assert_int_eq(access(in_folder("iamglass"), F_OK), -1);
        ck_assert_int_eq(access(in_folder("flintlock"), F_OK), -1);
}
END_TEST

START_TEST(a_database_of_another_program_is_foreign) {
        index_writer_free(writer_open());
        patch_marker(false, "someones.things");
        ck_assert_int_eq(open_code(in_folder("ix")), INDEX_E_FOREIGN);
        ck_assert_int_eq(open_writer_code(in_folder("ix")), INDEX_E_FOREIGN);
}
END_TEST

START_TEST(an_index_of_another_format_is_refused) {
        struct index_reader *reader = NULL;
        struct index_error err = {0};

        index_writer_free(writer_open());
        patch_marker(true, "7");
        ck_assert_int_eq(index_reader_open(in_folder("ix"), &err, &reader), INDEX_E_VERSION);
        ck_assert_ptr_nonnull(strstr(err.text, "format 7"));
        ck_assert_int_eq(open_writer_code(in_folder("ix")), INDEX_E_VERSION);
}
END_TEST

START_TEST(garbage_in_the_place_of_a_database_is_no_crash) {
        index_writer_free(writer_open());
        file_write("ix/iamglass", "this is not what it should be", 29);
        const int r = open_code(in_folder("ix"));
        ck_assert_msg(r == INDEX_E_CORRUPT || r == INDEX_E_ENGINE || r == INDEX_E_VERSION, "%d", r);
        file_write("ix/iamglass", "", 0);
        ck_assert_int_ne(open_code(in_folder("ix")), 0);
}
END_TEST

START_TEST(documents_without_a_usable_id_or_with_chunks_outside_are_refused) {
        struct index_writer *writer = writer_open();
        struct index_error err = {0};
        enum index_outcome outcome;
        char long_id[INDEX_ID_MAX + 2];

        memset(long_id, 'x', sizeof(long_id));
        ck_assert_int_eq(put_bytes(writer, str(""), "t", str("text"), &err, &outcome),
                        INDEX_E_DOCUMENT);
        ck_assert_int_eq(put_bytes(writer, (struct index_str){"a\0b", 3}, "t", str("text"), &err,
                                         &outcome),
                        INDEX_E_DOCUMENT);
        ck_assert_int_eq(put_bytes(writer, (struct index_str){long_id, INDEX_ID_MAX + 1}, "t",
                                         str("text"), &err, &outcome),
                        INDEX_E_DOCUMENT);
        const struct chunk outside = {.start = 2, .end = 9, .path = str("")};
        const struct index_document doc = {.key.id = str("a"),
                        .title = str(""),
                        .url = str(""),
                        .source = str(""),
                        .metadata = str(""),
                        .text = str("text"),
                        .chunks = &outside,
                        .n_chunks = 1};
        ck_assert_int_eq(index_writer_add(writer, &doc, &err, &outcome), INDEX_E_DOCUMENT);
        ck_assert_uint_eq(index_writer_stats(writer).documents, 0);
        index_writer_free(writer);
}
END_TEST

START_TEST(k_of_nothing_or_too_much_is_refused) {
        struct index_result *result = NULL;
        struct index_query query = {.text = str("word"), .k = 0};

        index_writer_free(writer_open());
        struct index_reader *reader = reader_open();
        ck_assert_int_eq(index_reader_query(reader, &query, NULL, &result), -EINVAL);
        query.k = INDEX_K_MAX + 1;
        ck_assert_int_eq(index_reader_query(reader, &query, NULL, &result), -EINVAL);
        index_reader_free(reader);
}
END_TEST

START_TEST(a_deadline_in_the_past_is_a_code_of_its_own) {
        struct index_writer *writer = writer_open();
        struct index_result *result = NULL;
        struct index_error err = {0};
        const struct index_query query = {.text = str("word"), .k = 5, .deadline_ns = 1};

        put(writer, "a", "t", "a word");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        ck_assert_int_eq(index_reader_query(reader, &query, &err, &result), INDEX_E_DEADLINE);
        best_is(reader, "word", "a");
        index_reader_free(reader);
}
END_TEST

/* So many words for so many documents that the clock is looked at during the match. */
START_TEST(a_deadline_in_the_future_changes_no_answer) {
        struct index_writer *writer = writer_open();
        struct timespec now;
        char id[16], text[2048] = "water stone";

        for (size_t i = 0, n = strlen(text); i < 188; i++)
                n = appendf(text, sizeof(text), n, " word%03zu", i);
        for (int i = 0; i < 8000; i++) {
                snprintf(id, sizeof(id), "d%04d", i);
                put(writer, id, "", i % 7 == 0 ? "stone and water" : "stone and fire");
        }
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        clock_gettime(CLOCK_MONOTONIC, &now);
        const struct index_query query = {.text = str(text),
                        .k = 300,
                        .deadline_ns = ((uint64_t)now.tv_sec + 60) * 1000000000u};
        struct index_result *with = NULL;
        ck_assert_int_eq(index_reader_query(reader, &query, NULL, &with), 0);
        struct index_result *without = ask_bytes(reader, query.text, query.k);
        ck_assert_uint_eq(index_result_n(with), 300);
        ck_assert_uint_eq(index_result_n(without), 300);
        for (size_t i = 0; i < 300; i++)
                ck_assert_str_eq(index_result_hit(with, i)->key.id.data,
                                index_result_hit(without, i)->key.id.data);
        index_result_free(with);
        index_result_free(without);
        index_reader_free(reader);
}
END_TEST

START_TEST(odd_queries_find_nothing_and_are_no_error) {
        static const char *const odd[] = {"", " \t\n", "?!*()\"' -- && ||", "\xff\xfe\x80",
                        "\xe4\xb8", "AND OR NOT", "title:* ^2 ~", "zzzunknown"};
        struct index_writer *writer = writer_open();

        put(writer, "a", "Alpha", "the quick brown fox, and not or a dog");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
                ck_assert_uint_eq(n_found(reader, odd[i]), 0);
        const char nuls[64] = {0};
        struct index_result *result = ask_bytes(reader, (struct index_str){nuls, sizeof(nuls)}, 5);
        ck_assert_uint_eq(index_result_n(result), 0);
        index_result_free(result);
        result = ask_bytes(reader, (struct index_str){"\0\xff fox \0", 8}, 5);
        ck_assert_uint_eq(index_result_n(result), 1);
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

START_TEST(a_query_of_ten_thousand_words_keeps_the_telling_ones) {
        struct index_writer *writer = writer_open();
        static char text[2 << 20];
        size_t n = 0;
        char id[16];

        for (int i = 0; i < 300; i++)
                n = appendf(text, sizeof(text), n, "common%d ", i);
        for (int i = 0; i < 50; i++) {
                snprintf(id, sizeof(id), "d%d", i);
                appendf(text, sizeof(text), n, "%s", i == 32 ? "zanzibar" : "");
                put(writer, id, "", text);
        }
        commit(writer);
        index_writer_free(writer);
        for (int i = 0; i < 10000; i++)
                n = appendf(text, sizeof(text), n, i == 4000 ? "zanzibar " : "unknown%d ", i);
        struct index_reader *reader = reader_open();
        struct index_result *result = ask_bytes(reader, (struct index_str){text, n}, 3);
        ck_assert_uint_eq(index_result_n(result), 3);
        ck_assert_str_eq(index_result_hit(result, 0)->key.id.data, "d32");
        index_result_free(result);
        memset(text, 'x', sizeof(text)); /* one word of two megabytes */
        result = ask_bytes(reader, (struct index_str){text, sizeof(text)}, 3);
        ck_assert_uint_eq(index_result_n(result), 0);
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

START_TEST(words_are_found_by_their_stems_and_stop_words_do_not_count) {
        struct index_writer *writer = writer_open();

        put(writer, "run", "", "She was running through the connected rooms.");
        put(writer, "the", "", "The the the the, and of the.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        best_is(reader, "the connection runs", "run");
        ck_assert_uint_eq(n_found(reader, "the connection"), 1);
        best_is(reader, "the", "the"); /* nothing else is left to ask for */
        index_reader_free(reader);
}
END_TEST

START_TEST(title_words_weigh_more_than_words_of_the_text) {
        struct index_writer *writer = writer_open();

        put(writer, "text", "Other matters", "Here a turbine turns in a long river");
        put(writer, "title", "Turbine",
                        "Other matters turn in one long river, wide and slow and green");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        best_is(reader, "turbine", "title");
        ck_assert_uint_eq(n_found(reader, "turbine"), 2);
        index_reader_free(reader);
}
END_TEST

START_TEST(a_query_that_repeats_a_word_means_it) {
        struct index_writer *writer = writer_open();

        put(writer, "a", "", "apple");
        put(writer, "b", "", "berry");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        best_is(reader, "apple berry berry", "b");
        best_is(reader, "apple apple berry", "a");
        index_reader_free(reader);
}
END_TEST

START_TEST(chinese_and_accents_are_found) {
        struct index_writer *writer = writer_open();

        put(writer, "zh", "", "\xe6\x95\xb0\xe6\x8d\xae\xe5\xba\x93\xe7\xb4\xa2\xe5\xbc\x95");
        put(writer, "fr", "", "Un caf\xc3\xa9 \xc3\xa0 Besan\xc3\xa7on");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        best_is(reader, "\xe7\xb4\xa2\xe5\xbc\x95", "zh");
        best_is(reader, "CAF\xc3\x89", "fr");
        index_reader_free(reader);
}
END_TEST

START_TEST(a_long_document_is_one_hit_and_its_range_holds_its_text) {
        struct index_writer *writer = writer_open();
        static char text[40000];
        size_t n = 0;

        for (int i = 0; i < 400; i++)
                n = appendf(text, sizeof(text), n, "Sentence %d speaks of granite%s. ", i,
                                i == 300 ? " and of a lonely nightingale" : "");
        put(writer, "long", "Long", text);
        put(writer, "short", "Short", "A short word on granite.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_result *result = ask(reader, "granite nightingale");
        ck_assert_uint_eq(index_result_n(result), 2);
        const struct index_hit *hit = index_result_hit(result, 0);
        ck_assert_str_eq(hit->key.id.data, "long");
        ck_assert_uint_gt(hit->n_chunks, 5);
        ck_assert_uint_lt(hit->chunk, hit->n_chunks);
        ck_assert_uint_gt(hit->start, 0);
        ck_assert_uint_eq(hit->text.n_bytes, hit->end - hit->start);
        ck_assert_mem_eq(hit->text.data, text + hit->start, hit->text.n_bytes);
        ck_assert_ptr_nonnull(strstr(hit->text.data, "nightingale"));
        ck_assert_str_eq(hit->title.data, "Long");
        ck_assert_str_eq(hit->url.data, "https://example.org/x");
        ck_assert_str_eq(hit->source.data, "some/file.md");
        ck_assert_str_eq(hit->metadata.data, "{\"a\":1}");
        ck_assert(hit->score > index_result_hit(result, 1)->score);
        index_reader_free(reader); /* the result does not need it */
        ck_assert_mem_eq(hit->text.data, text + hit->start, hit->text.n_bytes);
        index_result_free(result);
}
END_TEST

START_TEST(a_snippet_is_the_sentence_that_answers) {
        struct index_writer *writer = writer_open();
        size_t start = 0;
        size_t end = 0;

        put(writer, "a", "",
                        "Ravens are large. They were seen in the tower at dawn, near the gate. "
                        "The bronze key opens the crypt. Nobody knows who made it.");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        struct index_result *result = ask(reader, "which key opens the crypt?");
        ck_assert_int_eq(index_result_snippet(result, 0, 40, &start, &end), 0);
        const struct index_hit *hit = index_result_hit(result, 0);
        ck_assert_uint_eq(end - start, strlen("The bronze key opens the crypt."));
        ck_assert_int_eq(strncmp(hit->text.data + start, "The bronze key", 14), 0);
        for (size_t max = 0; max < 200; max++) {
                ck_assert_int_eq(index_result_snippet(result, 0, max, &start, &end), 0);
                ck_assert_uint_le(end - start, max);
                ck_assert_uint_le(end, hit->text.n_bytes);
        }
        index_result_free(result);
        index_reader_free(reader);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("index");
        TCase *refusals = tcase_create("refusals");
        TCase *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, folder_setup, folder_teardown);
        tcase_add_checked_fixture(behaviour, folder_setup, folder_teardown);
        tcase_set_timeout(refusals, 60);
        tcase_set_timeout(behaviour, 60);
        tcase_add_test(refusals, a_missing_folder_and_an_empty_one_are_missing);
        tcase_add_test(refusals, a_plain_file_is_foreign_even_one_that_names_databases);
        tcase_add_test(refusals, a_folder_of_other_things_is_foreign_and_stays_as_it_is);
        tcase_add_test(refusals, a_database_of_another_program_is_foreign);
        tcase_add_test(refusals, an_index_of_another_format_is_refused);
        tcase_add_test(refusals, garbage_in_the_place_of_a_database_is_no_crash);
        tcase_add_test(refusals, documents_without_a_usable_id_or_with_chunks_outside_are_refused);
        tcase_add_test(refusals, k_of_nothing_or_too_much_is_refused);
        tcase_add_test(refusals, a_deadline_in_the_past_is_a_code_of_its_own);
        tcase_add_test(behaviour, a_deadline_in_the_future_changes_no_answer);
        tcase_add_test(behaviour, odd_queries_find_nothing_and_are_no_error);
        tcase_add_test(behaviour, a_query_of_ten_thousand_words_keeps_the_telling_ones);
        tcase_add_test(behaviour, words_are_found_by_their_stems_and_stop_words_do_not_count);
        tcase_add_test(behaviour, title_words_weigh_more_than_words_of_the_text);
        tcase_add_test(behaviour, a_query_that_repeats_a_word_means_it);
        tcase_add_test(behaviour, chinese_and_accents_are_found);
        tcase_add_test(behaviour, a_long_document_is_one_hit_and_its_range_holds_its_text);
        tcase_add_test(behaviour, a_snippet_is_the_sentence_that_answers);
        suite_add_tcase(suite, refusals);
        suite_add_tcase(suite, behaviour);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
