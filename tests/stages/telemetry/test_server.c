/* server: connections over a real listener, the client and the loop in one thread. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/telemetry/server.h"

#define PATIENCE_NS (20 * NS_PER_S)
#define LONG_ENOUGH_NS (300 * NS_PER_S) /* a head timeout that no test waits for */
#define SOCKET_BYTES_MAX (64u << 20)    /* what the two sockets of a connection can hold */
#define LARGE_BYTES (12u << 20)         /* more than the buffers of a connection hold */

static struct loop *loop;
static struct server server;
static int listener;
static struct sockaddr_in address;
static uint32_t n_asked;

/* "/large" is answered with LARGE_BYTES, everything else with its path. */
static bool answer(void *ctx, const struct http1_request *request, struct text *out) {
        static char block[1 << 16];

        ck_assert_ptr_eq(ctx, &server);
        n_asked++;
        if (http1_is(request->path, "/large")) {
                memset(block, 'x', sizeof(block));
                text_print(out, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", LARGE_BYTES);
                for (uint32_t i = 0; i < LARGE_BYTES / sizeof(block); i++)
                        text_add(out, block, sizeof(block));
        } else {
                text_print(out, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n%.*s",
                                request->path.n, (int)request->path.n, request->path.p);
        }
        return request->keep_alive;
}

static void start(uint64_t head_timeout_ns, int flags) {
        socklen_t len = sizeof(address);

        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
        address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
        ck_assert_int_eq(listen(listener, 512), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
        ck_assert_int_eq(loop_new(&loop, 64), 0);
        n_asked = 0;
        server_init(&server, loop, listener, head_timeout_ns, answer, &server);
}

static void stop(void) {
        server_close(&server);
        ck_assert_uint_eq(server.n_conns, 0);
        ck_assert_ptr_null(server.conns);
        loop_free(loop);
        close(listener);
}

static void turn(void) {
        ck_assert_int_ge(loop_turn(loop, clock_now_ns() + NS_PER_MS), 0);
}

static int client(void) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

static void say(int fd, const char *bytes) {
        ck_assert_int_eq(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), (ssize_t)strlen(bytes));
}

/* Turns until the client has read n bytes or the end of the connection; how much it was.
 * *ret_end: 0 not the end, 1 a proper end, -1 a reset. */
static size_t hear(int fd, char *to, size_t n, int *ret_end) {
        uint64_t until = clock_now_ns() + PATIENCE_NS;
        size_t have = 0;

        *ret_end = 0;
        while (have < n && *ret_end == 0) {
                ssize_t r = recv(fd, to + have, n - have, 0);
                if (r > 0)
                        have += (size_t)r;
                else if (r == 0)
                        *ret_end = 1;
                else if (errno != EAGAIN)
                        *ret_end = -1;
                else
                        turn();
                ck_assert_msg(clock_now_ns() < until, "%zu of %zu bytes came", have, n);
        }
        return have;
}

static void hears(int fd, const char *expected) {
        char got[4096] = "";
        int end;

        ck_assert_uint_eq(hear(fd, got, strlen(expected), &end), strlen(expected));
        ck_assert_str_eq(got, expected);
}

/* All up to the proper end begins with that. */
static void hears_last(int fd, const char *begin) {
        char got[4096] = "";
        int end;

        hear(fd, got, sizeof(got) - 1, &end);
        ck_assert_msg(end == 1 && strncmp(got, begin, strlen(begin)) == 0, "end %d after: %s", end,
                        got);
        close(fd);
}

static void hears_nothing_but_the_end(int fd) {
        char got[1];
        int end;

        ck_assert_uint_eq(hear(fd, got, 1, &end), 0);
        close(fd);
}

static void wait_conns(uint32_t n) {
        uint64_t until = clock_now_ns() + PATIENCE_NS;

        while (server.n_conns != n) {
                turn();
                ck_assert_msg(clock_now_ns() < until, "%u connections, expected %u", server.n_conns,
                                n);
        }
}

#define ASK(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK(n, path) "HTTP/1.1 200 OK\r\nContent-Length: " n "\r\n\r\n" path

/* ---- refusals ---- */

START_TEST(what_is_no_request_is_answered_and_the_connection_ends) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, "GET / HTTP/1.1\nHost: a\n\n" ASK("/never"));
        hears_last(fd, "HTTP/1.1 400 Bad Request\r\n");
        ck_assert_uint_eq(n_asked, 0);
        stop();
}
END_TEST

