#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openai_tape.h"

/* ---- refusals ---- */

static int add_until_it_fails(struct openai_whole *w, const struct record *r, uint32_t times) {
        int e = 0;

        for (uint32_t i = 0; i < times && e == 0; i++)
                e = openai_whole_add(w, r);
        return e;
}

START_TEST(an_answer_over_the_limit_is_too_large) {
        struct openai_whole *w;

        ck_assert_int_eq(openai_whole_new(&w, 0, 100), 0);
        ck_assert_int_eq(add_until_it_fails(w, tape_text(0, NULL, "0123456789"), 10), 0);
        ck_assert_int_eq(openai_whole_add(w, tape_text(0, NULL, "x")), WHOLE_E_LARGE);
        openai_whole_free(w);
}
END_TEST

START_TEST(more_choices_tools_or_members_than_the_limits_are_too_large) {
        struct openai_whole *w;
        char extra[64];
        int e = 0;

        ck_assert_int_eq(openai_whole_new(&w, 0, TAPE_BYTES), 0);
        ck_assert_int_eq(openai_whole_add(w, tape_text(127, NULL, "x")), 0);
        ck_assert_int_eq(openai_whole_add(w, tape_text(128, NULL, "x")), WHOLE_E_LARGE);
        tape_record()->has = HAS(extra);
        tape.records[tape.n - 1].extra = tape_view("\"choices\":[{\"index\":128}]");
        ck_assert_int_eq(openai_whole_add(w, &tape.records[tape.n - 1]), WHOLE_E_LARGE);
        for (uint32_t i = 0; i <= WHOLE_TOOLS_MAX && e == 0; i++) {
                tape_clear();
                e = openai_whole_add(w, tape_tool(0, i, "", "", ""));
                ck_assert(e == 0 || i == WHOLE_TOOLS_MAX);
        }
        ck_assert_int_eq(e, WHOLE_E_LARGE);
        e = 0;
        for (uint32_t i = 0; i <= WHOLE_MEMBERS_MAX && e == 0; i++) {
                struct record r = {.has = HAS(extra)};

                r.extra = (struct mr_view){
                                extra, (uint32_t)snprintf(extra, sizeof(extra), "\"%u\":1", i)};
                e = openai_whole_add(w, &r);
                ck_assert(e == 0 || i == WHOLE_MEMBERS_MAX);
        }
        ck_assert_int_eq(e, WHOLE_E_LARGE);
        openai_whole_free(w);
}
END_TEST

START_TEST(a_member_that_comes_with_every_chunk_counts_once) {
        struct openai_whole *w;
        struct record r = {.has = HAS(extra)};

        r.extra = tape_view("\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,"
                            "\"matched\":\"same\",\"delta\":{\"provider\":\"them\"}}]");
        ck_assert_int_eq(openai_whole_new(&w, 0, 200), 0);
        ck_assert_int_eq(add_until_it_fails(w, &r, 1000), 0);
        openai_whole_free(w);
}
END_TEST

/* ---- behaviour ---- */

START_TEST(an_answer_without_words_is_an_empty_one) {
        yajl_val v;

        tape_done("stop");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "id", "chatcmpl-req_01");
        expect_string(v, "object", "chat.completion");
        expect_number(v, "created", "1700000000");
        expect_string(v, "model", "public \"name\"");
        expect_number(v, "choices.0.index", "0");
        expect_string(v, "choices.0.message.role", "assistant");
        expect_string(v, "choices.0.message.content", "");
        expect_null(v, "choices.0.message.refusal");
        expect_absent(v, "choices.0.message.tool_calls");
        expect_null(v, "choices.0.logprobs");
        expect_string(v, "choices.0.finish_reason", "stop");
        expect_number(v, "usage.total_tokens", "18");
        expect_absent(v, "sources");
}
END_TEST

START_TEST(texts_are_joined_for_each_choice_and_kind) {
        yajl_val v;

        tape_text(0, "reasoning", "let me ");
        tape_text(1, NULL, "zwei");
        tape_text(0, "reasoning", "see");
        tape_text(0, NULL, "on\"e ");
        tape_text(2, "refusal", "I will ");
        tape_text(0, NULL, "more");
        tape_text(2, "refusal", "not");
        tape_done("stop");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "choices.0.message.content", "on\"e more");
        expect_string(v, "choices.0.message.reasoning_content", "let me see");
        expect_string(v, "choices.1.message.content", "zwei");
        expect_absent(v, "choices.1.message.reasoning_content");
        expect_null(v, "choices.2.message.content");
        expect_string(v, "choices.2.message.refusal", "I will not");
}
END_TEST

