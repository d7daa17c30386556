/*
 * chunk -- where texts are cut.
 */
#include "stages/engines/index/chunk.h"

#include <stdbool.h>

#include "tests/engines/index/test_folder.h"

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* What must hold for any text: ranges in order, trimmed, on whole characters, and nothing but white
 * space between them. */
static struct chunk_list split(
                struct index_str text, const struct chunk_mark *marks, size_t n_marks) {
        struct chunk_list list;
        uint64_t covered = 0;

        ck_assert_int_eq(chunk_split(text, marks, n_marks, &list), 0);
        ck_assert_uint_ge(list.n_chunks, 1);
        for (size_t i = 0; i < list.n_chunks; i++) {
                const struct chunk *chunk = &list.chunks[i];

                ck_assert_uint_le(chunk->start, chunk->end);
                ck_assert_uint_le(chunk->end, text.n_bytes);
                ck_assert(i == 0 || chunk->end > list.chunks[i - 1].end);
                ck_assert(i == 0 || chunk->start > list.chunks[i - 1].start);
                for (uint64_t at = covered; at < chunk->start; at++)
                        ck_assert(is_blank(text.data[at]));
                ck_assert(chunk->start == chunk->end || !is_blank(text.data[chunk->start]));
                ck_assert(chunk->start == chunk->end || !is_blank(text.data[chunk->end - 1]));
                ck_assert(chunk->start == text.n_bytes ||
                                ((unsigned char)text.data[chunk->start] & 0xc0) != 0x80);
                ck_assert(chunk->end == text.n_bytes ||
                                ((unsigned char)text.data[chunk->end] & 0xc0) != 0x80);
                ck_assert_uint_le(chunk->end - chunk->start, 4 * CHUNK_TOKENS_MAX);
                covered = chunk->end;
        }
        for (uint64_t at = covered; at < text.n_bytes; at++)
                ck_assert(is_blank(text.data[at]));
        return list;
}

static void sentence_is(const char *text, const char *first) {
        ck_assert_uint_eq(chunk_sentence_end(str(text), 0), strlen(first));
}

START_TEST(a_sentence_ends_at_its_stop_and_not_at_an_abbreviation) {
        sentence_is("One. Two.", "One. ");
        sentence_is("Is it? \"Yes!\" he said.", "Is it? ");
        sentence_is("\"Stop!\" She ran.", "\"Stop!\" ");
        sentence_is("Pi is 3.14 or so. Next.", "Pi is 3.14 or so. ");
        sentence_is("As Dr. Smith says. Next.", "As Dr. Smith says. ");
        sentence_is("Some e.g. Paris. Next.", "Some e.g. Paris. ");
        sentence_is("J. R. Smith et al. Found it. Next.", "J. R. Smith et al. Found it. ");
        sentence_is("a file.txt here. and on. Next", "a file.txt here. and on. ");
        sentence_is("No stop at all", "No stop at all");
        sentence_is("", "");
        sentence_is("\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82\xe5\x86\x8d\xe8\xa7\x81\xe3\x80\x82",
                        "\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82");
}
END_TEST

START_TEST(a_sentence_ends_at_an_empty_line_and_before_an_item) {
        sentence_is("A title\n\nText.", "A title\n\n");
        sentence_is("wrapped\nline goes on. Next", "wrapped\nline goes on. ");
        sentence_is("intro\n- item", "intro\n");
        sentence_is("intro\n  12. item", "intro\n  ");
        sentence_is("in the year\n1999 it was. Next", "in the year\n1999 it was. ");
        sentence_is("row\n| a | b |", "row\n");
}
END_TEST

START_TEST(empty_and_blank_texts_are_one_empty_chunk) {
        static const char *const texts[] = {"", " ", " \n\n\t "};

        for (size_t i = 0; i < 3; i++) {
                struct chunk_list list = split(str(texts[i]), NULL, 0);
                ck_assert_uint_eq(list.n_chunks, 1);
                ck_assert_uint_eq(list.chunks[0].end, list.chunks[0].start);
                chunk_list_clear(&list);
        }
}
END_TEST

START_TEST(a_short_text_is_one_chunk_without_its_edges) {
        struct chunk_list list = split(str("  Hello there. \n"), NULL, 0);

        ck_assert_uint_eq(list.n_chunks, 1);
        ck_assert_uint_eq(list.chunks[0].start, 2);
        ck_assert_uint_eq(list.chunks[0].end, 14);
        ck_assert_uint_eq(list.chunks[0].path.n_bytes, 0);
        chunk_list_clear(&list);
}
END_TEST

