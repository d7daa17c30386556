#include "stages/gateway/responses_json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openai_tape.h"

static const struct responses_answer answer = {
                .id = {"req_\"1", 6}, .model = {"m\"", 2}, .created = 1700000000};

/* ---- events of what is on the tape ---- */

#define EVENTS_MAX 600u

static char *out; /* the stream */
static size_t out_n;
static struct {
        char name[64], *data;
        uint64_t number;
} events[EVENTS_MAX];
static uint32_t n_events;
static enum record_type end_type = RECORD_DONE;

static void setup(void) {
        tape_clear();
        end_type = RECORD_DONE;
}

static void event_keep(const char *text, uint32_t n) {
        char id[64], *data = strstr(text, "\ndata: ");

        ck_assert_uint_lt(n_events, EVENTS_MAX);
        ck_assert_ptr_nonnull(data);
        ck_assert_int_eq(sscanf(text, "event: %63s\nid: %63s\n", events[n_events].name, id), 2);
        ck_assert_msg(strncmp(id, "req_\"1.", 7) == 0, "%s", id);
        ck_assert_msg(strcmp(text + n - 2, "\n\n") == 0, "%s", text);
        events[n_events].number = strtoull(id + 7, NULL, 10);
        events[n_events].data = strndup(data + 7, n - (size_t)(data + 7 - text) - 2);
        expect_string(json_tree(events[n_events].data), "type", events[n_events].name);
        expect_number(json_tree(events[n_events].data), "sequence_number", id + 7);
        n_events++;
}

static void event_take(struct responses *r) {
        uint64_t bound = responses_event_bound(r, &answer);
        struct json_buf b = {.at = malloc(bound + 1), .cap = (uint32_t)bound};

        ck_assert_ptr_nonnull(b.at);
        responses_event(&b, r, &answer);
        ck_assert_msg(!b.full, "%llu bytes were not enough", (unsigned long long)bound);
        b.at[b.len] = '\0';
        event_keep(b.at, b.len);
        out = realloc(out, out_n + b.len);
        ck_assert_ptr_nonnull(out);
        memcpy(out + out_n, b.at, b.len);
        out_n += b.len;
        free(b.at);
}

static void events_clear(void) {
        while (n_events > 0)
                free(events[--n_events].data);
        out_n = 0;
}

/* All records of the tape; events from number `from` on are written. */
static struct responses *run(uint64_t from) {
        struct responses *r;

        events_clear();
        ck_assert_int_eq(responses_new(&r, TAPE_BYTES), 0);
        for (uint32_t i = 0; i < tape.n; i++) {
                bool last = tape.done && i + 1 == tape.n;

                ck_assert_int_eq(responses_add(r, last ? end_type : RECORD_DELTA,
                                                 &tape.records[i]),
                                0);
                while (responses_due(r))
                        if (responses_number(r) < from)
                                responses_pass(r);
                        else
                                event_take(r);
        }
        return r;
}

static void expect_names(const char *const *names, uint32_t n) {
        for (uint32_t i = 0; i < n && i < n_events; i++) {
                ck_assert_uint_eq(events[i].number, i);
                ck_assert_msg(strncmp(events[i].name, "response.", 9) == 0 &&
                                              strcmp(events[i].name + 9, names[i]) == 0,
                                "%u: got %s, want %s", i, events[i].name, names[i]);
        }
        ck_assert_uint_eq(n_events, n);
}
#define EXPECT_NAMES(...)                                                                          \
        expect_names((const char *const[]){__VA_ARGS__},                                           \
                        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static yajl_val event(uint32_t i) {
        ck_assert_uint_lt(i, n_events);
        return json_tree(events[i].data);
}

static struct record *tape_error(enum mr_error code, const char *message) {
        struct record *r = tape_record();

        r->has = HAS(code) | HAS(message);
        r->code = code;
        r->message = tape_view(message);
        tape.done = true;
        end_type = RECORD_ERROR;
        return r;
}

static const char *whole(const struct responses *r, enum responses_say say) {
        static char *text;
        uint64_t bound = responses_whole_bound(r, &answer);
        struct json_buf b = {.at = realloc(text, bound + 1), .cap = (uint32_t)bound};

        ck_assert_ptr_nonnull(b.at);
        text = b.at;
        responses_whole(&b, r, &answer, say);
        ck_assert(!b.full);
        text[b.len] = '\0';
        return text;
}

/* ---- refusals ---- */

START_TEST(a_response_over_the_limit_is_too_large) {
        struct responses *r;

        ck_assert_int_eq(responses_new(&r, RESPONSES_ITEM_BYTES + 10), 0);
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, tape_text(0, NULL, "0123456789")), 0);
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, tape_text(0, NULL, "x")),
                        RESPONSES_E_LARGE);
        responses_free(r);
        ck_assert_int_eq(responses_new(&r, 2 * RESPONSES_ITEM_BYTES), 0);
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, tape_tool(0, 0, "", "", "")), 0);
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, tape_tool(0, 1, "", "", "")), 0);
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, tape_tool(0, 2, "", "", "")),
                        RESPONSES_E_LARGE);
        responses_free(r);
        ck_assert_ptr_null(responses_free(NULL));
}
END_TEST

