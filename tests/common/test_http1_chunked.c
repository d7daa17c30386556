/* http1_chunked: what is refused, and that a body is the same however it comes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/http1_chunked.h"

#define BODY_MAX 100000u

static struct http1_refusal refusal;
static char body[BODY_MAX + 1];
static uint32_t body_len, taken_len;

/* In pieces of `step` bytes, each in a buffer that ends where the piece ends. */
static int decode_in(const char *bytes, uint32_t len, uint32_t step, uint64_t max) {
        struct http1_chunked chunked = {0};
        int r = HTTP1_E_MORE;

        body_len = taken_len = 0;
        for (uint32_t from = 0; from < len && r == HTTP1_E_MORE; from += step) {
                uint32_t n = len - from < step ? len - from : step, content, taken;
                char *piece = malloc(n);

                memcpy(piece, bytes + from, n);
                r = http1_chunked_decode(&chunked, piece, n, max, &content, &taken, &refusal);
                ck_assert_uint_le(content, taken);
                ck_assert_uint_le(taken, n);
                ck_assert(r != HTTP1_E_MORE || taken == n);
                ck_assert_uint_le(body_len + content, BODY_MAX);
                memcpy(body + body_len, piece, content);
                body_len += content;
                taken_len += taken;
                free(piece);
        }
        ck_assert_uint_eq(chunked.content, body_len);
        body[body_len] = '\0';
        return r;
}

/* All ways of cutting it say the same. */
static int decode_n(const char *bytes, uint32_t len, uint64_t max) {
        static char whole[BODY_MAX + 1];
        uint32_t n, taken;
        unsigned status;
        int r;

        refusal = (struct http1_refusal){0};
        r = decode_in(bytes, len, len, max);
        memcpy(whole, body, body_len);
        n = body_len;
        taken = taken_len;
        status = refusal.status;
        for (uint32_t step = 1; step < 8 && step < len; step++) {
                refusal = (struct http1_refusal){0};
                ck_assert_int_eq(decode_in(bytes, len, step, max), r);
                ck_assert_uint_eq(refusal.status, status);
                ck_assert_uint_eq(body_len, n);
                ck_assert_uint_eq(taken_len, taken);
                ck_assert_mem_eq(body, whole, n);
        }
        return r;
}

static int decode(const char *bytes) {
        return decode_n(bytes, (uint32_t)strlen(bytes), BODY_MAX);
}

#define REFUSES(expected, bytes)                                                                   \
        do {                                                                                       \
                ck_assert_msg(decode(bytes) == HTTP1_E_REFUSED, "taken: %s", bytes);               \
                ck_assert_msg(refusal.status == (expected), "%u for: %s", refusal.status, bytes);  \
                ck_assert_ptr_nonnull(refusal.why);                                                \
        } while (0)
#define LAST "0\r\n\r\n"

/* ---- refusals ---- */

START_TEST(a_size_that_is_not_plain_hexadecimal_is_refused) {
        REFUSES(400, "\r\n" LAST);
        REFUSES(400, ";a\r\n" LAST);
        REFUSES(400, "+5\r\nhello\r\n" LAST);
        REFUSES(400, "-5\r\nhello\r\n" LAST);
        REFUSES(400, "0x5\r\nhello\r\n" LAST);
        REFUSES(400, "5h\r\nhello\r\n" LAST);
        REFUSES(400, "g\r\nhello\r\n" LAST);
        REFUSES(400, "5_0\r\nhello\r\n" LAST);
        REFUSES(400, "5.\r\nhello\r\n" LAST);
}
END_TEST

START_TEST(space_beside_a_size_is_refused) {
        REFUSES(400, " 5\r\nhello\r\n" LAST);
        REFUSES(400, "\t5\r\nhello\r\n" LAST);
        REFUSES(400, "5 \r\nhello\r\n" LAST);
        REFUSES(400, "5 \nhello\r\n" LAST);
        REFUSES(400, "5\t\r\nhello\r\n" LAST);
        REFUSES(400, "5 ;a=b\r\nhello\r\n" LAST);
        REFUSES(400, "5\r\nhello\r\n\r\n" LAST);
        REFUSES(400, "5\r\nhello\r\n 0\r\n\r\n");
}
END_TEST

