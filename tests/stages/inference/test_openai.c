/* The openai worker against a scripted backend: how it fails, and what its answers mean. */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* ---- refusals and failures ------------------------------------------------------------------ */

START_TEST(failures_end_with_one_error_that_says_what_happened) {
        static const struct {
                const char *scenario;
                enum mr_error code;
                const char *says, *text;
        } rows[] = {
                        {"refuse", MR_E_upstream_error, "gpu", ""},
                        {"close_at_once", MR_E_upstream_error, "gpu", ""},
                        {"garbage", MR_E_upstream_error, "not HTTP", ""},
                        {"html", MR_E_upstream_error, "ended without a finish_reason", ""},
                        {"garbage_events", MR_E_upstream_error, "not JSON", "Half "},
                        {"reset", MR_E_upstream_error, "gpu", "Half an "},
                        {"cut", MR_E_upstream_error, "gpu", "Half "},
                        {"no_finish", MR_E_upstream_error, "ended without a finish_reason",
                                        NULL},
                        {"http_400", MR_E_invalid_request, "temperature must be at most 2", ""},
                        {"http_400_context", MR_E_context_length_exceeded, "too long", ""},
                        {"http_401", MR_E_upstream_error, "credentials", ""},
                        {"http_404", MR_E_model_not_found, "does not exist", ""},
                        {"http_429", MR_E_rate_limited, "slow down", ""},
                        {"http_500", MR_E_upstream_error, "HTTP 500: boom", ""},
                        {"http_500_key", MR_E_upstream_error, "HTTP 500", ""},
                        {"http_503", MR_E_overloaded, "Loading model", ""},
                        {"redirect", MR_E_upstream_error, "redirect", ""},
                        {"error_first", MR_E_overloaded, "busy", ""},
                        {"error_middle", MR_E_upstream_error, "the engine fell over", "Half "},
                        {"error_event", MR_E_overloaded, "Overloaded", "Half "},
                        {"stall_before", MR_E_upstream_timeout, "first token", ""},
                        {"stall_head", MR_E_upstream_timeout, "first token", ""},
                        {"stall_pinging", MR_E_upstream_timeout, "first token", ""},
                        {"stall_after_one", MR_E_upstream_timeout, "silence", "O"},
                        {"endless_event", MR_E_upstream_error, "over the limit", ""},
        };

        workers[0].timeouts.first_token_ms = 300;
        workers[0].timeouts.idle_ms = 300;
        setup_with((struct world_setup){0});
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct inference *inf = world.w->stage;
                if (strcmp(rows[i].scenario, "endless_event") == 0)
                        ((struct settings_worker *)inf->routes->backends[0].settings)
                                        ->timeouts.first_token_ms = 60000;
                breaker_success(&inf->routes->backends[0].breaker);
                inf->routes->backends[0].breaker.state = BREAKER_CLOSED;
                ask(rows[i].scenario);
                ck_assert_msg(answer.code == rows[i].code, "%s: %s \"%s\"", rows[i].scenario,
                                mr_error_name(answer.code), answer.message);
                ck_assert_msg(strstr(answer.message, rows[i].says) != NULL, "%s: \"%s\"",
                                rows[i].scenario, answer.message);
                ck_assert_msg(!strstr(answer.message, RIG_KEY), "%s tells the key",
                                rows[i].scenario);
                if (rows[i].text)
                        ck_assert_msg(strcmp(answer.text, rows[i].text) == 0, "%s: \"%s\"",
                                        rows[i].scenario, answer.text);
                ck_assert_uint_eq(inf->routes->backends[0].busy, 0);
        }
}
END_TEST

START_TEST(a_429_keeps_its_retry_after) {
        setup_with((struct world_setup){0});
        ask("http_429");
        ck_assert_uint_eq(answer.retry_after_ms, 7000);
        ask("http_503");
        ck_assert_uint_eq(answer.retry_after_ms, 250);
}
END_TEST

START_TEST(a_worker_whose_key_is_missing_says_so_and_is_passed_over) {
        unsetenv("MILLRACE_TEST_KEY");
        setup_with((struct world_setup){0});
        ask("normal");
        ck_assert_int_eq(answer.code, MR_E_upstream_error);
        ck_assert(strstr(answer.message, "MILLRACE_TEST_KEY"));
        world_free(&world);
        setup_with((struct world_setup){.n_workers = 2});
        ask("normal");
        ck_assert_str_eq(answer.worker, "spare");
}
END_TEST

START_TEST(an_answer_over_its_limit_closes_the_backend) {
        setup_with((struct world_setup){.max_response_bytes = 1000});
        ask("long");
        ck_assert_int_eq(answer.code, MR_E_too_large);
        until_log("\"ended\": \"client\"", 1);
}
END_TEST

/* ---- answers -------------------------------------------------------------------------------- */

START_TEST(every_shape_of_a_good_answer_is_understood) {
        static const char *const scenarios[] = {"normal", "no_done", "no_usage", "odd_bytes",
                        "llama", "whole", "stays_open", "double_finish", "error_after_done",
                        "details", "gaps"};

        setup_with((struct world_setup){0});
        for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
                ask(scenarios[i]);
                ck_assert_msg(answer.code == MR_E_none, "%s: %s", scenarios[i], answer.message);
                expect_text(scenarios[i]);
                ck_assert_str_eq(answer.finish, "stop");
                ck_assert_str_eq(answer.worker, "gpu");
                ck_assert_uint_gt(answer.completion_tokens, 0);
        }
}
END_TEST

