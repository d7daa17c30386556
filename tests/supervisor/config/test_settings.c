/* The table of settings, and its packed form. */
#include <check.h>
#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/settings.h"
#include "stages/common/settings_value.h"

static char packed[SETTINGS_PACKED_MAX];

static struct settings *new_default(void) {
        struct settings *s = NULL;

        ck_assert_int_eq(settings_default(&s), 0);
        return s;
}

static int unpack(const msgpack_sbuffer *from) {
        struct settings *s = NULL;
        int r = settings_unpack(from->data, from->size, &s);

        ck_assert(r == 0 || s == NULL);
        settings_free(s);
        return r;
}

static void pack_text(msgpack_packer *pk, const char *text) {
        msgpack_pack_str_with_body(pk, text, strlen(text));
}

/* ---- refusals --------------------------------------------------------------------------- */

START_TEST(unpack_refuses_what_is_no_map) {
        static const char *const broken[] = {"", "\xc0", "\x01", "\x90", "\xc1", "\xa3xyz",
                                             "\x81\x01\x01", "\x80\x80"};
        struct settings *s = NULL;

        for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
                ck_assert_int_eq(settings_unpack(broken[i], strlen(broken[i]), &s), -EPROTO);
        ck_assert_ptr_null(s);
}
END_TEST

START_TEST(unpack_refuses_an_array_that_claims_four_billion_items) {
        static const char bomb[] = "\x81\xabhttp.listen\xdd\xff\xff\xff\xff";
        struct settings *s = NULL;

        ck_assert_int_eq(settings_unpack(bomb, sizeof(bomb) - 1, &s), -EPROTO);
}
END_TEST

START_TEST(unpack_refuses_deep_nesting) {
        char deep[200];
        struct settings *s = NULL;

        memset(deep, 0x91, sizeof(deep));
        ck_assert_int_eq(settings_unpack(deep, sizeof(deep), &s), -EPROTO);
}
END_TEST

START_TEST(unpack_refuses_every_truncation) {
        struct settings *s = new_default(), *other = NULL;
        size_t len = 0;

        ck_assert_int_eq(settings_pack(s, packed, sizeof(packed), &len), 0);
        for (size_t cut = 0; cut < len; cut++)
                ck_assert_int_eq(settings_unpack(packed, cut, &other), -EPROTO);
        ck_assert_int_eq(settings_unpack(packed, len + 1, &other), -EPROTO);
        settings_free(s);
}
END_TEST

START_TEST(unpack_refuses_more_than_the_limit) {
        char *large = calloc(1, SETTINGS_PACKED_MAX + 1);
        struct settings *s = NULL;

        ck_assert_ptr_nonnull(large);
        ck_assert_int_eq(settings_unpack(large, SETTINGS_PACKED_MAX + 1, &s), -EPROTO);
        free(large);
}
END_TEST

/* A map of one row whose value is of a type that no row has. */
static int unpack_wrong_type(const struct settings_row *row) {
        msgpack_sbuffer buf;
        msgpack_packer pk;
        int r;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 1);
        pack_text(&pk, row->path);
        msgpack_pack_int(&pk, -1);
        r = unpack(&buf);
        msgpack_sbuffer_destroy(&buf);
        return r;
}

START_TEST(unpack_refuses_a_wrong_type_in_every_row) {
        for (uint32_t i = 0; i < settings_shape.n_rows; i++)
                if (settings_shape.rows[i].type != SETTINGS_SECTION)
                        ck_assert_msg(unpack_wrong_type(&settings_shape.rows[i]) == -EPROTO, "%s",
                                      settings_shape.rows[i].path);
}
END_TEST

static int unpack_number(const struct settings_row *row, uint64_t number) {
        msgpack_sbuffer buf;
        msgpack_packer pk;
        int r;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 1);
        pack_text(&pk, row->path);
        msgpack_pack_uint64(&pk, number);
        r = unpack(&buf);
        msgpack_sbuffer_destroy(&buf);
        return r;
}

START_TEST(unpack_refuses_numbers_beyond_their_bounds) {
        for (uint32_t i = 0; i < settings_shape.n_rows; i++) {
                const struct settings_row *row = &settings_shape.rows[i];

                if (row->type != SETTINGS_U64 && row->type != SETTINGS_AUTO_U64)
                        continue;
                ck_assert_int_eq(unpack_number(row, row->min), 0);
                ck_assert_int_eq(unpack_number(row, row->max), 0);
                ck_assert_int_eq(unpack_number(row, row->max + 1), -EPROTO);
                if (row->min > 0 && row->type == SETTINGS_U64)
                        ck_assert_int_eq(unpack_number(row, row->min - 1), -EPROTO);
        }
}
END_TEST

