#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/stages/gateway/rig.h"

static struct rig rig;
static struct rig_client a, b;

static void setup_with(const struct rig_setup *setup) {
        rig_new(&rig, setup);
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

static void setup(void) {
        setup_with(&(struct rig_setup){.lanes = 1, .max_in_flight = 4});
}

static void teardown(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

/* Takes the next request of lane 0 and makes its response. */
static uint32_t begin(struct record *request, uint64_t *req_id) {
        ck_assert(rig_take(&rig, 0, request, req_id));
        return rig_response(&rig, 0, *req_id, request);
}

static void expect_delta(struct rig_client *c, const char *id, uint64_t seq, const char *text) {
        const msgpack_object *event = rig_expect(&rig, c, "delta");

        ck_assert(rig_is(event, "id", id));
        ck_assert_uint_eq(rig_u64(event, "seq"), seq);
        ck_assert(rig_is(event, "text", text));
        ck_assert_ptr_null(rig_get(event, "first"));
}

static void expect_done(struct rig_client *c, const char *id, uint64_t seq) {
        const msgpack_object *event = rig_expect(&rig, c, "done");

        ck_assert(rig_is(event, "id", id));
        ck_assert_uint_eq(rig_u64(event, "seq"), seq);
}

static void expect_error(struct rig_client *c, const char *code, uint64_t seq) {
        const msgpack_object *event = rig_expect(&rig, c, "error");

        ck_assert_msg(rig_is(event, "code", code), "expected code %s", code);
        ck_assert_uint_eq(rig_u64(event, "seq"), seq);
}

static void expect_silence(struct rig_client *c) {
        rig_settle(&rig);
        ck_assert_ptr_null(rig_event(&rig, c));
}

/* A whole answer under an id: one word, then done. */
static void answer_one(const char *id, const char *prompt) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", id, "prompt", prompt, NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, r, 1, "word");
        rig_done(&rig, 0, r, 2);
        expect_delta(&a, id, 1, "word");
        expect_done(&a, id, 2);
}

/* ---- refusals ---- */

START_TEST(attach_cancel_and_result_refuse_an_unknown_id) {
        static const char *const ops[] = {"attach", "cancel", "result"};

        for (int i = 0; i < 3; i++) {
                rig_say(&a, "op", ops[i], "id", "nobody", NULL);
                rig_expect_refusal(&rig, &a, "not_found", "id: not known");
        }
}
END_TEST

START_TEST(a_model_that_is_not_served_is_refused) {
        free(rig.w.settings->inference.models.v[0].name);
        rig.w.settings->inference.models.v[0].name = strdup("small");
        rig_say(&a, "op", "submit", "model", "large", "prompt", "x", NULL);
        rig_expect_refusal(&rig, &a, "model_not_found", "large");
        rig_say(&a, "op", "submit", "body",
                        "{\"model\":\"huge\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
                        NULL);
        rig_expect_refusal(&rig, &a, "model_not_found", "huge");
        rig_say(&a, "op", "submit", "model", "small", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
}
END_TEST

START_TEST(the_same_id_with_other_content_is_a_conflict) {
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "one", NULL);
        rig_expect(&rig, &a, "accepted");
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "two", NULL);
        rig_expect_refusal(&rig, &a, "id_conflict", "id");
        rig_say(&b, "op", "submit", "id", "r1", "prompt", "one", "system", "be brief", NULL);
        rig_expect_refusal(&rig, &b, "id_conflict", "id");
}
END_TEST

START_TEST(a_refused_submit_is_not_remembered) {
        rig_say(&a, "op", "submit", "id", "r1", "body", "{}", NULL);
        rig_expect_refusal(&rig, &a, "invalid_request", "messages");
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "now", NULL);
        rig_expect(&rig, &a, "accepted");
}
END_TEST

START_TEST(an_id_of_another_user_is_not_known) {
        struct client *other = ((struct conn *)rig.gw->conns.all)->user;

        answer_one("mine", "x");
        other->tenant_len = (uint32_t)snprintf(
                        other->tenant, sizeof(other->tenant), "uid:12345"); /* the newest one: b */
        rig_say(&b, "op", "attach", "id", "mine", NULL);
        rig_expect_refusal(&rig, &b, "not_found", NULL);
        rig_say(&b, "op", "submit", "id", "mine", "prompt", "another", NULL);
        rig_expect(&rig, &b, "accepted");
}
END_TEST

