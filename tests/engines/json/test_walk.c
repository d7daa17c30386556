#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/walk.h"

static struct json_text text(const char *p) {
        return (struct json_text){p, (uint32_t)strlen(p)};
}

static void expect_text(struct json_text got, const char *want) {
        ck_assert_msg(got.n == strlen(want) && memcmp(got.p, want, got.n) == 0,
                        "got \"%.*s\", want \"%s\"", (int)got.n, got.p, want);
}

/* ---- refusals ---- */

START_TEST(what_is_no_json_is_no_element) {
        static const char *const bad[] = {",", "[", "]", "{", "{]", "[}", "[1", "[1,]", "[,1]",
                        "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}", "{\"a\" 1}", "01", "-", "1.",
                        "1.e5", ".5", "1e", "1e+", "+1", "tru", "nul", "fals", "True", "'a'", "\"",
                        "\"a", "\"\\", "\"\\x\"", "\"\\u12g4\"", "\"\\u12", "\"\n\"", "\"\x1f\"",
                        "1,", "1 2", "1 22", "1;2", "[1 2]", "[1]]", "\f1", "1\v", "nan"};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                /* Exactly as long, so that a sanitizer sees the first byte beyond it. */
                uint32_t n = (uint32_t)strlen(bad[i]);
                char *copy = malloc(n);
                struct json_walk w;
                struct json_text value;
                int r;

                memcpy(copy, bad[i], n);
                w = json_walk_in((struct json_text){copy, n});
                do
                        r = json_walk_element(&w, &value);
                while (r == 0);
                ck_assert_msg(r == -EPROTO, "\"%s\" passes", bad[i]);
                free(copy);
        }
}
END_TEST

START_TEST(what_is_no_member_is_refused) {
        static const char *const bad[] = {"1", "\"a\"", "\"a\":", "\"a\":1,", "a:1",
                        "\"a\":1 \"b\":2", "\"a\"::1", "\"a\":1}", ",\"a\":1",
                        "\"a\":1,,\"b\":2", "\"a"};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                ck_assert_msg(!json_is_members(text(bad[i])), "\"%s\" passes", bad[i]);
}
END_TEST

START_TEST(depth_is_bounded) {
        char deep[256];

        memset(deep, '[', 64);
        memset(deep + 64, ']', 64);
        deep[128] = '\0';
        ck_assert_int_eq(json_walk_element(&(struct json_walk){.p = deep, .n = 128},
                                         &(struct json_text){0}),
                        0);
        memset(deep, '[', 65);
        memset(deep + 65, ']', 65);
        ck_assert_int_eq(json_walk_element(&(struct json_walk){.p = deep, .n = 130},
                                         &(struct json_text){0}),
                        -EPROTO);
}
END_TEST

/* ---- behaviour ---- */

START_TEST(members_come_one_by_one) {
        struct json_walk w = json_walk_in(text(" \"a\" : 1 ,\n\"b\\\"\":[ {\"c\":[]} , -0.5e+3 ],"
                                               "\"d\":{} , \"\":\"\\ud800\xff\" "));
        struct json_text key, value;

        ck_assert_int_eq(json_walk_member(&w, &key, &value), 0);
        expect_text(key, "\"a\"");
        expect_text(value, "1");
        ck_assert_int_eq(json_walk_member(&w, &key, &value), 0);
        expect_text(key, "\"b\\\"\"");
        expect_text(value, "[ {\"c\":[]} , -0.5e+3 ]");
        ck_assert_int_eq(json_walk_member(&w, &key, &value), 0);
        expect_text(value, "{}");
        ck_assert_int_eq(json_walk_member(&w, &key, &value), 0);
        expect_text(key, "\"\"");
        expect_text(value, "\"\\ud800\xff\"");
        ck_assert_int_eq(json_walk_member(&w, &key, &value), WALK_E_END);
        ck_assert_int_eq(json_walk_member(&w, &key, &value), WALK_E_END);
}
END_TEST

START_TEST(elements_come_one_by_one) {
        struct json_text inside = json_inside(text("[true,null, \"x\" ,[],{\"a\":{\"b\":0}}]"));
        struct json_walk w = json_walk_in(inside);
        static const char *const want[] = {"true", "null", "\"x\"", "[]", "{\"a\":{\"b\":0}}"};
        struct json_text value;

        for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
                ck_assert_int_eq(json_walk_element(&w, &value), 0);
                expect_text(value, want[i]);
        }
        ck_assert_int_eq(json_walk_element(&w, &value), WALK_E_END);
        w = json_walk_in(json_inside(text("[ ]")));
        ck_assert_int_eq(json_walk_element(&w, &value), WALK_E_END);
}
END_TEST

START_TEST(only_brackets_have_an_inside) {
        expect_text(json_inside(text("{\"a\":1}")), "\"a\":1");
        ck_assert_uint_eq(json_inside(text("\"a\"")).n, 0);
        ck_assert_uint_eq(json_inside(text("7")).n, 0);
}
END_TEST

START_TEST(keys_and_numbers_are_read_as_they_stand) {
        uint64_t v = 5;

        ck_assert(json_key_is(text("\"model\""), "model"));
        ck_assert(!json_key_is(text("\"models\""), "model"));
        ck_assert(!json_key_is(text("\"\\u006dodel\""), "model"));
        ck_assert(json_u64(text("1234567890123456789"), &v) && v == 1234567890123456789u);
        ck_assert(!json_u64(text("12345678901234567890"), &v));
        ck_assert(!json_u64(text("-1"), &v) && !json_u64(text("1.0"), &v));
        ck_assert(!json_u64(text(""), &v) && v == 1234567890123456789u);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("walk");
        TCase *refusals = tcase_create("refusals"), *behaviour = tcase_create("behaviour");

        tcase_add_test(refusals, what_is_no_json_is_no_element);
        tcase_add_test(refusals, what_is_no_member_is_refused);
        tcase_add_test(refusals, depth_is_bounded);
        suite_add_tcase(s, refusals);
        tcase_add_test(behaviour, members_come_one_by_one);
        tcase_add_test(behaviour, elements_come_one_by_one);
        tcase_add_test(behaviour, only_brackets_have_an_inside);
        tcase_add_test(behaviour, keys_and_numbers_are_read_as_they_stand);
        suite_add_tcase(s, behaviour);
        return s;
}

int main(void) {
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
