/* proxy_protocol: what is no head of version 2 is refused; what is one says who is at the far end. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/proxy_protocol.h"
#include "address_text.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 "\x01\x02\x03\x04\x7f\0\0\x01\x1f\x90\0\x50"
#define TCP6                                                                                       \
        "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"                                               \
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1f\x90\0\x50"

static struct proxy_protocol head;
static const char *why;

/* At once, and byte by byte from a buffer that ends where the input ends. */
static int parse(const char *bytes, uint32_t len) {
        struct proxy_protocol slow;
        int r = PROXY_E_MORE, whole;
        uint32_t n;

        for (n = 0; n <= len && r == PROXY_E_MORE; n++) {
                char *copy = malloc(n ? n : 1);
                memcpy(copy, bytes, n);
                r = proxy_protocol_parse(copy, n, &slow, &why);
                free(copy);
        }
        why = NULL;
        whole = proxy_protocol_parse(bytes, len, &head, &why);
        ck_assert_int_eq(whole, r);
        ck_assert(whole != PROXY_E_REFUSED || why);
        if (whole == 0) {
                ck_assert_uint_eq(slow.head_bytes, head.head_bytes);
                ck_assert_uint_eq(n - 1, head.head_bytes); /* not a byte too late */
        }
        return whole;
}
#define PARSE(bytes) parse(bytes, sizeof(bytes) - 1)

static const char *client(void) {
        static char text[ADDRESS_TEXT];

        return address_text(&head.client, text);
}

START_TEST(version_1_is_refused_with_what_to_do) {
        ck_assert_int_eq(PARSE("PROXY TCP4 1.2.3.4 127.0.0.1 8080 80\r\n"), PROXY_E_REFUSED);
        ck_assert_ptr_nonnull(strstr(why, "send-proxy-v2"));
}
END_TEST

START_TEST(anything_else_is_refused_at_its_first_byte) {
        ck_assert_int_eq(PARSE("GET / HTTP/1.1\r\n"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE("G"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE("\r\n\r\n\r"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE("\x16\x03\x01"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE("\r\n\r\n\0\r\nQUIT\r"), PROXY_E_REFUSED);
}
END_TEST

START_TEST(another_version_or_command_is_refused) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x11\x11\0\x0c" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x31\x11\0\x0c" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x22\x11\0\x0c" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x2f\x11\0\x0c" TCP4), PROXY_E_REFUSED);
}
END_TEST

START_TEST(a_family_that_is_no_stream_is_refused) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x12\0\x0c" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x22\0\x24" TCP6), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x10\0\x0c" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x01\0\0"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x41\0\0"), PROXY_E_REFUSED);
}
END_TEST

START_TEST(a_head_too_short_for_its_addresses_is_refused) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x0b" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\0" TCP4), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x21\0\x23" TCP6), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x31\0\xd7"), PROXY_E_REFUSED);
}
END_TEST

START_TEST(a_head_that_is_too_long_is_refused_before_it_comes) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\x0f\xf1"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x20\0\xff\xff"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\x0f\xf0"), PROXY_E_MORE);
}
END_TEST

START_TEST(parts_that_do_not_fit_are_refused) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x0d" TCP4 "\x04"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x0f" TCP4 "\x04\0\x01"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x10" TCP4 "\x04\0\x02x"), PROXY_E_REFUSED);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x14" TCP4 "\x04\0\x01x\x04\xff\xff\0"), PROXY_E_REFUSED);
}
END_TEST

START_TEST(a_connection_over_ipv4_is_read) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x0c" TCP4), 0);
        ck_assert_uint_eq(head.head_bytes, 28);
        ck_assert(head.proxied && head.client.known);
        ck_assert_str_eq(client(), "1.2.3.4");
        ck_assert_uint_eq(head.client.port, 8080);
}
END_TEST

START_TEST(a_connection_over_ipv6_is_read) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x21\0\x24" TCP6 "GET"), 0);
        ck_assert_uint_eq(head.head_bytes, 52);
        ck_assert_str_eq(client(), "2001:db8::1");
        ck_assert_uint_eq(head.client.port, 8080);
}
END_TEST

START_TEST(parts_beside_the_addresses_are_passed_over) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\x11\0\x16" TCP4 "\x04\0\x04xyzw\x05\0\0GET"), 0);
        ck_assert_uint_eq(head.head_bytes, 38);
        ck_assert_str_eq(client(), "1.2.3.4");
}
END_TEST

START_TEST(a_connection_over_a_unix_socket_has_no_address) {
        char bytes[16 + 216];

        memcpy(bytes, SIGNATURE "\x21\x31\0\xd8", 16);
        memset(bytes + 16, 'a', 216);
        ck_assert_int_eq(parse(bytes, sizeof(bytes)), 0);
        ck_assert(head.proxied && !head.client.known);
}
END_TEST

START_TEST(a_proxy_that_asks_for_itself_says_nothing_of_a_client) {
        ck_assert_int_eq(PARSE(SIGNATURE "\x20\0\0\0"), 0);
        ck_assert(!head.proxied && !head.client.known);
        ck_assert_uint_eq(head.head_bytes, 16);
        ck_assert_int_eq(PARSE(SIGNATURE "\x20\x11\0\x0c" TCP4), 0);
        ck_assert(!head.proxied);
        ck_assert_int_eq(PARSE(SIGNATURE "\x20\xff\0\x03" "abc"), 0);
        ck_assert_int_eq(PARSE(SIGNATURE "\x21\0\0\x03" "abc"), 0);
        ck_assert(!head.proxied);
        ck_assert_uint_eq(head.head_bytes, 19);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("proxy_protocol");
        TCase *refusals = tcase_create("refusals"), *reads = tcase_create("reads");
        int failed;

        tcase_add_test(refusals, version_1_is_refused_with_what_to_do);
        tcase_add_test(refusals, anything_else_is_refused_at_its_first_byte);
        tcase_add_test(refusals, another_version_or_command_is_refused);
        tcase_add_test(refusals, a_family_that_is_no_stream_is_refused);
        tcase_add_test(refusals, a_head_too_short_for_its_addresses_is_refused);
        tcase_add_test(refusals, a_head_that_is_too_long_is_refused_before_it_comes);
        tcase_add_test(refusals, parts_that_do_not_fit_are_refused);
        suite_add_tcase(suite, refusals);
        tcase_add_test(reads, a_connection_over_ipv4_is_read);
        tcase_add_test(reads, a_connection_over_ipv6_is_read);
        tcase_add_test(reads, parts_beside_the_addresses_are_passed_over);
        tcase_add_test(reads, a_connection_over_a_unix_socket_has_no_address);
        tcase_add_test(reads, a_proxy_that_asks_for_itself_says_nothing_of_a_client);
        suite_add_tcase(suite, reads);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