START_TEST(a_line_that_does_not_end_in_crlf_is_refused) {
        REFUSES(400, "5\nhello\r\n" LAST);
        REFUSES(400, "5\rhello\r\n" LAST);
        REFUSES(400, "5\r\rhello\r\n" LAST);
        REFUSES(400, "5\r\nhello\n" LAST);
        REFUSES(400, "5\r\nhello\r" LAST);
        REFUSES(400, "5;a\nhello\r\n" LAST);
        REFUSES(400, "5;a\rb\r\nhello\r\n" LAST);
        REFUSES(400, "0\n\r\n");
        REFUSES(400, "0\r\n\n");
        REFUSES(400, "0\r\nX: y\n\r\n");
        REFUSES(400, "0\r\nX: y\rZ: a\r\n\r\n");
}
END_TEST

START_TEST(data_that_goes_on_or_ends_before_its_size_is_refused) {
        REFUSES(400, "4\r\nhello\r\n" LAST);
        REFUSES(400, "6\r\nhello\r\n" LAST);
        REFUSES(400, "5\r\nhello" LAST);
}
END_TEST

START_TEST(a_size_with_too_many_digits_is_refused_and_a_huge_one_is_too_large) {
        REFUSES(400, "00000000000000005\r\nhello\r\n" LAST);
        REFUSES(400, "10000000000000005\r\nhello\r\n" LAST);
        REFUSES(413, "ffffffffffffffff\r\n");
        REFUSES(413, "FFFFFFFFFFFFFFFb\r\n");
        REFUSES(413, "100000000\r\n");
}
END_TEST

START_TEST(more_than_the_caller_allows_is_refused_before_it_comes) {
        ck_assert_int_eq(decode_n("5\r\nhello\r\n" LAST, 15, 5), 0);
        ck_assert_int_eq(decode_n("5\r\nhello\r\n" LAST, 15, 4), HTTP1_E_REFUSED);
        ck_assert_uint_eq(refusal.status, 413);
        ck_assert_uint_eq(taken_len, 3);
        ck_assert_int_eq(decode_n("3\r\nhel\r\n2\r\n", 11, 4), HTTP1_E_REFUSED);
        ck_assert_uint_eq(refusal.status, 413);
        ck_assert_str_eq(body, "hel");
        ck_assert_int_eq(decode_n(LAST, 5, 0), 0);
        ck_assert_int_eq(decode_n("1\r\n", 3, 0), HTTP1_E_REFUSED);
}
END_TEST

START_TEST(a_control_character_in_an_extension_or_a_trailer_is_refused) {
        REFUSES(400, "5;a=\x01\r\nhello\r\n" LAST);
        REFUSES(400, "5;a=\x7f\r\nhello\r\n" LAST);
        REFUSES(400, "0\r\nX: \x01\r\n\r\n");
        REFUSES(400, "0\r\nX\x01: a\r\n\r\n");
        ck_assert_int_eq(decode_n("5;\0\r\nhello\r\n" LAST, 17, BODY_MAX), HTTP1_E_REFUSED);
}
END_TEST

static char *long_text(const char *before, uint32_t n, const char *after) {
        char *text = malloc(strlen(before) + n + strlen(after) + 1);

        memcpy(text, before, strlen(before));
        memset(text + strlen(before), 'a', n);
        memcpy(text + strlen(before) + n, after, strlen(after) + 1);
        return text;
}

START_TEST(an_extension_that_is_too_long_is_refused) {
        char *text = long_text("5;", HTTP1_CHUNK_EXTENSION_MAX, "\r\nhello\r\n" LAST);

        ck_assert_int_eq(decode(text), 0);
        free(text);
        text = long_text("5;", HTTP1_CHUNK_EXTENSION_MAX + 1, "\r\nhello\r\n" LAST);
        REFUSES(400, text);
        free(text);
}
END_TEST

