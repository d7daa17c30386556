/*
 * The stores of one batch, cut after every machine instruction: a child is stepped through the
 * operation under ptrace, and wherever shared memory has changed, a next life attaches to it as if
 * the child had been killed there. It must find the state before the operation or the one after it.
 * Then memory is put back and the child goes on.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair.h"
#include "shm/slab.h"
#include "tests/steps/steps.h"

#define SLOTS 2u
#define UNITS 16u
#define IN_ID 3u

static const struct ring_geometry geo = {
                .id = IN_ID, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096};

/* Everything shared, and a picture of it as the stepped child has left it. */
static struct pair in, out;
static void *slab_map;
static struct steps shared;

/* The private side of the stage, as it stands before the operation; a child inherits it. */
static struct ring_tx tx;
static struct ring_rx rx;
static struct slab slab;

static void attach(void) {
        struct ring_rx *inputs[] = {&rx};

        ck_assert_int_eq(ring_tx_attach(&tx, &out.prod, -1), 0);
        ck_assert_int_eq(ring_rx_attach(&rx, &in.cons, -1, false), 0);
        ck_assert_int_eq(slab_attach(&slab, slab_map, slab_bytes(SLOTS, UNITS), &tx, inputs, 1,
                                         false),
                        0);
}

static void detach(void) {
        slab_close(&slab);
        ring_rx_close(&rx);
}

static void setup(void) {
        in = pair_new(geo, 1);
        out = pair_new(geo, 1);
        slab_map = mmap(NULL, slab_bytes(SLOTS, UNITS), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(slab_map, MAP_FAILED);
        slab_format(slab_map, SLOTS, UNITS);
        shared = (struct steps){.n_areas = 0};
        steps_area(&shared, in.prod.prod, ring_prod_bytes(&geo));
        steps_area(&shared, in.cons.cons, ring_cons_bytes(&geo));
        steps_area(&shared, out.prod.prod, ring_prod_bytes(&geo));
        steps_area(&shared, out.cons.cons, ring_cons_bytes(&geo));
        steps_area(&shared, slab_map, slab_bytes(SLOTS, UNITS));
        attach();
}

static void teardown(void) {
        detach();
        steps_free(&shared);
        munmap(slab_map, slab_bytes(SLOTS, UNITS));
        pair_close(&in);
        pair_close(&out);
}

static void feed(uint64_t n) {
        struct ring_tx feeder;

        ck_assert_int_eq(ring_tx_attach(&feeder, &in.prod, -1), 0);
        ck_assert_int_eq(pair_emit(&feeder, n, 40, 0), 0);
        ring_tx_commit(&feeder);
}

static void emit(uint64_t seq, uint32_t ord, uint8_t flags) {
        const struct ring_meta meta = {
                        .type = 1, .flags = flags, .src = ring_src(IN_ID, seq), .ord = ord};
        uint8_t *to;

        ck_assert_int_eq(ring_tx_begin(&tx, 8, &to), 0);
        memset(to, (int)seq, 8);
        ring_tx_end(&tx, &meta, 8);
}

static void life(void *ctx) {
        void (*const *op)(void) = ctx;

        steps_mark();
        (*op)();
}

/* One instruction further; false: the child has ended. */
static bool step(pid_t pid) {
        int status;

        if (steps_one(pid, &status) == STEPS_STEPPED)
                return true;
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return false;
}

/* check(): looks at the next life, returns whether the operation happened. It may turn to yes only
 * once. */
static void cut_everywhere(const char *name, void (*op)(void), bool (*check)(void)) {
        bool happened = false;
        unsigned n_cuts = 0, n_points = 0;
        pid_t pid = steps_start(life, &op);

        if (pid == -1) {
                fprintf(stderr, "ptrace is not allowed here: nothing was tested\n");
                return;
        }
        (void)steps_look(&shared);
        do {
                n_points++;
                if (!steps_look(&shared) && n_cuts > 0)
                        continue;
                n_cuts++;
                detach();
                attach();
                if (check())
                        happened = true;
                else
                        ck_assert_msg(!happened, "undone after it had happened, at store %u",
                                        n_cuts);
                steps_restore(&shared);
        } while (step(pid));
        steps_restore(&shared);
        ck_assert(happened);
        ck_assert_uint_gt(n_cuts, 2);
        printf("steps stage=%s points=%u states=%u\n", name, n_points, n_cuts);
        fflush(stdout);
}

/* ---- commit, then ack, with the descriptor scan ---- */

static void op_emit_commit_ack(void) {
        emit(1, 0, RING_LAST);
        emit(2, 0, 0);
        ring_tx_commit(&tx);
        ring_rx_ack(&rx, 1);
        ring_rx_flush(&rx, true);
}

static bool check_emit_commit_ack(void) {
        bool visible = tx.committed == 3;

        ck_assert(visible || tx.committed == 1);
        ring_recover(&tx, &rx);
        /* Never one without the other. */
        ck_assert_int_eq(ring_rx_is_acked(&rx, 1), visible);
        ck_assert_uint_eq(ring_rx_emitted(&rx, 2), visible ? 1 : 0);
        ck_assert(!ring_rx_is_acked(&rx, 2));
        return visible;
}

START_TEST(outputs_and_acks_are_cut_nowhere) {
        const struct ring_msg *msg;

        feed(1);
        feed(2);
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
                ring_rx_take(&rx);
        }
        cut_everywhere("publish-and-ack", op_emit_commit_ack, check_emit_commit_ack);
}
END_TEST

