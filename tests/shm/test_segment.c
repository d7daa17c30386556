/*
 * Named memory and the bells: what is refused, what a mapping allows, what is left behind.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pair.h"

static char name[SEGMENT_NAME_MAX], instance[64];

static void setup(void) {
        char object[32];

        snprintf(instance, sizeof(instance), "t%d-seg", (int)getpid());
        ck_assert_int_eq(segment_object_name(object, sizeof(object), OBJECT_LOG, 0, UINT32_MAX), 0);
        ck_assert_int_eq(segment_name(name, instance, object), 0);
}

static void teardown(void) {
        (void)shm_unlink(name);
}

/* ---- refusals ---- */

START_TEST(instance_that_could_name_other_objects_is_refused) {
        const char *bad[] = {"", "a.b", "a/b", "..", "a b", "\xc3\xa4"};
        char buf[SEGMENT_NAME_MAX];

        ck_assert_int_eq(segment_name(buf, bad[_i], "log.0"), -EINVAL);
        ck_assert_int_eq(segment_name(buf, "good", "a/b"), -EINVAL);
        ck_assert_int_eq(segment_name(buf, "good", ""), -EINVAL);
}
END_TEST

START_TEST(name_that_does_not_fit_is_refused) {
        char buf[SEGMENT_NAME_MAX], is[SEGMENT_NAME_MAX + 1];

        memset(is, 'a', sizeof(is) - 1);
        is[sizeof(is) - 1] = '\0';
        ck_assert_int_eq(segment_name(buf, is, "log.0"), -ENAMETOOLONG);
        ck_assert_int_eq(segment_object_name(buf, 5, OBJECT_LOG, 0, UINT32_MAX), -ENAMETOOLONG);
        ck_assert_int_eq(segment_object_name(buf, 6, OBJECT_LOG, 0, UINT32_MAX), 0);
        ck_assert_int_eq(segment_object_name(buf, 6, OBJECTS_N, 0, 0), -EINVAL);
}
END_TEST

START_TEST(name_that_is_taken_is_refused_and_left_alone) {
        struct segment_fds fds, again = {.rw = -7, .ro = -7};
        void *map;

        ck_assert_int_eq(segment_create(name, 4096, &fds), 0);
        ck_assert_int_eq(segment_map(fds.rw, 4096, true, &map), 0);
        memcpy(map, "stays", 5);
        ck_assert_int_eq(segment_create(name, 4096, &again), -EEXIST);
        ck_assert_int_eq(again.rw, -7);
        ck_assert_mem_eq(map, "stays", 5);
        segment_unmap(map, 4096);
        segment_close(&fds);
        ck_assert_int_eq(fds.rw, -1);
        ck_assert_int_eq(segment_open(name, 4096, &fds), 0);
        segment_close(&fds);
}
END_TEST

START_TEST(object_larger_than_the_file_system_leaves_no_name_behind) {
        struct segment_fds fds;
        uint64_t space, total;
        int r;

        ck_assert_int_eq(segment_space(&space, &total), 0);
        ck_assert_uint_le(space, total);
        r = segment_create(name, layout_align(total, 4096) + (UINT64_C(1) << 30), &fds);
        ck_assert(r == -ENOSPC || r == -ENOMEM || r == -EFBIG);
        ck_assert_int_eq(segment_open(name, 4096, &fds), -ENOENT);
        ck_assert_int_eq(segment_create(name, 0, &fds), -EINVAL);
}
END_TEST

START_TEST(object_of_another_size_is_refused) {
        struct segment_fds fds;

        ck_assert_int_eq(segment_open(name, 4096, &fds), -ENOENT);
        ck_assert_int_eq(segment_create(name, 8192, &fds), 0);
        segment_close(&fds);
        ck_assert_int_eq(segment_open(name, 4096, &fds), -EPROTO);
        ck_assert_int_eq(segment_open(name, 12288, &fds), -EPROTO);
}
END_TEST

START_TEST(object_that_others_may_touch_is_refused) {
        struct segment_fds fds;

        ck_assert_int_eq(segment_create(name, 4096, &fds), 0);
        ck_assert_int_eq(fchmod(fds.rw, 0660), 0);
        segment_close(&fds);
        ck_assert_int_eq(segment_open(name, 4096, &fds), -EACCES);
}
END_TEST

START_TEST(object_of_another_owner_is_refused) {
        struct segment_fds fds;

        if (getuid() != 0)
                return; /* only root can make one */
        ck_assert_int_eq(segment_create(name, 4096, &fds), 0);
        ck_assert_int_eq(fchown(fds.rw, 12345, (gid_t)-1), 0);
        segment_close(&fds);
        ck_assert_int_eq(segment_open(name, 4096, &fds), -EACCES);
}
END_TEST

