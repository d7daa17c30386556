#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/stages/gateway/rig.h"

#define GRACE_MS 150 /* a busy machine comes back within it */

static struct rig rig;
static struct rig_client a, b;

static void short_grace(struct settings *s) {
        s->stream.gateway_grace_ms = GRACE_MS;
}

static void setup(void) {
        rig_new(&rig, &(struct rig_setup){.lanes = 2, .max_in_flight = 4, .settings = short_grace});
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

static void teardown(void) {
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
}

/* The process dies and is replaced; its clients see their connections end. */
static void die(void) {
        rig_kill(&rig);
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_revive(&rig);
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
}

/* Session "s" of the test, wherever its lane is. */
static uint32_t lane_of(uint64_t *req_id, struct record *request) {
        for (uint32_t lane = 0; lane < 2; lane++)
                if (rig_take(&rig, lane, request, req_id))
                        return lane;
        ck_abort_msg("no request came");
        return 0;
}

START_TEST(keys_files_are_refused_at_the_start) {
        struct settings *s = rig.w.settings;

        rig_kill(&rig);
        s->auth.keys_file = strdup("/etc/keys");
        ck_assert_int_eq(stage_gateway.init(&rig.w), -EINVAL);
        free(s->auth.keys_file);
        s->auth.keys_file = NULL;
        ck_assert_int_eq(loop_new(&rig.w.loop, 8), 0); /* for the teardown */
        ck_assert_int_eq(stage_gateway.init(&rig.w), 0);
        stage_gateway.fini(&rig.w);
        loop_free(rig.w.loop);
        rig_revive(&rig);
}
END_TEST

START_TEST(a_client_that_attaches_after_a_death_reads_the_same_bytes) {
        static const char *const words[] = {"one ", "two ", "three ", "four"};
        msgpack_sbuffer before, after;
        msgpack_packer pk;
        struct record request;
        uint64_t req_id;
        uint32_t lane, r;

        msgpack_sbuffer_init(&before);
        msgpack_sbuffer_init(&after);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        lane = lane_of(&req_id, &request);
        r = rig_response(&rig, lane, req_id, &request);
        rig_expect(&rig, &a, "accepted");
        msgpack_packer_init(&pk, &before, msgpack_sbuffer_write);
        for (uint64_t i = 0; i < 2; i++) {
                rig_delta(&rig, lane, r, i + 1, words[i]);
                msgpack_pack_object(&pk, *rig_expect(&rig, &a, "delta"));
        }
        die();
        ck_assert_uint_eq(rig.gw->table.n_open, 1);
        ck_assert_uint_eq(rig.gw->table.in_flight[lane], 1);
        rig_say(&a, "op", "attach", "id", "r1", NULL);
        msgpack_packer_init(&pk, &after, msgpack_sbuffer_write);
        for (uint64_t i = 0; i < 2; i++)
                msgpack_pack_object(&pk, *rig_expect(&rig, &a, "delta"));
        ck_assert_uint_eq(before.size, after.size);
        ck_assert_mem_eq(before.data, after.data, before.size);
        for (uint64_t i = 2; i < 4; i++) {
                rig_delta(&rig, lane, r, i + 1, words[i]);
                ck_assert(rig_is(rig_expect(&rig, &a, "delta"), "text", words[i]));
        }
        rig_done(&rig, lane, r, 5);
        rig_expect(&rig, &a, "done");
        ck_assert_uint_eq(rig.gw->table.n_open, 0);
        ck_assert_uint_eq(counters_get(rig.w.counters, COUNTER_completed), 1);
        msgpack_sbuffer_destroy(&before);
        msgpack_sbuffer_destroy(&after);
}
END_TEST

START_TEST(what_ended_while_nobody_lived_is_closed_and_counted_once) {
        struct record request;
        uint64_t req_id;
        uint32_t lane, r;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        lane = lane_of(&req_id, &request);
        r = rig_response(&rig, lane, req_id, &request);
        rig_done(&rig, lane, r, 1);
        die();
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->table.n_open, 0);
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_COMPLETED]), 1);
        die();
        rig_settle(&rig);
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_COMPLETED]), 1);
        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
        rig_expect(&rig, &a, "done");
}
END_TEST

