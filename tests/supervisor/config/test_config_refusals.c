/* What is wrong in a file or a --set is refused by one line that says where and what. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/config.h"
#include "tests/supervisor/config/config_fixture.h"

/* The line without the file's name has to begin with `expected`. */
static void refuse_bytes(const char *bytes, size_t len, const char *expected) {
        struct settings *s = NULL;
        const char *line = err.line;

        write_bytes(bytes, len);
        ck_assert_msg(config_load(file, NULL, 0, &s, &err) == CONFIG_E_INVALID, "taken: %s",
                      expected);
        ck_assert_ptr_null(s);
        ck_assert_msg(strncmp(line, file, strlen(file)) == 0, "%s", line);
        line += strlen(file);
        ck_assert_msg(strncmp(line, expected, strlen(expected)) == 0, "\n found %s\nwanted %s",
                      line, expected);
        ck_assert_msg(!strchr(line, '\n'), "%s", line);
}

static void refuse(const char *yaml, const char *expected) {
        refuse_bytes(yaml, strlen(yaml), expected);
}

static void refuse_set(const char *set, const char *expected) {
        struct settings *s = NULL;

        ck_assert_msg(config_load(NULL, &set, 1, &s, &err) == CONFIG_E_INVALID, "taken: %s", set);
        ck_assert_ptr_null(s);
        ck_assert_msg(strncmp(err.line, expected, strlen(expected)) == 0, "\n found %s\nwanted %s",
                      err.line, expected);
}

/* ---- refusals: the file as such --------------------------------------------------------- */

START_TEST(a_file_that_cannot_be_read_is_refused) {
        struct settings *s = NULL;

        ck_assert_int_eq(config_load("/nonexistent/c.yaml", NULL, 0, &s, &err), CONFIG_E_INVALID);
        ck_assert_str_eq(err.line, "/nonexistent/c.yaml:1: No such file or directory, expected a "
                                   "readable file");
        ck_assert_int_eq(config_load(folder, NULL, 0, &s, &err), CONFIG_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.line, ":1: found a directory, expected a file"));
        ck_assert_ptr_null(s);
}
END_TEST

START_TEST(a_file_without_settings_is_refused) {
        refuse("", ":1: found nothing, expected settings");
        refuse("# only a comment\n", ":1: found nothing, expected settings");
        refuse("just words\n", ":1: found just words, expected a map");
        refuse("- a\n- b\n", ":1: found a list, expected a map");
}
END_TEST

START_TEST(bytes_that_are_no_yaml_are_refused) {
        refuse("rag:\n  top_k: [1,\n", ":3: found broken YAML (");
        refuse("rag:\n\ttop_k: 5\n", ":2: found broken YAML (");
        refuse("lanes: 1\nlanes: 2\n", ":2: lanes: found the key twice (first in line 1)");
        refuse("lanes: 1\n---\nlanes: 2\n", ":3: found a second YAML document");
        refuse("lanes: *x\n", ":1: found broken YAML (");
        refuse("instance: !secret x\n", ":1: found the tag !secret");
        refuse("? [a]\n: 1\n", ":1: found a key that is a list or a map");
        refuse("instance: \"a\\0b\"\n", ":1: found a text with a NUL byte");
        refuse_bytes("lanes: 1\nx\0y: 2\n", 16, ":2: found a NUL byte");
        refuse_bytes("lanes: 1\n#\xff\xfe\n", 13, ":2: found bytes that are no text");
}
END_TEST

START_TEST(a_file_of_a_hundred_megabytes_is_refused) {
        struct settings *s = NULL;
        int fd = open(file, O_WRONLY | O_CREAT, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, 100 << 20), 0);
        close(fd);
        ck_assert_int_eq(config_load(file, NULL, 0, &s, &err), CONFIG_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.line, ":1: found a file of more than 1048576 bytes"));
}
END_TEST

