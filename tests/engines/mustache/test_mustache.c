#include "stages/engines/mustache/front.h"
#include "stages/engines/mustache/mustache.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT_MAX 65536u
#define WORK_MAX 1000000u

/* Partials by name; a row without a name ends them. */
struct named {
        const char *name, *text;
};

struct shelf {
        const struct named *rows;
        struct mustache *compiled[8];
};

static int find(void *ctx, struct mustache_text name, const struct mustache **ret,
                struct mustache_error *err) {
        struct shelf *shelf = ctx;

        for (uint32_t i = 0; shelf->rows && shelf->rows[i].name; i++) {
                const struct named *row = &shelf->rows[i];
                if (strlen(row->name) != name.n || memcmp(row->name, name.p, name.n) != 0)
                        continue;
                if (!shelf->compiled[i]) {
                        int r = mustache_compile(row->name, row->text, strlen(row->text), 0,
                                        &shelf->compiled[i], err);
                        if (r)
                                return r;
                }
                *ret = shelf->compiled[i];
        }
        return 0;
}

static struct mustache_options options_plain(void) {
        return (struct mustache_options){.max_bytes = OUTPUT_MAX, .max_work = WORK_MAX};
}

/* The output is to be freed; NULL: it failed, with err. */
static char *render(const char *text, const char *json, const struct named *partials,
                struct mustache_options options, struct mustache_error *err) {
        struct shelf shelf = {.rows = partials};
        struct mustache_output out = {0};
        struct mustache_data *data = NULL;
        struct mustache *t = NULL;
        char *got = NULL;
        int r;

        ck_assert_int_eq(mustache_data_new(&data), 0);
        ck_assert_int_eq(mustache_data_json(data, json, strlen(json), err), 0);
        options.find = find;
        options.find_ctx = &shelf;
        r = mustache_compile("main", text, strlen(text), 0, &t, err);
        if (!r)
                r = mustache_render(t, data, &options, &out, err);
        if (!r) {
                got = calloc(1, out.n + 1);
                ck_assert_ptr_nonnull(got);
                if (out.n)
                        memcpy(got, out.p, out.n);
        }
        mustache_output_clear(&out);
        mustache_free(t);
        for (size_t i = 0; i < sizeof(shelf.compiled) / sizeof(*shelf.compiled); i++)
                mustache_free(shelf.compiled[i]);
        mustache_data_free(data);
        return got;
}

struct example {
        const char *text, *json, *want;
        struct named partials[4];
};

static void check_example(const struct example *e, enum mustache_escape escape) {
        struct mustache_options options = options_plain();
        struct mustache_error err = {0};
        char *got;

        options.escape = escape;
        got = render(e->text, e->json, e->partials, options, &err);
        ck_assert_msg(got != NULL, "%s: %u:%u: %s", e->text, err.line, err.column, err.text);
        ck_assert_msg(strcmp(got, e->want) == 0, "%s\ngot  [%s]\nwant [%s]", e->text, got, e->want);
        free(got);
}

#define CHECK_EXAMPLES(rows)                                                                       \
        for (size_t i_ = 0; i_ < sizeof(rows) / sizeof(*(rows)); i_++)                             \
        check_example(&(rows)[i_], MUSTACHE_ESCAPE_NONE)

/* ---- refusals ---- */

struct refusal {
        const char *text;
        uint32_t line, column;
        const char *words;
};

