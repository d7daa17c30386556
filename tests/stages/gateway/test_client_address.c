/* client_address: which address counts, and who cannot make us believe another one. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "stages/gateway/client_address.h"
#include "address_text.h"

static struct client_networks trusted;
static struct http1_request request;

static void set_up(void) {
        static char *list[] = {"10.0.0.0/8", "192.168.1.7", "2001:db8::/33"};

        ck_assert_int_eq(client_networks_init(&trusted, &(struct settings_strs){list, 3}), 0);
}

static void tear_down(void) {
        client_networks_close(&trusted);
}

static struct client_address address(const char *text) {
        struct client_address ret = {.known = false};

        ck_assert_msg(client_address_parse((struct mr_view){text, (uint32_t)strlen(text)}, &ret), "%s", text);
        ck_assert(ret.known);
        return ret;
}

static bool parses(const char *text) {
        struct client_address ret;

        return client_address_parse((struct mr_view){text, (uint32_t)strlen(text)}, &ret);
}

static bool in(const char *network, const char *text) {
        char *list[] = {(char *)(uintptr_t)network};
        struct client_networks networks;
        struct client_address a = address(text);
        bool have;

        ck_assert_int_eq(client_networks_init(&networks, &(struct settings_strs){list, 1}), 0);
        have = client_networks_have(&networks, &a);
        client_networks_close(&networks);
        return have;
}

static void head(const char *fields) {
        static char bytes[HTTP1_HEAD_MAX];
        struct http1_refusal refusal;
        struct http1_scan scan = {0};

        snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
        ck_assert_int_eq(http1_parse(&scan, bytes, (uint32_t)strlen(bytes), &request, &refusal), 0);
}

static const char *behind(const char *peer, const char *fields) {
        static char text[ADDRESS_TEXT];
        struct client_address from = address(peer), who;

        head(fields);
        who = client_address_behind(&trusted, &from, &request);
        return address_text(&who, text);
}

/* ---- refusals ---- */

START_TEST(what_is_no_address_is_refused) {
        ck_assert(!parses(""));
        ck_assert(!parses("unknown"));
        ck_assert(!parses("_hidden"));
        ck_assert(!parses("1.2.3"));
        ck_assert(!parses("1.2.3.4.5"));
        ck_assert(!parses("1.2.3.256"));
        ck_assert(!parses("01.2.3.4"));
        ck_assert(!parses("1.2.3.4:99999"));
        ck_assert(!parses("1.2.3.4:x"));
        ck_assert(!parses("[::1"));
        ck_assert(!parses("[::1]x"));
        ck_assert(!parses("::1]:80"));
        ck_assert(!parses("fe80::1%eth0"));
        ck_assert(!parses(" 1.2.3.4"));
        ck_assert(!parses("localhost:80"));
        ck_assert(!parses("1111:2222:3333:4444:5555:6666:7777:8888:9999"));
}
END_TEST

START_TEST(what_is_no_network_is_refused) {
        static const char *const wrong[] = {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "::/129", "a/8", "/8"};
        struct client_networks networks;

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                char *list[] = {(char *)(uintptr_t)wrong[i]};
                ck_assert_msg(client_networks_init(&networks, &(struct settings_strs){list, 1}) == -EINVAL,
                                "%s", wrong[i]);
        }
}
END_TEST

START_TEST(who_is_no_trusted_proxy_counts_whatever_it_says) {
        ck_assert_str_eq(behind("8.8.8.8", "X-Forwarded-For: 10.0.0.1\r\n"), "8.8.8.8");
        ck_assert_str_eq(behind("8.8.8.8", "Forwarded: for=1.2.3.4\r\n"), "8.8.8.8");
        ck_assert_str_eq(behind("192.168.1.8", "X-Forwarded-For: 1.2.3.4\r\n"), "192.168.1.8");
}
END_TEST

START_TEST(a_unix_socket_s_peer_is_no_proxy) {
        struct client_address peer = {.known = false}, who;

        head("X-Forwarded-For: 1.2.3.4\r\n");
        who = client_address_behind(&trusted, &peer, &request);
        ck_assert(!who.known);
}
END_TEST

START_TEST(what_a_client_invents_left_of_itself_is_passed_by) {
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 5.5.5.5\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 10.9.9.9, 5.5.5.5, 10.0.0.2\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 5.5.5.5\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: \"6.6.6.6, 5.5.5.5\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: for=\"6.6.6.6, for=5.5.5.5;proto=http\r\n"), "5.5.5.5");
}
END_TEST

START_TEST(what_is_no_address_ends_the_walk_at_the_last_proxy) {
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 5.5.5.5, unknown\r\n"), "10.0.0.1");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 5.5.5.5, x, 10.0.0.2\r\n"), "10.0.0.2");
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: for=5.5.5.5, for=_hidden\r\n"), "10.0.0.1");
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: for=5.5.5.5, proto=http\r\n"), "10.0.0.1");
}
END_TEST

START_TEST(more_proxies_than_are_looked_through_end_the_walk) {
        char fields[1024] = "X-Forwarded-For: 5.5.5.5";

        for (unsigned i = 0; i < CLIENT_HOPS_MAX + 1; i++)
                snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), ",10.1.0.%u", i);
        snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), "\r\n");
        ck_assert_str_eq(behind("10.0.0.1", fields), "10.1.0.1");
}
END_TEST

