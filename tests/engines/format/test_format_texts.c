#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/format/markdown.h"
#include "stages/engines/format/stops.h"
#include "stages/engines/format/trim.h"

#define OUT_MAX 8192u

/* One way of changing a text: all of it in pieces, each cut off at cuts[], into out. */
typedef uint32_t change_fn(const char *text, const uint32_t *cuts, uint32_t n_cuts, char *out);

static void no_more_than(const char *out, uint32_t n, const char *whole, uint32_t n_whole, const char *text) {
        ck_assert_msg(n <= n_whole && !memcmp(out, whole, n), "too early: %.*s\n of: %s", (int)n, out, text);
}

/* Whole, cut in two at every place, and byte by byte: all the same, and it is what is expected. */
static void becomes(change_fn *change, const char *text, const char *expected) {
        static char whole[OUT_MAX], out[OUT_MAX];
        static uint32_t cuts[OUT_MAX];
        uint32_t n = (uint32_t)strlen(text), n_whole, got;

        cuts[0] = n;
        n_whole = change(text, cuts, 1, whole);
        ck_assert_msg(n_whole == strlen(expected) && !memcmp(whole, expected, n_whole), "%s\nbecame   %.*s\nexpected %s",
                        text, (int)n_whole, whole, expected);
        for (uint32_t at = 0; at <= n; at++) {
                cuts[0] = at;
                cuts[1] = n;
                got = change(text, cuts, 2, out);
                ck_assert_msg(got == n_whole && !memcmp(out, whole, got), "cut at %u: %s\n became %.*s", at, text,
                                (int)got, out);
        }
        for (uint32_t i = 0; i <= n; i++)
                cuts[i] = i;
        got = change(text, cuts, n + 1, out);
        ck_assert_msg(got == n_whole && !memcmp(out, whole, got), "byte by byte: %s", text);
        for (uint32_t i = 0; i <= n; i++) { /* nothing goes on early that the whole does not say */
                cuts[0] = i;
                got = change(text, cuts, 1, out);
                if (i < n)
                        no_more_than(out, got, whole, n_whole, text);
        }
}

/* ---- stop strings ---- */

static struct stops stops;

static void stop_at(const char *json) {
        ck_assert_int_eq(stops_read(&stops, json, (uint32_t)strlen(json)), 0);
}

static uint32_t stopped(const char *text, const uint32_t *cuts, uint32_t n_cuts, char *out) {
        struct stops_state state = {{0}};
        uint32_t at = 0, n = 0;
        bool over = false;

        for (uint32_t i = 0; i < n_cuts && !over; at = cuts[i++]) {
                char piece[OUT_MAX];
                uint32_t got = stops_feed(&stops, &state, text + at, cuts[i] - at, piece, &over);
                ck_assert_uint_le(got, cuts[i] - at + STOPS_BYTES);
                memcpy(out + n, piece, got);
                n += got;
        }
        return over || cuts[n_cuts - 1] < strlen(text) ? n : n + stops_flush(&stops, &state, out + n);
}

START_TEST(stop_strings_are_refused_where_they_are_none) {
        static const char *const bad[] = {"", "7", "{}", "[1]", "[\"a\",null]", "\"a", "[\"a\""};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_msg(stops_read(&stops, bad[i], (uint32_t)strlen(bad[i])) == -EPROTO, "%s", bad[i]);
        ck_assert_int_eq(stops_read(&stops,
                                         "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\",\"l\",\"m\","
                                         "\"n\",\"o\",\"p\",\"q\"]",
                                         69),
                        STOPS_E_MANY);
        stop_at("[]");
        ck_assert_uint_eq(stops.n, 0);
        stop_at("[\"\"]");
        ck_assert_uint_eq(stops.n, 0);
}
END_TEST

START_TEST(a_stop_string_ends_the_text_and_no_part_of_it_goes_on) {
        stop_at("[\"END\",\"\\n\\n\"]");
        becomes(stopped, "one two END three", "one two ");
        becomes(stopped, "one\n\ntwo END", "one");
        becomes(stopped, "ENENDEND", "EN");
        becomes(stopped, "EN\nE", "EN\nE");
        becomes(stopped, "nothing of the kind", "nothing of the kind");
        becomes(stopped, "END", "");
        stop_at("\"aabaaa\"");
        becomes(stopped, "aabaabaaabaaa", "aab");
        becomes(stopped, "aabaaaabaaa", "");
        becomes(stopped, "aabaab", "aabaab");
        stop_at("[\"\\u00e9t\\u00e9\"]");
        becomes(stopped, "un \xc3\xa8t\xc3\xa9 d'\xc3\xa9t\xc3\xa9.", "un \xc3\xa8t\xc3\xa9 d'");
}
END_TEST

START_TEST(of_several_the_first_that_is_complete_counts_then_the_longest) {
        stop_at("[\"abc\",\"b\",\"xbc\"]");
        becomes(stopped, "_abc", "_a");
        stop_at("[\"cd\",\"abcd\",\"bcd\"]");
        becomes(stopped, "_abcd", "_");
        becomes(stopped, "_bcd", "_");
        becomes(stopped, "_abce", "_abce");
}
END_TEST

/* ---- white space ---- */