START_TEST(what_is_no_template_is_refused_with_its_place) {
        static const struct refusal rows[] = {
                        {"a {{b", 1, 3, "not closed"},
                        {"{{{a}}", 1, 1, "not closed"},
                        {"{{! never", 1, 1, "not closed"},
                        {"\n  {{#a}}\n", 2, 3, "'a' is not closed"},
                        {"x\n{{/a}}", 2, 1, "was not opened"},
                        {"{{#a}}\n{{^b}}{{/a}}", 2, 7, "'b' is open"},
                        {"é{{}}", 1, 2, "without a name"},
                        {"{{#}}{{/}}", 1, 1, "without a name"},
                        {"{{> * }}", 1, 1, "without a name"},
                        {"{{if x}}", 1, 1, "no blanks"},
                        {"{{=a=}}", 1, 1, "two delimiters"},
                        {"{{=a b c=}}", 1, 1, "two delimiters"},
                        {"{{== }}=}}", 1, 1, "two delimiters"},
                        {"{{= <% %>", 1, 1, "not closed"},
                        {"{{<a}}{{$b}}{{/a}}{{/b}}", 1, 13, "'b' is open"},
                        {"{{=<% %>=}}\n<%#a%>", 2, 1, "'a' is not closed"},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct mustache_error err;
                struct mustache *t = NULL;
                int r = mustache_compile("t", rows[i].text, strlen(rows[i].text), 0, &t, &err);
                ck_assert_msg(r == MUSTACHE_E_SYNTAX, "%s: %d", rows[i].text, r);
                ck_assert_ptr_null(t);
                ck_assert_msg(err.line == rows[i].line && err.column == rows[i].column, "%s: %u:%u",
                                rows[i].text, err.line, err.column);
                ck_assert_msg(strstr(err.text, rows[i].words) != NULL, "%s: %s", rows[i].text,
                                err.text);
                ck_assert_str_eq(err.name, "t");
        }
}
END_TEST

START_TEST(tags_that_are_nested_too_deep_are_refused) {
        char text[(MUSTACHE_NEST_MAX + 1) * 6 + 1] = "";
        struct mustache_error err;
        struct mustache *t = NULL;

        for (uint32_t i = 0; i <= MUSTACHE_NEST_MAX; i++)
                memcpy(text + i * 6, "{{#a}}", 7);
        ck_assert_int_eq(mustache_compile("t", text, strlen(text), 0, &t, &err), MUSTACHE_E_SYNTAX);
        ck_assert_uint_eq(err.column, MUSTACHE_NEST_MAX * 6 + 1);
        ck_assert_ptr_nonnull(strstr(err.text, "deeper"));
}
END_TEST

START_TEST(data_that_are_no_json_are_refused_with_their_place) {
        static const char *const texts[] = {"", "{", "[1,]", "{\"a\":1}\n x", "nul"};
        struct mustache_data *data = NULL;
        struct mustache_error err;
        char deep[DATA_DEPTH_MAX + 2] = "";

        ck_assert_int_eq(mustache_data_new(&data), 0);
        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
                ck_assert_int_eq(mustache_data_json(data, texts[i], strlen(texts[i]), &err),
                                -EBADMSG);
                ck_assert_uint_ge(err.line, 1);
                ck_assert_uint_gt(strlen(err.text), 0);
        }
        ck_assert_uint_eq(mustache_data_json(data, texts[3], strlen(texts[3]), &err), -EBADMSG);
        ck_assert_uint_eq(err.line, 2);
        memset(deep, '[', DATA_DEPTH_MAX + 1);
        ck_assert_int_eq(mustache_data_json(data, deep, strlen(deep), &err), -E2BIG);
        mustache_data_free(data);
}
END_TEST

START_TEST(a_name_that_is_missing_is_an_error_where_the_options_say_so) {
        static const struct refusal rows[] = {
                        {"a\n{{b}}", 2, 1, "'b' is missing"},
                        {"{{m.x}}", 1, 1, "'m.x' is missing"},
                        {"{{>none}}", 1, 1, "no template 'none'"},
                        {"{{>*b}}", 1, 1, "'b' is missing"},
                        {"{{<none}}{{/none}}", 1, 1, "no template 'none'"},
        };
        struct mustache_options options = options_plain();
        struct mustache_error err;
        char *got;

        options.missing_is_error = true;
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                ck_assert_ptr_null(render(rows[i].text, "{\"m\":{}}", NULL, options, &err));
                ck_assert_msg(err.line == rows[i].line && err.column == rows[i].column, "%s: %u:%u",
                                rows[i].text, err.line, err.column);
                ck_assert_msg(strstr(err.text, rows[i].words) != NULL, "%s", err.text);
        }
        got = render("{{#b}}x{{/b}}{{^b}}y{{/b}}{{n}}", "{\"n\":null}", NULL, options, &err);
        ck_assert_str_eq(got, "y"); /* to ask whether it is there is no error, and null is there */
        free(got);
}
END_TEST

