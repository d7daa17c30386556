/*
 * The slab: what attach refuses, what a batch does, what a kill at each of its steps leaves behind.
 * A kill is played by attaching anew to memory as it stood after a prefix of the stores.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pair.h"
#include "shm/slab.h"
#include "shm/units.h"

#define SLOTS 4u
#define UNITS 16u

static const struct ring_geometry geo = {
                .id = 3, .n = 16, .max_batch = 4, .max_rec = 4096, .bytes = 16384};

static struct pair in, out;
static struct ring_tx feeder, tx;
static struct ring_rx rx, drain;
static struct slab slab;
static struct slab_shm *shm;

static int attach(bool blame) {
        struct ring_rx *inputs[] = {&rx};

        ck_assert_int_eq(ring_tx_attach(&tx, &out.prod, -1), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &in.cons, -1, blame), 0);
        return slab_attach(&slab, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, blame);
}

static void die_and_attach(bool blame) {
        slab_close(&slab);
        ring_rx_close(&rx);
        ck_assert_int_eq(attach(blame), 0);
}

static void setup(void) {
        in = pair_new(geo, 1);
        out = pair_new(geo, 1);
        ck_assert_int_eq(ring_tx_attach(&feeder, &in.prod, -1), 0);
        ck_assert_int_eq(ring_rx_attach(&drain, &out.cons, -1, false), 0);
        shm = mmap(NULL, slab_bytes(SLOTS, UNITS), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(shm, MAP_FAILED);
        slab_format(shm, SLOTS, UNITS);
        ck_assert_int_eq(attach(false), 0);
}

static void teardown(void) {
        slab_close(&slab);
        ring_rx_close(&rx);
        ring_rx_close(&drain);
        pair_close(&in);
        pair_close(&out);
        munmap(shm, slab_bytes(SLOTS, UNITS));
}

/* Request `req` comes in and is claimed; its input stays unacked. */
static uint32_t claim(uint64_t req, uint32_t len) {
        const struct ring_msg *msg;
        uint32_t slot;

        ck_assert_int_eq(pair_emit(&feeder, req, len, RING_HEAD), 0);
        ring_tx_commit(&feeder);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_int_eq(slab_claim(&slab, msg, &slot), 0);
        ring_rx_take(&rx);
        slab_took(&slab, slot);
        return slot;
}

static void ack(uint32_t slot, uint64_t seq) {
        ring_rx_ack(&rx, seq);
        slab_acked(&slab, slot);
}

static void emit(uint32_t slot, uint8_t flags) {
        struct slab_version *v = slab_edit(&slab, slot);

        v->out_ord++;
        ck_assert_int_eq(pair_emit(&tx, v->req_id, 8, flags), 0);
}

static void finish(uint32_t slot) {
        emit(slot, RING_LAST);
        slab_edit(&slab, slot)->done = 1;
        slab_commit(&slab, &tx);
}

static uint32_t units_in_use(void) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < UNITS; i++)
                n += slab.unit_used[i / 64] >> (i % 64) & 1;
        return n;
}

static void set_tag(uint32_t slot, uint32_t version, uint64_t tag) {
        atomic_store_explicit(&shm->slots[slot].v[version].tag, tag, memory_order_relaxed);
}

/* ---- refusals ---- */

START_TEST(attach_refuses_another_layout_or_size) {
        struct ring_rx *inputs[] = {&rx};
        struct slab other;

        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS) - 4096, &tx, inputs, 1,
                                         false),
                        -EPROTO);
        ck_assert_int_eq(slab_attach(&other, shm, 8, &tx, inputs, 1, false), -EPROTO);
        shm->magic ^= 1;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EPROTO);
        shm->magic ^= 1;
        shm->layout ^= 1;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EPROTO);
        shm->layout ^= 1;
        shm->n_slots = 0;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EPROTO);
}
END_TEST

START_TEST(attach_refuses_what_was_stomped_on) {
        struct ring_rx *inputs[] = {&rx};
        struct slab other;
        uint32_t a = claim(1, 2000), b = claim(2, 2000);

        slab_commit(&slab, &tx);
        shm->slots[b].pay_off = shm->slots[a].pay_off + 1;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EBADMSG);
        shm->slots[b].pay_off = UNITS;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EBADMSG);
        shm->slots[b].pay_off = 2;
        shm->slots[b].v[0].req_id = 1;
        ck_assert_int_eq(slab_attach(&other, shm, slab_bytes(SLOTS, UNITS), &tx, inputs, 1, false),
                        -EBADMSG);
}
END_TEST

