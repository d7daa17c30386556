/* restore: what was redacted in a prompt comes back where an answer names it, however that is cut. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/pack.h"
#include "stages/post/redaction.h"

#define CAP 65536u

static struct redaction *r;
static struct record_decoder decoder;
static uint8_t note[4096];

static void pack_row(struct pack_buf *w, const char *entity, uint64_t number, const char *value) {
        msgpack_pack_array(&w->pk, 4);
        pack_str(w, (struct mr_view){entity, (uint32_t)strlen(entity)});
        pack_uint(w, number);
        pack_uint(w, number + 7);
        if (value)
                pack_str(w, (struct mr_view){value, (uint32_t)strlen(value)});
        else
                msgpack_pack_nil(&w->pk);
}

/* A note as assemble writes it: two values of the client's, one of a document's. */
static const msgpack_object *note_of(uint64_t counts) {
        const msgpack_object *object;
        struct pack_buf w;

        pack_buf_init(&w, note, sizeof(note));
        msgpack_pack_array(&w.pk, 2);
        pack_map(&w, 2);
        pack_str(&w, (struct mr_view){"EMAIL_ADDRESS", 13});
        pack_uint(&w, counts);
        pack_str(&w, (struct mr_view){"NO_MORE_LOOKED_FOR", 18});
        pack_uint(&w, 1);
        msgpack_pack_array(&w.pk, 3);
        pack_row(&w, "EMAIL_ADDRESS", 1, "jane@example.com");
        pack_row(&w, "EMAIL_ADDRESS", 2, NULL);
        pack_row(&w, "OWN_NAME", 11, "a \"quoted\"\\ name\n");
        ck_assert_int_eq(record_raw_parse(&decoder, note, w.len, &object), 0);
        return object;
}

static void setup(void) {
        static char *entities[] = {"core"};
        struct redact_why why = {""};
        struct settings *settings = NULL;

        ck_assert_int_eq(record_decoder_init(&decoder), 0);
        ck_assert_int_eq(settings_default(&settings), 0);
        settings->post.redact.entities.v = entities;
        settings->post.redact.entities.n = 1;
        settings->post.redact.numbered = true;
        ck_assert_msg(redaction_new(settings, CAP, &r, &why) == 0, "%s", why.text);
        r->limit = CAP;
        settings->post.redact.entities.v = NULL;
        settings->post.redact.entities.n = 0;
        settings_free(settings);
        ck_assert_int_eq(redaction_noted(r, 1, note_of(2)), 0);
}

static void teardown(void) {
        r = redaction_free(r);
        record_decoder_close(&decoder);
}

/* As after a kill: another process reads the version and the note. */
static void through_the_slab(void) {
        uint32_t n = redaction_pack(r);
        uint8_t *bytes = malloc(n);

        memcpy(bytes, r->packed, n);
        memset(r->streams, 0xee, sizeof(r->streams));
        memset(&r->restore, 0xee, sizeof(r->restore));
        memset(&r->numbers, 0xee, sizeof(r->numbers));
        ck_assert_int_eq(redaction_noted(r, 1, note_of(2)), 0);
        ck_assert_int_eq(redaction_load(r, bytes, n), 0);
        free(bytes);
}

static void feed(uint8_t kind, const char *text, size_t n, bool last, char *ret) {
        int e = kind & REDACTION_JSON
                                ? redaction_feed_json(r, 0, kind & (REDACTION_CALLS - 1), text,
                                                  (uint32_t)n, last)
                                : redaction_feed(r, 0, kind, text, (uint32_t)n, last);

        ck_assert_int_eq(e, 0);
        strncat(ret, r->out, r->n_out);
}

/* ---- refusals ---- */

START_TEST(a_note_of_another_shape_is_refused) {
        static const char *const notes[] = {"\x80", "\x91\x80", "\x92\x80\xc0", "\x92\xc0\x90",
                        "\x92\x80\x91\xc0", "\x92\x80\x91\x93\xa1" "A\x01\x01", "\x92\x80\x91\x94\x01\x01\x01\xc0",
                        "\x92\x80\x91\x94\xa1" "A\xa1" "B\x01\xc0", "\x92\x81\x01\x01\x90", "\x92\x81\xa1" "A\xc0\x90"};

        for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
                const msgpack_object *object;
                ck_assert_int_eq(record_raw_parse(&decoder, notes[i], (uint32_t)strlen(notes[i]), &object), 0);
                ck_assert_msg(redaction_noted(r, 2, object) == -EPROTO, "note %zu", i);
        }
}
END_TEST

START_TEST(a_note_with_too_many_values_or_too_long_a_name_is_refused) {
        struct restore restore = {.n = 0};
        char name[REDACT_NAME_MAX + 1];

        memset(name, 'A', sizeof(name));
        ck_assert(!restore_add(&restore, (struct mr_view){name, sizeof(name)}, 1, (struct mr_view){"x", 1}));
        ck_assert(!restore_add(&restore, (struct mr_view){name, 1}, 1ull << 32, (struct mr_view){"x", 1}));
        for (uint32_t i = 0; i < REDACT_NUMBERS; i++)
                ck_assert(restore_add(&restore, (struct mr_view){name, REDACT_NAME_MAX}, UINT32_MAX - i,
                                (struct mr_view){"x", 1}));
        ck_assert_uint_eq(restore.rows[0].n, REDACT_NAME_MAX + 13);
        ck_assert(!restore_add(&restore, (struct mr_view){name, 1}, 1, (struct mr_view){"x", 1}));
}
END_TEST