START_TEST(ring_of_another_geometry_is_refused) {
        struct ring_geometry geo = {
                        .id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096};
        struct segment_fds fds;
        struct ring_map map;

        ck_assert_int_eq(segment_create(name, ring_prod_bytes(&geo), &fds), 0);
        geo.bytes = 8192;
        ck_assert_int_eq(segment_map_ring(fds.rw, fds.ro, &geo, true, &map), -EPROTO);
        geo.bytes = 4096;
        ck_assert_int_eq(segment_map_ring(fds.rw, fds.ro, &geo, true, &map), -EPROTO);
        geo.n = 15;
        ck_assert_int_eq(segment_map_ring(fds.rw, fds.ro, &geo, true, &map), -EINVAL);
        segment_close(&fds);
}
END_TEST

START_TEST(mapping_of_the_other_sides_memory_can_never_be_written) {
        const struct ring_geometry geo = {
                        .id = 1, .n = 16, .max_batch = 4, .max_rec = 1024, .bytes = 4096};
        struct pair pair = pair_new(geo, 1);
        struct segment_fds fds;
        void *map;

        ck_assert_int_eq(mprotect(pair.cons.prod, 4096, PROT_READ | PROT_WRITE), -1);
        ck_assert_int_eq(errno, EACCES);
        ck_assert_int_eq(mprotect(pair.cons.data, 8192, PROT_READ | PROT_WRITE), -1);
        ck_assert_int_eq(mprotect(pair.prod.cons, 4096, PROT_READ | PROT_WRITE), -1);
        pair_close(&pair);
        ck_assert_int_eq(segment_create(name, 4096, &fds), 0);
        ck_assert_int_eq(segment_map(fds.ro, 4096, true, &map), -EACCES);
        ck_assert_int_eq(segment_map(fds.ro, 4096, false, &map), 0);
        ck_assert_int_eq(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
        segment_unmap(map, 4096);
        segment_close(&fds);
}
END_TEST

/* ---- behaviour ---- */

START_TEST(objects_have_the_names_of_the_design) {
        const struct {
                enum mr_object kind;
                uint32_t a, b;
                const char *is;
        } row[] = {
                        {OBJECT_TOPOLOGY, UINT32_MAX, UINT32_MAX, "topology"},
                        {OBJECT_RING_PROD, 7, UINT32_MAX, "ring.7.p"},
                        {OBJECT_RING_CONS, 7, UINT32_MAX, "ring.7.c"},
                        {OBJECT_SLAB, 0, ROLE_RAG, "slab.0.rag"},
                        {OBJECT_SLAB, 3, ROLE_INFERENCE, "slab.3.inference"},
                        {OBJECT_ADMISSION, 2, UINT32_MAX, "admission.2"},
                        {OBJECT_ARENA, 1, UINT32_MAX, "arena.1"},
                        {OBJECT_LOG, 1, UINT32_MAX, "log.1"},
                        {OBJECT_COUNTERS, 11, UINT32_MAX, "counters.11"},
                        {OBJECT_SIDE, 11, UINT32_MAX, "side.11"},
        };
        char buf[32], full[SEGMENT_NAME_MAX], expected[SEGMENT_NAME_MAX];

        for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
                ck_assert_int_eq(segment_object_name(
                                                 buf, sizeof(buf), row[i].kind, row[i].a, row[i].b),
                                0);
                ck_assert_str_eq(buf, row[i].is);
        }
        snprintf(expected, sizeof(expected), "/millrace.%u.main.log.1", (unsigned)getuid());
        ck_assert_int_eq(segment_name(full, "main", "log.1"), 0);
        ck_assert_str_eq(full, expected);
        ck_assert_ptr_null(mr_role_name(ROLES_N));
        ck_assert_uint_ne(layout_hash(), 0);
        ck_assert_uint_eq(layout_hash(), layout_hash());
}
END_TEST

