/*
 * libmillrace against a daemon that says what the test wants: what connecting refuses, what each
 * call sends, what each event becomes, and what hostile or broken bytes do.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "fake_daemon.h"

#define SOON_MS                                                                                    \
        20 /* for what must not come: only makes a wrong test pass late, never a right one fail */
#define COMES_MS 60000

static struct fake fake;
static struct millrace *m;
static struct millrace_event ev;

static void setup(void) {
        fake_open(&fake);
        m = fake_client(&fake);
        memset(&ev, 0, sizeof(ev));
}

static void teardown(void) {
        millrace_close(m);
        m = NULL;
        fake_close(&fake);
}

/* ---- connecting ---------------------------------------------------------------------------- */

START_TEST(connect_refuses_a_path_that_no_socket_address_holds) {
        char path[200];
        struct millrace *none = NULL;

        memset(path, 'x', sizeof(path));
        path[0] = '/';
        path[sizeof(path) - 1] = '\0';
        ck_assert_int_eq(millrace_connect(&none, path), -ENAMETOOLONG);
        ck_assert_int_eq(setenv("MILLRACE_SOCKET", path, 1), 0);
        ck_assert_int_eq(millrace_connect(&none, NULL), -ENAMETOOLONG);
        ck_assert_ptr_null(none);
}
END_TEST

START_TEST(connect_says_that_no_daemon_is_there) {
        char dir[] = "/tmp/millrace-client-XXXXXX", path[64];
        struct millrace *none = NULL;
        FILE *file;

        ck_assert_ptr_nonnull(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/m.sock", dir);
        ck_assert_int_eq(millrace_connect(&none, path), MILLRACE_E_UNREACHABLE);
        file = fopen(path, "w"); /* a file that is no socket */
        ck_assert_ptr_nonnull(file);
        fclose(file);
        ck_assert_int_eq(millrace_connect(&none, path), MILLRACE_E_UNREACHABLE);
        ck_assert_ptr_null(none);
        unlink(path);
        rmdir(dir);
}
END_TEST

START_TEST(default_path_refuses_a_buffer_that_is_too_small) {
        char path[8];

        setenv("MILLRACE_SOCKET", "/run/m.sock", 1);
        ck_assert_int_eq(millrace_default_socket(path, sizeof(path)), -ENAMETOOLONG);
}
END_TEST

START_TEST(default_path_follows_the_environment) {
        char path[128], expected[128];

        setenv("MILLRACE_SOCKET", "/run/m.sock", 1);
        setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
        ck_assert_int_eq(millrace_default_socket(path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/run/m.sock");
        setenv("MILLRACE_SOCKET", "", 1);
        ck_assert_int_eq(millrace_default_socket(path, sizeof(path)), 0);
        ck_assert_str_eq(path, "/run/user/7/millrace/millrace.sock");
        unsetenv("XDG_RUNTIME_DIR");
        unsetenv("MILLRACE_SOCKET");
        snprintf(expected, sizeof(expected), "/tmp/millrace-%u/millrace.sock", (unsigned)getuid());
        millrace_default_socket(path, sizeof(path));
        ck_assert_str_eq(path, expected);
}
END_TEST

START_TEST(default_path_in_a_folder_of_somebody_else_is_refused) {
        char dir[64], path[128];
        struct millrace *none = NULL;
        const uid_t other = 54321;

        if (getuid() != 0)
                return; /* only root can play two users */
        snprintf(dir, sizeof(dir), "/tmp/millrace-%u", (unsigned)other);
        ck_assert_int_eq(mkdir(dir, 0755), 0); /* of root, where the user's own would be */
        unsetenv("XDG_RUNTIME_DIR");
        unsetenv("MILLRACE_SOCKET");
        ck_assert_int_eq(setresuid(other, other, 0), 0);
        int by_name = millrace_default_socket(path, sizeof(path));
        int by_connect = millrace_connect(&none, NULL);
        ck_assert_int_eq(setresuid(0, 0, 0), 0);
        rmdir(dir);
        ck_assert_int_eq(by_name, -EPERM);
        ck_assert_int_eq(by_connect, -EPERM);
        ck_assert_str_eq(path, "/tmp/millrace-54321/millrace.sock"); /* for the message */
}
END_TEST

START_TEST(every_status_has_words) {
        const int all[] = {0, MILLRACE_E_TIMEOUT, MILLRACE_E_CLOSED, MILLRACE_E_UNREACHABLE,
                        MILLRACE_E_PROTOCOL, -EINVAL, -ENOMEM};
        const size_t n = sizeof(all) / sizeof(all[0]);

        for (size_t i = 0; i < n; i++)
                for (size_t k = i + 1; k < n; k++)
                        ck_assert_str_ne(millrace_strerror(all[i]), millrace_strerror(all[k]));
}
END_TEST

/* ---- what is sent -------------------------------------------------------------------------- */

START_TEST(submit_refuses_neither_and_both_of_prompt_and_body) {
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.model = "x"}, NULL),
                        -EINVAL);
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.prompt = "x", .body = "{}"},
                                         NULL),
                        -EINVAL);
        ck_assert_int_eq(millrace_ping(m), 0); /* and nothing went out before it */
        fake_expect_str(fake_hear(&fake), "op", "ping");
}
END_TEST

