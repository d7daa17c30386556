#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/post/redaction.h"

#define CAP 65536u

static struct settings *settings;
static struct redaction *r;
static char *entities[] = {"core"};

static void setup(void) {
        struct redact_why why = {""};

        ck_assert_int_eq(settings_default(&settings), 0);
        ck_assert_int_eq(redaction_new(settings, CAP, &r, &why), 0);
        ck_assert_ptr_null(r); /* nothing is configured */
        settings->post.redact.entities.v = entities;
        settings->post.redact.entities.n = 1;
        settings->post.redact.numbered = true;
        ck_assert_msg(redaction_new(settings, CAP, &r, &why) == 0, "%s", why.text);
        r->limit = CAP;
        settings->post.redact.entities.v = NULL;
        settings->post.redact.entities.n = 0;
}

static void teardown(void) {
        r = redaction_free(r);
        settings = settings_free(settings);
}

/* The request as it comes back from a slab version. */
static void through_the_slab(void) {
        uint32_t n = redaction_pack(r);
        uint8_t *bytes = malloc(n);

        memcpy(bytes, r->packed, n);
        memset(r->streams, 0xee, sizeof(r->streams));
        ck_assert_int_eq(redaction_load(r, bytes, n), 0);
        free(bytes);
}

START_TEST(bytes_that_were_not_packed_here_are_refused) {
        uint8_t bytes[4096];

        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        ck_assert_int_eq(redaction_feed(r, 0, 0, "a@b", 3, false), 0);
        uint32_t n = redaction_pack(r);
        ck_assert_uint_le(n, sizeof(bytes));
        memcpy(bytes, r->packed, n);
        for (uint32_t cut = 1; cut < n; cut++)
                ck_assert_int_eq(redaction_load(r, bytes, cut), -EPROTO);
        for (uint32_t at = 0; at < 12; at++) {
                uint8_t was = bytes[at];
                bytes[at] = 0xff;
                ck_assert_int_eq(redaction_load(r, bytes, n), -EPROTO);
                bytes[at] = was;
        }
        ck_assert_int_eq(redaction_load(r, bytes, n), 0);
}
END_TEST

START_TEST(streams_wait_apart_and_what_waits_survives_the_slab) {
        static const char *const parts[] = {
                        "mail jane", ".doe@exam", "ple.com, bob", "@example.com"};
        char texts[2][256] = {"", ""};

        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        for (unsigned i = 0; i < 4; i++) {
                for (uint16_t choice = 0; choice < 2; choice++) {
                        ck_assert_int_eq(redaction_feed(r, choice, 0, parts[i],
                                                         (uint32_t)strlen(parts[i]), false),
                                        0);
                        strncat(texts[choice], r->out, r->n_out);
                        through_the_slab();
                }
        }
        for (uint16_t choice = 0; choice < 2; choice++) {
                ck_assert_int_eq(redaction_feed(r, choice, 0, NULL, 0, true), 0);
                strncat(texts[choice], r->out, r->n_out);
                ck_assert_str_eq(texts[choice], "mail <EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2>");
        }
        uint8_t counts[64];
        ck_assert_uint_gt(redaction_counts(r, counts, sizeof(counts)), 0);
        ck_assert_uint_eq(counts[0], 0x81);
        ck_assert_uint_eq(r->counts[0].n, 4);
}
END_TEST

START_TEST(more_than_fits_or_more_streams_than_there_are_is_no_answer) {
        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        r->limit = 4;
        ck_assert_int_eq(redaction_feed(r, 0, 0, "hello world ", 12, false), REDACTION_E_LARGE);
        r->limit = CAP;
        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        for (uint16_t choice = 0; choice < REDACTION_STREAMS; choice++)
                ck_assert_int_eq(redaction_feed(r, choice, 0, "x", 1, false), 0);
        ck_assert_int_eq(redaction_feed(r, REDACTION_STREAMS, 0, "x", 1, false), REDACTION_E_LARGE);
}
END_TEST

/* ---- JSON ---- */

static void json_whole(const char *text, size_t at, char *ret) {
        size_t n = strlen(text);

        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        *ret = 0;
        ck_assert_int_eq(redaction_feed_json(r, 0, 3, text, (uint32_t)at, false), 0);
        strncat(ret, r->out, r->n_out);
        through_the_slab();
        ck_assert_int_eq(redaction_feed_json(r, 0, 3, text + at, (uint32_t)(n - at), false), 0);
        strncat(ret, r->out, r->n_out);
        ck_assert_int_eq(redaction_feed_json(r, 0, 3, NULL, 0, true), 0);
        strncat(ret, r->out, r->n_out);
}