START_TEST(values_without_end_are_refused) {
        char deep[4000] = "rag: ";

        memset(deep + 5, '[', 1000);
        memset(deep + 1005, ']', 1000);
        refuse(deep, ":1: found values nested deeper than 16 levels");
        refuse("rag: &a [*a]\n", ":1: found values nested deeper than 16 levels");
        refuse("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
               "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
               "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
               ":1: found more than 20000 values");
}
END_TEST

/* ---- refusals: keys and values ---------------------------------------------------------- */

START_TEST(an_unknown_key_names_the_one_that_was_meant) {
        refuse("lanes: 1\n\nadmision:\n  queue: 5\n",
               ":3: admision: found an unknown key, did you mean `admission`?");
        refuse("admission:\n  queue_tiemout_ms: 5\n",
               ":2: admission.queue_tiemout_ms: found an unknown key, did you mean "
               "`queue_timeout_ms`?");
        refuse("max_in_flight: 5\n", ":1: max_in_flight: found an unknown key, did you mean "
                                     "`max_in_flight` in the section `admission`?");
        refuse("admission.queue: 5\n", ":1: admission.queue: found an unknown key, did you mean "
                                       "`queue` in the section `admission`?");
        refuse("memory:\n  zzzzzzzz: 5\n", ":2: memory.zzzzzzzz: found an unknown key, expected "
                                           "one of ring_bytes, worker_cap_bytes");
        refuse("inference:\n  workers:\n    - name: a\n      kind: echo\n      gap: 5\n",
               ":5: inference.workers.0.gap: found an unknown key, did you mean");
        refuse("\"a\\nb\": 1\n", ":1: a?b: found an unknown key");
}
END_TEST

START_TEST(a_wrong_type_says_what_was_expected) {
        refuse("lanes: 2x\n", ":1: lanes: found 2x, expected auto or a whole number from 1 to ");
        refuse("lanes: \"2\"\n", ":1: lanes: found \"2\", expected");
        refuse("lanes: -1\n", ":1: lanes: found -1, expected");
        refuse("lanes: 0\n", ":1: lanes: found 0, expected");
        refuse("lanes: null\n", ":1: lanes: found null, expected");
        refuse("lanes: 010\n", ":1: lanes: found 010, expected");
        refuse("rag:\n  top_k: 0x10\n", ":2: rag.top_k: found 0x10, expected a whole number from");
        refuse("rag:\n  top_k: 99999999999999999999\n", ":2: rag.top_k: found 99999999");
        refuse("rag:\n  top_k: [5]\n", ":2: rag.top_k: found a list, expected");
        refuse("rag:\n  top_k: {a: 1}\n", ":2: rag.top_k: found a map, expected");
        refuse("rag: 5\n", ":1: rag: found 5, expected a map");
        refuse("inference: {retry: {budget_ratio: .nan}}\n",
               ":1: inference.retry.budget_ratio: found .nan, expected a number from 0 to 1");
        refuse("inference: {retry: {budget_ratio: 1.5}}\n",
               ":1: inference.retry.budget_ratio: found 1.5, expected a number from 0 to 1");
        refuse("telemetry:\n  tap_content: maybe\n",
               ":2: telemetry.tap_content: found maybe, expected true or false");
        refuse("telemetry:\n  tap_content: \"true\"\n",
               ":2: telemetry.tap_content: found \"true\", expected true or false");
        refuse("pin: lanes\n", ":1: pin: found lanes, expected lane, spread or none");
        refuse("rag:\n  on_error: 1\n", ":2: rag.on_error: found 1, expected skip or fail");
        refuse("instance: a/b\n", ":1: instance: found a/b, expected a name of at most 32");
        refuse("instance: ..\n", ":1: instance: found .., expected a name");
        refuse("socket: millrace.sock\n", ":1: socket: found millrace.sock, expected an absolute");
        refuse("http:\n  listen: 127.0.0.1:80\n", ":2: http.listen: found 127.0.0.1:80, expected a "
                                                  "list of at most 16 items, each IP:PORT");
        refuse("http:\n  listen:\n    - 127.0.0.1:80\n    - localhost\n",
               ":4: http.listen.1: found localhost, expected IP:PORT");
        refuse("http: {listen: [\"127.0.0.1:00\"]}\n", ":1: http.listen.0: found \"127.0.0.1:00\"");
        refuse("telemetry: {listen: \"127.0.0.1:0\"}\n", ":1: telemetry.listen: found \"127.0.0.1:0\"");
        refuse("http: {listen: [\"127.0.0.1:65536\"]}\n", ":1: http.listen.0: found");
        refuse("http: {trusted_proxies: [10.0.0.0/33]}\n",
               ":1: http.trusted_proxies.0: found 10.0.0.0/33, expected an address or a network");
        refuse("post: {redact: {entities: [Email]}}\n", ":1: post.redact.entities.0: found Email");
        refuse("telemetry: {otlp: localhost}\n", ":1: telemetry.otlp: found localhost, expected "
                                                 "http://HOST");
        refuse("assemble: {templates: \"a\\u2028b\"}\n", ":1: assemble.templates: found");
}
END_TEST

