/* The JSON Schema Test Suite: a value that is right is never refused, and of those keywords that are looked at
 * every value that is wrong is. Argument: the folder of its files. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/format/json_check.h"
#include "stages/engines/json/walk.h"

#define FILE_MAX 262144u

static const char *folder;
static char text[FILE_MAX];

static struct json_text file_of(const char *name) {
        char path[512];
        FILE *file;
        size_t n, from = 0;

        snprintf(path, sizeof(path), "%s/%s.json", folder, name);
        file = fopen(path, "r");
        ck_assert_msg(file != NULL, "%s", path);
        n = fread(text, 1, sizeof(text), file);
        fclose(file);
        ck_assert_uint_lt(n, sizeof(text));
        while (n > 0 && text[n - 1] != ']')
                n--;
        while (from < n && text[from] != '[')
                from++;
        return (struct json_text){text + from, (uint32_t)(n - from)};
}

static struct json_text member(struct json_text object, const char *name) {
        struct json_text value = {"", 0};

        ck_assert_msg(json_find(json_inside(object), name, &value), "no %s", name);
        return value;
}

static bool passes(struct json_text schema, struct json_text data) {
        static struct json_check check;
        struct json_schema *s = NULL;
        const char *why;

        memset(&check, 0, sizeof(check));
        ck_assert_int_eq(json_schema_of(schema.p, schema.n, &s), 0);
        json_check_feed(&check, s, data.p, data.n, &why);
        if (!why)
                why = json_check_end(&check, s);
        json_schema_free(s);
        return why == NULL;
}

/* Rows of a file; `all`: those that are wrong are to be refused, too. */
static void run(const char *name, bool all) {
        struct json_text groups = file_of(name), group, row;
        struct json_walk in_groups = json_walk_in(json_inside(groups));

        while (json_walk_element(&in_groups, &group) == 0) {
                struct json_walk in_rows = json_walk_in(json_inside(member(group, "tests")));
                while (json_walk_element(&in_rows, &row) == 0) {
                        bool valid = member(row, "valid").p[0] == 't';
                        bool passed = passes(member(group, "schema"), member(row, "data"));
                        struct json_text said = member(row, "description"), of = member(group, "description");
                        ck_assert_msg(!valid || passed, "%s: refused: %.*s: %.*s", name, (int)of.n, of.p, (int)said.n, said.p);
                        ck_assert_msg(valid || !passed || !all, "%s: passed: %.*s: %.*s", name, (int)of.n, of.p, (int)said.n,
                                        said.p);
                }
        }
}

START_TEST(keywords_that_are_looked_at_refuse_what_is_wrong) {
        static const char *const files[] = {"type", "required", "minimum", "maximum", "exclusiveMinimum",
                        "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
                        "maxProperties", "pattern"};

        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
                run(files[i], true);
}
END_TEST

START_TEST(a_value_that_is_right_is_never_refused) {
        static const char *const files[] = {"additionalItems", "boolean_schema", "additionalProperties", "allOf", "anyOf", "const", "contains",
                        "default", "dependencies", "enum", "if-then-else", "items", "multipleOf", "not", "oneOf",
                        "patternProperties", "properties", "propertyNames", "ref", "uniqueItems", "definitions"};

        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
                run(files[i], false);
}
END_TEST

int main(int argc, char **argv) {
        Suite *suite = suite_create("json schema suite");
        TCase *all = tcase_create("json schema suite");
        SRunner *runner;
        int failed;

        if (argc != 2)
                return EXIT_FAILURE;
        folder = argv[1];
        tcase_add_test(all, keywords_that_are_looked_at_refuse_what_is_wrong);
        tcase_add_test(all, a_value_that_is_right_is_never_refused);
        suite_add_tcase(suite, all);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