static uint32_t trimmed(const char *text, const uint32_t *cuts, uint32_t n_cuts, char *out) {
        struct trim trim = {0};
        uint32_t at = 0, n = 0;

        for (uint32_t i = 0; i < n_cuts; at = cuts[i++])
                n += trim_feed(&trim, text + at, cuts[i] - at, out + n);
        return n;
}

START_TEST(white_space_around_a_text_goes_and_that_within_stays) {
        char text[600], expected[600];

        becomes(trimmed, " \n\t one  two\n\nthree \r\n", "one  two\n\nthree");
        becomes(trimmed, "", "");
        becomes(trimmed, " \n ", "");
        becomes(trimmed, "x", "x");
        memset(text, ' ', sizeof(text)); /* more of it than waits */
        text[0] = text[400] = 'x';
        text[401] = '\0';
        becomes(trimmed, text, text);
        text[400] = ' ';
        memcpy(expected, text, sizeof(text));
        expected[401 - TRIM_HELD] = '\0';
        becomes(trimmed, text, expected);
}
END_TEST

/* ---- Markdown ---- */

static uint32_t plain(const char *text, const uint32_t *cuts, uint32_t n_cuts, char *out) {
        static struct markdown m;
        uint32_t at = 0, n = 0;

        for (uint32_t i = 0; i < n_cuts; at = cuts[i++])
                n += markdown_feed(&m, text + at, cuts[i] - at, out + n);
        if (cuts[n_cuts - 1] == strlen(text))
                return n + markdown_flush(&m, out + n);
        m = (struct markdown){0};
        return n;
}

static const struct {
        const char *text, *expected;
} rows[] = {
                {"", ""},
                {"plain text.\n\nTwo lines, 3 * 4 = 12, snake_case and 2*3.", "plain text.\n\nTwo lines, 3 * 4 = 12, snake_case and 2*3."},
                {"**bold** and *slanted* and ***both***, __bold__ _slanted_.", "bold and slanted and both, bold slanted."},
                {"a **bold *and slanted* text**.", "a bold and slanted text."},
                {"\xe8\xbf\x99**\xe7\xb2\x97**\xe4\xbd\x93", "\xe8\xbf\x99\xe7\xb2\x97\xe4\xbd\x93"},
                {"~~gone~~ but ~5 and a~b", "gone but ~5 and a~b"},
                {"# One\n## Two\ntext\n####### no\n#no", "One\nTwo\ntext\n####### no\n#no"},
                {"> said\n> > twice\n>thrice", "said\ntwice\nthrice"},
                {"* a\n+ b\n- c\n  * d\n1. e", "- a\n- b\n- c\n  - d\n1. e"},
                {"one\n---\ntwo\n===\nthree\n***\n--", "one\ntwo\nthree\n--"},
                {"use `a*b` and ``x ` y``, not `c", "use a*b and x ` y, not c"},
                {"```c\nint *a = b[0];\n# no heading\n```\nafter **it**", "int *a = b[0];\n# no heading\nafter it"},
                {"~~~~\n```\n~~~\n~~~~ \nx", "```\n~~~\nx"},
                {"``` and ```", " and "},
                {"``` and ```\n*x*", " and \nx"},
                {"a [link](http://e.x/a_(b)), an ![image](x.png) and [1], [2](", "a link, an image and [1], [2]("},
                {"[**bold** one](u) [a [b](c) d", "bold one [a b d"},
                {"[![badge](b)](u)", "[badge](u)"},
                {"[line\nend](x) ![", "[line\nend](x) !["},
                {"\\*no\\* \\\\ C:\\dir \\", "*no* \\ C:\\dir \\"},
                {"Really! Yes![1]", "Really! Yes![1]"},
                {"*", "*"},
                {"```", ""},
                {"```x", "x"},
                {"```\ncode\n```", "code\n"},
                {"- [ ] task\n- [x] done", "- [ ] task\n- [x] done"},
                {"\t* tab\n   \n    deep", "\t- tab\n   \n    deep"},
};

START_TEST(markdown_goes_and_what_is_none_stays) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                becomes(plain, rows[i].text, rows[i].expected);
}
END_TEST

START_TEST(what_is_too_long_for_a_mark_is_none) {
        static char text[3 * MARKDOWN_HELD];

        memset(text, 'x', sizeof(text) - 1);
        text[0] = '[';
        memcpy(text + sizeof(text) - 8, "](u) end", 8);
        text[sizeof(text) - 1] = '\0';
        becomes(plain, text, text);
        memset(text, ' ', 200);
        text[200] = '\0';
        becomes(plain, text, text);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("format texts");
        TCase *texts = tcase_create("texts");
        SRunner *runner;
        int failed;

        tcase_set_timeout(texts, 120);
        tcase_add_test(texts, stop_strings_are_refused_where_they_are_none);
        tcase_add_test(texts, a_stop_string_ends_the_text_and_no_part_of_it_goes_on);
        tcase_add_test(texts, of_several_the_first_that_is_complete_counts_then_the_longest);
        tcase_add_test(texts, white_space_around_a_text_goes_and_that_within_stays);
        tcase_add_test(texts, markdown_goes_and_what_is_none_stays);
        tcase_add_test(texts, what_is_too_long_for_a_mark_is_none);
        suite_add_tcase(suite, texts);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
