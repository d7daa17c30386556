/* history: which turns of a session fit, and where they stand. */
#include "tests/stages/prompt/rig.h"

#include "stages/engines/tokens/tokens.h"

#define BODY "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"}, {\"role\":\"user\",\"content\":\"q\"}]}"
#define TURNS 40u

static struct history_exchange exchanges[TURNS];
static struct history_found found;
static const struct fit plain = {.factor = {1, 1, 1, 1, 1, 1}};
static char asked[TURNS][64], answers[TURNS][64];

/* Turns first..last of a session; each third one has two exchanges. */
static void session(uint64_t first, uint64_t last, uint64_t cut) {
        found = (struct history_found){.v = exchanges, .cut = cut};
        for (uint64_t turn = first; turn <= last; turn++) {
                for (int k = 0; k < (turn % 3 == 0 ? 2 : 1); k++) {
                        uint32_t i = found.n++;
                        snprintf(asked[i], 64, "{\"role\":\"%s\",\"content\":\"%u\"}", k ? "tool" : "user",
                                        (unsigned)turn);
                        snprintf(answers[i], 64, "{\"role\":\"assistant\",\"content\":\"%u\"}",
                                        (unsigned)turn);
                        exchanges[i] = (struct history_exchange){.turn = turn,
                                        .at = (turn - 1) * 100 + (uint64_t)k * 50,
                                        .asked = {asked[i], (uint32_t)strlen(asked[i])},
                                        .answer = {answers[i], (uint32_t)strlen(answers[i])}};
                }
        }
}

static uint64_t first_turn(uint64_t context, uint64_t tokens) {
        struct history_slice slice = history_fit(&found, context, tokens, &plain);

        ck_assert_uint_le(history_tokens(slice, &plain), tokens);
        ck_assert_ptr_eq(slice.n ? slice.v + slice.n : NULL, slice.n ? found.v + found.n : NULL);
        return slice.n ? slice.v[0].turn : 0;
}

START_TEST(without_room_or_turns_there_is_no_history) {
        session(1, 0, 0);
        ck_assert_uint_eq(first_turn(8192, 1000), 0);
        session(1, 3, 0);
        ck_assert_uint_eq(first_turn(8192, 0), 0);
        ck_assert_uint_eq(first_turn(8192, 3), 0);
}
END_TEST

START_TEST(all_that_fits_is_there_and_a_turn_is_never_cut) {
        session(1, 9, 0);
        uint64_t all = history_tokens((struct history_slice){found.v, found.n}, &plain);
        ck_assert_uint_eq(first_turn(100000, all), 1);
        for (uint64_t tokens = 0; tokens <= all; tokens++) {
                struct history_slice slice = history_fit(&found, 100000, tokens, &plain);
                if (slice.n && slice.v > found.v)
                        ck_assert_uint_ne(slice.v[0].turn, slice.v[-1].turn);
        }
}
END_TEST

/* The cut lies where 500 bytes of the session have passed, so it stays while five turns come. */
START_TEST(the_cut_moves_in_steps) {
        uint64_t before = 0;
        uint32_t moves = 0;

        for (uint64_t last = 10; last <= 25; last++) {
                session(1, last, 0);
                uint64_t first = first_turn(500, 400);
                ck_assert_uint_eq(first % 5, 1);
                moves += first != before;
                before = first;
        }
        ck_assert_uint_le(moves, 5);
}
END_TEST

START_TEST(where_no_step_fits_the_last_whole_turns_do) {
        session(4, 8, 0); /* turn 6 begins in the cell of turn 5, turn 1 is not there */
        for (uint32_t i = 0; i < found.n; i++)
                exchanges[i].at = 1;
        ck_assert_uint_eq(first_turn(1000, 40), history_fit(&found, 1, 40, &plain).v[0].turn);
        ck_assert_uint_gt(first_turn(1000, 40), 4);
}
END_TEST

START_TEST(history_stands_between_system_and_question) {
        struct body_marks marks = {0};
        struct record record = record_of(BODY, &marks, "\"q\"");

        marks.first_system = (struct body_span){at(BODY, "\"S\""), 3};
        marks.conversation.off = at(BODY, "{\"role\":\"user\"");
        marks.conversation.len = (uint32_t)strlen(BODY) - 2 - marks.conversation.off;
        session(1, 1, 0);
        prompt.history = &found;
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
        ck_assert_str_eq(whole(&record),
                        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"}, "
                        "{\"role\":\"user\",\"content\":\"1\"},{\"role\":\"assistant\",\"content\":\"1\"},"
                        "{\"role\":\"user\",\"content\":\"q\"}]}");
        ck_assert_uint_eq(prompt.n_history, 1);
        prompt.history = NULL;
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
        ck_assert_str_eq(whole(&record), BODY);
        ck_assert_uint_eq(prompt.n_history, 0);
}
END_TEST

START_TEST(history_has_its_room_before_documents) {
        struct body_marks marks = {0};
        struct record record = record_of(BODY, &marks, "\"q\"");
        struct prompt_budget budget = {.context_tokens = 320, .max_output_tokens = 100, .document_tokens = 2000};

        add_documents(&record, "a document of some words", "another document of some words");
        session(1, 5, 0);
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &budget), 0);
        uint32_t alone = prompt.n_documents;
        ck_assert_uint_gt(alone, 0);
        prompt.history = &found;
        ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &budget), 0);
        ck_assert_uint_eq(prompt.n_history, found.n);
        ck_assert_uint_lt(prompt.n_documents, alone);
        prompt.history = NULL;
}
END_TEST

int main(void) {
        Suite *suite = suite_create("history");
        TCase *tcase = tcase_create("history");
        struct settings *settings;

        if (prompt_init(&prompt, no_pages) || settings_default(&settings) || templates_init(&templates, settings))
                return EXIT_FAILURE;
        tcase_add_test(tcase, without_room_or_turns_there_is_no_history);
        tcase_add_test(tcase, all_that_fits_is_there_and_a_turn_is_never_cut);
        tcase_add_test(tcase, the_cut_moves_in_steps);
        tcase_add_test(tcase, where_no_step_fits_the_last_whole_turns_do);
        tcase_add_test(tcase, history_stands_between_system_and_question);
        tcase_add_test(tcase, history_has_its_room_before_documents);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        prompt_close(&prompt);
        templates_close(&templates);
        settings_free(settings);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