START_TEST(tool_calls_are_put_together_by_their_index) {
        yajl_val v;

        tape_tool(0, 1, "call_b", "second", "");
        tape_tool(0, 0, "call_a", "first", "{\"x\":");
        tape_tool(0, 1, "", "", "[1");
        tape_tool(0, 0, "", "", "\"y\"}");
        tape_tool(0, 1, "ignored", "too", "]");
        tape_done("tool_calls");
        v = json_tree(whole_answer(&chat));
        expect_null(v, "choices.0.message.content");
        expect_string(v, "choices.0.message.tool_calls.0.id", "call_a");
        expect_string(v, "choices.0.message.tool_calls.0.type", "function");
        expect_string(v, "choices.0.message.tool_calls.0.function.name", "first");
        expect_string(v, "choices.0.message.tool_calls.0.function.arguments", "{\"x\":\"y\"}");
        expect_string(v, "choices.0.message.tool_calls.1.id", "call_b");
        expect_string(v, "choices.0.message.tool_calls.1.function.arguments", "[1]");
        expect_absent(v, "choices.0.message.tool_calls.2");
        expect_string(v, "choices.0.finish_reason", "tool_calls");
}
END_TEST

START_TEST(members_of_a_call_fold_like_those_of_a_delta) {
        yajl_val v;

        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\","
                   "\"type\":\"custom\",\"custom\":{\"name\":\"g\",\"input\":\"one \"}},{\"index\":0,"
                   "\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\",\"x\":1},\"extra_content\":"
                   "{\"google\":{\"thought_signature\":\"s\"}},\"n\":null}]}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"custom\":{"
                   "\"input\":\"two\"}},{\"index\":0,\"function\":{\"arguments\":\"{}\",\"x\":2}}]}}]}");
        tape_done("tool_calls");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "choices.0.message.tool_calls.0.type", "function");
        expect_string(v, "choices.0.message.tool_calls.0.function.arguments", "{}");
        expect_number(v, "choices.0.message.tool_calls.0.function.x", "2");
        expect_string(v, "choices.0.message.tool_calls.0.extra_content.google.thought_signature", "s");
        expect_null(v, "choices.0.message.tool_calls.0.n");
        expect_string(v, "choices.0.message.tool_calls.1.id", "b");
        expect_string(v, "choices.0.message.tool_calls.1.type", "custom");
        expect_string(v, "choices.0.message.tool_calls.1.custom.input", "one two");
        expect_string(v, "choices.0.message.tool_calls.1.custom.name", "g");
        expect_absent(v, "choices.0.message.tool_calls.1.function");
}
END_TEST

START_TEST(logprobs_are_joined_in_order) {
        yajl_val v;

        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{"
                   "\"content\":[{\"token\":\"a\",\"logprob\":-1}],\"refusal\":null}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"logprobs\":{"
                   "\"content\":[ {\"token\":\"b\",\"logprob\":-2}, {\"token\":\"c\"} ]}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"logprobs\":{"
                   "\"content\":[ ],\"refusal\":[{\"token\":\"no\"}]}}]}");
        tape_done("stop");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "choices.0.logprobs.content.0.token", "a");
        expect_string(v, "choices.0.logprobs.content.1.token", "b");
        expect_number(v, "choices.0.logprobs.content.1.logprob", "-2");
        expect_string(v, "choices.0.logprobs.content.2.token", "c");
        expect_absent(v, "choices.0.logprobs.content.3");
        expect_string(v, "choices.0.logprobs.refusal.0.token", "no");
}
END_TEST

START_TEST(unknown_members_are_kept_and_the_last_counts) {
        yajl_val v;

        tape_chunk("{\"system_fingerprint\":\"long first\",\"citations\":[1],\"choices\":[{"
                   "\"index\":0,\"delta\":{\"content\":\"a\",\"name\":\"n\"},\"token_ids\":[1,2],"
                   "\"stop_reason\":\"long\",\"seen\":1}]}");
        tape_chunk("{\"system_fingerprint\":\"short\",\"citations\":[1,2],\"choices\":[{"
                   "\"index\":0,\"delta\":{\"content\":\"b\",\"name\":null,\"annotations\":[{}]},"
                   "\"token_ids\":[3],\"stop_reason\":7,\"seen\":\"longer than before\"}]}");
        tape_chunk("{\"timings\":{\"ms\":2},\"choices\":[{\"index\":0,\"delta\":{\"annotations\":"
                   "[[1]]},\"stop_reason\":7.50}]}");
        tape_done("stop");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "system_fingerprint", "short");
        expect_number(v, "citations.1", "2");
        expect_absent(v, "citations.2");
        expect_number(v, "timings.ms", "2");
        expect_number(v, "choices.0.token_ids.2", "3");
        expect_number(v, "choices.0.stop_reason", "7.50");
        expect_string(v, "choices.0.seen", "longer than before");
        expect_string(v, "choices.0.message.name", "n");
        expect_number(v, "choices.0.message.annotations.1.0", "1");
        expect_string(v, "choices.0.message.content", "ab");
}
END_TEST

