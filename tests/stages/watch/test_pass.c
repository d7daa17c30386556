/* The index as the folder is, after each pass over what happened since the last one. */
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "stages/engines/index/chunk.h"
#include "stages/watch/pass.h"
#include "tests/engines/index/test_folder.h"

static struct pass pass;
static struct pass_place root;
static struct pass_report report;
static _Atomic bool stop;
static _Atomic uint64_t counts[PASS_COUNTS];
static char docs[128], ix[128];

static uint64_t counted(enum pass_count which) {
        return atomic_load_explicit(&counts[which], memory_order_relaxed);
}

static void pass_begin(void) {
        pass = (struct pass){.index = {.path = ix},
                        .roots = &root,
                        .n_roots = 1,
                        .stop = &stop,
                        .counts = counts,
                        .full = true};
        root = (struct pass_place){.path = docs};
        pass_place_see(&pass.index);
        pass_place_see(&root);
        ck_assert_int_eq(tree_open(&pass.tree), 0);
}

static void pass_close(void) {
        tree_close(&pass.tree);
        marks_clear(&pass.stamps);
        buffer_clear(&pass.leaving);
        buffer_clear(&pass.fresh);
        free(pass.changes);
}

static void index_make(void) {
        struct index_writer *writer = NULL;

        ck_assert_int_eq(index_writer_open(ix, NULL, NULL, &writer), 0);
        index_writer_free(writer);
}

static void setup(void) {
        folder_setup();
        snprintf(docs, sizeof(docs), "%s", in_folder("docs"));
        snprintf(ix, sizeof(ix), "%s", in_folder("ix"));
        ck_assert_int_eq(mkdir(docs, 0700), 0);
        index_make();
        pass_begin();
}

static void teardown(void) {
        pass_close();
        folder_teardown();
}

static void make(const char *name, const char *text) {
        char path[128];

        snprintf(path, sizeof(path), "docs/%s", name);
        file_write(path, text, strlen(text));
}

static const char *in_docs(const char *name) {
        char path[128];

        snprintf(path, sizeof(path), "docs/%s", name);
        return in_folder(path);
}

static void make_folder(const char *name) {
        ck_assert_int_eq(mkdir(in_docs(name), 0700), 0);
}

static void move(const char *from, const char *to) {
        ck_assert_int_eq(rename(in_docs(from), in_docs(to)), 0);
}

/* Runs a pass: what it counts. Nothing is to go wrong with the index. */
static void run(uint64_t added, uint64_t replaced, uint64_t removed) {
        const uint64_t before[] = {counted(PASS_ADDED), counted(PASS_REPLACED), counted(PASS_REMOVED)};

        pass_run(&pass, &report);
        ck_assert_str_eq(pass.failure, "");
        ck_assert(!report.renew);
        ck_assert_uint_eq(counted(PASS_ADDED) - before[0], added);
        ck_assert_uint_eq(counted(PASS_REPLACED) - before[1], replaced);
        ck_assert_uint_eq(counted(PASS_REMOVED) - before[2], removed);
}

static size_t n_found(const char *text) {
        const struct index_query query = {.text = str(text), .k = 10};
        struct index_reader *reader = NULL;
        struct index_result *result = NULL;

        ck_assert_int_eq(index_reader_open(ix, NULL, &reader), 0);
        ck_assert_int_eq(index_reader_query(reader, &query, NULL, &result), 0);
        const size_t n = index_result_n(result);
        index_result_free(result);
        index_reader_free(reader);
        return n;
}

/* ---- what cannot go in ---- */

START_TEST(what_cannot_go_in_is_one_line_for_each_file_and_the_rest_goes_in) {
        make("bad.md", "\xff\xfe broken");
        make("rows.jsonl", "{\"id\":\"good\",\"text\":\"alpha\"}\n{\n{\"id\":\"no text\"}\n");
        make("picture.png", "alpha");
        make("empty.md", "");
        make(".hidden.md", "alpha");
        ck_assert_int_eq(symlink(in_docs("rows.jsonl"), in_docs("link.jsonl")), 0);
        run(1, 0, 0);
        ck_assert_uint_eq(counted(PASS_REFUSED), 3);
        ck_assert_uint_eq(report.n_lines, 2);
        ck_assert_ptr_nonnull(strstr(report.lines[0].text, "bad.md"));
        ck_assert_ptr_nonnull(strstr(report.lines[1].text, "row=2"));
        ck_assert_ptr_nonnull(strstr(report.lines[1].text, "rows=2"));
        run(0, 0, 0);
        ck_assert_uint_eq(report.n_lines, 0);
}
END_TEST

START_TEST(a_file_that_cannot_be_taken_any_more_takes_its_document_with_it) {
        make("a.md", "alpha");
        run(1, 0, 0);
        make("a.md", "al\xffpha");
        run(0, 0, 1);
        make("a.md", "alpha");
        run(1, 0, 0);
        make("a.md", "");
        run(0, 0, 1);
}
END_TEST

/* ---- files ---- */

