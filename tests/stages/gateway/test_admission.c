#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "shm/log.h"
#include "stages/gateway/admission_table.h"

#define SLOTS 64

static struct admission_shm *shm, *other;
static struct admission_view view, others[GATEWAY_SLOTS_MAX];
static struct arena arena;
static void *arena_map;
static struct admission_table table;

static void attach(void) {
        const struct table_lane lanes[2] = {{1000, 0}, {1000, 0}};

        table = (struct admission_table){.shm = shm,
                        .arena = &arena,
                        .others = others,
                        .n_lanes = 2,
                        .max_in_flight = 4,
                        .generation = 3};
        ck_assert_int_eq(arena_attach(&arena, arena_map, arena_bytes(1 << 20)), 0);
        ck_assert_int_eq(table_attach(&table, lanes), 0);
}

static void detach(void) {
        table_detach(&table);
        arena_close(&arena);
}

static void *zeroed(uint64_t bytes) {
        void *p = aligned_alloc(LAYOUT_PAGE, layout_align(bytes, LAYOUT_PAGE));

        memset(p, 0, layout_align(bytes, LAYOUT_PAGE));
        return p;
}

static void setup(void) {
        shm = zeroed(admission_bytes(SLOTS));
        other = zeroed(admission_bytes(SLOTS));
        arena_map = zeroed(arena_bytes(1 << 20));
        admission_format(shm, SLOTS, 0);
        admission_format(other, SLOTS, 1);
        arena_format(arena_map, 1 << 20);
        memset(others, 0, sizeof(others));
        ck_assert_int_eq(admission_view_init(&view, shm, admission_bytes(SLOTS)), 0);
        ck_assert_int_eq(admission_view_init(&others[1], other, admission_bytes(SLOTS)), 0);
        attach();
}

static void teardown(void) {
        detach();
        free(shm);
        free(other);
        free(arena_map);
}

static uint32_t claim(const char *id) {
        struct table_claim wish = {.id = id,
                        .id_len = (uint32_t)strlen(id),
                        .tenant = "local",
                        .tenant_len = 5,
                        .id_hash = log_id_hash("local", 5, id, (uint32_t)strlen(id)),
                        .req_id = table_next_request(&table)};
        uint32_t slot;

        ck_assert_int_eq(table_claim(&table, &wish, &slot), 0);
        return slot;
}

START_TEST(another_layout_magic_or_size_is_refused) {
        uint64_t bytes = admission_bytes(SLOTS);

        ck_assert_int_eq(admission_check(shm, bytes), 0);
        ck_assert_int_eq(admission_check(shm, bytes - LAYOUT_PAGE), -EPROTO);
        ck_assert_int_eq(admission_check(shm, 8), -EPROTO);
        shm->layout ^= 1;
        ck_assert_int_eq(admission_check(shm, bytes), -EPROTO);
        shm->layout ^= 1;
        shm->magic ^= 1;
        ck_assert_int_eq(admission_check(shm, bytes), -EPROTO);
        shm->magic ^= 1;
        shm->n_buckets *= 2;
        ck_assert_int_eq(admission_check(shm, bytes), -EPROTO);
        shm->n_buckets /= 2;
        shm->n_slots = UINT32_MAX;
        ck_assert_int_eq(admission_check(shm, bytes), -EPROTO);
        shm->n_slots = SLOTS;
}
END_TEST

START_TEST(follows_are_found_marked_counted_and_removed) {
        uint64_t flags;

        ck_assert_int_eq(follow_get(&view, 7, &flags), ADMISSION_E_NONE);
        ck_assert_int_eq(follow_mark(shm, 7, FOLLOW_READ, 1), ADMISSION_E_NONE);
        ck_assert_int_eq(follow_add(shm, 7), 0);
        ck_assert_int_eq(follow_add(shm, 7), 0);
        ck_assert_int_eq(follow_mark(shm, 7, FOLLOW_READ, 2), 0);
        ck_assert_int_eq(follow_mark(shm, 7, FOLLOW_CANCELLED, -1), 0);
        ck_assert_int_eq(follow_get(&view, 7, &flags), 0);
        ck_assert_uint_eq(flags, (FOLLOW_READER | FOLLOW_READ | FOLLOW_CANCELLED));
        follow_remove(shm, 7);
        ck_assert_int_eq(follow_get(&view, 7, &flags), ADMISSION_E_NONE);
        ck_assert_int_eq(follow_add(shm, 7), 0);
        ck_assert_int_eq(follow_get(&view, 7, &flags), 0);
        ck_assert_uint_eq(flags, 0);
}
END_TEST

