/*
 * index, its life -- one writer, many readers, commits, kills.
 */
#include "tests/engines/index/test_index.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

START_TEST(a_second_writer_is_locked_out_until_the_first_goes) {
        struct index_writer *first = writer_open();
        struct index_writer *second = NULL;
        struct index_error err = {0};

        ck_assert_int_eq(index_writer_open(in_folder("ix"), NULL, &err, &second), INDEX_E_LOCKED);
        index_writer_free(first);
        ck_assert_int_eq(index_writer_open(in_folder("ix"), NULL, &err, &second), 0);
        index_writer_free(second);
}
END_TEST

START_TEST(folders_above_are_made_and_private) {
        struct index_writer *writer = NULL;
        struct stat st;

        ck_assert_int_eq(index_writer_open(in_folder("a/b//c"), NULL, NULL, &writer), 0);
        index_writer_free(writer);
        ck_assert_int_eq(stat(in_folder("a/b"), &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0700);
}
END_TEST

START_TEST(the_same_content_again_is_unchanged_other_content_replaces) {
        struct index_writer *writer = writer_open();

        ck_assert_int_eq(put(writer, "a", "T", "first words"), INDEX_ADDED);
        ck_assert_int_eq(put(writer, "a", "T", "first words"), INDEX_UNCHANGED);
        commit(writer);
        ck_assert_int_eq(put(writer, "a", "T", "first words"), INDEX_UNCHANGED);
        ck_assert_int_eq(put(writer, "a", "Other", "first words"), INDEX_REPLACED);
        ck_assert_int_eq(put(writer, "a", "T", "second thoughts"), INDEX_REPLACED);
        commit(writer);
        ck_assert_uint_eq(index_writer_stats(writer).documents, 1);
        ck_assert_uint_eq(index_writer_stats(writer).chunks, 1);
        ck_assert_uint_eq(index_writer_stats(writer).bytes, strlen("second thoughts"));
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        ck_assert_uint_eq(n_found(reader, "first"), 0);
        best_is(reader, "thoughts", "a");
        index_reader_free(reader);
}
END_TEST

START_TEST(the_same_text_cut_elsewhere_replaces) {
        struct index_writer *writer = writer_open();
        struct chunk cuts[2] = {{0, 5, str("")}, {6, 11, str("")}};
        const struct index_document doc = {.key.id = str("a"),
                        .title = str(""),
                        .url = str(""),
                        .source = str(""),
                        .metadata = str(""),
                        .text = str("first words"),
                        .chunks = cuts,
                        .n_chunks = 2};
        enum index_outcome outcome;

        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        ck_assert_int_eq(outcome, INDEX_ADDED);
        cuts[1].start = 5;
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        ck_assert_int_eq(outcome, INDEX_REPLACED);
        cuts[1].path = str("Chapter");
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        ck_assert_int_eq(outcome, INDEX_REPLACED);
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        ck_assert_int_eq(outcome, INDEX_UNCHANGED);
        index_writer_free(writer);
}
END_TEST

START_TEST(all_chunks_of_a_document_go_when_it_goes) {
        struct index_writer *writer = writer_open();
        static char text[20000];
        bool removed = false;
        struct index_stats stats;

        for (size_t n = 0; n < sizeof(text) - 40;)
                n = appendf(text, sizeof(text), n, "Many sentences on basalt. ");
        put(writer, "long", "", text);
        put(writer, "kept", "", "One on chalk.");
        commit(writer);
        ck_assert_int_eq(index_writer_remove(writer, &(struct index_key){.id = str("never")}, NULL,
                                &removed), 0);
        ck_assert(!removed);
        ck_assert_int_eq(index_writer_remove(writer, &(struct index_key){.id = str("long")}, NULL,
                                &removed), 0);
        ck_assert(removed);
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        ck_assert_uint_eq(n_found(reader, "basalt"), 0);
        ck_assert_int_eq(index_reader_stats(reader, NULL, &stats), 0);
        ck_assert_uint_eq(stats.documents, 1);
        ck_assert_uint_eq(stats.chunks, 1);
        ck_assert_uint_eq(stats.bytes, strlen("One on chalk."));
        ck_assert_uint_eq(stats.terms, 3);
        index_reader_free(reader);
}
END_TEST

START_TEST(a_reader_sees_a_commit_at_its_next_query_and_nothing_before) {
        struct index_writer *writer = writer_open();
        struct index_reader *reader = reader_open();

        ck_assert_uint_eq(n_found(reader, "word"), 0);
        put(writer, "a", "", "a word");
        ck_assert_uint_eq(n_found(reader, "word"), 0);
        commit(writer);
        ck_assert_uint_eq(n_found(reader, "word"), 1);
        put(writer, "b", "", "a word");
        index_writer_free(writer); /* without a commit */
        ck_assert_uint_eq(n_found(reader, "word"), 1);
        index_reader_free(reader);
}
END_TEST

START_TEST(a_reader_notices_that_its_folder_has_gone_and_come_back) {
        struct index_writer *writer = writer_open();
        const struct index_query query = {.text = str("word"), .k = 1};
        struct index_result *result = NULL;
        struct index_error err = {0};

        put(writer, "old", "", "a word");
        commit(writer);
        index_writer_free(writer);
        struct index_reader *reader = reader_open();
        best_is(reader, "word", "old");
        folder_empty(in_folder("ix"));
        ck_assert_int_eq(index_reader_query(reader, &query, &err, &result), INDEX_E_MISSING);
        writer = writer_open();
        put(writer, "new", "", "a word");
        commit(writer);
        index_writer_free(writer);
        best_is(reader, "word", "new");
        index_reader_free(reader);
}
END_TEST

struct listing {
        struct index_writer *writer; /* NULL: nothing is changed meanwhile */
        char ids[64][256];
        int n;
        int stop_at;
};

/* Changes the index under the reader's feet, often enough that its snapshot is gone. */
static int note_entry(const struct index_entry *entry, void *ctx) {
        struct listing *listing = ctx;
        char text[64];

        snprintf(listing->ids[listing->n++], sizeof(listing->ids[0]), "%.240s", entry->key.id.data);
        for (int i = 0; listing->writer && i < 6; i++) {
                for (int d = 0; d < 40; d++) {
                        snprintf(text, sizeof(text), "d%02d", d);
                        char body[64];
                        snprintf(body, sizeof(body), "words %d of %d", i, listing->n);
                        put(listing->writer, text, "", body);
                }
                commit(listing->writer);
        }
        return listing->n == listing->stop_at ? 77 : 0;
}

START_TEST(a_list_has_each_document_once_in_order_even_while_a_writer_writes) {
        struct index_writer *writer = writer_open();
        struct listing listing = {.writer = writer};
        const struct index_list list = {.fn = note_entry, .ctx = &listing};
        char id[64];

        for (int d = 0; d < 40; d++) {
                snprintf(id, sizeof(id), "d%02d", 39 - d);
                put(writer, id, "", "words");
        }
        commit(writer);
        struct index_reader *reader = reader_open();
        struct index_error err = {0};
        ck_assert_msg(index_reader_list(reader, &list, &err) == 0, "%s", err.text);
        ck_assert_int_eq(listing.n, 40);
        for (int d = 0; d < 40; d++) {
                snprintf(id, sizeof(id), "d%02d", d);
                ck_assert_str_eq(listing.ids[d], id);
        }
        listing = (struct listing){.stop_at = 3};
        ck_assert_int_eq(index_reader_list(reader, &list, NULL), 77);
        ck_assert_int_eq(listing.n, 3);
        index_reader_free(reader);
        index_writer_free(writer);
}
END_TEST

START_TEST(ids_up_to_the_limit_are_told_apart_by_their_last_byte) {
        struct index_writer *writer = writer_open();
        char id[INDEX_ID_MAX + 1] = {0};
        enum index_outcome outcome;
        bool removed = false;

        memset(id, 'x', INDEX_ID_MAX);
        for (size_t n = 190; n <= INDEX_ID_MAX; n += 139)
                for (char c = 'a'; c <= 'b'; c++) {
                        const char kept = id[n - 1];
                        id[n - 1] = c;
                        ck_assert_int_eq(put_bytes(writer, (struct index_str){id, n}, "",
                                                         str("word"), NULL, &outcome),
                                        0);
                        ck_assert_int_eq(outcome, INDEX_ADDED);
                        id[n - 1] = kept;
                }
        commit(writer);
        const uint64_t n_documents = index_writer_stats(writer).documents;
        ck_assert_uint_eq(n_documents, 14);
        id[189] = 'a';
        const struct index_key key = {.id = {id, 190}};
        ck_assert_int_eq(index_writer_remove(writer, &key, NULL, &removed),
                        0);
        ck_assert(removed);
        ck_assert_uint_eq(index_writer_stats(writer).documents, 13);
        index_writer_free(writer);
}
END_TEST

static void be_killed(int committed) {
        struct index_writer *writer = writer_open();
        char id[32];

        for (int i = 0; i < 200; i++) {
                snprintf(id, sizeof(id), "k%d", i);
                put(writer, id, "", "a killed word");
                if (i + 1 == committed)
                        commit(writer);
        }
        kill(getpid(), SIGKILL);
}

START_TEST(a_killed_writer_leaves_the_last_commit_and_no_lock) {
        static const int committed[] = {0, 100, 150};
        struct index_stats stats;

        for (size_t i = 0; i < sizeof(committed) / sizeof(*committed); i++) {
                const pid_t pid = fork();
                int status;

                ck_assert_int_ne(pid, -1);
                if (pid == 0)
                        be_killed(committed[i]);
                ck_assert_int_eq(waitpid(pid, &status, 0), pid);
                ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                struct index_reader *reader = reader_open();
                ck_assert_int_eq(index_reader_stats(reader, NULL, &stats), 0);
                ck_assert_uint_eq(stats.documents, (uint64_t)committed[i]);
                struct index_result *result = ask_bytes(reader, str("killed"), INDEX_K_MAX);
                ck_assert_uint_eq(index_result_n(result), (size_t)committed[i]);
                index_result_free(result);
                index_reader_free(reader);
                index_writer_free(writer_open());
        }
}
END_TEST

struct reading {
        const char *path;
        atomic_bool *stop;
        _Atomic uint64_t n_queries;
        int error;
        char why[512];
};

/* A document is whole or not there: both of its words are found, or neither. */
static void *read_on(void *ctx) {
        struct reading *reading = ctx;
        struct index_reader *reader = NULL;
        struct index_error err = {0};
        int r = index_reader_open(reading->path, &err, &reader);

        while (r == 0 && !atomic_load_explicit(reading->stop, memory_order_relaxed)) {
                const struct index_query query = {.text = str("granite basalt"), .k = 10};
                struct index_result *result = NULL;

                r = index_reader_query(reader, &query, &err, &result);
                if (r == 0 && index_result_n(result) != 10 && index_result_n(result) != 0)
                        r = 1000 + (int)index_result_n(result);
                for (size_t i = 0; r == 0 && i < index_result_n(result); i++)
                        if (!memmem(index_result_hit(result, i)->text.data,
                                            index_result_hit(result, i)->text.n_bytes, "granite",
                                            7))
                                r = 2000;
                index_result_free(result);
                if (r == 0)
                        atomic_fetch_add_explicit(&reading->n_queries, 1, memory_order_relaxed);
        }
        index_reader_free(reader);
        reading->error = r;
        memcpy(reading->why, err.text, sizeof(reading->why));
        return NULL;
}

enum { READERS = 3, ROUNDS = 60, ROUNDS_MAX = 60000 };

/* Each has found something (a thread may begin late) or given up. */
static bool all_have_read(const struct reading *readings) {
        for (int i = 0; i < READERS; i++)
                if (atomic_load_explicit(&readings[i].n_queries, memory_order_relaxed) == 0)
                        return false;
        return true;
}

START_TEST(readers_in_threads_go_on_while_a_writer_replaces_everything) {
        struct index_writer *writer = writer_open();
        struct reading readings[READERS] = {0};
        pthread_t threads[READERS];
        atomic_bool stop = false;
        char id[32];
        char text[128];

        commit(writer);
        for (int i = 0; i < READERS; i++) {
                readings[i].path = strdup(in_folder("ix"));
                readings[i].stop = &stop;
                ck_assert_int_eq(pthread_create(&threads[i], NULL, read_on, &readings[i]), 0);
        }
        for (int round = 0; round < ROUNDS || (!all_have_read(readings) && round < ROUNDS_MAX);
                        round++) {
                for (int d = 0; d < 10; d++) {
                        snprintf(id, sizeof(id), "d%d", d);
                        snprintf(text, sizeof(text), "granite and basalt, round %d", round);
                        put(writer, id, "", text);
                }
                commit(writer);
        }
        atomic_store_explicit(&stop, true, memory_order_relaxed);
        for (int i = 0; i < READERS; i++) {
                ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
                ck_assert_msg(readings[i].error == 0, "%d %s", readings[i].error, readings[i].why);
                ck_assert_uint_gt(atomic_load(&readings[i].n_queries), 0);
                free((char *)readings[i].path);
        }
        index_writer_free(writer);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("index, its life");
        TCase *life = tcase_create("life");

        tcase_add_checked_fixture(life, folder_setup, folder_teardown);
        tcase_set_timeout(life, 100);
        tcase_add_test(life, a_second_writer_is_locked_out_until_the_first_goes);
        tcase_add_test(life, folders_above_are_made_and_private);
        tcase_add_test(life, the_same_content_again_is_unchanged_other_content_replaces);
        tcase_add_test(life, the_same_text_cut_elsewhere_replaces);
        tcase_add_test(life, all_chunks_of_a_document_go_when_it_goes);
        tcase_add_test(life, a_reader_sees_a_commit_at_its_next_query_and_nothing_before);
        tcase_add_test(life, a_reader_notices_that_its_folder_has_gone_and_come_back);
        tcase_add_test(life, a_list_has_each_document_once_in_order_even_while_a_writer_writes);
        tcase_add_test(life, ids_up_to_the_limit_are_told_apart_by_their_last_byte);
        tcase_add_test(life, a_killed_writer_leaves_the_last_commit_and_no_lock);
        tcase_add_test(life, readers_in_threads_go_on_while_a_writer_replaces_everything);
        suite_add_tcase(suite, life);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        const int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
