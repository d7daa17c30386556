/* A file and --set become settings. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/config.h"
#include "tests/supervisor/config/config_fixture.h"

static struct settings *load_sets(const char *yaml, const char *const *sets, unsigned n) {
        struct settings *s = NULL;

        if (yaml)
                write_bytes(yaml, strlen(yaml));
        ck_assert_msg(config_load(yaml ? file : NULL, sets, n, &s, &err) == 0, "%s", err.line);
        return s;
}

static void check_equal(const struct settings *a, const struct settings *b) {
        for (uint32_t i = 0; i < settings_shape.n_rows; i++)
                ck_assert_msg(settings_row_equal(&settings_shape.rows[i], a, b), "%s",
                              settings_shape.rows[i].path);
}

START_TEST(without_a_file_the_defaults_hold) {
        struct settings *defaults = NULL, *s = load_sets(NULL, NULL, 0);

        ck_assert_int_eq(settings_default(&defaults), 0);
        check_equal(s, defaults);
        settings_free(s);
        settings_free(defaults);
}
END_TEST

START_TEST(sections_merge_and_lists_replace) {
        struct settings *s = load("lanes: 2\n"
                                  "pin: none\n"
                                  "http:\n"
                                  "  listen: [\"unix:/run/m\", \"[::1]:81\"]\n"
                                  "channels:\n"
                                  "  # rag: 5\n"
                                  "inference:\n"
                                  "  workers:\n"
                                  "    - name: gpu\n"
                                  "      kind: openai\n"
                                  "      base_url: http://127.0.0.1:8000/v1\n"
                                  "      timeouts: { idle_ms: 7 }\n"
                                  "    - {name: say, kind: exec, command: [cat, -u]}\n"
                                  "  models:\n"
                                  "    \"*\": [gpu, say]\n"
                                  "    gpt-4.1: [say]\n"
                                  "  retry: {budget_ratio: 0.5}\n"
                                  "telemetry: {tap_content: on, listen: none}\n"
                                  "rag:\n"
                                  "  embeddings: {url: http://e/}\n");

        ck_assert_uint_eq(s->lanes, 2);
        ck_assert_int_eq(s->pin, SETTINGS_PIN_NONE);
        ck_assert_uint_eq(s->http.listen.n, 2);
        ck_assert_str_eq(s->http.listen.v[1], "[::1]:81");
        ck_assert_uint_eq(s->http.allowed_hosts.n, 3);
        ck_assert_uint_eq(s->channels.rag, 512);
        ck_assert_uint_eq(s->inference.workers.n, 2);
        ck_assert_uint_eq(s->inference.workers.v[0].timeouts.idle_ms, 7);
        ck_assert_uint_eq(s->inference.workers.v[0].timeouts.total_ms, 600000);
        ck_assert_uint_eq(s->inference.workers.v[1].max_concurrency, 64);
        ck_assert_str_eq(s->inference.workers.v[1].command.v[1], "-u");
        ck_assert_uint_eq(s->inference.models.n, 2);
        ck_assert_str_eq(s->inference.models.v[1].name, "gpt-4.1");
        ck_assert(s->inference.retry.budget_ratio > 0.49);
        ck_assert_uint_eq(s->inference.retry.attempts, 2);
        ck_assert(s->telemetry.tap_content);
        ck_assert_str_eq(s->rag.embeddings->url, "http://e/");
        ck_assert_uint_eq(s->rag.embeddings->timeout_ms, 300);
        settings_free(s);
}
END_TEST

START_TEST(texts_come_through_as_they_are) {
        struct settings *s = load("assemble:\n"
                                  "  few_shot: null\n"
                                  "inference:\n"
                                  "  workers:\n"
                                  "    - {name: local, kind: echo, model: \"null\"}\n"
                                  "  models:\n"
                                  "    \"a\\\"b\\\\c\": [local]\n"
                                  "    \"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\": [local]\n"
                                  "    123: [local]\n");

        ck_assert_str_eq(s->inference.workers.v[0].model, "null");
        ck_assert_str_eq(s->inference.models.v[0].name, "a\"b\\c");
        ck_assert_str_eq(s->inference.models.v[1].name, "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
        ck_assert_str_eq(s->inference.models.v[2].name, "123");
        settings_free(s);
}
END_TEST

START_TEST(sets_come_after_the_file_and_in_order) {
        static const char *const sets[] = {
                "lanes=3",
                "lanes=4",
                "admission={queue: 8}",
                "http.listen.1=unix:/run/x",
                "inference.workers.1={name: two, kind: echo}",
                "inference.workers.2.name=three",
                "inference.workers.2.kind=openai",
                "inference.workers.2.base_url=http://127.0.0.1:8000/v1",
                "inference.workers.2.timeouts.connect_ms=9",
                "inference.workers.2.command.0=x",
                "inference.models.gpt-4.1=[two, three]",
                "inference.models.*=[three]",
                "rag.embeddings.url=http://e/",
                "rag.embeddings.model=m=1",
                "telemetry.otlp=http://o/",
                "telemetry.otlp=null",
        };
        struct settings *s = load_sets("lanes: 1\nadmission: {max_in_flight: 5}\n", sets,
                                       sizeof(sets) / sizeof(sets[0]));

        ck_assert_uint_eq(s->lanes, 4);
        ck_assert_uint_eq(s->admission.queue, 8);
        ck_assert_uint_eq(s->admission.max_in_flight, 5);
        ck_assert_str_eq(s->http.listen.v[1], "unix:/run/x");
        ck_assert_uint_eq(s->inference.workers.n, 3);
        ck_assert_str_eq(s->inference.workers.v[2].name, "three");
        ck_assert_uint_eq(s->inference.workers.v[2].timeouts.connect_ms, 9);
        ck_assert_uint_eq(s->inference.workers.v[2].timeouts.idle_ms, 15000);
        ck_assert_str_eq(s->inference.workers.v[2].command.v[0], "x");
        ck_assert_uint_eq(s->inference.models.n, 2);
        ck_assert_str_eq(s->inference.models.v[0].workers.v[0], "three");
        ck_assert_str_eq(s->inference.models.v[1].name, "gpt-4.1");
        ck_assert_str_eq(s->rag.embeddings->model, "m=1");
        ck_assert_ptr_null(s->telemetry.otlp);
        settings_free(s);
}
END_TEST

START_TEST(a_set_may_mend_what_the_file_leaves_open) {
        static const char *const sets[] = {"inference.workers.0.timeouts.idle_ms=5",
                                           "inference.workers.0.base_url=http://x/"};
        struct settings *s = load_sets("inference: {workers: [{name: local, kind: openai, "
                                       "timeouts: null}]}\n", sets, 2);

        ck_assert_uint_eq(s->inference.workers.v[0].timeouts.idle_ms, 5);
        settings_free(s);
}
END_TEST

START_TEST(an_alias_is_the_value_it_names) {
        struct settings *s = load("channels: {rag: &n 77, post: *n}\n");

        ck_assert_uint_eq(s->channels.post, 77);
        settings_free(s);
}
END_TEST

START_TEST(keys_let_listeners_off_loopback) {
        struct settings *s = load("auth: {keys_file: /dev/null}\n"
                                  "http: {listen: [\"0.0.0.0:8080\"]}\n");

        ck_assert_str_eq(s->http.listen.v[0], "0.0.0.0:8080");
        settings_free(s);
}
END_TEST

START_TEST(a_difference_says_who_must_be_restarted) {
        struct settings *a = load("{rag: {top_k: 6}}"), *b = load("{rag: {top_k: 7}}");
        struct settings *c = load("{rag: {top_k: 6}, lanes: 1, stream: {response_ttl_s: 5}, "
                                  "inference: {workers: [{name: local, kind: echo}]}}");
        struct config_diff diff;

        config_diff(a, a, &diff);
        ck_assert_uint_eq(diff.n_changed, 0);
        config_diff(a, b, &diff);
        ck_assert_uint_eq(diff.n_changed, 1);
        ck_assert_uint_eq(diff.n_restart, 0);
        ck_assert_uint_eq(diff.at, AT_RAG);
        ck_assert_str_eq(diff.changed[0]->path, "rag.top_k");
        config_diff(a, c, &diff);
        ck_assert_uint_eq(diff.n_changed, 3);
        ck_assert_uint_eq(diff.n_restart, 1);
        ck_assert_uint_eq(diff.at, AT_ALL);
        ck_assert_str_eq(diff.changed[0]->path, "lanes");
        ck_assert_str_eq(diff.changed[1]->path, "inference.workers");
        settings_free(a);
        settings_free(b);
        settings_free(c);
}
END_TEST

START_TEST(a_difference_has_room_for_every_row) {
        ck_assert_uint_le(settings_shape.n_rows, CONFIG_ROWS_MAX);
}
END_TEST

/* ---- main ------------------------------------------------------------------------------- */

static TCase *behaviour(void) {
        TCase *tcase = tcase_create("behaviour");

        tcase_add_checked_fixture(tcase, set_up, tear_down);
        tcase_add_test(tcase, without_a_file_the_defaults_hold);
        tcase_add_test(tcase, sections_merge_and_lists_replace);
        tcase_add_test(tcase, texts_come_through_as_they_are);
        tcase_add_test(tcase, sets_come_after_the_file_and_in_order);
        tcase_add_test(tcase, a_set_may_mend_what_the_file_leaves_open);
        tcase_add_test(tcase, an_alias_is_the_value_it_names);
        tcase_add_test(tcase, keys_let_listeners_off_loopback);
        tcase_add_test(tcase, a_difference_says_who_must_be_restarted);
        tcase_add_test(tcase, a_difference_has_room_for_every_row);
        return tcase;
}

int main(void) {
        Suite *suite = suite_create("config");
        SRunner *runner = srunner_create(suite);
        int failed;

        suite_add_tcase(suite, behaviour());
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
