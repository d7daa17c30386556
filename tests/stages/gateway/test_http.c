#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stages/gateway/rig.h"

#define HOST "Host: localhost\r\n"
#define POST "POST /v1/chat/completions HTTP/1.1\r\n" HOST
#define JSON "Content-Type: application/json\r\n"
#define BODY "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"
#define STREAM "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"

static struct rig rig;
static struct rig_http a, b;

static void settings(struct settings *s) {
        s->admission.max_body_bytes = 65536;
        s->http.head_timeout_ms = 200;
}

static void setup(void) {
        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 2, .settings = settings});
        rig_http_connect(&rig, &a);
        rig_http_connect(&rig, &b);
}

static void teardown(void) {
        close(a.fd);
        close(b.fd);
        rig_free(&rig);
}

static void post(struct rig_http *c, const char *headers, const char *body) {
        char text[4096];

        snprintf(text, sizeof(text), POST JSON "Content-Length: %zu\r\n%s\r\n%s", strlen(body),
                        headers, body);
        rig_http_say(c, text);
}

static uint32_t take(uint64_t *req_id) {
        struct record request;

        ck_assert(rig_take(&rig, 0, &request, req_id));
        return rig_response(&rig, 0, *req_id, &request);
}

/* ---- refusals ---- */

static const struct {
        const char *text, *status;
} shapes[] = {
                {POST JSON "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400"},
                {POST JSON "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
                {POST JSON "Content-Length: +5\r\n\r\nhello", "400"},
                {POST JSON "Content-Length: 5, 5\r\n\r\nhello", "400"},
                {POST JSON "Content-Length : 5\r\n\r\nhello", "400"},
                {POST JSON "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
                {POST JSON "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                                "400"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "400"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "400"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "400"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n5\r\nhellox\r\n0\r\n\r\n", "400"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", "400"},
                {"POST /v1/chat/completions HTTP/1.0\r\n" HOST JSON
                 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                                "400"},
                {"GET /healthz HTTP/1.1\nHost: localhost\n\n", "400"},
                {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", "400"},
                {"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", "400"},
                {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "400"},
                {"GET /healthz HTTP/1.1\r\n\r\n", "400"},
                {"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
                {"GET http://other/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
                {"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", "505"},
                {POST JSON "Content-Length: 70000\r\n\r\n", "413"},
                {POST JSON "Transfer-Encoding: chunked\r\n\r\n20000\r\n", "413"},
                {POST JSON "Expect: miracles\r\nContent-Length: 5\r\n\r\n", "417"},
                {POST "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n", "415"},
                {"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "403"},
                {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: "
                 "http://evil.example\r\nConnection: close\r\n\r\n",
                                "403"},
};

static void expect_refused(struct rig_http *c, const char *status) {
        char line[32];

        snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
        rig_http_expect(&rig, c, line);
        ck_assert_msg(strncmp(c->got, line, strlen(line)) == 0, "expected %s first, got %s", line,
                        c->got);
        ck_assert(rig_http_closed(&rig, c));
        ck_assert_ptr_null(strstr(c->got + 1, "HTTP/1.1 200")); /* one answer, whatever follows */
        ck_assert_ptr_nonnull(strstr(c->got, "{\"error\":{\"message\":"));
}

START_TEST(what_can_be_understood_in_two_ways_is_refused_and_the_connection_ends) {
        struct record request;
        static struct rig_http c;

        rig_http_connect(&rig, &c);
        rig_http_say(&c, shapes[_i].text);
        rig_http_say(&c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        expect_refused(&c, shapes[_i].status);
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        close(c.fd);
}
END_TEST

START_TEST(it_is_refused_as_well_when_it_comes_byte_by_byte) {
        const char *text = shapes[_i].text;
        static struct rig_http c;
        char byte[2] = {0};

        rig_http_connect(&rig, &c);
        for (size_t i = 0; text[i]; i++) {
                byte[0] = text[i];
                if (send(c.fd, byte, 1, MSG_NOSIGNAL) < 0)
                        break; /* it has heard enough */
                rig_turn(&rig);
                rig_turn(&rig);
        }
        expect_refused(&c, shapes[_i].status);
        close(c.fd);
}
END_TEST

START_TEST(a_head_larger_than_64_kib_is_431) {
        static char line[1024];

        memset(line, 'x', sizeof(line) - 1);
        memcpy(line, "x-more: ", 8);
        memcpy(line + sizeof(line) - 3, "\r\n", 2);
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\n" HOST);
        for (int i = 0; i < 70; i++) {
                if (send(a.fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        break;
                rig_settle(&rig);
        }
        expect_refused(&a, "431");
        ck_assert_uint_eq(rig.gw->conns.large_bytes, 0);
}
END_TEST

START_TEST(a_head_that_comes_too_slowly_is_408) {
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\nHost: loc");
        rig_wait_ms(&rig, 300);
        expect_refused(&a, "408");
        rig_http_say(&b, "GET /healthz HTTP/1.1\r\n" HOST "\r\n"); /* who says nothing may wait */
        rig_http_take(&rig, &b, "{\"status\":\"ok\"}");
}
END_TEST

START_TEST(a_body_that_comes_too_slowly_is_408) {
        rig_http_say(&a, POST JSON "Content-Length: 100\r\n\r\n{");
        rig_wait_ms(&rig, 300);
        expect_refused(&a, "408");
        rig_http_say(&b, POST JSON "Transfer-Encoding: chunked\r\n\r\n5\r\n{");
        rig_wait_ms(&rig, 300);
        expect_refused(&b, "408");
}
END_TEST

START_TEST(other_paths_and_methods_are_told_so_and_the_connection_goes_on) {
        rig_http_say(&a, "GET /nowhere HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "404 Not Found\r\n");
        rig_http_take(&rig, &a, "\"code\":\"not_found\"}}");
        rig_http_say(&a, "GET /v1/chat/completions HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "405 Method Not Allowed\r\n");
        rig_http_take(&rig, &a, "Allow: POST\r\n");
        rig_http_take(&rig, &a, "}}");
        post(&a, "", "{\"model\":\"m\"}");
        rig_http_take(&rig, &a, "400 Bad Request\r\n");
        rig_http_take(&rig, &a, "x-should-retry: false\r\n");
        rig_http_take(&rig, &a, "}}");
        post(&a, "", "{\"messages\":[],\"stream\":1}");
        rig_http_take(&rig, &a, "400 Bad Request\r\n");
        rig_http_take(&rig, &a, "\"param\":\"stream\"");
        rig_http_take(&rig, &a, "}}");
        post(&a, "", "{\"model\":\"m\",");
        rig_http_take(&rig, &a, "400 Bad Request\r\n");
        rig_http_take(&rig, &a, "at byte ");
        rig_http_take(&rig, &a, "}}");
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}");
}
END_TEST

START_TEST(options_tells_the_methods_of_a_path_and_of_all) {
        rig_http_say(&a, "OPTIONS /nowhere HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "404 Not Found\r\n");
        rig_http_take(&rig, &a, "}}");
        rig_http_say(&a, "OPTIONS /v1/jobs/x HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "204 No Content\r\n");
        rig_http_take(&rig, &a, "Allow: OPTIONS, GET, HEAD, DELETE\r\n");
        rig_http_take(&rig, &a, "\r\n\r\n");
        rig_http_say(&a, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "204 No Content\r\n");
        rig_http_take(&rig, &a, "Allow: OPTIONS, GET, HEAD, POST, DELETE\r\n");
        rig_http_take(&rig, &a, "\r\n\r\n");
}
END_TEST

START_TEST(a_request_id_that_is_not_printable_or_too_long_is_replaced) {
        static const char *const bad[] = {"caf\xc3\xa9", "a\tb", ""};
        char large[130];

        memset(large, 'x', 129);
        large[129] = '\0';
        for (size_t i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
                const char *id = i < sizeof(bad) / sizeof(*bad) ? bad[i] : large;
                char head[256];

                snprintf(head, sizeof(head),
                                "GET /healthz HTTP/1.1\r\n" HOST "x-request-id: %s\r\n\r\n", id);
                rig_http_say(&a, head);
                rig_http_take(&rig, &a, "x-request-id: ");
                ck_assert_msg(strspn(a.got, "0123456789abcdef") == 32, "%.40s", a.got);
                rig_http_take(&rig, &a, "\"ok\"}");
        }
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\n" HOST "x-request-id: two words\r\n\r\n");
        rig_http_take(&rig, &a, "x-request-id: two words\r\n");
        rig_http_take(&rig, &a, "\"ok\"}");
}
END_TEST

START_TEST(a_bad_header_of_ours_is_named) {
        static const char *const headers[][2] = {
                        {"x-millrace-priority: high\r\n", "x-millrace-priority"},
                        {"x-millrace-rag: maybe\r\n", "x-millrace-rag"},
                        {"x-millrace-rag-filter: lang\r\n", "x-millrace-rag-filter"},
                        {"x-millrace-rag-filter: =en\r\n", "x-millrace-rag-filter"},
                        {"x-millrace-rag-collections: a,,b\r\n", "x-millrace-rag-collections"},
                        {"x-millrace-rag-collections: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n",
                                        "x-millrace-rag-collections"},
                        {"x-millrace-deadline-ms: 0\r\n", "x-millrace-deadline-ms"},
                        {"x-millrace-deadline-ms: soon\r\n", "x-millrace-deadline-ms"},
                        {"x-millrace-session:\r\n", "x-millrace-session"},
                        {"x-millrace-template: \xff\r\n", "x-millrace-template"},
        };

        for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
                post(&a, headers[i][0], BODY);
                rig_http_take(&rig, &a, "400 Bad Request\r\n");
                rig_http_take(&rig, &a, headers[i][1]);
                rig_http_take(&rig, &a, "}}");
        }
}
END_TEST

/* ---- answers ---- */

START_TEST(a_unary_answer_has_everything_in_one_piece) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "x-request-id: me-1\r\n", BODY);
        r = take(&req_id);
        rig_delta(&rig, 0, r, 1, "hel");
        rig_delta(&rig, 0, r, 2, "lo");
        rig_done(&rig, 0, r, 3);
        rig_http_take(&rig, &a, "HTTP/1.1 200 OK\r\n");
        rig_http_expect(&rig, &a, "x-request-id: me-1\r\n");
        rig_http_expect(&rig, &a, "x-millrace-id: req_");
        rig_http_expect(&rig, &a, "x-millrace-lane: 0\r\n");
        rig_http_expect(&rig, &a, "Server-Timing: rag;dur=0.031, assemble;dur=0.000\r\n");
        rig_http_expect(&rig, &a, "\"model\":\"m\"");
        rig_http_expect(&rig, &a, "\"content\":\"hello\"");
        rig_http_take(&rig, &a, "\"total_tokens\":12");
        rig_http_take(&rig, &a, "}");
        ck_assert_uint_eq(rig.gw->readers.n, 0);
}
END_TEST

START_TEST(a_stream_comes_in_events_and_ends_whole) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "Idempotency-Key: k1\r\n", STREAM);
        r = take(&req_id);
        rig_delta(&rig, 0, r, 1, "hel");
        rig_http_take(&rig, &a, "HTTP/1.1 200 OK\r\n");
        rig_http_expect(&rig, &a, "Content-Type: text/event-stream");
        rig_http_expect(&rig, &a, "x-millrace-id: k1\r\n");
        rig_http_take(&rig, &a, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
        rig_http_take(&rig, &a, "id: k1.1\ndata: {\"id\":\"chatcmpl-k1\"");
        rig_http_take(&rig, &a, "\"content\":\"hel\"");
        rig_done(&rig, 0, r, 2);
        rig_http_take(&rig, &a, "id: k1.2\n");
        rig_http_take(&rig, &a, "\"finish_reason\":\"stop\"");
        rig_http_take(&rig, &a, "data: [DONE]\n\n\r\n0\r\n\r\n");
        ck_assert_ptr_null(strstr(a.got, "usage"));
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}");
}
END_TEST

START_TEST(a_stream_that_breaks_says_so_and_does_not_end_whole) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "", STREAM);
        r = take(&req_id);
        rig_delta(&rig, 0, r, 1, "hel");
        rig_http_take(&rig, &a, "\"content\":\"hel\"");
        rig_error(&rig, 0, r, 2, MR_E_upstream_error);
        rig_http_take(&rig, &a, "data: {\"error\":{\"message\":\"it went wrong\"");
        ck_assert(rig_http_closed(&rig, &a));
        ck_assert_ptr_null(strstr(a.got, "0\r\n\r\n"));
        ck_assert_ptr_null(strstr(a.got, "[DONE]"));
}
END_TEST

START_TEST(an_error_before_the_first_token_is_a_status) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "", STREAM);
        r = take(&req_id);
        rig_error(&rig, 0, r, 1, MR_E_upstream_error);
        rig_http_take(&rig, &a, "HTTP/1.1 502 Bad Gateway\r\n");
        rig_http_take(&rig, &a, "x-should-retry: true\r\n");
        rig_http_take(&rig, &a, "\"code\":\"upstream_error\"}}");
        rig_http_say(&a, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}");
}
END_TEST

/* The timer of the newest connection but one: that is a's. */
static void time_passes(void) {
        http_due(rig.gw->conns.all->next, 1);
        rig_settle(&rig);
}

START_TEST(c14_silence_is_filled_with_comments_and_then_a_failure_is_an_event) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "", STREAM);
        r = take(&req_id);
        rig_settle(&rig);
        ck_assert_ptr_null(strstr(a.got, "HTTP/1.1")); /* a status may still be needed */
        time_passes();
        rig_http_take(&rig, &a, "HTTP/1.1 200 OK\r\n");
        rig_http_take(&rig, &a, "8\r\n: ping\n\n\r\n");
        time_passes();
        rig_http_take(&rig, &a, "8\r\n: ping\n\n\r\n");
        rig_error(&rig, 0, r, 1, MR_E_upstream_timeout);
        rig_http_take(&rig, &a, "data: {\"error\":{\"message\":\"it went wrong\"");
        ck_assert(rig_http_closed(&rig, &a));
}
END_TEST

START_TEST(a_unary_answer_is_waited_for_without_a_word) {
        uint64_t req_id;
        uint32_t r;

        post(&a, "", BODY);
        r = take(&req_id);
        rig_wait_ms(&rig, 300); /* longer than a head may take */
        rig_done(&rig, 0, r, 1);
        rig_http_take(&rig, &a, "HTTP/1.1 200 OK\r\n");
}
END_TEST

/* So much that neither the socket nor the output takes it. */
static uint32_t flood(uint64_t *req_id, uint64_t n) {
        static char text[2000];
        uint32_t r;

        memset(text, 'y', sizeof(text) - 1);
        post(&a, "", STREAM);
        r = take(req_id);
        for (uint64_t i = 1; i <= n; i++) {
                rig_delta(&rig, 0, r, i, text);
                rig_turn(&rig);
        }
        rig_settle(&rig);
        for (struct conn *c = rig.gw->conns.all; c; c = c->next)
                ck_assert_uint_le(c->out[0].cap + c->out[1].cap, 65536);
        return r;
}

START_TEST(c1_a_reader_that_fell_behind_gets_everything_in_fewer_chunks) {
        uint64_t req_id;
        uint32_t r = flood(&req_id, 400), chunks = 0, bytes = 0;

        rig_done(&rig, 0, r, 401);
        rig_http_expect(&rig, &a, "data: [DONE]");
        for (const char *p = a.got; (p = strstr(p, "\"content\":\"y")); p++, chunks++)
                bytes += (uint32_t)strspn(p + 11, "y");
        ck_assert_uint_eq(bytes, 400 * 1999);
        ck_assert_uint_lt(chunks, 300);
}
END_TEST

START_TEST(c2_a_reader_that_the_log_left_behind_is_cut_with_an_error) {
        uint64_t req_id;
        uint32_t r = flood(&req_id, 400);

        rig_evict(&rig, 0, r);
        rig_http_expect(&rig, &a, "\"code\":\"gone\"}}");
        ck_assert(rig_http_closed(&rig, &a));
        ck_assert_ptr_null(strstr(a.got, "[DONE]"));
        ck_assert_uint_eq(rig.gw->readers.n, 0);
}
END_TEST

START_TEST(c21_what_waits_at_the_door_is_sent_on_as_it_came_and_scanned_once) {
        static const char body[] = "{\"model\":\"m\" , \"odd\": 1.50,\"stream\":true,\"user\":\"u1\","
                                   "\"messages\":[{\"role\":\"user\",\"content\":\"third\"}]}";
        static struct rig_http c;
        struct record request;
        uint64_t ids[2], id;
        uint32_t r[2];

        rig_http_connect(&rig, &c);
        post(&a, "", BODY);
        r[0] = take(&ids[0]);
        post(&b, "", BODY);
        r[1] = take(&ids[1]);
        post(&c, "Idempotency-Key: third\r\n", body);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        rig.gw->composer.max_body_bytes = 1; /* who scans it again refuses it */
        rig_done(&rig, 0, r[0], 1);
        rig_done(&rig, 0, r[1], 1);
        ck_assert(rig_take(&rig, 0, &request, &id));
        ck_assert_uint_eq(request.body.n, sizeof(body) - 1);
        ck_assert_mem_eq(request.body.p, body, sizeof(body) - 1);
        ck_assert_mem_eq(request.query.p, "third", 5);
        ck_assert_mem_eq(request.session.p, "u1", 2);
        ck_assert(request.options & OPTION_STREAM);
        r[0] = rig_response(&rig, 0, id, &request);
        rig_delta(&rig, 0, r[0], 1, "hel");
        rig_http_take(&rig, &c, "id: third.1\n");
        close(c.fd);
}
END_TEST

START_TEST(requests_in_one_piece_are_answered_in_their_order) {
        uint64_t first, second;
        uint32_t r;

        rig_http_say(&a,
                        "GET /healthz HTTP/1.1\r\n" HOST "\r\nHEAD /healthz HTTP/1.1\r\n" HOST "\r\n"
                        "GET /nowhere HTTP/1.1\r\n" HOST "\r\n");
        post(&a, "", BODY);
        post(&a, "", STREAM);
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}HTTP/1.1 200 OK\r\n");
        rig_http_take(&rig, &a, "Content-Length:         15\r\n\r\nHTTP/1.1 404 Not Found\r\n");
        r = take(&first);
        rig_settle(&rig);
        ck_assert(!rig_take(&rig, 0, &(struct record){0}, &second)); /* it is not looked at yet */
        rig_delta(&rig, 0, r, 1, "one");
        rig_done(&rig, 0, r, 2);
        rig_http_take(&rig, &a, "\"content\":\"one\"");
        r = take(&second);
        rig_delta(&rig, 0, r, 1, "two");
        rig_done(&rig, 0, r, 2);
        rig_http_take(&rig, &a, "\"content\":\"two\"");
        rig_http_take(&rig, &a, "[DONE]");
}
END_TEST

START_TEST(a_chunked_body_is_a_body) {
        uint64_t req_id;
        uint32_t r;

        rig_http_say(&a, POST JSON "Transfer-Encoding: chunked\r\n\r\n");
        for (const char *p = BODY; *p; p++) {
                char chunk[16];

                snprintf(chunk, sizeof(chunk), "1;x=y\r\n%c\r\n", *p);
                rig_http_say(&a, chunk);
                rig_turn(&rig);
        }
        rig_http_say(&a, "0\r\nx-trailer: 1\r\n\r\nGET /healthz HTTP/1.1\r\n" HOST "\r\n");
        r = take(&req_id);
        rig_done(&rig, 0, r, 1);
        rig_http_take(&rig, &a, "\"finish_reason\":\"stop\"");
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}");
}
END_TEST

