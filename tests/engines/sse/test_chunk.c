#include "stages/engines/sse/chunk.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct chunk_parser *parser;

static void setup(void) {
        ck_assert_int_eq(chunk_new(&parser), 0);
}

static void teardown(void) {
        parser = chunk_free(parser);
}

/* Exact length, in memory of its own, so that a sanitizer sees a byte too many. */
static int parse(const char *json, struct chunk *ret) {
        static char *copy;
        size_t n = strlen(json);

        free(copy);
        copy = malloc(n ? n : 1);
        memcpy(copy, json, n);
        return chunk_parse(parser, copy, (uint32_t)n, false, ret);
}

static bool is(struct chunk_str s, const char *text) {
        return s.p && s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

START_TEST(what_is_no_json_object_is_refused) {
        static const char *const bad[] = {"", "{", "[]", "7", "\"x\"", "{\"a\":}", "{} {}", "nul",
                        "{\"a\":1,}", "\xff\xfe", "{\"choices\":[{]}"};
        struct chunk chunk;

        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                ck_assert_msg(parse(bad[i], &chunk) == -EPROTO, "%s", bad[i]);
}
END_TEST

START_TEST(what_is_too_deep_is_refused) {
        char deep[512];
        struct chunk chunk;

        memset(deep, '[', 400);
        memcpy(deep, "{\"a\":", 5);
        deep[400] = '\0';
        ck_assert_int_eq(parse(deep, &chunk), -EPROTO);
}
END_TEST

START_TEST(content_and_role_of_a_first_chunk) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":"
                               "\"assistant\","
                               "\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 0);
        ck_assert(!chunk.finished && !chunk.usage.has && !chunk.failure.has);
        ck_assert_uint_eq(chunk.extra.n, 0);
        ck_assert_int_eq(parse("{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                               "\"content\":null}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 0);
        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"content\":\"h\\u00e9 "
                               "\\ud83d\\ude00\\n\"}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 1);
        ck_assert(is(chunk.parts[0].text, "h\xc3\xa9 \xf0\x9f\x98\x80\n"));
        ck_assert_int_eq(chunk.parts[0].kind, CHUNK_TEXT);
}
END_TEST

START_TEST(reasoning_under_both_its_names_and_refusal) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"reasoning_content\":\"a\",\"content\":"
                               "null}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 1);
        ck_assert_int_eq(chunk.parts[0].kind, CHUNK_REASONING);
        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"reasoning\":\"b\"}}]}", &chunk), 0);
        ck_assert_int_eq(chunk.parts[0].kind, CHUNK_REASONING);
        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"reasoning\":\"c\",\"reasoning_content\":"
                               "\"c\"}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 1);
        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"refusal\":\"no\"}}]}", &chunk), 0);
        ck_assert_int_eq(chunk.parts[0].kind, CHUNK_REFUSAL);
}
END_TEST

START_TEST(an_index_behind_its_delta_counts) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"delta\":{\"content\":\"a\"},\"index\":1},{"
                               "\"index\":0,\"delta\":"
                               "{\"content\":\"b\"}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 2);
        ck_assert_uint_eq(chunk.parts[0].choice, 1);
        ck_assert_uint_eq(chunk.parts[1].choice, 0);
}
END_TEST

START_TEST(tool_calls_keep_index_id_name_and_arguments) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,"
                               "\"id\":\"c\","
                               "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
                               "\"{\\\"a\\\":\"}}]}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 1);
        ck_assert_int_eq(chunk.parts[0].kind, CHUNK_TOOL);
        ck_assert_uint_eq(chunk.parts[0].tool_index, 1);
        ck_assert(is(chunk.parts[0].tool_id, "c"));
        ck_assert(is(chunk.parts[0].tool_name, "f"));
        ck_assert(is(chunk.parts[0].text, "{\"a\":"));
}
END_TEST

START_TEST(finish_usage_and_empty_choices) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
                               "\"length\"}]}",
                                         &chunk),
                        0);
        ck_assert(chunk.finished && is(chunk.finish_reason, "length"));
        ck_assert_int_eq(parse("{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_"
                               "tokens\":12,"
                               "\"total_tokens\":21}}",
                                         &chunk),
                        0);
        ck_assert(chunk.usage.has && !chunk.usage.details && !chunk.finished);
        ck_assert_uint_eq(chunk.usage.prompt, 9);
        ck_assert_uint_eq(chunk.usage.completion, 12);
        ck_assert_uint_eq(chunk.usage.total, 21);
        ck_assert_int_eq(parse("{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"prompt_tokens_"
                               "details\":"
                               "{\"cached_tokens\":4}}}",
                                         &chunk),
                        0);
        ck_assert(chunk.usage.details);
        ck_assert(is(chunk.usage.raw,
                        "{\"prompt_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":4}}"));
}
END_TEST

