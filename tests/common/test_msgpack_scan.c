#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/record.h"

static enum msgpack_scan scan(const char *bytes, uint64_t len, uint32_t depth, uint64_t max_len,
                uint64_t *ret_at) {
        struct msgpack_scanner s;
        uint8_t *copy = malloc(len > 0 ? len : 1);

        if (len > 0)
                memcpy(copy, bytes, len);
        msgpack_scanner_init(&s);
        enum msgpack_scan r = msgpack_scan(&s, copy, len, depth, max_len);
        *ret_at = s.at;
        free(copy);
        return r;
}

#define SCAN(literal, depth, max_len, ret_at)                                                      \
        scan(literal, sizeof(literal) - 1, depth, max_len, ret_at)

START_TEST(the_byte_that_means_nothing_is_broken) {
        uint64_t at;
        ck_assert_int_eq(SCAN("\xc1", 32, 100, &at), MSGPACK_SCAN_BROKEN);
        ck_assert_int_eq(SCAN("\x92\x01\xc1", 32, 100, &at), MSGPACK_SCAN_BROKEN);
}
END_TEST

START_TEST(a_claimed_length_over_the_limit_is_refused_before_it_is_waited_for) {
        uint64_t at;
        ck_assert_int_eq(SCAN("\xdb\xff\xff\xff\xff", 32, 1000, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\xdd\x00\x00\x04\x00", 32, 1000, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\xdf\xff\xff\xff\xff", 32, UINT32_MAX, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\xde\x00\x06", 32, 14, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\xde\x00\x06", 32, 15, &at), MSGPACK_SCAN_MORE);
        ck_assert_int_eq(SCAN("\xa5hello", 32, 5, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\x92\x01", 32, 2, &at), MSGPACK_SCAN_LARGE);
        ck_assert_int_eq(SCAN("\xcf\x00", 32, 2, &at), MSGPACK_SCAN_LARGE);
}
END_TEST

START_TEST(depth_is_counted_in_containers) {
        char bytes[40];
        uint64_t at;

        ck_assert_int_eq(SCAN("\x01", 0, 100, &at), MSGPACK_SCAN_DONE);
        ck_assert_int_eq(SCAN("\x90", 0, 100, &at), MSGPACK_SCAN_DEEP);
        memset(bytes, 0x91, sizeof(bytes));
        for (uint32_t n = 1; n <= 33; n++) {
                bytes[n] = (char)0xc0;
                ck_assert_int_eq(scan(bytes, n + 1, MSGPACK_SCAN_DEPTH_MAX, 100, &at),
                                n <= 32 ? MSGPACK_SCAN_DONE : MSGPACK_SCAN_DEEP);
                bytes[n] = (char)0x91;
        }
}
END_TEST

/* One of everything that msgpack has, with the length of each. */
static const struct {
        const char *bytes;
        uint32_t len;
} items[] = {
#define ITEM(literal)                                                                              \
        { literal, sizeof(literal) - 1 }
                ITEM("\x00"),
                ITEM("\x7f"),
                ITEM("\xff"),
                ITEM("\xe0"),
                ITEM("\xc0"),
                ITEM("\xc2"),
                ITEM("\xc3"),
                ITEM("\xa0"),
                ITEM("\xa3"
                     "abc"),
                ITEM("\xd9\x02"
                     "ab"),
                ITEM("\xda\x00\x02"
                     "ab"),
                ITEM("\xdb\x00\x00\x00\x02"
                     "ab"),
                ITEM("\xc4\x02"
                     "ab"),
                ITEM("\xc5\x00\x02"
                     "ab"),
                ITEM("\xc6\x00\x00\x00\x02"
                     "ab"),
                ITEM("\xc7\x02\x05"
                     "ab"),
                ITEM("\xc8\x00\x02\x05"
                     "ab"),
                ITEM("\xc9\x00\x00\x00\x02\x05"
                     "ab"),
                ITEM("\xd4\x05"
                     "a"),
                ITEM("\xd5\x05"
                     "ab"),
                ITEM("\xd6\x05"
                     "abcd"),
                ITEM("\xd7\x05"
                     "abcdefgh"),
                ITEM("\xd8\x05"
                     "abcdefghijklmnop"),
                ITEM("\xca"
                     "abcd"),
                ITEM("\xcb"
                     "abcdefgh"),
                ITEM("\xcc"
                     "a"),
                ITEM("\xcd"
                     "ab"),
                ITEM("\xce"
                     "abcd"),
                ITEM("\xcf"
                     "abcdefgh"),
                ITEM("\xd0"
                     "a"),
                ITEM("\xd1"
                     "ab"),
                ITEM("\xd2"
                     "abcd"),
                ITEM("\xd3"
                     "abcdefgh"),
                ITEM("\x90"),
                ITEM("\x92\x01\x02"),
                ITEM("\xdc\x00\x02\x01\x02"),
                ITEM("\xdd\x00\x00\x00\x02\x01\x02"),
                ITEM("\x80"),
                ITEM("\x81\xa1k\x01"),
                ITEM("\xde\x00\x01\xa1k\x01"),
                ITEM("\xdf\x00\x00\x00\x01\xa1k\x01"),
};
#define ITEMS_N (sizeof(items) / sizeof(items[0]))

START_TEST(every_kind_of_item_ends_where_the_library_says) {
        for (size_t i = 0; i < ITEMS_N; i++) {
                char padded[64];
                uint64_t at;
                size_t off = 0;
                msgpack_unpacked result;

                memcpy(padded, items[i].bytes, items[i].len);
                memset(padded + items[i].len, 0x55, sizeof(padded) - items[i].len);
                ck_assert_int_eq(scan(padded, sizeof(padded), 32, 64, &at), MSGPACK_SCAN_DONE);
                ck_assert_uint_eq(at, items[i].len);
                msgpack_unpacked_init(&result);
                ck_assert_int_eq(msgpack_unpack_next(&result, padded, sizeof(padded), &off),
                                MSGPACK_UNPACK_SUCCESS);
                ck_assert_uint_eq(off, items[i].len);
                msgpack_unpacked_destroy(&result);
        }
}
END_TEST

static uint32_t all_items(char *to) {
        uint32_t len = 3;

        memcpy(to, "\xdc\x00", 2);
        to[2] = (char)ITEMS_N;
        for (size_t i = 0; i < ITEMS_N; i++) {
                memcpy(to + len, items[i].bytes, items[i].len);
                len += items[i].len;
        }
        return len;
}

START_TEST(a_scan_goes_on_where_it_stopped_at_every_split) {
        char bytes[512];
        uint32_t len = all_items(bytes);

        for (uint32_t first = 0; first <= len; first++)
                for (uint32_t second = first; second <= len; second++) {
                        struct msgpack_scanner s;
                        msgpack_scanner_init(&s);
                        const uint32_t parts[] = {first, second, len};
                        for (int i = 0; i < 3; i++)
                                ck_assert_int_eq(msgpack_scan(&s, (const uint8_t *)bytes, parts[i],
                                                                 32, sizeof(bytes)),
                                                parts[i] == len ? MSGPACK_SCAN_DONE
                                                                : MSGPACK_SCAN_MORE);
                        ck_assert_uint_eq(s.at, len);
                }
}
END_TEST

START_TEST(byte_by_byte_is_the_same_as_at_once) {
        char bytes[512];
        uint32_t len = all_items(bytes);
        struct msgpack_scanner s;

        msgpack_scanner_init(&s);
        for (uint32_t n = 0; n < len; n++) {
                uint8_t *copy = malloc(n > 0 ? n : 1);
                memcpy(copy, bytes, n);
                ck_assert_int_eq(msgpack_scan(&s, copy, n, 32, len), MSGPACK_SCAN_MORE);
                free(copy);
        }
        ck_assert_int_eq(msgpack_scan(&s, (const uint8_t *)bytes, len, 32, len), MSGPACK_SCAN_DONE);
}
END_TEST

START_TEST(the_limit_itself_is_allowed) {
        uint64_t at;
        ck_assert_int_eq(SCAN("\xa5hello", 32, 6, &at), MSGPACK_SCAN_DONE);
        ck_assert_int_eq(SCAN("\xa5hell", 32, 6, &at), MSGPACK_SCAN_MORE);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("msgpack_scan");
        TCase *refusals = tcase_create("refusals");
        tcase_add_test(refusals, the_byte_that_means_nothing_is_broken);
        tcase_add_test(refusals,
                        a_claimed_length_over_the_limit_is_refused_before_it_is_waited_for);
        tcase_add_test(refusals, depth_is_counted_in_containers);
        suite_add_tcase(suite, refusals);

        TCase *behaviour = tcase_create("behaviour");
        tcase_add_test(behaviour, every_kind_of_item_ends_where_the_library_says);
        tcase_add_test(behaviour, a_scan_goes_on_where_it_stopped_at_every_split);
        tcase_add_test(behaviour, byte_by_byte_is_the_same_as_at_once);
        tcase_add_test(behaviour, the_limit_itself_is_allowed);
        suite_add_tcase(suite, behaviour);

        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
