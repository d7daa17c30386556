#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openai_tape.h"
#include "stages/gateway/openai_extra.h"

static struct record *extra_record(const char *extra) {
        struct record *r = tape_record();

        r->has = HAS(extra);
        r->extra = tape_view(extra);
        return r;
}

static void expect_text(const char *got, const char *want) {
        ck_assert_msg(strcmp(got, want) == 0, "got  %s\nwant %s", got, want);
}

#define HEAD                                                                                       \
        "{\"id\":\"chatcmpl-req_01\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
        "\"model\":\"public \\\"name\\\"\",\"choices\":["

/* ---- what a record must not do ---- */

START_TEST(extra_that_is_broken_is_left_out_as_a_whole) {
        static const char *const broken[] = {"\"a\":", "\"a\"", "a:1", "\"a\":1,", ",\"a\":1",
                        "\"a\":1}", "\"a\":01", "\"a\":[1,]", "\"a\":{\"b\"}", "\"a\":\"\\x\"",
                        "\"a\":\"\n\"", "\"a\":tru", "\"a\":1 \"b\":2", "\"a\":\"\xff\"",
                        "\"choices\":5", "\"choices\":{}", "\"choices\":[5]",
                        "\"choices\":[{}],\"choices\":[[]]", "\"a\":-", "\"a\":1.", "\"a\":1e",
                        "\"a\":\"\\u12g4\"", "\"a\":\"\\u12", "\"a"};

        for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
                tape_clear();
                expect_text(delta_chunk(&chat, extra_record(broken[i])),
                                HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}]}");
        }
}
END_TEST

START_TEST(extra_nested_deeper_than_64_levels_is_left_out) {
        char extra[512] = "\"a\":";
        size_t n = strlen(extra);

        memset(extra + n, '[', 64);
        memset(extra + n + 64, ']', 64);
        ck_assert_ptr_nonnull(json_at(json_tree(delta_chunk(&chat, extra_record(extra))), "a"));
        memset(extra + n, '[', 65);
        memset(extra + n + 65, ']', 65);
        expect_absent(json_tree(delta_chunk(&chat, extra_record(extra))), "a");
}
END_TEST

START_TEST(text_that_is_not_utf8_is_mended) {
        expect_string(json_tree(delta_chunk(&chat, tape_text(0, NULL, "a\xff\xc3z\xe2\x82"))),
                        "choices.0.delta.content",
                        "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd");
}
END_TEST

START_TEST(a_calls_members_that_are_broken_are_left_out) {
        static const char *const broken[] = {"", "{", "[]", "{\"a\"}", "{\"a\":\"\xff\"}", "{\"a\":1}}",
                        "{\"a\":1} ", "7"};

        for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++) {
                struct json_text members = {0}, function = {0};

                ck_assert_msg(!openai_extra_tool(tape_view(broken[i]), &members, &function), "%s",
                                broken[i]);
                ck_assert(members.n == 0 && function.n == 0);
        }
}
END_TEST

START_TEST(a_tool_call_of_another_shape_has_nothing_in_it) {
        msgpack_object odd = {.type = MSGPACK_OBJECT_NIL};
        struct record *r = tape_record();
        yajl_val v;

        r->has = HAS(tool);
        r->tool = &odd;
        v = json_tree(delta_chunk(&chat, r));
        expect_absent(v, "choices.0.delta.tool_calls");
        odd = (msgpack_object){.type = MSGPACK_OBJECT_MAP};
        v = json_tree(delta_chunk(&chat, r));
        expect_number(v, "choices.0.delta.tool_calls.0.index", "0");
        expect_string(v, "choices.0.delta.tool_calls.0.function.arguments", "");
}
END_TEST

START_TEST(rows_of_sources_that_are_none_come_out_empty) {
        msgpack_object rows[2] = {{.type = MSGPACK_OBJECT_NIL}, {.type = MSGPACK_OBJECT_ARRAY}};
        msgpack_object list = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, rows}};
        struct record *done = tape_done("stop");
        yajl_val v;

        done->has |= HAS(sources);
        done->sources = &list;
        v = json_tree(finish_chunk(&chat, done));
        ck_assert_uint_eq(json_at(v, "sources")->u.array.len, 2);
        list.type = MSGPACK_OBJECT_NIL;
        expect_absent(json_tree(finish_chunk(&chat, done)), "sources");
}
END_TEST