START_TEST(prose_is_cut_between_sentences_with_a_little_overlap) {
        static char text[60000];
        size_t n = 0;

        for (int i = 0; i < 700; i++)
                n = appendf(text, sizeof(text), n,
                                "This is the sentence with the number %d of many of them. ", i);
        struct chunk_list list = split((struct index_str){text, n}, NULL, 0);
        ck_assert_uint_gt(list.n_chunks, 20);
        for (size_t i = 0; i < list.n_chunks; i++) {
                const struct chunk *chunk = &list.chunks[i];
                const uint64_t bytes = chunk->end - chunk->start;

                ck_assert_int_eq(strncmp(text + chunk->start, "This is", 7), 0);
                ck_assert_int_eq(text[chunk->end - 1], '.');
                ck_assert_uint_ge(bytes, 4 * CHUNK_TOKENS_MIN - 60);
                if (i == 0)
                        continue;
                ck_assert_uint_gt(list.chunks[i - 1].end, chunk->start);
                ck_assert_uint_le(list.chunks[i - 1].end - chunk->start, 4 * CHUNK_TOKENS_OVERLAP);
        }
        chunk_list_clear(&list);
}
END_TEST

START_TEST(a_heading_starts_a_chunk_and_its_path_goes_with_what_follows) {
        static char text[20000];
        size_t n = appendf(text, sizeof(text), 0, "# Guide\n\nIntroduction.\n\n");
        struct chunk_mark marks[4] = {{.offset = 0,
                        .kind = CHUNK_MARK_HEADING,
                        .level = 1,
                        .title = str("Guide")}};

        for (int section = 1; section <= 3; section++) {
                marks[section] = (struct chunk_mark){.offset = n,
                                .kind = CHUNK_MARK_HEADING,
                                .level = 2,
                                .title = str(section == 1      ? "First"
                                                : section == 2 ? "Second"
                                                               : "Third")};
                n = appendf(text, sizeof(text), n, "## %s\n\n", marks[section].title.data);
                for (int i = 0; i < 50; i++)
                        n = appendf(text, sizeof(text), n, "Sentence %d speaks about section %d. ",
                                        i, section);
                n = appendf(text, sizeof(text), n, "\n\n");
        }
        struct chunk_list list = split((struct index_str){text, n}, marks, 4);
        int n_headed = 0;
        for (size_t i = 0; i < list.n_chunks; i++) {
                const struct chunk *chunk = &list.chunks[i];
                const char *at = text + chunk->start;
                const struct chunk_mark *under = &marks[0];

                for (int m = 0; m < 4; m++)
                        if (marks[m].offset < chunk->start)
                                under = &marks[m];
                if (strncmp(at, "## ", 3) == 0) {
                        n_headed++;
                        ck_assert_uint_eq(chunk->path.n_bytes, strlen("Guide"));
                        ck_assert_mem_eq(chunk->path.data, "Guide", 5);
                } else if (chunk->start > marks[1].offset) {
                        char path[64];
                        snprintf(path, sizeof(path), "Guide > %s", under->title.data);
                        ck_assert_uint_eq(chunk->path.n_bytes, strlen(path));
                        ck_assert_mem_eq(chunk->path.data, path, strlen(path));
                }
                /* a chunk never holds the end of one long section and the start of another */
                for (int m = 1; m < 4; m++)
                        ck_assert(i == 0 || marks[m].offset <= chunk->start ||
                                        marks[m].offset >= chunk->end);
        }
        ck_assert_int_ge(n_headed, 2);
        chunk_list_clear(&list);
}
END_TEST

START_TEST(headings_in_a_row_stay_together) {
        static char text[20000];
        struct chunk_mark marks[2] = {
                        {.kind = CHUNK_MARK_HEADING, .level = 1, .title = str("Big")},
                        {.kind = CHUNK_MARK_HEADING, .level = 2, .title = str("Small")},
        };
        bool found = false;
        size_t n = 0;

        for (int i = 0; i < 25; i++)
                n = appendf(text, sizeof(text), n, "This sentence has forty bytes in it, so. ");
        marks[0].offset = n = appendf(text, sizeof(text), n, "\n\n");
        marks[1].offset = n = appendf(text, sizeof(text), n, "# Big heading in the middle\n\n");
        n = appendf(text, sizeof(text), n, "## Small heading right behind\n\n");
        for (int i = 0; i < 100; i++)
                n = appendf(text, sizeof(text), n, "This sentence has forty bytes in it, so. ");
        struct chunk_list list = split((struct index_str){text, n}, marks, 2);
        for (size_t i = 0; i < list.n_chunks; i++)
                found = found || list.chunks[i].start == marks[0].offset;
        ck_assert(found);
        chunk_list_clear(&list);
}
END_TEST

