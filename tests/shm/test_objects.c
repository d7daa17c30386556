/*
 * The smaller objects: arena, counters, side ring, and the bitmap of units.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pair.h"
#include "shm/arena.h"
#include "shm/counters.h"
#include "shm/side.h"
#include "shm/units.h"

static void *zeroed(uint64_t bytes) {
        void *p = aligned_alloc(4096, layout_align(bytes, 4096));

        ck_assert_ptr_nonnull(p);
        memset(p, 0, bytes);
        return p;
}

/* ---- units ---- */

START_TEST(units_refuse_what_does_not_fit) {
        uint64_t *used = units_new(100);
        uint32_t hint = 0;

        ck_assert_uint_eq(units_take(used, 100, &hint, 0), UNITS_NONE);
        ck_assert_uint_eq(units_take(used, 100, &hint, 101), UNITS_NONE);
        ck_assert_uint_eq(units_take(used, 100, &hint, 100), 0);
        ck_assert_uint_eq(units_take(used, 100, &hint, 1), UNITS_NONE);
        ck_assert(!units_claim(used, 100, 0, 1));
        units_release(used, 0, 100);
        ck_assert(!units_claim(used, 100, 99, 2));
        ck_assert(!units_claim(used, 100, 101, 0));
        ck_assert(!units_claim(used, 100, UINT32_MAX, UINT32_MAX));
        ck_assert(units_claim(used, 100, 98, 2));
        free(used);
}
END_TEST

START_TEST(units_never_give_one_unit_twice) {
        enum { N = 200, RUNS = 40 };
        struct {
                uint32_t at, n;
        } run[RUNS] = {0};
        uint64_t *used = units_new(N), rnd = 4711;
        uint8_t owner[N] = {0};
        uint32_t hint = 0, n_none = 0;

        for (int round = 0; round < 20000; round++) {
                uint32_t i = (uint32_t)(pair_random(&rnd) % RUNS);

                if (run[i].n != 0) {
                        units_release(used, run[i].at, run[i].n);
                        memset(owner + run[i].at, 0, run[i].n);
                        run[i].n = 0;
                        continue;
                }
                run[i].n = 1 + (uint32_t)(pair_random(&rnd) % 20);
                run[i].at = units_take(used, N, &hint, run[i].n);
                if (run[i].at == UNITS_NONE) {
                        n_none++;
                        run[i].n = 0;
                        continue;
                }
                ck_assert_uint_le(run[i].at + run[i].n, N);
                for (uint32_t u = 0; u < run[i].n; u++)
                        ck_assert_uint_eq(owner[run[i].at + u]++, 0);
        }
        ck_assert_uint_gt(n_none, 0);
        free(used);
}
END_TEST

/* ---- arena ---- */

#define BODIES (16u * ARENA_UNIT)

static struct arena_shm *arena_shm;
static struct arena arena;
static struct arena_view view;

static void arena_setup(void) {
        arena_shm = zeroed(arena_bytes(BODIES));
        arena_format(arena_shm, BODIES);
        ck_assert_int_eq(arena_attach(&arena, arena_shm, arena_bytes(BODIES)), 0);
        ck_assert_int_eq(arena_view_init(&view, arena_shm, arena_bytes(BODIES)), 0);
}

static void arena_teardown(void) {
        arena_close(&arena);
        free(arena_shm);
}

START_TEST(arena_of_another_layout_or_size_is_refused) {
        struct arena other;

        ck_assert_int_eq(arena_attach(&other, arena_shm, arena_bytes(BODIES) - 4096), -EPROTO);
        ck_assert_int_eq(arena_view_init(&view, arena_shm, 64), -EPROTO);
        arena_shm->n_units++;
        ck_assert_int_eq(arena_view_init(&view, arena_shm, arena_bytes(BODIES)), -EPROTO);
        arena_shm->n_units--;
        arena_shm->layout++;
        ck_assert_int_eq(arena_attach(&other, arena_shm, arena_bytes(BODIES)), -EPROTO);
        arena_shm->layout--;
        arena_shm->magic++;
        ck_assert_int_eq(arena_view_init(&view, arena_shm, arena_bytes(BODIES)), -EPROTO);
}
END_TEST

