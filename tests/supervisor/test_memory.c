/* Shared memory of an instance: made, taken over, refused, discarded. Private names in /dev/shm. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/memory.h"

static struct settings *settings;
static struct memory memory;
static struct report report;

static void set_up(void) {
        char name[64];

        ck_assert_int_eq(settings_default(&settings), 0);
        snprintf(name, sizeof(name), "test-memory-%ld", (long)getpid());
        free(settings->instance);
        settings->instance = strdup(name);
        settings->lanes = 1;
        settings->stream.log_bytes = 1 << 20;
        settings->admission.arena_bytes = 1 << 20;
        settings->memory.ring_bytes = 65536;
        memset(&memory, 0, sizeof(memory));
        report.line[0] = '\0';
}

static void discard_all(void) {
        if (memory.n_objects)
                memory_close(&memory, true);
        ck_assert_int_eq(memory_open(settings, 1, true, &memory, &report), 0);
        memory_close(&memory, true);
}

static void count_one(const char *name, void *ctx) {
        (void)name;
        ++*(int *)ctx;
}

static int count_objects(void) {
        int n = 0;

        ck_assert_int_eq(segment_list(settings->instance, count_one, &n), 0);
        return n;
}

static void tear_down(void) {
        discard_all();
        ck_assert_int_eq(count_objects(), 0);
        settings = settings_free(settings);
}

static void object_path(const char *object, char *path, size_t n) {
        char name[SEGMENT_NAME_MAX];

        ck_assert_int_eq(segment_name(name, settings->instance, object), 0);
        snprintf(path, n, "/dev/shm%s", name);
}

static uint64_t read_word(const char *object, off_t at) {
        char path[200];
        uint64_t word = 0;
        int fd;

        object_path(object, path, sizeof(path));
        fd = open(path, O_RDONLY);
        ck_assert_int_ne(fd, -1);
        ck_assert_int_eq(pread(fd, &word, sizeof(word), at), sizeof(word));
        close(fd);
        return word;
}

static void write_word(const char *object, off_t at, uint64_t word) {
        char path[200];
        int fd;

        object_path(object, path, sizeof(path));
        fd = open(path, O_RDWR);
        ck_assert_int_ne(fd, -1);
        ck_assert_int_eq(pwrite(fd, &word, sizeof(word), at), sizeof(word));
        close(fd);
}

/* As a supervisor that was killed leaves it. */
static void make_and_die(void) {
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(!memory.adopted);
        memory_close(&memory, false);
}

/* ---- refusals -------------------------------------------------------------------------------- */

START_TEST(leftovers_of_other_sizes_are_refused_and_named) {
        int before;

        make_and_die();
        before = count_objects();
        settings->stream.log_bytes *= 2;
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), MEMORY_E_USER);
        ck_assert_ptr_nonnull(strstr(report.line, "--discard"));
        ck_assert_ptr_nonnull(strstr(report.line, settings->instance));
        ck_assert_int_eq(count_objects(), before);
}
END_TEST

START_TEST(leftovers_of_another_layout_are_refused) {
        make_and_die();
        write_word("topology", offsetof(struct topology_shm, layout), 1);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), MEMORY_E_USER);
}
END_TEST

START_TEST(foreign_bytes_in_the_topology_are_refused) {
        make_and_die();
        write_word("topology", 0, 0x4141414141414141ull);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), MEMORY_E_USER);
}
END_TEST

START_TEST(too_little_room_is_one_line_with_the_size_and_leaves_nothing) {
        uint64_t available, total;

        ck_assert_int_eq(segment_space(&available, &total), 0);
        /* 16 GiB of log for a lane, and of them as many as it takes */
        settings->stream.log_bytes = 1ull << 34;
        settings->lanes = 1;
        while (topology_shm_bytes(settings) < available && settings->lanes < 8)
                settings->lanes++;
        if (topology_shm_bytes(settings) < available)
                return; /* a machine with more than 128 GiB of shared memory */
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), MEMORY_E_USER);
        ck_assert_ptr_nonnull(strstr(report.line, "too small"));
        ck_assert_ptr_nonnull(strstr(report.line, "are needed"));
        ck_assert_ptr_nonnull(strstr(report.line, "are free"));
        ck_assert_ptr_null(strchr(report.line, '\n'));
        ck_assert_int_eq(count_objects(), 0);
        settings->lanes = 1;
        settings->stream.log_bytes = 1 << 20;
}
END_TEST

/* ---- behaviour ------------------------------------------------------------------------------- */