START_TEST(a_draining_daemon_refuses_submits_and_goes_on_answering) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig.w.draining = true;
        stage_gateway.drain(&rig.w);
        rig_say(&a, "op", "submit", "id", "r2", "prompt", "y", NULL);
        rig_expect_refusal(&rig, &a, "draining", NULL);
        ck_assert(!stage_gateway.drained(&rig.w));
        rig_say(&b, "op", "attach", "id", "r1", NULL);
        rig_say(&b, "op", "ping", NULL);
        rig_expect(&rig, &b, "pong");
        rig_done(&rig, 0, r, 1);
        expect_done(&a, "r1", 1);
        expect_done(&b, "r1", 1);
        rig_settle(&rig);
        ck_assert(stage_gateway.drained(&rig.w));
}
END_TEST

START_TEST(a_second_signal_ends_each_open_answer_with_one_draining_error) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, r, 1, "half");
        expect_delta(&a, "r1", 1, "half");
        rig.w.cut = true;
        expect_error(&a, "draining", 2);
        ck_assert(rig_closed(&rig, &a));
}
END_TEST

/* ---- what comes in goes to the lane ---- */

START_TEST(a_prompt_becomes_a_chat_body_with_its_marks_and_query) {
        struct body_marks marks;
        struct record r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "say \"hi\"", "system", "be kind",
                        "session", "s", "template", "plain", "priority", "bulk", "model", "m",
                        NULL);
        ck_assert(rig_take(&rig, 0, &r, NULL));
        ck_assert_str_eq(strndupa(r.body.p, r.body.n),
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"say \\\"hi\\\"\"}]}");
        ck_assert_str_eq(strndupa(r.query.p, r.query.n), "say \"hi\"");
        ck_assert_str_eq(strndupa(r.system.p, r.system.n), "be kind");
        ck_assert_str_eq(strndupa(r.session.p, r.session.n), "s");
        ck_assert_str_eq(strndupa(r.template.p, r.template.n), "plain");
        ck_assert_str_eq(strndupa(r.model.p, r.model.n), "m");
        ck_assert_str_eq(strndupa(r.id.p, r.id.n), "r1");
        ck_assert_str_eq(strndupa(r.tenant.p, r.tenant.n), "local");
        ck_assert_uint_eq(r.priority, PRIORITY_BULK);
        ck_assert(r.options & OPTION_BODY_BUILT && r.options & OPTION_STREAM);
        ck_assert(!(r.has & HAS(deadline_ns)));
        ck_assert_uint_eq(r.body_len, r.body.n);
        memcpy(&marks, r.marks.p, sizeof(marks));
        ck_assert_uint_eq(marks.n_messages, 1);
        ck_assert_uint_eq(marks.object_end, r.body.n - 1);
        ck_assert_str_eq(strndupa(r.body.p + marks.last_user.off, marks.last_user.len),
                        "\"say \\\"hi\\\"\"");
}
END_TEST