START_TEST(a_long_socket_path_is_refused) {
        char yaml[160] = "socket: /", *end = yaml + strlen(yaml);

        memset(end, 'x', 102);
        settings_free(load(yaml));
        memset(end, 'x', 103);
        refuse(yaml, ":1: socket: found /xxx");
}
END_TEST

/* ---- refusals: workers and models ------------------------------------------------------- */

#define WORKERS "inference:\n  workers:\n"
#define ECHO WORKERS "    - name: local\n      kind: echo\n"

START_TEST(workers_that_cannot_work_are_refused) {
        refuse(WORKERS "    - {name: a}\n",
               ":3: inference.workers.0: found no `kind`, expected it to be given");
        refuse(WORKERS "    - {kind: echo}\n", ":3: inference.workers.0: found no `name`");
        refuse(WORKERS "    - {name: null, kind: echo}\n",
               ":3: inference.workers.0: found no `name`");
        refuse("inference: {workers: []}\n", ":1: inference.workers: found a list, expected a list "
                                             "of 1 to 256 workers");
        refuse(WORKERS "    - name: local\n      kind: echo\n    - name: local\n      kind: echo\n",
               ":5: inference.workers.1.name: found `local`, the name of inference.workers.0");
        refuse(WORKERS "    - name: local\n      kind: openai\n",
               ":3: inference.workers.0: found no `base_url`, expected it for a worker");
        refuse(WORKERS "    - {name: local, kind: anthropic}\n",
               ":3: inference.workers.0: found no `base_url`");
        refuse(WORKERS "    - {name: local, kind: exec}\n", ":3: inference.workers.0: found no "
                                                            "`command`");
        refuse(WORKERS "    - {name: local, kind: plugin}\n", ":3: inference.workers.0: found no "
                                                              "`plugin`");
        refuse(WORKERS "    - name: local\n      kind: openai\n      base_url: ftp://x\n",
               ":5: inference.workers.0.base_url: found ftp://x, expected http://HOST");
        refuse(WORKERS "    - name: local\n      kind: openai\n      base_url: http://u:p@x/\n",
               ":5: inference.workers.0.base_url: found http://u:p@x/, expected http://HOST");
        refuse(WORKERS "    - name: local\n      kind: openai\n      base_url: \"http://:80/\"\n",
               ":5: inference.workers.0.base_url: found");
        refuse(WORKERS "    - {name: local, kind: echo, timeouts: {connect_ms: 0}}\n",
               ":3: inference.workers.0.timeouts.connect_ms: found 0, expected a whole number");
}
END_TEST

