#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/post/format.h"

#define CAP 4096u
#define ID 77u

static struct settings *settings;
static struct format *f;
static char *words[] = {"trim", "strip_markdown", "raw=keep", "odd=json_unchecked"};

static void setup(void) {
        struct words_why why;

        ck_assert_int_eq(settings_default(&settings), 0);
        settings->post.format.v = words;
        settings->post.format.n = 4;
        ck_assert_int_eq(format_new(settings, CAP, &f, &why), 0);
        ck_assert_int_eq(format_slots(f, 2), 0);
}

static void teardown(void) {
        f = format_free(f);
        settings->post.format.v = NULL;
        settings->post.format.n = 0;
        settings = settings_free(settings);
}

static struct mr_view view(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static struct record head_of(const char *model, const char *stop, const char *form) {
        struct record head = {.has = HAS(model), .model = view(model)};

        if (stop) {
                head.has |= HAS(stop);
                head.stop = view(stop);
        }
        if (form) {
                head.has |= HAS(response_format);
                head.response_format = view(form);
        }
        return head;
}

/* Feeds one piece, with all that waits going through the slab before it; returns what format_feed() says. */
static int feed(const struct record *head, uint16_t choice, const char *text, uint32_t n, bool last, char *out,
                uint32_t *n_out) {
        static uint8_t bytes[FORMAT_PACKED];
        static uint32_t n_bytes;
        int e;

        if (!head) {
                n_bytes = 0;
                return 0;
        }
        memset(f->streams, 0xee, sizeof(f->streams));
        ck_assert_int_eq(format_load(f, 1, ID, format_of(f, head), head, bytes, n_bytes), 0);
        e = format_feed(f, choice, text, n, last);
        memcpy(out + *n_out, f->out, f->n_out);
        *n_out += f->n_out;
        n_bytes = format_pack(f, bytes);
        ck_assert_uint_le(n_bytes, sizeof(bytes));
        return e;
}

static void becomes(const struct record *head, const char *text, const char *expected, int end) {
        uint32_t n = (uint32_t)strlen(text);

        for (uint32_t step = 1; step <= n; step++) {
                char out[CAP];
                uint32_t n_out = 0;
                int e = 0;
                format_forget(f, 1);
                feed(NULL, 0, NULL, 0, false, NULL, NULL);
                for (uint32_t at = 0; at < n && !e; at += step)
                        e = feed(head, 0, text + at, n - at < step ? n - at : step, false, out, &n_out);
                if (!e)
                        e = feed(head, 0, "", 0, true, out, &n_out);
                ck_assert_int_eq(e, end);
                ck_assert_msg(n_out == strlen(expected) && !memcmp(out, expected, n_out), "by %u: %.*s", step, (int)n_out,
                                out);
        }
}

START_TEST(bytes_that_were_not_packed_here_are_refused) {
        struct record head = head_of("m", "\"END\"", NULL);
        uint8_t bytes[FORMAT_PACKED];
        uint32_t n;

        ck_assert_int_eq(format_load(f, 0, 1, format_of(f, &head), &head, NULL, 0), 0);
        ck_assert_int_eq(format_feed(f, 0, "x  [a", 5, false), 0);
        n = format_pack(f, bytes);
        for (uint32_t cut = 1; cut < n; cut++)
                ck_assert_int_eq(format_load(f, 0, 1, format_of(f, &head), &head, bytes, cut), -EPROTO);
}
END_TEST

START_TEST(more_choices_than_are_told_apart_are_refused) {
        struct record head = head_of("m", NULL, NULL);

        ck_assert_int_eq(format_load(f, 0, 1, format_of(f, &head), &head, NULL, 0), 0);
        for (uint16_t i = 0; i < FORMAT_STREAMS; i++)
                ck_assert_int_eq(format_feed(f, i, "x", 1, false), 0);
        ck_assert_int_eq(format_feed(f, FORMAT_STREAMS, "x", 1, false), FORMAT_E_LARGE);
}
END_TEST

START_TEST(a_models_own_words_stand_in_place_of_those_for_all) {
        struct record all = head_of("m", NULL, "{\"type\":\"json_object\"}"), raw = head_of("raw", NULL, NULL),
                      odd = head_of("odd", "\"x\"", "{}");

        ck_assert_uint_eq(format_of(f, &all), FORMAT_TRIM | FORMAT_STRIP | FORMAT_JSON);
        ck_assert_uint_eq(format_of(f, &raw), 0);
        ck_assert_uint_eq(format_of(f, &odd), FORMAT_STOPS);
}
END_TEST

START_TEST(everything_at_once_however_it_is_cut_and_kept) {
        struct record head = head_of("m", "[\"END\",\"\\n\\n\"]", NULL);

        becomes(&head, "  some **bold** t", "some bold t", 0);
        becomes(&head, " a *b* [c](d) \n END x", "a b c", FORMAT_E_STOPPED);
        becomes(&head, "EN", "EN", 0);
        head = head_of("m", NULL, "{\"type\":\"json_object\"}");
        becomes(&head, " {\"**a**\": [1, {\"b\": null}]} \n", "{\"**a**\": [1, {\"b\": null}]}", 0);
        becomes(&head, "{\"a\": 1 x", "{\"a\": 1 ", FORMAT_E_INVALID);
        becomes(&head, "{\"a\": \"", "{\"a\": \"", FORMAT_E_INVALID);
        head = head_of("raw", "\"x\"", NULL);
        becomes(&head, "  **as it is** x", "  **as it is** ", FORMAT_E_STOPPED);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("post format");
        TCase *all = tcase_create("post format");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, bytes_that_were_not_packed_here_are_refused);
        tcase_add_test(all, more_choices_than_are_told_apart_are_refused);
        tcase_add_test(all, a_models_own_words_stand_in_place_of_those_for_all);
        tcase_add_test(all, everything_at_once_however_it_is_cut_and_kept);
        suite_add_tcase(suite, all);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
