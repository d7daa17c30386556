/* The openai worker against a scripted backend: what it is sent, and how a request ends early, is
 * tried again, waits, or outlives a death. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

/* ---- what the backend is sent --------------------------------------------------------------- */

static void base64(const char *in, char *to) {
        static const char digits[] =
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t n = strlen(in);

        for (size_t i = 0; i < n; i += 3) {
                uint32_t v = (uint32_t)(uint8_t)in[i] << 16 |
                             (i + 1 < n ? (uint32_t)(uint8_t)in[i + 1] << 8 : 0) |
                             (i + 2 < n ? (uint8_t)in[i + 2] : 0);
                *to++ = digits[v >> 18];
                *to++ = digits[v >> 12 & 63];
                *to++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
                *to++ = i + 2 < n ? digits[v & 63] : '=';
        }
        *to = '\0';
}

static void expect_sent(const struct world_request *request, const char *want) {
        char encoded[4096], *text;

        free(backend_log(true));
        answer = (struct world_answer){0};
        world_finish(&world, world_submit(&world, request), &answer);
        ck_assert_msg(answer.code == MR_E_none, "%s", answer.message);
        base64(want, encoded);
        text = backend_log(false);
        ck_assert_msg(strstr(text, encoded) != NULL, "not sent: %s\n%s", want, text);
        ck_assert(strstr(text, "\"authorization\": \"Bearer " RIG_KEY "\""));
        ck_assert(strstr(text, "\"path\": \"/v1/chat/completions\""));
        free(text);
}

START_TEST(the_body_goes_out_byte_for_byte_but_for_edited_values_C16) {
        setup_with((struct world_setup){0});
        expect_sent(&(struct world_request){.model = "any",
                                    .body = "{ \"x\" : [1.50 ,\"\\u00e9\"],\"model\":\"any\", "
                                            "\"messages\" :[{\"role\":\"user\",\"content\":\"hi\"} "
                                            "] , \"x\":2 }"},
                        "{ \"x\" : [1.50 ,\"\\u00e9\"],\"model\":\"any\", \"messages\" "
                        ":[{\"role\":\"user\",\"content\":\"hi\"} ] , "
                        "\"x\":2 ,\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
        expect_sent(&(struct world_request){.model = "any",
                                    .in_arena = true,
                                    .body = "{\"model\":\"any\",\"stream\":false,\"messages\":[{"
                                            "\"role\":\"user\",\"content\":\"hi\"}],"
                                            "\"stream_options\":{\"a\": 1 },\"model\" : "
                                            "\"other\"}"},
                        "{\"model\":\"any\",\"stream\":true,\"messages\":[{\"role\":\"user\","
                        "\"content\":\"hi\"}],"
                        "\"stream_options\":{\"a\": 1 ,\"include_usage\":true},\"model\" : "
                        "\"any\"}");
        expect_sent(&(struct world_request){.model = "any",
                                    .params = "\"temperature\":0.5",
                                    .body = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
                                            ",\"stream\":true,"
                                            "\"stream_options\":null}"},
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true},\"temperature\":0.5,\"model\":"
                        "\"any\"}");
}
END_TEST

START_TEST(the_workers_model_name_replaces_the_clients) {
        workers[0].model = (char *)"up/stream \"7b\"";
        setup_with((struct world_setup){0});
        expect_sent(&(struct world_request){.model = "any",
                                    .body = "{\"model\":\"any\",\"messages\":[{\"role\":\"user\","
                                            "\"content\":\"hi\"}],\"stream\":true,\"stream_"
                                            "options\":{}}"},
                        "{\"model\":\"up/stream "
                        "\\\"7b\\\"\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                        "\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true}}");
}
END_TEST

START_TEST(pieces_are_sent_in_order) {
        static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                                   "\"model\":\"any\",\"cut\":1,"
                                   "\"stream\":true,\"stream_options\":{}}";
        uint32_t cut = (uint32_t)(strstr(body, "\"cut\":1,") - body);

        setup_with((struct world_setup){0});
        expect_sent(&(struct world_request){.model = "any",
                                    .body = body,
                                    .n_pieces = 2,
                                    .pieces = {{0, cut}, {cut + 8, sizeof(body) - 1 - cut - 8}}},
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"model\":\"any\","
                        "\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true}}");
}
END_TEST

/* ---- cancel, retries, limits, death --------------------------------------------------------- */