START_TEST(what_is_not_utf8_is_mended_and_other_choices_are_not_there) {
        tape_text(0, NULL, "a\xff");
        tape_text(1, NULL, "other");
        tape_tool(2, 0, "call", "f", "{}");
        tape_done("stop");
        responses_free(run(0));
        expect_string(event(n_events - 1), "response.output.0.content.0.text", "a\xef\xbf\xbd");
        expect_absent(event(n_events - 1), "response.output.1");
}
END_TEST

/* ---- streams ---- */

START_TEST(a_text_has_all_its_events_in_order) {
        tape_text(0, NULL, "Hi \"");
        tape_text(0, NULL, "");
        tape_text(0, NULL, "you\n");
        tape_done("stop");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.delta", "output_text.delta", "output_text.done",
                        "content_part.done", "output_item.done", "completed");
        expect_string(event(0), "response.status", "in_progress");
        expect_string(event(0), "response.id", "resp_req_\"1");
        expect_string(event(2), "item.status", "in_progress");
        expect_string(event(2), "item.id", "msg_req_\"1_0");
        expect_absent(event(2), "item.content.0");
        expect_string(event(3), "item_id", "msg_req_\"1_0");
        expect_string(event(3), "part.text", "");
        expect_string(event(4), "delta", "Hi \"");
        expect_number(event(5), "output_index", "0");
        expect_number(event(5), "content_index", "0");
        expect_string(event(6), "text", "Hi \"you\n");
        expect_string(event(7), "part.text", "Hi \"you\n");
        expect_string(event(8), "item.content.0.text", "Hi \"you\n");
        expect_string(event(8), "item.status", "completed");
        expect_string(event(9), "response.output.0.content.0.text", "Hi \"you\n");
        expect_string(event(9), "response.status", "completed");
        expect_number(event(9), "response.usage.input_tokens", "11");
        expect_number(event(9), "response.usage.output_tokens", "7");
        expect_number(event(9), "response.usage.total_tokens", "18");
        expect_null(event(9), "response.error");
}
END_TEST

START_TEST(an_answer_without_a_word_is_a_message_all_the_same) {
        tape_done("stop");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.done", "content_part.done", "output_item.done", "completed");
        expect_string(event(7), "response.output.0.content.0.text", "");
}
END_TEST

START_TEST(reasoning_ends_where_the_message_begins) {
        tape_text(0, "reasoning", "hm");
        tape_text(0, NULL, "yes");
        tape_text(0, "reasoning", "or");
        tape_done("stop");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "reasoning_text.delta", "reasoning_text.done", "content_part.done",
                        "output_item.done", "output_item.added", "content_part.added",
                        "output_text.delta", "output_text.done", "content_part.done",
                        "output_item.done", "output_item.added", "content_part.added",
                        "reasoning_text.delta", "reasoning_text.done", "content_part.done",
                        "output_item.done", "completed");
        expect_string(event(7), "item.type", "reasoning");
        expect_string(event(7), "item.id", "rs_req_\"1_0");
        expect_string(event(7), "item.content.0.text", "hm");
        expect_number(event(10), "output_index", "1");
        expect_string(event(20), "response.output.2.content.0.text", "or");
}
END_TEST

