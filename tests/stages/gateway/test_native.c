#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/gateway/compose.h"
#include "stages/gateway/native.h"

static struct composer composer;

static void setup(void) {
        ck_assert_int_eq(composer_init(&composer, 100000), 0);
}

static void teardown(void) {
        composer_close(&composer);
}

/* ---- frames by hand: a tiny JSON reader would hide what is tested, so pieces are packed one by
 * one ---- */

static msgpack_sbuffer out;
static msgpack_packer pk;

static void begin(uint32_t members) {
        msgpack_sbuffer_clear(&out);
        msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, members);
}

static void text(const char *t) {
        msgpack_pack_str(&pk, strlen(t));
        msgpack_pack_str_body(&pk, t, strlen(t));
}

static void member(const char *name, const char *value) {
        text(name);
        text(value);
}

static struct ask ask;
static struct ask_error error;

static int parse(void) {
        return native_parse((const uint8_t *)out.data, (uint32_t)out.size, &ask, &error);
}

static void expect_bad(const char *words) {
        ck_assert_int_eq(parse(), MR_E_invalid_request);
        ck_assert_msg(strstr(error.text, words), "\"%s\" does not say \"%s\"", error.text, words);
}

/* {"op":"submit","prompt":"x",name: ...} */
static void submit_with(const char *name) {
        begin(3);
        member("op", "submit");
        member("prompt", "x");
        text(name);
}

/* ---- refusals ---- */

START_TEST(op_must_be_there_a_string_and_known) {
        begin(0);
        expect_bad("op: missing");
        begin(1);
        text("op");
        msgpack_pack_nil(&pk);
        expect_bad("op: missing");
        begin(1);
        text("op");
        msgpack_pack_int(&pk, 5);
        expect_bad("op: expected a string, got an integer");
        begin(1);
        member("op", "explode");
        expect_bad("op: unknown \"explode\"");
}
END_TEST

START_TEST(each_text_field_refuses_another_type_and_bad_utf8) {
        static const char *const names[] = {"session", "model", "system", "template", "priority",
                        "key", "prompt", "id"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char words[64];

                submit_with(names[i]);
                msgpack_pack_int(&pk, 7);
                snprintf(words, sizeof(words), "%s: expected a string, got an integer", names[i]);
                expect_bad(words);
                submit_with(names[i]);
                msgpack_pack_bin(&pk, 1);
                msgpack_pack_bin_body(&pk, "x", 1);
                snprintf(words, sizeof(words), "%s: expected a string, got binary data", names[i]);
                expect_bad(words);
                submit_with(names[i]);
                text("a\xff");
                snprintf(words, sizeof(words), "%s: not UTF-8 at byte 1", names[i]);
                expect_bad(words);
        }
}
END_TEST

START_TEST(other_fields_refuse_another_type) {
        static const char *const flags[] = {"rag", "detach", "stream"};

        for (int i = 0; i < 3; i++) {
                submit_with(flags[i]);
                text("yes");
                expect_bad("expected a boolean, got a string");
                ck_assert(strncmp(error.text, flags[i], strlen(flags[i])) == 0);
        }
        submit_with("deadline_ms");
        msgpack_pack_int(&pk, -5);
        expect_bad("deadline_ms: expected an integer of at least 0, got a negative integer");
        submit_with("deadline_ms");
        msgpack_pack_double(&pk, 1.5);
        expect_bad("deadline_ms: expected an integer of at least 0, got a float");
        submit_with("deadline_ms");
        msgpack_pack_int(&pk, 0);
        expect_bad("deadline_ms: expected more than 0");
        submit_with("vars");
        msgpack_pack_array(&pk, 0);
        expect_bad("vars: expected a map, got an array");
        submit_with("params");
        text("hot");
        expect_bad("params: expected a map, got a string");
        submit_with("priority");
        text("urgent");
        expect_bad("priority: expected system, interactive, default or bulk");
        begin(2);
        member("op", "submit");
        text("messages");
        text("hi");
        expect_bad("messages: expected an array, got a string");
        begin(2);
        member("op", "submit");
        text("body");
        msgpack_pack_map(&pk, 0);
        expect_bad("body: expected a string or binary data, got a map");
        begin(3);
        member("op", "attach");
        member("id", "r1");
        text("after");
        msgpack_pack_int(&pk, -1);
        expect_bad("after: expected an integer of at least 0");
}
END_TEST

