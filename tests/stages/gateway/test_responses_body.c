#include "stages/gateway/responses_body.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BYTES 4096u

static struct body_scanner *scanner;
static struct body_found found;
static struct responses_bad bad;

static void setup(void) {
        ck_assert_int_eq(body_scanner_new(&scanner), 0);
}

static void teardown(void) {
        scanner = body_scanner_free(scanner);
}

static int translate(const char *body, char *to, uint32_t cap, struct json_buf *ret) {
        struct json_text text = {body, (uint32_t)strlen(body)};

        ck_assert_msg(body_scan(scanner, BODY_RESPONSES, text.p, text.n, &found) == 0, "%s: %s",
                        body, found.error);
        *ret = (struct json_buf){.at = to, .cap = cap};
        bad = (struct responses_bad){0};
        return responses_body(ret, text, &bad);
}

/* The chat body; what was told is that it is one, and that a byte less does not hold it. */
static const char *chat(const char *body) {
        static char out[OUT_BYTES];
        struct json_buf b;

        ck_assert_msg(translate(body, out, sizeof(out) - 1, &b) == 0, "%s: %s", body, bad.text);
        ck_assert(!b.full);
        out[b.len] = '\0';
        ck_assert_int_eq(translate(body, out, b.len - 1, &b), 0);
        ck_assert(b.full);
        ck_assert_int_eq(translate(body, out, sizeof(out) - 1, &b), 0);
        ck_assert_msg(body_scan(scanner, BODY_CHAT, out, b.len, &found) == 0, "%s: %s", out,
                        found.error);
        return out;
}

static void expect(const char *body, const char *want) {
        const char *got = chat(body);

        ck_assert_msg(strcmp(got, want) == 0, "\ngot  %s\nwant %s", got, want);
}

/* ---- refusals ---- */

START_TEST(what_cannot_be_said_to_a_chat_is_refused_by_its_member) {
        static const struct {
                const char *body, *member, *says;
        } rows[] = {
                        {"{\"input\":\"x\",\"previous_response_id\":\"resp_1\"}",
                                        "previous_response_id", "not supported"},
                        {"{\"input\":\"x\",\"conversation\":{\"id\":\"c\"}}", "conversation",
                                        "not supported"},
                        {"{\"input\":\"x\",\"prompt\":{\"id\":\"p\"}}", "prompt", "not supported"},
                        {"{\"input\":\"x\",\"tools\":{}}", "tools", "expected an array"},
                        {"{\"input\":\"x\",\"tools\":[7]}", "tools[0]", "expected an object"},
                        {"{\"input\":\"x\",\"tools\":[{}]}", "tools[0].type", "missing"},
                        {"{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"},"
                         "{\"type\":\"web_search\"}]}",
                                        "tools[1].type", "\"web_search\" is not supported"},
                        {"{\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]}", "tools[0].name",
                                        "missing"},
                        {"{\"input\":\"x\",\"tool_choice\":7}", "tool_choice", "got a number"},
                        {"{\"input\":\"x\",\"tool_choice\":{\"type\":\"mcp\"}}",
                                        "tool_choice.type", "\"mcp\" is not supported"},
                        {"{\"input\":\"x\",\"tool_choice\":{\"type\":\"function\"}}",
                                        "tool_choice.name", "missing"},
                        {"{\"input\":\"x\",\"max_output_tokens\":0}", "max_output_tokens",
                                        "whole number above 0"},
                        {"{\"input\":\"x\",\"text\":\"y\"}", "text", "expected an object"},
                        {"{\"input\":\"x\",\"text\":{\"format\":{}}}", "text.format.type",
                                        "missing"},
                        {"{\"input\":\"x\",\"reasoning\":\"high\"}", "reasoning",
                                        "expected an object, got a string"},
                        {"{\"input\":[{\"type\":\"web_search_call\"}]}", "input[0].type",
                                        "\"web_search_call\" is not supported"},
                        {"{\"input\":[{\"type\":\"item_reference\",\"id\":\"i\"}]}",
                                        "input[0].type", "not supported"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"content\":\"b\"}]}",
                                        "input[1].role", "missing"},
                        {"{\"input\":[{\"role\":\"user\"}]}", "input[0].content", "missing"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":7}]}", "input[0].content",
                                        "a string or an array of parts"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[7]}]}",
                                        "input[0].content[0]", "expected a part"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{}]}]}",
                                        "input[0].content[0].type", "missing"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}]}",
                                        "input[0].content[0].text", "missing"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"dance\"}]}]}",
                                        "input[0].content[0].type", "\"dance\" is not supported"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\","
                         "\"file_id\":\"f\"}]}]}",
                                        "input[0].content[0].file_id", "no files are kept"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
                                        "input[0].content[0].image_url", "missing"},
                        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\","
                         "\"file_url\":\"http://x/\"}]}]}",
                                        "input[0].content[0].file_url", "nothing is fetched"},
                        {"{\"input\":[{\"type\":\"function_call\",\"name\":\"f\"}]}",
                                        "input[0].call_id", "missing"},
                        {"{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"c\"}]}",
                                        "input[0].output", "missing"},
        };
        char out[OUT_BYTES];
        struct json_buf b;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                ck_assert_msg(translate(rows[i].body, out, sizeof(out), &b) == RESPONSES_E_INVALID,
                                "%s", rows[i].body);
                ck_assert_str_eq(bad.member, rows[i].member);
                ck_assert_msg(strncmp(bad.text, rows[i].member, strlen(rows[i].member)) == 0, "%s",
                                bad.text);
                ck_assert_msg(strstr(bad.text, rows[i].says), "%s", bad.text);
        }
}
END_TEST