START_TEST(ids_that_are_too_long_or_missing_are_refused) {
        char id[MILLRACE_ID_MAX + 2], back[MILLRACE_ID_MAX + 1] = "untouched";

        memset(id, 'i', sizeof(id));
        id[MILLRACE_ID_MAX + 1] = '\0';
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.prompt = "x", .id = id},
                                         back),
                        -EINVAL);
        ck_assert_str_eq(back, "untouched");
        ck_assert_int_eq(millrace_attach(m, id, 0), -EINVAL);
        ck_assert_int_eq(millrace_cancel(m, id), -EINVAL);
        ck_assert_int_eq(millrace_result(m, id), -EINVAL);
        ck_assert_int_eq(millrace_result(m, NULL), -EINVAL);
        id[MILLRACE_ID_MAX] = '\0';
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.prompt = "x", .id = id},
                                         back),
                        0);
        ck_assert_str_eq(back, id);
        fake_expect_str(fake_hear(&fake), "id", id);
}
END_TEST

START_TEST(submit_of_a_prompt_sends_only_what_was_given) {
        char back[MILLRACE_ID_MAX + 1] = "old";
        const msgpack_object *o;

        ck_assert_int_eq(
                        millrace_submit(m, &(struct millrace_request){.prompt = "What?"}, back), 0);
        ck_assert_str_eq(back, "");
        o = fake_hear(&fake);
        ck_assert_uint_eq(o->via.map.size, 2);
        fake_expect_str(o, "op", "submit");
        fake_expect_str(o, "prompt", "What?");
}
END_TEST

START_TEST(submit_sends_every_field) {
        const char *const vars[] = {"a=1", "b=x=y", "c", NULL};
        const struct millrace_request request = {.id = "i",
                        .prompt = "p",
                        .session = "s",
                        .model = "m",
                        .system = "y",
                        .template_name = "t",
                        .vars = vars,
                        .priority = "bulk",
                        .deadline_ms = 1500,
                        .rag = -1,
                        .detach = 1,
                        .unary = 1};
        const msgpack_object *o, *map;

        ck_assert_int_eq(millrace_submit(m, &request, NULL), 0);
        o = fake_hear(&fake);
        ck_assert_uint_eq(o->via.map.size, 13); /* op, and all but body */
        fake_expect_str(o, "id", "i");
        fake_expect_str(o, "session", "s");
        fake_expect_str(o, "model", "m");
        fake_expect_str(o, "system", "y");
        fake_expect_str(o, "template", "t");
        fake_expect_str(o, "priority", "bulk");
        ck_assert_uint_eq(fake_member(o, "deadline_ms")->via.u64, 1500);
        ck_assert(!fake_member(o, "rag")->via.boolean);
        ck_assert(fake_member(o, "detach")->via.boolean);
        ck_assert(!fake_member(o, "stream")->via.boolean);
        map = fake_member(o, "vars");
        fake_expect_str(map, "a", "1");
        fake_expect_str(map, "b", "x=y");
        fake_expect_str(map, "c", "");
}
END_TEST