START_TEST(a_body_goes_on_byte_for_byte_inline_or_through_the_arena) {
        char *body = malloc(20001);
        char copy[20000];
        struct arena_ref ref;
        struct record r;
        int n = snprintf(body, 20001, "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"");

        memset(body + n, 'x', 20000 - (size_t)n);
        memcpy(body + 20000 - 8, "\"} ] , }", 8);
        memcpy(body + 20000 - 5, "]  } ", 5);
        body[20000] = 0;
        rig_say(&a, "op", "submit", "id", "small", "body",
                        "{\"a\":1,\"a\":2, \"messages\":[{\"content\":\"q\",\"role\":\"user\"}] }",
                        NULL);
        ck_assert(rig_take(&rig, 0, &r, NULL));
        ck_assert_str_eq(strndupa(r.body.p, r.body.n),
                        "{\"a\":1,\"a\":2, \"messages\":[{\"content\":\"q\",\"role\":\"user\"}] }");
        ck_assert(!(r.options & OPTION_BODY_BUILT));
        rig_say(&a, "op", "submit", "id", "large", "body", body, NULL);
        rig_expect(&rig, &a, "accepted");
        rig_expect(&rig, &a, "accepted");
        ck_assert(rig_take(&rig, 0, &r, NULL));
        ck_assert(!(r.has & HAS(body)) && r.has & HAS(body_off) && r.has & HAS(body_gen));
        ref = (struct arena_ref){.slot = 0,
                        .len = (uint32_t)r.body_len,
                        .off = r.body_off,
                        .gen = r.body_gen};
        ck_assert_uint_eq(r.body_len, 20000);
        ck_assert_int_eq(arena_copy(&rig.view, &ref, 0, 20000, copy), 0);
        ck_assert_mem_eq(copy, body, 20000);
        free(body);
}
END_TEST

START_TEST(the_daemon_makes_ids_with_the_lane_and_random_bits) {
        char first[ADMISSION_ID_MAX];
        const msgpack_object *id;
        struct record r;

        rig_say(&a, "op", "submit", "prompt", "x", NULL);
        id = rig_get(rig_expect(&rig, &a, "accepted"), "id");
        ck_assert_uint_eq(id->via.str.size, 30);
        ck_assert_mem_eq(id->via.str.ptr, "req_00", 6);
        memcpy(first, id->via.str.ptr, 30);
        ck_assert(rig_take(&rig, 0, &r, NULL));
        ck_assert(r.options & OPTION_ID_MADE);
        ck_assert_mem_eq(r.id.p, first, 30);
        rig_say(&a, "op", "submit", "prompt", "x", NULL);
        id = rig_get(rig_expect(&rig, &a, "accepted"), "id");
        ck_assert_mem_ne(id->via.str.ptr, first, 30);
}
END_TEST

START_TEST(accepted_comes_after_the_slot_is_open_and_the_ring_committed) {
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
        ck_assert_uint_eq(atomic_load(&rig.own->slots[0].state), ADMISSION_OPEN);
        ck_assert_uint_eq(atomic_load(&rig.own->slots[0].ring_seq), 1);
        ck_assert_uint_eq(atomic_load(&rig.lane[0].maps[0].prod->head), 2);
        ck_assert_uint_eq(atomic_load(&rig.own->slots[0].req_id), 77ull << 44 | 1);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_admitted), 1);
}
END_TEST

/* ---- what comes out goes to the readers ---- */

START_TEST(events_arrive_in_order_and_the_slot_is_free_at_the_end) {
        struct record request;
        const msgpack_object *event, *usage;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        event = rig_expect(&rig, &a, "accepted");
        ck_assert_uint_eq(rig_u64(event, "lane"), 0);
        rig_delta(&rig, 0, r, 1, "Hello ");
        expect_delta(&a, "r1", 1, "Hello ");
        rig_delta(&rig, 0, r, 2, "world");
        rig_done(&rig, 0, r, 3);
        expect_delta(&a, "r1", 2, "world");
        event = rig_expect(&rig, &a, "done");
        ck_assert_uint_eq(rig_u64(event, "seq"), 3);
        ck_assert(rig_is(event, "finish_reason", "stop"));
        usage = rig_get(event, "usage");
        ck_assert_uint_eq(rig_u64(usage, "total_tokens"), 12);
        ck_assert_uint_eq(rig_u64(rig_get(event, "timing_us"), "rag"), 31);
        ck_assert_uint_eq(atomic_load(&rig.own->slots[0].state), ADMISSION_FREE);
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_COMPLETED]), 1);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_completed), 1);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_admitted), 1);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
        ck_assert_uint_eq(rig.gw->readers.n, 0);
}
END_TEST