START_TEST(a_cancel_closes_the_backends_connection_before_and_after_the_first_token) {
        static const char *const scenarios[] = {"@stall_before", "@stall_head", "@stall_after_one"};

        setup_with((struct world_setup){0});
        for (unsigned i = 0; i < 3; i++) {
                uint64_t id = world_say(&world, scenarios[i]);
                answer = (struct world_answer){0};
                until_log("\"opened\"", i + 1);
                world_cancel(&world, id, CANCEL_CLIENT);
                world_turn(&world); /* this one turn, and no more */
                for (int wait = 0; wait < 600 && log_count("\"ended\": \"client\"") < i + 1; wait++)
                        usleep(10000);
                ck_assert_uint_eq(log_count("\"ended\": \"client\""), i + 1);
                world_finish(&world, id, &answer);
                ck_assert_int_eq(answer.code, MR_E_cancelled);
        }
}
END_TEST

START_TEST(a_deadline_closes_it_too_and_is_no_failure_of_the_backend) {
        uint64_t id;

        setup_with((struct world_setup){0});
        id = world_submit(&world,
                        &(struct world_request){.deadline_ns = world_now() + 200 * NS_PER_MS,
                                        .body = "{\"messages\":[{\"role\":\"user\",\"content\":\"@"
                                                "stall_before\"}]}"});
        world_finish(&world, id, &answer);
        ck_assert_int_eq(answer.code, MR_E_deadline_exceeded);
        ck_assert_uint_eq(((struct inference *)world.w->stage)
                                          ->routes->backends[0]
                                          .breaker.n_failures,
                        0);
        until_log("\"ended\": \"client\"", 1);
}
END_TEST

START_TEST(a_failure_before_the_first_token_is_tried_again) {
        setup_with((struct world_setup){.attempts = 2});
        ask("flaky");
        ck_assert_msg(answer.code == MR_E_none, "%s", answer.message);
        expect_text("flaky");
        ck_assert_uint_eq(log_count("\"opened\""), 2);
}
END_TEST

START_TEST(a_400_is_not_tried_again_and_nothing_is_after_the_first_token) {
        setup_with((struct world_setup){.attempts = 3, .n_workers = 2});
        ask("http_400");
        ck_assert_int_eq(answer.code, MR_E_invalid_request);
        ck_assert_uint_eq(log_count("\"opened\""), 1);
        ask("reset");
        ck_assert_int_eq(answer.code, MR_E_upstream_error);
        ck_assert_uint_eq(log_count("\"opened\""), 2);
}
END_TEST

START_TEST(the_next_worker_answers_when_a_backend_fails_C9) {
        static const char *const scenarios[] = {
                        "http_500", "http_401", "error_first", "refuse", "no_such_thing"};

        setup_with((struct world_setup){.n_workers = 2});
        for (unsigned i = 0; i < 4; i++) {
                ask(scenarios[i]);
                ck_assert_msg(answer.code == MR_E_none, "%s: %s", scenarios[i], answer.message);
                ck_assert_str_eq(answer.worker, "spare");
        }
        world_free(&world);
        workers[0].base_url = (char *)"http://127.0.0.1:1/v1"; /* nobody listens there */
        setup_with((struct world_setup){.n_workers = 2});
        ask("normal");
        ck_assert_str_eq(answer.worker, "spare");
}
END_TEST

START_TEST(a_backend_that_keeps_failing_is_left_alone) {
        setup_with((struct world_setup){0});
        for (int i = 0; i < 5; i++)
                ask("http_500");
        ask("normal");
        ck_assert_int_eq(answer.code, MR_E_upstream_error);
        ck_assert_uint_gt(answer.retry_after_ms, 0);
        ck_assert_uint_eq(log_count("\"opened\""), 5);
}
END_TEST

START_TEST(requests_over_the_workers_limit_wait_for_a_place) {
        uint64_t ids[4], until = world_now() + 60 * NS_PER_S;
        struct inference *inf;
        const struct ring_msg *msg;
        unsigned n_done = 0, busiest = 0;

        workers[0].max_concurrency = 2;
        setup_with((struct world_setup){0});
        inf = world.w->stage;
        for (int i = 0; i < 4; i++)
                ids[i] = world_say(&world, i == 3 ? "@stall_before" : "@gaps hi");
        while (n_done < 3) {
                world_turn(&world);
                if (inf->routes->backends[0].busy > busiest)
                        busiest = inf->routes->backends[0].busy;
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        ring_rx_take(&world.answers);
                        n_done += msg->type == RECORD_DONE;
                        ring_rx_ack(&world.answers, msg->seq);
                }
                ring_rx_flush(&world.answers, true);
                ck_assert_uint_lt(world_now(), until);
        }
        ck_assert_uint_eq(busiest, 2);
        world_cancel(&world, ids[3], CANCEL_CLIENT);
        while (inf->n_open)
                world_turn(&world);
        ck_assert_uint_eq(inf->routes->backends[0].busy, 0);
        ck_assert_uint_eq(inf->routes->backends[0].waiting.n, 0);
}
END_TEST