START_TEST(keys_of_backends_must_be_there) {
        unsetenv("MILLRACE_TEST_KEY");
        refuse(ECHO "      api_key_env: MILLRACE_TEST_KEY\n",
               ":5: inference.workers.0.api_key_env: found MILLRACE_TEST_KEY, which is not set");
        setenv("MILLRACE_TEST_KEY", "", 1);
        refuse(ECHO "      api_key_env: MILLRACE_TEST_KEY\n",
               ":5: inference.workers.0.api_key_env: found MILLRACE_TEST_KEY, which is empty");
        setenv("MILLRACE_TEST_KEY", "k", 1);
        settings_free(load(WORKERS "    - {name: local, kind: echo, "
                                   "api_key_env: MILLRACE_TEST_KEY}\n"));
        refuse(ECHO "      api_key_env: MILLRACE_TEST_KEY\n"
                       "      api_key_file: /dev/null\n",
               ":6: inference.workers.0.api_key_file: found api_key_env as well");
        refuse(WORKERS "    - name: local\n      kind: echo\n      api_key_file: /nonexistent\n",
               ":5: inference.workers.0.api_key_file: found /nonexistent (No such file");
        refuse("rag:\n  embeddings:\n    url: http://x/\n    api_key_file: /nonexistent\n",
               ":4: rag.embeddings.api_key_file: found /nonexistent");
        refuse("rag:\n  rerank:\n    model: x\n", ":3: rag.rerank: found no `url`");
        refuse("rag:\n  watch: [/nonexistent]\n", ":2: rag.watch.0: found /nonexistent (");
        refuse("rag:\n  watch:\n  - /tmp\n  - ./\n", ":4: rag.watch.1: found ./, expected a folder by");
        refuse("rag:\n  watch: [/tmp, /tmp]\n", ":2: rag.watch.1: found /tmp twice");
        refuse("rag:\n  index: none\n  watch: [/tmp]\n", ":3: rag.watch: found folders, expected none");
        refuse("auth:\n  keys_file: /nonexistent\n", ":2: auth.keys_file: found /nonexistent");
        refuse("auth:\n  keys_file: /tmp\n", ":2: auth.keys_file: found /tmp (a directory)");
        unsetenv("MILLRACE_TEST_KEY");
}
END_TEST

START_TEST(models_must_lead_to_workers) {
        refuse("inference:\n  models:\n    gpt-4.1: [local, gpu]\n",
               ":3: inference.models.gpt-4.1.1: found `gpu`, expected the name of one of");
        refuse("inference:\n  models: {x: []}\n", ":2: inference.models.x: found an empty list");
        refuse("inference:\n  models: {x: local}\n",
               ":2: inference.models.x: found local, expected a list");
        refuse("inference:\n  models: {}\n", ":2: inference.models: found a map, expected a map of "
                                             "1 to");
        refuse("inference:\n  models: [local]\n", ":2: inference.models: found a list");
        refuse(WORKERS "    - {name: a, kind: echo}\n",
               ":3: inference.workers: found no `local`, which inference.models has by default");
}
END_TEST