START_TEST(a_refusal_is_another_part_of_the_message) {
        tape_text(0, NULL, "I ");
        tape_text(0, "refusal", "won't");
        tape_done("stop");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.delta", "output_text.done", "content_part.done",
                        "content_part.added", "refusal.delta", "refusal.done",
                        "content_part.done", "output_item.done", "completed");
        expect_number(event(8), "content_index", "1");
        expect_string(event(9), "refusal", "won't");
        expect_string(event(12), "response.output.0.content.1.refusal", "won't");
        expect_string(event(12), "response.output.0.content.0.text", "I ");
}
END_TEST

START_TEST(calls_whose_pieces_come_in_turns_are_put_together) {
        tape_text(0, NULL, "see");
        tape_tool(0, 0, "call_a", "f", "");
        tape_tool(0, 1, "call_b", "g", "{");
        tape_tool(0, 0, "", "", "{\"x\":1}");
        tape_tool(0, 1, "", "", "}");
        tape_done("tool_calls");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.delta", "output_text.done", "content_part.done",
                        "output_item.done", "output_item.added", "output_item.added",
                        "function_call_arguments.delta", "function_call_arguments.delta",
                        "function_call_arguments.delta", "function_call_arguments.done",
                        "output_item.done", "function_call_arguments.done", "output_item.done",
                        "completed");
        expect_string(event(8), "item.call_id", "call_a");
        expect_string(event(8), "item.name", "f");
        expect_string(event(8), "item.arguments", "");
        expect_number(event(10), "output_index", "2");
        expect_number(event(11), "output_index", "1");
        expect_string(event(11), "item_id", "fc_req_\"1_1");
        expect_absent(event(11), "content_index");
        expect_string(event(13), "arguments", "{\"x\":1}");
        expect_string(event(14), "item.arguments", "{\"x\":1}");
        expect_string(event(15), "arguments", "{}");
        expect_string(event(15), "name", "g");
        expect_string(event(17), "response.output.2.call_id", "call_b");
        expect_string(event(17), "response.status", "completed");
}
END_TEST

START_TEST(a_call_without_an_id_has_its_items) {
        tape_tool(0, 0, "", "f", "{}");
        tape_done("tool_calls");
        responses_free(run(0));
        expect_string(event(n_events - 1), "response.output.0.call_id", "fc_req_\"1_0");
}
END_TEST

START_TEST(an_answer_that_was_cut_is_incomplete_and_says_why) {
        static const char *const rows[][2] = {
                        {"length", "max_output_tokens"}, {"content_filter", "content_filter"}};

        for (int i = 0; i < 2; i++) {
                tape_clear();
                tape_text(0, NULL, "x");
                tape_done(rows[i][0]);
                responses_free(run(0));
                ck_assert_str_eq(events[n_events - 1].name, "response.incomplete");
                expect_string(event(n_events - 1), "response.status", "incomplete");
                expect_string(event(n_events - 1), "response.incomplete_details.reason", rows[i][1]);
                expect_string(event(n_events - 2), "item.status", "incomplete");
        }
}
END_TEST

START_TEST(what_fails_or_is_cancelled_ends_at_once) {
        tape_text(0, NULL, "half");
        tape_error(MR_E_rate_limited, "slow \"down\"");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.delta", "failed");
        expect_string(event(5), "response.status", "failed");
        expect_string(event(5), "response.error.code", "rate_limit_exceeded");
        expect_string(event(5), "response.error.message", "slow \"down\"");
        expect_string(event(5), "response.output.0.status", "incomplete");
        expect_string(event(5), "response.output.0.content.0.text", "half");
        expect_null(event(5), "response.usage");
        tape_clear();
        tape_error(MR_E_cancelled, "by the client");
        responses_free(run(0));
        EXPECT_NAMES("created", "in_progress", "cancelled");
        expect_string(event(2), "response.status", "cancelled");
}
END_TEST

START_TEST(sources_and_details_of_usage_come_with_the_end) {
        struct record *done;

        tape_text(0, NULL, "x");
        done = tape_done("stop");
        tape_sources(done, 2);
        done->has |= HAS(extra);
        done->extra = tape_view("\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":5},"
                                "\"completion_tokens_details\":{\"reasoning_tokens\":3}}");
        responses_free(run(0));
        expect_string(event(n_events - 1), "response.sources.1.id", "doc-1");
        expect_number(event(n_events - 1), "response.usage.input_tokens_details.cached_tokens", "5");
        expect_number(event(n_events - 1), "response.usage.output_tokens_details.reasoning_tokens",
                        "3");
}
END_TEST

