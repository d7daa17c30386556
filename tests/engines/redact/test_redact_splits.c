#include "redact_rig.h"
#include "rows.h"

static struct rig_out whole, cut;
static struct redact_stream stream;

/* What went on so far is the start of what the whole becomes: no match has left a prefix behind. */
static void no_more_than_whole(const char *text, size_t at) {
        ck_assert_msg(cut.n <= whole.n && !memcmp(cut.text, whole.text, cut.n),
                        "something leaked before byte %zu of: %s", at, text);
}

static void same_as_whole(const char *text, size_t a, size_t b) {
        ck_assert_msg(cut.n == whole.n && !memcmp(cut.text, whole.text, cut.n),
                        "cut at %zu and %zu: %s\n became %.*s", a, b, text, (int)cut.n, cut.text);
}

static void start(struct redact_numbers *numbers) {
        cut.n = 0;
        cut.covered = 0;
        *numbers = (struct redact_numbers){0};
}

static void feed_in_two(struct redact *r, const char *text, size_t n, size_t at) {
        struct redact_numbers numbers;

        start(&numbers);
        rig_feed(r, &stream, text, at, false, &cut, &numbers);
        no_more_than_whole(text, at);
        rig_feed(r, &stream, text + at, n - at, true, &cut, &numbers);
        same_as_whole(text, at, n);
}

static void feed_in_steps(struct redact *r, const char *text, size_t n, unsigned seed) {
        struct redact_numbers numbers;
        size_t at = 0;

        start(&numbers);
        while (at < n) {
                size_t step = seed ? 1 + (size_t)rand_r(&seed) % 9 : 1;
                if (step > n - at)
                        step = n - at;
                rig_feed(r, &stream, text + at, step, false, &cut, &numbers);
                at += step;
                no_more_than_whole(text, at);
        }
        rig_feed(r, &stream, NULL, 0, true, &cut, &numbers);
        same_as_whole(text, seed, n);
}

static void splits_of_every_row(struct redact *r, size_t stride) {
        char text[4096], redacted[4096];

        for (size_t i = 0; i < ROWS_N; i++) {
                rig_row(rows[i], text, redacted);
                size_t n = strlen(text);
                rig_whole(r, text, n, &whole);
                for (size_t at = i % stride; at <= n; at += stride)
                        feed_in_two(r, text, n, at);
                for (unsigned seed = 0; seed < 4; seed++)
                        feed_in_steps(r, text, n, seed);
        }
        redact_free(r);
}

START_TEST(any_split_gives_what_the_whole_gives) {
        splits_of_every_row(RIG_ALL(.min_score = 0.4), 1);
}
END_TEST

START_TEST(any_split_gives_the_same_with_weak_finds_and_numbers) {
        splits_of_every_row(RIG_ALL(.min_score = 0.01, .numbered = true), 4);
}
END_TEST

START_TEST(any_split_gives_the_same_where_a_find_blocks) {
        splits_of_every_row(RIG_ALL(.min_score = 0.4, .action = REDACT_BLOCKS), 4);
}
END_TEST

/* Words and patterns of an operator, one of which knows no bound. */
static const char own_rules[] =
                "pattern NOTE 0.7 note:.*end\n"
                "pattern CODE 0.9 \\bE-\\d+(?=\\D)\n"
                "word PROJECT Bluebird\nword PROJECT Project \xc3\x84pfel\nallow bluebird two\n"
                "pattern WIDE 0.5 [\\x80-\\xbf]\n";

START_TEST(any_split_gives_the_same_with_rules_of_the_operator) {
        struct redact *r = RIG_ALL(.min_score = 0.4, .rules = own_rules,
                        .n_rules = sizeof(own_rules) - 1, .rules_name = "own");
        static const char *const texts[] = {"see E-1234, E-9",
                        "bluebird and BLUEBIRDS, Project \xc3\x84pfel!",
                        "note: all of this is private end, this is not", "note: never ended",
                        "w\xc3\xa4r m\xc3\xb6g \xe6\xbc\xa2\xe5\xad\x97"};

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                size_t n = strlen(texts[i]);
                rig_whole(r, texts[i], n, &whole);
                for (size_t at = 0; at <= n; at++)
                        feed_in_two(r, texts[i], n, at);
                feed_in_steps(r, texts[i], n, 0);
        }
        redact_free(r);
}
END_TEST

