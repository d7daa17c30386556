#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/record.h"

#define CAP 8192

/* ---- counting allocations: the decoder must make none once it is warm ---- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

static unsigned long n_allocations;

#ifndef SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n) {
        n_allocations++;
        return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
        n_allocations++;
        return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
        n_allocations++;
        return __libc_realloc(p, n);
}
#endif

/* ---- samples ---- */

static struct record_decoder decoder, raw_decoder;

static void setup(void) {
        ck_assert_int_eq(record_decoder_init(&decoder), 0);
        ck_assert_int_eq(record_decoder_init(&raw_decoder), 0);
}

static void teardown(void) {
        record_decoder_close(&decoder);
        record_decoder_close(&raw_decoder);
}

/* A map with an array of all kinds of value in it: {"k": [1, -2, 1.5, "s", b"b", nil, true]} */
static uint8_t raw_bytes[64];

static const msgpack_object *sample_raw(void) {
        const msgpack_object *object = NULL;
        struct pack_buf w;

        pack_buf_init(&w, raw_bytes, sizeof(raw_bytes));
        msgpack_pack_map(&w.pk, 1);
        msgpack_pack_str_with_body(&w.pk, "k", 1);
        msgpack_pack_array(&w.pk, 7);
        msgpack_pack_uint64(&w.pk, 1);
        msgpack_pack_int64(&w.pk, -2);
        msgpack_pack_double(&w.pk, 1.5);
        msgpack_pack_str_with_body(&w.pk, "s", 1);
        msgpack_pack_bin_with_body(&w.pk, "b", 1);
        msgpack_pack_nil(&w.pk);
        msgpack_pack_true(&w.pk);
        ck_assert(!w.full);
        ck_assert_int_eq(record_raw_parse(&raw_decoder, raw_bytes, w.len, &object), 0);
        return object;
}

#define SAMPLE_UINT(name) (0x0123456789abcdefull + sizeof(#name))
#define SAMPLE_STR(name) ((struct mr_view){"text of " #name, sizeof("text of " #name) - 1})
#define SAMPLE_BIN(name) ((struct mr_view){"\0bytes of " #name, sizeof("\0bytes of " #name) - 1})
#define SAMPLE_RAW(name) sample_raw()

static void sample_field(struct record *record, enum record_field field) {
        record->has |= 1ull << field;
        switch (field) {
#define F(key, name, kind, by, sentence)                                                           \
        case FIELD_##name:                                                                         \
                record->name = SAMPLE_##kind(name);                                                \
                break;
#include "stages/common/record.def"
#undef F
        case FIELDS_N:
                ck_abort();
        }
}

static void same_UINT(uint64_t a, uint64_t b) {
        ck_assert_uint_eq(a, b);
}

static void same_STR(struct mr_view a, struct mr_view b) {
        ck_assert_uint_eq(a.n, b.n);
        if (a.n > 0)
                ck_assert_mem_eq(a.p, b.p, a.n);
}
#define same_BIN same_STR

static void same_RAW(const msgpack_object *a, const msgpack_object *b) {
        ck_assert(msgpack_object_equal(*a, *b));
}

static void same_record(const struct record *a, const struct record *b) {
        ck_assert_uint_eq(a->has, b->has);
#define F(key, name, kind, by, sentence)                                                           \
        if (a->has & HAS(name))                                                                    \
                same_##kind(a->name, b->name);
#include "stages/common/record.def"
#undef F
        ck_assert_uint_eq(a->n_unknown, b->n_unknown);
        for (uint32_t i = 0; i < a->n_unknown; i++) {
                ck_assert_uint_eq(a->unknown[i].key, b->unknown[i].key);
                same_RAW(a->unknown[i].value, b->unknown[i].value);
        }
}

static void sample_full(struct record *record) {
        *record = (struct record){0};
        for (int field = 0; field < FIELDS_N; field++)
                sample_field(record, (enum record_field)field);
        record->n_unknown = 2;
        record->unknown[0].key = 99;
        record->unknown[0].value = sample_raw();
        record->unknown[1].key = 1ull << 40;
        record->unknown[1].value = sample_raw();
}

static uint32_t encode(const struct record *record, uint8_t *to) {
        uint32_t len = 0;
        ck_assert_int_eq(record_encode(record, to, CAP, &len), 0);
        ck_assert_uint_le(len, record_size_bound(record));
        return len;
}

/* Decodes a copy that ends where the bytes end, so that a sanitizer sees one byte too many. */
static int decode_exactly(
                const uint8_t *bytes, uint32_t len, struct record *ret, uint8_t **ret_copy) {
        uint8_t *copy = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(copy);
        if (len > 0)
                memcpy(copy, bytes, len);
        *ret_copy = copy;
        return record_decode(&decoder, copy, len, ret);
}