START_TEST(code_is_cut_between_lines) {
        static char text[20000];
        size_t n = 0;
        const struct chunk_mark mark = {.offset = 0, .kind = CHUNK_MARK_CODE};

        for (int i = 0; i < 400; i++)
                n = appendf(text, sizeof(text), n, "        call_number(%d); do. It();\n", i);
        struct chunk_list list = split((struct index_str){text, n}, &mark, 1);
        ck_assert_uint_gt(list.n_chunks, 5);
        for (size_t i = 0; i < list.n_chunks; i++) {
                ck_assert_int_eq(strncmp(text + list.chunks[i].start, "call_", 5), 0);
                ck_assert_int_eq(strncmp(text + list.chunks[i].end - 5, "It();", 5), 0);
        }
        chunk_list_clear(&list);
}
END_TEST

START_TEST(what_has_no_sentences_is_cut_between_words_and_characters) {
        static char words[30000];
        static char wide[30000];
        static char solid[30000];
        size_t n = 0;

        while (n < sizeof(words) - 20)
                n = appendf(words, sizeof(words), n, "word%zu ", n);
        struct chunk_list list = split((struct index_str){words, n}, NULL, 0);
        for (size_t i = 0; i < list.n_chunks; i++)
                ck_assert_int_eq(strncmp(words + list.chunks[i].start, "word", 4), 0);
        chunk_list_clear(&list);
        for (n = 0; n + 3 < sizeof(wide); n += 3)
                memcpy(wide + n, "\xe6\x95\xb0", 3);
        list = split((struct index_str){wide, n}, NULL, 0);
        ck_assert_uint_gt(list.n_chunks, 20); /* an ideograph is a token */
        chunk_list_clear(&list);
        memset(solid, 'x', sizeof(solid));
        list = split((struct index_str){solid, sizeof(solid)}, NULL, 0);
        ck_assert_uint_gt(list.n_chunks, 10);
        chunk_list_clear(&list);
}
END_TEST

START_TEST(marks_out_of_order_or_out_of_the_text_are_ignored) {
        const struct chunk_mark marks[] = {
                        {.offset = 4, .kind = CHUNK_MARK_HEADING, .level = 9, .title = str("x")},
                        {.offset = 2, .kind = CHUNK_MARK_HEADING, .level = 0, .title = str("x")},
                        {.offset = 4, .kind = CHUNK_MARK_CODE},
                        {.offset = 400, .kind = CHUNK_MARK_BLOCK},
        };
        struct chunk_list list = split(str("Some text here."), marks, 4);

        ck_assert_uint_eq(list.n_chunks, 1);
        chunk_list_clear(&list);
}
END_TEST

START_TEST(random_texts_keep_every_promise) {
        static const char *const pieces[] = {"word ", "a", ". ", ".\n", "\n\n", "\n- ", "\xc3\xa9",
                        "\xe3\x80\x82", "\xf0\x9f\x98\x80", "! ", "e.g. ", "  ", "12. ", "| ", "\"",
                        ")"};
        static char text[40000];
        unsigned seed = 7;

        for (int round = 0; round < 200; round++) {
                struct chunk_mark marks[40] = {0};
                size_t n_marks = 0;
                size_t n = 0;
                const size_t bytes = (size_t)(rand_r(&seed) % 30000);

                while (n < bytes) {
                        const char *piece = pieces[(size_t)rand_r(&seed) % 16];
                        const int times = rand_r(&seed) % 50 == 0 ? rand_r(&seed) % 1000 : 1;

                        if (n_marks < 40 && rand_r(&seed) % 60 == 0)
                                marks[n_marks++] = (struct chunk_mark){.offset = n,
                                                .kind = (enum chunk_mark_kind)(rand_r(&seed) % 3),
                                                .level = (uint8_t)(1 + rand_r(&seed) % 6),
                                                .title = str("heading")};
                        for (int i = 0; i < times && n + 8 < sizeof(text); i++) {
                                memcpy(text + n, piece, strlen(piece));
                                n += strlen(piece);
                        }
                }
                struct chunk_list list = split((struct index_str){text, n}, marks, n_marks);
                chunk_list_clear(&list);
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("chunk");
        TCase *cases = tcase_create("chunk");

        tcase_set_timeout(cases, 60);
        tcase_add_test(cases, a_sentence_ends_at_its_stop_and_not_at_an_abbreviation);
        tcase_add_test(cases, a_sentence_ends_at_an_empty_line_and_before_an_item);
        tcase_add_test(cases, empty_and_blank_texts_are_one_empty_chunk);
        tcase_add_test(cases, a_short_text_is_one_chunk_without_its_edges);
        tcase_add_test(cases, prose_is_cut_between_sentences_with_a_little_overlap);
        tcase_add_test(cases, a_heading_starts_a_chunk_and_its_path_goes_with_what_follows);
        tcase_add_test(cases, headings_in_a_row_stay_together);
        tcase_add_test(cases, code_is_cut_between_lines);
        tcase_add_test(cases, what_has_no_sentences_is_cut_between_words_and_characters);
        tcase_add_test(cases, marks_out_of_order_or_out_of_the_text_are_ignored);
        tcase_add_test(cases, random_texts_keep_every_promise);
        suite_add_tcase(suite, cases);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