START_TEST(clients_that_do_not_come_back_are_cancelled_after_the_grace) {
        static const char detached[] = "\x84\xa2op\xa6submit\xa2id\xa1"
                                       "d\xa6prompt\xa1x\xa6"
                                       "detach\xc3";
        struct record request;
        uint64_t stays, leaves, req_id, got;
        uint32_t lane_stays, lane_leaves, n = 0;

        rig_say(&a, "op", "submit", "id", "stays", "prompt", "x", NULL);
        lane_stays = lane_of(&stays, &request);
        rig_say(&a, "op", "submit", "id", "leaves", "prompt", "x", NULL);
        lane_leaves = lane_of(&leaves, &request);
        rig_send(&a, detached, sizeof(detached) - 1);
        lane_of(&req_id, &request);
        die();
        rig_say(&a, "op", "attach", "id", "stays", NULL);
        rig_settle(&rig);
        for (uint32_t lane = 0; lane < 2; lane++)
                ck_assert_uint_eq(rig_take_cancel(&rig, lane, &got), 0);
        rig_wait_ms(&rig, 2 * GRACE_MS);
        for (uint32_t lane = 0; lane < 2; lane++)
                while (rig_take_cancel(&rig, lane, &got) == CANCEL_DISCONNECT) {
                        ck_assert_uint_eq(got, leaves);
                        n++;
                }
        ck_assert_uint_eq(n, 1);
        (void)lane_stays;
        (void)lane_leaves;
}
END_TEST

START_TEST(a_cancel_mark_survives_and_its_record_is_sent_again) {
        struct record request;
        uint64_t req_id, got;
        uint32_t lane;

        rig_say(&a, "op", "submit", "id", "r1", "prompt", "x", NULL);
        lane = lane_of(&req_id, &request);
        rig_say(&a, "op", "cancel", "id", "r1", NULL);
        ck_assert_uint_eq(rig_take_cancel(&rig, lane, &got), CANCEL_CLIENT);
        die();
        ck_assert_uint_eq(rig_take_cancel(&rig, lane, &got), CANCEL_CLIENT);
        ck_assert_uint_eq(got, req_id);
}
END_TEST

/* As stream takes it for a dead letter. */
static void expect_copy(const struct admission_slot *slot, const char *prompt) {
        static uint8_t bytes[16384];
        struct record record;

        ck_assert_uint_gt(slot->record_len, 0);
        ck_assert_int_eq(arena_copy(&rig.view, &slot->block,
                                         (uint32_t)admission_record_at(slot->body_len),
                                         slot->record_len, bytes),
                        0);
        ck_assert_int_eq(record_decode(&rig.decoder, bytes, slot->record_len, &record), 0);
        ck_assert_uint_eq(record.has & HAS(body) ? 0 : record.body_len, slot->body_len);
        if (slot->body_len) {
                ck_assert_int_eq(arena_copy(&rig.view, &slot->block, 0, slot->body_len, bytes), 0);
                record.body = (struct mr_view){(const char *)bytes, slot->body_len};
        }
        ck_assert_ptr_nonnull(memmem(record.body.p, record.body.n, prompt, strlen(prompt)));
}

