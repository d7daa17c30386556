/* Processes, rings and objects that follow from the settings. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shm/segment.h"
#include "supervisor/topology.h"

static struct settings *settings;
static struct topology_shm *topology;
static struct topology_object objects[TOPOLOGY_OBJECTS_MAX];
static uint32_t n_objects;

static void build(uint32_t n_cores) {
        ck_assert_int_eq(topology_build(settings, n_cores, 7, topology), 0);
        n_objects = topology_objects(topology, objects);
        ck_assert_uint_le(n_objects, TOPOLOGY_OBJECTS_MAX);
}

static void set_up(void) {
        ck_assert_int_eq(settings_default(&settings), 0);
        topology = calloc(1, sizeof(*topology));
        ck_assert_ptr_nonnull(topology);
}

static void tear_down(void) {
        settings = settings_free(settings);
        free(topology);
}

static uint64_t sum(void) {
        uint64_t bytes = 0;

        for (uint32_t i = 0; i < n_objects; i++)
                if (objects[i].kind != OBJECT_ARENA || objects[i].a < topology->n_gateways)
                        bytes += layout_align(objects[i].bytes, LAYOUT_PAGE);
        return bytes;
}

static const struct topology_ring *ring(enum ring_kind kind, uint32_t from, uint32_t to) {
        const struct topology_ring *found = NULL;

        for (uint32_t i = 0; i < topology->n_rings; i++) {
                const struct topology_ring *r = &topology->rings[i];

                if (r->kind != (uint32_t)kind || r->from != from || r->to != to)
                        continue;
                ck_assert_msg(!found, "two rings of kind %d from %u to %u", kind, from, to);
                found = r;
        }
        return found;
}

static enum topology_right right(enum mr_object kind, uint32_t a, uint32_t b, uint32_t proc) {
        for (uint32_t i = 0; i < n_objects; i++)
                if (objects[i].kind == kind && objects[i].a == a && objects[i].b == b)
                        return topology_grant(topology, &objects[i], proc);
        ck_abort_msg("no object of kind %d with %u, %u", kind, a, b);
        return RIGHT_NONE;
}

/* ---- refusals -------------------------------------------------------------------------------- */

START_TEST(a_topology_without_magic_or_of_another_layout_is_refused) {
        build(2);
        ck_assert_int_eq(topology_check(topology, topology_bytes()), -EPROTO);
        topology->magic = MAGIC_TOPOLOGY;
        ck_assert_int_eq(topology_check(topology, topology_bytes()), 0);
        ck_assert_int_eq(topology_check(topology, topology_bytes() - 1), -EPROTO);
        topology->layout ^= 1;
        ck_assert_int_eq(topology_check(topology, topology_bytes()), -EPROTO);
}
END_TEST

START_TEST(a_topology_that_contradicts_itself_is_refused) {
        struct topology_shm *good = malloc(sizeof(*good));

        build(2);
        topology->magic = MAGIC_TOPOLOGY;
        memcpy(good, topology, sizeof(*good));
#define REFUSED(change)                                                                            \
        do {                                                                                       \
                change;                                                                            \
                ck_assert_msg(topology_check(topology, topology_bytes()) == -EPROTO, #change);     \
                memcpy(topology, good, sizeof(*good));                                             \
        } while (0)
        REFUSED(topology->n_lanes = 0);
        REFUSED(topology->n_lanes = LANES_MAX + 1);
        REFUSED(topology->n_gateways = 0);
        REFUSED(topology->n_gateway_slots = GATEWAY_SLOTS_MAX + 1);
        REFUSED(topology->n_procs++);
        REFUSED(topology->n_rings = RINGS_MAX + 1);
        REFUSED(topology->procs[0].role = ROLE_RAG);
        REFUSED(topology->procs[3].lane = 1);
        REFUSED(topology->rings[0].id = 9);
        REFUSED(topology->rings[0].from = topology->n_procs);
        REFUSED(topology->rings[0].to = topology->rings[0].from);
        REFUSED(topology->rings[0].n = 1000);
        REFUSED(topology->rings[0].lane = 2);
        ck_assert_int_eq(topology_check(topology, topology_bytes()), 0);
        free(good);
}
END_TEST

START_TEST(settings_that_no_ring_can_have_are_refused) {
        settings->memory.ring_bytes = 65536 + 1;
        ck_assert_int_eq(topology_build(settings, 2, 1, topology), -EINVAL);
        ck_assert_uint_eq(topology_shm_bytes(settings), 0);
}
END_TEST

/* ---- counts ---------------------------------------------------------------------------------- */

START_TEST(auto_is_a_lane_for_each_core_and_a_gateway_for_each_four_lanes) {
        static const struct {
                uint32_t cores, lanes, gateways;
        } rows[] = {{1, 1, 1}, {2, 2, 1}, {4, 4, 1}, {5, 5, 2}, {8, 8, 2}, {64, 8, 2}};

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                build(rows[i].cores);
                ck_assert_uint_eq(topology->n_lanes, rows[i].lanes);
                ck_assert_uint_eq(topology->n_gateways, rows[i].gateways);
                ck_assert_uint_eq(topology->n_gateway_slots, rows[i].gateways + 1);
                ck_assert_uint_eq(topology->n_procs, rows[i].gateways + 1 + 5 * rows[i].lanes + 2);
        }
        settings->lanes = 3;
        settings->gateways = 4;
        build(64);
        ck_assert_uint_eq(topology->n_lanes, 3);
        ck_assert_uint_eq(topology->n_gateways, 4);
}
END_TEST