static int unpack_text(const char *path, const char *text, size_t len) {
        msgpack_sbuffer buf;
        msgpack_packer pk;
        int r;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 1);
        pack_text(&pk, path);
        if (text)
                msgpack_pack_str_with_body(&pk, text, len);
        else
                msgpack_pack_nil(&pk);
        r = unpack(&buf);
        msgpack_sbuffer_destroy(&buf);
        return r;
}

START_TEST(unpack_refuses_texts_that_no_file_can_give) {
        char *large = malloc(SETTINGS_TEXT_MAX + 1);

        ck_assert_ptr_nonnull(large);
        memset(large, 'x', SETTINGS_TEXT_MAX + 1);
        ck_assert_int_eq(unpack_text("socket", large, SETTINGS_TEXT_MAX), 0);
        ck_assert_int_eq(unpack_text("socket", large, SETTINGS_TEXT_MAX + 1), -EPROTO);
        ck_assert_int_eq(unpack_text("socket", "a\0b", 3), -EPROTO);
        ck_assert_int_eq(unpack_text("socket", NULL, 0), 0);
        ck_assert_int_eq(unpack_text("instance", NULL, 0), -EPROTO);
        ck_assert_int_eq(unpack_text("pin", "lanes", 5), -EPROTO);
        ck_assert_int_eq(unpack_text("pin", "spread", 6), 0);
        free(large);
}
END_TEST

START_TEST(unpack_refuses_a_worker_without_a_name) {
        msgpack_sbuffer buf;
        msgpack_packer pk;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 1);
        pack_text(&pk, "inference.workers");
        msgpack_pack_array(&pk, 1);
        msgpack_pack_map(&pk, 1);
        pack_text(&pk, "kind");
        pack_text(&pk, "echo");
        ck_assert_int_eq(unpack(&buf), -EPROTO);
        msgpack_sbuffer_destroy(&buf);
}
END_TEST

START_TEST(pack_refuses_a_buffer_that_is_too_small) {
        struct settings *s = new_default();
        size_t len = 0, other = 77;

        ck_assert_int_eq(settings_pack(s, packed, sizeof(packed), &len), 0);
        for (size_t cap = 0; cap < len; cap += 7)
                ck_assert_int_eq(settings_pack(s, packed, cap, &other), -ENOBUFS);
        ck_assert_uint_eq(other, 77);
        ck_assert_int_eq(settings_pack(s, packed, len, &other), 0);
        ck_assert_uint_eq(other, len);
        settings_free(s);
}
END_TEST

/* ---- behaviour -------------------------------------------------------------------------- */

static void check_bounds(const struct settings_shape *shape) {
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const struct settings_row *row = &shape->rows[i];

                ck_assert_msg(*row->sentence && row->sentence[strlen(row->sentence) - 1] == '.',
                              "%s has no sentence", row->path);
                ck_assert_ptr_eq(settings_row_find(shape, row->path), row);
                ck_assert_msg(row->type == SETTINGS_SECTION || row->at != 0, "nobody reads %s",
                              row->path);
                if (row->type == SETTINGS_U64)
                        ck_assert_msg(row->def >= row->min && row->def <= row->max, "%s",
                                      row->path);
                if (row->type == SETTINGS_F64)
                        ck_assert_msg(row->def_f64 >= row->min_f64 && row->def_f64 <= row->max_f64,
                                      "%s", row->path);
                if (row->type == SETTINGS_ENUM)
                        ck_assert_ptr_nonnull(row->choices[row->def]);
        }
}

START_TEST(every_default_lies_within_its_bounds) {
        check_bounds(&settings_shape);
        check_bounds(&settings_worker_shape);
        check_bounds(&settings_model_shape);
        check_bounds(&settings_endpoint_shape);
}
END_TEST

START_TEST(members_hold_the_defaults_of_their_rows) {
        struct settings *s = new_default();

        ck_assert_str_eq(s->instance, "main");
        ck_assert_ptr_null(s->socket);
        ck_assert_uint_eq(s->lanes, SETTINGS_AUTO);
        ck_assert_uint_eq(s->admission.max_in_flight, 256);
        ck_assert_int_eq(s->rag.on_error, SETTINGS_ON_ERROR_SKIP);
        ck_assert_int_eq(s->inference.dedup, SETTINGS_DEDUP_DETERMINISTIC);
        ck_assert(s->inference.retry.budget_ratio > 0.09 && s->inference.retry.budget_ratio < 0.11);
        ck_assert_str_eq(s->assemble.default_template, "builtin");
        ck_assert_uint_eq(s->http.listen.n, 1);
        ck_assert_str_eq(s->http.listen.v[0], "127.0.0.1:8080");
        ck_assert_ptr_null(s->rag.embeddings);
        ck_assert_uint_eq(s->inference.workers.n, 1);
        ck_assert_int_eq(s->inference.workers.v[0].kind, SETTINGS_WORKER_EXTRACT);
        ck_assert_uint_eq(s->inference.workers.v[0].timeouts.idle_ms, 15000);
        ck_assert_str_eq(s->inference.models.v[0].name, "*");
        ck_assert_ptr_eq(settings_worker_find(s, s->inference.models.v[0].workers.v[0]),
                         &s->inference.workers.v[0]);
        ck_assert_ptr_null(settings_worker_find(s, "nobody"));
        settings_free(s);
        ck_assert_ptr_null(settings_free(NULL));
}
END_TEST