START_TEST(errors_with_integer_or_string_codes_or_as_plain_text) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"error\":{\"code\":400,\"message\":\"m\",\"type\":\"exceed_"
                               "context_size_error\"}}",
                                         &chunk),
                        0);
        ck_assert(chunk.failure.has && is(chunk.failure.code, "400") &&
                        is(chunk.failure.message, "m"));
        ck_assert(is(chunk.failure.type, "exceed_context_size_error"));
        ck_assert_int_eq(parse("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,"
                               "\"code\":\"c\"}}",
                                         &chunk),
                        0);
        ck_assert(chunk.failure.has && is(chunk.failure.code, "c") && !chunk.failure.param.p);
        ck_assert_int_eq(parse("{\"error\":{\"message\":\"m\",\"param\":\"stop\"}}", &chunk), 0);
        ck_assert(is(chunk.failure.param, "stop"));
        ck_assert_int_eq(parse("{\"error\":\"boom\"}", &chunk), 0);
        ck_assert(chunk.failure.has && is(chunk.failure.message, "boom"));
        ck_assert_int_eq(parse("{\"error\":null,\"choices\":[]}", &chunk), 0);
        ck_assert(!chunk.failure.has);
        ck_assert_int_eq(parse("{\"code\":503,\"message\":\"Loading model\"}", &chunk), 0);
        ck_assert(!chunk.failure.has && chunk.failure.bare && is(chunk.failure.code, "503"));
}
END_TEST

START_TEST(unknown_members_come_back_where_they_were_byte_for_byte) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{ \"timings\" : {\"a\": [1, 2 ]} "
                               ",\"choices\":[{\"index\":0,\"stop_reason\": 7,\"delta\":"
                               "{\"content\":\"x\",\"token\\u0049d\":5.50}}], \"null\":null, "
                               "\"ok\" :true}",
                                         &chunk),
                        0);
        ck_assert_msg(is(chunk.extra, "\"choices\":[{\"index\":0,\"stop_reason\": "
                                      "7,\"delta\":{\"token\\u0049d\":5.50}}],"
                                      "\"timings\" : {\"a\": [1, 2 ]},\"null\":null,"
                                      "\"ok\" :true"),
                        "%.*s", (int)chunk.extra.n, chunk.extra.p);
        ck_assert_int_eq(parse("{\"system_fingerprint\":\"fp\",\"choices\":[]}", &chunk), 0);
        ck_assert(is(chunk.extra, "\"system_fingerprint\":\"fp\""));
}
END_TEST

START_TEST(null_counts_as_absent_only_in_members_that_are_known) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"usage\":null,\"system_fingerprint\":null,\"choices\":[{\"index\":0,"
                               "\"delta\":{\"role\":null,\"content\":null,\"refusal\":null,\"tool_calls\":"
                               "null,\"function_call\":null},\"logprobs\":null,\"finish_reason\":null}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 0);
        ck_assert_msg(is(chunk.extra, "\"choices\":[{\"index\":0,\"delta\":{\"function_call\":null}}],"
                                      "\"system_fingerprint\":null"),
                        "%.*s", (int)chunk.extra.n, chunk.extra.p);
        ck_assert_int_eq(parse("{\"choices\":[{\"logprobs\":{\"content\":null}}]}", &chunk), 0);
        ck_assert(is(chunk.extra,
                        "\"choices\":[{\"index\":0,\"logprobs\":{\"content\":null}}]"));
}
END_TEST