START_TEST(what_does_not_fit_together_is_refused) {
        refuse("http:\n  listen: [\"0.0.0.0:8080\"]\n",
               ":2: http.listen.0: found 0.0.0.0:8080, expected a loopback address or unix:PATH");
        refuse("http:\n  listen: [\"*:8080\"]\n", ":2: http.listen.0: found *:8080");
        refuse("http:\n  listen: [\"[::]:8080\"]\n", ":2: http.listen.0: found [::]:8080");
        refuse("telemetry:\n  listen: 10.1.1.1:9464\n",
               ":2: telemetry.listen: found 10.1.1.1:9464");
        refuse("http:\n  listen: [\"[::1]:80\", \"[::1]:80\"]\n", ":2: http.listen.1: found "
                                                                  "[::1]:80 twice");
        refuse("telemetry:\n  listen: 127.0.0.1:8080\n",
               ":2: http.listen.0: found 127.0.0.1:8080, the address of telemetry.listen");
        refuse("lanes: 1\nadmission:\n  arena_bytes: 1048576\n",
               ":3: admission.max_body_bytes: found 8388608, expected no more than");
        refuse("admission: {arena_bytes: 16777217}\n", ":1: admission.arena_bytes: found 16777217, "
                                                       "expected a multiple of 4096");
        refuse("memory:\n  ring_bytes: 1048577\n", ":2: memory.ring_bytes: found 1048577, expected "
                                                   "a power of two");
        refuse("stream:\n  log_bytes: 1000000\n", ":2: stream.log_bytes: found 1000000, expected a "
                                                  "multiple of 4096");
        refuse("stream:\n  log_bytes: 1048576\n",
               ":2: stream.log_bytes: found 1048576, expected at least");
        refuse("admission:\n  max_in_flight: 4096\n",
               ":2: stream.log_bytes: found 8388608, expected at least");
        refuse("admission:\n  max_body_bytes: 16777217\n",
               ":2: admission.max_body_bytes: found 16777217, expected no more than");
        refuse("inference: {retry: {base_ms: 9000}}\n", ":1: inference.retry.base_ms: found 9000");
        refuse("assemble: {max_output_tokens: 8192}\n", ":1: assemble.max_output_tokens: found");
        refuse("assemble: {templates: /nonexistent}\n", ":1: assemble.templates: found /nonexist");
        refuse("assemble: {default: mine}\n", ":1: assemble.default: found `mine`, expected "
                                              "builtin");
        refuse("assemble: {templates: /tmp, default: millrace-none}\n",
               ":1: assemble.default: found /tmp/millrace-none.mustache (No such file");
        refuse("assemble: {few_shot: /nonexistent}\n", ":1: assemble.few_shot: found /nonexistent");
}
END_TEST

START_TEST(settings_that_no_worker_could_be_sent_are_refused) {
        char *yaml = NULL;
        size_t len = 0;
        FILE *to = open_memstream(&yaml, &len);

        ck_assert_ptr_nonnull(to);
        fputs("inference:\n  models:\n", to);
        for (int i = 0; i < 900; i++)
                fprintf(to, "    m%0200d: [local]\n", i);
        ck_assert_int_eq(fclose(to), 0);
        refuse_bytes(yaml, len, ":1: found settings of more than 131072 bytes in all");
        free(yaml);
}
END_TEST

/* ---- refusals: --set -------------------------------------------------------------------- */

START_TEST(a_bad_set_is_refused_by_its_own_words) {
        refuse_set("lanes", "--set lanes: found no `=`, expected key.path=VALUE");
        refuse_set("=1", "--set =1: found no `=`");
        refuse_set("lanes=", "--set lanes=: found nothing, expected a value");
        refuse_set("lanes=[", "--set lanes=[: found broken YAML");
        refuse_set("lanes=two", "--set lanes=two: found two, expected auto or a whole number");
        refuse_set("lane=2", "--set lane=2: found an unknown key, did you mean `lanes`?");
        refuse_set("rag.topk=2", "--set rag.topk=2: found an unknown key, did you mean `top_k`?");
        refuse_set("lanes.x=2", "--set lanes.x=2: found `x` behind `lanes`, which has no keys");
        refuse_set("rag={topk: 2}", "--set rag={topk: 2}: rag.topk: found an unknown key");
        refuse_set("rag=5", "--set rag=5: found 5, expected a map");
        refuse_set(".=5", "--set .=5: found an unknown key");
        refuse_set("http.listen.5=x", "--set http.listen.5=x: found `5`, expected the number of an "
                                      "element, 0 to 1");
        refuse_set("http.listen.x=x", "--set http.listen.x=x: found `x`, expected the number");
        refuse_set("http.listen.0=x", "--set http.listen.0=x: found x, expected IP:PORT");
        refuse_set("http.listen.0.y=x", "--set http.listen.0.y=x: found `y` behind an element");
        refuse_set("inference.workers.1.name=x",
                   "--set inference.workers.1.name=x: inference.workers.1: found no `kind`");
        refuse_set("inference.workers.0=echo",
                   "--set inference.workers.0=echo: found echo, expected a map");
        refuse_set("inference.workers.0.kind=openai",
                   "--set inference.workers.0.kind=openai: inference.workers.0: found no "
                   "`base_url`");
        refuse_set("inference.workers.0.timeouts.idle=5",
                   "--set inference.workers.0.timeouts.idle=5: found an unknown key, did you mean "
                   "`idle_ms`?");
        refuse_set("inference.models.a.b=[nobody]",
                   "--set inference.models.a.b=[nobody]: inference.models.a.b.0: found `nobody`");
        refuse_set("inference.models.\x88=[local]",
                   "--set inference.models.\x88=[local]: found a name with characters that cannot");
        refuse_set("rag.embeddings.timeout_ms=5",
                   "--set rag.embeddings.timeout_ms=5: rag.embeddings: found no `url`");
}
END_TEST