START_TEST(two_lanes_with_the_defaults_fit_64_mib) {
        settings->lanes = 2;
        build(2);
        ck_assert_msg(sum() <= 64ull << 20, "%llu bytes", (unsigned long long)sum());
        ck_assert_uint_eq(topology_shm_bytes(settings), sum());
}
END_TEST

START_TEST(the_largest_topology_has_room) {
        settings->lanes = LANES_MAX;
        settings->gateways = GATEWAY_PLACES_MAX;
        build(1);
        ck_assert_uint_eq(topology->n_procs, PROCS_MAX);
        ck_assert_uint_eq(topology->n_rings, RINGS_MAX);
        topology->magic = MAGIC_TOPOLOGY;
        ck_assert_int_eq(topology_check(topology, topology_bytes()), 0);
}
END_TEST

START_TEST(a_slab_holds_the_longest_record_several_times) {
        settings->memory.ring_bytes = 64ull << 20;
        build(1);
        ck_assert_uint_ge(topology->slab_units[ROLE_POST] * 1024, settings->memory.ring_bytes / 4);
        ck_assert_uint_eq(topology->slab_units[ROLE_ASSEMBLE], 0);
}
END_TEST

START_TEST(a_slab_has_room_for_all_that_is_in_flight) {
        settings->admission.max_in_flight = 10000;
        build(1);
        ck_assert_uint_ge(topology->slab_units[ROLE_RAG], 10000);
        ck_assert_uint_ge(topology->slab_units[ROLE_INFERENCE], 10000);
        ck_assert_uint_ge(topology->slab_units[ROLE_POST], 10000);
        ck_assert_uint_eq(topology->slab_units[ROLE_STREAM], 0);
}
END_TEST

/* ---- wiring ---------------------------------------------------------------------------------- */

START_TEST(each_lane_has_its_line_of_data_rings_and_its_control_rings) {
        settings->lanes = 2;
        settings->gateways = 2;
        build(2);
        ck_assert_uint_eq(topology->n_rings, 2 * (3 + 4 + 3 + 1 + 3 + 3));
        for (uint32_t lane = 0; lane < 2; lane++) {
                uint32_t rag = topology_proc_stage(topology, lane, ROLE_RAG);
                uint32_t inference = topology_proc_stage(topology, lane, ROLE_INFERENCE);

                for (uint32_t g = 0; g < 3; g++) {
                        ck_assert_ptr_nonnull(ring(RING_DATA, g, rag));
                        ck_assert_ptr_nonnull(ring(RING_CANCEL, g, inference));
                        ck_assert_ptr_nonnull(ring(RING_NOTICE, rag + 4, g));
                        ck_assert_ptr_nonnull(ring(RING_LOOKUP, g, rag + 4));
                }
                for (uint32_t stage = 0; stage < 4; stage++)
                        ck_assert_ptr_nonnull(ring(RING_DATA, rag + stage, rag + stage + 1));
                ck_assert_ptr_nonnull(ring(RING_CANCEL, rag + 3, inference));
                ck_assert(topology_neighbours(topology, rag, 0));
                ck_assert(topology_neighbours(topology, rag, rag + 1));
                ck_assert(!topology_neighbours(topology, rag, rag + 2));
        }
        ck_assert_ptr_null(ring(RING_DATA, topology_proc_stage(topology, 0, ROLE_RAG),
                        topology_proc_stage(topology, 1, ROLE_ASSEMBLE)));
}
END_TEST