START_TEST(a_long_word_of_a_client_is_cut_in_the_error) {
        char body[BODY_ERROR_MAX * 2] = "{\"input\":\"x\",\"tools\":[{\"type\":\"";
        size_t n = strlen(body);
        char out[OUT_BYTES];
        struct json_buf b;

        memset(body + n, 'w', BODY_ERROR_MAX);
        strncat(body, "\"}]}", sizeof(body) - strlen(body) - 1);
        ck_assert_int_eq(translate(body, out, sizeof(out), &b), RESPONSES_E_INVALID);
        ck_assert_msg(strstr(bad.text, "only \"function\" is"), "%s", bad.text);
}
END_TEST

/* ---- input ---- */

START_TEST(a_text_is_what_the_user_says_behind_the_instructions) {
        expect("{\"model\":\"m\",\"input\":\"hi \\\"you\\\"\",\"instructions\":\"be kind\"}",
                        "{\"messages\":[{\"role\":\"system\",\"content\":\"be kind\"},"
                        "{\"role\":\"user\",\"content\":\"hi \\\"you\\\"\"}],\"model\":\"m\"}");
        ck_assert_uint_eq(found.query_len, 8);
        ck_assert_int_eq(memcmp(found.query, "hi \"you\"", 8), 0);
        expect(" {\"instructions\":null,\"input\":\"x\"} \n",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
}
END_TEST

START_TEST(messages_keep_their_roles_and_texts_become_strings_where_they_can) {
        expect("{\"input\":[{\"role\":\"developer\",\"content\":\"d\"},"
               "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
               "\"text\":\"one\"}]},"
               "{\"type\":\"message\",\"id\":\"msg_1\",\"status\":\"completed\",\"role\":\"assistant\","
               "\"content\":[{\"type\":\"output_text\",\"annotations\":[],\"text\":\"a\\n\"},"
               "{\"type\":\"output_text\",\"text\":\"b\"}]},"
               "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"x\"},"
               "{\"type\":\"input_text\",\"text\":\"y\"}]}]}",
                        "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},"
                        "{\"role\":\"user\",\"content\":\"one\"},"
                        "{\"role\":\"assistant\",\"content\":\"a\\nb\"},"
                        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},"
                        "{\"type\":\"text\",\"text\":\"y\"}]}]}");
        ck_assert_uint_eq(found.query_len, 3);
        ck_assert_int_eq(memcmp(found.query, "x\ny", 3), 0);
}
END_TEST

START_TEST(images_files_and_refusals_are_parts_of_a_chat) {
        expect("{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"see\"},"
               "{\"type\":\"input_image\",\"image_url\":\"data:x\",\"detail\":\"low\"},"
               "{\"type\":\"input_image\",\"image_url\":\"http://y\",\"detail\":null},"
               "{\"type\":\"input_file\",\"filename\":\"f.pdf\",\"file_data\":\"data:z\"},"
               "{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AA\",\"format\":\"wav\"}}]},"
               "{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},"
                        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\",\"detail\":\"low\"}},"
                        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://y\"}},"
                        "{\"type\":\"file\",\"file\":{\"file_data\":\"data:z\",\"filename\":\"f.pdf\"}},"
                        "{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AA\",\"format\":\"wav\"}}]},"
                        "{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]}");
}
END_TEST