/* Long texts: rows one after the other, so that buffers fill and finds lie across their ends. */
START_TEST(a_long_text_is_the_same_in_small_and_in_large_pieces) {
        static char text[48000];
        struct redact *r = RIG_ALL(.min_score = 0.4, .numbered = true);
        char row[4096], redacted[4096];
        size_t n = 0;

        for (size_t i = 0; n < 40000; i = (i * 7 + 1) % ROWS_N) {
                rig_row(rows[i], row, redacted);
                n += (size_t)sprintf(text + n, "%s%s", row, n % 3 ? " " : "\n");
        }
        rig_whole(r, text, n, &whole);
        ck_assert_uint_gt(whole.n_finds, 200);
        feed_in_steps(r, text, n, 1);
        for (size_t step = 61; step < 9000; step = step * 3 + 1) {
                struct redact_numbers numbers;
                start(&numbers);
                for (size_t at = 0; at < n; at += step)
                        rig_feed(r, &stream, text + at, n - at < step ? n - at : step,
                                        at + step >= n, &cut, &numbers);
                same_as_whole("the long text", step, n);
        }
        redact_free(r);
}
END_TEST

/* What grows beyond the bound ends the text at the same place, whatever the pieces. */
START_TEST(a_match_without_an_end_lets_nothing_through) {
        static char text[3 * REDACT_HELD];
        struct redact *r = RIG_ALL(.min_score = 0.4, .rules = own_rules,
                        .n_rules = sizeof(own_rules) - 1, .rules_name = "own");

        for (uint32_t tail = REDACT_HELD - 3; tail < REDACT_HELD + 3; tail++) {
                size_t n = (size_t)sprintf(text, "before it 192.168.1.1 note:");
                memset(text + n, 'x', tail);
                n += tail;
                n += (size_t)sprintf(text + n, "end and after");
                rig_whole(r, text, n, &whole);
                ck_assert(!strncmp(whole.text, "before it <IP_ADDRESS> <NOTE>", 29));
                ck_assert_ptr_null(strstr(whole.text, "xx"));
                if (tail > REDACT_HELD)
                        ck_assert_uint_eq(whole.n, 29);
                feed_in_two(r, text, n, n / 2);
                feed_in_two(r, text, n, 20);
                feed_in_two(r, text, n, n - 1);
                feed_in_steps(r, text, n, 1);
        }
        redact_free(r);
}
END_TEST

/* The one pattern of ours that may grow so long. */
START_TEST(a_private_key_that_is_too_long_lets_nothing_through) {
        static char text[3 * REDACT_HELD];
        struct redact *r = RIG_ALL(.min_score = 0.4);
        size_t n = (size_t)sprintf(text, "see -----BEGIN PRIVATE KEY-----");

        while (n < 2 * REDACT_HELD)
                n += (size_t)sprintf(text + n, "\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPfMIIBOgIBAAJBAKj34Gkx");
        n += (size_t)sprintf(text + n, "\n-----END PRIVATE KEY-----\nand after");
        rig_whole(r, text, n, &whole);
        ck_assert_uint_eq(whole.n, 17);
        ck_assert(!memcmp(whole.text, "see <PRIVATE_KEY>", 17));
        feed_in_two(r, text, n, n / 2);
        feed_in_two(r, text, n, 20);
        feed_in_steps(r, text, n, 7);
        redact_free(r);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("redact splits");
        TCase *tc = tcase_create("splits");
        SRunner *runner;
        int failed;

        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, any_split_gives_what_the_whole_gives);
        tcase_add_test(tc, any_split_gives_the_same_with_weak_finds_and_numbers);
        tcase_add_test(tc, any_split_gives_the_same_where_a_find_blocks);
        tcase_add_test(tc, any_split_gives_the_same_with_rules_of_the_operator);
        tcase_add_test(tc, a_long_text_is_the_same_in_small_and_in_large_pieces);
        tcase_add_test(tc, a_match_without_an_end_lets_nothing_through);
        tcase_add_test(tc, a_private_key_that_is_too_long_lets_nothing_through);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