START_TEST(extensions_that_are_too_long_together_are_refused) {
        uint32_t n = HTTP1_CHUNK_EXTENSIONS_MAX / 200 + 1;
        char *all = malloc(n * 220 + 8), *one = long_text("1;", 200, "\r\nx\r\n");

        all[0] = '\0';
        for (uint32_t i = 0; i < n; i++)
                memcpy(all + i * strlen(one), one, strlen(one) + 1);
        REFUSES(400, all);
        /* Without one of them they fit. */
        memcpy(all + (n - 1) * strlen(one), LAST, sizeof(LAST));
        ck_assert_int_eq(decode(all), 0);
        ck_assert_uint_eq(body_len, n - 1);
        free(one);
        free(all);
}
END_TEST

START_TEST(trailers_that_are_too_long_are_refused) {
        char *text = long_text("0\r\nX: ", HTTP1_TRAILERS_MAX - 7, "\r\n\r\n");

        ck_assert_int_eq(decode(text), 0);
        free(text);
        text = long_text("0\r\nX: ", HTTP1_TRAILERS_MAX - 6, "\r\n\r\n");
        REFUSES(431, text);
        free(text);
        text = long_text("0\r\n", HTTP1_TRAILER_NAME_MAX + 1, ": a\r\n\r\n");
        REFUSES(431, text);
        free(text);
}
END_TEST

START_TEST(a_trailer_of_another_shape_is_refused) {
        REFUSES(400, "0\r\n: a\r\n\r\n");
        REFUSES(400, "0\r\nX : a\r\n\r\n");
        REFUSES(400, "0\r\n X: a\r\n\r\n");
        REFUSES(400, "0\r\nX\r\n\r\n");
        REFUSES(400, "0\r\nX: a\r\n b\r\n\r\n");
        REFUSES(400, "0\r\nGET / HTTP/1.1\r\n\r\n");
}
END_TEST

START_TEST(a_trailer_that_belongs_into_the_head_is_refused) {
        REFUSES(400, "0\r\nContent-Length: 5\r\n\r\n");
        REFUSES(400, "0\r\nTransfer-Encoding: chunked\r\n\r\n");
        REFUSES(400, "0\r\nA: b\r\nHOST: a\r\n\r\n");
        REFUSES(400, "0\r\nauthorization:\r\n\r\n");
        REFUSES(400, "0\r\nX-Api-Key: k\r\n\r\n");
        REFUSES(400, "0\r\nContent-Type: a/b\r\n\r\n");
        REFUSES(400, "0\r\nOrigin: null\r\n\r\n");
        ck_assert_int_eq(decode("0\r\nContent-Lengths: 5\r\nHos: a\r\n\r\n"), 0);
}
END_TEST

/* ---- reading ---- */

START_TEST(a_body_without_bytes_is_taken) {
        ck_assert_int_eq(decode(LAST), 0);
        ck_assert_uint_eq(body_len, 0);
        ck_assert_uint_eq(taken_len, 5);
        ck_assert_int_eq(decode("000\r\n\r\n"), 0);
}
END_TEST

START_TEST(chunks_are_put_together_and_what_follows_is_left) {
        ck_assert_int_eq(decode("5\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n" LAST "GET / HTTP/1.1\r\n"), 0);
        ck_assert_str_eq(body, "hello world");
        ck_assert_uint_eq(taken_len, 10 + 6 + 12 + 5);
        ck_assert_int_eq(decode("A\r\n0123456789\r\na;x=\"y; z\"\r\nabcdefghij\r\n" LAST), 0);
        ck_assert_str_eq(body, "0123456789abcdefghij");
}
END_TEST