START_TEST(files_come_change_and_go) {
        make("a.md", "alpha");
        make("b.txt", "beta");
        run(2, 0, 0);
        make("a.md", "gamma");
        run(0, 1, 0);
        ck_assert_uint_eq(n_found("alpha"), 0);
        ck_assert_uint_eq(n_found("gamma"), 1);
        make("a.md", "gamma");
        run(0, 0, 0);
        ck_assert_int_eq(unlink(in_docs("a.md")), 0);
        run(0, 0, 1);
        ck_assert_uint_eq(n_found("gamma"), 0);
        move("b.txt", "c.txt");
        run(1, 0, 1);
        make("d.tmp", "delta");
        run(0, 0, 0);
        move("d.tmp", "c.txt"); /* as editors save */
        run(0, 1, 0);
        ck_assert_uint_eq(n_found("delta"), 1);
        ck_assert_uint_eq(counted(PASS_SCANS), 1);
}
END_TEST

START_TEST(a_file_that_has_gone_before_it_is_looked_at_is_nothing) {
        run(0, 0, 0);
        make("a.md", "alpha");
        ck_assert_int_eq(unlink(in_docs("a.md")), 0);
        run(0, 0, 0);
        ck_assert_uint_eq(report.n_lines, 0);
}
END_TEST

START_TEST(rows_that_a_file_does_not_have_any_more_leave) {
        make("r.jsonl", "{\"id\":\"1\",\"text\":\"alpha\"}\n{\"id\":\"2\",\"text\":\"beta\"}\n");
        run(2, 0, 0);
        make("r.jsonl", "{\"id\":\"2\",\"text\":\"beta\"}\n{\"id\":\"3\",\"text\":\"gamma\"}\n");
        run(1, 0, 1);
        ck_assert_uint_eq(n_found("alpha"), 0);
        ck_assert_int_eq(unlink(in_docs("r.jsonl")), 0);
        run(0, 0, 2);
}
END_TEST

/* ---- folders ---- */

START_TEST(folders_that_come_move_and_go_take_their_documents_along) {
        run(0, 0, 0);
        make_folder("one");
        make_folder("one/deep");
        make("one/a.md", "alpha");
        make("one/deep/b.md", "beta");
        run(2, 0, 0);
        make("one/deep/c.md", "gamma");
        run(1, 0, 0);
        move("one", "two");
        run(3, 0, 3);
        make("two/deep/c.md", "delta");
        run(0, 1, 0);
        ck_assert_int_eq(rename(in_docs("two"), in_folder("out")), 0);
        run(0, 0, 3);
        file_write("out/deep/d.md", "epsilon", 7);
        run(0, 0, 0);
        ck_assert_int_eq(rename(in_folder("out"), in_docs("two")), 0);
        run(4, 0, 0);
        ck_assert_uint_eq(counted(PASS_SCANS), 1);
}
END_TEST

START_TEST(a_folder_in_another_ones_place_has_its_own_documents) {
        make_folder("one");
        make("one/a.md", "alpha");
        make("one/b.md", "beta");
        run(2, 0, 0);
        move("one", "old");
        make_folder("one");
        make("one/b.md", "beta");
        run(2, 0, 1); /* old/a old/b; one/a went, and one/b is the same again */
}
END_TEST

START_TEST(after_what_was_not_told_everything_is_looked_at) {
        make_folder("one");
        make("one/a.md", "alpha");
        make("one/b.md", "beta");
        make("r.jsonl", "{\"id\":\"1\",\"text\":\"gamma\"}\n{\"id\":\"2\",\"text\":\"delta\"}\n");
        run(4, 0, 0);
        pass_close(); /* a successor, after a kill */
        ck_assert_int_eq(unlink(in_docs("one/a.md")), 0);
        make("c.md", "epsilon");
        make("r.jsonl", "{\"id\":\"2\",\"text\":\"zeta\"}\n");
        pass_begin();
        run(1, 1, 2);
        pass.full = true;
        run(0, 0, 0);
        ck_assert_uint_eq(n_found("beta"), 1);
        ck_assert_uint_eq(n_found("delta"), 0);
}
END_TEST

START_TEST(documents_of_others_stay) {
        struct index_document doc = {.key.id = str("other"),
                        .title = str(""),
                        .url = str(""),
                        .source = str("elsewhere.md"),
                        .metadata = str(""),
                        .text = str("alpha")};
        struct chunk_list list;
        struct index_writer *writer = NULL;
        enum index_outcome outcome;
        char beside[160];

        ck_assert_int_eq(chunk_split(doc.text, NULL, 0, &list), 0);
        doc.chunks = list.chunks;
        doc.n_chunks = list.n_chunks;
        ck_assert_int_eq(index_writer_open(ix, NULL, NULL, &writer), 0);
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        snprintf(beside, sizeof(beside), "%sx/a.md", docs); /* no path in the folder */
        doc.source = doc.key.id = str(beside);
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        snprintf(beside, sizeof(beside), "%s/a.md", docs); /* in the folder, of a tenant */
        doc.source = doc.key.id = str(beside);
        doc.key.tenant = str("alice");
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        ck_assert_int_eq(index_writer_commit(writer, NULL), 0);
        index_writer_free(writer);
        chunk_list_clear(&list);
        run(0, 0, 0);
}
END_TEST