START_TEST(the_follow_table_holds_what_its_limits_say) {
        uint64_t flags, n = 0;

        for (uint64_t i = 1; i <= 4 * SLOTS; i++)
                ck_assert_int_eq(follow_add(shm, 3ull << 44 | i), 0);
        for (uint64_t i = 1; i <= 4 * SLOTS; i++)
                ck_assert_int_eq(follow_get(&view, 3ull << 44 | i, &flags), 0);
        for (uint64_t i = 1; i < 100000; i++)
                if (follow_add(shm, i << 20) == ADMISSION_E_FULL)
                        n++;
        ck_assert_uint_gt(n, 0); /* full is an answer, not an accident */
}
END_TEST

START_TEST(numbers_are_unique_over_incarnations) {
        uint64_t first = table_next_request(&table), second;

        ck_assert_uint_eq(first, 3ull << 44 | 1);
        detach();
        attach();
        second = table_next_request(&table);
        ck_assert_uint_eq(second, first + 1);
}
END_TEST

START_TEST(c18_the_lane_limit_is_exact_over_gateways) {
        for (int i = 0; i < 4; i++)
                ck_assert_int_eq(table_lane_take(&table, 0), 0);
        ck_assert_int_eq(table_lane_take(&table, 0), ADMISSION_E_FULL);
        ck_assert_int_eq(table_lane_take(&table, 1), 0);
        table_lane_give(&table, 0);
        atomic_store(&other->lane_in_flight[0], 1);
        ck_assert_int_eq(table_lane_take(&table, 0), ADMISSION_E_FULL);
        ck_assert_uint_eq(atomic_load(&shm->lane_in_flight[0]), 3); /* it backed out */
        atomic_store(&other->lane_in_flight[0], 0);
        ck_assert_int_eq(table_lane_take(&table, 0), 0);
}
END_TEST

START_TEST(claims_run_out_and_come_back) {
        uint32_t slots[SLOTS];
        struct table_claim wish = {.id = "x", .id_len = 1, .tenant = "local", .tenant_len = 5};
        uint32_t slot;

        for (int i = 0; i < SLOTS; i++)
                slots[i] = claim("same");
        ck_assert_int_eq(table_claim(&table, &wish, &slot), ADMISSION_E_FULL);
        table_withdraw(&table, slots[9]);
        ck_assert_int_eq(table_claim(&table, &wish, &slot), 0);
        ck_assert_uint_eq(slot, slots[9]);
}
END_TEST

START_TEST(a_slot_is_found_by_id_while_it_is_claimed_open_or_closing) {
        uint32_t slot, found;
        struct table_open open = {.lane = 1};
        struct admission_slot copy;

        ck_assert_int_eq(admission_find_id(&view, "local", 5, "r1", 2, &found), ADMISSION_E_NONE);
        slot = claim("r1");
        ck_assert_int_eq(admission_find_id(&view, "local", 5, "r1", 2, &found), 0);
        ck_assert_uint_eq(found, slot);
        ck_assert_int_eq(
                        table_peek(&view, slot, &copy), ADMISSION_E_NONE); /* claimed is not open */
        ck_assert_int_eq(admission_find_id(&view, "local", 5, "r2", 2, &found), ADMISSION_E_NONE);
        ck_assert_int_eq(admission_find_id(&view, "uid:7", 5, "r1", 2, &found), ADMISSION_E_NONE);
        ck_assert_int_eq(table_lane_take(&table, 1), 0);
        table_open(&table, slot, &open);
        ck_assert_int_eq(table_peek(&view, slot, &copy), 0);
        ck_assert_uint_eq(copy.lane, 1);
        shm->slots[slot].id_len = 60000; /* what another process wrote is bounded */
        ck_assert_int_eq(table_peek(&view, slot, &copy), ADMISSION_E_NONE);
        shm->slots[slot].id_len = 2;
        table_close(&table, slot, OUTCOME_CANCELLED);
        ck_assert_int_eq(admission_find_id(&view, "local", 5, "r1", 2, &found), ADMISSION_E_NONE);
        ck_assert_uint_eq(table_total(&table, OUTCOME_CANCELLED), 1);
        ck_assert_uint_eq(atomic_load(&shm->lane_in_flight[1]), 0);
}
END_TEST