/* ---- resume ---- */

static void everything(void) {
        tape_text(0, "reasoning", "hm");
        tape_text(0, NULL, "Hello, ");
        tape_text(0, NULL, "w\xc3\xb6rld");
        tape_tool(0, 0, "call_a", "f", "{");
        tape_text(0, "refusal", "no");
        tape_tool(0, 0, "", "", "}");
        tape_done("stop");
}

START_TEST(from_any_event_on_the_rest_is_the_same_bytes) {
        char *all;
        size_t all_n;
        uint32_t n;

        everything();
        responses_free(run(0));
        all = malloc(out_n);
        all_n = out_n;
        n = n_events;
        ck_assert_ptr_nonnull(all);
        memcpy(all, out, out_n);
        ck_assert_uint_gt(n, 20);
        for (uint32_t from = 0; from <= n; from++) {
                responses_free(run(from));
                ck_assert_uint_eq(n_events, n - from);
                ck_assert(out_n <= all_n && memcmp(out, all + all_n - out_n, out_n) == 0);
        }
        free(all);
}
END_TEST

START_TEST(what_was_joined_has_the_events_that_it_was_joined_of) {
        char *all;
        size_t all_n;
        struct record *joined;

        tape_text(0, NULL, "He");
        tape_text(0, NULL, "llo, ");
        tape_text(0, NULL, "you");
        tape_done("stop");
        responses_free(run(0));
        all = malloc(out_n);
        all_n = out_n;
        ck_assert_ptr_nonnull(all);
        memcpy(all, out, out_n);
        tape_clear();
        joined = tape_text(0, NULL, "Hello, you");
        joined->has |= HAS(cuts);
        joined->cuts = tape_view("\x02\x05\x03");
        tape_done("stop");
        responses_free(run(0));
        ck_assert(out_n == all_n && memcmp(out, all, all_n) == 0);
        free(all);
}
END_TEST

START_TEST(lengths_that_do_not_fit_their_text_lose_none_of_it) {
        struct record *joined = tape_text(0, NULL, "abc");

        joined->has |= HAS(cuts);
        joined->cuts = tape_view("\x01\xff\xff\xff\xff\xff\x01");
        joined = tape_text(0, NULL, "def");
        joined->has |= HAS(cuts);
        joined->cuts = tape_view("\x01");
        tape_done("stop");
        responses_free(run(0));
        expect_string(event(n_events - 1), "response.output.0.content.0.text", "abcdef");
        expect_string(event(4), "delta", "a");
        expect_string(event(5), "delta", "bc");
        expect_string(event(7), "delta", "ef");
}
END_TEST

START_TEST(what_was_said_at_once_is_not_said_again) {
        struct responses *r;

        tape_text(0, NULL, "x");
        events_clear();
        ck_assert_int_eq(responses_new(&r, TAPE_BYTES), 0);
        ck_assert_int_eq(responses_begin(r), 0);
        ck_assert_int_eq(responses_begin(r), 0);
        while (responses_due(r))
                event_take(r);
        EXPECT_NAMES("created", "in_progress");
        ck_assert_int_eq(responses_add(r, RECORD_DELTA, &tape.records[0]), 0);
        while (responses_due(r))
                event_take(r);
        EXPECT_NAMES("created", "in_progress", "output_item.added", "content_part.added",
                        "output_text.delta");
        responses_free(r);
}
END_TEST

START_TEST(an_error_of_the_stream_has_the_next_number) {
        const struct openai_error error = {
                        .code = MR_E_gone, .message = {"too \"late\"", 10}};
        uint32_t bound = responses_error_bound(&answer, &error);
        struct json_buf b = {.at = malloc(bound + 1), .cap = bound};
        struct responses *r;

        tape_text(0, NULL, "x");
        r = run(0);
        responses_error(&b, r, &answer, &error);
        ck_assert(!b.full);
        b.at[b.len] = '\0';
        event_keep(b.at, b.len);
        ck_assert_str_eq(events[5].name, "error");
        ck_assert_uint_eq(events[5].number, 5);
        expect_string(event(5), "code", "gone");
        expect_string(event(5), "message", "too \"late\"");
        expect_null(event(5), "param");
        responses_free(r);
        free(b.at);
}
END_TEST