START_TEST(reference_out_of_the_arena_or_the_body_is_refused) {
        const struct arena_ref bad[] = {
                        {.off = BODIES, .len = 1, .gen = 1},
                        {.off = UINT64_MAX - 4095, .len = 1, .gen = 1},
                        {.off = 8, .len = 1, .gen = 1},
                        {.off = BODIES - ARENA_UNIT, .len = ARENA_UNIT + 1, .gen = 1},
                        {.off = 0, .len = 100, .gen = 1},
        };
        uint8_t to[128];

        for (int i = 0; i < 4; i++)
                ck_assert_int_eq(arena_copy(&view, &bad[i], 0, 1, to), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_copy(&view, &bad[4], 0, 101, to), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_copy(&view, &bad[4], 101, 0, to), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_copy(&view, &bad[4], UINT32_MAX, 2, to), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_copy(&view, &bad[4], 2, UINT32_MAX, to), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_copy(&view, &bad[4], 100, 0, to), 0);
}
END_TEST

START_TEST(body_is_read_until_it_is_freed) {
        struct arena_ref ref, next;
        uint8_t *data, to[9000];

        ck_assert_int_eq(arena_alloc(&arena, 9000, &ref, &data), 0);
        pattern_fill(data, 5, 9000);
        ck_assert_uint_eq(arena.used_bytes, 3 * ARENA_UNIT);
        ck_assert_int_eq(arena_copy(&view, &ref, 0, 9000, to), 0);
        ck_assert(pattern_is(to, 5, 9000));
        ck_assert_int_eq(arena_copy(&view, &ref, 8990, 10, to), 0);
        ck_assert_uint_eq(to[9], pattern(5, 8999));
        arena_free(&arena, &ref);
        ck_assert_uint_eq(arena.used_bytes, 0);
        ck_assert_int_eq(arena_copy(&view, &ref, 0, 9000, to), ARENA_E_GONE);
        arena.hint = 0;
        ck_assert_int_eq(arena_alloc(&arena, 10, &next, &data), 0);
        ck_assert_uint_eq(next.off, ref.off);
        ck_assert_int_eq(arena_copy(&view, &ref, 0, 1, to), ARENA_E_GONE);
        ck_assert_int_eq(arena_copy(&view, &next, 0, 10, to), 0);
}
END_TEST

START_TEST(full_arena_says_so) {
        struct arena_ref ref[16], one;
        uint8_t *data;

        for (int i = 0; i < 16; i++)
                ck_assert_int_eq(arena_alloc(&arena, 1, &ref[i], &data), 0);
        ck_assert_int_eq(arena_alloc(&arena, 1, &one, &data), ARENA_E_FULL);
        arena_free(&arena, &ref[3]);
        arena_free(&arena, &ref[5]);
        ck_assert_int_eq(arena_alloc(&arena, ARENA_UNIT + 1, &one, &data), ARENA_E_FULL);
        ck_assert_int_eq(arena_alloc(&arena, ARENA_UNIT, &one, &data), 0);
}
END_TEST

START_TEST(arena_without_room_for_its_pages_says_so_and_touches_none) {
        uint64_t bytes = arena_bytes(BODIES), first = arena_head_bytes(BODIES) + 2 * ARENA_UNIT;
        int fd = memfd_create("arena", MFD_CLOEXEC);
        struct arena_ref ref;
        struct arena thin;
        uint8_t *data;
        void *map;

        ck_assert_int_eq(ftruncate(fd, (off_t)first), 0); /* there is nothing behind its end */
        map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert_ptr_ne(map, MAP_FAILED);
        arena_format(map, BODIES);
        ck_assert_int_eq(arena_attach(&thin, map, bytes), 0);
        ck_assert_int_eq(arena_alloc(&thin, ARENA_UNIT, &ref, &data), 0);
        memset(data, 1, ARENA_UNIT);
        ck_assert_int_eq(arena_alloc(&thin, 2 * ARENA_UNIT, &ref, &data), ARENA_E_THIN);
        ck_assert_uint_eq(thin.used_bytes, ARENA_UNIT);
        ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0); /* there is room now */
        ck_assert_int_eq(arena_alloc(&thin, 2 * ARENA_UNIT, &ref, &data), 0);
        memset(data, 1, (size_t)2 * ARENA_UNIT);
        arena_close(&thin);
        munmap(map, bytes);
        close(fd);
}
END_TEST

