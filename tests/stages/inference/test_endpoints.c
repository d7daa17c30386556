/* The openai worker at a backend's other endpoints: legacy completions and embeddings. */
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static void ask_for(enum record_endpoint endpoint, const char *model, const char *body) {
        free(backend_log(true));
        answer = (struct world_answer){0};
        world_finish(&world,
                        world_submit(&world, &(struct world_request){.model = model,
                                                             .body = body,
                                                             .endpoint = endpoint}),
                        &answer);
}

START_TEST(a_worker_without_embeddings_is_passed_over_and_none_is_an_error) {
        workers[0].kind = SETTINGS_WORKER_ECHO;
        setup_with((struct world_setup){0});
        ask_for(ENDPOINT_EMBEDDINGS, "any", "{\"input\":\"hi\"}");
        ck_assert_int_eq(answer.code, MR_E_invalid_request);
        ck_assert_msg(strstr(answer.message, "embeddings"), "%s", answer.message);
}
END_TEST

START_TEST(what_a_backend_refuses_to_embed_is_an_error) {
        static const struct {
                const char *body;
                enum mr_error code;
                const char *says;
        } rows[] = {{"{\"input\":\"@http_400\"}", MR_E_invalid_request, "temperature"},
                        {"{\"input\":\"@http_401\"}", MR_E_upstream_error, "credentials"},
                        {"{\"input\":\"@http_503\"}", MR_E_overloaded, "Loading"},
                        {"{\"input\":\"@html\"}", MR_E_upstream_error, "not a JSON object"},
                        {"{\"input\":\"@cut\"}", MR_E_upstream_error, "gpu"}};

        setup_with((struct world_setup){0});
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct inference *inf = world.w->stage;
                breaker_success(&inf->routes->backends[0].breaker);
                ask_for(ENDPOINT_EMBEDDINGS, "any", rows[i].body);
                ck_assert_msg(answer.code == rows[i].code, "%s: %s \"%s\"", rows[i].body,
                                mr_error_name(answer.code), answer.message);
                ck_assert_msg(strstr(answer.message, rows[i].says), "%s", answer.message);
                ck_assert_uint_eq(answer.n_deltas, 0);
        }
}
END_TEST

START_TEST(embeddings_are_passed_on_byte_for_byte_but_for_the_models_name) {
        char *text;

        setup_with((struct world_setup){0});
        ask_for(ENDPOINT_EMBEDDINGS, "any", "{\"input\":[\"hi\"], \"dimensions\" : 3}");
        ck_assert_msg(answer.code == MR_E_none, "%s", answer.message);
        ck_assert_str_eq(answer.text, "");
        ck_assert_str_eq(answer.reasoning,
                        "{\"object\": \"list\", \"data\": [{\"object\": \"embedding\", \"index\": 0, "
                        "\"embedding\": [0.03125, 0.81640625, -0.5]}], \"model\": \"any\", \"odd\": "
                        "{\"kept\": [1.5]}, \"usage\": {\"prompt_tokens\": 7, \"total_tokens\": 7}}");
        ck_assert_uint_eq(answer.prompt_tokens, 7);
        ck_assert_uint_eq(answer.completion_tokens, 0);
        text = backend_log(false);
        ck_assert(strstr(text, "\"path\": \"/v1/embeddings\""));
        /* {"input":["hi"], "dimensions" : 3,"model":"any"}: no stream, nothing else. */
        ck_assert(strstr(text, "eyJpbnB1dCI6WyJoaSJdLCAiZGltZW5zaW9ucyIgOiAzLCJtb2RlbCI6ImFueSJ9"));
        free(text);
}
END_TEST

START_TEST(embeddings_larger_than_the_ring_come_in_pieces) {
        enum { INPUTS = 1500 };
        char *body = malloc(INPUTS * 8 + 64), *at;
        struct record record;
        const struct ring_msg *msg;
        uint64_t total = 0;
        bool over = false;

        setup_with((struct world_setup){0});
        at = stpcpy(body, "{\"input\":[\"x\"");
        for (int i = 1; i < INPUTS; i++)
                at = stpcpy(at, ",\"x\"");
        strcpy(at, "]}");
        world_submit(&world, &(struct world_request){.body = body, .endpoint = ENDPOINT_EMBEDDINGS});
        while (!over) {
                world_turn(&world);
                while (ring_rx_peek(&world.answers, &msg) == 0) {
                        ring_rx_take(&world.answers);
                        ck_assert_int_eq(record_decode(&world.decoder, msg->data, msg->len, &record),
                                        0);
                        total += msg->type == RECORD_DELTA ? record.text.n : 0;
                        ck_assert_int_ne(msg->type, RECORD_ERROR);
                        over |= msg->type == RECORD_DONE;
                        ring_rx_ack(&world.answers, msg->seq);
                }
                ring_rx_flush(&world.answers, true);
        }
        ck_assert_uint_gt(total, 65536);
        free(body);
}
END_TEST

START_TEST(a_legacy_completion_is_asked_for_at_its_own_endpoint) {
        char *text;

        setup_with((struct world_setup){0});
        ask_for(ENDPOINT_COMPLETIONS, "any", "{\"prompt\":\"tell me\"}");
        ck_assert_msg(answer.code == MR_E_none, "%s", answer.message);
        ck_assert_str_eq(answer.text, "You said: tell me");
        ck_assert_str_eq(answer.finish, "stop");
        text = backend_log(false);
        ck_assert(strstr(text, "\"path\": \"/v1/completions\""));
        /* {"prompt":"tell me","model":"any","stream":true,"stream_options":{"include_usage":true}} */
        ck_assert(strstr(text, "eyJwcm9tcHQiOiJ0ZWxsIG1lIiwibW9kZWwiOiJhbnkiLCJzdHJlYW0iOnRydWUsInN0cmVhbV9v"
                               "cHRpb25zIjp7ImluY2x1ZGVfdXNhZ2UiOnRydWV9fQ=="));
        free(text);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("inference endpoints");
        TCase *tc = tcase_create("inference endpoints");

        tcase_set_timeout(tc, 100);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, a_worker_without_embeddings_is_passed_over_and_none_is_an_error);
        tcase_add_test(tc, what_a_backend_refuses_to_embed_is_an_error);
        tcase_add_test(tc, embeddings_are_passed_on_byte_for_byte_but_for_the_models_name);
        tcase_add_test(tc, embeddings_larger_than_the_ring_come_in_pieces);
        tcase_add_test(tc, a_legacy_completion_is_asked_for_at_its_own_endpoint);
        suite_add_tcase(suite, tc);
        return rig_main(argc, argv, suite);
}