START_TEST(bodies_go_out_byte_for_byte) {
        const char body[] = "{ \"messages\" :\0[]}";
        const msgpack_object *o;

        ck_assert_int_eq(millrace_submit(m,
                                         &(struct millrace_request){.body = body,
                                                         .body_len = sizeof(body) - 1},
                                         NULL),
                        0);
        o = fake_member(fake_hear(&fake), "body");
        ck_assert_int_eq(o->type, MSGPACK_OBJECT_BIN);
        ck_assert_uint_eq(o->via.bin.size, sizeof(body) - 1);
        ck_assert_int_eq(memcmp(o->via.bin.ptr, body, sizeof(body) - 1), 0);
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.body = "{}", .rag = 1},
                                         NULL),
                        0);
        o = fake_hear(&fake);
        fake_expect_str(o, "body", "{}"); /* body_len 0: as long as the string */
        ck_assert(fake_member(o, "rag")->via.boolean);
}
END_TEST

START_TEST(operations_on_a_request_name_it) {
        const msgpack_object *o;

        ck_assert_int_eq(millrace_attach(m, "a", 7), 0);
        ck_assert_int_eq(millrace_cancel(m, "c"), 0);
        ck_assert_int_eq(millrace_result(m, "r"), 0);
        o = fake_hear(&fake);
        fake_expect_str(o, "op", "attach");
        fake_expect_str(o, "id", "a");
        ck_assert_uint_eq(fake_member(o, "after")->via.u64, 7);
        o = fake_hear(&fake);
        fake_expect_str(o, "op", "cancel");
        fake_expect_str(o, "id", "c");
        o = fake_hear(&fake);
        fake_expect_str(o, "op", "result");
        fake_expect_str(o, "id", "r");
        ck_assert_ptr_null(fake_member(o, "after"));
}
END_TEST

static void *hear_one(void *arg) {
        const msgpack_object *body = fake_member(fake_hear(arg), "body");

        return (void *)(uintptr_t)(body ? body->via.bin.size : 0);
}

START_TEST(frames_larger_than_the_socket_takes_at_once_arrive_whole) {
        const size_t n = 8u << 20;
        char *body = malloc(n);
        pthread_t thread;
        void *heard;

        memset(body, ' ', n);
        ck_assert_int_eq(pthread_create(&thread, NULL, hear_one, &fake), 0);
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.body = body, .body_len = n},
                                         NULL),
                        0);
        pthread_join(thread, &heard);
        ck_assert_uint_eq((uintptr_t)heard, n);
        free(body);
}
END_TEST

START_TEST(sending_to_a_daemon_that_is_gone_says_closed) {
        fake_hang_up(&fake);
        ck_assert_int_eq(millrace_ping(m), MILLRACE_E_CLOSED);
        ck_assert_int_eq(millrace_submit(m, &(struct millrace_request){.prompt = "x"}, NULL),
                        MILLRACE_E_CLOSED);
}
END_TEST

/* ---- what comes: refusals ------------------------------------------------------------------ */

static void expect_protocol_error(void) {
        ev.seq = 4711;
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), MILLRACE_E_PROTOCOL);
        ck_assert_uint_eq(ev.seq, 4711); /* untouched */
}

START_TEST(nothing_within_the_time_is_a_timeout) {
        ck_assert_int_eq(millrace_next(m, 0, &ev), MILLRACE_E_TIMEOUT);
        ck_assert_int_eq(millrace_next(m, SOON_MS, &ev), MILLRACE_E_TIMEOUT);
}
END_TEST