START_TEST(an_open_slot_has_the_whole_request_for_a_dead_letter) {
        static char large[9000];
        struct admission_slot *slot = rig.own->slots, copy;

        memset(large, 'y', sizeof(large) - 1);
        rig_say(&a, "op", "submit", "id", "small", "prompt", "few words", "system", "be brief", NULL);
        rig_expect(&rig, &a, "accepted");
        rig_say(&a, "op", "submit", "id", "large", "prompt", large, NULL);
        rig_expect(&rig, &a, "accepted");
        ck_assert_uint_eq(slot[0].body_len, 0);
        expect_copy(&slot[0], "few words");
        ck_assert_uint_gt(slot[1].body_len, 9000);
        expect_copy(&slot[1], large);
        rig_kill(&rig);
        rig_revive(&rig);
        expect_copy(&slot[0], "few words");
        expect_copy(&slot[1], large);
        struct admission_view view;
        ck_assert_int_eq(admission_view_init(&view, rig.own, admission_bytes(rig.own->n_slots)), 0);
        ck_assert_int_eq(admission_find_request(&view, atomic_load(&slot[1].req_id), &copy), 0);
        ck_assert_int_eq(memcmp(copy.id, "large", 5), 0);
        ck_assert_int_eq(admission_find_request(&view, 12345, &copy), ADMISSION_E_NONE);
        atomic_store(&slot[1].state, ADMISSION_CLOSING);
        ck_assert_int_eq(admission_find_request(&view, atomic_load(&slot[1].req_id), &copy),
                        ADMISSION_E_NONE);
}
END_TEST

START_TEST(slots_are_recovered_from_every_state) {
        static char body[9000];
        struct admission_slot *slot = rig.own->slots;
        struct record request;
        uint64_t req_id;
        uint32_t lane;

        memset(body, 'x', sizeof(body) - 1);
        rig_say(&a, "op", "submit", "id", "open", "prompt", body, NULL);
        lane = lane_of(&req_id, &request);
        rig_kill(&rig);
        ck_assert_uint_eq(atomic_load(&slot[0].state), ADMISSION_OPEN);
        /* Killed while it claimed; after it said OPEN, before the commit; and while it closed,
         * before and after the total moved. */
        slot[1] = slot[2] = slot[3] = slot[4] = slot[0];
        atomic_store(&slot[1].state, ADMISSION_CLAIMING);
        atomic_store(&slot[2].req_id, req_id + 100);
        atomic_store(&slot[2].ring_seq, atomic_load(&rig.lane[lane].maps[0].prod->head));
        for (int i = 3; i <= 4; i++) {
                atomic_store(&slot[i].req_id, req_id + 100 + (uint64_t)i);
                atomic_store(&slot[i].outcome, OUTCOME_FAILED);
                atomic_store(&slot[i].state, ADMISSION_CLOSING);
        }
        atomic_store(&slot[3].counted, 1);
        atomic_store(&slot[4].counted, 2);
        atomic_store(&rig.own->total[OUTCOME_FAILED], 1);
        slot[5] = slot[0];
        atomic_store(&slot[5].req_id, req_id + 200);
        slot[5].lane_gen = 99; /* of a lane that was reset */
        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_revive(&rig);
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
        ck_assert_uint_eq(atomic_load(&slot[0].state), ADMISSION_OPEN);
        for (int i = 1; i <= 5; i++)
                ck_assert_uint_eq(atomic_load(&slot[i].state), ADMISSION_FREE);
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_FAILED]), 3);
        ck_assert_uint_eq(rig.gw->table.n_open, 1);
        ck_assert_uint_eq(rig.gw->table.n_free, 7);
        ck_assert_uint_ge(rig.gw->arena.used_bytes, slot[0].block.len);
        struct arena_ref ref = slot[0].block;
        static char copy[32768];
        ck_assert_int_eq(arena_copy(&rig.view, &ref, 0, ref.len, copy), 0);
}
END_TEST

/* ---- another gateway ---- */

static void other_slot(enum admission_state state, const char *id, uint64_t req_id, uint32_t lane,
                const uint64_t digest[2]) {
        struct admission_slot *slot = &rig.other->slots[0];

        slot->id_len = (uint16_t)strlen(id);
        memcpy(slot->id, id, strlen(id));
        slot->tenant_len = 5;
        memcpy(slot->tenant, "local", 5);
        slot->lane = lane;
        slot->digest[0] = digest[0];
        slot->digest[1] = digest[1];
        atomic_store(&slot->id_hash, log_id_hash("local", 5, id, (uint32_t)strlen(id)));
        atomic_store(&slot->req_id, req_id);
        atomic_store(&rig.other->next_request, 1);
        atomic_store(&rig.other->committed[lane], 1); /* its record is in the ring */
        atomic_store(&slot->state, state);
}