START_TEST(a_head_beyond_64_kib_is_answered_although_the_client_goes_on_sending) {
        static char junk[256 * 1024];
        uint64_t until = clock_now_ns() + PATIENCE_NS;
        size_t sent = 0;

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        memset(junk, 'a', sizeof(junk));
        say(fd, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        while (sent < sizeof(junk)) {
                ssize_t r = send(fd, junk + sent, sizeof(junk) - sent, MSG_NOSIGNAL);
                sent += r > 0 ? (size_t)r : 0;
                ck_assert(r >= 0 || errno == EAGAIN);
                turn();
                ck_assert(clock_now_ns() < until);
        }
        hears_last(fd, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
        stop();
}
END_TEST

START_TEST(behind_the_last_answer_the_client_is_listened_to_until_it_closes) {
        char got[4096];
        int end;

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        say(fd, "\n");
        ck_assert_uint_gt(hear(fd, got, sizeof(got), &end), 0);
        ck_assert_int_eq(end, 1);
        for (int i = 0; i < 20; i++) { /* a closed socket would answer with a reset */
                say(fd, "more");
                turn();
        }
        ck_assert_uint_eq(server.n_conns, 1);
        close(fd);
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(who_never_stops_sending_is_cut) {
        static char junk[64 * 1024];
        uint64_t until = clock_now_ns() + PATIENCE_NS;
        uint64_t sent = 0;
        ssize_t r = 0;

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        say(fd, "\n");
        while (r >= 0 || errno == EAGAIN) {
                r = send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
                sent += r > 0 ? (uint64_t)r : 0;
                turn();
                ck_assert(clock_now_ns() < until);
        }
        ck_assert_uint_lt(sent, SERVER_LINGER_BYTES + SOCKET_BYTES_MAX);
        wait_conns(0);
        close(fd);
        stop();
}
END_TEST

START_TEST(a_slow_head_is_told_and_cut) {
        start(50 * NS_PER_MS, 0);
        int fd = client();

        say(fd, "GET / HT");
        hears_last(fd, "HTTP/1.1 408 Request Timeout\r\n");
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(a_head_that_drips_has_no_more_time) {
        uint64_t until = clock_now_ns() + PATIENCE_NS;

        start(100 * NS_PER_MS, 0);
        int fd = client();
        char c;
        say(fd, "GET / HTTP/1.1\r\nX: ");
        while (recv(fd, &c, 1, MSG_PEEK) < 0) {
                (void)send(fd, "x", 1, MSG_NOSIGNAL);
                turn();
                ck_assert(clock_now_ns() < until);
        }
        hears_last(fd, "HTTP/1.1 408 Request Timeout\r\n");
        stop();
}
END_TEST

START_TEST(who_says_nothing_at_all_is_cut) {
        start(50 * NS_PER_MS, 0);
        hears_nothing_but_the_end(client());
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(half_a_head_and_the_end_is_nobodys_request) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, "GET / HTTP/1.1\r\n");
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        hears_nothing_but_the_end(fd);
        ck_assert_uint_eq(n_asked, 0);
        stop();
}
END_TEST

/* ---- requests ---- */

START_TEST(a_connection_serves_one_request_after_the_other) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, ASK("/a"));
        hears(fd, OK("2", "/a"));
        say(fd, ASK("/bc"));
        hears(fd, OK("3", "/bc"));
        ck_assert_uint_eq(server.n_conns, 1);
        close(fd);
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, ASK("/1") ASK("/22") ASK("/333") "GET /4");
        hears(fd, OK("2", "/1") OK("3", "/22") OK("4", "/333"));
        say(fd, " HTTP/1.1\r\nHost: a\r\n\r\n");
        hears(fd, OK("2", "/4"));
        close(fd);
        stop();
}
END_TEST

START_TEST(a_thousand_pipelined_requests_in_one_go) {
        enum { N = 1000 };
        static char asked[N * 64], expected[N * 64], got[N * 64];
        size_t n = 0, m = 0, sent = 0;
        int end;

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        for (int i = 0; i < N; i++) {
                n += (size_t)snprintf(asked + n, sizeof(asked) - n,
                                "GET /%03d HTTP/1.1\r\nHost: a\r\n\r\n", i);
                m += (size_t)snprintf(expected + m, sizeof(expected) - m, OK("4", "/%03d"), i);
        }
        while (sent < n) {
                ssize_t r = send(fd, asked + sent, n - sent, MSG_NOSIGNAL);
                sent += r > 0 ? (size_t)r : 0;
                turn();
        }
        ck_assert_uint_eq(hear(fd, got, m, &end), m);
        ck_assert_int_eq(memcmp(got, expected, m), 0);
        close(fd);
        stop();
}
END_TEST

START_TEST(nothing_behind_a_close_is_answered) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" ASK("/never"));
        hears_last(fd, OK("2", "/a"));
        ck_assert_uint_eq(n_asked, 1);
        stop();
}
END_TEST

START_TEST(who_has_closed_the_sending_half_still_hears_the_answer) {
        start(LONG_ENOUGH_NS, 0);
        int fd = client();

        say(fd, ASK("/a") ASK("/b"));
        ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        hears_last(fd, OK("2", "/a") OK("2", "/b"));
        stop();
}
END_TEST