START_TEST(sources_tools_and_kinds_reach_the_client_by_name) {
        struct record request,
                        event = {.has = HAS(tool) | HAS(choice) | HAS(delta_kind) | HAS(text),
                                        .choice = 2,
                                        .delta_kind = {"reasoning", 9},
                                        .text = {"hm", 2}};
        static const uint8_t tool[] = "\x81\xa5index\x01";
        static const uint8_t sources[] = "\x91\x97\x01\xa2id\xa5title\xc0\x00\x09\xc3";
        const msgpack_object *got;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        ck_assert_int_eq(record_raw_parse(&rig.decoder, tool, sizeof(tool) - 1, &event.tool), 0);
        rig_log(&rig, 0, r, RECORD_DELTA, 1, &event, 0);
        got = rig_expect(&rig, &a, "delta");
        ck_assert_uint_eq(rig_u64(got, "choice"), 2);
        ck_assert(rig_is(got, "kind", "reasoning"));
        ck_assert_uint_eq(rig_u64(rig_get(got, "tool"), "index"), 1);
        event = (struct record){.has = HAS(sources)};
        ck_assert_int_eq(record_raw_parse(&rig.decoder, sources, sizeof(sources) - 1,
                                         &event.sources),
                        0);
        rig_log(&rig, 0, r, RECORD_DONE, 2, &event, LOG_OUTCOME_DONE);
        got = rig_get(rig_expect(&rig, &a, "done"), "sources");
        ck_assert_uint_eq(got->via.array.size, 1);
        got = &got->via.array.ptr[0];
        ck_assert_uint_eq(rig_u64(got, "n"), 1);
        ck_assert(rig_is(got, "id", "id") && rig_is(got, "title", "title"));
        ck_assert_int_eq(rig_get(got, "url")->type, MSGPACK_OBJECT_NIL);
        ck_assert_uint_eq(rig_u64(got, "end"), 9);
        ck_assert_int_eq(rig_get(got, "cited")->type, MSGPACK_OBJECT_BOOLEAN);
}
END_TEST

START_TEST(the_slot_closes_and_the_arena_is_free_without_any_reader) {
        static char body[9000];
        struct record request;
        uint64_t req_id;
        uint32_t r;

        memset(body, 'x', sizeof(body) - 1);
        rig.w.settings->stream.on_disconnect = SETTINGS_ON_DISCONNECT_DETACH;
        rig_say(&a, "op", "submit", "id", "r1", "prompt", body, NULL);
        r = begin(&request, &req_id);
        ck_assert_uint_gt(rig.gw->arena.used_bytes, 0);
        shutdown(a.fd, SHUT_RDWR);
        rig_settle(&rig);
        rig_error(&rig, 0, r, 1, MR_E_upstream_error);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->arena.used_bytes, 0);
        ck_assert_uint_eq(rig.gw->table.n_open, 0);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_failed), 1);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(missed_notices_are_found_by_the_counter) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig.lane[0].silent = true;
        rig_delta(&rig, 0, r, 1, "one");
        ck_assert(!stage_gateway.may_sleep(&rig.w));
        expect_delta(&a, "r1", 1, "one");
        rig_done(&rig, 0, r, 2);
        expect_done(&a, "r1", 2);
}
END_TEST

START_TEST(two_hundred_answers_are_open_at_once_and_each_is_whole) {
        struct record request;
        uint32_t responses[200];
        uint64_t req_id, next[200];
        char name[24];

        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
        setup_with(&(struct rig_setup){.lanes = 1, .max_in_flight = 256});
        for (int i = 0; i < 200; i++) {
                snprintf(name, sizeof(name), "r%d", i);
                rig_say(&a, "op", "submit", "id", name, "prompt", "x", NULL);
                if (i % 32 == 31) /* records do not wait over channels.rag */
                        rig_settle(&rig);
                responses[i] = begin(&request, &req_id);
                ck_assert_str_eq(strndupa(request.id.p, request.id.n), name);
                next[i] = 1;
        }
        for (int i = 0; i < 200; i++)
                rig_expect(&rig, &a, "accepted");
        for (uint64_t seq = 1; seq <= 3; seq++)
                for (int i = 0; i < 200; i++)
                        if (seq < 3)
                                rig_delta(&rig, 0, responses[i], seq, "t");
                        else
                                rig_done(&rig, 0, responses[i], seq);
        for (int i = 0; i < 600; i++) {
                const msgpack_object *event = rig_event(&rig, &a), *id = rig_get(event, "id");
                int k;

                ck_assert_ptr_nonnull(id);
                sscanf(strndupa(id->via.str.ptr, id->via.str.size), "r%d", &k);
                ck_assert_uint_eq(rig_u64(event, "seq"), next[k]++);
        }
}
END_TEST

