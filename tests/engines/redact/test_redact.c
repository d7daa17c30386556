#include "redact_rig.h"
#include "rows.h"

static struct rig_out out;

/* ---- refusals ---- */

static void refused(const struct redact_options *options, const char *why_not) {
        struct redact_why why = {""};
        struct redact *r = NULL;

        ck_assert_msg(redact_new(options, &r, &why) == REDACT_E_RULES, "taken: %s",
                        options->rules ? options->rules : why_not);
        ck_assert_ptr_null(r);
        ck_assert_msg(strstr(why.text, why_not), "said: %s, not: %s", why.text, why_not);
}

START_TEST(entities_that_nobody_knows_are_refused) {
        refused(&(struct redact_options){.entities = (const char *const[]){"EMAIL_ADRESS"},
                                .n_entities = 1},
                        "there is no entity EMAIL_ADRESS");
        refused(&(struct redact_options){.choices = &(struct redact_choice){"NONE", REDACT_AS_MASK},
                                .n_choices = 1},
                        "there is no entity NONE");
}
END_TEST

START_TEST(broken_rules_are_refused_with_file_and_line) {
        static const struct {
                const char *rules, *why;
        } cases[] = {
                        {"# fine\n\nfind X 0.5 x\n",
                                        "own.rules:3: pattern, word, allow or context"},
                        {"pattern X\n", "own.rules:1: a score above 0"},
                        {"pattern X 1.5 y\n", "own.rules:1: a score above 0"},
                        {"pattern X 0.5\n", "own.rules:1: a pattern was expected"},
                        {"pattern lower 0.5 y\n", "own.rules:1: an entity's name"},
                        {"\npattern X 0.5 (y\n", "own.rules:2: missing closing parenthesis"},
                        {"pattern X 0.5 y*\n", "own.rules:1: the pattern matches nothing at all"},
                        {"pattern X 0.5 (a+)+$b\n",
                                        "own.rules:1: the pattern needs too many steps"},
                        {"pattern X 0.5 (\\w+\\s?)*!\n",
                                        "own.rules:1: the pattern needs too many steps"},
                        {"pattern X 0.5 (.*)(.*)(.*)z#\n",
                                        "own.rules:1: the pattern needs too many steps"},
                        {"word X\n", "own.rules:1: a word of two bytes"},
                        {"allow\n", "own.rules:1: a value"},
                        {"context X\n", "own.rules:1: context words"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                refused(&(struct redact_options){.rules = cases[i].rules,
                                        .n_rules = strlen(cases[i].rules),
                                        .rules_name = "own.rules"},
                                cases[i].why);
}
END_TEST

/* ---- what is found ---- */

START_TEST(each_row_has_the_finds_that_it_says) {
        struct redact *r = RIG_ALL(.min_score = 0.4);
        char text[4096], redacted[4096];

        for (size_t i = 0; i < ROWS_N; i++) {
                rig_row(rows[i], text, redacted);
                rig_whole(r, text, strlen(text), &out);
                ck_assert_str_eq(out.text, redacted);
        }
        redact_free(r);
}
END_TEST

START_TEST(only_the_entities_asked_for_are_found) {
        const char *const two[] = {"EMAIL_ADDRESS", "UK_NHS"}, *const core[] = {"core"};
        static const char text[] = "a@example.com 192.168.1.1 nhs 943 476 5919";
        struct redact *r = rig_rules(&(struct redact_options){
                        .entities = two, .n_entities = 2, .min_score = 0.4});

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text, "<EMAIL_ADDRESS> 192.168.1.1 nhs <UK_NHS>");
        redact_free(r);
        r = rig_rules(&(struct redact_options){
                        .entities = core, .n_entities = 1, .min_score = 0.5});
        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text, "<EMAIL_ADDRESS> <IP_ADDRESS> nhs 943 476 5919");
        redact_free(r);
}
END_TEST

START_TEST(a_context_word_among_the_five_before_lifts_a_weak_find) {
        struct redact *r = RIG_ALL(.min_score = 0.4);
        static const struct {
                const char *in, *out;
        } cases[] = {
                        {"the ssn of it is 536904399", "the ssn of it is <US_SSN>"},
                        {"ssn one two three four five 536904399",
                                        "ssn one two three four five 536904399"},
                        {"536904399 is a ssn", "536904399 is a ssn"},
                        {"SOCIALS: 536904399", "SOCIALS: <US_SSN>"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                rig_whole(r, cases[i].in, strlen(cases[i].in), &out);
                ck_assert_str_eq(out.text, cases[i].out);
        }
        redact_free(r);
}
END_TEST

START_TEST(of_finds_that_overlap_the_better_score_wins_then_the_longer) {
        static const char rules[] =
                        "pattern LOW 0.5 abcdef\npattern HIGH 0.9 cde\npattern LONG 0.9 cdefg\n";
        struct redact *r = rig_rules(&(struct redact_options){.min_score = 0.4,
                        .rules = rules,
                        .n_rules = sizeof(rules) - 1,
                        .rules_name = "r"});

        rig_whole(r, "abcdefgh abcdef", 15, &out);
        ck_assert_str_eq(out.text, "ab<LONG>h ab<HIGH>f");
        redact_free(r);
}
END_TEST

START_TEST(words_values_and_patterns_of_the_operator_are_heard) {
        static const char rules[] = "word PROJECT Bluebird\nword PROJECT Blue (fin)\n"
                                    "allow me@example.com\npattern TICKET 0.2 T-\\d{3,9}\n"
                                    "context TICKET ticket\n";
        struct redact *r = RIG_ALL(.min_score = 0.4, .rules = rules, .n_rules = sizeof(rules) - 1,
                        .rules_name = "r");
        static const char text[] = "BLUEBIRD, bluebirds, blue (fin) me@example.com you@example.com "
                                   "T-123 ticket T-123";

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text, "<PROJECT>, bluebirds, <PROJECT> me@example.com <EMAIL_ADDRESS> "
                                   "T-123 ticket <TICKET>");
        redact_free(r);
}
END_TEST

