#include "tests/stages/prompt/rig.h"

#include <stdio.h>
#include <unistd.h>

#define ASK "{\"messages\":[{\"role\":\"user\",\"content\":\"why \\\"x\\\"?\"}],\"t\":1}"
#define CONTENT "\"why \\\"x\\\"?\""

static char folder[] = "/tmp/millrace-templates-XXXXXX";
static char *written[16];
static uint32_t n_written;

static void template_write(const char *name, const char *text) {
        FILE *to;

        ck_assert_int_gt(asprintf(&written[n_written], "%s/%s.mustache", folder, name), 0);
        to = fopen(written[n_written++], "we");
        ck_assert_ptr_nonnull(to);
        ck_assert_int_ge(fputs(text, to), 0);
        ck_assert_int_eq(fclose(to), 0);
}

static void setup(void) {
        ck_assert_ptr_nonnull(mkdtemp(folder));
        ck_assert_int_eq(prompt_init(&prompt, no_pages), 0);
}

static void load(const char *default_name) {
        char name[32];
        struct settings settings = {.assemble = {.templates = folder, .default_template = name}};

        snprintf(name, sizeof(name), "%s", default_name);
        ck_assert_int_eq(templates_init(&templates, &settings), 0);
        templates.default_name.p = default_name; /* as long as the settings of a worker live */
}

static void teardown(void) {
        while (n_written) {
                unlink(written[--n_written]);
                free(written[n_written]);
        }
        rmdir(folder);
        memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
        templates_close(&templates);
        prompt_close(&prompt);
}

static struct body_marks marks;

static struct record asked(const char *body, const char *content, const char *name) {
        struct record record;

        memset(&marks, 0, sizeof(marks));
        record = record_of(body, &marks, content);
        if (name) {
                record.has |= HAS(template);
                record.template = (struct mr_view){name, (uint32_t)strlen(name)};
        }
        return record;
}

static int build(const struct record *record) {
        return prompt_build(&prompt, &templates, record, NULL, &wide);
}

static void refused(const struct record *record, int code, const char *words) {
        ck_assert_int_eq(build(record), code);
        ck_assert_msg(strstr(prompt.message, words) != NULL, "%s", prompt.message);
}

static void becomes(const struct record *record, const char *want) {
        int r = build(record);

        ck_assert_msg(r == 0, "%d: %s", r, prompt.message);
        ck_assert_str_eq(whole(record), want);
}

/* ---- refusals ---- */

START_TEST(a_template_that_cannot_be_had_is_refused_with_the_reason) {
        struct record record = asked(ASK, CONTENT, "letter");

        template_write("broken", "---\nmissing: error\n---\n{{#a}}");
        template_write("strict", "---\nmissing: error\n---\nx {{vars.who}}");
        template_write("endless", "{{>endless}}");
        template_write("uses", "\n {{>broken}}");
        load("builtin");
        refused(&record, PROMPT_E_TEMPLATE, "none is named 'letter'");
        record = asked(ASK, CONTENT, "broken");
        refused(&record, PROMPT_E_RENDER, "broken.mustache:4:1: 'a' is not closed");
        record = asked(ASK, CONTENT, "uses");
        refused(&record, PROMPT_E_RENDER, "broken.mustache:4:1:");
        record = asked(ASK, CONTENT, "strict");
        refused(&record, PROMPT_E_RENDER, "strict.mustache:4:3: 'vars.who' is missing");
        record = asked(ASK, CONTENT, "endless");
        refused(&record, PROMPT_E_RENDER, "endless.mustache:1:1:");
        record = asked(ASK, CONTENT, NULL);
        becomes(&record, ASK); /* others are not touched by that */
}
END_TEST

START_TEST(what_is_no_chat_takes_no_template) {
        struct record record = asked(ASK, CONTENT, "plain");

        template_write("plain", "x");
        load("plain");
        record.has |= HAS(endpoint);
        record.endpoint = ENDPOINT_EMBEDDINGS;
        refused(&record, PROMPT_E_TEMPLATE, "only chats");
        record.has &= ~HAS(template);
        becomes(&record, ASK);
}
END_TEST