START_TEST(what_no_open_slot_names_is_gone_after_attach) {
        struct arena_ref keep, lose;
        uint8_t *data, to[16];

        ck_assert_int_eq(arena_alloc(&arena, 5000, &keep, &data), 0);
        ck_assert_int_eq(arena_alloc(&arena, 10, &lose, &data), 0);
        arena_close(&arena);
        ck_assert_int_eq(arena_attach(&arena, arena_shm, arena_bytes(BODIES)), 0);
        ck_assert_int_eq(arena_adopt(&arena, &keep), 0);
        ck_assert_int_eq(arena_adopt(&arena, &keep), ARENA_E_BOUNDS);
        ck_assert_int_eq(arena_adopt(&arena,
                                         &(struct arena_ref){
                                                         .off = 4096 * 15, .len = 5000, .gen = 1}),
                        ARENA_E_BOUNDS);
        arena_adopted(&arena);
        ck_assert_uint_eq(arena.used_bytes, 2 * ARENA_UNIT);
        ck_assert_int_eq(arena_copy(&view, &keep, 0, 16, to), 0);
        ck_assert_int_eq(arena_copy(&view, &lose, 0, 10, to), ARENA_E_GONE);
        ck_assert_int_eq(arena_adopt(&arena, &lose), ARENA_E_GONE);
}
END_TEST

/* ---- counters ---- */

START_TEST(counters_count_and_have_names) {
        struct counters_shm *shm = zeroed(counters_bytes());

        ck_assert_int_eq(counters_check(shm, counters_bytes()), -EPROTO);
        counters_format(shm);
        ck_assert_int_eq(counters_check(shm, 512), -EPROTO);
        ck_assert_int_eq(counters_check(shm, counters_bytes()), 0);
        counters_add(shm, COUNTER_admitted, 3);
        counters_add(shm, COUNTER_admitted, 4);
        counters_set(shm, COUNTER_in_flight, 9);
        ck_assert_uint_eq(counters_get(shm, COUNTER_admitted), 7);
        ck_assert_uint_eq(counters_get(shm, COUNTER_in_flight), 9);
        for (unsigned i = 0; i < COUNTERS_N; i++) {
                ck_assert_uint_gt(strlen(counters_name(i)), 0);
                ck_assert_uint_gt(strlen(counters_sentence(i)), 0);
        }
        ck_assert_str_eq(counters_name(COUNTER_admitted), "admitted");
        ck_assert_ptr_null(counters_name(COUNTERS_N));
        ck_assert_ptr_null(counters_sentence(COUNTERS_N));
        free(shm);
}
END_TEST

START_TEST(histogram_counts_each_value_in_one_bucket) {
        const uint64_t ns[] = {
                        0, 63999, 64000, 127999, 128000, UINT64_C(1) << 40, UINT64_C(1) << 60};
        const uint32_t bucket[] = {0, 0, 1, 1, 2, COUNTERS_BUCKETS - 1, COUNTERS_BUCKETS - 1};
        struct counters_shm *shm = zeroed(counters_bytes());
        struct counters_histogram *h = &shm->histogram[HISTOGRAM_ttft];
        uint64_t expected[COUNTERS_BUCKETS] = {0}, sum = 0;

        for (int i = 0; i < 7; i++) {
                counters_observe(shm, HISTOGRAM_ttft, ns[i]);
                expected[bucket[i]]++;
                sum += ns[i];
        }
        for (uint32_t i = 0; i < COUNTERS_BUCKETS; i++)
                ck_assert_uint_eq(word_of(&h->bucket[i]), expected[i]);
        ck_assert_uint_eq(word_of(&h->count), 7);
        ck_assert_uint_eq(word_of(&h->sum_ns), sum);
        ck_assert_uint_eq(word_of(&shm->histogram[HISTOGRAM_stage].count), 0);
        free(shm);
}
END_TEST

/* ---- side ring ---- */

static struct side_shm *side;

static void side_setup(void) {
        side = zeroed(side_bytes());
        ck_assert_int_eq(side_check(side, side_bytes()), -EPROTO);
        side_format(side);
        ck_assert_int_eq(side_check(side, side_bytes()), 0);
        ck_assert_int_eq(side_check(side, 128), -EPROTO);
}

static void side_teardown(void) {
        free(side);
}