START_TEST(unknown_members_of_calls_are_objects_of_their_own) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":"
                               "\"a\",\"type\":\"function\",\"x\": [1 ],\"function\":{\"y\\u0041\" :null,"
                               "\"name\":\"f\",\"arguments\":\"\"},\"z\":1.50},{\"index\":1,\"type\":null,"
                               "\"function\":{\"arguments\":\"x\"}},{\"index\":2,\"type\":\"custom\"}],"
                               "\"w\":2}}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 3);
        ck_assert_msg(is(chunk.parts[0].tool_extra, "{\"x\": [1 ],\"z\":1.50,"
                                                    "\"function\":{\"y\\u0041\" :null}}"),
                        "%.*s", (int)chunk.parts[0].tool_extra.n, chunk.parts[0].tool_extra.p);
        ck_assert_uint_eq(chunk.parts[1].tool_extra.n, 0);
        ck_assert(is(chunk.parts[2].tool_extra, "{\"type\":\"custom\"}"));
        ck_assert(is(chunk.extra, "\"choices\":[{\"index\":0,\"delta\":{\"w\":2}}]"));
}
END_TEST

START_TEST(a_bare_error_says_that_it_is_one) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"message\":\"m\",\"code\":400,\"object\":\"error\"}", &chunk), 0);
        ck_assert(chunk.failure.has && is(chunk.failure.message, "m"));
        ck_assert_int_eq(parse("{\"object\":\"error\"}", &chunk), 0);
        ck_assert(!chunk.failure.has);
        ck_assert_int_eq(parse("{\"object\":\"chunk\",\"type\":\"t\",\"choices\":[]}", &chunk), 0);
        ck_assert(!chunk.failure.has && is(chunk.extra, "\"type\":\"t\""));
}
END_TEST

START_TEST(finish_reasons_of_other_choices_stand_in_extra) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"choices\":[{\"index\":12,\"delta\":{},\"finish_reason\":"
                               "\"stop\"}]}",
                                         &chunk),
                        0);
        ck_assert(chunk.finished && !chunk.finish_reason.p);
        ck_assert(is(chunk.extra, "\"choices\":[{\"index\":12,\"finish_reason\":\"stop\"}]"));
}
END_TEST

START_TEST(a_whole_answer_reads_like_one_delta) {
        struct chunk chunk;

        ck_assert_int_eq(parse("{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,"
                               "\"message\":{\"role\":"
                               "\"assistant\",\"content\":\"hi\",\"tool_calls\":[{\"id\":\"a\","
                               "\"function\":{\"name\":\"f\",\"arguments\":"
                               "\"{}\"}},{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":"
                               "\"\"}}]},\"finish_reason\":\"stop\"}]}",
                                         &chunk),
                        0);
        ck_assert_uint_eq(chunk.n_parts, 3);
        ck_assert_uint_eq(chunk.parts[2].tool_index, 1);
        ck_assert(chunk.finished);
}
END_TEST

START_TEST(a_parser_is_used_again_and_again_with_growing_chunks) {
        struct chunk chunk;

        for (size_t n = 1; n < 200000; n *= 3) {
                char *json = malloc(n + 64), *text = malloc(n + 1);
                memset(text, 'x', n);
                text[n] = '\0';
                snprintf(json, n + 64, "{\"choices\":[{\"delta\":{\"content\":\"\\n%s\"}}]}", text);
                ck_assert_int_eq(parse(json, &chunk), 0);
                ck_assert_uint_eq(chunk.parts[0].text.n, n + 1);
                free(json);
                free(text);
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("chunk");
        TCase *tc = tcase_create("chunk");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, what_is_no_json_object_is_refused);
        tcase_add_test(tc, what_is_too_deep_is_refused);
        tcase_add_test(tc, content_and_role_of_a_first_chunk);
        tcase_add_test(tc, reasoning_under_both_its_names_and_refusal);
        tcase_add_test(tc, an_index_behind_its_delta_counts);
        tcase_add_test(tc, tool_calls_keep_index_id_name_and_arguments);
        tcase_add_test(tc, finish_usage_and_empty_choices);
        tcase_add_test(tc, errors_with_integer_or_string_codes_or_as_plain_text);
        tcase_add_test(tc, unknown_members_come_back_where_they_were_byte_for_byte);
        tcase_add_test(tc, null_counts_as_absent_only_in_members_that_are_known);
        tcase_add_test(tc, unknown_members_of_calls_are_objects_of_their_own);
        tcase_add_test(tc, a_bare_error_says_that_it_is_one);
        tcase_add_test(tc, finish_reasons_of_other_choices_stand_in_extra);
        tcase_add_test(tc, a_whole_answer_reads_like_one_delta);
        tcase_add_test(tc, a_parser_is_used_again_and_again_with_growing_chunks);
        suite_add_tcase(suite, tc);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