static void refused(const char *bytes, uint32_t len) {
        struct record record;
        uint8_t *copy;
        ck_assert_int_eq(decode_exactly((const uint8_t *)bytes, len, &record, &copy), -EPROTO);
        free(copy);
}

/* ---- refusals ---- */

START_TEST(what_is_no_map_is_refused) {
        refused("", 0);
        refused("\xc0", 1);
        refused("\x90", 1);
        refused("\x01", 1);
        refused("\xc1", 1);
        refused("\xa1x", 2);
}
END_TEST

START_TEST(bytes_behind_the_map_are_refused) {
        refused("\x80\x80", 2);
        refused("\x80\x00", 2);
}
END_TEST

START_TEST(keys_that_are_no_numbers_are_refused) {
        refused("\x81\xa2id\x01", 5);
        refused("\x81\xff\x01", 3);
        refused("\x81\xc0\x01", 3);
}
END_TEST

START_TEST(a_count_beyond_the_bytes_is_refused) {
        refused("\xdf\xff\xff\xff\xff\x01\x01", 7);
        refused("\x81\x12\xdd\xff\xff\xff\xff", 7);
        refused("\x81\x02\xdb\xff\xff\xff\xffx", 8);
}
END_TEST

START_TEST(a_known_field_twice_is_refused) {
        refused("\x82\x01\x01\x01\x01", 5);
}
END_TEST

START_TEST(an_unknown_field_twice_is_refused) {
        refused("\x82\x63\x01\x63\x01", 5);
}
END_TEST

START_TEST(more_unknown_fields_than_are_kept_are_refused) {
        struct record record;
        uint8_t buf[256], *copy;
        struct pack_buf w;

        for (unsigned n = RECORD_UNKNOWN_MAX; n <= RECORD_UNKNOWN_MAX + 1; n++) {
                pack_buf_init(&w, buf, sizeof(buf));
                msgpack_pack_map(&w.pk, n);
                for (unsigned i = 0; i < n; i++) {
                        msgpack_pack_uint64(&w.pk, 1000 + i);
                        msgpack_pack_nil(&w.pk);
                }
                ck_assert_int_eq(decode_exactly(buf, w.len, &record, &copy),
                                n <= RECORD_UNKNOWN_MAX ? 0 : -EPROTO);
                free(copy);
        }
}
END_TEST

/* The value of a field with every type of msgpack that is not the field's own. */
START_TEST(a_known_field_of_another_type_is_refused) {
        static const char *const values[] = {"\x01", "\xa1x", "\xc4\x01x", "\xc0", "\xc3", "\xff",
                        "\xca\x00\x00\x00\x00", "\x90", "\x80", "\xd4\x01x"};
        static const uint32_t lens[] = {1, 2, 3, 1, 1, 1, 5, 1, 1, 3};
        static const struct {
                uint8_t key;
                enum record_kind kind;
        } rows[] = {
#define F(key, name, kind, by, sentence) {key, KIND_##kind},
#include "stages/common/record.def"
#undef F
        };
        for (size_t f = 0; f < FIELDS_N; f++)
                for (size_t v = 0; v < 10; v++) {
                        struct record record;
                        uint8_t bytes[8] = {0x81, rows[f].key}, *copy;
                        memcpy(bytes + 2, values[v], lens[v]);
                        bool own = rows[f].kind == KIND_RAW || v == (size_t)rows[f].kind;
                        ck_assert_int_eq(decode_exactly(bytes, 2 + lens[v], &record, &copy),
                                        own ? 0 : -EPROTO);
                        free(copy);
                }
}
END_TEST

START_TEST(a_value_deeper_than_the_limit_is_refused) {
        uint8_t bytes[40] = {0x81, 18};
        for (uint32_t arrays = 14; arrays <= 17; arrays++) {
                struct record record;
                uint8_t *copy;
                memset(bytes + 2, 0x91, arrays);
                bytes[2 + arrays] = 0xc0;
                ck_assert_int_eq(decode_exactly(bytes, 3 + arrays, &record, &copy),
                                1 + arrays <= 16 ? 0 : -EPROTO);
                free(copy);
        }
}
END_TEST

START_TEST(a_buffer_that_is_too_small_is_never_written_beyond) {
        struct record record;
        uint8_t whole[CAP];

        sample_full(&record);
        uint32_t len = encode(&record, whole);
        for (uint32_t cap = 0; cap < len; cap++) {
                uint32_t ret_len = 12345;
                uint8_t *to = malloc(cap > 0 ? cap : 1);
                ck_assert_int_eq(record_encode(&record, to, cap, &ret_len), -ENOBUFS);
                ck_assert_uint_eq(ret_len, 12345);
                free(to);
        }
}
END_TEST

