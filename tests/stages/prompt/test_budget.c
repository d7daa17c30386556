/* budget: what is too long is refused with both numbers; for any body and budget the output is JSON, within the budget,
 * and has what must not go. The numbers of the random bodies come from a fixed seed. */
#include "tests/stages/prompt/rig.h"

#include <fcntl.h>
#include <unistd.h>

#include "stages/assemble/budget.h"
#include "stages/engines/json/body.h"
#include "stages/engines/tokens/chat.h"
#include "stages/engines/tokens/fit.h"

#define BODY "{\"messages\":[{\"role\":\"user\",\"content\":\"one two three four five six\"}],\"max_tokens\":100}"
#define ROUNDS 2000
#define EXAMPLE "{\"role\":\"user\",\"content\":\"Wie?\"},{\"role\":\"assistant\",\"content\":\"So.\"},"

static struct body_scanner *scanner;
static struct body_found found;

/* ---- refusals ---- */

static int build_with(struct prompt_budget budget, const char *params) {
        static struct body_marks marks;
        static struct record record;

        marks = (struct body_marks){0};
        record = record_of(BODY, &marks, "\"one two three four five six\"");
        marks.max_tokens = (struct body_span){at(BODY, "100"), 3};
        if (params) {
                record.has |= HAS(params);
                record.params = (struct mr_view){params, (uint32_t)strlen(params)};
        }
        return prompt_build(&prompt, &templates, &record, NULL, &budget);
}

START_TEST(what_is_too_long_alone_is_refused_with_both_numbers) {
        ck_assert_int_eq(build_with((struct prompt_budget){110, 50, 2000, true}, NULL), PROMPT_E_CONTEXT);
        ck_assert_ptr_nonnull(strstr(prompt.message, "tokens, at most 10 are allowed"));
        ck_assert_ptr_nonnull(strstr(prompt.message, "a context of 110, 100 of them for the answer"));
        ck_assert_int_eq(build_with((struct prompt_budget){80, 50, 2000, true}, NULL), PROMPT_E_CONTEXT);
        ck_assert_ptr_nonnull(strstr(prompt.message, "at most 0 are allowed"));
        ck_assert_int_eq(build_with((struct prompt_budget){110, 50, 2000, true}, "\"max_tokens\":1"), 0);
        ck_assert_int_eq(build_with((struct prompt_budget){200, 50, 2000, true}, NULL), 0);
}
END_TEST

START_TEST(where_no_context_is_given_nothing_is_refused) {
        ck_assert_int_eq(build_with((struct prompt_budget){110, 50, 2000, false}, NULL), 0);
}
END_TEST

/* ---- any body, any budget ---- */

static uint64_t state;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016) */
static uint32_t below(uint32_t n) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 33) % n;
}

struct text {
        char p[16384];
        uint32_t n;
};

static void put(struct text *t, const char *words) {
        size_t n = strlen(words);

        ck_assert_uint_lt(t->n + n, sizeof(t->p));
        memcpy(t->p + t->n, words, n + 1);
        t->n += (uint32_t)n;
}

static void put_words(struct text *t, uint32_t n) {
        static const char *const words[] = {"mill ", "the", "\\n", "\\\"x\\\"", "caf\xc3\xa9 ", "\\u00e9\\ud83d\\ude00",
                        "\xe6\xb0\xb4\xe8\xbb\x8a", "{[,]}", "0.125 ", "</document>", "[1] ", "\\\\", "    ",
                        "aVeryLongIdentifierIndeed"};

        while (n--)
                put(t, words[below(sizeof(words) / sizeof(words[0]))]);
}

static const char *const systems[] = {"", "{\"role\":\"system\",\"content\":\"Be \\\"brief\\\".\"} , ",
                "{ \"content\" : [ {\"type\":\"text\",\"text\":\"Be \\\"brief\\\".\"} ], \"role\":\"developer\"},"};
static const char *const befores[] = {"", "\"model\" : \"m\" , ", "\"x\":1.50,\"x\":[2,{\"y\":null}],"};
static const char *const afters[] = {"", " , \"unknown\" : {\"a\" : [1.0e5, \"\\u0041\"]}", ",\"tools\":[{}]"};