START_TEST(a_legacy_function_call_is_put_together) {
        yajl_val v;

        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\","
                   "\"arguments\":\"\"}}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\"{"
                   "\\\"a\\\"\"}}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\":1}\""
                   "}}}]}");
        tape_done("function_call");
        v = json_tree(whole_answer(&chat));
        expect_null(v, "choices.0.message.content");
        expect_string(v, "choices.0.message.function_call.name", "f");
        expect_string(v, "choices.0.message.function_call.arguments", "{\"a\":1}");
}
END_TEST

START_TEST(a_member_may_change_its_kind) {
        static const char *const values[] = {"[1]", "{\"a\":[1]}", "\"s\"", "null", "[2]", "[3]",
                        "null"};
        char chunk[256];
        yajl_val v;

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
                snprintf(chunk, sizeof(chunk),
                                "{\"choices\":[{\"index\":0,\"x\":%s,\"delta\":{\"y\":{\"z\":%s}}}"
                                "]}",
                                values[i], values[i]);
                tape_chunk(chunk);
        }
        tape_done("stop");
        v = json_tree(whole_answer(&chat));
        expect_number(v, "choices.0.x.0", "2");
        expect_number(v, "choices.0.x.1", "3");
        expect_number(v, "choices.0.message.y.z.1", "3");
}
END_TEST

START_TEST(each_choice_has_its_own_finish_reason) {
        yajl_val v;

        tape_text(2, NULL, "c");
        tape_chunk("{\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}");
        tape_done("content_filter");
        v = json_tree(whole_answer(&chat));
        expect_string(v, "choices.0.finish_reason", "content_filter");
        expect_string(v, "choices.1.finish_reason", "length");
        expect_string(v, "choices.2.finish_reason", "content_filter");
        expect_absent(v, "choices.3");
}
END_TEST

START_TEST(usage_details_and_sources_are_those_of_the_end) {
        struct record *done;
        yajl_val v;

        tape_chunk("{\"sources\":[\"theirs\"],\"choices\":[]}");
        done = tape_done("stop");
        done->has |= HAS(extra);
        done->extra = tape_view("\"usage\":{\"prompt_tokens\":1,\"cost\":0.25}");
        v = json_tree(whole_answer(&chat));
        expect_number(v, "usage.cost", "0.25");
        expect_string(v, "sources.0", "theirs");
        tape_sources(done, 2);
        v = json_tree(whole_answer(&chat));
        expect_string(v, "sources.1.id", "doc-1");
        expect_null(v, "sources.0.url");
        expect_absent(v, "sources.2");
}
END_TEST

START_TEST(legacy_completions_come_whole_too) {
        yajl_val v;

        tape_text(0, NULL, "one ");
        tape_text(0, NULL, "two");
        tape_record()->has = HAS(extra);
        tape.records[tape.n - 1].extra = tape_view(
                        "\"choices\":[{\"index\":0,\"logprobs\":{\"tokens\":[\"a\"],"
                        "\"text_offset\":[0]}}]");
        tape_record()->has = HAS(extra);
        tape.records[tape.n - 1].extra = tape_view(
                        "\"choices\":[{\"index\":0,\"logprobs\":{\"tokens\":[\"b\"],"
                        "\"text_offset\":[4]}}]");
        tape_done("length");
        v = json_tree(whole_answer(&legacy));
        expect_string(v, "id", "cmpl-req_01");
        expect_string(v, "object", "text_completion");
        expect_string(v, "choices.0.text", "one two");
        expect_absent(v, "choices.0.message");
        expect_string(v, "choices.0.logprobs.tokens.1", "b");
        expect_number(v, "choices.0.logprobs.text_offset.1", "4");
        expect_string(v, "choices.0.finish_reason", "length");
}
END_TEST