START_TEST(claim_says_when_slots_or_extents_are_out) {
        const struct ring_msg *msg;
        uint32_t slot;

        for (uint64_t req = 1; req <= 3; req++)
                (void)claim(req, 4096);
        ck_assert_int_eq(pair_emit(&feeder, 4, 4096, 0), 0);
        ring_tx_commit(&feeder);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        (void)units_take(slab.unit_used, UNITS, &slab.unit_hint, 1);
        ck_assert_int_eq(slab_claim(&slab, msg, &slot), SLAB_E_EXTENTS);
        ck_assert_uint_eq(slab_find(&slab, 4), SLAB_NONE);
        units_release(slab.unit_used, 12, 1);
        ck_assert_int_eq(slab_claim(&slab, msg, &slot), 0);
        ck_assert_int_eq(slab_claim(&slab, msg, &slot), SLAB_E_FULL);
}
END_TEST

START_TEST(slot_is_freed_only_when_done_and_acked) {
        uint32_t slot = claim(1, 100);

        ck_assert(!slab_free(&slab, slot)); /* not stored */
        slab_commit(&slab, &tx);
        ck_assert(!slab_free(&slab, slot)); /* not done */
        finish(slot);
        ck_assert(!slab_free(&slab, slot)); /* not acked */
        ack(slot, 1);
        slab.slots[slot].ack_pending = true;
        ck_assert(!slab_free(&slab, slot)); /* kept by the stage */
        slab.slots[slot].ack_pending = false;
        (void)slab_edit(&slab, slot);
        ck_assert(!slab_free(&slab, slot)); /* in this batch */
        slab_commit(&slab, &tx);
        ck_assert(slab_free(&slab, slot));
        ck_assert(!slab_free(&slab, slot));
        ck_assert_uint_eq(slab_find(&slab, 1), SLAB_NONE);
        ck_assert_uint_eq(slab.n_live, 0);
        ck_assert_uint_eq(units_in_use(), 0);
}
END_TEST

/* ---- a batch ---- */

START_TEST(claimed_request_is_found_with_its_payload) {
        uint32_t len, slot = claim(77, 3000);

        ck_assert_uint_eq(slab_find(&slab, 77), slot);
        ck_assert_uint_eq(slab_peek(&slab, slot)->in_seq, 1);
        ck_assert(pattern_is(slab_payload(&slab, slot, &len), 77, 3000));
        ck_assert_uint_eq(len, 3000);
        slab_commit(&slab, &tx);
        die_and_attach(false);
        ck_assert_uint_eq(slab_find(&slab, 77), slot);
        ck_assert(pattern_is(slab_payload(&slab, slot, &len), 77, 3000));
        ck_assert_uint_eq(slab_peek(&slab, slot)->count, 1);
        ck_assert_uint_eq(units_in_use(), 3);
}
END_TEST

START_TEST(claim_that_was_not_committed_never_was) {
        (void)claim(1, 100);
        die_and_attach(false);
        ck_assert_uint_eq(slab_find(&slab, 1), SLAB_NONE);
        ck_assert_uint_eq(slab.n_free, SLOTS);
        ck_assert(!ring_rx_is_acked(&rx, 1));
}
END_TEST

START_TEST(edit_starts_from_the_live_version_and_shows_at_once) {
        uint32_t slot = claim(1, 10);

        slab_edit(&slab, slot)->state[0] = 5;
        slab_commit(&slab, &tx);
        ck_assert_uint_eq(slab_edit(&slab, slot)->state[0], 5);
        slab_edit(&slab, slot)->state[0] = 6;
        ck_assert_uint_eq(slab_peek(&slab, slot)->state[0], 6);
        ck_assert_uint_eq(slab.n_touched, 1);
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, slot)->state[0], 5);
}
END_TEST