START_TEST(raw_bytes_that_are_no_msgpack_are_refused) {
        const msgpack_object *object;
        ck_assert_int_eq(record_raw_parse(&raw_decoder, "\xc1", 1, &object), -EPROTO);
        ck_assert_int_eq(record_raw_parse(&raw_decoder, "\x92\x01", 2, &object), -EPROTO);
        ck_assert_int_eq(record_raw_parse(&raw_decoder, "\x01\x01", 2, &object), -EPROTO);
        ck_assert_int_eq(record_raw_parse(&raw_decoder, "", 0, &object), -EPROTO);
}
END_TEST

START_TEST(every_truncation_is_refused) {
        struct record record;
        uint8_t whole[CAP];

        sample_full(&record);
        uint32_t len = encode(&record, whole);
        for (uint32_t n = 0; n < len; n++)
                refused((const char *)whole, n);
}
END_TEST

START_TEST(every_flipped_bit_is_refused_or_decoded_and_encodes_again) {
        struct record record, again;
        uint8_t whole[CAP], back[CAP];
        uint32_t n_decoded = 0;

        sample_full(&record);
        uint32_t len = encode(&record, whole);
        for (uint32_t bit = 0; bit < len * 8; bit++) {
                uint8_t *copy;
                uint32_t back_len;
                whole[bit / 8] ^= (uint8_t)(1u << bit % 8);
                int r = decode_exactly(whole, len, &again, &copy);
                ck_assert(r == 0 || r == -EPROTO);
                if (r == 0) {
                        n_decoded++;
                        ck_assert_int_eq(record_encode(&again, back, sizeof(back), &back_len), 0);
                        ck_assert_uint_le(back_len, record_size_bound(&again));
                }
                free(copy);
                whole[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        ck_assert_uint_gt(n_decoded, 0);
}
END_TEST

/* ---- behaviour ---- */

START_TEST(each_field_alone_comes_back_as_it_was) {
        for (int field = 0; field < FIELDS_N; field++) {
                struct record record = {0}, back;
                uint8_t bytes[CAP], *copy;

                sample_field(&record, (enum record_field)field);
                uint32_t len = encode(&record, bytes);
                ck_assert_int_eq(decode_exactly(bytes, len, &back, &copy), 0);
                same_record(&record, &back);
                free(copy);
        }
}
END_TEST

START_TEST(all_fields_together_come_back_as_they_were) {
        struct record record, back;
        uint8_t bytes[CAP], *copy;

        sample_full(&record);
        uint32_t len = encode(&record, bytes);
        ck_assert_int_eq(decode_exactly(bytes, len, &back, &copy), 0);
        same_record(&record, &back);
        free(copy);
}
END_TEST

START_TEST(a_record_without_fields_is_an_empty_map) {
        struct record record = {0}, back;
        uint8_t bytes[16];

        uint32_t len = encode(&record, bytes);
        ck_assert_uint_eq(len, 1);
        ck_assert_uint_eq(bytes[0], 0x80);
        ck_assert_int_eq(record_decode(&decoder, bytes, len, &back), 0);
        ck_assert_uint_eq(back.has, 0);
}
END_TEST

START_TEST(fields_of_a_newer_version_are_passed_on) {
        struct record first, second, third;
        uint8_t bytes[CAP], again[CAP];
        const struct mr_view text = {"hello", 5};

        sample_full(&first);
        uint32_t len = encode(&first, bytes);
        ck_assert_int_eq(record_decode(&decoder, bytes, len, &second), 0);
        second.text = text;
        len = encode(&second, again);
        ck_assert_int_eq(record_decode(&raw_decoder, again, len, &third), 0);
        same_record(&second, &third);
        ck_assert_uint_eq(third.n_unknown, 2);
        ck_assert_uint_eq(third.unknown[1].key, 1ull << 40);
}
END_TEST

START_TEST(what_is_absent_is_zero) {
        struct record record;
        memset(&record, 0xff, sizeof(record));
        ck_assert_int_eq(record_decode(&decoder, "\x81\x01\x05", 3, &record), 0);
        ck_assert_uint_eq(record.has, HAS(gateway));
        ck_assert_uint_eq(record.gateway, 5);
        ck_assert_uint_eq(record.choice, 0);
        ck_assert_uint_eq(record.text.n, 0);
        ck_assert_ptr_null(record.documents);
        ck_assert_uint_eq(record.n_unknown, 0);
}
END_TEST

START_TEST(texts_are_views_into_the_callers_buffer) {
        struct record record;
        const char *bytes = "\x81\x32\xa5hello";
        ck_assert_int_eq(record_decode(&decoder, bytes, 8, &record), 0);
        ck_assert_ptr_eq(record.text.p, bytes + 3);
}
END_TEST

START_TEST(a_raw_value_can_be_put_into_a_record_that_was_decoded) {
        struct record record, back;
        const msgpack_object *sources;
        uint8_t bytes[CAP];
        uint32_t len;

        ck_assert_int_eq(record_decode(&decoder, "\x81\x32\xa5hello", 8, &record), 0);
        ck_assert_int_eq(record_raw_parse(&decoder, "\x92\x01\xa2ok", 5, &sources), 0);
        record.sources = sources;
        record.has |= HAS(sources);
        len = encode(&record, bytes);
        ck_assert_int_eq(record_decode(&raw_decoder, bytes, len, &back), 0);
        ck_assert_uint_eq(back.has, HAS(text) | HAS(sources));
        ck_assert_uint_eq(back.sources->via.array.size, 2);
}
END_TEST

START_TEST(decoding_and_encoding_allocate_nothing_once_warm) {
        struct record record, back;
        uint8_t bytes[CAP], again[CAP];
        uint32_t again_len;

        sample_full(&record);
        uint32_t len = encode(&record, bytes);
        ck_assert_int_eq(record_decode(&decoder, bytes, len, &back), 0);
        unsigned long before = n_allocations;
        for (int i = 0; i < 1000; i++) {
                int r = record_decode(&decoder, bytes, len, &back);
                r |= record_encode(&back, again, sizeof(again), &again_len);
                if (r != 0)
                        ck_abort_msg("round trip %d: %d", i, r);
        }
        ck_assert_uint_eq(n_allocations, before);
}
END_TEST

START_TEST(errors_have_the_names_and_numbers_of_the_contract) {
        ck_assert_str_eq(mr_error_name(MR_E_overloaded), "overloaded");
        ck_assert_uint_eq(mr_error_status(MR_E_overloaded), 503);
        ck_assert(mr_error_retryable(MR_E_overloaded));
        ck_assert(!mr_error_retryable(MR_E_deadline_exceeded));
        ck_assert_uint_eq(mr_error_status(MR_E_cancelled), 499);
        ck_assert_str_eq(mr_error_name((enum mr_error)MR_ERRORS_N), "internal");
        ck_assert_str_eq(mr_error_name((enum mr_error) - 1), "internal");
        ck_assert_str_eq(record_type_name(RECORD_DELTA), "delta");
        ck_assert_str_eq(record_type_name(0), "unknown");
        ck_assert_str_eq(record_type_name(UINT16_MAX), "unknown");
        ck_assert_str_eq(record_field_name(FIELD_documents), "documents");
        ck_assert_str_eq(record_field_sentence(FIELD_rag_us), "time in rag");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("record");
        TCase *refusals = tcase_create("refusals");
        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, what_is_no_map_is_refused);
        tcase_add_test(refusals, bytes_behind_the_map_are_refused);
        tcase_add_test(refusals, keys_that_are_no_numbers_are_refused);
        tcase_add_test(refusals, a_count_beyond_the_bytes_is_refused);
        tcase_add_test(refusals, a_known_field_twice_is_refused);
        tcase_add_test(refusals, an_unknown_field_twice_is_refused);
        tcase_add_test(refusals, more_unknown_fields_than_are_kept_are_refused);
        tcase_add_test(refusals, a_known_field_of_another_type_is_refused);
        tcase_add_test(refusals, a_value_deeper_than_the_limit_is_refused);
        tcase_add_test(refusals, a_buffer_that_is_too_small_is_never_written_beyond);
        tcase_add_test(refusals, raw_bytes_that_are_no_msgpack_are_refused);
        tcase_add_test(refusals, every_truncation_is_refused);
        tcase_add_test(refusals, every_flipped_bit_is_refused_or_decoded_and_encodes_again);
        suite_add_tcase(suite, refusals);

        TCase *behaviour = tcase_create("behaviour");
        tcase_add_checked_fixture(behaviour, setup, teardown);
        tcase_add_test(behaviour, each_field_alone_comes_back_as_it_was);
        tcase_add_test(behaviour, all_fields_together_come_back_as_they_were);
        tcase_add_test(behaviour, a_record_without_fields_is_an_empty_map);
        tcase_add_test(behaviour, fields_of_a_newer_version_are_passed_on);
        tcase_add_test(behaviour, what_is_absent_is_zero);
        tcase_add_test(behaviour, texts_are_views_into_the_callers_buffer);
        tcase_add_test(behaviour, a_raw_value_can_be_put_into_a_record_that_was_decoded);
        tcase_add_test(behaviour, decoding_and_encoding_allocate_nothing_once_warm);
        tcase_add_test(behaviour, errors_have_the_names_and_numbers_of_the_contract);
        suite_add_tcase(suite, behaviour);

        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