START_TEST(usage_is_the_backends_or_counted) {
        setup_with((struct world_setup){0});
        ask("normal");
        ck_assert_uint_eq(answer.prompt_tokens, 11);
        ck_assert_uint_eq(answer.completion_tokens, 5);
        ask("no_usage");
        ck_assert_uint_eq(answer.prompt_tokens, 7); /* the estimate that came with the request */
        ck_assert_uint_ge(answer.completion_tokens, 5);
        ask("details");
        ck_assert(strstr(answer.extra, "\"usage\":{") &&
                        strstr(answer.extra, "\"cached_tokens\":4"));
}
END_TEST

START_TEST(tools_reasoning_choices_and_unknown_members_come_through) {
        setup_with((struct world_setup){0});
        ask("tools");
        ck_assert_str_eq(answer.tool, "call_1weather{\"city\":\"Paris\"}");
        ck_assert_str_eq(answer.finish, "tool_calls");
        ask("reasoning");
        ck_assert_str_eq(answer.reasoning, "hm, yes");
        ck_assert_str_eq(answer.text, "42");
        ask("choices");
        ck_assert_str_eq(answer.text, "zero one zeroone");
        ck_assert_str_eq(answer.finish, "length");
        ck_assert(strstr(answer.extra, "\"index\":1,\"finish_reason\":\"stop\""));
        ask("extras");
        ck_assert_msg(strstr(answer.extra,
                                      "\"choices\":[{\"index\":0,\"stop_reason\":null,\"logprobs\":{\"content\":[]},"
                                      "\"delta\":"
                                      "{\"token_id\":7}}],\"system_fingerprint\":\"fp\"") != NULL,
                        "%s", answer.extra);
        ask("llama");
        ck_assert(strstr(answer.extra, "\"timings\":{\"predicted_n\":3,\"predicted_ms\":1.5}"));
}
END_TEST

START_TEST(tokens_arrive_as_they_are_produced) {
        uint64_t id;

        setup_with((struct world_setup){0});
        id = world_say(&world, "@stall_after_one");
        while (answer.n_deltas == 0) {
                world_turn(&world);
                world_take(&world, id, &answer);
        }
        ck_assert_str_eq(answer.text, "O");
        ck_assert_uint_eq(answer.n_ends, 0);
        world_cancel(&world, id, CANCEL_CLIENT);
        world_finish(&world, id, &answer);
}
END_TEST

START_TEST(a_full_ring_stops_the_backend_and_loses_nothing) {
        char want[32];
        char *text;
        uint64_t id;
        const struct ring_msg *msg;
        struct record record;
        uint32_t next = 0;
        bool was_full = false, over = false;
        uint64_t until = world_now() + 100 * NS_PER_S;

        setup_with((struct world_setup){0});
        id = world_say(&world, "@long");
        while (!over) {
                for (int i = 0; i < 50; i++) {
                        world_turn(&world);
                        was_full |= world.w->out[0].blocked;
                }
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        uint64_t seq = msg->seq;
                        ring_rx_take(&world.answers);
                        ck_assert_uint_eq(msg->req_id, id);
                        ck_assert_int_eq(
                                        record_decode(&world.decoder, msg->data, msg->len, &record),
                                        0);
                        if (msg->type == RECORD_DELTA) {
                                int n = snprintf(want, sizeof(want), "word%u ", next++);
                                ck_assert(record.text.n == (uint32_t)n &&
                                                !memcmp(record.text.p, want, record.text.n));
                        }
                        over |= msg->type == RECORD_DONE;
                        ck_assert_int_ne(msg->type, RECORD_ERROR);
                        ring_rx_ack(&world.answers, seq);
                }
                ring_rx_flush(&world.answers, true);
                ck_assert_uint_lt(world_now(), until);
        }
        ck_assert(was_full);
        ck_assert_uint_eq(next, 20000);
        text = backend_log(false);
        ck_assert_uint_eq(count(text, "\"scenario\": \"long\""), 1);
        free(text);
}
END_TEST

START_TEST(an_event_larger_than_a_record_comes_in_pieces_that_cut_no_character) {
        const struct ring_msg *msg;
        struct record record;
        uint64_t total = 0;
        bool over = false;

        setup_with((struct world_setup){0});
        world_say(&world, "@big_event");
        while (!over) {
                world_turn(&world);
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        ring_rx_take(&world.answers);
                        ck_assert_int_eq(
                                        record_decode(&world.decoder, msg->data, msg->len, &record),
                                        0);
                        if (msg->type == RECORD_DELTA) {
                                ck_assert_uint_ne((uint8_t)record.text.p[0] & 0xc0, 0x80);
                                total += record.text.n;
                        }
                        ck_assert_int_ne(msg->type, RECORD_ERROR);
                        over |= msg->type == RECORD_DONE;
                        ring_rx_ack(&world.answers, msg->seq);
                }
                ring_rx_flush(&world.answers, true);
        }
        ck_assert_uint_eq(total, 300000);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("inference openai");
        TCase *tc = tcase_create("inference openai");

        tcase_set_timeout(tc, 200);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, failures_end_with_one_error_that_says_what_happened);
        tcase_add_test(tc, a_429_keeps_its_retry_after);
        tcase_add_test(tc, a_worker_whose_key_is_missing_says_so_and_is_passed_over);
        tcase_add_test(tc, an_answer_over_its_limit_closes_the_backend);
        tcase_add_test(tc, every_shape_of_a_good_answer_is_understood);
        tcase_add_test(tc, usage_is_the_backends_or_counted);
        tcase_add_test(tc, tools_reasoning_choices_and_unknown_members_come_through);
        tcase_add_test(tc, tokens_arrive_as_they_are_produced);
        tcase_add_test(tc, a_full_ring_stops_the_backend_and_loses_nothing);
        tcase_add_test(tc, an_event_larger_than_a_record_comes_in_pieces_that_cut_no_character);
        suite_add_tcase(suite, tc);
        return rig_main(argc, argv, suite);
}