START_TEST(everything_is_made_formatted_and_mapped_for_counting) {
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1); /* the spare's arena */
        ck_assert_uint_eq(read_word("topology", 0), MAGIC_TOPOLOGY);
        ck_assert_uint_eq(read_word("ring.1.p", 0), 1);
        ck_assert_uint_eq(read_word("ring.1.c", 0), 1);
        ck_assert_uint_eq(read_word("log.0", 0), MAGIC_LOG);
        ck_assert_uint_eq(read_word("admission.1", 0), MAGIC_ADMISSION);
        ck_assert_uint_eq(read_word("slab.0.rag", 0), MAGIC_SLAB);
        for (uint32_t p = 0; p < memory.topology->n_procs; p++)
                ck_assert_ptr_nonnull(memory.counters[p]);
        memory_close(&memory, true);
        ck_assert_int_eq(count_objects(), 0);
}
END_TEST

START_TEST(what_a_dead_instance_left_is_taken_over_and_not_formatted) {
        uint64_t generation;

        make_and_die();
        generation = read_word("topology", offsetof(struct topology_shm, generation));
        write_word("topology", offsetof(struct topology_shm, generation), generation ^ 0x5555);
        write_word("ring.1.p", 0, 4711);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(memory.adopted);
        ck_assert_uint_eq(memory.topology->generation, generation ^ 0x5555);
        ck_assert_uint_eq(read_word("ring.1.p", 0), 4711);
        memory_close(&memory, false);
}
END_TEST

START_TEST(discard_makes_everything_anew) {
        make_and_die();
        write_word("ring.1.p", 0, 4711);
        ck_assert_int_eq(memory_open(settings, 1, true, &memory, &report), 0);
        ck_assert(!memory.adopted);
        ck_assert_uint_eq(read_word("ring.1.p", 0), 1);
}
END_TEST

START_TEST(discard_removes_what_would_be_refused) {
        make_and_die();
        write_word("topology", 0, 1);
        settings->stream.log_bytes *= 2;
        ck_assert_int_eq(memory_open(settings, 1, true, &memory, &report), 0);
        ck_assert_uint_eq(read_word("topology", 0), MAGIC_TOPOLOGY);
}
END_TEST

START_TEST(what_was_never_finished_is_removed) {
        char path[200];

        make_and_die();
        write_word("topology", 0, 0);
        write_word("ring.1.p", 0, 4711);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(!memory.adopted);
        ck_assert_uint_eq(read_word("ring.1.p", 0), 1);
        memory_close(&memory, false);
        object_path("topology", path, sizeof(path));
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(!memory.adopted);
}
END_TEST

static uint64_t inode_of(const char *object) {
        struct stat st;
        char path[200];

        object_path(object, path, sizeof(path));
        ck_assert_int_eq(stat(path, &st), 0);
        return st.st_ino;
}

START_TEST(a_lanes_objects_are_made_anew_and_nothing_else_is) {
        uint64_t rag, log, other_log, admission, counters, topology;

        settings->lanes = 2;
        ck_assert_int_eq(memory_open(settings, 2, false, &memory, &report), 0);
        rag = inode_of("slab.1.rag");
        log = inode_of("log.1");
        other_log = inode_of("log.0");
        admission = inode_of("admission.0");
        counters = inode_of("counters.0");
        topology = inode_of("topology");
        write_word("log.1", 0, 4711);
        write_word("ring.1.p", 0, 4711); /* of lane 0 */
        memory_lane_set(&memory, 1, LANE_RESETTING, 1);
        ck_assert_int_eq(memory_lane_remake(&memory, 1), 0);
        ck_assert_uint_eq(memory_lane(&memory, 1), lane_word(LANE_RESETTING, 1));
        ck_assert_uint_eq(memory_lane(&memory, 0), lane_word(LANE_RUNNING, 0));
        ck_assert_uint_ne(inode_of("slab.1.rag"), rag);
        ck_assert_uint_ne(inode_of("log.1"), log);
        ck_assert_uint_eq(read_word("log.1", 0), MAGIC_LOG);
        ck_assert_uint_eq(read_word("ring.1.p", 0), 4711);
        ck_assert_uint_eq(inode_of("log.0"), other_log);
        ck_assert_uint_eq(inode_of("admission.0"), admission);
        ck_assert_uint_eq(inode_of("counters.0"), counters);
        ck_assert_uint_eq(inode_of("topology"), topology);
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1);
        memory_close(&memory, true);
        settings->lanes = 1;
}
END_TEST

START_TEST(a_reset_that_a_dead_supervisor_began_is_repeated) {
        off_t words = offsetof(struct topology_shm, lane_state);
        char path[200];
        uint64_t log;

        settings->lanes = 2;
        ck_assert_int_eq(memory_open(settings, 2, false, &memory, &report), 0);
        memory_close(&memory, false);
        log = inode_of("log.0");
        write_word("topology", words, lane_word(LANE_DOWN, 3));
        write_word("topology", words + 8, lane_word(LANE_RESETTING, 7));
        write_word("log.0", 0, MAGIC_LOG); /* as it is */
        write_word("log.1", 0, 4711);
        object_path("slab.1.post", path, sizeof(path)); /* so far it had come */
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(memory_open(settings, 2, false, &memory, &report), 0);
        ck_assert(memory.adopted);
        ck_assert_uint_eq(inode_of("log.0"), log);
        ck_assert_uint_eq(read_word("log.1", 0), MAGIC_LOG);
        ck_assert_uint_eq(read_word("slab.1.post", 0), MAGIC_SLAB);
        ck_assert_uint_eq(read_word("topology", words), lane_word(LANE_RUNNING, 3));
        ck_assert_uint_eq(read_word("topology", words + 8), lane_word(LANE_RUNNING, 7));
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1);
        memory_close(&memory, true);
        settings->lanes = 1;
}
END_TEST