static const struct {
        const char *what;
        const char *bytes;
        size_t n;
} broken[] = {
                {"a byte that msgpack never uses", "\xc1", 1},
                {"an array that claims four thousand million items", "\xdd\xff\xff\xff\xff", 5},
                {"a map that claims four thousand million members", "\xdf\xff\xff\xff\xff", 5},
                {"a text that claims four gigabytes", "\xdb\xff\xff\xff\xff", 5},
                {"forty maps, one in the other",
                                "\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x"
                                "\x81\xa1x"
                                "\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x"
                                "\x81\xa1x"
                                "\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x"
                                "\x81\xa1x"
                                "\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x"
                                "\x81\xa1x"
                                "\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x\x81\xa1x"
                                "\x81\xa1x",
                                120},
};

START_TEST(bytes_that_cannot_be_an_event_end_the_connection_for_good) {
        fake_say(&fake, broken[_i].bytes, broken[_i].n);
        expect_protocol_error();
        fake_map(&fake, "pong", 0); /* where it would begin nobody can know */
        fake_send(&fake);
        expect_protocol_error();
}
END_TEST

START_TEST(values_that_are_no_event_are_refused_one_by_one) {
        static const char values[] = "\x93\x01\x02\x03"
                                     "\xc0"
                                     "\x80"
                                     "\x81\xa2"
                                     "ev\x05";

        fake_say(&fake, values, sizeof(values) - 1);
        for (int i = 0; i < 4; i++)
                expect_protocol_error();
        fake_map(&fake, "dance", 0);
        fake_send(&fake);
        expect_protocol_error();
        fake_map(&fake, "pong", 0); /* the stream is in step all the same */
        fake_send(&fake);
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), 0);
        ck_assert_int_eq(ev.kind, MILLRACE_PONG);
}
END_TEST

START_TEST(an_event_that_never_ends_is_given_up) {
        static char items[1 << 16]; /* ...each of them small, and together too large */
        const uint8_t head[] = {0xdd, 0x00, 0x80, 0x00, 0x00}; /* eight million items... */
        int r = MILLRACE_E_TIMEOUT;

        for (size_t i = 0; i < sizeof(items); i += 16)
                items[i] = '\xaf'; /* a text of 15 bytes */
        fake_say(&fake, head, sizeof(head));
        for (int i = 0; i < 2048 && r == MILLRACE_E_TIMEOUT; i++) {
                r = millrace_next(m, 0, &ev);
                if (r == MILLRACE_E_TIMEOUT)
                        fake_say(&fake, items, sizeof(items));
        }
        ck_assert_int_eq(r, MILLRACE_E_PROTOCOL);
}
END_TEST

START_TEST(fields_of_wrong_types_read_as_absent) {
        fake_map(&fake, "delta", 5);
        fake_number(&fake, "id", 5);
        fake_str(&fake, "seq", "1");
        fake_number(&fake, "text", 9);
        fake_number(&fake, "sources", 3);
        fake_str(&fake, "usage", "much");
        fake_send(&fake);
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), 0);
        ck_assert_str_eq(ev.id, "");
        ck_assert_uint_eq(ev.seq, 0);
        ck_assert_ptr_null(ev.text);
        ck_assert_uint_eq(ev.text_len, 0);
        ck_assert_uint_eq(ev.n_sources, 0);
        ck_assert_uint_eq(ev.total_tokens, 0);
}
END_TEST

START_TEST(closed_connection_is_told_after_what_came_before) {
        fake_map(&fake, "pong", 0);
        fake_send(&fake);
        fake_say(&fake, "\x82\xa2", 2); /* half an event */
        fake_hang_up(&fake);
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), 0);
        ck_assert_int_eq(ev.kind, MILLRACE_PONG);
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), MILLRACE_E_CLOSED);
        ck_assert_int_eq(millrace_next(m, 0, &ev), MILLRACE_E_CLOSED);
}
END_TEST

static void on_alarm(int signal) {
        (void)signal;
}