/* ---- chunks ---- */

START_TEST(a_text_delta_is_a_chunk_with_content) {
        expect_text(delta_chunk(&chat, tape_text(0, NULL, "a \"q\"\n\x01")),
                        HEAD "{\"index\":0,\"delta\":{\"content\":\"a \\\"q\\\"\\n\\u0001\"},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(usage_is_null_where_it_was_asked_for_and_absent_where_not) {
        struct record *r = tape_text(0, NULL, "x"), *done;

        expect_null(json_tree(delta_chunk(&chat_with_usage, r)), "usage");
        expect_absent(json_tree(delta_chunk(&chat, r)), "usage");
        expect_null(json_tree(role_chunk(&chat_with_usage, 0)), "usage");
        expect_absent(json_tree(role_chunk(&chat, 0)), "usage");
        done = tape_done("stop");
        expect_null(json_tree(finish_chunk(&chat_with_usage, done)), "usage");
        expect_absent(json_tree(finish_chunk(&chat, done)), "usage");
}
END_TEST

START_TEST(the_role_chunk_has_the_role_and_empty_content) {
        expect_text(role_chunk(&chat, 2),
                        HEAD "{\"index\":2,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(each_choice_is_due_its_role_once) {
        struct openai_roles roles = {0};
        uint32_t choice = 99;

        ck_assert(openai_role_due(&roles, tape_text(0, NULL, "x"), &choice));
        ck_assert_uint_eq(choice, 0);
        ck_assert(!openai_role_due(&roles, tape_text(0, NULL, "x"), &choice));
        ck_assert(openai_role_due(&roles, tape_text(127, NULL, "x"), &choice));
        ck_assert_uint_eq(choice, 127);
        ck_assert(!openai_role_due(&roles, tape_text(127, NULL, "x"), &choice));
        ck_assert(!openai_role_due(&roles, tape_text(128, NULL, "x"), &choice));
        ck_assert(!openai_role_due(&roles, tape_text(UINT32_MAX, NULL, "x"), &choice));
}
END_TEST

START_TEST(choices_that_only_extra_names_are_due_their_role_too) {
        struct openai_roles roles = {0};
        uint32_t choice = 99;
        struct record *r = extra_record("\"choices\":[{\"index\":1,\"finish_reason\":\"stop\"},"
                                        "{\"index\":3,\"a\":1}]");

        ck_assert(openai_role_due(&roles, r, &choice));
        ck_assert_uint_eq(choice, 1);
        ck_assert(openai_role_due(&roles, r, &choice));
        ck_assert_uint_eq(choice, 3);
        ck_assert(!openai_role_due(&roles, r, &choice));
}
END_TEST

START_TEST(reasoning_and_refusal_have_members_of_their_own) {
        yajl_val v = json_tree(delta_chunk(&chat, tape_text(0, "reasoning", "hm")));

        expect_string(v, "choices.0.delta.reasoning_content", "hm");
        expect_absent(v, "choices.0.delta.content");
        v = json_tree(delta_chunk(&chat, tape_text(1, "refusal", "no")));
        expect_string(v, "choices.0.delta.refusal", "no");
        expect_number(v, "choices.0.index", "1");
}
END_TEST

START_TEST(a_tool_call_says_its_id_and_name_where_they_came) {
        expect_text(delta_chunk(&chat, tape_tool(0, 2, "call_9", "look", "")),
                        HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":2,\"id\":\"call_"
                             "9\",\"type\":\"function\",\"function\":{\"name\":\"look\","
                             "\"arguments\":\"\"}}]},\"logprobs\":null,\"finish_reason\":null}]}");
        expect_text(delta_chunk(&chat, tape_tool(0, 2, "", "", "{\"a\":")),
                        HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":2,\"function\":{"
                             "\"arguments\":\"{\\\"a\\\":\"}}]},\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(members_of_a_call_come_out_in_it) {
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\","
                   "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\",\"x\" :1},"
                   "\"extra_content\": {\"google\":{\"thought_signature\":\"s\"}},\"y\":null},{\"index\":1,"
                   "\"id\":\"b\",\"type\":\"custom\",\"custom\":{\"name\":\"g\",\"input\":\"\"}}]}}]}");
        tape_chunk("{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"custom\":{"
                   "\"input\":\"i\"}}]}}]}");
        ck_assert_uint_eq(tape.n, 3);
        expect_text(delta_chunk(&chat, &tape.records[0]),
                        HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":"
                             "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\",\"x\" :1},"
                             "\"extra_content\": {\"google\":{\"thought_signature\":\"s\"}},\"y\":null}]},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
        expect_text(delta_chunk(&chat, &tape.records[1]),
                        HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":"
                             "\"custom\",\"custom\":{\"name\":\"g\",\"input\":\"\"}}]},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
        expect_text(delta_chunk(&chat, &tape.records[2]),
                        HEAD "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"custom\":{\"input\":"
                             "\"i\"}}]},\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(members_that_nobody_knows_come_out_where_they_stood) {
        tape_chunk("{\"id\":\"x\",\"object\":\"o\",\"created\":1,\"model\":\"theirs\","
                   "\"system_fingerprint\" : \"fp \\u00e9\",\"choices\":[{\"index\":0,\"delta\":{"
                   "\"role\":\"assistant\",\"content\":\"hi\",\"token_id\":5},\"logprobs\":{"
                   "\"content\":[{\"token\":\"hi\",\"logprob\":-1.50e-3}]},\"finish_reason\":null,"
                   "\"stop_reason\" : 7 }],\"timings\":{\"a\": [1, 2]}}");
        ck_assert_uint_eq(tape.n, 1);
        expect_text(delta_chunk(&chat, &tape.records[0]),
                        HEAD "{\"index\":0,\"delta\":{\"content\":\"hi\",\"token_id\":5},"
                             "\"logprobs\":{\"content\":[{\"token\":\"hi\",\"logprob\":-1.50e-3}]},"
                             "\"stop_reason\" : 7,\"finish_reason\":null}],"
                             "\"system_fingerprint\" : \"fp \\u00e9\","
                             "\"timings\":{\"a\": [1, 2]}}");
}
END_TEST

START_TEST(choices_of_one_chunk_meet_their_members_by_index) {
        tape_chunk("{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"},\"x\":1,"
                   "\"finish_reason\":\"length\"},{\"index\":0,\"delta\":{\"content\":\"a\"},"
                   "\"x\":0},{\"index\":2,\"delta\":{},\"finish_reason\":\"stop\"}]}");
        ck_assert_uint_eq(tape.n, 2);
        expect_text(delta_chunk(&chat, &tape.records[0]),
                        HEAD "{\"index\":1,\"delta\":{\"content\":\"b\"},\"x\":1,\"finish_reason\":"
                             "\"length\",\"logprobs\":null},{\"index\":0,\"delta\":{},\"x\":0,\"logprobs\":null,\"finish_reason\":null}"
                             ",{\"index\":2,\"delta\":{},\"finish_reason\":\"stop\",\"logprobs\":null}]}");
        expect_text(delta_chunk(&chat, &tape.records[1]),
                        HEAD "{\"index\":0,\"delta\":{\"content\":\"a\"},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(members_alone_make_a_chunk_with_an_empty_delta) {
        tape_chunk("{\"choices\":[],\"timings\":{}}");
        expect_text(delta_chunk(&chat_with_usage, &tape.records[0]),
                        HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,"
                             "\"timings\":{}}");
        tape_clear();
        tape_chunk("{\"choices\":[{\"index\":3,\"delta\":{\"function_call\":{\"name\":\"f\"}}}]}");
        expect_text(delta_chunk(&chat, &tape.records[0]),
                        HEAD "{\"index\":3,\"delta\":{\"function_call\":{\"name\":\"f\"}},"
                             "\"logprobs\":null,\"finish_reason\":null}]}");
}
END_TEST

START_TEST(one_chunk_may_hold_the_texts_of_several_deltas) {
        struct mr_view texts[] = {{"one ", 4}, {"\"two\" ", 6}, {"three", 5}};
        uint32_t bound = openai_text_bound(&chat);
        struct record *like = tape_text(1, "reasoning", ""), *joined;
        struct json_buf b;
        char *out;

        for (int i = 0; i < 3; i++)
                bound += openai_text_piece_bound(texts[i]);
        out = malloc(bound + 1);
        b = (struct json_buf){.at = out, .cap = bound};
        openai_text_begin(&b, &chat, like);
        for (int i = 0; i < 3; i++)
                openai_text_piece(&b, texts[i]);
        openai_text_end(&b, &chat, like);
        ck_assert(!b.full);
        out[b.len] = '\0';
        joined = tape_text(1, "reasoning", "one \"two\" three");
        expect_text(out, delta_chunk(&chat, joined));
        free(out);
}
END_TEST

/* ---- the end ---- */

START_TEST(the_finish_chunk_has_the_reason_and_the_sources) {
        struct record *done = tape_done("tool_calls");

        expect_text(finish_chunk(&chat, done),
                        HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}]}");
        tape_sources(done, 1);
        expect_text(finish_chunk(&chat, done),
                        HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],"
                             "\"sources\":[{\"n\":1,\"id\":\"doc-1\",\"title\":\"A \\\"title\\\"\","
                             "\"url\":null,\"start\":5,\"end\":90,\"cited\":true}]}");
}
END_TEST

START_TEST(the_usage_chunk_has_no_choices_and_the_totals) {
        struct record *done = tape_done("stop");

        expect_text(usage_chunk(&chat_with_usage, done),
                        HEAD "],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,"
                             "\"total_tokens\":18}}");
        done->has &= ~HAS(total_tokens);
        expect_number(json_tree(usage_chunk(&chat, done)), "usage.total_tokens", "18");
}
END_TEST

START_TEST(usage_details_come_as_the_backend_gave_them) {
        struct record *done = tape_done("stop");
        static const char raw[] = "{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":"
                                  "18,\"prompt_tokens_details\":{\"cached_tokens\": 3}}";
        char want[512];

        done->has |= HAS(extra);
        done->extra = tape_view("\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_"
                                "tokens\":18,\"prompt_tokens_details\":{\"cached_tokens\": 3}}");
        snprintf(want, sizeof(want), HEAD "],\"usage\":%s}", raw);
        expect_text(usage_chunk(&chat_with_usage, done), want);
        expect_null(json_tree(finish_chunk(&chat_with_usage, done)), "usage");
}
END_TEST

START_TEST(what_the_last_chunk_had_comes_with_the_reason) {
        struct record *done = tape_done("stop");

        done->has |= HAS(extra);
        done->extra = tape_view("\"choices\":[{\"index\":0,\"stop_reason\" :7,\"logprobs\":{},\"delta\":{"
                                "\"x\":null}}],\"timings\":{\"a\":1}");
        expect_text(finish_chunk(&chat, done),
                        HEAD "{\"index\":0,\"delta\":{\"x\":null},\"stop_reason\" :7,\"logprobs\":{},"
                             "\"finish_reason\":\"stop\"}],\"timings\":{\"a\":1}}");
}
END_TEST

/* ---- legacy completions ---- */

#define LEGACY                                                                                     \
        "{\"id\":\"cmpl-req_01\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":" \
        "\"public \\\"name\\\"\",\"choices\":["

START_TEST(legacy_completions_have_text_in_their_choices) {
        expect_text(delta_chunk(&legacy, tape_text(1, NULL, "hi")),
                        LEGACY "{\"index\":1,\"text\":\"hi\",\"logprobs\":null,"
                               "\"finish_reason\":null}]}");
        expect_text(delta_chunk(&legacy, extra_record("\"choices\":[{\"index\":0,\"logprobs\":{"
                                                      "\"tokens\":[\"a\"]}}]")),
                        LEGACY "{\"index\":0,\"text\":\"\",\"logprobs\":{\"tokens\":[\"a\"]},"
                               "\"finish_reason\":null}]}");
        expect_text(finish_chunk(&legacy, tape_done("length")),
                        LEGACY "{\"index\":0,\"text\":\"\",\"logprobs\":null,"
                               "\"finish_reason\":\"length\"}]}");
}
END_TEST

START_TEST(legacy_reasoning_is_no_text) {
        struct record *r = tape_text(0, "reasoning", "hm");
        yajl_val v = json_tree(delta_chunk(&legacy, r));
        struct json_buf b;
        char out[1024];

        expect_string(v, "choices.0.text", "");
        expect_string(v, "choices.0.reasoning_content", "hm");
        b = (struct json_buf){.at = out, .cap = sizeof(out)};
        openai_text_begin(&b, &legacy, r);
        openai_text_piece(&b, r->text);
        openai_text_end(&b, &legacy, r);
        out[b.len] = '\0';
        v = json_tree(out);
        expect_string(v, "choices.0.text", "");
        expect_string(v, "choices.0.reasoning_content", "hm");
}
END_TEST

/* ---- errors and models ---- */

START_TEST(every_error_has_the_type_and_code_of_the_contract) {
        static const struct {
                enum mr_error code;
                const char *type, *said;
        } want[] = {
                        {MR_E_invalid_request, "invalid_request_error", "invalid_request"},
                        {MR_E_context_length_exceeded, "invalid_request_error",
                                        "context_length_exceeded"},
                        {MR_E_unauthorized, "authentication_error", "invalid_api_key"},
                        {MR_E_forbidden, "permission_error", "forbidden"},
                        {MR_E_not_found, "invalid_request_error", "not_found"},
                        {MR_E_model_not_found, "invalid_request_error", "model_not_found"},
                        {MR_E_id_conflict, "invalid_request_error", "id_conflict"},
                        {MR_E_gone, "invalid_request_error", "gone"},
                        {MR_E_too_large, "invalid_request_error", "too_large"},
                        {MR_E_rate_limited, "rate_limit_error", "rate_limit_exceeded"},
                        {MR_E_cancelled, "cancelled", "cancelled"},
                        {MR_E_internal, "server_error", "internal"},
                        {MR_E_dead_letter, "server_error", "dead_letter"},
                        {MR_E_upstream_error, "server_error", "upstream_error"},
                        {MR_E_overloaded, "server_error", "overloaded"},
                        {MR_E_draining, "server_error", "draining"},
                        {MR_E_worker_restarted, "server_error", "worker_restarted"},
                        {MR_E_deadline_exceeded, "server_error", "deadline_exceeded"},
                        {MR_E_upstream_timeout, "server_error", "upstream_timeout"},
                        {MR_E_content_filtered, "invalid_request_error", "content_filter"},
        };

        ck_assert_uint_eq(sizeof(want) / sizeof(want[0]), MR_ERRORS_N - 1);
        for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
                struct openai_error e = {.code = want[i].code, .message = {"no \"x\"", 6}};
                yajl_val v = json_tree(error_body(&e));

                expect_string(v, "error.message", "no \"x\"");
                expect_string(v, "error.type", want[i].type);
                expect_string(v, "error.code", want[i].said);
                expect_null(v, "error.param");
        }
}
END_TEST

START_TEST(an_error_may_name_a_member_and_a_backends_own_code) {
        struct openai_error e = {.code = MR_E_rate_limited,
                        .message = {"m", 1},
                        .param = {"model", 5},
                        .own_code = {"insufficient_quota", 18}};

        expect_text(error_body(&e), "{\"error\":{\"message\":\"m\",\"type\":\"rate_limit_error\","
                                    "\"param\":\"model\",\"code\":\"insufficient_quota\"}}");
        ck_assert(!openai_error_retryable(&e));
        e.own_code = (struct mr_view){"slow_down", 9};
        ck_assert(openai_error_retryable(&e));
}
END_TEST

START_TEST(an_error_record_says_what_the_backend_called_it) {
        struct record r = {.has = HAS(code) | HAS(message) | HAS(own_code) | HAS(own_param),
                        .code = MR_E_invalid_request,
                        .message = {"m", 1},
                        .own_code = {"bad \"x\"", 7},
                        .own_param = {"stop", 4}};
        struct openai_error e = openai_error_of(&r);

        expect_text(error_body(&e), "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\","
                                    "\"param\":\"stop\",\"code\":\"bad \\\"x\\\"\"}}");
}
END_TEST

START_TEST(an_error_record_that_lacks_something_is_internal) {
        struct record r = {0};
        struct openai_error e = openai_error_of(&r);
        yajl_val v = json_tree(error_body(&e));

        expect_string(v, "error.code", "internal");
        expect_string(v, "error.message", "internal");
        r = (struct record){.has = HAS(code) | HAS(message), .code = 9999, .message = {"boo", 3}};
        e = openai_error_of(&r);
        ck_assert_int_eq(e.code, MR_E_internal);
        r.code = MR_E_overloaded;
        e = openai_error_of(&r);
        v = json_tree(error_body(&e));
        expect_string(v, "error.code", "overloaded");
        expect_string(v, "error.message", "boo");
        e.code = MR_ERRORS_N;
        expect_string(json_tree(error_body(&e)), "error.code", "internal");
}
END_TEST

START_TEST(a_model_has_what_clients_look_for) {
        char out[1024];
        struct json_buf b = {.at = out, .cap = openai_model_bound((struct mr_view){"a\"b", 3})};

        openai_model(&b, (struct mr_view){"a\"b", 3}, 5);
        ck_assert(!b.full);
        out[b.len] = '\0';
        expect_text(out, "{\"id\":\"a\\\"b\",\"object\":\"model\",\"created\":5,"
                         "\"owned_by\":\"millrace\"}");
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("openai json");
        TCase *refusals = tcase_create("what a record must not do");
        TCase *chunks = tcase_create("chunks"), *ends = tcase_create("ends");

        tcase_add_checked_fixture(refusals, tape_clear, NULL);
        tcase_add_test(refusals, extra_that_is_broken_is_left_out_as_a_whole);
        tcase_add_test(refusals, extra_nested_deeper_than_64_levels_is_left_out);
        tcase_add_test(refusals, text_that_is_not_utf8_is_mended);
        tcase_add_test(refusals, a_tool_call_of_another_shape_has_nothing_in_it);
        tcase_add_test(refusals, rows_of_sources_that_are_none_come_out_empty);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(chunks, tape_clear, NULL);
        tcase_add_test(chunks, a_text_delta_is_a_chunk_with_content);
        tcase_add_test(chunks, usage_is_null_where_it_was_asked_for_and_absent_where_not);
        tcase_add_test(chunks, the_role_chunk_has_the_role_and_empty_content);
        tcase_add_test(chunks, each_choice_is_due_its_role_once);
        tcase_add_test(chunks, choices_that_only_extra_names_are_due_their_role_too);
        tcase_add_test(chunks, reasoning_and_refusal_have_members_of_their_own);
        tcase_add_test(chunks, a_tool_call_says_its_id_and_name_where_they_came);
        tcase_add_test(chunks, members_of_a_call_come_out_in_it);
        tcase_add_test(refusals, a_calls_members_that_are_broken_are_left_out);
        tcase_add_test(chunks, members_that_nobody_knows_come_out_where_they_stood);
        tcase_add_test(chunks, choices_of_one_chunk_meet_their_members_by_index);
        tcase_add_test(chunks, members_alone_make_a_chunk_with_an_empty_delta);
        tcase_add_test(chunks, one_chunk_may_hold_the_texts_of_several_deltas);
        suite_add_tcase(s, chunks);
        tcase_add_checked_fixture(ends, tape_clear, NULL);
        tcase_add_test(ends, the_finish_chunk_has_the_reason_and_the_sources);
        tcase_add_test(ends, the_usage_chunk_has_no_choices_and_the_totals);
        tcase_add_test(ends, what_the_last_chunk_had_comes_with_the_reason);
        tcase_add_test(ends, usage_details_come_as_the_backend_gave_them);
        tcase_add_test(ends, legacy_completions_have_text_in_their_choices);
        tcase_add_test(ends, legacy_reasoning_is_no_text);
        tcase_add_test(ends, every_error_has_the_type_and_code_of_the_contract);
        tcase_add_test(ends, an_error_may_name_a_member_and_a_backends_own_code);
        tcase_add_test(ends, an_error_record_says_what_the_backend_called_it);
        tcase_add_test(ends, an_error_record_that_lacks_something_is_internal);
        tcase_add_test(ends, a_model_has_what_clients_look_for);
        suite_add_tcase(s, ends);
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
