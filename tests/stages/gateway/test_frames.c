#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client a;

static void small_limits(struct settings *s) {
        s->admission.max_body_bytes = 65536;
        s->admission.queue_bytes = 65536;
}

static void setup(void) {
        rig_new(&rig, &(struct rig_setup){
                                      .lanes = 1, .max_in_flight = 8, .settings = small_limits});
        rig_connect(&rig, &a);
}

static void teardown(void) {
        rig_disconnect(&a);
        rig_free(&rig);
}

#define SAY(bytes) rig_send(&a, bytes, sizeof(bytes) - 1)

static void expect_alive(void) {
        rig_say(&a, "op", "ping", NULL);
        rig_expect(&rig, &a, "pong");
}

START_TEST(what_is_no_msgpack_gets_one_error_and_the_connection_closes) {
        SAY("\xc1 hello");
        rig_expect_refusal(&rig, &a, "invalid_request", "not msgpack");
        ck_assert(rig_closed(&rig, &a));
}
END_TEST

START_TEST(what_is_no_map_gets_one_error_and_the_connection_closes) {
        SAY("GET / HTTP/1.1\r\n\r\n"); /* a row of small numbers */
        rig_expect_refusal(&rig, &a, "invalid_request", "expected a map, got an integer");
        ck_assert(rig_closed(&rig, &a));
}
END_TEST

START_TEST(what_is_nested_too_deep_gets_one_error_and_the_connection_closes) {
        uint8_t deep[64];

        memset(deep, 0x91, sizeof(deep)); /* arrays of one */
        rig_send(&a, deep, sizeof(deep));
        rig_expect_refusal(&rig, &a, "invalid_request", "nested deeper than 32");
        ck_assert(rig_closed(&rig, &a));
}
END_TEST

START_TEST(a_key_that_is_no_string_is_named_and_the_connection_goes_on) {
        SAY("\x82\xa2op\xa4ping\x07\x08");
        rig_expect_refusal(&rig, &a, "invalid_request", "key 2 of the map");
        expect_alive();
}
END_TEST

START_TEST(a_frame_over_the_limit_is_skipped_and_the_connection_goes_on) {
        static uint8_t junk[1 << 16];
        const uint8_t head[] = {0x82, 0xa2, 'o', 'p', 0xa6, 's', 'u', 'b', 'm', 'i', 't', 0xa6, 'p',
                        'r', 'o', 'm', 'p', 't', 0xdb, 0x00, 0x10, 0x00,
                        0x00}; /* 1 MiB of prompt */

        rig_send(&a, head, sizeof(head));
        rig_expect_refusal(&rig, &a, "too_large", NULL);
        for (int i = 0; i < 16; i++) {
                rig_send(&a, junk, sizeof(junk));
                rig_settle(&rig);
        }
        expect_alive();
        ck_assert_uint_eq(rig.gw->conns.large_bytes, 0);
}
END_TEST

START_TEST(a_map_that_claims_billions_of_members_closes_the_connection_without_memory) {
        SAY("\xdf\xff\xff\xff\xff\xa2op");
        rig_expect_refusal(&rig, &a, "too_large", "far larger");
        ck_assert(rig_closed(&rig, &a));
        ck_assert_uint_eq(rig.gw->conns.large_bytes, 0);
}
END_TEST