START_TEST(signal_ends_the_wait) {
        const struct sigaction action = {.sa_handler = on_alarm};
        const struct itimerval soon = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000};
        const struct itimerval never = {0};

        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &soon, NULL);
        int r = millrace_next(m, COMES_MS, &ev);
        setitimer(ITIMER_REAL, &never, NULL);
        ck_assert_int_eq(r, -EINTR);
}
END_TEST

static void *drip(void *arg) {
        struct fake *f = arg;

        for (size_t i = 0; i < f->frame.size; i++) {
                fake_say(f, f->frame.data + i, 1);
                usleep(10000);
        }
        return NULL;
}

START_TEST(timeout_is_for_the_event_and_not_for_each_piece_of_it) {
        pthread_t thread;

        fake_map(&fake, "delta", 1);
        fake_str(&fake, "text",
                        "a text of some length, so that it takes its second and more to drip, "
                        "each of its bytes well within the time that the whole has to come");
        ck_assert_int_eq(pthread_create(&thread, NULL, drip, &fake), 0);
        ck_assert_int_eq(millrace_next(m, 200, &ev), MILLRACE_E_TIMEOUT);
        pthread_join(thread, NULL);
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), 0); /* and nothing was lost by it */
        ck_assert_int_eq(ev.kind, MILLRACE_DELTA);
}
END_TEST

/* ---- what comes: each kind ----------------------------------------------------------------- */

static void next(enum millrace_event_kind kind) {
        ck_assert_int_eq(millrace_next(m, COMES_MS, &ev), 0);
        ck_assert_int_eq(ev.kind, kind);
        ck_assert_uint_eq(ev.raw_len, fake.frame.size);
        ck_assert_int_eq(memcmp(ev.raw, fake.frame.data, ev.raw_len), 0);
}

START_TEST(accepted_has_the_id_and_the_lane) {
        fake_map(&fake, "accepted", 2);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "lane", 3);
        fake_send(&fake);
        next(MILLRACE_ACCEPTED);
        ck_assert_str_eq(ev.id, "r1");
        ck_assert_uint_eq(ev.lane, 3);
        ck_assert_uint_eq(ev.seq, 0);
}
END_TEST

START_TEST(deltas_have_their_text_and_what_they_cover) {
        fake_map(&fake, "delta", 6);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "seq", 5);
        fake_number(&fake, "first", 3);
        fake_str(&fake, "text", "h\xc3\xa9");
        fake_number(&fake, "choice", 1);
        fake_str(&fake, "kind", "reasoning");
        fake_send(&fake);
        next(MILLRACE_DELTA);
        ck_assert_uint_eq(ev.seq, 5);
        ck_assert_uint_eq(ev.first, 3);
        ck_assert_str_eq(ev.text, "h\xc3\xa9");
        ck_assert_uint_eq(ev.text_len, 3);
        ck_assert_uint_eq(ev.choice, 1);
        ck_assert_str_eq(ev.delta_kind, "reasoning");
        fake_map(&fake, "delta", 3);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "seq", 6);
        fake_str(&fake, "text", "");
        fake_send(&fake);
        next(MILLRACE_DELTA);
        ck_assert_uint_eq(ev.first, 6);
        ck_assert_ptr_null(ev.delta_kind);
        ck_assert_str_eq(ev.text, "");
}
END_TEST

static void put_source(uint64_t n, const char *id, bool cited) {
        msgpack_pack_map(&fake.pk, 7);
        fake_number(&fake, "n", n);
        fake_str(&fake, "id", id);
        fake_str(&fake, "title", "T");
        fake_key(&fake, "url");
        msgpack_pack_nil(&fake.pk);
        fake_number(&fake, "start", 10);
        fake_number(&fake, "end", 20);
        fake_key(&fake, "cited");
        if (cited)
                msgpack_pack_true(&fake.pk);
        else
                msgpack_pack_false(&fake.pk);
}

