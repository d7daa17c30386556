/* examples: what is refused, with its line; what is read of both forms. */
#include "stages/engines/examples/examples.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static struct examples examples;
static struct examples_error err;

static int load(const char *ending, const char *text) {
        strcpy(path, "/tmp/millrace-examples-XXXXXX");
        strcat(path, ending);
        int fd = mkstemps(path, (int)strlen(ending));
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
        int r = examples_load(path, &examples, &err);
        unlink(path);
        return r;
}

static void refuses(const char *ending, const char *text, uint32_t line, const char *words) {
        ck_assert_msg(load(ending, text) == EXAMPLES_E_INVALID, "%s", text);
        ck_assert_msg(strstr(err.text, words) && err.line == line, "%s: %u: %s", text, err.line,
                        err.text);
        ck_assert_uint_eq(examples.n, 0);
}

START_TEST(what_is_no_list_of_examples_is_refused_with_its_line) {
        ck_assert_int_eq(examples_load("/nowhere/at/all", &examples, &err), -ENOENT);
        ck_assert_int_eq(examples_load("/tmp", &examples, &err), -EINVAL);
        refuses(".yaml", "a: b\n", 1, "a list of examples");
        refuses(".yaml", "- user: a\n  assistant: b\n- just text\n", 3, "a map");
        refuses(".yaml", "- user: a\n", 1, "`user` and `assistant`");
        refuses(".yaml", "- user: a\n  assistant: b\n  system: c\n", 3, "'system': there is no such");
        refuses(".yaml", "- user: a\n  user: b\n  assistant: c\n", 2, "'user' is given twice");
        refuses(".yaml", "- user: [a]\n  assistant: b\n", 1, "a text");
        refuses(".yaml", "- user: a\n  assistant: \"b\n", 3, "");
        refuses(".jsonl", "{\"user\":\"a\",\"assistant\":\"b\"}\n[]\n", 2, "a JSON object");
        refuses(".jsonl", "\n{\"user\":\"a\",\"assistant\":1}", 2, "a text");
        refuses(".jsonl", "{\"user\":\"a\"}", 1, "`user` and `assistant`");
        refuses(".jsonl", "{\"user\":\"a\",\"assistant\":\"b\"} {}", 1, "a JSON object");
        refuses(".jsonl", "{\"user\":\"a\",\"who\":\"b\"}", 1, "'who': there is no such");
        refuses(".jsonl", "{\"user\":\"\xff\",\"assistant\":\"b\"}", 1, "not UTF-8");
}
END_TEST

static void expect(uint32_t i, const char *messages) {
        ck_assert_uint_lt(i, examples.n);
        ck_assert_msg(examples.v[i].messages.n == strlen(messages) &&
                                        memcmp(examples.v[i].messages.p, messages, strlen(messages)) == 0,
                        "%.*s", (int)examples.v[i].messages.n, examples.v[i].messages.p);
}

START_TEST(both_forms_are_read_into_messages) {
        uint64_t digest;

        ck_assert_int_eq(load(".yaml", "- user: What is \"it\"?\n  assistant: |\n    a\n    b\n"
                                       "- {assistant: \"\", user: q}\n"),
                        0);
        ck_assert_uint_eq(examples.n, 2);
        expect(0, "{\"role\":\"user\",\"content\":\"What is \\\"it\\\"?\"},"
                  "{\"role\":\"assistant\",\"content\":\"a\\nb\\n\"}");
        expect(1, "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\"}");
        digest = examples.digest;
        examples_clear(&examples);
        ck_assert_int_eq(load(".jsonl", "{\"user\":\"caf\\u00e9\",\"assistant\":\"\\n\"}\n\n"), 0);
        ck_assert_uint_eq(examples.n, 1);
        expect(0, "{\"role\":\"user\",\"content\":\"caf\xc3\xa9\"},"
                  "{\"role\":\"assistant\",\"content\":\"\\n\"}");
        ck_assert_uint_ne(examples.digest, digest);
        examples_clear(&examples);
        ck_assert_int_eq(load(".yaml", "# nothing yet\n"), 0);
        ck_assert_uint_eq(examples.n, 0);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("examples");
        TCase *tc = tcase_create("examples");
        SRunner *runner;
        int failed;

        tcase_add_test(tc, what_is_no_list_of_examples_is_refused_with_its_line);
        tcase_add_test(tc, both_forms_are_read_into_messages);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
