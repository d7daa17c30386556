/* What the kernel tells of folders, and the table of hashes beside it. */
#include <errno.h>
#include <sys/stat.h>

#include "stages/watch/marks.h"
#include "stages/watch/tree.h"
#include "tests/engines/index/test_folder.h"

static struct tree tree;

static void setup(void) {
        folder_setup();
        ck_assert_int_eq(tree_open(&tree), 0);
        ck_assert_int_eq(tree_add(&tree, test_folder, true), 0);
}

static void teardown(void) {
        tree_close(&tree);
        folder_teardown();
}

/* The next one is of this kind, about this name in the folder. */
static void told(enum tree_kind kind, bool folder, const char *name) {
        struct tree_event event;

        ck_assert_int_eq(tree_next(&tree, &event), 1);
        ck_assert_str_eq(event.path, in_folder(name));
        ck_assert_int_eq(event.kind, kind);
        ck_assert_int_eq(event.folder, folder);
        free(event.path);
}

static void told_no_more(void) {
        struct tree_event event;

        ck_assert_int_eq(tree_next(&tree, &event), 0);
}

static void make_folder(const char *name) {
        ck_assert_int_eq(mkdir(in_folder(name), 0700), 0);
}

static void move(const char *from, const char *to) {
        ck_assert_int_eq(rename(in_folder(from), in_folder(to)), 0);
}

START_TEST(what_is_no_folder_or_a_link_is_not_watched) {
        ck_assert_int_eq(tree_add(&tree, in_folder("none"), false), -ENOENT);
        ck_assert_int_eq(tree_add(&tree, file_write("a.md", "x", 1), false), -ENOTDIR);
        make_folder("real");
        ck_assert_int_eq(symlink(in_folder("real"), in_folder("link")), 0);
        ck_assert_int_eq(tree_add(&tree, in_folder("link"), false), -ENOTDIR);
        ck_assert_int_eq(tree_add(&tree, in_folder("link"), true), 0);
}
END_TEST

START_TEST(files_that_come_change_and_go_are_told_by_their_paths) {
        told_no_more();
        file_write("a.md", "x", 1);
        told(TREE_CHANGED, false, "a.md"); /* made, */
        told(TREE_CHANGED, false, "a.md"); /* written */
        move("a.md", "b.md");
        told(TREE_GONE, false, "a.md");
        told(TREE_CHANGED, false, "b.md");
        ck_assert_int_eq(unlink(in_folder("b.md")), 0);
        told(TREE_GONE, false, "b.md");
        file_write(".hidden.md", "x", 1);
        told_no_more();
}
END_TEST

START_TEST(a_folder_is_told_of_under_its_new_path_once_it_is_added_there) {
        make_folder("one");
        told(TREE_CHANGED, true, "one");
        ck_assert_int_eq(tree_add(&tree, in_folder("one"), false), 0);
        make_folder("one/deep");
        told(TREE_CHANGED, true, "one/deep");
        ck_assert_int_eq(tree_add(&tree, in_folder("one/deep"), false), 0);
        ck_assert_uint_eq(tree.n, 3);
        move("one", "two");
        told(TREE_GONE, true, "one");
        ck_assert_uint_eq(tree.n, 1);
        told(TREE_CHANGED, true, "two");
        file_write("two/deep/a.md", "x", 1);
        told_no_more();
        ck_assert_int_eq(tree_add(&tree, in_folder("two/deep"), false), 0);
        file_write("two/deep/a.md", "y", 1);
        told(TREE_CHANGED, false, "two/deep/a.md");
}
END_TEST

START_TEST(folders_that_are_not_added_again_are_let_go_of) {
        make_folder("one");
        told(TREE_CHANGED, true, "one");
        ck_assert_int_eq(tree_add(&tree, in_folder("one"), false), 0);
        tree_begin(&tree);
        ck_assert_int_eq(tree_add(&tree, test_folder, true), 0);
        tree_end(&tree);
        ck_assert_uint_eq(tree.n, 1);
        file_write("one/a.md", "x", 1);
        told_no_more();
}
END_TEST

START_TEST(marks_are_found_again_and_others_are_none) {
        struct marks marks = {.at = NULL};

        ck_assert_uint_eq(marks_get(&marks, 7), 0);
        for (uint64_t i = 1; i <= 1000; i++)
                ck_assert_int_eq(marks_put(&marks, i << 8, i), 0); /* the same low bits: all collide */
        for (uint64_t i = 1; i <= 1000; i++)
                ck_assert_uint_eq(marks_get(&marks, i << 8), i);
        ck_assert_uint_eq(marks_get(&marks, 1001 << 8), 0);
        ck_assert_int_eq(marks_put(&marks, 5 << 8, 99), 0);
        ck_assert_uint_eq(marks_get(&marks, 5 << 8), 99);
        ck_assert_uint_eq(marks.n, 1000);
        marks_clear(&marks);
        ck_assert_uint_eq(marks_get(&marks, 5 << 8), 0);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("watch tree");
        TCase *tcase = tcase_create("tree");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, what_is_no_folder_or_a_link_is_not_watched);
        tcase_add_test(tcase, files_that_come_change_and_go_are_told_by_their_paths);
        tcase_add_test(tcase, a_folder_is_told_of_under_its_new_path_once_it_is_added_there);
        tcase_add_test(tcase, folders_that_are_not_added_again_are_let_go_of);
        tcase_add_test(tcase, marks_are_found_again_and_others_are_none);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