START_TEST(a_large_answer_comes_whole_to_a_reader_that_takes_it_slowly) {
        static char got[LARGE_BYTES + 256];
        int end;

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        say(fd, ASK("/large") ASK("/a"));
        for (int i = 0; i < 100; i++)
                turn();
        size_t head = (size_t)snprintf(
                        NULL, 0, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", LARGE_BYTES);
        ck_assert_uint_eq(n_asked, 1); /* the second one waits for the first one to be taken */
        ck_assert_uint_eq(hear(fd, got, head + LARGE_BYTES, &end), head + LARGE_BYTES);
        hears(fd, OK("2", "/a"));
        close(fd);
        stop();
}
END_TEST

START_TEST(who_does_not_read_is_cut_after_a_while) {
        start(LONG_ENOUGH_NS, 0);
        server.send_timeout_ns = 200 * NS_PER_MS;
        int fd = client();

        say(fd, ASK("/large"));
        wait_conns(1);
        wait_conns(0);
        close(fd);
        stop();
}
END_TEST

START_TEST(who_vanishes_in_the_middle_of_an_answer_is_forgotten) {
        struct linger reset = {1, 0};

        start(LONG_ENOUGH_NS, 0);
        int fd = client();
        say(fd, ASK("/large"));
        while (n_asked == 0)
                turn();
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
        wait_conns(0);
        stop();
}
END_TEST

/* ---- many ---- */

START_TEST(idle_connections_make_room_for_new_ones) {
        int fds[SERVER_CONNS_MAX + 8];

        start(LONG_ENOUGH_NS, 0);
        for (uint32_t i = 0; i < SERVER_CONNS_MAX + 8; i++) {
                fds[i] = client();
                say(fds[i], ASK("/a"));
                hears(fds[i], OK("2", "/a"));
        }
        ck_assert_uint_le(server.n_conns, SERVER_CONNS_MAX);
        hears_nothing_but_the_end(fds[0]); /* idle for longest */
        say(fds[SERVER_CONNS_MAX + 7], ASK("/b"));
        hears(fds[SERVER_CONNS_MAX + 7], OK("2", "/b"));
        for (uint32_t i = 1; i < SERVER_CONNS_MAX + 8; i++)
                close(fds[i]);
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(when_all_are_busy_new_ones_wait_until_one_has_gone) {
        int fds[SERVER_CONNS_MAX], late;

        start(LONG_ENOUGH_NS, 0);
        for (uint32_t i = 0; i < SERVER_CONNS_MAX; i++) {
                fds[i] = client();
                say(fds[i], "GET /");
                wait_conns(i + 1);
        }
        ck_assert(server.full);
        late = client();
        say(late, ASK("/late"));
        for (int i = 0; i < 50; i++)
                turn();
        ck_assert_uint_eq(n_asked, 0);
        close(fds[0]);
        hears(late, OK("5", "/late"));
        close(late);
        for (uint32_t i = 1; i < SERVER_CONNS_MAX; i++)
                close(fds[i]);
        wait_conns(0);
        stop();
}
END_TEST

START_TEST(a_listener_that_does_not_block_is_listened_to_as_well) {
        start(LONG_ENOUGH_NS, SOCK_NONBLOCK);
        for (int i = 0; i < 3; i++) {
                for (int k = 0; k < 10; k++)
                        turn();
                int fd = client();
                say(fd, ASK("/a"));
                hears(fd, OK("2", "/a"));
                close(fd);
        }
        stop();
}
END_TEST

START_TEST(the_end_of_the_server_ends_all_connections) {
        start(LONG_ENOUGH_NS, 0);
        int idle = client(), busy = client(), half = client();

        say(idle, ASK("/a"));
        hears(idle, OK("2", "/a"));
        say(busy, ASK("/large"));
        say(half, "GET /");
        wait_conns(3);
        stop();
        close(idle);
        close(busy);
        close(half);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("server");
        TCase *all = tcase_create("all");
        int failed;

        tcase_set_timeout(all, 60);
        tcase_add_test(all, what_is_no_request_is_answered_and_the_connection_ends);
        tcase_add_test(all, a_head_beyond_64_kib_is_answered_although_the_client_goes_on_sending);
        tcase_add_test(all, behind_the_last_answer_the_client_is_listened_to_until_it_closes);
        tcase_add_test(all, who_never_stops_sending_is_cut);
        tcase_add_test(all, a_slow_head_is_told_and_cut);
        tcase_add_test(all, a_head_that_drips_has_no_more_time);
        tcase_add_test(all, who_says_nothing_at_all_is_cut);
        tcase_add_test(all, half_a_head_and_the_end_is_nobodys_request);
        tcase_add_test(all, a_connection_serves_one_request_after_the_other);
        tcase_add_test(all, pipelined_requests_are_answered_in_order);
        tcase_add_test(all, a_thousand_pipelined_requests_in_one_go);
        tcase_add_test(all, nothing_behind_a_close_is_answered);
        tcase_add_test(all, who_has_closed_the_sending_half_still_hears_the_answer);
        tcase_add_test(all, a_large_answer_comes_whole_to_a_reader_that_takes_it_slowly);
        tcase_add_test(all, who_does_not_read_is_cut_after_a_while);
        tcase_add_test(all, who_vanishes_in_the_middle_of_an_answer_is_forgotten);
        tcase_add_test(all, idle_connections_make_room_for_new_ones);
        tcase_add_test(all, when_all_are_busy_new_ones_wait_until_one_has_gone);
        tcase_add_test(all, a_listener_that_does_not_block_is_listened_to_as_well);
        tcase_add_test(all, the_end_of_the_server_ends_all_connections);
        suite_add_tcase(suite, all);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