START_TEST(a_missing_object_cannot_be_taken_over) {
        char path[200];

        make_and_die();
        object_path("log.0", path, sizeof(path));
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(!memory.adopted);
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1);
}
END_TEST

/* ---- arenas ---------------------------------------------------------------------------------- */

START_TEST(an_arena_comes_and_goes_with_the_use_of_its_slot) {
        uint64_t serial;

        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        serial = memory.arena[0];
        ck_assert(memory.arena[0] && !memory.arena[1]);
        ck_assert_int_eq(memory_arena_make(&memory, 1), 0);
        ck_assert_uint_gt(memory.arena[1], serial);
        ck_assert_uint_eq(read_word("arena.1", 0), MAGIC_ARENA);
        serial = memory.arena[1];
        ck_assert_int_eq(memory_arena_make(&memory, 1), 0); /* it is there */
        ck_assert_uint_eq(memory.arena[1], serial);
        memory_arena_drop(&memory, 0);
        memory_arena_drop(&memory, 0);
        ck_assert_uint_eq(memory.arena[0], 0);
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1);
        ck_assert_int_eq(memory_arena_make(&memory, 0), 0);
        ck_assert_uint_gt(memory.arena[0], serial);
}
END_TEST

START_TEST(who_takes_over_sees_which_slots_were_in_use) {
        char path[200];

        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert_int_eq(memory_arena_make(&memory, 1), 0);
        memory_close(&memory, false);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(memory.adopted && memory.arena[0] && memory.arena[1]);
        memory_arena_drop(&memory, 0);
        memory_close(&memory, false);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(memory.adopted && !memory.arena[0] && memory.arena[1]);
        memory_close(&memory, false);
        /* One more than one cannot be missing. */
        object_path("arena.1", path, sizeof(path));
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(!memory.adopted);
}
END_TEST

START_TEST(an_arena_that_was_not_finished_is_removed_by_who_takes_over) {
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert_int_eq(memory_arena_make(&memory, 1), 0);
        memory_close(&memory, false);
        write_word("arena.1", 0, 0);
        ck_assert_int_eq(memory_open(settings, 1, false, &memory, &report), 0);
        ck_assert(memory.adopted && memory.arena[0] && !memory.arena[1]);
        ck_assert_int_eq(count_objects(), (int)memory.n_objects - 1);
        ck_assert_int_eq(memory_arena_make(&memory, 1), 0);
}
END_TEST

START_TEST(another_instance_is_never_touched) {
        char *own = settings->instance;
        struct memory other;

        make_and_die();
        settings->instance = malloc(strlen(own) + 2);
        snprintf(settings->instance, strlen(own) + 2, "%sx", own);
        ck_assert_int_eq(memory_open(settings, 1, true, &other, &report), 0);
        memory_close(&other, true);
        free(settings->instance);
        settings->instance = own;
        ck_assert_int_gt(count_objects(), 10);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("memory");
        TCase *tc = tcase_create("memory");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_set_timeout(tc, 60);
        tcase_add_test(tc, leftovers_of_other_sizes_are_refused_and_named);
        tcase_add_test(tc, leftovers_of_another_layout_are_refused);
        tcase_add_test(tc, foreign_bytes_in_the_topology_are_refused);
        tcase_add_test(tc, too_little_room_is_one_line_with_the_size_and_leaves_nothing);
        tcase_add_test(tc, everything_is_made_formatted_and_mapped_for_counting);
        tcase_add_test(tc, what_a_dead_instance_left_is_taken_over_and_not_formatted);
        tcase_add_test(tc, discard_makes_everything_anew);
        tcase_add_test(tc, discard_removes_what_would_be_refused);
        tcase_add_test(tc, what_was_never_finished_is_removed);
        tcase_add_test(tc, a_lanes_objects_are_made_anew_and_nothing_else_is);
        tcase_add_test(tc, a_reset_that_a_dead_supervisor_began_is_repeated);
        tcase_add_test(tc, a_missing_object_cannot_be_taken_over);
        tcase_add_test(tc, an_arena_comes_and_goes_with_the_use_of_its_slot);
        tcase_add_test(tc, who_takes_over_sees_which_slots_were_in_use);
        tcase_add_test(tc, an_arena_that_was_not_finished_is_removed_by_who_takes_over);
        tcase_add_test(tc, another_instance_is_never_touched);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