/* ---- recovery itself ---- */

static void op_recover(void) {
        ring_recover(&tx, &rx);
}

static bool check_recover(void) {
        bool was_done = ring_rx_is_acked(&rx, 1) && ring_rx_emitted(&rx, 2) == 2;

        ring_recover(&tx, &rx);
        ck_assert(ring_rx_is_acked(&rx, 1));
        ck_assert_uint_eq(ring_rx_emitted(&rx, 2), 2);
        return was_done;
}

START_TEST(recovery_is_cut_nowhere) {
        const struct ring_msg *msg;

        feed(1);
        feed(2);
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
                ring_rx_take(&rx);
        }
        emit(1, 0, RING_LAST);
        emit(2, 0, 0);
        emit(2, 1, 0);
        ring_tx_commit(&tx);
        cut_everywhere("recover", op_recover, check_recover);
}
END_TEST

/* ---- the slab ---- */

static uint32_t slot_a, slot_b;

static uint32_t claim(uint64_t req) {
        const struct ring_msg *msg;
        uint32_t slot;

        feed(req);
        ck_assert_int_eq(ring_rx_peek(&rx, &msg), 0);
        ck_assert_int_eq(slab_claim(&slab, msg, &slot), 0);
        ring_rx_take(&rx);
        return slot;
}

static void op_slab_batch(void) {
        for (uint32_t i = 0; i < 2; i++) {
                uint32_t slot = i == 0 ? slot_a : slot_b;

                slab_edit(&slab, slot)->out_ord = 1;
                memset(slab_edit(&slab, slot)->state, 2, SLAB_STATE_BYTES);
                if (slab_edit_bytes(&slab, slot, "behind", 6) != 0)
                        _exit(1);
                emit(slot + 1, 0, 0);
        }
        slab_commit(&slab, &tx);
        ring_rx_ack(&rx, 1);
        ring_rx_ack(&rx, 2);
}

/* Both slots speak of the same side of the commit, and so does the ring. */
static bool check_slab_batch(void) {
        bool visible = tx.committed == 3;

        for (uint32_t i = 0; i < 2; i++) {
                uint32_t slot = slab_find(&slab, i + 1), len;
                const struct slab_version *v;
                const uint8_t *bytes;

                ck_assert_uint_ne(slot, SLAB_NONE);
                v = slab_peek(&slab, slot);
                bytes = slab_bytes_of(&slab, slot, &len);
                ck_assert_uint_eq(v->out_ord, visible);
                for (uint32_t b = 0; b < SLAB_STATE_BYTES; b++)
                        ck_assert_uint_eq(v->state[b], visible ? 2 : 1);
                ck_assert_uint_eq(len, visible ? 6 : 5);
                ck_assert_mem_eq(bytes, visible ? "behind" : "front", len);
                ck_assert(ring_rx_is_acked(&rx, i + 1));
        }
        return visible;
}