START_TEST(data_may_be_anything) {
        ck_assert_int_eq(decode("7\r\n\r\n0\r\n\r\n\r\n" LAST), 0);
        ck_assert_str_eq(body, "\r\n0\r\n\r\n");
        ck_assert_int_eq(decode_n("3\r\n\0\xff\0\r\n" LAST, 13, BODY_MAX), 0);
        ck_assert_mem_eq(body, "\0\xff\0", 3);
}
END_TEST

START_TEST(trailers_are_read_and_forgotten) {
        ck_assert_int_eq(decode("2\r\nhi\r\n0;last\r\nDigest: a=b\r\nX-Checksum:\r\n\r\nmore"), 0);
        ck_assert_str_eq(body, "hi");
        ck_assert_uint_eq(taken_len, 7 + 8 + 13 + 13 + 2);
}
END_TEST

START_TEST(half_a_body_asks_for_more) {
        static const char whole[] = "5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";

        for (uint32_t n = 1; n < sizeof(whole) - 1; n++)
                ck_assert_int_eq(decode_n(whole, n, BODY_MAX), HTTP1_E_MORE);
        ck_assert_int_eq(decode(whole), 0);
}
END_TEST

START_TEST(a_large_body_in_chunks_of_all_sizes_is_the_same_behind_them) {
        char *wire = malloc(2 * BODY_MAX), *expected = malloc(BODY_MAX);
        uint32_t at = 0, len = 0;

        ck_assert(wire && expected);
        srand(7);
        for (uint32_t n = 1; len + n <= BODY_MAX; n = n * 3 % 4099 + 1) {
                at += (uint32_t)sprintf(wire + at, "%X\r\n", n);
                for (uint32_t i = 0; i < n; i++)
                        wire[at++] = expected[len++] = (char)rand();
                memcpy(wire + at, "\r\n", 2);
                at += 2;
        }
        memcpy(wire + at, LAST, sizeof(LAST) - 1);
        at += sizeof(LAST) - 1;
        ck_assert_int_eq(decode_in(wire, at, at, len), 0);
        ck_assert_uint_eq(body_len, len);
        ck_assert_mem_eq(body, expected, len);
        ck_assert_int_eq(decode_in(wire, at, 1009, len), 0);
        ck_assert_uint_eq(body_len, len);
        ck_assert_mem_eq(body, expected, len);
        free(expected);
        free(wire);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("http1_chunked");
        TCase *refusals = tcase_create("refusals"), *reads = tcase_create("reads");
        int failed;

        tcase_add_test(refusals, a_size_that_is_not_plain_hexadecimal_is_refused);
        tcase_add_test(refusals, space_beside_a_size_is_refused);
        tcase_add_test(refusals, a_line_that_does_not_end_in_crlf_is_refused);
        tcase_add_test(refusals, data_that_goes_on_or_ends_before_its_size_is_refused);
        tcase_add_test(refusals, a_size_with_too_many_digits_is_refused_and_a_huge_one_is_too_large);
        tcase_add_test(refusals, more_than_the_caller_allows_is_refused_before_it_comes);
        tcase_add_test(refusals, a_control_character_in_an_extension_or_a_trailer_is_refused);
        tcase_add_test(refusals, an_extension_that_is_too_long_is_refused);
        tcase_add_test(refusals, extensions_that_are_too_long_together_are_refused);
        tcase_add_test(refusals, trailers_that_are_too_long_are_refused);
        tcase_add_test(refusals, a_trailer_of_another_shape_is_refused);
        tcase_add_test(refusals, a_trailer_that_belongs_into_the_head_is_refused);
        suite_add_tcase(suite, refusals);
        tcase_add_test(reads, a_body_without_bytes_is_taken);
        tcase_add_test(reads, chunks_are_put_together_and_what_follows_is_left);
        tcase_add_test(reads, data_may_be_anything);
        tcase_add_test(reads, trailers_are_read_and_forgotten);
        tcase_add_test(reads, half_a_body_asks_for_more);
        tcase_add_test(reads, a_large_body_in_chunks_of_all_sizes_is_the_same_behind_them);
        suite_add_tcase(suite, reads);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