START_TEST(ids_are_short_printable_and_there) {
        char longest[130];

        memset(longest, 'i', sizeof(longest) - 1);
        longest[129] = 0;
        begin(2);
        member("op", "cancel");
        member("id", longest);
        expect_bad("id: 129 bytes, at most 128 are allowed");
        begin(2);
        member("op", "cancel");
        member("id", longest + 1);
        ck_assert_int_eq(parse(), 0);
        begin(2);
        member("op", "cancel");
        member("id", "");
        expect_bad("id: empty");
        for (int i = 0; i < 4; i++) {
                static const char *const bad[] = {"a\nb", "\x7f", "\xc2\x85", "\xe2\x80\xa8"};

                begin(2);
                member("op", "cancel");
                member("id", bad[i]);
                expect_bad("id: holds unprintable characters");
        }
        begin(1);
        member("op", "result");
        expect_bad("id: missing");
        begin(2);
        member("op", "attach");
        text("id");
        msgpack_pack_nil(&pk);
        expect_bad("id: missing");
}
END_TEST

START_TEST(exactly_one_of_prompt_messages_and_body) {
        begin(1);
        member("op", "submit");
        expect_bad("one of prompt, messages and body must be given");
        begin(3);
        member("op", "submit");
        member("prompt", "x");
        member("body", "{}");
        expect_bad("only one of prompt, messages and body");
        begin(2);
        member("op", "submit");
        member("prompt", "");
        expect_bad("prompt: empty");
}
END_TEST

START_TEST(an_error_still_knows_the_id) {
        begin(3);
        member("op", "submit");
        member("id", "r7");
        text("prompt");
        msgpack_pack_int(&pk, 1);
        expect_bad("prompt");
        ck_assert_uint_eq(ask.id.n, 2);
        ck_assert_mem_eq(ask.id.p, "r7", 2);
}
END_TEST

/* Composes the frame at hand; the error must be about this. */
static void expect_unfit(enum mr_error code, const char *words) {
        struct composed made;

        ck_assert_int_eq(parse(), 0);
        ck_assert_int_eq(compose(&composer, &ask, &made, &error), (int)code);
        ck_assert_msg(strstr(error.text, words), "\"%s\" does not say \"%s\"", error.text, words);
}

START_TEST(messages_are_checked_one_by_one) {
        begin(2);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 0);
        expect_unfit(MR_E_invalid_request, "messages: expected at least one message");
        begin(2);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 1);
        text("hi");
        expect_unfit(MR_E_invalid_request, "messages[0]: expected a map, got a string");
        begin(2);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 1);
        msgpack_pack_map(&pk, 1);
        member("content", "hi");
        expect_unfit(MR_E_invalid_request, "messages[0].role: missing");
        begin(2);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 1);
        msgpack_pack_map(&pk, 2);
        member("role", "user");
        text("content");
        msgpack_pack_int(&pk, 3);
        expect_unfit(MR_E_invalid_request, "messages[0].content: expected a string or an array of "
                                           "parts, got an integer");
        begin(2);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 1);
        msgpack_pack_map(&pk, 2);
        member("role", "user");
        text("blob");
        msgpack_pack_bin(&pk, 1);
        msgpack_pack_bin_body(&pk, "x", 1);
        expect_unfit(MR_E_invalid_request, "messages: expected what JSON can say, got binary data");
}
END_TEST

START_TEST(params_are_checked_by_name) {
        static const char *const names[] = {"temperature", "top_p", "max_tokens", "stop", "seed"};

        for (int i = 0; i < 5; i++) {
                char words[64];

                submit_with("params");
                msgpack_pack_map(&pk, 1);
                text(names[i]);
                msgpack_pack_map(&pk, 0);
                snprintf(words, sizeof(words), "params.%s: expected", names[i]);
                expect_unfit(MR_E_invalid_request, words);
        }
        submit_with("params");
        msgpack_pack_map(&pk, 1);
        text("max_tokens");
        msgpack_pack_int(&pk, 0);
        expect_unfit(MR_E_invalid_request, "params.max_tokens: expected an integer above 0");
        submit_with("params");
        msgpack_pack_map(&pk, 1);
        text("temperature");
        msgpack_pack_double(&pk, (double)INFINITY);
        expect_unfit(MR_E_invalid_request, "params: a number is not finite");
}
END_TEST

START_TEST(a_body_over_the_limit_is_too_large) {
        char *large = malloc(100002);

        memset(large, 'x', 100001);
        large[100001] = 0;
        begin(2);
        member("op", "submit");
        member("body", large);
        expect_unfit(MR_E_too_large, "body: 100001 bytes, at most 100000 are allowed");
        begin(2);
        member("op", "submit");
        member("prompt", large);
        expect_unfit(MR_E_too_large, "larger than the 100000 bytes allowed");
        free(large);
}
END_TEST