START_TEST(calls_and_what_came_of_them_are_an_assistants_and_a_tools_messages) {
        expect("{\"input\":[{\"role\":\"user\",\"content\":\"go\"},"
               "{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[]},"
               "{\"role\":\"assistant\",\"content\":\"let me see\"},"
               "{\"type\":\"reasoning\",\"id\":\"rs_2\",\"summary\":[]},"
               "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{}\"},"
               "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"g\",\"arguments\":\"{\\\"a\\\":1}\"},"
               "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"1\"},"
               "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{\"type\":\"input_text\","
               "\"text\":\"2\"},{\"type\":\"input_text\",\"text\":\"3\"}]},"
               "{\"type\":\"function_call\",\"call_id\":\"c3\",\"name\":\"f\",\"arguments\":\"\"}]}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"go\"},"
                        "{\"role\":\"assistant\",\"content\":\"let me see\",\"tool_calls\":["
                        "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
                        "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"g\","
                        "\"arguments\":\"{\\\"a\\\":1}\"}}]},"
                        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"1\"},"
                        "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"23\"},"
                        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                        "{\"id\":\"c3\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}]}");
}
END_TEST

/* ---- members ---- */

START_TEST(functions_get_the_form_that_chats_have) {
        expect("{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\","
               "\"parameters\":{\"type\":\"object\"},\"strict\":true},"
               "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],"
               "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},\"parallel_tool_calls\":false}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
                        "\"parameters\":{\"type\":\"object\"},\"strict\":true}},"
                        "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],"
                        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
                        "\"parallel_tool_calls\":false}");
        expect("{\"input\":\"x\",\"tools\":[],\"tool_choice\":\"auto\"}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                        "\"tool_choice\":\"auto\"}");
}
END_TEST

START_TEST(formats_limits_and_effort_have_other_names_in_chats) {
        expect("{\"input\":\"x\",\"max_output_tokens\":50,\"reasoning\":{\"effort\":\"low\","
               "\"summary\":\"auto\"},\"text\":{\"verbosity\":\"low\",\"format\":{\"type\":\"json_schema\","
               "\"name\":\"n\",\"schema\":{\"type\":\"object\"},\"strict\":true}}}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"max_tokens\":50,"
                        "\"reasoning_effort\":\"low\",\"verbosity\":\"low\","
                        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                        "\"schema\":{\"type\":\"object\"},\"strict\":true}}}");
        ck_assert_uint_eq(found.marks.max_tokens.len, 2);
        expect("{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_object\"}}}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                        "\"response_format\":{\"type\":\"json_object\"}}");
        expect("{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"text\"}},\"reasoning\":{}}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
}
END_TEST

START_TEST(what_chats_do_not_have_is_left_out_and_everything_else_goes_on) {
        expect("{\"store\":true,\"include\":[\"a\"],\"truncation\":\"auto\",\"background\":true,"
               "\"stream_options\":{\"include_obfuscation\":false},\"top_logprobs\":2,"
               "\"messages\":[],\"previous_response_id\":null,\"conversation\":null,"
               "\"model\":\"m\",\"stream\":true,\"temperature\":0.50,\"top_p\":1e0,"
               "\"metadata\":{\"user_id\":\"u\"},\"user\":\"w\",\"service_tier\":\"auto\","
               "\"stop\":[\"a\"],\"min_p\":0.1,\"input\":\"x\"}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                        "\"model\":\"m\",\"stream\":true,\"temperature\":0.50,\"top_p\":1e0,"
                        "\"metadata\":{\"user_id\":\"u\"},\"user\":\"w\",\"service_tier\":\"auto\","
                        "\"stop\":[\"a\"],\"min_p\":0.1}");
        ck_assert(found.stream);
}
END_TEST

START_TEST(of_duplicates_the_last_counts) {
        expect("{\"input\":\"x\",\"input\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}]}",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"b\"}]}");
}
END_TEST

int main(void) {
        TCase *tcase = tcase_create("responses_body");
        Suite *suite = suite_create("responses_body");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, what_cannot_be_said_to_a_chat_is_refused_by_its_member);
        tcase_add_test(tcase, a_long_word_of_a_client_is_cut_in_the_error);
        tcase_add_test(tcase, a_text_is_what_the_user_says_behind_the_instructions);
        tcase_add_test(tcase, messages_keep_their_roles_and_texts_become_strings_where_they_can);
        tcase_add_test(tcase, images_files_and_refusals_are_parts_of_a_chat);
        tcase_add_test(tcase, calls_and_what_came_of_them_are_an_assistants_and_a_tools_messages);
        tcase_add_test(tcase, functions_get_the_form_that_chats_have);
        tcase_add_test(tcase, formats_limits_and_effort_have_other_names_in_chats);
        tcase_add_test(tcase, what_chats_do_not_have_is_left_out_and_everything_else_goes_on);
        tcase_add_test(tcase, of_duplicates_the_last_counts);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed == 0 ? 0 : 1;
}