START_TEST(a_list_or_a_map_is_no_text) {
        struct mustache_error err;

        ck_assert_ptr_null(render("a {{l}}", "{\"l\":[1]}", NULL, options_plain(), &err));
        ck_assert_uint_eq(err.column, 3);
        ck_assert_ptr_nonnull(strstr(err.text, "list"));
        ck_assert_ptr_null(render("{{.}}", "{}", NULL, options_plain(), &err));
        ck_assert_ptr_nonnull(strstr(err.text, "map"));
}
END_TEST

/* ---- bounds ---- */

START_TEST(what_includes_itself_for_ever_ends_in_an_error) {
        static const struct named rows[][3] = {
                        {{"a", "x{{>a}}"}},
                        {{"a", "{{>b}}"}, {"b", "\n{{>a}}"}},
                        {{"a", "{{<a}}{{/a}}"}},
                        {{"a", "{{<b}}{{$c}}{{$c}}{{/c}}{{/c}}{{/b}}"}, {"b", "{{$c}}{{/c}}"}},
                        {{"a", "{{#.}}{{>a}}{{/.}}"}},
                        {{"a", "  {{>a}}\n"}},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct mustache_error err = {0};
                char *got = render("{{>a}}", "{\"a\":1}", rows[i], options_plain(), &err);
                ck_assert_ptr_null(got);
                ck_assert_msg(strstr(err.text, "deeper") || strstr(err.text, "indented"), "%zu: %s",
                                i, err.text);
                ck_assert_uint_ge(err.line, 1);
                ck_assert_msg(strcmp(err.name, "a") == 0 || strcmp(err.name, "b") == 0, "%s",
                                err.name);
        }
}
END_TEST

START_TEST(a_tree_is_walked_by_a_partial_that_includes_itself) {
        struct example e = {.text = "{{>n}}",
                        .json = "{\"v\":1,\"k\":[{\"v\":2,\"k\":[]},{\"v\":3,\"k\":[{\"v\":4,\"k\":"
                                "[]}]}]}",
                        .want = "1(2()3(4()))",
                        .partials = {{"n", "{{v}}({{#k}}{{>n}}{{/k}})"}}};

        check_example(&e, MUSTACHE_ESCAPE_NONE);
}
END_TEST

START_TEST(output_and_work_are_bounded) {
        static const struct named twice[] = {{"a", "{{>b}}{{>b}}"}, {"b", "{{>c}}{{>c}}"},
                        {"c", "{{>d}}{{>d}}"}, {"d", "{{! nothing }}"}, {NULL, NULL}};
        struct mustache_options options = options_plain();
        struct mustache_error err;
        char *got;

        options.max_bytes = 10;
        got = render("{{a}}{{a}}", "{\"a\":\"12345\"}", NULL, options, &err);
        ck_assert_str_eq(got, "1234512345");
        free(got);
        ck_assert_ptr_null(render("{{a}}\n{{a}}", "{\"a\":\"12345\"}", NULL, options, &err));
        ck_assert_ptr_nonnull(strstr(err.text, "longer than 10 bytes"));
        ck_assert_uint_eq(err.line, 2);
        options = options_plain();
        options.max_work = 10;
        ck_assert_ptr_null(render("{{>a}}", "{}", twice, options, &err));
        ck_assert_ptr_nonnull(strstr(err.text, "10 steps"));
}
END_TEST

/* ---- the specification, rule by rule ---- */