START_TEST(a_broken_body_says_where) {
        begin(2);
        member("op", "submit");
        member("body", "{\"messages\":[}");
        expect_unfit(MR_E_invalid_request, "at byte 1");
}
END_TEST

/* ---- behaviour ---- */

START_TEST(unknown_members_are_ignored_and_nil_means_absent) {
        begin(6);
        member("op", "submit");
        member("prompt", "x");
        member("colour", "blue");
        text("nested");
        msgpack_pack_array(&pk, 2);
        msgpack_pack_nil(&pk);
        text("y");
        text("body");
        msgpack_pack_nil(&pk);
        text("deadline_ms");
        msgpack_pack_nil(&pk);
        ck_assert_int_eq(parse(), 0);
        ck_assert_uint_eq(ask.deadline_ms, 0);
        ck_assert(ask.options == OPTION_STREAM);
}
END_TEST

static struct composed composed(void) {
        struct composed made;

        ck_assert_int_eq(parse(), 0);
        ck_assert_msg(compose(&composer, &ask, &made, &error) == 0, "%s", error.text);
        return made;
}

static void expect_view(struct mr_view view, const char *want) {
        ck_assert_msg(view.n == strlen(want) && memcmp(view.p, want, view.n) == 0,
                        "got \"%.*s\", want \"%s\"", (int)view.n, view.p, want);
}

static void expect_span(const struct composed *made, struct body_span span, const char *want) {
        expect_view((struct mr_view){made->body.p + span.off, span.len}, want);
}

START_TEST(messages_become_json_with_marks) {
        struct composed made;

        begin(3);
        member("op", "submit");
        text("messages");
        msgpack_pack_array(&pk, 3);
        msgpack_pack_map(&pk, 2);
        member("role", "system");
        member("content", "be\tbrief");
        msgpack_pack_map(&pk, 2);
        member("role", "user");
        member("content", "old");
        msgpack_pack_map(&pk, 3);
        text("content");
        msgpack_pack_array(&pk, 3);
        msgpack_pack_map(&pk, 2);
        member("type", "text");
        member("text", "one");
        msgpack_pack_map(&pk, 2);
        member("type", "image_url");
        member("text", "no");
        msgpack_pack_map(&pk, 2);
        member("text", "tw\"o");
        member("type", "text");
        member("role", "user");
        text("n");
        msgpack_pack_int(&pk, -3);
        text("params");
        msgpack_pack_map(&pk, 3);
        text("temperature");
        msgpack_pack_double(&pk, 0.1);
        text("max_tokens");
        msgpack_pack_int(&pk, 64);
        text("unknown");
        msgpack_pack_int(&pk, 64);
        made = composed();
        expect_view(made.body,
                        "{\"messages\":[{\"role\":\"system\",\"content\":\"be\\tbrief\"},"
                        "{\"role\":\"user\",\"content\":\"old\"},"
                        "{\"content\":[{\"type\":\"text\",\"text\":\"one\"},{\"type\":\"image_"
                        "url\",\"text\":\"no\"},"
                        "{\"text\":\"tw\\\"o\",\"type\":\"text\"}],\"role\":\"user\",\"n\":-3}],"
                        "\"temperature\":0.1,\"max_tokens\":64}");
        ck_assert_uint_eq(made.marks.n_messages, 3);
        expect_span(&made, made.marks.first_system, "\"be\\tbrief\"");
        expect_span(&made, made.marks.max_tokens, "64");
        ck_assert_uint_eq(made.marks.object_end, made.body.n - 1);
        expect_view(made.query, "one\ntw\"o");
        ck_assert_uint_eq(made.marks.model.len, 0);
        ck_assert(made.options & OPTION_BODY_BUILT);
}
END_TEST

/* What is built here and what the scan of a client's body finds must be the same. */
START_TEST(a_built_body_has_the_marks_that_a_scan_finds) {
        struct composed built, scanned;
        char *body;

        begin(3);
        member("op", "submit");
        member("prompt", "gr\xc3\xbc\xc3\x9f \"dich\"\n\x01");
        text("params");
        msgpack_pack_map(&pk, 2);
        text("max_tokens");
        msgpack_pack_int(&pk, 9);
        text("stop");
        msgpack_pack_array(&pk, 2);
        text("a");
        text("b");
        built = composed();
        body = strndup(built.body.p, built.body.n);
        begin(2);
        member("op", "submit");
        member("body", body);
        scanned = composed();
        ck_assert_mem_eq(&built.marks, &scanned.marks, sizeof(built.marks));
        expect_view(scanned.query, "gr\xc3\xbc\xc3\x9f \"dich\"\n\x01");
        free(body);
}
END_TEST