START_TEST(large_frames_of_all_connections_together_are_bounded) {
        static uint8_t junk[120000];
        const uint8_t head[] = {0x82, 0xa2, 'o', 'p', 0xa6, 's', 'u', 'b', 'm', 'i', 't', 0xa6, 'p',
                        'r', 'o', 'm', 'p', 't', 0xdb, 0x00, 0x02, 0x20, 0x00};
        struct rig_client many[8];
        int refused = 0;

        for (int i = 0; i < 8; i++) {
                rig_connect(&rig, &many[i]);
                rig_send(&many[i], head, sizeof(head));
                rig_send(&many[i], junk, sizeof(junk));
                rig_settle(&rig);
        }
        ck_assert_uint_le(rig.gw->conns.large_bytes, rig.gw->conns.total_bytes);
        for (int i = 0; i < 8; i++) {
                const msgpack_object *event = NULL;
                char byte;

                if (recv(many[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
                        event = rig_event(&rig, &many[i]);
                refused += event && rig_is(event, "code", "overloaded");
                rig_disconnect(&many[i]);
        }
        ck_assert_int_gt(refused, 0);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->conns.large_bytes, 0);
        ck_assert_uint_eq(rig.gw->conns.n[SURFACE_SOCKET], 1);
}
END_TEST

START_TEST(frames_may_be_cut_anywhere) {
        static const char frame[] = "\x83\xa2op\xa6submit\xa2id\xa2r1\xa6prompt\xa5hello";
        struct record r;

        for (size_t i = 0; i < sizeof(frame) - 1; i++) {
                rig_send(&a, frame + i, 1);
                rig_settle(&rig);
        }
        rig_expect(&rig, &a, "accepted");
        ck_assert(rig_take(&rig, 0, &r, NULL));
}
END_TEST

START_TEST(many_frames_may_come_at_once) {
        char all[300 * 9];

        for (int i = 0; i < 300; i++)
                memcpy(all + 9 * i, "\x81\xa2op\xa4ping", 9);
        rig_send(&a, all, sizeof(all));
        for (int i = 0; i < 300; i++)
                rig_expect(&rig, &a, "pong");
}
END_TEST

START_TEST(a_client_that_asks_and_never_reads_is_not_read_either) {
        char all[900];
        size_t sent = 0;

        for (int i = 0; i < 100; i++)
                memcpy(all + 9 * i, "\x81\xa2op\xa4ping", 9);
        for (int i = 0; i < 20000; i++) {
                ssize_t n = send(a.fd, all, sizeof(all), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0)
                        break;
                sent += (size_t)n;
                ck_assert_uint_eq((size_t)n % 9, 0);
                rig_settle(&rig);
        }
        ck_assert_uint_lt(sent, 19000u * 900); /* the socket filled up: nobody took it */
        for (struct conn *c = rig.gw->conns.all; c; c = c->next)
                ck_assert_uint_le(c->out[0].cap + c->out[1].cap, 8 * FRAMES_OUT_SOFT);
        for (size_t i = 0; i < sent / 9; i++)
                rig_expect(&rig, &a, "pong");
}
END_TEST

START_TEST(a_large_answer_grows_the_output_and_gives_it_back) {
        static char text[200000];
        struct record request;
        uint64_t req_id;
        uint32_t r;

        memset(text, 'z', sizeof(text) - 1);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        ck_assert(rig_take(&rig, 0, &request, &req_id));
        r = rig_response(&rig, 0, req_id, &request);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, r, 1, text);
        rig_done(&rig, 0, r, 2);
        ck_assert_uint_eq(rig_get(rig_expect(&rig, &a, "delta"), "text")->via.str.size,
                        sizeof(text) - 1);
        rig_expect(&rig, &a, "done");
        rig_settle(&rig);
        ck_assert_uint_le(rig.gw->conns.all->out[0].cap, CONN_OUT);
}
END_TEST

START_TEST(an_abort_at_every_byte_leaves_nothing_behind) {
        static const char frame[] = "\x83\xa2op\xa6submit\xa2id\xa2r1\xa6prompt\xa5hello";

        for (size_t n = 0; n < sizeof(frame); n++) {
                struct rig_client c;

                rig_connect(&rig, &c);
                rig_send(&c, frame, n < sizeof(frame) - 1 ? n : n - 1);
                if (n % 2)
                        rig_settle(&rig);
                rig_disconnect(&c);
                rig_settle(&rig);
        }
        ck_assert_uint_eq(rig.gw->conns.n[SURFACE_SOCKET], 1);
        ck_assert_uint_eq(rig.gw->readers.n, 0);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway frames");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_set_timeout(all, 120);
        tcase_add_test(all, what_is_no_msgpack_gets_one_error_and_the_connection_closes);
        tcase_add_test(all, what_is_no_map_gets_one_error_and_the_connection_closes);
        tcase_add_test(all, what_is_nested_too_deep_gets_one_error_and_the_connection_closes);
        tcase_add_test(all, a_key_that_is_no_string_is_named_and_the_connection_goes_on);
        tcase_add_test(all, a_frame_over_the_limit_is_skipped_and_the_connection_goes_on);
        tcase_add_test(all,
                        a_map_that_claims_billions_of_members_closes_the_connection_without_memory);
        tcase_add_test(all, large_frames_of_all_connections_together_are_bounded);
        tcase_add_test(all, frames_may_be_cut_anywhere);
        tcase_add_test(all, many_frames_may_come_at_once);
        tcase_add_test(all, a_client_that_asks_and_never_reads_is_not_read_either);
        tcase_add_test(all, a_large_answer_grows_the_output_and_gives_it_back);
        tcase_add_test(all, an_abort_at_every_byte_leaves_nothing_behind);
        suite_add_tcase(s, all);
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