START_TEST(values_are_put_in_as_they_are_written) {
        static const struct example rows[] = {
                        {"{{s}} {{{s}}} {{&s}} {{ s }}|{{\ts\n}}", "{\"s\":\"<&>\"}",
                                        "<&> <&> <&> <&>|<&>"},
                        {"{{i}} {{f}} {{e}} {{t}} {{n}}.",
                                        "{\"i\":-5,\"f\":1.50,\"e\":1e3,\"t\":true,\"n\":null}",
                                        "-5 1.50 1e3 true ."},
                        {"{{none}}{{a.b}}{{m.none}}", "{\"a\":\"x\",\"m\":{}}", ""},
                        {"{{.}}", "\"root\"", "root"},
                        {"{{s}}", "{\"s\":\"{{t}}\",\"t\":1}", "{{t}}"},
                        {"{ {s} } }} {", "{}", "{ {s} } }} {"},
                        {"{{k}}", "{\"k\":1,\"k\":2}", "2"},
                        {"{{a.b}}", "{\"a.b\":1}", ""},
        };
        struct example html = {"{{s}} {{{s}}} {{&s}}", "{\"s\":\"<a href='\\\"'>&\"}",
                        "&lt;a href='&quot;'&gt;&amp; <a href='\"'>& <a href='\"'>&", {{0}}};

        CHECK_EXAMPLES(rows);
        check_example(&html, MUSTACHE_ESCAPE_HTML);
}
END_TEST