/* What a submit of that prompt hashes to. */
static void digest_of(const char *prompt, uint64_t ret[2]) {
        struct record request;
        uint64_t req_id;

        rig_say(&a, "op", "submit", "prompt", prompt, NULL);
        lane_of(&req_id, &request);
        rig_expect(&rig, &a, "accepted");
        ret[0] = request.digest_hi;
        ret[1] = request.digest_lo;
}

START_TEST(a_request_of_another_gateway_is_read_cancelled_and_never_run_twice) {
        struct record request = {.id = {"far", 3}, .tenant = {"local", 5}};
        const uint64_t far = 77ull << 44 | 1ull << 40 | 1;
        uint64_t digest[2], got, flags;
        struct admission_view own;
        uint32_t r;

        digest_of("x", digest);
        request.digest_hi = digest[0];
        request.digest_lo = digest[1];
        other_slot(ADMISSION_OPEN, "far", far, 1, digest);
        rig_say(&a, "op", "submit", "id", "far", "prompt", "y", NULL);
        rig_expect_refusal(&rig, &a, "id_conflict", NULL);
        rig_say(&a, "op", "submit", "id", "far", "prompt", "x", NULL);
        ck_assert_uint_eq(rig_u64(rig_expect(&rig, &a, "accepted"), "lane"), 1);
        ck_assert_int_eq(admission_view_init(&own, rig.own, admission_bytes(rig.own->n_slots)), 0);
        ck_assert_int_eq(follow_get(&own, far, &flags), 0);
        ck_assert(flags & FOLLOW_READ && flags >> 16 == 1);
        rig_say(&b, "op", "cancel", "id", "far", NULL);
        rig_expect(&rig, &b, "cancelled");
        ck_assert_uint_eq(rig_take_cancel(&rig, 1, &got), CANCEL_CLIENT);
        ck_assert_uint_eq(got, far);
        r = rig_response(&rig, 1, far, &request);
        rig_delta(&rig, 1, r, 1, "word");
        rig_expect(&rig, &a, "delta");
        rig_error(&rig, 1, r, 2, MR_E_cancelled);
        rig_expect(&rig, &a, "error");
        rig_settle(&rig);
        ck_assert_int_eq(follow_get(&own, far, &flags), ADMISSION_E_NONE);
        ck_assert_uint_eq(atomic_load(&rig.own->total[OUTCOME_CANCELLED]), 0); /* it counts there */
        for (uint32_t lane = 0; lane < 2; lane++)
                ck_assert(!rig_take(&rig, lane, &request, NULL));
}
END_TEST