/* ---- what is in the way ---- */

START_TEST(a_folder_that_is_not_there_keeps_its_documents_and_another_one_wants_a_new_sandbox) {
        make("a.md", "alpha");
        run(1, 0, 0);
        ck_assert_int_eq(rename(docs, in_folder("away")), 0);
        pass.full = true;
        run(0, 0, 0);
        ck_assert_str_eq(report.lines[0].ev, "folder_gone");
        run(0, 0, 0);
        ck_assert_uint_eq(report.n_lines, 0);
        ck_assert_uint_eq(n_found("alpha"), 1);
        ck_assert_int_eq(rename(in_folder("away"), docs), 0);
        make("b.md", "beta");
        run(1, 0, 0);
        ck_assert_int_eq(rename(docs, in_folder("away")), 0);
        ck_assert_int_eq(mkdir(docs, 0700), 0);
        pass_run(&pass, &report);
        ck_assert(report.renew);
        ck_assert_uint_eq(n_found("alpha"), 1);
}
END_TEST

START_TEST(an_index_in_the_folder_is_none_of_its_documents) {
        ck_assert_int_eq(rename(ix, in_docs("ix")), 0);
        snprintf(ix, sizeof(ix), "%s", in_docs("ix"));
        pass_close();
        pass_begin();
        make("a.md", "alpha");
        run(1, 0, 0);
        ck_assert_uint_eq(pass.tree.n, 1);
        pass_run(&pass, &report);
        ck_assert_uint_eq(pass.n_changes, 0);
}
END_TEST

static void *let_go_soon(void *writer) {
        const struct timespec pause = {.tv_nsec = 50000000};

        nanosleep(&pause, NULL);
        index_writer_free(writer);
        return NULL;
}

START_TEST(another_writer_is_waited_for) {
        struct index_writer *writer = NULL;
        pthread_t thread;

        make("a.md", "alpha");
        ck_assert_int_eq(index_writer_open(ix, NULL, NULL, &writer), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, let_go_soon, writer), 0);
        run(1, 0, 0);
        pthread_join(thread, NULL);
}
END_TEST

START_TEST(who_is_told_to_stop_does_not_wait_for_another_writer) {
        struct index_writer *writer = NULL;

        make("a.md", "alpha");
        ck_assert_int_eq(index_writer_open(ix, NULL, NULL, &writer), 0);
        atomic_store_explicit(&stop, true, memory_order_relaxed);
        pass_run(&pass, &report);
        ck_assert_str_eq(pass.failure, "");
        atomic_store_explicit(&stop, false, memory_order_relaxed);
        index_writer_free(writer);
        run(1, 0, 0);
}
END_TEST

START_TEST(a_broken_index_is_told_once_and_tried_again) {
        char name[160];

        make("a.md", "alpha");
        snprintf(name, sizeof(name), "%s/iamglass", ix);
        ck_assert_int_eq(truncate(name, 3), 0);
        pass_run(&pass, &report);
        ck_assert_str_ne(pass.failure, "");
        ck_assert_uint_eq(report.n_lines, 1);
        pass_run(&pass, &report);
        ck_assert_uint_eq(report.n_lines, 0);
        ck_assert_int_eq(rename(ix, in_folder("broken")), 0);
        index_make();
        pass_run(&pass, &report);
        ck_assert(report.renew);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("watch pass");
        TCase *tcase = tcase_create("pass");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, what_cannot_go_in_is_one_line_for_each_file_and_the_rest_goes_in);
        tcase_add_test(tcase, a_file_that_cannot_be_taken_any_more_takes_its_document_with_it);
        tcase_add_test(tcase, files_come_change_and_go);
        tcase_add_test(tcase, a_file_that_has_gone_before_it_is_looked_at_is_nothing);
        tcase_add_test(tcase, rows_that_a_file_does_not_have_any_more_leave);
        tcase_add_test(tcase, folders_that_come_move_and_go_take_their_documents_along);
        tcase_add_test(tcase, a_folder_in_another_ones_place_has_its_own_documents);
        tcase_add_test(tcase, after_what_was_not_told_everything_is_looked_at);
        tcase_add_test(tcase, documents_of_others_stay);
        tcase_add_test(tcase, a_folder_that_is_not_there_keeps_its_documents_and_another_one_wants_a_new_sandbox);
        tcase_add_test(tcase, an_index_in_the_folder_is_none_of_its_documents);
        tcase_add_test(tcase, another_writer_is_waited_for);
        tcase_add_test(tcase, who_is_told_to_stop_does_not_wait_for_another_writer);
        tcase_add_test(tcase, a_broken_index_is_told_once_and_tried_again);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        int failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