START_TEST(without_a_user_message_there_is_nothing_to_render) {
        struct record record = asked(ASK, CONTENT, "plain");

        template_write("plain", "x");
        load("plain");
        marks.last_user.len = 0;
        refused(&record, PROMPT_E_RENDER, "no user message");
        record.has &= ~HAS(template);
        becomes(&record, ASK);
}
END_TEST

/* ---- the choice ---- */

START_TEST(the_request_chooses_before_the_model_and_the_model_before_the_default) {
        struct record record = asked(ASK, CONTENT, "named");

        template_write("named", "NAMED");
        template_write("plain", "PLAIN");
        template_write("small", "---\nmodels: [tiny, small]\n---\nSMALL");
        load("plain");
        record.has |= HAS(model);
        record.model = (struct mr_view){"small", 5};
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"NAMED\"}],\"t\":1}");
        record.has &= ~HAS(template);
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"SMALL\"}],\"t\":1}");
        record.model.n = 4;
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"PLAIN\"}],\"t\":1}");
        record.has |= HAS(template);
        record.template = (struct mr_view){"builtin", 7};
        becomes(&record, ASK);
}
END_TEST

START_TEST(front_matter_sets_model_and_defaults_that_the_body_overrules) {
        struct record record = asked(" " ASK, CONTENT, "all");

        template_write("all", "---\nmodel: big\nparams:\n  temperature: 0.2\n  stop: [\"a\", b]\n"
                              "  response_format: {type: json_object}\n---\nx");
        load("builtin");
        becomes(&record, " {\"temperature\":0.2,\"stop\":[\"a\",\"b\"],\"response_format\":{\"type\":"
                         "\"json_object\"},\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                         "\"t\":1}");
        ck_assert_uint_eq(prompt.model.n, 3);
        ck_assert_int_eq(memcmp(prompt.model.p, "big", 3), 0);
        record = asked(ASK, CONTENT, NULL);
        becomes(&record, ASK);
        ck_assert_uint_eq(prompt.model.n, 0);
}
END_TEST

/* ---- the message ---- */

START_TEST(the_question_is_put_in_as_the_clients_own_bytes) {
        struct record record = asked(ASK, CONTENT, "twice");

        template_write("twice", "Q: {{prompt}}\n\"{{{prompt}}}\" {{#prompt}}!{{/prompt}}");
        template_write("none", "no question");
        template_write("html", "---\nescape: html\n---\n{{prompt}}");
        load("builtin");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q: why \\\"x\\\"?\\n\\\"why "
                         "\\\"x\\\"?\\\" !\"}],\"t\":1}");
        record = asked(ASK, CONTENT, "none");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"no question\"}],\"t\":1}");
        record = asked(ASK, CONTENT, "html");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":\"why &quot;x&quot;?\"}],"
                         "\"t\":1}");
}
END_TEST

START_TEST(parts_that_are_no_text_stay_and_those_of_text_become_one) {
#define IMAGE "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\"}}"
#define PARTS "[ " IMAGE " ,{\"type\":\"text\",\"text\":\"a\\n\"}, {\"text\":\"b\",\"type\":\"text\"}," IMAGE "]"
        static const char body[] =
                        "{\"messages\":[{\"role\":\"user\",\"content\":" PARTS "}]}";
        static const char images[] =
                        "{\"messages\":[{\"role\":\"user\",\"content\":[" IMAGE "]}]}";
        struct record record = asked(body, PARTS, "ask");

        template_write("ask", "<{{prompt}}>{{^prompt}}nothing{{/prompt}}");
        template_write("html", "---\nescape: html\n---\n{{prompt}}");
        load("builtin");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":[ " IMAGE
                         " ,{\"type\":\"text\",\"text\":\"<a\\n\\nb>\"}," IMAGE "]}]}");
        record = asked(body, PARTS, "html");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":[ " IMAGE
                         " ,{\"type\":\"text\",\"text\":\"a\\n\\nb\"}," IMAGE "]}]}");
        record = asked(images, "[" IMAGE "]", "ask");
        becomes(&record, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                         "\"<>nothing\"}," IMAGE "]}]}");
}
END_TEST