START_TEST(done_has_reason_usage_and_sources) {
        fake_map(&fake, "done", 5);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "seq", 9);
        fake_str(&fake, "finish_reason", "stop");
        fake_key(&fake, "usage");
        msgpack_pack_map(&fake.pk, 3);
        fake_number(&fake, "prompt_tokens", 11);
        fake_number(&fake, "completion_tokens", 22);
        fake_number(&fake, "total_tokens", 33);
        fake_key(&fake, "sources");
        msgpack_pack_array(&fake.pk, 2);
        put_source(1, "a.md", true);
        put_source(2, "b.md", false);
        fake_send(&fake);
        next(MILLRACE_DONE);
        ck_assert_str_eq(ev.finish_reason, "stop");
        ck_assert_uint_eq(ev.prompt_tokens, 11);
        ck_assert_uint_eq(ev.completion_tokens, 22);
        ck_assert_uint_eq(ev.total_tokens, 33);
        ck_assert_uint_eq(ev.n_sources, 2);
        ck_assert_str_eq(ev.sources[0].id, "a.md");
        ck_assert_str_eq(ev.sources[0].title, "T");
        ck_assert_str_eq(ev.sources[0].url, "");
        ck_assert_uint_eq(ev.sources[0].start, 10);
        ck_assert_uint_eq(ev.sources[0].end, 20);
        ck_assert_int_eq(ev.sources[0].cited, 1);
        ck_assert_str_eq(ev.sources[1].id, "b.md");
        ck_assert_int_eq(ev.sources[1].cited, 0);
}
END_TEST

START_TEST(more_sources_than_there_is_room_for_are_cut_off) {
        fake_map(&fake, "done", 1);
        fake_key(&fake, "sources");
        msgpack_pack_array(&fake.pk, 300);
        for (uint64_t i = 0; i < 300; i++)
                put_source(i + 1, "x", false);
        fake_send(&fake);
        next(MILLRACE_DONE);
        ck_assert_uint_eq(ev.n_sources, 128);
        ck_assert_uint_eq(ev.sources[127].n, 128);
}
END_TEST

static void put_error(void) {
        fake_str(&fake, "code", "overloaded");
        fake_number(&fake, "status", 503);
        fake_str(&fake, "message", "no room now");
        fake_number(&fake, "retry_after_ms", 250);
        fake_key(&fake, "retryable");
        msgpack_pack_true(&fake.pk);
}

static void expect_error(void) {
        ck_assert_str_eq(ev.code, "overloaded");
        ck_assert_uint_eq(ev.status, 503);
        ck_assert_str_eq(ev.message, "no room now");
        ck_assert_int_eq(ev.retryable, 1);
        ck_assert_int_eq(ev.retry_after_ms, 250);
}

START_TEST(errors_end_a_request_or_refuse_an_operation) {
        fake_map(&fake, "error", 7);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "seq", 3);
        put_error();
        fake_send(&fake);
        next(MILLRACE_ERROR);
        expect_error();
        ck_assert_uint_eq(ev.seq, 3);
        fake_map(&fake, "error", 2);
        fake_str(&fake, "code", "invalid_request");
        fake_key(&fake, "retry_after_ms");
        msgpack_pack_nil(&fake.pk);
        fake_send(&fake);
        next(MILLRACE_ERROR);
        ck_assert_str_eq(ev.id, "");
        ck_assert_uint_eq(ev.seq, 0);
        ck_assert_ptr_null(ev.message);
        ck_assert_int_eq(ev.retryable, 0);
        ck_assert_int_eq(ev.retry_after_ms, -1);
}
END_TEST

START_TEST(results_have_state_and_text) {
        fake_map(&fake, "result", 5);
        fake_str(&fake, "id", "r1");
        fake_str(&fake, "status", "completed");
        fake_str(&fake, "text", "42");
        fake_str(&fake, "finish_reason", "length");
        fake_key(&fake, "error");
        msgpack_pack_nil(&fake.pk);
        fake_send(&fake);
        next(MILLRACE_RESULT);
        ck_assert_str_eq(ev.state, "completed");
        ck_assert_str_eq(ev.text, "42");
        ck_assert_str_eq(ev.finish_reason, "length");
        ck_assert_ptr_null(ev.code);
        ck_assert_uint_eq(ev.status, 0);
}
END_TEST