START_TEST(batch_over_two_slots_is_cut_nowhere) {
        slot_a = claim(1);
        slot_b = claim(2);
        memset(slab_edit(&slab, slot_a)->state, 1, SLAB_STATE_BYTES);
        memset(slab_edit(&slab, slot_b)->state, 1, SLAB_STATE_BYTES);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot_a, "front", 5), 0);
        ck_assert_int_eq(slab_edit_bytes(&slab, slot_b, "front", 5), 0);
        slab_commit(&slab, &tx);
        cut_everywhere("fold", op_slab_batch, check_slab_batch);
}
END_TEST

static void op_update(void) {
        memset(slab_edit(&slab, slot_a)->state, 3, SLAB_STATE_BYTES);
        slab_edit(&slab, slot_a)->in_seq = 3;
        slab_commit(&slab, &tx);
}

static bool check_update(void) {
        const struct slab_version *v = slab_peek(&slab, slab_find(&slab, 1));

        for (uint32_t b = 0; b < SLAB_STATE_BYTES; b++)
                ck_assert_uint_eq(v->state[b], v->in_seq);
        ck_assert_uint_eq(v->count, v->in_seq);
        return v->in_seq == 3;
}

/* Without output all versions have one tag, so a half-written one could pass for the newest. */
START_TEST(version_without_output_is_cut_nowhere) {
        slot_a = claim(1);
        memset(slab_edit(&slab, slot_a)->state, 1, SLAB_STATE_BYTES);
        slab_commit(&slab, &tx);
        memset(slab_edit(&slab, slot_a)->state, 2, SLAB_STATE_BYTES);
        slab_edit(&slab, slot_a)->in_seq = 2;
        slab_commit(&slab, &tx);
        cut_everywhere("update", op_update, check_update);
}
END_TEST

static void op_claim(void) {
        const struct ring_msg *msg;
        uint32_t slot;

        if (ring_rx_peek(&rx, &msg) != 0 || slab_claim(&slab, msg, &slot) != 0)
                _exit(1);
        ring_rx_take(&rx);
        slab_commit(&slab, &tx);
        ring_rx_ack(&rx, 1);
}

static bool check_claim(void) {
        uint32_t slot = slab_find(&slab, 1), len;

        /* Either it waits in the ring, or the slab has it whole. */
        ck_assert_int_eq(slot != SLAB_NONE, ring_rx_is_acked(&rx, 1));
        if (slot == SLAB_NONE)
                return false;
        ck_assert(pattern_is(slab_payload(&slab, slot, &len), 1, 40));
        ck_assert_uint_eq(len, 40);
        return true;
}

START_TEST(claim_is_cut_nowhere) {
        feed(1);
        cut_everywhere("claim", op_claim, check_claim);
}
END_TEST

static void op_free(void) {
        if (!slab_free(&slab, slot_a))
                _exit(1);
}

/* Attach sweeps only what the consumer has passed, which is nothing here: a slot that is still
 * there is still done. */
static bool check_free(void) {
        uint32_t slot = slab_find(&slab, 1);

        if (slot == SLAB_NONE)
                return true;
        ck_assert_uint_eq(slab_peek(&slab, slot)->done, 1);
        return false;
}

START_TEST(free_never_brings_the_older_version_back) {
        for (int order = 0; order < 2; order++) {
                slot_a = claim(1);
                for (int i = 0; i < order; i++) /* either version may be the older one */
                        slab_commit(&slab, &tx), (void)slab_edit(&slab, slot_a);
                slab_commit(&slab, &tx);
                slab_edit(&slab, slot_a)->done = 1;
                emit(1, 0, RING_LAST);
                slab_commit(&slab, &tx);
                ring_rx_ack(&rx, 1 + (uint64_t)order);
                cut_everywhere("free", op_free, check_free);
                (void)slab_sweep(&slab, UINT64_MAX);
        }
}
END_TEST

int main(void) {
        Suite *suite = suite_create("kill at every instruction");
        TCase *steps = tcase_create("steps");
        SRunner *runner;
        int failed;

        tcase_set_timeout(steps, 250);
        tcase_add_checked_fixture(steps, setup, teardown);
        tcase_add_test(steps, outputs_and_acks_are_cut_nowhere);
        tcase_add_test(steps, recovery_is_cut_nowhere);
        tcase_add_test(steps, batch_over_two_slots_is_cut_nowhere);
        tcase_add_test(steps, version_without_output_is_cut_nowhere);
        tcase_add_test(steps, claim_is_cut_nowhere);
        tcase_add_test(steps, free_never_brings_the_older_version_back);
        suite_add_tcase(suite, steps);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