/* ---- answers ---- */

static const struct {
        uint8_t kind;
        const char *in, *out;
} cases[] = {
                {0, "Dear <EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_1><OWN_NAME_11>.",
                                "Dear jane@example.com, jane@example.coma \"quoted\"\\ name\n."},
                {1, "not <EMAIL_ADDRESS_2> nor <EMAIL_ADDRESS_12> nor <EMAIL_ADDRESS> nor <OWN_NAME_1>",
                                "not <EMAIL_ADDRESS_2> nor <EMAIL_ADDRESS_12> nor <EMAIL_ADDRESS> nor <OWN_NAME_1>"},
                {0, "a < b, <<EMAIL_ADDRESS_1>> and <EMAIL<EMAIL_ADDRESS_1> to <EMAIL_ADDRESS_1",
                                "a < b, <jane@example.com> and <EMAILjane@example.com to <EMAIL_ADDRESS_1"},
                /* What the answer itself has is redacted, with numbers of its own, and not restored. */
                {0, "<EMAIL_ADDRESS_1> wrote to bob@example.org: <EMAIL_ADDRESS_3>, <bob@example.org",
                                "jane@example.com wrote to <EMAIL_ADDRESS_3>: <EMAIL_ADDRESS_3>, <<EMAIL_ADDRESS_3>"},
                {REDACTION_JSON, "{\"to\":\"<EMAIL_ADDRESS_1>\",\"n\":[\"\\u003cOWN_NAME_11\\u003e\",\"<OWN_NAME_\",2]}",
                                "{\"to\":\"jane@example.com\",\"n\":[\"a \\\"quoted\\\"\\\\ name\\n\",\"<OWN_NAME_\",2]}"},
};

START_TEST(placeholders_come_back_wherever_they_are_cut) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                size_t n = strlen(cases[i].in);
                for (size_t cut = 0; cut <= n; cut++) {
                        char text[512] = "";
                        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
                        feed(cases[i].kind, cases[i].in, cut, false, text);
                        through_the_slab();
                        feed(cases[i].kind, cases[i].in + cut, n - cut, false, text);
                        through_the_slab();
                        feed(cases[i].kind, NULL, 0, true, text);
                        ck_assert_msg(strcmp(text, cases[i].out) == 0, "cut at %zu: %s\nbecame %s", cut,
                                        cases[i].in, text);
                }
        }
}
END_TEST

START_TEST(byte_by_byte_no_part_of_a_placeholder_goes_on_before_it_is_whole) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[512] = "";
                ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
                for (const char *p = cases[i].in; *p; p++) {
                        feed(cases[i].kind, p, 1, false, text);
                        ck_assert_msg(strncmp(text, cases[i].out, strlen(text)) == 0, "%s", text);
                        through_the_slab();
                }
                feed(cases[i].kind, NULL, 0, true, text);
                ck_assert_str_eq(text, cases[i].out);
        }
}
END_TEST

START_TEST(without_values_of_a_prompt_placeholders_are_text) {
        char text[512] = "";

        ck_assert_int_eq(redaction_noted(r, 2, NULL), 0);
        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        feed(0, cases[0].in, strlen(cases[0].in), true, text);
        ck_assert_str_eq(text, cases[0].in);
}
END_TEST

START_TEST(finds_of_the_prompt_are_counted_with_those_of_the_answer) {
        const msgpack_object *counts;
        uint8_t bytes[256];
        char text[512] = "";
        uint32_t n;

        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        feed(0, "bob@example.org from 10.0.0.1", 29, true, text);
        through_the_slab();
        n = redaction_counts(r, bytes, sizeof(bytes));
        ck_assert_int_eq(record_raw_parse(&decoder, bytes, n, &counts), 0);
        ck_assert_uint_eq(counts->via.map.size, 2);
        ck_assert_uint_eq(counts->via.map.ptr[0].val.via.u64, 3);
        ck_assert_uint_eq(counts->via.map.ptr[1].val.via.u64, 1);
}
END_TEST

START_TEST(an_answer_that_grows_too_much_is_none) {
        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        r->limit = 20;
        ck_assert_int_eq(redaction_feed(r, 0, 0, "<EMAIL_ADDRESS_1><EMAIL_ADDRESS_1> ", 35, false),
                        REDACTION_E_LARGE);
        ck_assert_int_eq(redaction_load(r, NULL, 0), 0);
        ck_assert_int_eq(redaction_feed_json(r, 0, 0, "\"<OWN_NAME_11>\"", 15, false), REDACTION_E_LARGE);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("restore");
        TCase *tc = tcase_create("restore");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, a_note_of_another_shape_is_refused);
        tcase_add_test(tc, a_note_with_too_many_values_or_too_long_a_name_is_refused);
        tcase_add_test(tc, placeholders_come_back_wherever_they_are_cut);
        tcase_add_test(tc, byte_by_byte_no_part_of_a_placeholder_goes_on_before_it_is_whole);
        tcase_add_test(tc, without_values_of_a_prompt_placeholders_are_text);
        tcase_add_test(tc, finds_of_the_prompt_are_counted_with_those_of_the_answer);
        tcase_add_test(tc, an_answer_that_grows_too_much_is_none);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