START_TEST(ring_sizes_follow_the_settings) {
        const struct topology_ring *r;

        settings->channels.inference = 1024;
        settings->channels.stream = 256;
        build(1);
        r = ring(RING_DATA, topology_proc_stage(topology, 0, ROLE_ASSEMBLE),
                        topology_proc_stage(topology, 0, ROLE_INFERENCE));
        ck_assert_uint_eq(r->n, 2048); /* >= 1024 + 2 * 64 */
        ck_assert_uint_eq(r->bound, 1024);
        ck_assert_uint_eq(r->bytes, settings->memory.ring_bytes);
        ck_assert_uint_eq(r->max_rec, settings->memory.ring_bytes / 4);
        r = ring(RING_DATA, topology_proc_stage(topology, 0, ROLE_POST),
                        topology_proc_stage(topology, 0, ROLE_STREAM));
        ck_assert_uint_eq(r->n, 512);
        r = ring(RING_NOTICE, topology_proc_stage(topology, 0, ROLE_STREAM), 0);
        ck_assert_uint_eq(r->n, 256);
        ck_assert_uint_eq(r->bytes, 32768);
}
END_TEST

START_TEST(every_object_has_one_writer_and_a_name_of_its_own) {
        settings->lanes = 2;
        build(2);
        for (uint32_t i = 0; i < n_objects; i++) {
                uint32_t writers = 0;

                for (uint32_t p = 0; p < topology->n_procs; p++)
                        writers += topology_grant(topology, &objects[i], p) == RIGHT_WRITE;
                ck_assert_uint_eq(writers, i == 0 ? 0 : 1);
                ck_assert_uint_gt(objects[i].bytes, 0);
                for (uint32_t k = 0; k < i; k++)
                        ck_assert_str_ne(objects[i].name, objects[k].name);
        }
        ck_assert_int_eq(objects[0].kind, OBJECT_TOPOLOGY);
}
END_TEST

START_TEST(each_role_maps_what_it_needs_and_no_more) {
        const uint32_t none = UINT32_MAX;
        uint32_t p;

        settings->lanes = 2;
        build(2);
        ck_assert_int_eq(right(OBJECT_ADMISSION, 0, none, 0), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_ADMISSION, 1, none, 0), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, 0), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, 1), RIGHT_NONE);
        ck_assert_int_eq(right(OBJECT_LOG, 1, none, 0), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_TOPOLOGY, none, none, 0), RIGHT_READ);
        p = topology_proc_stage(topology, 1, ROLE_RAG);
        ck_assert_int_eq(right(OBJECT_SLAB, 1, ROLE_RAG, p), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_SLAB, 0, ROLE_RAG, p), RIGHT_NONE);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, p), RIGHT_NONE);
        p = topology_proc_stage(topology, 0, ROLE_ASSEMBLE);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, p), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_ADMISSION, 0, none, p), RIGHT_NONE);
        /* What backends have counted: of every lane, and nothing else of anybody's. */
        for (uint32_t other = 0; other < topology->n_procs; other++)
                ck_assert_int_eq(right(OBJECT_COUNTERS, other, none, p),
                                other == p ? RIGHT_WRITE
                                : topology->procs[other].role == ROLE_INFERENCE ? RIGHT_READ
                                                                                : RIGHT_NONE);
        p = topology_proc_stage(topology, 0, ROLE_INFERENCE);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, p), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_ADMISSION, 1, none, p), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_SLAB, 0, ROLE_INFERENCE, p), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_SLAB, 0, ROLE_POST, p), RIGHT_NONE);
        p = topology_proc_stage(topology, 0, ROLE_STREAM);
        ck_assert_int_eq(right(OBJECT_LOG, 0, none, p), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_LOG, 1, none, p), RIGHT_NONE);
        ck_assert_int_eq(right(OBJECT_ADMISSION, 0, none, p), RIGHT_READ);
        p = topology_proc_telemetry(topology);
        ck_assert_int_eq(right(OBJECT_COUNTERS, 0, none, p), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_COUNTERS, p, none, p), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_SIDE, 0, none, p), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_LOG, 0, none, p), RIGHT_NONE);
        ck_assert_int_eq(right(OBJECT_COUNTERS, 0, none, 1), RIGHT_NONE);
        p = topology_proc_watch(topology);
        ck_assert_int_eq(right(OBJECT_COUNTERS, p, none, p), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_COUNTERS, 0, none, p), RIGHT_NONE);
        ck_assert_int_eq(right(OBJECT_ARENA, 0, none, p), RIGHT_NONE);
}
END_TEST