START_TEST(a_clients_body_is_untouched_and_its_params_travel_beside_it) {
        static const char body[] =
                        " { \"model\" : \"m\\u0061x\", \"messages\":[{\"role\":\"user\","
                        "\"content\":\"q\"}], \"stream_options\":{\"include_usage\":true} }\n";
        struct composed made;

        begin(3);
        member("op", "submit");
        text("body");
        msgpack_pack_bin(&pk, sizeof(body) - 1);
        msgpack_pack_bin_body(&pk, body, sizeof(body) - 1);
        text("params");
        msgpack_pack_map(&pk, 2);
        text("seed");
        msgpack_pack_int(&pk, 4);
        text("top_p");
        msgpack_pack_double(&pk, 0.5);
        made = composed();
        expect_view(made.body, body);
        ck_assert_ptr_eq(made.body.p, ask.text.p);
        expect_view(made.params, "\"seed\":4,\"top_p\":0.5");
        expect_view(made.model, "max");
        ck_assert(made.options == OPTION_USAGE_ASKED);
        ck_assert_uint_eq(made.marks.object_end, sizeof(body) - 3);
}
END_TEST

START_TEST(the_frames_model_wins_over_the_bodys) {
        struct composed made;

        begin(3);
        member("op", "submit");
        member("model", "mine");
        member("body", "{\"model\":\"theirs\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]"
                       "}");
        made = composed();
        expect_view(made.model, "mine");
}
END_TEST

START_TEST(the_query_is_cut_at_a_character) {
        char *prompt = malloc(6001);
        struct composed made;

        for (int i = 0; i < 2000; i++)
                memcpy(prompt + 3 * i, "\xe2\x82\xac", 3);
        prompt[6000] = 0;
        begin(2);
        member("op", "submit");
        member("prompt", prompt);
        made = composed();
        ck_assert_uint_eq(made.query.n, 4095);
        ck_assert_uint_eq(json_utf8_bad(made.query.p, made.query.n), made.query.n);
        free(prompt);
}
END_TEST

START_TEST(the_digest_tells_contents_apart_and_nothing_else) {
        static const char *const names[] = {"model", "system", "template"};
        struct composed base, other;

        begin(2);
        member("op", "submit");
        member("prompt", "x");
        base = composed();
        begin(4);
        member("session", "s");
        member("prompt", "x");
        member("priority", "bulk");
        member("op", "submit");
        other = composed();
        ck_assert_mem_eq(base.digest, other.digest, sizeof(base.digest));
        for (int i = 0; i < 3; i++) {
                submit_with(names[i]);
                text("y");
                other = composed();
                ck_assert_mem_ne(base.digest, other.digest, sizeof(base.digest));
        }
        begin(2);
        member("op", "submit");
        member("prompt", "y");
        other = composed();
        ck_assert_mem_ne(base.digest, other.digest, sizeof(base.digest));
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway native");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, op_must_be_there_a_string_and_known);
        tcase_add_test(refusals, each_text_field_refuses_another_type_and_bad_utf8);
        tcase_add_test(refusals, other_fields_refuse_another_type);
        tcase_add_test(refusals, ids_are_short_printable_and_there);
        tcase_add_test(refusals, exactly_one_of_prompt_messages_and_body);
        tcase_add_test(refusals, an_error_still_knows_the_id);
        tcase_add_test(refusals, messages_are_checked_one_by_one);
        tcase_add_test(refusals, params_are_checked_by_name);
        tcase_add_test(refusals, a_body_over_the_limit_is_too_large);
        tcase_add_test(refusals, a_broken_body_says_where);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, setup, teardown);
        tcase_add_test(behaviour, unknown_members_are_ignored_and_nil_means_absent);
        tcase_add_test(behaviour, messages_become_json_with_marks);
        tcase_add_test(behaviour, a_built_body_has_the_marks_that_a_scan_finds);
        tcase_add_test(behaviour, a_clients_body_is_untouched_and_its_params_travel_beside_it);
        tcase_add_test(behaviour, the_frames_model_wins_over_the_bodys);
        tcase_add_test(behaviour, the_query_is_cut_at_a_character);
        tcase_add_test(behaviour, the_digest_tells_contents_apart_and_nothing_else);
        suite_add_tcase(s, behaviour);
        return s;
}

int main(void) {
        SRunner *runner;
        int failed;

        msgpack_sbuffer_init(&out);
        runner = srunner_create(suite());
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        msgpack_sbuffer_destroy(&out);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