/* The versions are stored, head is not: the batch did not happen. */
START_TEST(kill_between_versions_and_head_leaves_the_state_before) {
        uint32_t a = claim(1, 10), b = claim(2, 10);
        uint32_t len;

        ck_assert_int_eq(slab_edit_bytes(&slab, a, "before", 6), 0);
        slab_commit(&slab, &tx);
        ck_assert_int_eq(slab_edit_bytes(&slab, a, "after", 5), 0);
        emit(a, 0);
        emit(b, 0);
        slab_commit(&slab, &tx);
        atomic_store_explicit(&out.prod.prod->head, 1, memory_order_relaxed);
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, a)->out_ord, 0);
        ck_assert_uint_eq(slab_peek(&slab, b)->out_ord, 0);
        ck_assert_mem_eq(slab_bytes_of(&slab, a, &len), "before", 6);
        ck_assert_uint_eq(len, 6);
        ck_assert_uint_eq(units_in_use(), 3);
}
END_TEST

START_TEST(commit_makes_all_touched_slots_live_together) {
        uint32_t a = claim(1, 10), b = claim(2, 10);

        emit(a, 0);
        emit(b, 0);
        slab_commit(&slab, &tx);
        ck_assert_uint_eq(tx.committed, 3);
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, a)->out_ord, 1);
        ck_assert_uint_eq(slab_peek(&slab, b)->out_ord, 1);
        ck_assert_uint_eq(word_of(&slab_peek(&slab, b)->tag), 3);
}
END_TEST

/* A version half written: its tag is void, whatever its fields say. */
START_TEST(kill_inside_a_version_leaves_the_other_one) {
        uint32_t slot = claim(1, 10);

        slab_edit(&slab, slot)->state[0] = 1;
        slab_commit(&slab, &tx);
        slab_edit(&slab, slot)->state[0] = 2;
        slab_commit(&slab, &tx);
        set_tag(slot, 0, SLAB_VOID);
        shm->slots[slot].v[0].req_id = 99;
        shm->slots[slot].v[0].ext_off = 1u << 30;
        shm->slots[slot].v[0].ext_len = 12345;
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, slot)->state[0], 2);
        ck_assert_uint_eq(slab.slots[slot].live, 1);
}
END_TEST

START_TEST(ties_of_the_tag_go_to_the_newer_input_then_to_the_later_version) {
        uint32_t slot = claim(1, 10);

        slab_commit(&slab, &tx);
        slab_edit(&slab, slot)->in_seq = 2;
        slab_commit(&slab, &tx); /* no output: the same tag */
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, slot)->in_seq, 2);
        slab_edit(&slab, slot)->state[0] = 9; /* and the same input */
        slab_commit(&slab, &tx);
        die_and_attach(false);
        ck_assert_uint_eq(slab_peek(&slab, slot)->state[0], 9);
        ck_assert_uint_eq(slab_peek(&slab, slot)->count, 3);
}
END_TEST

START_TEST(bytes_are_copied_on_write_and_given_back_after_the_commit) {
        uint32_t len, slot = claim(1, 0);
        uint8_t big[5000];

        memset(big, 'x', sizeof(big));
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, big, 5000), 0);
        ck_assert_uint_eq(units_in_use(), 5);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, big, 2000),
                        0); /* the batch's own shrinks in place */
        ck_assert_uint_eq(units_in_use(), 2);
        slab_commit(&slab, &tx);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, "new", 3), 0);
        ck_assert_uint_eq(units_in_use(), 3);
        ck_assert_mem_eq(slab_bytes_of(&slab, slot, &len), "new", 3);
        slab_commit(&slab, &tx);
        ck_assert_uint_eq(units_in_use(), 1);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, NULL, 0), 0);
        ck_assert_uint_eq(units_in_use(), 1);
        slab_commit(&slab, &tx);
        ck_assert_uint_eq(units_in_use(), 0);
        (void)slab_bytes_of(&slab, slot, &len);
        ck_assert_uint_eq(len, 0);
}
END_TEST

START_TEST(edit_of_bytes_that_fail_leaves_the_version_as_it_was) {
        uint32_t len, slot = claim(1, 0);
        static uint8_t big[UNITS * SLAB_UNIT];

        ck_assert_int_eq(slab_edit_bytes(&slab, slot, "keep", 4), 0);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, big, sizeof(big)), SLAB_E_EXTENTS);
        ck_assert_mem_eq(slab_bytes_of(&slab, slot, &len), "keep", 4);
        ck_assert_uint_eq(len, 4);
}
END_TEST