/* ---- ids are idempotency keys ---- */

START_TEST(a_second_submit_of_a_running_id_reads_from_the_start_and_runs_nothing) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, r, 1, "one");
        expect_delta(&a, "r1", 1, "one");
        rig_say(&b, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &b, "accepted");
        expect_delta(&b, "r1", 1, "one");
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
        rig_done(&rig, 0, r, 2);
        expect_done(&a, "r1", 2); /* and nothing twice */
        expect_done(&b, "r1", 2);
        ck_assert(!rig_take(&rig, 0, &request, &req_id));
        ck_assert_uint_eq(atomic_load(&rig.own->next_request), 1);
}
END_TEST

START_TEST(a_finished_id_is_replayed) {
        struct record request;

        answer_one("r1", "x");
        rig_say(&b, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &b, "accepted");
        expect_delta(&b, "r1", 1, "word");
        expect_done(&b, "r1", 2);
        ck_assert(!rig_take(&rig, 0, &request, NULL));
        rig_say(&b, "op", "submit", "id", "r1", "prompt", "y", NULL);
        rig_expect_refusal(&rig, &b, "id_conflict", NULL);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->answers.n, 0);
}
END_TEST

START_TEST(after_a_retryable_error_the_id_runs_anew_after_another_it_does_not) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_error(&rig, 0, r, 1, MR_E_worker_restarted);
        expect_error(&a, "worker_restarted", 1);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_error(&rig, 0, r, 1, MR_E_content_filtered);
        expect_error(&a, "content_filtered", 1);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
        expect_error(&a, "content_filtered", 1);
        ck_assert(!rig_take(&rig, 0, &request, NULL));
}
END_TEST

/* ---- attach, cancel, result, stream:false, detach ---- */

static void say_attach(struct rig_client *c, const char *id, uint8_t after) {
        char frame[64];
        int n = snprintf(frame, sizeof(frame),
                        "\x83\xa2op\xa6"
                        "attach\xa2id%c%s\xa5"
                        "after%c",
                        (char)(0xa0 | strlen(id)), id, after ? after : 0x7f);

        if (!after)
                frame[n - 1] = 0;
        rig_send(c, frame, (size_t)n);
}

START_TEST(attach_reads_after_a_number_then_live) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_delta(&rig, 0, r, 1, "one");
        rig_delta(&rig, 0, r, 2, "two");
        rig_settle(&rig);
        say_attach(&b, "r1", 1);
        expect_delta(&b, "r1", 2, "two");
        rig_delta(&rig, 0, r, 3, "three");
        expect_delta(&b, "r1", 3, "three");
        say_attach(&b, "r1", 0); /* it reads already: nothing twice */
        rig_settle(&rig);
        rig_done(&rig, 0, r, 4);
        expect_done(&b, "r1", 4);
        say_attach(&b, "r1", 3);
        expect_done(&b, "r1", 4);
}
END_TEST

START_TEST(attach_before_anything_is_logged_passes_over_what_it_has) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        say_attach(&b, "r1", 1);
        rig_settle(&rig);
        rig_delta(&rig, 0, r, 1, "one");
        rig_delta(&rig, 0, r, 2, "two");
        expect_delta(&b, "r1", 2, "two");
}
END_TEST

START_TEST(the_end_ends_also_a_reader_who_asked_for_what_comes_behind_it) {
        struct record request;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_delta(&rig, 0, r, 1, "one");
        rig_settle(&rig);
        say_attach(&b, "r1", 100);
        rig_settle(&rig);
        rig_delta(&rig, 0, r, 2, "two");
        rig_done(&rig, 0, r, 3);
        expect_done(&b, "r1", 3);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->readers.n, 0);
}
END_TEST