START_TEST(side_entries_come_in_order_until_there_are_none) {
        uint64_t cursor = 0;
        enum side_kind kind;
        uint32_t len;
        char to[SIDE_SLOT];

        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), SIDE_E_EMPTY);
        side_write(side, SIDE_SPAN, "first", 5);
        side_write(side, SIDE_TAP, "second", 6);
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), 0);
        ck_assert_uint_eq(len, 5);
        ck_assert_int_eq(kind, SIDE_SPAN);
        ck_assert_mem_eq(to, "first", 5);
        ck_assert_int_eq(side_read(side, &cursor, to, 3, &len, &kind), 0);
        ck_assert_uint_eq(len, 3);
        ck_assert_mem_eq(to, "sec", 3);
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), SIDE_E_EMPTY);
}
END_TEST

START_TEST(slow_reader_of_the_side_ring_only_loses) {
        uint64_t cursor = 1;
        enum side_kind kind;
        uint32_t len, n = 0, value;
        uint32_t last = 0;

        for (uint32_t i = 1; i <= 3 * SIDE_N; i++)
                side_write(side, SIDE_EVENT, &i, sizeof(i));
        ck_assert_int_eq(side_read(side, &cursor, &value, 4, &len, &kind), SIDE_E_LOST);
        while (side_read(side, &cursor, &value, 4, &len, &kind) == 0) {
                ck_assert(last == 0 || value == last + 1);
                last = value;
                n++;
        }
        ck_assert_uint_eq(last, 3 * SIDE_N);
        ck_assert_uint_eq(n, SIDE_N - 1);
}
END_TEST

START_TEST(long_side_entry_is_cut_and_a_torn_one_is_lost) {
        uint8_t big[1000], to[1000];
        uint64_t cursor = 0;
        enum side_kind kind;
        uint32_t len;

        pattern_fill(big, 1, sizeof(big));
        side_write(side, SIDE_TAP, big, sizeof(big));
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), 0);
        ck_assert_uint_eq(len, sizeof(side->slot[0].bytes));
        ck_assert(pattern_is(to, 1, len));
        side_write(side, SIDE_TAP, "torn", 4);
        side_write(side, SIDE_TAP, "whole", 5);
        atomic_store_explicit(&side->slot[2].seq, 0, memory_order_relaxed);
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), SIDE_E_LOST);
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), 0);
        ck_assert_mem_eq(to, "whole", 5);
        side->slot[3].len = UINT32_MAX; /* a hostile writer */
        cursor = 3;
        ck_assert_int_eq(side_read(side, &cursor, to, sizeof(to), &len, &kind), 0);
        ck_assert_uint_le(len, sizeof(side->slot[0].bytes));
}
END_TEST

int main(void) {
        Suite *suite = suite_create("objects");
        TCase *units = tcase_create("units"), *bodies = tcase_create("arena"),
              *counts = tcase_create("counters"), *sides = tcase_create("side");
        SRunner *runner;
        int failed;

        tcase_add_test(units, units_refuse_what_does_not_fit);
        tcase_add_test(units, units_never_give_one_unit_twice);
        tcase_add_checked_fixture(bodies, arena_setup, arena_teardown);
        tcase_add_test(bodies, arena_of_another_layout_or_size_is_refused);
        tcase_add_test(bodies, reference_out_of_the_arena_or_the_body_is_refused);
        tcase_add_test(bodies, body_is_read_until_it_is_freed);
        tcase_add_test(bodies, full_arena_says_so);
        tcase_add_test(bodies, arena_without_room_for_its_pages_says_so_and_touches_none);
        tcase_add_test(bodies, what_no_open_slot_names_is_gone_after_attach);
        tcase_add_test(counts, counters_count_and_have_names);
        tcase_add_test(counts, histogram_counts_each_value_in_one_bucket);
        tcase_add_checked_fixture(sides, side_setup, side_teardown);
        tcase_add_test(sides, side_entries_come_in_order_until_there_are_none);
        tcase_add_test(sides, slow_reader_of_the_side_ring_only_loses);
        tcase_add_test(sides, long_side_entry_is_cut_and_a_torn_one_is_lost);
        suite_add_tcase(suite, units);
        suite_add_tcase(suite, bodies);
        suite_add_tcase(suite, counts);
        suite_add_tcase(suite, sides);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