START_TEST(bytes_may_be_appended_to_out_of_themselves) {
        uint32_t len, slot = claim(1, 0);
        uint8_t *bytes;

        ck_assert_int_eq(slab_edit_bytes(&slab, slot, "0123456789", 10), 0);
        bytes = (uint8_t *)(uintptr_t)slab_bytes_of(&slab, slot, &len);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, bytes + 4, 6), 0);
        ck_assert_mem_eq(slab_bytes_of(&slab, slot, &len), "456789", 6);
        slab_commit(&slab, &tx);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot, slab_bytes_of(&slab, slot, &len), 3), 0);
        ck_assert_mem_eq(slab_bytes_of(&slab, slot, &len), "456", 3);
}
END_TEST

/* ---- free and attach ---- */

/* Killed between the two stores of a free: the older version must not come back. */
START_TEST(kill_inside_free_does_not_resurrect_the_older_version) {
        uint32_t slot = claim(1, 10);

        slab_commit(&slab, &tx);
        finish(slot);
        ack(slot, 1);
        set_tag(slot, 0, SLAB_VOID); /* the first store of slab_free(): version 1 is live */
        ck_assert_uint_eq(slab.slots[slot].live, 1);
        die_and_attach(false);
        ck_assert_uint_ne(slab_find(&slab, 1), SLAB_NONE);
        ck_assert_uint_eq(slab_peek(&slab, slot)->done, 1);
        ck_assert_uint_eq(slab_sweep(&slab, UINT64_MAX), 1);
        ck_assert_uint_eq(slab_find(&slab, 1), SLAB_NONE);
}
END_TEST

START_TEST(attach_acks_what_live_versions_contain_and_nothing_newer) {
        uint32_t slot = claim(1, 10);

        slab_commit(&slab, &tx);
        for (int i = 0; i < 2; i++) /* two more inputs of the request, one of them folded in */
                ck_assert_int_eq(pair_emit(&feeder, 1, 10, 0), 0);
        ck_assert_int_eq(pair_emit(&feeder, 2, 10, 0), 0);
        ring_tx_commit(&feeder);
        slab_edit(&slab, slot)->in_seq = 2;
        emit(slot, 0);
        slab_commit(&slab, &tx);
        die_and_attach(false);
        ck_assert(ring_rx_is_acked(&rx, 1));
        ck_assert(ring_rx_is_acked(&rx, 2));
        ck_assert(!ring_rx_is_acked(&rx, 3));
        ck_assert(!ring_rx_is_acked(&rx, 4));
        ck_assert_uint_eq(rx.rd, 3);
}
END_TEST

START_TEST(attach_frees_a_done_slot_once_its_last_record_was_read) {
        const struct ring_msg *msg;
        uint32_t slot = claim(1, 10);

        slab_commit(&slab, &tx);
        finish(slot);
        die_and_attach(false);
        ck_assert(ring_rx_is_acked(&rx, 1));
        ck_assert_uint_eq(slab_find(&slab, 1), slot); /* the consumer has not passed it */
        ck_assert_uint_eq(slab_sweep(&slab, tx.tail), 0);
        ck_assert_int_eq(ring_rx_peek(&drain, &msg), 0);
        ring_rx_take(&drain);
        ring_rx_ack(&drain, 1);
        ring_rx_flush(&drain, true);
        die_and_attach(false);
        ck_assert_uint_eq(slab_find(&slab, 1), SLAB_NONE);
        ck_assert_uint_eq(slab.n_free, SLOTS);
}
END_TEST

START_TEST(slot_at_hand_gets_the_strike) {
        uint32_t a = claim(1, 10), b = claim(2, 10);

        slab_commit(&slab, &tx);
        slab_active(&slab, b);
        die_and_attach(true);
        ck_assert_uint_eq(slab_strikes(&slab, a), 0);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
        die_and_attach(true);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
        slab_active(&slab, b);
        die_and_attach(false);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
        slab_active(&slab, b);
        slab_active(&slab, SLAB_NONE);
        die_and_attach(true);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
}
END_TEST

START_TEST(a_request_at_a_threads_hand_gets_the_strike_too) {
        uint32_t a = claim(1, 10), b = claim(2, 10);

        slab_commit(&slab, &tx);
        slab_active(&slab, a);
        slab_aside(slab.shm, 0, 1); /* the same one: struck once */
        slab_aside(slab.shm, 1, 2);
        die_and_attach(true);
        ck_assert_uint_eq(slab_strikes(&slab, a), 1);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
        die_and_attach(true); /* whatever they had at hand was told once */
        ck_assert_uint_eq(slab_strikes(&slab, a), 1);
        slab_aside(slab.shm, 1, 99); /* has left its slot meanwhile */
        die_and_attach(true);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
        slab_aside(slab.shm, 1, 2);
        die_and_attach(false);
        ck_assert_uint_eq(slab_strikes(&slab, b), 1);
}
END_TEST