static void check_equal(const struct settings *a, const struct settings *b) {
        for (uint32_t i = 0; i < settings_shape.n_rows; i++)
                ck_assert_msg(settings_row_equal(&settings_shape.rows[i], a, b), "%s",
                              settings_shape.rows[i].path);
}

START_TEST(what_was_packed_comes_back) {
        struct settings *s = new_default(), *back = NULL;
        size_t len = 0;

        s->rag.embeddings = calloc(1, sizeof(*s->rag.embeddings));
        ck_assert_int_eq(settings_shape_default(&settings_endpoint_shape, s->rag.embeddings), 0);
        ck_assert_int_eq(settings_text_set(&s->rag.embeddings->url, "http://e/v1", 64), 0);
        s->pin = SETTINGS_PIN_NONE;
        s->lanes = 3;
        s->telemetry.tap_content = true;
        s->inference.workers.v[0].gap_ms = 9;
        ck_assert_int_eq(settings_pack(s, packed, sizeof(packed), &len), 0);
        ck_assert_int_eq(settings_unpack(packed, len, &back), 0);
        check_equal(s, back);
        back->inference.workers.v[0].gap_ms = 8;
        ck_assert(!settings_row_equal(settings_row_find(&settings_shape, "inference.workers"), s,
                                      back));
        settings_free(s);
        settings_free(back);
}
END_TEST

START_TEST(another_version_is_understood) {
        struct settings *s = new_default(), *back = NULL;
        msgpack_sbuffer buf;
        msgpack_packer pk;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 2);
        pack_text(&pk, "a.row.of.tomorrow");
        msgpack_pack_array(&pk, 1);
        msgpack_pack_nil(&pk);
        pack_text(&pk, "rag.top_k");
        msgpack_pack_uint64(&pk, 7);
        ck_assert_int_eq(settings_unpack(buf.data, buf.size, &back), 0);
        ck_assert_uint_eq(back->rag.top_k, 7);
        s->rag.top_k = 7;
        check_equal(s, back);
        msgpack_sbuffer_destroy(&buf);
        settings_free(s);
        settings_free(back);
}
END_TEST

START_TEST(a_repeated_key_leaves_the_last_value) {
        struct settings *back = NULL;
        msgpack_sbuffer buf;
        msgpack_packer pk;

        msgpack_sbuffer_init(&buf);
        msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 2);
        for (int i = 0; i < 2; i++) {
                pack_text(&pk, "http.listen");
                msgpack_pack_array(&pk, 1);
                pack_text(&pk, i ? "unix:/b" : "unix:/a");
        }
        ck_assert_int_eq(settings_unpack(buf.data, buf.size, &back), 0);
        ck_assert_uint_eq(back->http.listen.n, 1);
        ck_assert_str_eq(back->http.listen.v[0], "unix:/b");
        msgpack_sbuffer_destroy(&buf);
        settings_free(back);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("settings");
        TCase *refusals = tcase_create("refusals");
        TCase *behaviour = tcase_create("behaviour");
        SRunner *runner = srunner_create(suite);
        int failed;

        tcase_add_test(refusals, unpack_refuses_what_is_no_map);
        tcase_add_test(refusals, unpack_refuses_an_array_that_claims_four_billion_items);
        tcase_add_test(refusals, unpack_refuses_deep_nesting);
        tcase_add_test(refusals, unpack_refuses_every_truncation);
        tcase_add_test(refusals, unpack_refuses_more_than_the_limit);
        tcase_add_test(refusals, unpack_refuses_a_wrong_type_in_every_row);
        tcase_add_test(refusals, unpack_refuses_numbers_beyond_their_bounds);
        tcase_add_test(refusals, unpack_refuses_texts_that_no_file_can_give);
        tcase_add_test(refusals, unpack_refuses_a_worker_without_a_name);
        tcase_add_test(refusals, pack_refuses_a_buffer_that_is_too_small);
        tcase_add_test(behaviour, every_default_lies_within_its_bounds);
        tcase_add_test(behaviour, members_hold_the_defaults_of_their_rows);
        tcase_add_test(behaviour, what_was_packed_comes_back);
        tcase_add_test(behaviour, another_version_is_understood);
        tcase_add_test(behaviour, a_repeated_key_leaves_the_last_value);
        tcase_set_timeout(refusals, 60);
        suite_add_tcase(suite, refusals);
        suite_add_tcase(suite, behaviour);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