START_TEST(a_find_never_cuts_a_character) {
        static const char rules[] = "pattern HALF 0.9 \\xc3\npattern TAIL 0.9 \\x98\\x80\n";
        struct redact *r = rig_rules(&(struct redact_options){.min_score = 0.4,
                        .rules = rules,
                        .n_rules = sizeof(rules) - 1,
                        .rules_name = "r"});
        static const char text[] = "a\xc3\xa4z \xf0\x9f\x98\x80!";

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text, "a<HALF>z <TAIL>!");
        redact_free(r);
}
END_TEST

/* ---- what is done about it ---- */

START_TEST(each_action_does_what_it_says) {
        static const struct redact_choice choices[] = {{"EMAIL_ADDRESS", REDACT_AS_MASK},
                        {"IP_ADDRESS", REDACT_AS_NOTHING}, {"US_SSN", REDACT_AS_HASH}};
        static const char text[] =
                        "j\xc3\xbc@b-c.org, 10.0.0.1; 536-90-4399 536-90-4399 00:1B:44:11:3A:B7";
        struct redact *r = RIG_ALL(.min_score = 0.4, .choices = choices, .n_choices = 3,
                        .key = (const uint8_t *)"key", .n_key = 3);
        char *first, *second;

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert(!strncmp(out.text, "**@*-*.***, ; <US_SSN:", 22));
        first = strstr(out.text, "<US_SSN:");
        second = strstr(first + 1, "<US_SSN:");
        ck_assert_ptr_nonnull(second);
        ck_assert(!strncmp(first, second, strlen("<US_SSN:0123456789abcdef>")));
        ck_assert_ptr_nonnull(strstr(out.text, " <MAC_ADDRESS>"));
        redact_free(r);

        char before[64];
        snprintf(before, sizeof(before), "%.25s", first);
        r = RIG_ALL(.min_score = 0.4, .choices = choices, .n_choices = 3,
                        .key = (const uint8_t *)"other", .n_key = 5);
        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_ptr_null(strstr(out.text, before));
        redact_free(r);
}
END_TEST

START_TEST(numbers_tell_values_apart) {
        static const char text[] = "a@x.com b@x.com a@x.com 10.0.0.1 b@x.com";
        struct redact *r = RIG_ALL(.min_score = 0.4, .numbered = true);

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text,
                        "<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2> <EMAIL_ADDRESS_1> <IP_ADDRESS_1> "
                        "<EMAIL_ADDRESS_2>");
        redact_free(r);
}
END_TEST

START_TEST(after_a_find_that_blocks_nothing_goes_on) {
        static const struct redact_choice block = {"IP_ADDRESS", REDACT_BLOCKS};
        static const char text[] = "a@x.com 10.0.0.1 b@x.com";
        struct redact *r = RIG_ALL(.min_score = 0.4, .choices = &block, .n_choices = 1);

        rig_whole(r, text, sizeof(text) - 1, &out);
        ck_assert_str_eq(out.text, "<EMAIL_ADDRESS> <IP_ADDRESS>");
        ck_assert_uint_eq(out.n_blocked, 1);
        rig_whole(r, "c@x.com", 7, &out); /* the next text starts anew */
        ck_assert_str_eq(out.text, "<EMAIL_ADDRESS>");
        redact_free(r);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("redact");
        TCase *refusals = tcase_create("refusals"), *finds = tcase_create("finds");
        TCase *actions = tcase_create("actions");
        SRunner *runner;
        int failed;

        tcase_add_test(refusals, entities_that_nobody_knows_are_refused);
        tcase_add_test(refusals, broken_rules_are_refused_with_file_and_line);
        tcase_add_test(finds, each_row_has_the_finds_that_it_says);
        tcase_add_test(finds, only_the_entities_asked_for_are_found);
        tcase_add_test(finds, a_context_word_among_the_five_before_lifts_a_weak_find);
        tcase_add_test(finds, of_finds_that_overlap_the_better_score_wins_then_the_longer);
        tcase_add_test(finds, words_values_and_patterns_of_the_operator_are_heard);
        tcase_add_test(finds, a_find_never_cuts_a_character);
        tcase_add_test(actions, each_action_does_what_it_says);
        tcase_add_test(actions, numbers_tell_values_apart);
        tcase_add_test(actions, after_a_find_that_blocks_nothing_goes_on);
        tcase_set_timeout(refusals, 60);
        suite_add_tcase(suite, refusals);
        suite_add_tcase(suite, finds);
        suite_add_tcase(suite, actions);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