START_TEST(strike_of_a_record_before_its_claim_is_kept) {
        uint32_t slot;

        slot = claim(1, 10);
        die_and_attach(true); /* before the commit: only the ring knows */
        {
                const struct ring_msg *msg;

                ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
                ck_assert_uint_eq(msg->strikes, 1);
                ck_assert_int_eq(slab_claim(&slab, msg, &slot), 0);
        }
        slab_commit(&slab, &tx);
        ck_assert_uint_eq(slab_strikes(&slab, slot), 1);
}
END_TEST

START_TEST(requests_are_found_whatever_their_ids_and_history) {
        uint64_t rnd = 99, ids[SLOTS] = {0};

        for (int round = 0; round < 5000; round++) {
                uint32_t i = (uint32_t)(pair_random(&rnd) % SLOTS), slot;
                struct ring_msg msg = {.seq = 1, .req_id = pair_random(&rnd) % 40};

                if (ids[i] == 0) {
                        if (msg.req_id == 0 || slab_find(&slab, msg.req_id) != SLAB_NONE)
                                continue;
                        ck_assert_int_eq(slab_claim(&slab, &msg, &slot), 0);
                        ids[i] = msg.req_id;
                        slab_edit(&slab, slot)->done = 1;
                        slab_commit(&slab, &tx);
                } else {
                        ck_assert(slab_free(&slab, slab_find(&slab, ids[i])));
                        ids[i] = 0;
                }
                for (uint32_t k = 0; k < SLOTS; k++) {
                        if (ids[k] == 0)
                                continue;
                        slot = slab_find(&slab, ids[k]);
                        ck_assert_uint_ne(slot, SLAB_NONE);
                        ck_assert_uint_eq(slab_peek(&slab, slot)->req_id, ids[k]);
                }
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("slab");
        TCase *refuses = tcase_create("refuses"), *batch = tcase_create("batch"),
              *lives = tcase_create("lives");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(refuses, setup, teardown);
        tcase_add_test(refuses, attach_refuses_another_layout_or_size);
        tcase_add_test(refuses, attach_refuses_what_was_stomped_on);
        tcase_add_test(refuses, claim_says_when_slots_or_extents_are_out);
        tcase_add_test(refuses, slot_is_freed_only_when_done_and_acked);
        tcase_add_checked_fixture(batch, setup, teardown);
        tcase_add_test(batch, claimed_request_is_found_with_its_payload);
        tcase_add_test(batch, claim_that_was_not_committed_never_was);
        tcase_add_test(batch, edit_starts_from_the_live_version_and_shows_at_once);
        tcase_add_test(batch, kill_between_versions_and_head_leaves_the_state_before);
        tcase_add_test(batch, commit_makes_all_touched_slots_live_together);
        tcase_add_test(batch, kill_inside_a_version_leaves_the_other_one);
        tcase_add_test(batch, ties_of_the_tag_go_to_the_newer_input_then_to_the_later_version);
        tcase_add_test(batch, bytes_are_copied_on_write_and_given_back_after_the_commit);
        tcase_add_test(batch, edit_of_bytes_that_fail_leaves_the_version_as_it_was);
        tcase_add_test(batch, bytes_may_be_appended_to_out_of_themselves);
        tcase_add_checked_fixture(lives, setup, teardown);
        tcase_add_test(lives, kill_inside_free_does_not_resurrect_the_older_version);
        tcase_add_test(lives, attach_acks_what_live_versions_contain_and_nothing_newer);
        tcase_add_test(lives, attach_frees_a_done_slot_once_its_last_record_was_read);
        tcase_add_test(lives, slot_at_hand_gets_the_strike);
        tcase_add_test(lives, a_request_at_a_threads_hand_gets_the_strike_too);
        tcase_add_test(lives, strike_of_a_record_before_its_claim_is_kept);
        tcase_add_test(lives, requests_are_found_whatever_their_ids_and_history);
        suite_add_tcase(suite, refuses);
        suite_add_tcase(suite, batch);
        suite_add_tcase(suite, lives);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