START_TEST(an_evicted_answer_is_gone_and_its_id_may_run_anew) {
        struct record request;

        answer_one("r1", "x");
        rig_evict(&rig, 0, 0);
        rig_say(&b, "op", "attach", "id", "r1", NULL);
        rig_expect_refusal(&rig, &b, "gone", NULL);
        rig_say(&b, "op", "result", "id", "r1", NULL);
        rig_expect_refusal(&rig, &b, "gone", NULL);
        rig_say(&b, "op", "cancel", "id", "r1", NULL);
        rig_expect(&rig, &b, "cancelled");
        rig_say(&b, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &b, "accepted");
        ck_assert(rig_take(&rig, 0, &request, NULL));
}
END_TEST

START_TEST(cancel_marks_the_table_and_sends_one_record) {
        struct record request;
        uint64_t req_id, got;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        rig_say(&b, "op", "cancel", "id", "r1", NULL);
        ck_assert(rig_is(rig_expect(&rig, &b, "cancelled"), "id", "r1"));
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_CLIENT);
        ck_assert_uint_eq(got, req_id);
        struct admission_view view;
        uint64_t flags;
        ck_assert_int_eq(admission_view_init(&view, rig.own, admission_bytes(rig.own->n_slots)), 0);
        ck_assert_int_eq(follow_get(&view, req_id, &flags), 0);
        ck_assert(flags & FOLLOW_CANCELLED);
        rig_error(&rig, 0, r, 1, MR_E_cancelled);
        expect_error(&a, "cancelled", 1);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_cancelled), 1);
        rig_say(&b, "op", "cancel", "id", "r1", NULL);
        rig_expect(&rig, &b, "cancelled"); /* of a finished id: the same answer */
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        ck_assert_int_eq(follow_get(&view, req_id, &flags), ADMISSION_E_NONE);
}
END_TEST

START_TEST(a_client_that_is_gone_cancels_what_nobody_else_reads) {
        struct record request;
        uint64_t first, second, got;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        begin(&request, &first);
        rig_say(&a, "op", "submit", "id", "r2", "prompt", "x", NULL);
        begin(&request, &second);
        rig_say(&b, "op", "attach", "id", "r2", NULL);
        rig_settle(&rig);
        shutdown(a.fd, SHUT_RDWR);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_DISCONNECT);
        ck_assert_uint_eq(got, first);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        shutdown(b.fd, SHUT_RDWR);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_DISCONNECT);
        ck_assert_uint_eq(got, second);
}
END_TEST

START_TEST(the_end_of_the_sending_half_only_means_no_more_requests) {
        struct record request;
        uint64_t req_id, got;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        shutdown(a.fd, SHUT_WR);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        rig_delta(&rig, 0, r, 1, "one");
        expect_delta(&a, "r1", 1, "one");
        rig_done(&rig, 0, r, 2);
        expect_done(&a, "r1", 2);
        ck_assert(rig_closed(&rig, &a));
}
END_TEST

START_TEST(a_half_closed_client_that_goes_away_is_noticed) {
        struct record request;
        uint64_t req_id, got;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        shutdown(a.fd, SHUT_WR);
        begin(&request, &req_id);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        shutdown(a.fd, SHUT_RD);
        rig_wait_ms(&rig, 5);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_DISCONNECT);
}
END_TEST

START_TEST(a_detached_request_runs_on_and_its_result_is_kept) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa2r1\xa6prompt\xa1x\xa6"
                                    "detach\xc3";
        struct record request;
        const msgpack_object *event;
        uint64_t req_id, got;
        uint32_t r;

        rig_send(&a, frame, sizeof(frame) - 1);
        r = begin(&request, &req_id);
        ck_assert(request.options & OPTION_DETACH);
        rig_expect(&rig, &a, "accepted");
        rig_say(&b, "op", "result", "id", "r1", NULL);
        ck_assert(rig_is(rig_expect(&rig, &b, "result"), "status", "running"));
        shutdown(a.fd, SHUT_RDWR);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), 0);
        rig_delta(&rig, 0, r, 1, "one ");
        rig_delta(&rig, 0, r, 2, "two");
        rig_done(&rig, 0, r, 3);
        rig_say(&b, "op", "result", "id", "r1", NULL);
        event = rig_expect(&rig, &b, "result");
        ck_assert(rig_is(event, "status", "completed"));
        ck_assert(rig_is(event, "text", "one two"));
        ck_assert(rig_is(event, "finish_reason", "stop"));
        ck_assert_uint_eq(rig_u64(rig_get(event, "usage"), "completion_tokens"), 7);
        ck_assert_int_eq(rig_get(event, "error")->type, MSGPACK_OBJECT_NIL);
        expect_silence(&b);
}
END_TEST