/* ---- what is believed ---- */

START_TEST(an_address_is_read_with_and_without_its_port) {
        struct client_address a = address("1.2.3.4"), b = address("1.2.3.4:80"), c = address("::ffff:1.2.3.4");
        struct client_address d = address("[2001:DB8::1]:443"), e = address("2001:db8::1");

        ck_assert(client_address_same(&a, &b) && client_address_same(&b, &c) && client_address_same(&d, &e));
        ck_assert(!client_address_same(&a, &d));
        ck_assert_uint_eq(a.port, 0);
        ck_assert_uint_eq(b.port, 80);
        ck_assert_uint_eq(d.port, 443);
}
END_TEST

START_TEST(a_socket_s_address_is_the_same_as_the_text) {
        struct sockaddr_storage peer = {.ss_family = AF_UNIX};
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(0x01020304)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(8), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        char text[ADDRESS_TEXT];
        struct client_address a = client_address_of(&peer);

        ck_assert(!a.known);
        ck_assert_str_eq(address_text(&a, text), "unknown");
        memcpy(&peer, &v4, sizeof(v4));
        a = client_address_of(&peer);
        ck_assert_str_eq(address_text(&a, text), "1.2.3.4");
        ck_assert_uint_eq(a.port, 7);
        memcpy(&peer, &v6, sizeof(v6));
        a = client_address_of(&peer);
        ck_assert_str_eq(address_text(&a, text), "::1");
        ck_assert_uint_eq(a.port, 8);
}
END_TEST

START_TEST(a_network_has_what_begins_with_its_bits) {
        ck_assert(in("10.0.0.0/8", "10.255.0.1") && !in("10.0.0.0/8", "11.0.0.1"));
        ck_assert(in("10.0.0.128/25", "10.0.0.129") && !in("10.0.0.128/25", "10.0.0.127"));
        ck_assert(in("10.0.0.1", "10.0.0.1") && !in("10.0.0.1", "10.0.0.2"));
        ck_assert(in("0.0.0.0/0", "1.2.3.4") && !in("0.0.0.0/0", "::1"));
        ck_assert(in("::/0", "::1") && !in("::/0", "1.2.3.4"));
        ck_assert(in("2001:db8::/33", "2001:db8:7fff::1") && !in("2001:db8::/33", "2001:db8:8000::1"));
        ck_assert(in("::1", "::1") && !in("::1/128", "::2"));
        ck_assert(in("10.0.0.0/8", "::ffff:10.1.1.1") && in("::ffff:10.0.0.0/104", "10.1.1.1"));
}
END_TEST

START_TEST(the_first_address_from_the_right_that_is_no_proxy_is_the_client) {
        ck_assert_str_eq(behind("10.0.0.1", ""), "10.0.0.1");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 5.5.5.5\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 5.5.5.5:1234,192.168.1.7 , ,10.2.0.1\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("2001:db8::9", "X-Forwarded-For: 2001:db9::1\r\n"), "2001:db9::1");
        ck_assert_str_eq(behind("::ffff:10.0.0.1", "X-Forwarded-For: [2001:db9::1]:5\r\n"), "2001:db9::1");
        /* The client is one of them, or all that is known of it is its proxy. */
        ck_assert_str_eq(behind("10.0.0.1", "X-Forwarded-For: 10.3.0.1, 10.2.0.1\r\n"), "10.3.0.1");
}
END_TEST

START_TEST(forwarded_counts_where_there_is_no_x_forwarded_for) {
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: for=5.5.5.5;proto=https;by=10.0.0.1\r\n"), "5.5.5.5");
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: proto=http; For=\"[2001:db9::17]:4711\", for=10.0.0.7\r\n"),
                        "2001:db9::17");
        ck_assert_str_eq(behind("10.0.0.1", "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 5.5.5.5\r\n"), "5.5.5.5");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("client_address");
        TCase *refusals = tcase_create("refusals"), *believed = tcase_create("believed");
        int failed;

        tcase_add_checked_fixture(refusals, set_up, tear_down);
        tcase_add_test(refusals, what_is_no_address_is_refused);
        tcase_add_test(refusals, what_is_no_network_is_refused);
        tcase_add_test(refusals, who_is_no_trusted_proxy_counts_whatever_it_says);
        tcase_add_test(refusals, a_unix_socket_s_peer_is_no_proxy);
        tcase_add_test(refusals, what_a_client_invents_left_of_itself_is_passed_by);
        tcase_add_test(refusals, what_is_no_address_ends_the_walk_at_the_last_proxy);
        tcase_add_test(refusals, more_proxies_than_are_looked_through_end_the_walk);
        suite_add_tcase(suite, refusals);
        tcase_add_checked_fixture(believed, set_up, tear_down);
        tcase_add_test(believed, an_address_is_read_with_and_without_its_port);
        tcase_add_test(believed, a_socket_s_address_is_the_same_as_the_text);
        tcase_add_test(believed, a_network_has_what_begins_with_its_bits);
        tcase_add_test(believed, the_first_address_from_the_right_that_is_no_proxy_is_the_client);
        tcase_add_test(believed, forwarded_counts_where_there_is_no_x_forwarded_for);
        suite_add_tcase(suite, believed);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