/* ---- a naive reader of the chunks sees what the whole answer says ---- */

#define CHOICES 3u
#define TOOLS 3u
#define TEXT_MAX 65536u

struct naive {
        char content[TEXT_MAX], reasoning[TEXT_MAX], refusal[TEXT_MAX], finish[64];
        struct {
                char id[64], name[64], arguments[TEXT_MAX];
        } tools[TOOLS];
        char tokens[TEXT_MAX]; /* of logprobs.content */
};
static struct naive naive[CHOICES];
static char fingerprint[64];

static void join(char *to, yajl_val from, const char *path) {
        const char *text = YAJL_GET_STRING(json_at(from, path));

        if (text) {
                ck_assert_uint_lt(strlen(to) + strlen(text), TEXT_MAX);
                memcpy(to + strlen(to), text, strlen(text) + 1);
        }
}

static void tokens_of(char *to, yajl_val choice) {
        yajl_val list = json_at(choice, "logprobs.content");

        for (size_t i = 0; list && i < list->u.array.len; i++)
                join(to, list->u.array.values[i], "token");
}

static void naive_choice(yajl_val choice) {
        unsigned long index = strtoul(YAJL_GET_NUMBER(json_at(choice, "index")), NULL, 10);
        yajl_val tools = json_at(choice, "delta.tool_calls");
        struct naive *to = &naive[index];

        ck_assert_uint_lt(index, CHOICES);
        join(to->content, choice, "delta.content");
        join(to->reasoning, choice, "delta.reasoning_content");
        join(to->refusal, choice, "delta.refusal");
        join(to->finish, choice, "finish_reason");
        tokens_of(to->tokens, choice);
        for (size_t i = 0; tools && i < tools->u.array.len; i++) {
                yajl_val tool = tools->u.array.values[i];
                unsigned long n = strtoul(YAJL_GET_NUMBER(json_at(tool, "index")), NULL, 10);

                join(to->tools[n].id, tool, "id");
                join(to->tools[n].name, tool, "function.name");
                join(to->tools[n].arguments, tool, "function.arguments");
        }
}

static void naive_chunk(const char *text) {
        yajl_val v = json_tree(text), choices = json_at(v, "choices");
        const char *print = YAJL_GET_STRING(json_at(v, "system_fingerprint"));

        for (size_t i = 0; i < choices->u.array.len; i++)
                naive_choice(choices->u.array.values[i]);
        if (print)
                snprintf(fingerprint, sizeof(fingerprint), "%s", print);
}

static void expect_same(yajl_val choice, const char *path, const char *want) {
        const char *got = YAJL_GET_STRING(json_at(choice, path));

        ck_assert_msg(strcmp(got ? got : "", want) == 0, "%s: %s, but chunks said %s", path, got,
                        want);
}

static void expect_naive(yajl_val whole) {
        char tokens[TEXT_MAX];

        for (size_t i = 0; i < json_at(whole, "choices")->u.array.len; i++) {
                yajl_val choice = json_at(whole, "choices")->u.array.values[i];
                yajl_val tools = json_at(choice, "message.tool_calls");
                const struct naive *want = &naive[strtoul(
                                YAJL_GET_NUMBER(json_at(choice, "index")), NULL, 10)];
                size_t place = 0;

                expect_same(choice, "message.content", want->content);
                expect_same(choice, "message.reasoning_content", want->reasoning);
                expect_same(choice, "message.refusal", want->refusal);
                expect_same(choice, "finish_reason", want->finish);
                tokens[0] = '\0';
                tokens_of(tokens, choice);
                ck_assert_str_eq(tokens, want->tokens);
                for (unsigned n = 0; n < TOOLS; n++) {
                        if (!want->tools[n].id[0])
                                continue;
                        expect_same(tools->u.array.values[place], "id", want->tools[n].id);
                        expect_same(tools->u.array.values[place], "function.name",
                                        want->tools[n].name);
                        expect_same(tools->u.array.values[place], "function.arguments",
                                        want->tools[n].arguments);
                        place++;
                }
                ck_assert_uint_eq(tools ? tools->u.array.len : 0, place);
        }
        if (fingerprint[0])
                expect_string(whole, "system_fingerprint", fingerprint);
}

static uint32_t seed;
static uint32_t dice(uint32_t n) {
        seed = seed * 1664525u + 1013904223u;
        return (seed >> 8) % n;
}