START_TEST(who_expects_to_be_told_to_go_on_is_told) {
        uint64_t req_id;
        char text[512];

        snprintf(text, sizeof(text), POST JSON "Expect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                        strlen(BODY));
        rig_http_say(&a, text);
        rig_http_take(&rig, &a, "HTTP/1.1 100 Continue\r\n\r\n");
        rig_http_say(&a, BODY);
        rig_done(&rig, 0, take(&req_id), 1);
        rig_http_take(&rig, &a, "HTTP/1.1 200 OK\r\n");
}
END_TEST

START_TEST(http_1_0_gets_neither_chunks_nor_more_than_it_asked_for) {
        uint64_t req_id;
        char text[512];
        uint32_t r;

        rig_http_say(&a, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n" HOST "\r\n");
        rig_http_take(&rig, &a, "Connection: keep-alive\r\n");
        rig_http_take(&rig, &a, "{\"status\":\"ok\"}");
        snprintf(text, sizeof(text),
                        "POST /v1/chat/completions HTTP/1.0\r\n" HOST JSON
                        "Content-Length: %zu\r\n\r\n" STREAM,
                        strlen(STREAM));
        rig_http_say(&a, text);
        r = take(&req_id);
        rig_delta(&rig, 0, r, 1, "hel");
        rig_done(&rig, 0, r, 2);
        rig_http_expect(&rig, &a, "data: [DONE]\n\n");
        ck_assert_ptr_null(strstr(a.got, "chunked"));
        ck_assert(rig_http_closed(&rig, &a));
}
END_TEST

/* ---- clients that leave: C5, C6 ---- */

START_TEST(c5_c6_a_client_that_is_gone_is_noticed_at_once_unary_and_streaming) {
        const bool stream = _i & 1, begun = _i & 2, unread = _i & 4;
        uint64_t req_id, got = 0;
        uint32_t r;

        post(&a, "", stream ? STREAM : BODY);
        r = take(&req_id);
        if (begun) {
                rig_delta(&rig, 0, r, 1, "hel");
                rig_settle(&rig);
        }
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        if (unread) /* a next request that nobody has read yet, and then the end */
                post(&a, "", BODY);
        shutdown(a.fd, SHUT_WR);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_DISCONNECT);
        ck_assert_uint_eq(got, req_id);
        ck_assert_uint_eq(rig.gw->conns.n[SURFACE_HTTP], 1);
        rig_error(&rig, 0, r, begun ? 2 : 1, MR_E_cancelled);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->table.n_open, 0);
}
END_TEST

