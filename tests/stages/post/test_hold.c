#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/post/citations.h"
#include "stages/post/hold.h"

#define FFFD "\xef\xbf\xbd"

static const char sample[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z \xe6\xbc\xa2\xe5\xad\x97 end";

/* Everything fed in pieces cut at the given places, then flushed; into out. */
static void feed_cut(const char *text, uint32_t n, uint32_t cut_a, uint32_t cut_b, char *out) {
        struct hold hold = {0};
        struct hold_entry left;
        uint32_t cuts[] = {0, cut_a, cut_b, n}, len = 0;

        for (int i = 0; i < 3; i++) {
                char piece[256];
                uint32_t from = cuts[i], to = cuts[i + 1];
                uint32_t got = hold_feed(&hold, 0, HOLD_TEXT, text + from, to - from, piece);
                ck_assert_msg(hold_is_clean(&(struct hold){0}, 0, HOLD_TEXT, piece, got),
                                "half a character went on at %u %u", cut_a, cut_b);
                memcpy(out + len, piece, got);
                len += got;
        }
        while (hold_flush_one(&hold, &left)) {
                memcpy(out + len, FFFD, 3);
                len += 3;
        }
        out[len] = 0;
}

START_TEST(never_half_a_character_wherever_the_text_is_cut) {
        uint32_t n = sizeof(sample) - 1;
        char out[256];

        for (uint32_t a = 0; a <= n; a++) {
                for (uint32_t b = a; b <= n; b++) {
                        feed_cut(sample, n, a, b, out);
                        ck_assert_str_eq(out, sample);
                }
        }
}
END_TEST

START_TEST(bytes_that_are_no_utf8_become_replacement_characters) {
        static const struct {
                const char *in, *out;
        } rows[] = {
                        {"\xff", FFFD},
                        {"a\x80z", "a" FFFD "z"},
                        {"\xc0\xaf", FFFD FFFD},          /* overlong */
                        {"\xed\xa0\x80", FFFD FFFD FFFD}, /* a surrogate */
                        {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD},
                        {"\xe2\x82", FFFD}, /* never finished */
                        {"\xe2\x82x", FFFD "x"},
                        {"\xf0\x9f\x98", FFFD},
        };
        char out[256];

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                uint32_t n = (uint32_t)strlen(rows[i].in);
                for (uint32_t cut = 0; cut <= n; cut++) {
                        feed_cut(rows[i].in, n, cut, cut, out);
                        ck_assert_msg(strcmp(out, rows[i].out) == 0, "row %zu cut at %u", i, cut);
                }
        }
}
END_TEST

START_TEST(streams_of_one_answer_wait_apart) {
        struct hold hold = {0};
        struct hold_entry left;
        char out[64];

        ck_assert_uint_eq(hold_feed(&hold, 0, HOLD_TEXT, "\xe2\x82", 2, out), 0);
        ck_assert_uint_eq(hold_feed(&hold, 1, HOLD_TEXT, "\xc3", 1, out), 0);
        ck_assert_uint_eq(hold_feed(&hold, 0, HOLD_REASONING, "\xf0\x9f", 2, out), 0);
        for (uint16_t i = 0; i < 3; i++)
                ck_assert_uint_ne(hold.entry[i].n, 0);
        ck_assert_uint_eq(hold.entry[3].n, 0);
        ck_assert(!hold_is_clean(&hold, 1, HOLD_TEXT, "x", 1));
        ck_assert(hold_is_clean(&hold, 2, HOLD_TEXT, "x", 1));
        ck_assert_uint_eq(hold_feed(&hold, 1, HOLD_TEXT, "\xa9", 1, out), 2);
        ck_assert_mem_eq(out, "\xc3\xa9", 2);
        ck_assert_uint_eq(hold_feed(&hold, 0, HOLD_TEXT, "\xac", 1, out), 3);
        ck_assert_int_eq(hold_flush_one(&hold, &left), 1);
        ck_assert_uint_eq(left.kind, HOLD_REASONING);
        ck_assert_int_eq(hold_flush_one(&hold, &left), 0);
}
END_TEST

START_TEST(more_streams_than_places_lose_no_order_and_no_memory) {
        struct hold hold = {0};
        char out[64];

        for (uint16_t choice = 0; choice < HOLD_STREAMS; choice++)
                ck_assert_uint_eq(hold_feed(&hold, choice, HOLD_TEXT, "\xc3", 1, out), 0);
        ck_assert_uint_eq(hold_feed(&hold, 99, HOLD_TEXT, "x\xc3", 2, out), 4);
        ck_assert_mem_eq(out, "x" FFFD, 4);
}
END_TEST

static uint64_t cited_in(const char *text, uint32_t cut) {
        struct citations citations = {0};

        citations_feed(&citations, text, cut);
        citations_feed(&citations, text + cut, (uint32_t)strlen(text) - cut);
        return citations.cited;
}

START_TEST(citations_are_found_wherever_the_text_is_cut) {
        static const struct {
                const char *text;
                uint64_t cited;
        } rows[] = {
                        {"no marks, a[i] and [x1] and [ ] and []", 0},
                        {"one [1].", 1},
                        {"two [1][3] and [12]", 1 | 1 << 2 | 1 << 11},
                        {"lists [2, 4,5]", 1 << 1 | 1 << 3 | 1 << 4},
                        {"out of range [0] [65] [99999999999999999999]", 0},
                        {"last one [64]", 1ull << 63},
                        {"broken [1 2] [3", 0},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (uint32_t cut = 0; cut <= strlen(rows[i].text); cut++)
                        ck_assert_msg(cited_in(rows[i].text, cut) == rows[i].cited,
                                        "row %zu cut at %u", i, cut);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("post");
        TCase *hold = tcase_create("hold"), *citations = tcase_create("citations");
        SRunner *runner;
        int failed;

        tcase_add_test(hold, bytes_that_are_no_utf8_become_replacement_characters);
        tcase_add_test(hold, never_half_a_character_wherever_the_text_is_cut);
        tcase_add_test(hold, streams_of_one_answer_wait_apart);
        tcase_add_test(hold, more_streams_than_places_lose_no_order_and_no_memory);
        tcase_add_test(citations, citations_are_found_wherever_the_text_is_cut);
        suite_add_tcase(suite, hold);
        suite_add_tcase(suite, citations);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