static void refuse_number(const char *path, uint64_t number) {
        char set[200], *argument = set;
        struct settings *s = NULL;

        snprintf(set, sizeof(set), "%s=%llu", path, (unsigned long long)number);
        ck_assert_msg(config_load(NULL, (const char *const *)&argument, 1, &s, &err) ==
                              CONFIG_E_INVALID, "taken: %s", set);
        ck_assert_msg(strstr(err.line, path) && strstr(err.line, "expected"), "%s", err.line);
}

static void refuse_beyond(const struct settings_shape *shape, const char *prefix) {
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const struct settings_row *row = &shape->rows[i];
                char path[160];

                snprintf(path, sizeof(path), "%s%s", prefix, row->path);
                if (row->type == SETTINGS_F64) {
                        refuse_number(path, 2);
                        continue;
                }
                if (row->type != SETTINGS_U64 && row->type != SETTINGS_AUTO_U64)
                        continue;
                refuse_number(path, row->max + 1);
                if (row->min > 0)
                        refuse_number(path, row->min - 1);
        }
}

START_TEST(every_number_beyond_its_bounds_is_refused_by_its_key) {
        refuse_beyond(&settings_shape, "");
        refuse_beyond(&settings_worker_shape, "inference.workers.0.");
        refuse_beyond(&settings_endpoint_shape, "rag.embeddings.");
}
END_TEST

/* ---- main ------------------------------------------------------------------------------- */

static TCase *refusals(void) {
        TCase *tcase = tcase_create("refusals");

        tcase_add_checked_fixture(tcase, set_up, tear_down);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, a_file_that_cannot_be_read_is_refused);
        tcase_add_test(tcase, a_file_without_settings_is_refused);
        tcase_add_test(tcase, bytes_that_are_no_yaml_are_refused);
        tcase_add_test(tcase, a_file_of_a_hundred_megabytes_is_refused);
        tcase_add_test(tcase, values_without_end_are_refused);
        tcase_add_test(tcase, an_unknown_key_names_the_one_that_was_meant);
        tcase_add_test(tcase, a_wrong_type_says_what_was_expected);
        tcase_add_test(tcase, a_long_socket_path_is_refused);
        tcase_add_test(tcase, workers_that_cannot_work_are_refused);
        tcase_add_test(tcase, keys_of_backends_must_be_there);
        tcase_add_test(tcase, models_must_lead_to_workers);
        tcase_add_test(tcase, what_does_not_fit_together_is_refused);
        tcase_add_test(tcase, settings_that_no_worker_could_be_sent_are_refused);
        tcase_add_test(tcase, a_bad_set_is_refused_by_its_own_words);
        tcase_add_test(tcase, every_number_beyond_its_bounds_is_refused_by_its_key);
        return tcase;
}

int main(void) {
        Suite *suite = suite_create("config_refusals");
        SRunner *runner = srunner_create(suite);
        int failed;

        suite_add_tcase(suite, refusals());
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