START_TEST(arguments_are_redacted_inside_of_their_escapes_wherever_they_are_cut) {
        static const struct {
                const char *in, *out;
        } cases[] = {
                        {"{\"to\": \"a\\u0040example.com\", \"n\": [1, -2.5e3, true, null]}",
                                        "{\"to\": \"<EMAIL_ADDRESS_1>\", \"n\": [1, -2.5e3, true, null]}"},
                        {"{\"card\":4012888888881881,\"ip\":\"10.0.0.1\\n10.0.0.2\"}",
                                        "{\"card\":\"<CREDIT_CARD_1>\",\"ip\":\"<IP_ADDRESS_1>\\n<IP_ADDRESS_2>\"}"},
                        {"{\"u\":\"https:\\/\\/example.com\\/a \\\"q\\\" \\\\\"}",
                                        "{\"u\":\"<URL_1> \\\"q\\\" \\\\\"}"},
                        {"{\"ssn\":\"536904399\",\"e\":\"\\ud83d\\ude00 \\u00e9\"}",
                                        "{\"ssn\":\"<US_SSN_1>\",\"e\":\"\xf0\x9f\x98\x80 \xc3\xa9\"}"},
                        {"\"\\ud83dx\"", "\"\xef\xbf\xbdx\""},
                        {"{\"cut\": \"a@example.co", "{\"cut\": \"<EMAIL_ADDRESS_1>"},
        };
        char text[512];

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                for (size_t at = 0; at <= strlen(cases[i].in); at++) {
                        json_whole(cases[i].in, at, text);
                        ck_assert_msg(strcmp(text, cases[i].out) == 0, "cut at %zu: %s\nbecame %s", at,
                                        cases[i].in, text);
                }
        }
}
END_TEST

/* ---- members that are not known ---- */

START_TEST(members_that_are_not_known_are_redacted_string_by_string) {
        static const struct {
                const char *in, *out;
        } cases[] = {
                        {"\"fp\":\"fp_1\",\"n\":4012888888881881, \"x\" : [1.50,{\"to\":\"a@example.com\"}]",
                                        "\"fp\":\"fp_1\",\"n\":4012888888881881,\"x\":[1.50,{\"to\":\"<EMAIL_ADDRESS_1>\"}]"},
                        {"\"choices\":[{\"index\":1,\"logprobs\":{\"content\":[]},\"finish_reason\":\"stop\",\"delta\":{"
                         "\"reasoning_details\":[{\"text\":\"a@ex\"}],\"audio\":{\"transcript\":\"a@ex\"}}}]",
                                        "\"choices\":[{\"index\":1,\"finish_reason\":\"stop\",\"delta\":{}}]"},
                        {"\"logprobs\":null", ""},
                        {"\"u\":\"\\u0061@example.com \\\"q\\\"\",\"v\":true", "\"u\":\"<EMAIL_ADDRESS_1> \\\"q\\\"\",\"v\":true"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
                ck_assert_int_eq(redaction_extra(r, (struct mr_view){cases[i].in, (uint32_t)strlen(cases[i].in)}), 0);
                ck_assert_uint_eq(r->n_out, strlen(cases[i].out));
                ck_assert_int_eq(strncmp(r->out, cases[i].out, r->n_out), 0);
        }
        ck_assert_int_eq(redaction_extra(r, (struct mr_view){"\"a\":", 4}), REDACTION_E_LARGE);
        r->limit = 8;
        ck_assert_int_eq(redaction_extra(r, (struct mr_view){"\"a\":\"a@b.com\"", 13}), REDACTION_E_LARGE);
        r->limit = CAP;
}
END_TEST

int main(void) {
        Suite *suite = suite_create("redaction");
        TCase *tc = tcase_create("redaction");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_test(tc, bytes_that_were_not_packed_here_are_refused);
        tcase_add_test(tc, streams_wait_apart_and_what_waits_survives_the_slab);
        tcase_add_test(tc, more_than_fits_or_more_streams_than_there_are_is_no_answer);
        tcase_add_test(tc, arguments_are_redacted_inside_of_their_escapes_wherever_they_are_cut);
        tcase_add_test(tc, members_that_are_not_known_are_redacted_string_by_string);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