START_TEST(new_object_is_private_zeroed_and_allocated) {
        struct segment_fds fds;
        struct stat st;
        mode_t mask = umask(0777);
        uint8_t *map;
        void *at;

        ck_assert_int_eq(segment_create(name, 16384, &fds), 0);
        umask(mask);
        ck_assert_int_eq(fstat(fds.rw, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0600);
        ck_assert_int_eq(st.st_size, 16384);
        ck_assert_int_ge(st.st_blocks * 512, 16384);
        ck_assert_int_eq(fcntl(fds.rw, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        ck_assert_int_eq(fcntl(fds.ro, F_GETFL) & O_ACCMODE, O_RDONLY);
        ck_assert_int_eq(segment_map(fds.rw, 16384, true, &at), 0);
        map = at;
        for (int i = 0; i < 16384; i++)
                ck_assert_uint_eq(map[i], 0);
        segment_unmap(at, 16384);
        segment_close(&fds);
}
END_TEST

START_TEST(payload_bytes_stand_in_memory_twice) {
        const struct ring_geometry geo = {
                        .id = 1, .n = 64, .max_batch = 4, .max_rec = 2048, .bytes = 8192};
        struct pair pair = pair_new(geo, 1);

        memset(pair.prod.data, 'a', 8192);
        memcpy(pair.prod.data + 8190, "edge", 4);
        ck_assert_mem_eq(pair.prod.data, "ge", 2);
        ck_assert_mem_eq(pair.cons.data + 8190, "edge", 4);
        ck_assert_mem_eq(pair.cons.data, "ge", 2);
        ck_assert_uint_eq(pair.cons.data[16383], 'd');
        /* The descriptors are not part of it. */
        ck_assert_uint_eq(word_of(&pair.prod.desc[63].seq), 0);
        pair_close(&pair);
}
END_TEST

static void collect(const char *found, void *ctx) {
        int *n = ctx;

        ck_assert_ptr_nonnull(strstr(found, instance));
        (*n)++;
        ck_assert_int_eq(segment_unlink(found), 0);
}

START_TEST(leftovers_of_one_instance_are_listed_but_not_its_lock) {
        char other[SEGMENT_NAME_MAX], lock[SEGMENT_NAME_MAX + 16], longer[80];
        struct segment_fds fds;
        int n = 0, fd;

        for (uint32_t i = 0; i < 3; i++) {
                char object[32], full[SEGMENT_NAME_MAX];

                ck_assert_int_eq(segment_object_name(object, sizeof(object), OBJECT_COUNTERS, i,
                                                 UINT32_MAX),
                                0);
                ck_assert_int_eq(segment_name(full, instance, object), 0);
                ck_assert_int_eq(segment_create(full, 4096, &fds), 0);
                segment_close(&fds);
        }
        snprintf(longer, sizeof(longer), "%s2", instance);
        ck_assert_int_eq(segment_name(other, longer, "log.0"), 0);
        ck_assert_int_eq(segment_create(other, 4096, &fds), 0);
        segment_close(&fds);
        snprintf(lock, sizeof(lock), "/dev/shm/millrace.%u.%s.lock", (unsigned)getuid(), instance);
        fd = open(lock, O_CREAT | O_RDWR, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
        ck_assert_int_eq(segment_list(instance, collect, &n), 0);
        ck_assert_int_eq(n, 3);
        ck_assert_int_eq(segment_list(instance, collect, &n), 0);
        ck_assert_int_eq(n, 3);
        ck_assert_int_eq(unlink(lock), 0);
        ck_assert_int_eq(segment_unlink(other), 0);
        ck_assert_int_eq(segment_unlink(other), -ENOENT);
        ck_assert_int_eq(segment_list("a.b", collect, &n), -EINVAL);
}
END_TEST

START_TEST(bell_is_heard_once_and_never_blocks_who_rings) {
        uint64_t almost = UINT64_MAX - 1;
        int fd;

        ck_assert_int_eq(doorbell_new(&fd), 0);
        ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        doorbell_clear(fd);
        doorbell_ring(fd);
        doorbell_ring(fd);
        ck_assert(bell_rang(fd));
        ck_assert(!bell_rang(fd));
        ck_assert_int_eq(write(fd, &almost, sizeof(almost)), sizeof(almost));
        doorbell_ring(fd);
        ck_assert(bell_rang(fd));
        close(fd);
        doorbell_ring(-1);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("segment");
        TCase *refuses = tcase_create("refuses"), *does = tcase_create("does");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(refuses, setup, teardown);
        tcase_add_loop_test(refuses, instance_that_could_name_other_objects_is_refused, 0, 6);
        tcase_add_test(refuses, name_that_does_not_fit_is_refused);
        tcase_add_test(refuses, name_that_is_taken_is_refused_and_left_alone);
        tcase_add_test(refuses, object_larger_than_the_file_system_leaves_no_name_behind);
        tcase_add_test(refuses, object_of_another_size_is_refused);
        tcase_add_test(refuses, object_that_others_may_touch_is_refused);
        tcase_add_test(refuses, object_of_another_owner_is_refused);
        tcase_add_test(refuses, ring_of_another_geometry_is_refused);
        tcase_add_test(refuses, mapping_of_the_other_sides_memory_can_never_be_written);
        tcase_add_checked_fixture(does, setup, teardown);
        tcase_add_test(does, objects_have_the_names_of_the_design);
        tcase_add_test(does, new_object_is_private_zeroed_and_allocated);
        tcase_add_test(does, payload_bytes_stand_in_memory_twice);
        tcase_add_test(does, leftovers_of_one_instance_are_listed_but_not_its_lock);
        tcase_add_test(does, bell_is_heard_once_and_never_blocks_who_rings);
        suite_add_tcase(suite, refuses);
        suite_add_tcase(suite, does);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
