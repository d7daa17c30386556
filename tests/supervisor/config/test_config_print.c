/* What is printed can be read again, and the manual in docs/ is what the table says. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/config.h"
#include "supervisor/config_tree.h"

static struct config_error err;

static const char *const sets[] = {
        "rag.embeddings={url: http://e/, model: \"a\\\"b\"}",
        "inference.workers.1={name: \"off\", kind: exec, command: [\"-x\", \"\xc3\xa4\"]}",
        "inference.models.\"no\"=[local]",
        "inference.retry.budget_ratio=0.3",
        "lanes=2",
        "telemetry.tap_content=yes",
        "instance=\"1e3\"",
};

static struct settings *load_sets(void) {
        struct settings *s = NULL;

        ck_assert_msg(config_load(NULL, sets, sizeof(sets) / sizeof(sets[0]), &s, &err) == 0, "%s",
                      err.line);
        return s;
}

/* Prints into a file, loads that, and compares. */
static void check_reading(const struct settings *s, int (*print)(FILE *, const struct settings *)) {
        char path[] = "/tmp/millrace-print-XXXXXX";
        struct settings *back = NULL;
        int fd = mkstemp(path);
        FILE *to = fdopen(fd, "w");
        int r;

        ck_assert_ptr_nonnull(to);
        ck_assert_int_eq(print(to, s), 0);
        ck_assert_int_eq(fclose(to), 0);
        r = config_load(path, NULL, 0, &back, &err);
        unlink(path);
        ck_assert_msg(r == 0, "%s", err.line);
        for (uint32_t i = 0; i < settings_shape.n_rows; i++)
                ck_assert_msg(settings_row_equal(&settings_shape.rows[i], s, back), "%s",
                              settings_shape.rows[i].path);
        settings_free(back);
}

static int print_plain(FILE *to, const struct settings *s) {
        return config_print_yaml(to, s, false);
}

static int print_sentences(FILE *to, const struct settings *s) {
        return config_print_yaml(to, s, true);
}

START_TEST(yaml_that_is_printed_can_be_loaded) {
        struct settings *s = load_sets(), *defaults = NULL;

        ck_assert_int_eq(settings_default(&defaults), 0);
        check_reading(s, print_plain);
        check_reading(s, print_sentences);
        check_reading(defaults, print_plain);
        check_reading(defaults, print_sentences);
        settings_free(s);
        settings_free(defaults);
}
END_TEST

START_TEST(json_that_is_printed_can_be_loaded_as_yaml) {
        struct settings *s = load_sets();

        check_reading(s, config_print_json);
        settings_free(s);
}
END_TEST

START_TEST(every_key_has_its_sentence_above_it) {
        struct settings *s = NULL;
        char *text = NULL, *line, *save = NULL;
        bool comment = false;
        size_t len = 0;
        FILE *to = open_memstream(&text, &len);

        ck_assert_ptr_nonnull(to);
        ck_assert_int_eq(settings_default(&s), 0);
        ck_assert_int_eq(config_print_yaml(to, s, true), 0);
        ck_assert_int_eq(fclose(to), 0);
        for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                const char *word = line + strspn(line, " ");

                ck_assert_msg(strlen(line) <= 100, "%s", line);
                if (*word != '#' && *word != '-' && *word != '"')
                        ck_assert_msg(comment, "%s", line);
                comment = *word == '#';
        }
        free(text);
        settings_free(s);
}
END_TEST

START_TEST(the_schema_knows_every_row) {
        const struct config_source source = {.set = "schema"};
        __attribute__((cleanup(config_node_freep))) struct config_node *schema = NULL;
        char *text = NULL;
        size_t len = 0;
        FILE *to = open_memstream(&text, &len);

        ck_assert_ptr_nonnull(to);
        ck_assert_int_eq(config_print_schema(to), 0);
        ck_assert_int_eq(fclose(to), 0);
        ck_assert_msg(config_tree_parse(&source, text, len, &schema, &err) == 0, "%s", err.line);
        for (uint32_t i = 0; i < settings_shape.n_rows; i++) {
                char path[256] = "properties.", *end = path + strlen(path);
                const struct config_node *node;

                for (const char *p = settings_shape.rows[i].path; *p; p++) {
                        if (*p == '.')
                                end = stpcpy(end, ".properties.");
                        else
                                *end++ = *p;
                }
                memcpy(end, ".description", sizeof(".description"));
                node = config_node_nearest(schema, path);
                ck_assert_msg(node->kind == CONFIG_SCALAR &&
                                      strcmp(node->text, settings_shape.rows[i].sentence) == 0,
                              "%s", path);
        }
        ck_assert_str_eq(config_node_nearest(schema, "properties.admission.properties.queue."
                                                     "maximum")->text, "1048576");
        ck_assert_str_eq(config_node_nearest(schema, "additionalProperties")->text, "false");
        ck_assert_str_eq(config_node_nearest(schema, "properties.inference.properties.workers."
                                                     "items.required.1")->text, "kind");
        free(text);
}
END_TEST

START_TEST(the_manual_in_the_docs_is_what_the_table_says) {
        char *text = NULL, *kept;
        size_t len = 0, n;
        FILE *to = open_memstream(&text, &len), *from = fopen(MANUAL_FILE, "r");

        ck_assert_ptr_nonnull(to);
        ck_assert_msg(from != NULL, "%s is missing: millrace config --manual > it", MANUAL_FILE);
        ck_assert_int_eq(config_print_manual(to), 0);
        ck_assert_int_eq(fclose(to), 0);
        kept = calloc(1, len + 2);
        ck_assert_ptr_nonnull(kept);
        n = fread(kept, 1, len + 1, from);
        fclose(from);
        ck_assert_msg(n == len && memcmp(kept, text, len) == 0,
                      "%s differs: millrace config --manual > it", MANUAL_FILE);
        free(kept);
        free(text);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("config_print");
        TCase *tcase = tcase_create("printing");
        SRunner *runner = srunner_create(suite);
        int failed;

        tcase_add_test(tcase, yaml_that_is_printed_can_be_loaded);
        tcase_add_test(tcase, json_that_is_printed_can_be_loaded_as_yaml);
        tcase_add_test(tcase, every_key_has_its_sentence_above_it);
        tcase_add_test(tcase, the_schema_knows_every_row);
        tcase_add_test(tcase, the_manual_in_the_docs_is_what_the_table_says);
        suite_add_tcase(suite, tcase);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