START_TEST(results_of_failed_requests_have_their_error) {
        fake_map(&fake, "result", 3);
        fake_str(&fake, "id", "r1");
        fake_str(&fake, "status", "failed");
        fake_key(&fake, "error");
        msgpack_pack_map(&fake.pk, 5);
        put_error();
        fake_send(&fake);
        next(MILLRACE_RESULT);
        ck_assert_str_eq(ev.state, "failed");
        expect_error();
}
END_TEST

START_TEST(cancelled_and_pong_are_answers) {
        fake_map(&fake, "cancelled", 1);
        fake_str(&fake, "id", "r1");
        fake_send(&fake);
        next(MILLRACE_CANCELLED);
        ck_assert_str_eq(ev.id, "r1");
        fake_map(&fake, "pong", 0);
        fake_send(&fake);
        next(MILLRACE_PONG);
}
END_TEST

START_TEST(unknown_members_and_nil_are_passed_over) {
        fake_map(&fake, "delta", 4);
        fake_str(&fake, "future", "x");
        fake_key(&fake, "kind");
        msgpack_pack_nil(&fake.pk);
        msgpack_pack_uint64(&fake.pk, 7); /* a key that is no text */
        msgpack_pack_true(&fake.pk);
        fake_str(&fake, "text", "t");
        fake_send(&fake);
        next(MILLRACE_DELTA);
        ck_assert_str_eq(ev.text, "t");
        ck_assert_ptr_null(ev.delta_kind);
}
END_TEST

/* ---- what comes: pieces -------------------------------------------------------------------- */

START_TEST(event_in_single_bytes_is_an_event) {
        fake_map(&fake, "delta", 3);
        fake_str(&fake, "id", "r1");
        fake_number(&fake, "seq", 1000000);
        fake_str(&fake, "text", "byte by byte");
        for (size_t i = 0; i < fake.frame.size; i++) {
                ck_assert_int_eq(millrace_next(m, 0, &ev), MILLRACE_E_TIMEOUT);
                fake_say(&fake, fake.frame.data + i, 1);
        }
        next(MILLRACE_DELTA);
        ck_assert_str_eq(ev.text, "byte by byte");
}
END_TEST

START_TEST(events_in_one_piece_come_one_after_the_other) {
        char bytes[4096];
        size_t n = 0;

        for (uint64_t seq = 1; seq <= 50; seq++) {
                fake_map(&fake, "delta", 2);
                fake_number(&fake, "seq", seq);
                fake_str(&fake, "text", "word ");
                memcpy(bytes + n, fake.frame.data, fake.frame.size);
                n += fake.frame.size;
        }
        fake_say(&fake, bytes, n - 1);
        for (uint64_t seq = 1; seq < 50; seq++) {
                ck_assert_int_eq(millrace_next(m, 0, &ev), 0);
                ck_assert_uint_eq(ev.seq, seq);
                ck_assert_str_eq(ev.text, "word ");
        }
        ck_assert_int_eq(millrace_next(m, 0, &ev), MILLRACE_E_TIMEOUT);
        fake_say(&fake, bytes + n - 1, 1);
        next(MILLRACE_DELTA);
        ck_assert_uint_eq(ev.seq, 50);
}
END_TEST

static void *say_frame(void *arg) {
        struct fake *f = arg;

        for (size_t at = 0; at < f->frame.size;) {
                ssize_t n = send(f->fd, f->frame.data + at, f->frame.size - at, MSG_NOSIGNAL);

                ck_assert_int_gt(n, 0);
                at += (size_t)n;
        }
        return NULL;
}