/* ---- whole ---- */

START_TEST(a_whole_response_has_what_clients_parse) {
        static const char *const nulls[] = {"error", "incomplete_details", "instructions",
                        "max_output_tokens", "previous_response_id", "temperature", "top_p"};
        struct responses *r;
        yajl_val v;

        everything();
        r = run(0);
        v = json_tree(whole(r, RESPONSES_AS_IT_IS));
        expect_string(v, "id", "resp_req_\"1");
        expect_string(v, "object", "response");
        expect_number(v, "created_at", "1700000000");
        expect_string(v, "status", "completed");
        expect_string(v, "model", "m\"");
        for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++)
                expect_null(v, nulls[i]);
        ck_assert(YAJL_IS_FALSE(json_at(v, "background")));
        ck_assert(YAJL_IS_TRUE(json_at(v, "parallel_tool_calls")));
        ck_assert(YAJL_IS_OBJECT(json_at(v, "metadata")));
        ck_assert_uint_eq(YAJL_GET_ARRAY(json_at(v, "tools"))->len, 0);
        expect_string(v, "tool_choice", "auto");
        expect_string(v, "output.0.type", "reasoning");
        expect_string(v, "output.1.content.0.text", "Hello, w\xc3\xb6rld");
        ck_assert_uint_eq(YAJL_GET_ARRAY(json_at(v, "output.1.content.0.annotations"))->len, 0);
        expect_string(v, "output.2.arguments", "{}");
        expect_string(v, "output.3.content.0.refusal", "no");
        responses_free(r);
}
END_TEST

START_TEST(a_response_that_runs_says_what_is_there_so_far) {
        struct responses *r = run(0);

        expect_string(json_tree(whole(r, RESPONSES_QUEUED)), "status", "queued");
        responses_free(r);
        tape_text(0, NULL, "half");
        r = run(0);
        expect_string(json_tree(whole(r, RESPONSES_AS_IT_IS)), "status", "in_progress");
        expect_string(json_tree(whole(r, RESPONSES_AS_IT_IS)), "output.0.content.0.text", "half");
        expect_string(json_tree(whole(r, RESPONSES_AS_IT_IS)), "output.0.status", "in_progress");
        expect_null(json_tree(whole(r, RESPONSES_AS_IT_IS)), "usage");
        responses_free(r);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("responses_json");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_checked_fixture(refusals, setup, NULL);
        tcase_add_test(refusals, a_response_over_the_limit_is_too_large);
        tcase_add_test(refusals, what_is_not_utf8_is_mended_and_other_choices_are_not_there);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(behaviour, setup, NULL);
        tcase_add_test(behaviour, a_text_has_all_its_events_in_order);
        tcase_add_test(behaviour, an_answer_without_a_word_is_a_message_all_the_same);
        tcase_add_test(behaviour, reasoning_ends_where_the_message_begins);
        tcase_add_test(behaviour, a_refusal_is_another_part_of_the_message);
        tcase_add_test(behaviour, calls_whose_pieces_come_in_turns_are_put_together);
        tcase_add_test(behaviour, a_call_without_an_id_has_its_items);
        tcase_add_test(behaviour, an_answer_that_was_cut_is_incomplete_and_says_why);
        tcase_add_test(behaviour, what_fails_or_is_cancelled_ends_at_once);
        tcase_add_test(behaviour, sources_and_details_of_usage_come_with_the_end);
        tcase_add_test(behaviour, from_any_event_on_the_rest_is_the_same_bytes);
        tcase_add_test(behaviour, what_was_joined_has_the_events_that_it_was_joined_of);
        tcase_add_test(behaviour, lengths_that_do_not_fit_their_text_lose_none_of_it);
        tcase_add_test(behaviour, what_was_said_at_once_is_not_said_again);
        tcase_add_test(behaviour, an_error_of_the_stream_has_the_next_number);
        tcase_add_test(behaviour, a_whole_response_has_what_clients_parse);
        tcase_add_test(behaviour, a_response_that_runs_says_what_is_there_so_far);
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
