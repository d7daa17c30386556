/* How often a body is looked at by the JSON parser: __wrap_body_scan() stands before body_scan()
 * (-Wl,--wrap), the only way to it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stages/engines/json/body.h"
#include "tests/stages/gateway/rig.h"

#define TEXT_BYTES (220u * 1024u)
#define BODY_BEGIN "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\""
#define BODY_END "\"}]}"
#define BODY_BYTES ((uint32_t)(sizeof(BODY_BEGIN) + sizeof(BODY_END) - 2 + TEXT_BYTES))

static struct rig rig;
static struct rig_http a, b;
static char body[BODY_BYTES + 1];
static uint32_t n_scans;
static uint64_t scanned_bytes;

int __real_body_scan(struct body_scanner *s, enum body_kind kind, const char *text, uint32_t len,
                struct body_found *ret);
int __wrap_body_scan(struct body_scanner *s, enum body_kind kind, const char *text, uint32_t len,
                struct body_found *ret);

int __wrap_body_scan(struct body_scanner *s, enum body_kind kind, const char *text, uint32_t len,
                struct body_found *ret) {
        n_scans++;
        scanned_bytes += len;
        return __real_body_scan(s, kind, text, len, ret);
}

static void setup(void) {
        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 1});
        rig_http_connect(&rig, &a);
        rig_http_connect(&rig, &b);
        strcpy(body, BODY_BEGIN);
        memset(body + sizeof(BODY_BEGIN) - 1, 'x', TEXT_BYTES);
        strcpy(body + sizeof(BODY_BEGIN) - 1 + TEXT_BYTES, BODY_END);
        n_scans = 0;
        scanned_bytes = 0;
}

static void teardown(void) {
        close(a.fd);
        close(b.fd);
        rig_free(&rig);
}

/* As fast as the gateway reads. */
static void say(struct rig_http *c, const char *text, size_t n) {
        while (n > 0) {
                ssize_t sent = send(c->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (sent > 0) {
                        text += sent;
                        n -= (size_t)sent;
                }
                rig_settle(&rig);
        }
}

static void post(struct rig_http *c, const char *headers) {
        char head[512];
        int n = snprintf(head, sizeof(head),
                        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                        "Content-Type: application/json\r\n%s\r\n",
                        headers);

        say(c, head, (size_t)n);
}

static void expect_one_scan(uint64_t *req_id) {
        struct record request;

        ck_assert(rig_take(&rig, 0, &request, req_id));
        ck_assert_uint_eq(request.body_len, BODY_BYTES);
        ck_assert_uint_eq(n_scans, 1);
        ck_assert_uint_eq(scanned_bytes, BODY_BYTES);
        rig_done(&rig, 0, rig_response(&rig, 0, *req_id, &request), 1);
        rig_settle(&rig);
        n_scans = 0;
        scanned_bytes = 0;
}

START_TEST(c21_a_body_that_comes_in_pieces_is_scanned_once) {
        char length[64], size[32];
        uint64_t id;

        snprintf(length, sizeof(length), "Content-Length: %u\r\n", BODY_BYTES);
        post(&a, length);
        for (uint32_t at = 0; at < BODY_BYTES; at += 10000)
                say(&a, body + at, BODY_BYTES - at < 10000 ? BODY_BYTES - at : 10000);
        expect_one_scan(&id);
        post(&b, "Transfer-Encoding: chunked\r\nIdempotency-Key: k\r\n");
        snprintf(size, sizeof(size), "%x\r\n", BODY_BYTES);
        say(&b, size, strlen(size));
        say(&b, body, BODY_BYTES);
        say(&b, "\r\n0\r\n\r\n", 7);
        expect_one_scan(&id);
}
END_TEST

START_TEST(c21_a_body_that_waits_at_the_door_is_scanned_once) {
        static const char small[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
        struct record request;
        char length[64];
        uint64_t id;

        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", sizeof(small) - 1);
        post(&a, length);
        say(&a, small, sizeof(small) - 1);
        ck_assert(rig_take(&rig, 0, &request, &id));
        n_scans = 0;
        scanned_bytes = 0;
        snprintf(length, sizeof(length), "Content-Length: %u\r\n", BODY_BYTES);
        post(&b, length);
        say(&b, body, BODY_BYTES);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        rig_done(&rig, 0, rig_response(&rig, 0, id, &request), 1);
        expect_one_scan(&id);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("gateway scans");
        TCase *tcase = tcase_create("scans");
        SRunner *runner;
        int failed;

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, c21_a_body_that_comes_in_pieces_is_scanned_once);
        tcase_add_test(tcase, c21_a_body_that_waits_at_the_door_is_scanned_once);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