START_TEST(an_abort_at_every_byte_leaves_nothing_behind) {
        static const char text[] = POST JSON "Content-Length: 61\r\n\r\n" BODY;
        static struct rig_http c;

        for (size_t n = 0; n < sizeof(text); n++) {
                struct record request;
                uint64_t req_id;

                rig_http_connect(&rig, &c);
                ck_assert_int_eq(send(c.fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
                if (n % 2)
                        rig_settle(&rig);
                close(c.fd);
                rig_settle(&rig);
                while (rig_take(&rig, 0, &request, &req_id))
                        rig_error(&rig, 0, rig_response(&rig, 0, req_id, &request), 1,
                                        MR_E_cancelled);
        }
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->conns.n[SURFACE_HTTP], 2);
        ck_assert_uint_eq(rig.gw->readers.n, 0);
        ck_assert_uint_eq(rig.gw->conns.large_bytes, 0);
}
END_TEST

static Suite *suite(void) {
        const int n_shapes = sizeof(shapes) / sizeof(shapes[0]);
        Suite *s = suite_create("gateway http");
        TCase *refusals = tcase_create("refusals"), *answers = tcase_create("answers");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_set_timeout(refusals, 60);
        tcase_add_loop_test(refusals,
                        what_can_be_understood_in_two_ways_is_refused_and_the_connection_ends, 0,
                        n_shapes);
        tcase_add_loop_test(
                        refusals, it_is_refused_as_well_when_it_comes_byte_by_byte, 0, n_shapes);
        tcase_add_test(refusals, a_head_larger_than_64_kib_is_431);
        tcase_add_test(refusals, a_head_that_comes_too_slowly_is_408);
        tcase_add_test(refusals, a_body_that_comes_too_slowly_is_408);
        tcase_add_test(refusals, other_paths_and_methods_are_told_so_and_the_connection_goes_on);
        tcase_add_test(refusals, options_tells_the_methods_of_a_path_and_of_all);
        tcase_add_test(refusals, a_request_id_that_is_not_printable_or_too_long_is_replaced);
        tcase_add_test(refusals, a_bad_header_of_ours_is_named);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(answers, setup, teardown);
        tcase_set_timeout(answers, 60);
        tcase_add_test(answers, a_unary_answer_has_everything_in_one_piece);
        tcase_add_test(answers, a_stream_comes_in_events_and_ends_whole);
        tcase_add_test(answers, a_stream_that_breaks_says_so_and_does_not_end_whole);
        tcase_add_test(answers, an_error_before_the_first_token_is_a_status);
        tcase_add_test(answers, c14_silence_is_filled_with_comments_and_then_a_failure_is_an_event);
        tcase_add_test(answers, a_unary_answer_is_waited_for_without_a_word);
        tcase_add_test(answers, c1_a_reader_that_fell_behind_gets_everything_in_fewer_chunks);
        tcase_add_test(answers, c2_a_reader_that_the_log_left_behind_is_cut_with_an_error);
        tcase_add_test(answers,
                        c21_what_waits_at_the_door_is_sent_on_as_it_came_and_scanned_once);
        tcase_add_test(answers, requests_in_one_piece_are_answered_in_their_order);
        tcase_add_test(answers, a_chunked_body_is_a_body);
        tcase_add_test(answers, who_expects_to_be_told_to_go_on_is_told);
        tcase_add_test(answers, http_1_0_gets_neither_chunks_nor_more_than_it_asked_for);
        tcase_add_loop_test(answers,
                        c5_c6_a_client_that_is_gone_is_noticed_at_once_unary_and_streaming, 0, 8);
        tcase_add_test(answers, an_abort_at_every_byte_leaves_nothing_behind);
        suite_add_tcase(s, answers);
        return s;
}

int main(void) {
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