START_TEST(the_result_of_a_failed_and_of_a_queued_request_say_so) {
        struct record request;
        const msgpack_object *event;
        uint64_t req_id;
        uint32_t r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_say(&b, "op", "result", "id", "r1", NULL);
        rig_settle(&rig);
        ck_assert(rig_is(rig_expect(&rig, &b, "result"), "status", "queued"));
        r = begin(&request, &req_id);
        rig_error(&rig, 0, r, 1, MR_E_upstream_error);
        rig_say(&b, "op", "result", "id", "r1", NULL);
        event = rig_expect(&rig, &b, "result");
        ck_assert(rig_is(event, "status", "failed"));
        ck_assert(rig_is(rig_get(event, "error"), "code", "upstream_error"));
        ck_assert(rig_is(rig_get(event, "error"), "message", "it went wrong"));
}
END_TEST

START_TEST(without_streaming_there_is_one_delta_then_done) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa2r1\xa6prompt\xa1x\xa6stream\xc2";
        struct record request;
        const msgpack_object *event;
        uint64_t req_id;
        uint32_t r;

        rig_send(&a, frame, sizeof(frame) - 1);
        r = begin(&request, &req_id);
        rig_expect(&rig, &a, "accepted");
        for (uint64_t i = 1; i <= 500; i++)
                rig_delta(&rig, 0, r, i, "0123456789");
        expect_silence(&a);
        rig_done(&rig, 0, r, 501);
        event = rig_expect(&rig, &a, "delta");
        ck_assert_uint_eq(rig_u64(event, "first"), 1);
        ck_assert_uint_eq(rig_u64(event, "seq"), 500);
        ck_assert_uint_eq(rig_get(event, "text")->via.str.size, 5000);
        expect_done(&a, "r1", 501);
}
END_TEST

START_TEST(a_deadline_is_sent_along_and_enforced) {
        static const char frame[] = "\x84\xa2op\xa6submit\xa2id\xa2r1\xa6prompt\xa1x\xab"
                                    "deadline_ms\x14";
        struct record request;
        uint64_t req_id, got;

        rig_send(&a, frame, sizeof(frame) - 1);
        begin(&request, &req_id);
        ck_assert(request.has & HAS(deadline_ns));
        rig_wait_ms(&rig, 40);
        ck_assert_uint_eq(rig_take_cancel(&rig, 0, &got), CANCEL_DEADLINE);
        ck_assert_uint_eq(got, req_id);
}
END_TEST

/* ---- a slow reader ---- */