/* One chunk of a backend that does a bit of everything. */
static void random_chunk(bool begun[CHOICES][TOOLS]) {
        static const char *const texts[] = {"", "a", "word ", "\\\"q\\\"", "\\n", "\xc3\xa9\\u0001",
                        "\\ud83d\\ude00"};
        static const char *const members[] = {"content", "reasoning_content", "refusal"};
        uint32_t c = dice(CHOICES), t = dice(TOOLS), what = dice(6);
        const char *text = texts[dice(7)];
        char json[1024];

        if (what < 3)
                snprintf(json, sizeof(json),
                                "{\"choices\":[{\"index\":%u,\"delta\":{\"%s\":\"%s\"}}]}", c,
                                members[what], text);
        else if (what == 3 && !begun[c][t])
                snprintf(json, sizeof(json),
                                "{\"choices\":[{\"index\":%u,\"delta\":{\"tool_calls\":[{\"index\":"
                                "%u,\"id\":\"call_%u_%u\",\"type\":\"function\",\"function\":{"
                                "\"name\":\"f%u\",\"arguments\":\"%s\"}}]}}]}",
                                c, t, c, t, t, text);
        else if (what == 3)
                snprintf(json, sizeof(json),
                                "{\"choices\":[{\"index\":%u,\"delta\":{\"tool_calls\":[{\"index\":"
                                "%u,\"function\":{\"arguments\":\"%s\"}}]}}]}",
                                c, t, text);
        else if (what == 4)
                snprintf(json, sizeof(json),
                                "{\"choices\":[{\"index\":%u,\"delta\":{\"content\":\"%s\"},"
                                "\"logprobs\":{\"content\":[{\"token\":\"%s\"}]}}]}",
                                c, text, text);
        else
                snprintf(json, sizeof(json),
                                "{\"system_fingerprint\":\"fp%u\",\"choices\":[{\"index\":%u,"
                                "\"delta\":{}}]}",
                                dice(100), c);
        begun[c][t] |= what == 3;
        tape_chunk(json);
}

START_TEST(chunks_folded_by_a_naive_reader_are_the_whole_answer) {
        bool begun[CHOICES][TOOLS] = {{false}};
        uint32_t n;

        seed = (uint32_t)_i + 1;
        n = dice(200);
        memset(naive, 0, sizeof(naive));
        fingerprint[0] = '\0';
        for (uint32_t i = 0; i < n; i++)
                random_chunk(begun);
        for (uint32_t c = 1; c < CHOICES; c++) {
                char json[128];

                snprintf(json, sizeof(json),
                                "{\"choices\":[{\"index\":%u,\"delta\":{},\"finish_reason\":"
                                "\"length\"}]}",
                                c);
                tape_chunk(json);
        }
        tape_done("stop");
        for (uint32_t i = 0; i < tape.n - 1; i++)
                naive_chunk(delta_chunk(&chat_with_usage, &tape.records[i]));
        naive_chunk(finish_chunk(&chat_with_usage, &tape.records[tape.n - 1]));
        expect_naive(json_tree(whole_answer(&chat)));
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("openai whole");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, tape_clear, NULL);
        tcase_add_test(refusals, an_answer_over_the_limit_is_too_large);
        tcase_add_test(refusals, more_choices_tools_or_members_than_the_limits_are_too_large);
        tcase_add_test(refusals, a_member_that_comes_with_every_chunk_counts_once);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, tape_clear, NULL);
        tcase_add_test(behaviour, an_answer_without_words_is_an_empty_one);
        tcase_add_test(behaviour, texts_are_joined_for_each_choice_and_kind);
        tcase_add_test(behaviour, tool_calls_are_put_together_by_their_index);
        tcase_add_test(behaviour, members_of_a_call_fold_like_those_of_a_delta);
        tcase_add_test(behaviour, logprobs_are_joined_in_order);
        tcase_add_test(behaviour, unknown_members_are_kept_and_the_last_counts);
        tcase_add_test(behaviour, a_legacy_function_call_is_put_together);
        tcase_add_test(behaviour, a_member_may_change_its_kind);
        tcase_add_test(behaviour, each_choice_has_its_own_finish_reason);
        tcase_add_test(behaviour, usage_details_and_sources_are_those_of_the_end);
        tcase_add_test(behaviour, legacy_completions_come_whole_too);
        tcase_add_loop_test(behaviour, chunks_folded_by_a_naive_reader_are_the_whole_answer, 0, 50);
        suite_add_tcase(s, behaviour);
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