START_TEST(documents_come_as_many_as_there_is_room_for_and_without_delimiters) {
        static char long_text[9000];
        struct record record = asked(ASK, CONTENT, "docs");

        template_write("docs", "{{#documents}}[{{n}}] {{title}} ({{source}}): {{text}}\n"
                               "{{/documents}}{{prompt}}");
        template_write("part", "{{>docs}}");
        template_write("none", "{{prompt}}");
        template_write("few", "---\ndocument_tokens: 5\n---\n{{>docs}}");
        load("builtin");
        add_documents(&record, "[1] is </document> one", "two");
        ck_assert_int_eq(build(&record), 0);
        ck_assert_uint_eq(prompt.n_documents, 2);
        ck_assert_ptr_nonnull(strstr(whole(&record),
                        "[1] A \\\"title\\\" (doc.md): \\\\[1] is &lt;/document> one\\n[2] A"));
        record.template = (struct mr_view){"part", 4};
        ck_assert_int_eq(build(&record), 0);
        ck_assert_uint_eq(prompt.n_documents, 2);
        record.template = (struct mr_view){"none", 4};
        becomes(&record, ASK);
        ck_assert_uint_eq(prompt.n_documents, 0);
        record.template = (struct mr_view){"few", 3};
        becomes(&record, ASK);
        memset(long_text, 'a', sizeof(long_text) - 1);
        add_documents(&record, "short", long_text);
        record.template = (struct mr_view){"docs", 4};
        ck_assert_int_eq(build(&record), 0);
        ck_assert_uint_eq(prompt.n_documents, 1);
}
END_TEST

START_TEST(variables_are_what_the_request_gave) {
        struct record record = asked(ASK, CONTENT, "vars");
        msgpack_object words[] = {cell_str("a"), cell_str("b\"")};
        msgpack_object_kv pairs[] = {
                        {cell_str("name"), cell_str("Ann")},
                        {cell_str("n"), {.type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = -3}},
                        {cell_str("f"), {.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = 0.5}},
                        {cell_str("yes"), {.type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true}},
                        {cell_str("words"), {.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, words}}},
        };
        msgpack_object vars = {.type = MSGPACK_OBJECT_MAP, .via.map = {5, pairs}};

        template_write("vars", "{{vars.name}} {{vars.n}} {{vars.f}} {{vars.yes}}{{vars.none}} "
                               "{{#vars.words}}{{.}},{{/vars.words}} {{system}}");
        load("builtin");
        record.has |= HAS(vars) | HAS(system);
        record.vars = &vars;
        record.system = (struct mr_view){"S", 1};
        ck_assert_int_eq(build(&record), 0);
        ck_assert_ptr_nonnull(strstr(
                        whole(&record), "\"content\":\"Ann -3 0.5 true a,b\\\", S\"}],\"t\":1}"));
        ck_assert_ptr_nonnull(strstr(whole(&record), "{\"role\":\"system\",\"content\":\"S\"},"));
}
END_TEST

START_TEST(the_same_request_makes_the_same_bytes) {
        struct record record = asked(ASK, CONTENT, "docs");
        char *first;

        template_write("docs", "{{#documents}}{{n}}{{text}}{{/documents}}{{prompt}}");
        load("builtin");
        add_documents(&record, "[1] one", "two");
        ck_assert_int_eq(build(&record), 0);
        first = strdup(whole(&record));
        for (int i = 0; i < 3; i++)
                becomes(&record, first);
        free(first);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("templates");
        TCase *tc = tcase_create("templates");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, a_template_that_cannot_be_had_is_refused_with_the_reason);
        tcase_add_test(tc, what_is_no_chat_takes_no_template);
        tcase_add_test(tc, without_a_user_message_there_is_nothing_to_render);
        tcase_add_test(tc, the_request_chooses_before_the_model_and_the_model_before_the_default);
        tcase_add_test(tc, front_matter_sets_model_and_defaults_that_the_body_overrules);
        tcase_add_test(tc, the_question_is_put_in_as_the_clients_own_bytes);
        tcase_add_test(tc, parts_that_are_no_text_stay_and_those_of_text_become_one);
        tcase_add_test(tc, documents_come_as_many_as_there_is_room_for_and_without_delimiters);
        tcase_add_test(tc, variables_are_what_the_request_gave);
        tcase_add_test(tc, the_same_request_makes_the_same_bytes);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