START_TEST(long_events_arrive_whole) {
        const size_t n = 5u << 20;
        char *text = malloc(n + 1);
        pthread_t thread;

        for (size_t i = 0; i < n; i++)
                text[i] = (char)('a' + i % 23);
        text[n] = '\0';
        fake_map(&fake, "delta", 2);
        fake_number(&fake, "seq", 1);
        fake_str(&fake, "text", text);
        ck_assert_int_eq(pthread_create(&thread, NULL, say_frame, &fake), 0);
        next(MILLRACE_DELTA);
        pthread_join(thread, NULL);
        ck_assert_uint_eq(ev.text_len, n);
        ck_assert_int_eq(memcmp(ev.text, text, n + 1), 0);
        fake_map(&fake, "pong", 0);
        fake_send(&fake);
        next(MILLRACE_PONG);
        free(text);
}
END_TEST

/* ---- */

static TCase *of_connecting(void) {
        TCase *tc = tcase_create("connecting");

        tcase_add_test(tc, connect_refuses_a_path_that_no_socket_address_holds);
        tcase_add_test(tc, connect_says_that_no_daemon_is_there);
        tcase_add_test(tc, default_path_refuses_a_buffer_that_is_too_small);
        tcase_add_test(tc, default_path_follows_the_environment);
        tcase_add_test(tc, default_path_in_a_folder_of_somebody_else_is_refused);
        tcase_add_test(tc, every_status_has_words);
        return tc;
}

static TCase *of_sending(void) {
        TCase *tc = tcase_create("sending");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, submit_refuses_neither_and_both_of_prompt_and_body);
        tcase_add_test(tc, ids_that_are_too_long_or_missing_are_refused);
        tcase_add_test(tc, submit_of_a_prompt_sends_only_what_was_given);
        tcase_add_test(tc, submit_sends_every_field);
        tcase_add_test(tc, bodies_go_out_byte_for_byte);
        tcase_add_test(tc, operations_on_a_request_name_it);
        tcase_add_test(tc, frames_larger_than_the_socket_takes_at_once_arrive_whole);
        tcase_add_test(tc, sending_to_a_daemon_that_is_gone_says_closed);
        return tc;
}

static TCase *of_receiving(void) {
        TCase *tc = tcase_create("receiving");

        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, nothing_within_the_time_is_a_timeout);
        tcase_add_loop_test(tc, bytes_that_cannot_be_an_event_end_the_connection_for_good, 0,
                        (int)(sizeof(broken) / sizeof(broken[0])));
        tcase_add_test(tc, values_that_are_no_event_are_refused_one_by_one);
        tcase_add_test(tc, an_event_that_never_ends_is_given_up);
        tcase_add_test(tc, fields_of_wrong_types_read_as_absent);
        tcase_add_test(tc, closed_connection_is_told_after_what_came_before);
        tcase_add_test(tc, signal_ends_the_wait);
        tcase_add_test(tc, timeout_is_for_the_event_and_not_for_each_piece_of_it);
        tcase_add_test(tc, accepted_has_the_id_and_the_lane);
        tcase_add_test(tc, deltas_have_their_text_and_what_they_cover);
        tcase_add_test(tc, done_has_reason_usage_and_sources);
        tcase_add_test(tc, more_sources_than_there_is_room_for_are_cut_off);
        tcase_add_test(tc, errors_end_a_request_or_refuse_an_operation);
        tcase_add_test(tc, results_have_state_and_text);
        tcase_add_test(tc, results_of_failed_requests_have_their_error);
        tcase_add_test(tc, cancelled_and_pong_are_answers);
        tcase_add_test(tc, unknown_members_and_nil_are_passed_over);
        tcase_add_test(tc, event_in_single_bytes_is_an_event);
        tcase_add_test(tc, events_in_one_piece_come_one_after_the_other);
        tcase_add_test(tc, long_events_arrive_whole);
        return tc;
}

int main(void) {
        Suite *suite = suite_create("libmillrace");
        SRunner *runner;
        int failed;

        suite_add_tcase(suite, of_connecting());
        suite_add_tcase(suite, of_sending());
        suite_add_tcase(suite, of_receiving());
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