START_TEST(names_are_looked_for_from_the_inside_out) {
        static const struct example rows[] = {
                        {"{{#a}}{{x}}{{y}}{{b.x}}{{/a}}",
                                        "{\"x\":1,\"y\":2,\"b\":{\"x\":4},\"a\":{\"x\":3}}", "324"},
                        {"{{#a}}{{b.c}}{{/a}}", "{\"a\":{\"b\":{}},\"b\":{\"c\":1}}", ""},
                        {"{{#a}}{{#b}}{{.}}{{x}}{{/b}}{{/a}}", "{\"a\":{\"b\":[1,2],\"x\":\"-\"}}",
                                        "1-2-"},
                        {"{{a.b.c.d}}", "{\"a\":{\"b\":{\"c\":{\"d\":5}}}}", "5"},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(sections_go_through_lists_and_ask_of_everything_else) {
        static const struct example rows[] = {
                        {"{{#l}}<{{v}}>{{/l}}{{^l}}none{{/l}}", "{\"l\":[{\"v\":1},{\"v\":2}]}",
                                        "<1><2>"},
                        {"{{#l}}x{{/l}}{{^l}}none{{/l}}", "{\"l\":[]}", "none"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":{}}", "y"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":\"\"}", "n"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":0}", "n"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":-0.0e7}", "n"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":0.1}", "y"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":false}", "n"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{\"a\":null}", "n"},
                        {"{{#a}}y{{/a}}{{^a}}n{{/a}}", "{}", "n"},
                        {"{{#a}}{{#a}}{{.}}{{/a}}{{/a}}", "{\"a\":\"s\"}", "s"},
                        {"{{#.}}{{#.}}{{.}}{{/.}};{{/.}}", "[[1,2],[3]]", "12;3;"},
                        {"{{#a.b}}{{c}}{{/a.b}}", "{\"a\":{\"b\":{\"c\":1}}}", "1"},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(a_tag_alone_on_its_line_takes_the_line_with_it) {
        static const struct example rows[] = {
                        {"a\n  {{#x}}  \nb\n\t{{/x}}\nc\n", "{\"x\":1}", "a\nb\nc\n"},
                        {"a\r\n{{! note }}\r\nb", "{}", "a\r\nb"},
                        {"{{! two\n   lines }}\nb", "{}", "b"},
                        {"a\n  {{! last }}", "{}", "a\n"},
                        {"a {{! not alone }}\nb", "{}", "a \nb"},
                        {"{{#x}}{{/x}}\nb", "{\"x\":1}", "\nb"},
                        {"  {{s}}\n", "{\"s\":\"v\"}", "  v\n"},
                        {" {{=<% %>=}} \n<%s%>{{s}}", "{\"s\":1}", "1{{s}}"},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(delimiters_change_until_the_end_of_their_template) {
        static const struct example rows[] = {
                        {"{{=[ ]=}}[s]{{s}}[={{ }}=]{{s}}", "{\"s\":1}", "1{{s}}1"},
                        {"{{=| |=}}|>p|{{s}}", "{\"s\":1}", "<1>{{s}}", {{"p", "<{{s}}>"}}},
                        {"{{>p}}{{s}}", "{\"s\":1}", "11", {{"p", "{{=| |=}}|s|"}}},
                        {"{{=<% %>=}}<%{s}%><%& s %>", "{\"s\":\"<\"}", "<<"},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(partials_are_indented_where_they_stand_alone) {
        static const struct example rows[] = {
                        {"{{>p}}", "{\"v\":1}", "(1)", {{"p", "({{v}})"}}},
                        {"[{{>none}}]", "{}", "[]"},
                        {"a\n  {{>p}}\nb", "{\"v\":\"1\\n2\"}", "a\n  x\n  1\n2y\nb",
                                        {{"p", "x\n{{v}}y\n"}}},
                        {"  {{>p}} \n", "{}", "    q\n  r\n", {{"p", "  {{>q}}\nr\n"}, {"q", "q\n"}}},
                        {" {{>p}}.\n", "{}", " x\ny.\n", {{"p", "x\ny"}}},
                        {" {{>p}}\n", "{\"l\":[1,2]}", " -1\n-2\n",
                                        {{"p", "{{#l}}-{{.}}\n{{/l}}"}}},
                        {" {{>p}}\n", "{}", " a\n \n b\n", {{"p", "a\n\nb\n"}}},
                        {"{{> * d }}{{>*e}}{{>**d}}", "{\"d\":\"p\",\"p\":\"p\",\"*e\":\"p\"}", "P",
                                        {{"p", "P"}}},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(parents_put_blocks_into_what_they_inherit) {
        static const struct example rows[] = {
                        {"{{$a}}none{{/a}}", "{\"a\":1}", "none"},
                        {"{{<p}} ignored {{v}} {{$a}}A{{/a}} {{#v}}x{{/v}}{{/p}}", "{\"v\":1}",
                                        "[A|b1]", {{"p", "[{{$a}}a{{/a}}|{{$b}}b{{v}}{{/b}}]"}}},
                        {"{{<p}}{{$a}}1{{/a}}{{/p}}", "{}", "1",
                                        {{"p", "{{<q}}{{$a}}2{{/a}}{{/q}}"}, {"q", "{{$a}}3{{/a}}"}}},
                        {"{{<p}}{{/p}}{{<p}}{{$a}}x{{/a}}{{/p}}{{>p}}", "{}", "dxd",
                                        {{"p", "{{$a}}d{{/a}}"}}},
                        {"{{<*n}}{{$a}}x{{/a}}{{/*n}}", "{\"n\":\"p\"}", "<x>",
                                        {{"p", "<{{$a}}{{/a}}>"}}},
                        {"{{<p}}{{$a}}{{v}}{{/a}}{{/p}}", "{\"v\":1,\"m\":{\"v\":2}}", "2",
                                        {{"p", "{{#m}}{{$a}}{{/a}}{{/m}}"}}},
                        {"{{<none}}{{$a}}x{{/a}}{{/none}}", "{}", ""},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

START_TEST(blocks_are_indented_as_the_place_they_are_put_into) {
        static const struct example rows[] = {
                        {"x\n  {{<p}}{{/p}}\ny", "{}", "x\n  a\n  b\ny", {{"p", "a\nb\n"}}},
                        {"{{<p}}{{$b}}\n      1\n        2\n{{/b}}{{/p}}\n", "{}", "a:\n  1\n    2\n",
                                        {{"p", "a:\n  {{$b}}\n  {{/b}}\n"}}},
                        {"{{<p}}{{$b}}\n1\n2\n{{/b}}{{/p}}", "{}", "a:\n    1\n    2\n",
                                        {{"p", "a:\n{{$b}}\n    d\n{{/b}}\n"}}},
                        {"{{<p}}{{/p}}", "{}", "a:\n    d\n    e\n",
                                        {{"p", "a:\n{{$b}}\n    d\n    e\n{{/b}}\n"}}},
                        {"{{<p}}{{$b}}\n1\n2{{/b}}{{/p}}", "{}", "- 1\n2.\n",
                                        {{"p", "- {{$b}}{{/b}}.\n"}}},
                        {"{{<p}}\n  {{$b}}\n    1\n    2\n  {{/b}}\n{{/p}}\n", "{}", "1\n2\n",
                                        {{"p", "{{$b}}\n{{/b}}\n"}}},
                        {"{{<p}}{{$b}}\n  {{v}}\n  {{>q}}\n{{/b}}{{/p}}", "{\"v\":\"V\"}",
                                        "\tV\n\tq\n", {{"p", "\t{{$b}}\n\t{{/b}}\n"}, {"q", "q\n"}}},
                        {"{{<p}}{{$b}}one{{/b}}{{/p}}", "{}", "  one",
                                        {{"p", "  {{$b}}\n  {{/b}}\n"}}},
                        {"a {{<p}}{{/p}} b\n", "{}", "a d b\n", {{"p", "{{$b}}d{{/b}}"}}},
                        {"  {{<p}}{{/p}} b\n", "{}", "  d\ne b\n", {{"p", "{{$b}}d\ne{{/b}}"}}},
        };

        CHECK_EXAMPLES(rows);
}
END_TEST

/* ---- reuse, front matter ---- */

START_TEST(a_template_is_rendered_again_and_again_into_the_same_output) {
        static const char text[] = "{{#l}}{{.}},{{/l}}";
        struct mustache_options options = options_plain();
        struct mustache_output out = {0};
        struct mustache_data *data = NULL;
        struct mustache_error err;
        struct mustache *t = NULL;
        const char *where;

        ck_assert_int_eq(mustache_compile("t", text, strlen(text), 0, &t, &err), 0);
        ck_assert_str_eq(mustache_name(t), "t");
        ck_assert_int_eq(mustache_data_new(&data), 0);
        ck_assert_int_eq(mustache_render(t, data, &options, &out, &err), 0); /* no data at all */
        ck_assert_uint_eq(out.n, 0);
        ck_assert_int_eq(mustache_data_json(data, "{\"l\":[1,2]}", 11, &err), 0);
        ck_assert_int_eq(mustache_render(t, data, &options, &out, &err), 0);
        where = out.p;
        for (char c = 'a'; c < 'k'; c++) {
                mustache_data_reset(data);
                mustache_data_open(data, (struct mustache_text){"", 0}, DATA_MAP);
                mustache_data_open(data, (struct mustache_text){"l", 1}, DATA_LIST);
                mustache_data_put(data, (struct mustache_text){"", 0}, DATA_TEXT,
                                (struct mustache_text){&c, 1});
                mustache_data_close(data);
                mustache_data_close(data);
                ck_assert_int_eq(mustache_data_error(data), 0);
                ck_assert_int_eq(mustache_render(t, data, &options, &out, &err), 0);
                ck_assert_uint_eq(out.n, 2);
                ck_assert_int_eq(out.p[0], c);
                ck_assert_ptr_eq(out.p, where);
        }
        mustache_output_clear(&out);
        mustache_data_free(data);
        mustache_free(t);
}
END_TEST

START_TEST(a_marked_value_is_left_out_and_its_places_are_told) {
        static const char text[] = "a{{m}}b{{{m}}}{{#m}}c{{/m}}{{n}}", mark[] = "mark";
        struct mustache_marks marks = {.text = mark};
        struct mustache_options options = options_plain();
        struct mustache_output out = {0};
        struct mustache_data *data = NULL;
        struct mustache_error err;
        struct mustache *t = NULL;

        options.marks = &marks;
        ck_assert_int_eq(mustache_compile("t", text, strlen(text), 0, &t, &err), 0);
        ck_assert(mustache_asks_for(t, "m") && mustache_asks_for(t, "n"));
        ck_assert(!mustache_asks_for(t, "a") && !mustache_asks_for(t, "mm"));
        ck_assert_int_eq(mustache_data_new(&data), 0);
        mustache_data_open(data, (struct mustache_text){"", 0}, DATA_MAP);
        mustache_data_put(data, (struct mustache_text){"m", 1}, DATA_TEXT,
                        (struct mustache_text){mark, 1});
        mustache_data_put(data, (struct mustache_text){"n", 1}, DATA_TEXT,
                        (struct mustache_text){"N", 1});
        mustache_data_close(data);
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(mustache_render(t, data, &options, &out, &err), 0);
                ck_assert_uint_eq(out.n, 4);
                ck_assert_int_eq(memcmp(out.p, "abcN", 4), 0);
                ck_assert_uint_eq(marks.n, 2);
                ck_assert_uint_eq(marks.at[0], 1);
                ck_assert_uint_eq(marks.at[1], 2);
        }
        mustache_output_clear(&out);
        mustache_data_free(data);
        mustache_free(t);
}
END_TEST

START_TEST(front_matter_says_what_the_daemon_asks_with) {
        static const char file[] =
                        "---\nmodel: big\nmodels: [a, \"b\"]\ncontext_tokens: 4096\n"
                        "max_output_tokens: 10\ndocument_tokens: 7\nparams:\n  a: 1.5\n  b: '1'\n"
                        "  c: [true, ~, 007, -0.5e+3, .5, x\"]\n  d: {e: {}, f: \"\"}\n---\n";
        struct mustache_front front = {0};
        struct mustache_error err;

        ck_assert_int_eq(mustache_front_read(file, strlen(file), &front, &err), 0);
        ck_assert_str_eq(front.model, "big");
        ck_assert_uint_eq(front.n_models, 2);
        ck_assert_str_eq(front.models[1], "b");
        ck_assert_uint_eq(front.context_tokens, 4096);
        ck_assert_uint_eq(front.max_output_tokens, 10);
        ck_assert_uint_eq(front.document_tokens, 7);
        ck_assert_str_eq(strndupa(front.params, front.n_params),
                        "\"a\":1.5,\"b\":\"1\",\"c\":[true,null,\"007\",-0.5e+3,\".5\",\"x\\\"\"],"
                        "\"d\":{\"e\":{},\"f\":\"\"}");
        mustache_front_clear(&front);
        ck_assert_ptr_null(front.params);
}
END_TEST

START_TEST(front_matter_is_yaml_between_two_lines_of_dashes) {
        static const char file[] = "---\nescape: html\nmissing: error\n--- \n\n{{a}}\n {{b c}}";
        static const char none[] = "-- \n---\n";
        struct mustache_front front;
        struct mustache_error err;
        struct mustache *t = NULL;

        ck_assert_int_eq(mustache_front_read(none, strlen(none), &front, &err), 0);
        ck_assert_uint_eq(front.body, 0);
        ck_assert(!front.has_escape && !front.missing_is_error);
        ck_assert_int_eq(mustache_front_read("---\n---", 7, &front, &err), 0);
        ck_assert_uint_eq(front.body, 7);
        ck_assert_int_eq(mustache_front_read(file, strlen(file), &front, &err), 0);
        ck_assert_int_eq(front.escape, MUSTACHE_ESCAPE_HTML);
        ck_assert(front.has_escape && front.missing_is_error);
        ck_assert_int_eq(file[front.body], '\n');
        ck_assert_int_eq(mustache_compile("t", file, strlen(file), front.body, &t, &err),
                        MUSTACHE_E_SYNTAX);
        ck_assert_uint_eq(err.line, 7); /* of the file */
        ck_assert_uint_eq(err.column, 2);
}
END_TEST

START_TEST(front_matter_that_is_wrong_is_refused_with_its_place) {
        static const struct refusal rows[] = {
                        {"---\nescape: none\n", 1, 1, "a line ---"},
                        {"---\n\nescape: xml\n---\n", 3, 9, "none or html"},
                        {"---\nmissing: [a]\n---\n", 2, 10, "empty or error"},
                        {"---\nmissing: error\nmissing: error\n---\n", 3, 1, "twice"},
                        {"---\nmodel: [x]\n---\n", 2, 8, "a name"},
                        {"---\nmodels: x\n---\n", 2, 9, "a list"},
                        {"---\nmodels: [a, {}]\n---\n", 2, 13, "a list"},
                        {"---\nparams: 5\n---\n", 2, 9, "a map"},
                        {"---\nparams: {a: 1, stream: no}\n---\n", 2, 16, "but for messages"},
                        {"---\nparams: {a: &x [*x]}\n---\n", 2, 13, "a map"},
                        {"---\ncontext_tokens: 0\n---\n", 2, 17, "a number"},
                        {"---\ncontext_tokens: 5x\n---\n", 2, 17, "a number"},
                        {"---\nmodle: x\n---\n", 2, 1, "'modle'"},
                        {"---\n[a]: x\n---\n", 2, 1, "no such key"},
                        {"---\n- a\n---\n", 2, 1, "key: value"},
                        {"---\nescape: \"none\n---\n", 3, 1, "end of stream"},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct mustache_front front;
                struct mustache_error err;
                int r = mustache_front_read(rows[i].text, strlen(rows[i].text), &front, &err);
                ck_assert_msg(r == MUSTACHE_E_SYNTAX, "%s", rows[i].text);
                ck_assert_msg(err.line == rows[i].line && err.column == rows[i].column,
                                "%s: %u:%u: %s", rows[i].text, err.line, err.column, err.text);
                ck_assert_msg(strstr(err.text, rows[i].words) != NULL, "%s: %s", rows[i].text,
                                err.text);
        }
}
END_TEST

int main(void) {
        Suite *s = suite_create("mustache");
        TCase *tc = tcase_create("mustache");

        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, what_is_no_template_is_refused_with_its_place);
        tcase_add_test(tc, tags_that_are_nested_too_deep_are_refused);
        tcase_add_test(tc, data_that_are_no_json_are_refused_with_their_place);
        tcase_add_test(tc, a_name_that_is_missing_is_an_error_where_the_options_say_so);
        tcase_add_test(tc, a_list_or_a_map_is_no_text);
        tcase_add_test(tc, what_includes_itself_for_ever_ends_in_an_error);
        tcase_add_test(tc, a_tree_is_walked_by_a_partial_that_includes_itself);
        tcase_add_test(tc, output_and_work_are_bounded);
        tcase_add_test(tc, values_are_put_in_as_they_are_written);
        tcase_add_test(tc, names_are_looked_for_from_the_inside_out);
        tcase_add_test(tc, sections_go_through_lists_and_ask_of_everything_else);
        tcase_add_test(tc, a_tag_alone_on_its_line_takes_the_line_with_it);
        tcase_add_test(tc, delimiters_change_until_the_end_of_their_template);
        tcase_add_test(tc, partials_are_indented_where_they_stand_alone);
        tcase_add_test(tc, parents_put_blocks_into_what_they_inherit);
        tcase_add_test(tc, blocks_are_indented_as_the_place_they_are_put_into);
        tcase_add_test(tc, a_template_is_rendered_again_and_again_into_the_same_output);
        tcase_add_test(tc, a_marked_value_is_left_out_and_its_places_are_told);
        tcase_add_test(tc, front_matter_says_what_the_daemon_asks_with);
        tcase_add_test(tc, front_matter_is_yaml_between_two_lines_of_dashes);
        tcase_add_test(tc, front_matter_that_is_wrong_is_refused_with_its_place);
        suite_add_tcase(s, tc);
        SRunner *sr = srunner_create(s);
        srunner_run_all(sr, CK_NORMAL);
        int failed = srunner_ntests_failed(sr);
        srunner_free(sr);
        return failed != 0;
}