/* A body; its last question stands in `question` as it does there. */
static void body_make(struct text *body, struct text *question) {
        uint32_t earlier = below(3);
        bool parts = below(2);

        body->n = question->n = 0;
        put(body, "{");
        put(body, befores[below(3)]);
        put(body, "\"messages\" : [ ");
        put(body, systems[below(3)]);
        for (uint32_t i = 0; i < earlier; i++) {
                put(body, "{\"role\":\"user\",\"content\":\"");
                put_words(body, below(60));
                put(body, "\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\"}]},");
        }
        put_words(question, 1 + below(100));
        put(body, parts ? "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}},"
                             "{\"type\":\"text\",\"text\":\""
                        : "{\"role\":\"user\",\"content\":\"");
        put(body, question->p);
        put(body, parts ? "\"}]} ]" : "\"} ]");
        put(body, afters[below(3)]);
        put(body, " }");
}

static struct history_exchange exchanges[12];
static struct text asked[12];
static char answers[12][64];

static struct history_found history_make(void) {
        struct history_found h = {.v = exchanges, .n = below(12)};

        for (uint32_t i = 0; i < h.n; i++) {
                asked[i].n = 0;
                put(&asked[i], "{\"role\":\"user\",\"content\":\"");
                put_words(&asked[i], below(40));
                put(&asked[i], "\"}");
                snprintf(answers[i], 64, "{\"role\":\"assistant\",\"content\":\"A%u\"}", i);
                exchanges[i] = (struct history_exchange){.turn = i + 1,
                                .at = i * 300u,
                                .asked = {asked[i].p, asked[i].n},
                                .answer = {answers[i], (uint32_t)strlen(answers[i])}};
        }
        return h;
}

/* The record as gateway and rag make it. */
static struct record record_make(const struct text *body, struct body_marks *marks) {
        static char first[4096], second[4096];
        struct record record = {.has = HAS(body) | HAS(body_len) | HAS(marks)};

        ck_assert_msg(body_scan(scanner, BODY_CHAT, body->p, body->n, &found) == 0, "%s: %s", found.error,
                        body->p);
        *marks = found.marks;
        record.body = (struct mr_view){body->p, body->n};
        record.body_len = body->n;
        record.marks = (struct mr_view){(const char *)marks, sizeof(*marks)};
        memset(first, 'a' + (int)below(26), sizeof(first));
        memset(second, ' ', sizeof(second));
        first[below(1500)] = second[below(1500)] = 0;
        if (below(3))
                add_documents(&record, first, second);
        if (below(2)) {
                record.has |= HAS(system);
                record.system = (struct mr_view){"House \"rule\"", 12};
        }
        return record;
}

/* By the estimator, of the whole. */
static uint64_t tokens_of(const char *out, uint32_t n) {
        static struct chat_count chat;

        chat_begin(&chat);
        chat_feed(&chat, out, n);
        chat_end(&chat);
        return fit_tokens(&(const struct fit){.factor = {1, 1, 1, 1, 1, 1}}, &chat.count);
}

static void holds(const struct text *body, const struct text *question, const struct record *record,
                const struct body_marks *marks, const struct prompt_budget *budget) {
        const char *out = whole(record);
        uint32_t n = (uint32_t)strlen(out), tail = body->n - marks->messages.off - marks->messages.len;

        ck_assert_uint_le(prompt.prompt_tokens, budget_allowed(budget));
        ck_assert_msg(body_scan(scanner, BODY_CHAT, out, n, &found) == 0, "%s: %s", found.error, out);
        ck_assert_mem_eq(out, body->p, marks->messages.off);
        ck_assert_mem_eq(out + n - tail, body->p + body->n - tail, tail);
        ck_assert_uint_le(tokens_of(out, n), budget_allowed(budget) + prompt.n_edits);
        if (marks->first_system.len)
                ck_assert_ptr_nonnull(strstr(out, "Be \\\"brief\\\"."));
        if (record->has & HAS(system))
                ck_assert_ptr_nonnull(strstr(out, "House \\\"rule\\\""));
        ck_assert_ptr_nonnull(strstr(out, EXAMPLE));
        const char *last = out + found.marks.last_user.off;
        ck_assert_ptr_nonnull(memmem(last, found.marks.last_user.len, question->p, question->n));
        for (const char *turn = strstr(out, "\"content\":\"A"); turn && turn[12] != '\0';
                        turn = strstr(turn + 1, "\"content\":\"A"))
                ck_assert(turn < last); /* the history stands before the question */
}