START_TEST(a_claim_of_a_higher_gateway_is_waited_for_and_won_when_it_goes) {
        struct record request;
        uint64_t digest[2] = {0}, req_id;

        other_slot(ADMISSION_CLAIMING, "same", 5, 0, digest);
        rig_say(&a, "op", "submit", "id", "same", "prompt", "x", NULL);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        ck_assert_uint_eq(atomic_load(&rig.own->slots[0].state), ADMISSION_CLAIMING);
        atomic_store(&rig.other->slots[0].state, ADMISSION_FREE); /* it withdrew */
        rig_wait_ms(&rig, 15);
        rig_expect(&rig, &a, "accepted");
        lane_of(&req_id, &request);
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

START_TEST(of_two_claims_the_lower_gateway_wins_and_the_other_one_reads_there) {
        struct record request = {.id = {"same", 4}, .tenant = {"local", 5}};
        const uint64_t far = 77ull << 44 | 1;
        uint64_t digest[2];
        uint32_t r;

        rig_disconnect(&a);
        rig_disconnect(&b);
        rig_free(&rig);
        rig_new(&rig, &(struct rig_setup){.lanes = 2, .max_in_flight = 4, .slot = 1});
        rig_connect(&rig, &a);
        rig_connect(&rig, &b);
        digest_of("x", digest);
        other_slot(ADMISSION_CLAIMING, "same", far, 0, digest);
        rig_say(&a, "op", "submit", "id", "same", "prompt", "x", NULL);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        for (uint32_t i = 0; i < rig.own->n_slots; i++)
                ck_assert_uint_ne(atomic_load(&rig.own->slots[i].state), ADMISSION_CLAIMING);
        atomic_store(&rig.other->slots[0].state, ADMISSION_OPEN);
        rig_wait_ms(&rig, 15);
        rig_expect(&rig, &a, "accepted");
        request.digest_hi = digest[0];
        request.digest_lo = digest[1];
        r = rig_response(&rig, 0, far, &request);
        rig_done(&rig, 0, r, 1);
        rig_expect(&rig, &a, "done");
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

START_TEST(a_request_that_another_gateway_has_not_committed_is_nobodys_yet) {
        struct record request;
        uint64_t digest[2], req_id;

        digest_of("x", digest);
        other_slot(ADMISSION_OPEN, "same", 77ull << 44 | 1ull << 40 | 1, 0, digest);
        atomic_store(&rig.other->committed[0], 0); /* and it dies here */
        rig_say(&b, "op", "attach", "id", "same", NULL);
        rig_expect_refusal(&rig, &b, "not_found", NULL);
        rig_say(&a, "op", "submit", "id", "same", "prompt", "x", NULL);
        rig_wait_ms(&rig, 15);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        atomic_store(&rig.other->slots[0].state, ADMISSION_FREE); /* as its successor finds it */
        rig_wait_ms(&rig, 15);
        rig_expect(&rig, &a, "accepted");
        lane_of(&req_id, &request);
        ck_assert_uint_eq(request.id.n, 4);
}
END_TEST

START_TEST(who_claims_an_id_that_has_run_meanwhile_reads_what_it_answered) {
        struct record request = {.id = {"same", 4}, .tenant = {"local", 5}};
        uint64_t digest[2], req_id;
        uint32_t r;

        digest_of("x", digest);
        other_slot(ADMISSION_CLAIMING, "same", 5, 0, digest);
        rig_say(&a, "op", "submit", "id", "same", "prompt", "x", NULL);
        rig_settle(&rig);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        request.digest_hi = digest[0];
        request.digest_lo = digest[1];
        r = rig_response(&rig, 0, 77ull << 44 | 1ull << 40 | 5, &request);
        rig_done(&rig, 0, r, 1);
        atomic_store(&rig.other->slots[0].state, ADMISSION_FREE); /* from beginning to end */
        rig_wait_ms(&rig, 25);
        rig_expect(&rig, &a, "accepted");
        rig_expect(&rig, &a, "done");
        for (uint32_t lane = 0; lane < 2; lane++)
                ck_assert(!rig_take(&rig, lane, &request, &req_id));
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

/* Attached here, held by another gateway, and not in a log yet. */
static uint64_t read_far(void) {
        const uint64_t far = 77ull << 44 | 1ull << 40 | 1;
        uint64_t digest[2];

        digest_of("x", digest);
        other_slot(ADMISSION_OPEN, "far", far, 1, digest);
        rig_say(&a, "op", "attach", "id", "far", NULL);
        rig_settle(&rig);
        rig_say(&b, "op", "ping", NULL);
        rig_expect(&rig, &b, "pong");
        return far;
}

static bool is_cancelled(uint32_t lane, uint64_t req_id) {
        uint64_t got;

        while (rig_take_cancel(&rig, lane, &got) == CANCEL_DISCONNECT)
                if (got == req_id)
                        return true;
        return false;
}

START_TEST(who_alone_read_a_request_elsewhere_and_does_not_come_back_is_its_end) {
        uint64_t far = read_far();

        die();
        rig_wait_ms(&rig, 2 * GRACE_MS);
        ck_assert(is_cancelled(1, far));
}
END_TEST

START_TEST(who_comes_back_through_another_gateway_has_come_back) {
        uint64_t far = read_far();

        ck_assert_int_eq(follow_add(rig.other, far), 0);
        ck_assert_int_eq(follow_mark(rig.other, far, FOLLOW_READ, 1), 0);
        die();
        rig_wait_ms(&rig, 2 * GRACE_MS);
        ck_assert(!is_cancelled(1, far));
}
END_TEST

START_TEST(what_another_gateway_holds_counts_against_the_lane) {
        struct record request;
        uint64_t req_id;
        uint32_t lane;

        for (lane = 0; lane < 2; lane++)
                atomic_store(&rig.other->lane_in_flight[lane], 3);
        rig_say(&a, "op", "submit", "id", "r1", "session", "s", "prompt", "x", NULL);
        rig_say(&a, "op", "submit", "id", "r2", "session", "s", "prompt", "x", NULL);
        rig_expect(&rig, &a, "accepted");
        lane = lane_of(&req_id, &request);
        ck_assert_uint_eq(rig.gw->door.n, 1);
        ck_assert_uint_eq(atomic_load(&rig.own->lane_in_flight[lane]), 1);
        atomic_store(&rig.other->lane_in_flight[lane], 2);
        rig_wait_ms(&rig, 15); /* nobody tells; the door looks again */
        rig_expect(&rig, &a, "accepted");
        ck_assert_uint_eq(rig.gw->door.n, 0);
}
END_TEST

START_TEST(a_session_stays_in_its_lane_and_sessions_spread) {
        uint32_t count[2] = {0};

        for (int i = 0; i < 8; i++) {
                struct record request;
                uint64_t req_id;
                uint32_t lane, again, r;
                char session[16];

                snprintf(session, sizeof(session), "s%d", i);
                rig_say(&a, "op", "submit", "session", session, "prompt", "x", NULL);
                lane = lane_of(&req_id, &request);
                r = rig_response(&rig, lane, req_id, &request);
                rig_done(&rig, lane, r, 1);
                rig_settle(&rig);
                rig_say(&a, "op", "submit", "session", session, "prompt", "y", NULL);
                again = lane_of(&req_id, &request);
                r = rig_response(&rig, again, req_id, &request);
                rig_done(&rig, again, r, 1);
                rig_settle(&rig);
                ck_assert_uint_eq(lane, again);
                count[lane]++;
        }
        ck_assert_uint_gt(count[0], 0);
        ck_assert_uint_gt(count[1], 0);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway recovery");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_set_timeout(all, 60);
        tcase_add_test(all, keys_files_are_refused_at_the_start);
        tcase_add_test(all, a_client_that_attaches_after_a_death_reads_the_same_bytes);
        tcase_add_test(all, what_ended_while_nobody_lived_is_closed_and_counted_once);
        tcase_add_test(all, clients_that_do_not_come_back_are_cancelled_after_the_grace);
        tcase_add_test(all, a_cancel_mark_survives_and_its_record_is_sent_again);
        tcase_add_test(all, an_open_slot_has_the_whole_request_for_a_dead_letter);
        tcase_add_test(all, slots_are_recovered_from_every_state);
        tcase_add_test(all, a_request_of_another_gateway_is_read_cancelled_and_never_run_twice);
        tcase_add_test(all, a_claim_of_a_higher_gateway_is_waited_for_and_won_when_it_goes);
        tcase_add_test(all, of_two_claims_the_lower_gateway_wins_and_the_other_one_reads_there);
        tcase_add_test(all, a_request_that_another_gateway_has_not_committed_is_nobodys_yet);
        tcase_add_test(all, who_claims_an_id_that_has_run_meanwhile_reads_what_it_answered);
        tcase_add_test(all, who_alone_read_a_request_elsewhere_and_does_not_come_back_is_its_end);
        tcase_add_test(all, who_comes_back_through_another_gateway_has_come_back);
        tcase_add_test(all, what_another_gateway_holds_counts_against_the_lane);
        tcase_add_test(all, a_session_stays_in_its_lane_and_sessions_spread);
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