START_TEST(a_client_that_does_not_read_only_holds_up_itself) {
        static char text[2000];
        struct record request;
        uint64_t req_id, last = 0, got = 0;
        unsigned n = 0;
        uint32_t r;

        memset(text, 'y', sizeof(text) - 1);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        r = begin(&request, &req_id);
        rig_say(&b, "op", "attach", "id", "r1", NULL);
        for (uint64_t i = 1; i <= 600; i++) {
                rig_delta(&rig, 0, r, i, text);
                ck_assert_uint_eq(rig_u64(rig_expect(&rig, &b, "delta"), "seq"), i);
        }
        rig_done(&rig, 0, r, 601);
        rig_expect(&rig, &b, "done");
        /* Its output is bounded although it has read nothing of 1.2 MB. */
        for (struct conn *c = rig.gw->conns.all; c; c = c->next)
                ck_assert_uint_le(c->out[0].cap + c->out[1].cap, 4 * FRAMES_OUT_SOFT);
        ck_assert_uint_eq(rig.gw->table.n_open, 0); /* and the slot is closed all the same */
        rig_expect(&rig, &a, "accepted");
        /* It gets all of it; what came while it did not read comes in fewer, larger deltas. */
        for (; last < 600; n++) {
                const msgpack_object *delta = rig_expect(&rig, &a, "delta");

                ck_assert_uint_eq(rig_u64(delta, rig_get(delta, "first") ? "first" : "seq"), last + 1);
                got += rig_get(delta, "text")->via.str.size;
                last = rig_u64(delta, "seq");
        }
        ck_assert_uint_eq(got, 600 * (sizeof(text) - 1));
        ck_assert_uint_lt(n, 300);
        rig_expect(&rig, &a, "done");
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway requests");
        TCase *refusals = tcase_create("refusals"), *in = tcase_create("in"),
              *out = tcase_create("out");

        tcase_add_checked_fixture(refusals, setup, teardown);
        tcase_add_test(refusals, attach_cancel_and_result_refuse_an_unknown_id);
        tcase_add_test(refusals, a_model_that_is_not_served_is_refused);
        tcase_add_test(refusals, the_same_id_with_other_content_is_a_conflict);
        tcase_add_test(refusals, a_refused_submit_is_not_remembered);
        tcase_add_test(refusals, an_id_of_another_user_is_not_known);
        tcase_add_test(refusals, a_draining_daemon_refuses_submits_and_goes_on_answering);
        tcase_add_test(refusals, a_second_signal_ends_each_open_answer_with_one_draining_error);
        suite_add_tcase(s, refusals);
        tcase_add_checked_fixture(in, setup, teardown);
        tcase_add_test(in, a_prompt_becomes_a_chat_body_with_its_marks_and_query);
        tcase_add_test(in, a_body_goes_on_byte_for_byte_inline_or_through_the_arena);
        tcase_add_test(in, the_daemon_makes_ids_with_the_lane_and_random_bits);
        tcase_add_test(in, accepted_comes_after_the_slot_is_open_and_the_ring_committed);
        suite_add_tcase(s, in);
        tcase_add_checked_fixture(out, setup, teardown);
        tcase_set_timeout(out, 60);
        tcase_add_test(out, events_arrive_in_order_and_the_slot_is_free_at_the_end);
        tcase_add_test(out, sources_tools_and_kinds_reach_the_client_by_name);
        tcase_add_test(out, the_slot_closes_and_the_arena_is_free_without_any_reader);
        tcase_add_test(out, missed_notices_are_found_by_the_counter);
        tcase_add_test(out, two_hundred_answers_are_open_at_once_and_each_is_whole);
        tcase_add_test(out, a_second_submit_of_a_running_id_reads_from_the_start_and_runs_nothing);
        tcase_add_test(out, a_finished_id_is_replayed);
        tcase_add_test(out, after_a_retryable_error_the_id_runs_anew_after_another_it_does_not);
        tcase_add_test(out, attach_reads_after_a_number_then_live);
        tcase_add_test(out, attach_before_anything_is_logged_passes_over_what_it_has);
        tcase_add_test(out, the_end_ends_also_a_reader_who_asked_for_what_comes_behind_it);
        tcase_add_test(out, an_evicted_answer_is_gone_and_its_id_may_run_anew);
        tcase_add_test(out, cancel_marks_the_table_and_sends_one_record);
        tcase_add_test(out, a_client_that_is_gone_cancels_what_nobody_else_reads);
        tcase_add_test(out, the_end_of_the_sending_half_only_means_no_more_requests);
        tcase_add_test(out, a_half_closed_client_that_goes_away_is_noticed);
        tcase_add_test(out, a_detached_request_runs_on_and_its_result_is_kept);
        tcase_add_test(out, the_result_of_a_failed_and_of_a_queued_request_say_so);
        tcase_add_test(out, without_streaming_there_is_one_delta_then_done);
        tcase_add_test(out, a_deadline_is_sent_along_and_enforced);
        tcase_add_test(out, a_client_that_does_not_read_only_holds_up_itself);
        suite_add_tcase(s, out);
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