START_TEST(whatever_comes_the_output_is_json_within_the_budget_and_keeps_what_must_stay) {
        static struct text body, question;
        uint32_t refused = 0, fewer = 0;

        state = 20240607;
        for (int i = 0; i < ROUNDS; i++) {
                struct prompt_budget budget = {.context_tokens = 60 + below(1200),
                                .max_output_tokens = 1 + below(60),
                                .document_tokens = below(1000),
                                .enforce = true};
                struct body_marks marks;
                struct history_found history = history_make();
                body_make(&body, &question);
                struct record record = record_make(&body, &marks);
                prompt.history = below(4) ? &history : NULL;
                int r = prompt_build(&prompt, &templates, &record, NULL, &budget);
                if (r == 0) {
                        holds(&body, &question, &record, &marks, &budget);
                        fewer += prompt.history && prompt.n_history < history.n;
                        continue;
                }
                ck_assert_int_eq(r, PROMPT_E_CONTEXT);
                ck_assert_uint_gt(prompt.prompt_tokens, budget_allowed(&budget));
                ck_assert_uint_eq(prompt.n_documents, 0);
                ck_assert_uint_eq(prompt.n_history, 0);
                refused++;
        }
        prompt.history = NULL;
        ck_assert_uint_gt(refused, ROUNDS / 50); /* every branch is walked often */
        ck_assert_uint_lt(refused, ROUNDS / 2);
        ck_assert_uint_gt(fewer, ROUNDS / 50);
}
END_TEST

START_TEST(the_same_input_gives_the_same_bytes) {
        static char before[PROMPT_LITERAL_MAX];
        static struct text body, question;

        state = 7;
        for (int i = 0; i < 50; i++) {
                struct body_marks marks;
                struct history_found history = history_make();
                body_make(&body, &question);
                struct record record = record_make(&body, &marks);
                prompt.history = &history;
                ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
                memcpy(before, whole(&record), strlen(whole(&record)) + 1);
                ck_assert_int_eq(prompt_build(&prompt, &templates, &record, NULL, &wide), 0);
                ck_assert_str_eq(before, whole(&record));
        }
        prompt.history = NULL;
}
END_TEST

static int setup(struct settings *settings, char *path) {
        static const char yaml[] = "- {user: 'Wie?', assistant: 'So.'}\n";
        int fd = mkstemp(path);

        if (fd < 0 || write(fd, yaml, sizeof(yaml) - 1) != (ssize_t)sizeof(yaml) - 1)
                return -1;
        close(fd);
        settings->assemble.few_shot = strdup(path);
        return templates_init(&templates, settings);
}

int main(void) {
        char path[] = "/tmp/millrace-budget-XXXXXX";
        Suite *suite = suite_create("budget");
        TCase *tcase = tcase_create("budget");
        struct settings *settings;

        if (prompt_init(&prompt, no_pages) || settings_default(&settings) || setup(settings, path) ||
                        body_scanner_new(&scanner))
                return EXIT_FAILURE;
        unlink(path);
        tcase_set_timeout(tcase, 300);
        tcase_add_test(tcase, what_is_too_long_alone_is_refused_with_both_numbers);
        tcase_add_test(tcase, where_no_context_is_given_nothing_is_refused);
        tcase_add_test(tcase, whatever_comes_the_output_is_json_within_the_budget_and_keeps_what_must_stay);
        tcase_add_test(tcase, the_same_input_gives_the_same_bytes);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        prompt_close(&prompt);
        templates_close(&templates);
        body_scanner_free(scanner);
        settings_free(settings);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