START_TEST(an_open_slot_whose_record_was_committed_survives_with_its_body) {
        struct table_open open = {.ring_seq = 999};
        struct admission_slot *slot;
        uint8_t *to;
        uint32_t i, j;

        ck_assert_int_eq(arena_alloc(&arena, 5000, &open.block, &to), 0);
        memset(to, 'b', 5000);
        ck_assert_int_eq(table_lane_take(&table, 0), 0);
        i = claim("kept");
        table_open(&table, i, &open);
        open.ring_seq = 1000;
        ck_assert_int_eq(table_lane_take(&table, 0), 0);
        j = claim("never sent");
        table_open(&table, j, &open);
        detach();
        attach();
        ck_assert(table_is_open(&table, i));
        ck_assert(!table_is_open(&table, j));
        ck_assert_uint_eq(table.n_open, 1);
        ck_assert_uint_eq(atomic_load(&shm->lane_in_flight[0]), 1);
        slot = &shm->slots[i];
        ck_assert_uint_ge(arena.used_bytes, slot->block.len);
        table_close(&table, i, OUTCOME_COMPLETED);
        ck_assert_uint_eq(arena.used_bytes, 0);
}
END_TEST

#define ROUNDS 100000u

/* One slot in use all the time: claimed, opened, committed, closed. */
static void *use_a_slot(void *done) {
        for (uint64_t seq = 1000; seq < 1000 + ROUNDS; seq++) {
                struct table_open open = {.ring_seq = seq};
                uint32_t slot = claim("same");

                open.digest[0] = open.t0 = atomic_load(&shm->slots[slot].req_id);
                open.digest[1] = seq;
                ck_assert_int_eq(table_lane_take(&table, 0), 0);
                table_open(&table, slot, &open);
                table_committed(&table, 0, seq + 1);
                table_close(&table, slot, OUTCOME_COMPLETED);
        }
        atomic_store((atomic_bool *)done, true);
        return NULL;
}

START_TEST(what_is_seen_of_a_slot_is_of_one_request_and_that_is_committed) {
        atomic_bool done = false;
        pthread_t writer;

        ck_assert_int_eq(pthread_create(&writer, NULL, use_a_slot, &done), 0);
        while (!atomic_load(&done)) {
                struct admission_slot copy;
                uint32_t slot;

                if (admission_find_id(&view, "local", 5, "same", 4, &slot) != 0 ||
                                table_peek(&view, slot, &copy) != 0)
                        continue;
                ck_assert_uint_eq(copy.digest[0], atomic_load(&copy.req_id));
                ck_assert_uint_eq(copy.t0, atomic_load(&copy.req_id));
                ck_assert_uint_eq(copy.digest[1], atomic_load(&copy.ring_seq));
                ck_assert_uint_lt(atomic_load(&copy.ring_seq), atomic_load(&shm->committed[0]));
        }
        pthread_join(writer, NULL);
}
END_TEST

static Suite *suite(void) {
        Suite *s = suite_create("gateway admission");
        TCase *all = tcase_create("all");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, another_layout_magic_or_size_is_refused);
        tcase_add_test(all, follows_are_found_marked_counted_and_removed);
        tcase_add_test(all, the_follow_table_holds_what_its_limits_say);
        tcase_add_test(all, numbers_are_unique_over_incarnations);
        tcase_add_test(all, c18_the_lane_limit_is_exact_over_gateways);
        tcase_add_test(all, claims_run_out_and_come_back);
        tcase_add_test(all, a_slot_is_found_by_id_while_it_is_claimed_open_or_closing);
        tcase_add_test(all, an_open_slot_whose_record_was_committed_survives_with_its_body);
        tcase_add_test(all, what_is_seen_of_a_slot_is_of_one_request_and_that_is_committed);
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