START_TEST(a_ring_is_written_from_both_ends_each_on_its_own_side) {
        uint32_t rag, id;

        build(1);
        rag = topology_proc_stage(topology, 0, ROLE_RAG);
        id = ring(RING_DATA, rag, rag + 1)->id;
        ck_assert_int_eq(right(OBJECT_RING_PROD, id, UINT32_MAX, rag), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_RING_CONS, id, UINT32_MAX, rag), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_RING_PROD, id, UINT32_MAX, rag + 1), RIGHT_READ);
        ck_assert_int_eq(right(OBJECT_RING_CONS, id, UINT32_MAX, rag + 1), RIGHT_WRITE);
        ck_assert_int_eq(right(OBJECT_RING_PROD, id, UINT32_MAX, rag + 2), RIGHT_NONE);
}
END_TEST

START_TEST(the_hash_says_what_the_memory_depends_on_and_nothing_else) {
        uint64_t hash;

        build(2);
        hash = topology->hash;
        ck_assert_int_eq(topology_build(settings, 2, 99, topology), 0);
        ck_assert_uint_eq(topology->hash, hash);
        settings->rag.top_k++;
        build(2);
        ck_assert_uint_eq(topology->hash, hash);
        build(1);
        ck_assert_uint_ne(topology->hash, hash);
        settings->stream.log_bytes += 4096;
        build(2);
        ck_assert_uint_ne(topology->hash, hash);
        settings->stream.log_bytes -= 4096;
        settings->channels.post = 2000;
        build(2);
        ck_assert_uint_ne(topology->hash, hash);
}
END_TEST

START_TEST(a_lane_stays_on_one_core_and_spread_uses_them_all) {
        const uint32_t cores[] = {3, 5, 9};

        settings->lanes = 4;
        build(3);
        for (uint32_t lane = 0; lane < 4; lane++)
                for (uint32_t role = 0; role < LANE_STAGES_N; role++) {
                        uint32_t p = topology_proc_stage(topology, lane, role);

                        ck_assert_uint_eq(topology_core(topology, SETTINGS_PIN_LANE, p, cores, 3),
                                        cores[lane % 3]);
                        ck_assert_uint_eq(topology_core(topology, SETTINGS_PIN_SPREAD, p, cores, 3),
                                        cores[p % 3]);
                        ck_assert_uint_eq(topology_core(topology, SETTINGS_PIN_NONE, p, cores, 3),
                                        UINT32_MAX);
                }
        ck_assert_uint_eq(topology_core(topology, SETTINGS_PIN_LANE, 0, cores, 3), UINT32_MAX);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("topology");
        TCase *tc = tcase_create("topology");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, a_topology_without_magic_or_of_another_layout_is_refused);
        tcase_add_test(tc, a_topology_that_contradicts_itself_is_refused);
        tcase_add_test(tc, settings_that_no_ring_can_have_are_refused);
        tcase_add_test(tc, auto_is_a_lane_for_each_core_and_a_gateway_for_each_four_lanes);
        tcase_add_test(tc, two_lanes_with_the_defaults_fit_64_mib);
        tcase_add_test(tc, the_largest_topology_has_room);
        tcase_add_test(tc, a_slab_holds_the_longest_record_several_times);
        tcase_add_test(tc, a_slab_has_room_for_all_that_is_in_flight);
        tcase_add_test(tc, each_lane_has_its_line_of_data_rings_and_its_control_rings);
        tcase_add_test(tc, ring_sizes_follow_the_settings);
        tcase_add_test(tc, every_object_has_one_writer_and_a_name_of_its_own);
        tcase_add_test(tc, each_role_maps_what_it_needs_and_no_more);
        tcase_add_test(tc, a_ring_is_written_from_both_ends_each_on_its_own_side);
        tcase_add_test(tc, the_hash_says_what_the_memory_depends_on_and_nothing_else);
        tcase_add_test(tc, a_lane_stays_on_one_core_and_spread_uses_them_all);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