START_TEST(a_request_that_waits_for_a_place_can_be_cancelled) {
        uint64_t first, second;

        workers[0].max_concurrency = 1;
        setup_with((struct world_setup){0});
        first = world_say(&world, "@stall_before");
        second = world_say(&world, "@normal");
        until_log("\"opened\"", 1);
        world_cancel(&world, second, CANCEL_CLIENT);
        world_finish(&world, second, &answer);
        ck_assert_int_eq(answer.code, MR_E_cancelled);
        ck_assert_uint_eq(((struct inference *)world.w->stage)->routes->backends[0].waiting.n, 0);
        world_cancel(&world, first, CANCEL_CLIENT);
        world_turn(&world);
        ck_assert_uint_eq(log_count("\"opened\""), 1);
}
END_TEST

START_TEST(connections_are_used_again) {
        char *text;

        setup_with((struct world_setup){0});
        for (int i = 0; i < 20; i++)
                ask("normal");
        text = backend_log(false);
        ck_assert_uint_eq(count(text, "\"opened\""), 20);
        free(text);
}
END_TEST

START_TEST(after_a_death_who_had_emitted_nothing_asks_the_backend_again) {
        uint64_t id;

        setup_with((struct world_setup){0});
        id = world_say(&world, "@gaps hello");
        until_log("\"opened\"", 1);
        world_kill(&world);
        world_take(&world, id, &answer);
        world_start(&world);
        if (answer.n_deltas == 0) {
                world_finish(&world, id, &answer);
                ck_assert_int_eq(answer.code, MR_E_none);
                ck_assert_str_eq(answer.text, "You said: @gaps hello");
                ck_assert_uint_eq(log_count("\"opened\""), 2);
        }
}
END_TEST

START_TEST(two_hundred_answers_are_open_at_once_and_each_is_whole) {
        struct world_answer *answers = calloc(200, sizeof(*answers));
        uint64_t first = world.now_req, until = world_now() + 100 * NS_PER_S;
        unsigned n_done = 0, most = 0;
        const struct ring_msg *msg;
        struct record record;

        workers[0].max_concurrency = 1000;
        setup_with((struct world_setup){.n_slots = 200});
        first = world.now_req;
        for (int i = 0; i < 200; i++) {
                world_say(&world, "@together 200");
                if (i % 16 == 15)
                        world_turn(&world);
        }
        while (n_done < 200) {
                struct inference *inf = world.w->stage;
                world_turn(&world);
                most = inf->n_open > most ? inf->n_open : most;
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        struct world_answer *to = &answers[msg->req_id - first];
                        ring_rx_take(&world.answers);
                        ck_assert_uint_eq(msg->ord, to->next_ord);
                        to->next_ord++;
                        ck_assert_int_eq(
                                        record_decode(&world.decoder, msg->data, msg->len, &record),
                                        0);
                        if (msg->type == RECORD_DELTA)
                                strncat(to->text, record.text.p, record.text.n);
                        ck_assert_msg(msg->type != RECORD_ERROR, "%.*s", (int)record.message.n,
                                        record.message.p);
                        n_done += msg->type == RECORD_DONE;
                        ring_rx_ack(&world.answers, msg->seq);
                }
                ring_rx_flush(&world.answers, true);
                ck_assert_uint_lt(world_now(), until);
        }
        ck_assert_uint_eq(most, 200);
        for (int i = 0; i < 200; i++)
                ck_assert_str_eq(answers[i].text, "You said: @together 200");
        free(answers);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("inference backend");
        TCase *tc = tcase_create("inference backend");

        tcase_set_timeout(tc, 200);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, the_body_goes_out_byte_for_byte_but_for_edited_values_C16);
        tcase_add_test(tc, the_workers_model_name_replaces_the_clients);
        tcase_add_test(tc, pieces_are_sent_in_order);
        tcase_add_test(tc,
                        a_cancel_closes_the_backends_connection_before_and_after_the_first_token);
        tcase_add_test(tc, a_deadline_closes_it_too_and_is_no_failure_of_the_backend);
        tcase_add_test(tc, a_failure_before_the_first_token_is_tried_again);
        tcase_add_test(tc, a_400_is_not_tried_again_and_nothing_is_after_the_first_token);
        tcase_add_test(tc, the_next_worker_answers_when_a_backend_fails_C9);
        tcase_add_test(tc, a_backend_that_keeps_failing_is_left_alone);
        tcase_add_test(tc, requests_over_the_workers_limit_wait_for_a_place);
        tcase_add_test(tc, a_request_that_waits_for_a_place_can_be_cancelled);
        tcase_add_test(tc, connections_are_used_again);
        tcase_add_test(tc, after_a_death_who_had_emitted_nothing_asks_the_backend_again);
        tcase_add_test(tc, two_hundred_answers_are_open_at_once_and_each_is_whole);
        suite_add_tcase(suite, tc);
        return rig_main(argc, argv, suite);
}
