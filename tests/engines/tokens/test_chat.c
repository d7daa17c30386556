#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/tokens/chat.h"

static struct chat_count chat;

static uint64_t of(const char *body) {
        chat_begin(&chat);
        chat_feed(&chat, body, (uint32_t)strlen(body));
        chat_end(&chat);
        return tokens_total(&chat.count);
}

#define CHAT(messages) "{\"model\":\"m\",\"messages\":[" messages "],\"metadata\":{\"text\":\"not this\"}}"
#define USER(content) "{\"role\":\"user\",\"content\":" content "}"

START_TEST(what_is_no_json_is_counted_somehow_and_nothing_behind_it_read) {
        static const char *const bad[] = {"", "{", "}}}}]", "{\"messages\":[{\"content\":\"abc",
                        "{\"messages\":[{\"content\":\"\\u12", "{\"messages\":[{\"content\":\"\\",
                        "\"\\ud800\\ud800\\udc00\"", "{\"prompt\":\"\xff\xfe\"}", "{\"prompt\":[1,2,\"a"};
        char deep[200];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_uint_le(of(bad[i]), 20);
        memset(deep, '[', sizeof(deep) - 1);
        deep[sizeof(deep) - 1] = 0;
        ck_assert_uint_eq(of(deep), 0);
}
END_TEST

START_TEST(messages_count_their_text_and_what_is_around_them) {
        ck_assert_uint_eq(of("{\"messages\":[]}"), 2);
        ck_assert_uint_eq(of(CHAT(USER("\"one two three\""))), 2 + 3 + 3);
        ck_assert_uint_eq(of(CHAT(USER("\"one\"") "," USER("\"two\""))), 2 + 2 * (3 + 1));
        ck_assert_uint_eq(of(CHAT(USER("[{\"type\":\"text\",\"text\":\"one two\"}]"))), 2 + 3 + 2);
        ck_assert_uint_eq(chat.count.cost[TOKENS_CHAT], CHAT_COST + CHAT_MESSAGE_COST);
        ck_assert(chat.exact);
}
END_TEST

START_TEST(escapes_are_what_they_stand_for) {
        ck_assert_uint_eq(of(CHAT(USER("\"a\\nb \\u4eca\\u65e5\\ud83d\\ude00 \\\"c\\\"\""))),
                        of(CHAT(USER("\"a\\u000ab \u4eca\u65e5\U0001f600 \\u0022c\\u0022\""))));
        ck_assert_uint_gt(chat.count.cost[TOKENS_CJK], 0);
}
END_TEST

START_TEST(calls_and_declarations_count) {
        uint64_t plain = of(CHAT(USER("\"one\"")));

        ck_assert_uint_gt(of(CHAT(USER("\"one\"") ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\","
                                                  "\"function\":{\"name\":\"find\",\"arguments\":\"{}\"}}]}")),
                        plain + 3);
        ck_assert_uint_gt(of("{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"find\",\"parameters\":"
                             "{\"type\":\"object\"}}}],\"messages\":[" USER("\"one\"") "]}"),
                        plain + 15);
        ck_assert_uint_gt(chat.count.cost[TOKENS_JSON], 15 * TOKENS_UNIT);
        ck_assert(chat.exact);
}
END_TEST

START_TEST(a_picture_counts_the_same_however_long_and_makes_it_inexact) {
        static char large[300000];
        const char *head = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                           "\"image_url\":{\"url\":\"data:";
        size_t n = strlen(head);
        uint64_t small = of(CHAT(USER("[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\"}}]")));

        ck_assert(!chat.exact);
        memset(large, 'A', sizeof(large));
        memcpy(large, head, n);
        memcpy(large + sizeof(large) - 9, "\"}}]}]}", 8);
        ck_assert_uint_eq(of(large), small);
}
END_TEST

START_TEST(prompts_are_texts_or_tokens) {
        ck_assert_uint_eq(of("{\"prompt\":\"one two\",\"max_tokens\":100}"), 2);
        ck_assert_uint_eq(of("{\"input\":[\"one two\",\"three\"],\"user\":\"me\"}"), 3);
        ck_assert_uint_eq(of("{\"prompt\":[[15496,11],[995]],\"seed\":7}"), 3);
}
END_TEST

/* Long words, characters that windows would cut, escapes. */
START_TEST(it_matters_little_how_the_bytes_come) {
        static const char *const units[] = {"word ", "\u4eca", "\\u65e5", "\\n", "{\\\"k\\\": 12}",
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\U0001f600"};
        static char body[60000];
        const uint32_t steps[] = {1, 2, 3, 7, 4095, 4096, 4097, 16384};
        uint64_t whole;
        uint32_t n;

        strcpy(body, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
        for (uint32_t i = 0; i < 3000; i++)
                for (uint32_t k = 0; k <= (i / 700) % 7; k++)
                        if (strlen(body) < sizeof(body) - 100)
                                strcat(body, units[(i * 5 + k) % 7]);
        strcat(body, "\"}]}");
        n = (uint32_t)strlen(body);
        whole = of(body);
        for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
                chat_begin(&chat);
                for (uint32_t at = 0; at < n; at += steps[s])
                        chat_feed(&chat, body + at, n - at < steps[s] ? n - at : steps[s]);
                chat_end(&chat);
                ck_assert_uint_le(tokens_total(&chat.count), whole + whole / 50);
                ck_assert_uint_le(whole, tokens_total(&chat.count) + whole / 50);
        }
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("chat");
        TCase *all = tcase_create("all");

        tcase_add_test(all, what_is_no_json_is_counted_somehow_and_nothing_behind_it_read);
        tcase_add_test(all, messages_count_their_text_and_what_is_around_them);
        tcase_add_test(all, escapes_are_what_they_stand_for);
        tcase_add_test(all, calls_and_declarations_count);
        tcase_add_test(all, a_picture_counts_the_same_however_long_and_makes_it_inexact);
        tcase_add_test(all, prompts_are_texts_or_tokens);
        tcase_add_test(all, it_matters_little_how_the_bytes_come);
        suite_add_tcase(s, all);
        return s;
}

int main(void) {
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
