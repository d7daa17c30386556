/*
 * store, results and letters -- one file: what is refused, what is put aside, what is kept once.
 */
#include "stages/engines/store/letters.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[128];
static char aside[STORE_WHY_MAX], why[STORE_WHY_MAX];
static struct store store;

static int open_with(bool create, uint64_t checked) {
        struct store_options options = {.path = path, .create = create, .checked = checked};

        return store_open(&options, &store, aside, why);
}

static void set_up(void) {
        snprintf(folder, sizeof(folder), "/tmp/millrace-store-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/main.db", folder);
}

static void tear_down(void) {
        DIR *dir;

        store_close(&store);
        dir = opendir(folder);
        for (const struct dirent *e; (e = readdir(dir));)
                unlinkat(dirfd(dir), e->d_name, 0);
        closedir(dir);
        ck_assert_int_eq(rmdir(folder), 0);
}

static void write_file(const char *bytes, size_t n) {
        int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

        ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
        close(fd);
}

/* ---- refusals ---- */

START_TEST(a_file_that_is_not_there_is_not_made_unasked) {
        ck_assert_int_eq(open_with(false, 1), STORE_E_NONE);
        ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(a_folder_that_cannot_be_is_a_failure_that_says_why) {
        write_file("", 0);
        snprintf(path + strlen(path), sizeof(path) - strlen(path), "/below/a.db");
        ck_assert_int_eq(open_with(true, 1), STORE_E_FAILED);
        ck_assert_ptr_nonnull(strstr(why, "Not a directory"));
}
END_TEST

START_TEST(what_is_no_database_is_put_aside_and_kept) {
        char text[32] = "";
        int fd;

        write_file("no database at all, but precious", 32);
        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_ptr_nonnull(strstr(aside, "main.db.broken-"));
        fd = open(aside, O_RDONLY);
        ck_assert_int_eq(read(fd, text, sizeof(text)), 32);
        close(fd);
        ck_assert_mem_eq(text, "no database at all, but precious", 32);
}
END_TEST

START_TEST(a_command_leaves_what_is_no_database_where_it_is) {
        struct store_options options = {.path = path, .leave = true};

        write_file("no database at all, but precious", 32);
        ck_assert_int_eq(store_open(&options, &store, aside, why), STORE_E_FAILED);
        ck_assert_ptr_nonnull(strstr(why, "not a database"));
        ck_assert_str_eq(aside, "");
        ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

/* A page in the middle is overwritten: only the check of the whole file finds out. */
START_TEST(a_damaged_database_is_found_by_the_check_and_only_once) {
        struct results_response response = {
                        .req_id = 1, .tenant = {"local", 5}, .id = {"a", 1}};
        static char record[60000];
        struct stat st;
        int64_t row;
        int fd;

        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_int_eq(results_put(&store, &response, &row), 0);
        for (uint64_t ord = 1; ord <= 20; ord++)
                ck_assert_int_eq(results_put_event(&store, row,
                                                 &(struct results_event){.ord = ord,
                                                                 .record = record,
                                                                 .len = sizeof(record)}),
                                0);
        store_close(&store);
        fd = open(path, O_WRONLY);
        fstat(fd, &st);
        for (off_t at = 8 * 4096; at < st.st_size - 4096; at += 4096)
                ck_assert_int_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, at), 8);
        close(fd);
        ck_assert_int_eq(open_with(true, 1), 0); /* it was checked for this number */
        store_close(&store);
        ck_assert_int_eq(open_with(true, 2), 0);
        ck_assert_ptr_nonnull(strstr(aside, "main.db.broken-"));
        ck_assert_int_eq(results_find(&store, response.tenant, response.id, &response, &row),
                        STORE_E_NONE);
}
END_TEST

START_TEST(the_database_of_another_program_or_version_is_left_alone) {
        sqlite3 *db;

        ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
        ck_assert_int_eq(sqlite3_exec(db, "CREATE TABLE theirs (x)", NULL, NULL, NULL), SQLITE_OK);
        ck_assert_int_eq(open_with(true, 1), STORE_E_FAILED);
        ck_assert_ptr_nonnull(strstr(why, "another program"));
        ck_assert_str_eq(aside, "");
        sqlite3_close(db);
        unlink(path);
        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_int_eq(sqlite3_exec(store.db, "PRAGMA user_version = 99", NULL, NULL, NULL),
                        SQLITE_OK);
        store_close(&store);
        ck_assert_int_eq(open_with(true, 1), STORE_E_FAILED);
        ck_assert_ptr_nonnull(strstr(why, "its format is 99"));
}
END_TEST

/* ---- what is kept ---- */

START_TEST(the_file_and_its_log_are_for_their_owner_alone) {
        char name[160];
        struct stat st;
        mode_t before = umask(0);

        ck_assert_int_eq(open_with(true, 1), 0);
        umask(before);
        ck_assert_int_eq(store_run(&store, SQL_PROBE), 0);
        for (int i = 0; i < 3; i++) {
                snprintf(name, sizeof(name), "%s%s", path, (const char *[]){"", "-wal", "-shm"}[i]);
                ck_assert_int_eq(stat(name, &st), 0);
                ck_assert_uint_eq(st.st_mode & 0777, 0600);
        }
}
END_TEST

static int put(uint64_t req_id, const char *id, int64_t finished_ms, uint64_t n_events) {
        struct results_response response = {.req_id = req_id,
                        .tenant = {"local", 5},
                        .id = {id, (uint32_t)strlen(id)},
                        .outcome = req_id + 1,
                        .digest = {req_id, UINT64_MAX},
                        .finished_ms = finished_ms};
        int64_t row;
        int r = results_put(&store, &response, &row);

        for (uint64_t ord = 1; ord <= n_events && r == 0; ord++)
                r = results_put_event(&store, row,
                                &(struct results_event){.ord = ord,
                                                .type = 2,
                                                .record = id,
                                                .len = (uint32_t)strlen(id)});
        return r;
}

static int count_event(void *ctx, const struct results_event *event) {
        uint64_t *n = ctx;

        ck_assert_uint_eq(event->ord, ++*n);
        ck_assert_uint_eq(event->type, 2);
        return 0;
}

static uint64_t found(const char *id, struct results_response *ret) {
        uint64_t n = 0;
        int64_t row;
        int r = results_find(&store, (struct results_text){"local", 5},
                        (struct results_text){id, (uint32_t)strlen(id)}, ret, &row);

        if (r == STORE_E_NONE)
                return 0;
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(results_events(&store, row, count_event, &n), 0);
        return n;
}

START_TEST(storing_again_changes_nothing) {
        struct results_response response;

        ck_assert_int_eq(open_with(true, 1), 0);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(put(1ull << 63 | 7, "a", 1000, 5), 0);
        ck_assert_uint_eq(found("a", &response), 5);
        ck_assert_uint_eq(response.req_id, 1ull << 63 | 7);
        ck_assert_uint_eq(response.digest[1], UINT64_MAX);
        ck_assert_uint_eq(found("b", &response), 0);
}
END_TEST

/* A response that has not ended, or its end: events [first, last]. */
static void put_part(uint64_t req_id, uint64_t outcome, const char *record, uint64_t first, uint64_t last) {
        struct results_response response = {.req_id = req_id,
                        .tenant = {"local", 5},
                        .id = {"a", 1},
                        .lane = 3,
                        .outcome = outcome,
                        .finished_ms = 1000};
        int64_t row;

        ck_assert_int_eq(results_put(&store, &response, &row), 0);
        for (uint64_t ord = first; ord <= last; ord++)
                ck_assert_int_eq(results_put_event(&store, row,
                                                 &(struct results_event){.ord = ord,
                                                                 .type = 2,
                                                                 .record = record,
                                                                 .len = 1}),
                                0);
        if (outcome)
                ck_assert_int_eq(results_cut(&store, row, last), 0);
}

static int collect_event(void *ctx, const struct results_event *event) {
        strncat(ctx, event->record, event->len);
        return 0;
}

static void texts_are(const char *expected) {
        struct results_response response;
        char text[64] = "";
        uint64_t n, bytes;
        int64_t row;

        ck_assert_int_eq(results_find(&store, (struct results_text){"local", 5},
                                         (struct results_text){"a", 1}, &response, &row),
                        0);
        ck_assert_int_eq(results_events(&store, row, collect_event, text), 0);
        ck_assert_str_eq(text, expected);
        ck_assert_int_eq(results_size(&store, row, &n, &bytes), 0);
        ck_assert_uint_eq(n, strlen(expected));
        ck_assert_uint_eq(bytes, strlen(expected));
}

START_TEST(parts_are_found_when_their_end_is_there) {
        struct results_response response;
        uint32_t n;

        ck_assert_int_eq(open_with(true, 1), 0);
        put_part(7, 0, "p", 1, 4);
        put_part(7, 0, "q", 5, 6);
        ck_assert_uint_eq(found("a", &response), 0);
        ck_assert_int_eq(results_expire(&store, 5000, 10, &n), 0);
        ck_assert_uint_eq(n, 0); /* it runs */
        put_part(7, 1, "r", 7, 8);
        texts_are("ppppqqrr");
        put_part(7, 1, "r", 7, 8);
        texts_are("ppppqqrr");
}
END_TEST

START_TEST(another_run_replaces_the_parts_of_the_one_before) {
        ck_assert_int_eq(open_with(true, 1), 0);
        put_part(7, 0, "p", 1, 6);
        put_part(7, 0, "q", 1, 3);
        put_part(7, 2, "r", 4, 4);
        texts_are("qqqr");
}
END_TEST

START_TEST(what_was_begun_in_other_memory_is_forgotten) {
        uint64_t mine = 5ull << 44;

        ck_assert_int_eq(open_with(true, 1), 0);
        put_part(mine | 1, 0, "p", 1, 3); /* lane 3 */
        ck_assert_int_eq(results_forget_open(&store, 2, 5), 0);
        put_part(mine | 1, 1, "q", 4, 4);
        texts_are("pppq");
        put_part(mine | 2, 0, "p", 1, 3);
        ck_assert_int_eq(results_forget_open(&store, 3, 5), 0); /* its log is new */
        put_part(mine | 2, 1, "q", 4, 4);
        texts_are("q");
        put_part(mine | 3, 0, "p", 1, 3);
        ck_assert_int_eq(results_forget_open(&store, 2, 6), 0);
        put_part(mine | 3, 1, "q", 4, 4);
        texts_are("q");
}
END_TEST

START_TEST(the_newest_response_of_an_id_counts_and_a_number_may_come_again) {
        struct results_response response;

        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_int_eq(put(1, "a", 1000, 1), 0);
        ck_assert_int_eq(put(2, "a", 1000, 2), 0);
        ck_assert_int_eq(put(2, "b", 1000, 3), 0);
        ck_assert_uint_eq(found("a", &response), 2);
        ck_assert_uint_eq(found("b", &response), 3);
}
END_TEST

static void count_id(void *ctx, struct results_text tenant, struct results_text id) {
        ck_assert_uint_eq(tenant.n, 5);
        ck_assert_uint_gt(id.n, 0);
        ++*(int *)ctx;
}

static void events_are_gone(void) {
        sqlite3_stmt *s;

        ck_assert_int_eq(sqlite3_prepare_v2(store.db, "SELECT count(*) FROM events", -1, &s, NULL),
                        SQLITE_OK);
        ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
        ck_assert_int_eq(sqlite3_column_int(s, 0), 0);
        sqlite3_finalize(s);
}

START_TEST(what_is_old_is_forgotten_with_its_events) {
        struct results_response response;
        uint32_t n;
        int ids = 0;

        ck_assert_int_eq(open_with(true, 1), 0);
        for (int i = 0; i < 10; i++) {
                char id[8];
                snprintf(id, sizeof(id), "id%d", i);
                ck_assert_int_eq(put((uint64_t)i, id, i * 100, 2), 0);
        }
        ck_assert_int_eq(results_expire(&store, 500, 3, &n), 0);
        ck_assert_uint_eq(n, 3);
        ck_assert_int_eq(results_expire(&store, 500, 3, &n), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(found("id4", &response), 0);
        ck_assert_uint_eq(found("id5", &response), 2);
        ck_assert_int_eq(results_ids(&store, count_id, &ids), 0);
        ck_assert_int_eq(ids, 5);
        ck_assert_int_eq(results_expire(&store, INT64_MAX, 100, &n), 0);
        events_are_gone();
}
END_TEST

static int64_t column(const char *sql) {
        struct sqlite3_stmt *s;
        int64_t value;

        ck_assert_int_eq(sqlite3_prepare_v2(store.db, sql, -1, &s, NULL), SQLITE_OK);
        ck_assert_int_eq(sqlite3_step(s), SQLITE_ROW);
        value = sqlite3_column_int64(s, 0);
        sqlite3_finalize(s);
        return value;
}

START_TEST(a_file_of_the_version_before_keeps_what_it_has_and_gets_what_it_lacks) {
        struct results_response response;

        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_int_eq(put(1, "kept", 100, 2), 0);
        ck_assert_int_eq(sqlite3_exec(store.db,
                                         "DROP TABLE dead_letters; DROP TABLE sessions;"
                                         "DROP TABLE exchanges; PRAGMA user_version = 1",
                                         NULL, NULL, NULL),
                        SQLITE_OK);
        store_close(&store);
        ck_assert_int_eq(open_with(false, 0), 0);
        ck_assert_int_eq(column("PRAGMA user_version"), 3);
        ck_assert_int_eq(column("SELECT count(*) FROM dead_letters"), 0);
        ck_assert_uint_eq(found("kept", &response), 2);
}
END_TEST

/* ---- dead letters ---- */

static int put_letter(uint64_t req_id, const char *id, const char *body, uint64_t most) {
        const struct letter letter = {.req_id = req_id,
                        .tenant = {"local", 5},
                        .id = {id, (uint32_t)strlen(id)},
                        .stage = {"rag", 3},
                        .lane = 1,
                        .strikes = 3,
                        .signal = 11,
                        .died_ms = (int64_t)req_id * 10,
                        .record = "\x80",
                        .record_len = 1,
                        .body = body,
                        .body_len = (uint32_t)strlen(body)};

        return letters_put(&store, &letter, most);
}

struct seen {
        char ids[256];
        struct letter last; /* its numbers */
        char body[64];
        int stop_at;
};

static int see(void *ctx, const struct letter *letter) {
        struct seen *seen = ctx;

        snprintf(seen->ids + strlen(seen->ids), sizeof(seen->ids) - strlen(seen->ids), "%.*s ",
                        (int)letter->id.n, letter->id.p);
        ck_assert_uint_le(letter->record_len, 1);
        seen->last = *letter;
        snprintf(seen->body, sizeof(seen->body), "%.*s", letter->body ? (int)letter->body_len : 0,
                        letter->body ? (const char *)letter->body : "");
        return seen->stop_at != 0 && --seen->stop_at == 0 ? 77 : 0;
}

START_TEST(letters_are_kept_once_and_the_newest_of_an_id_is_found) {
        struct seen seen = {.ids = ""};

        ck_assert_int_eq(open_with(true, 1), 0);
        ck_assert_int_eq(put_letter(1, "a", "one", 10), 0);
        ck_assert_int_eq(put_letter(1, "a", "one", 10), 0);
        ck_assert_int_eq(put_letter(2, "b", "", 10), 0);
        ck_assert_int_eq(put_letter(3, "a", "three", 10), 0);
        ck_assert_int_eq(letters_each(&store, see, &seen), 0);
        ck_assert_str_eq(seen.ids, "a b a ");
        ck_assert_str_eq(seen.body, ""); /* a list has no bodies, but says how long they are */
        ck_assert_uint_eq(seen.last.body_len, 5);
        ck_assert_int_eq(letters_find(&store, (struct results_text){"a", 1}, see, &seen), 0);
        ck_assert_str_eq(seen.body, "three");
        ck_assert_uint_eq(seen.last.req_id, 3);
        ck_assert_uint_eq(seen.last.lane, 1);
        ck_assert_uint_eq(seen.last.strikes, 3);
        ck_assert_uint_eq(seen.last.signal, 11);
        ck_assert_int_eq(seen.last.died_ms, 30);
        ck_assert_int_eq(letters_drop(&store, seen.last.n), 0);
        ck_assert_int_eq(letters_drop(&store, seen.last.n), STORE_E_NONE);
        ck_assert_int_eq(letters_find(&store, (struct results_text){"a", 1}, see, &seen), 0);
        ck_assert_str_eq(seen.body, "one");
        ck_assert_int_eq(letters_find(&store, (struct results_text){"c", 1}, see, &seen), STORE_E_NONE);
        seen = (struct seen){.stop_at = 1};
        ck_assert_int_eq(letters_each(&store, see, &seen), 77);
        ck_assert_str_eq(seen.ids, "a ");
}
END_TEST

START_TEST(of_too_many_letters_the_oldest_go) {
        struct seen seen = {.ids = ""};

        ck_assert_int_eq(open_with(true, 1), 0);
        for (uint64_t i = 1; i <= 5; i++)
                ck_assert_int_eq(put_letter(i, (const char *[]){"a", "b", "c", "d", "e"}[i - 1], "x", 3),
                                0);
        ck_assert_int_eq(letters_each(&store, see, &seen), 0);
        ck_assert_str_eq(seen.ids, "c d e ");
        ck_assert_int_eq(put_letter(6, "f", "x", 1), 0);
        seen = (struct seen){.ids = ""};
        ck_assert_int_eq(letters_each(&store, see, &seen), 0);
        ck_assert_str_eq(seen.ids, "f ");
        ck_assert_int_eq(put_letter(7, "g", "x", 0), 0);
        ck_assert_int_eq(column("SELECT count(*) FROM dead_letters"), 0);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("store");
        TCase *tc = tcase_create("store");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, a_file_that_is_not_there_is_not_made_unasked);
        tcase_add_test(tc, a_folder_that_cannot_be_is_a_failure_that_says_why);
        tcase_add_test(tc, what_is_no_database_is_put_aside_and_kept);
        tcase_add_test(tc, a_command_leaves_what_is_no_database_where_it_is);
        tcase_add_test(tc, a_damaged_database_is_found_by_the_check_and_only_once);
        tcase_add_test(tc, the_database_of_another_program_or_version_is_left_alone);
        tcase_add_test(tc, the_file_and_its_log_are_for_their_owner_alone);
        tcase_add_test(tc, storing_again_changes_nothing);
        tcase_add_test(tc, parts_are_found_when_their_end_is_there);
        tcase_add_test(tc, another_run_replaces_the_parts_of_the_one_before);
        tcase_add_test(tc, what_was_begun_in_other_memory_is_forgotten);
        tcase_add_test(tc, the_newest_response_of_an_id_counts_and_a_number_may_come_again);
        tcase_add_test(tc, what_is_old_is_forgotten_with_its_events);
        tcase_add_test(tc, a_file_of_the_version_before_keeps_what_it_has_and_gets_what_it_lacks);
        tcase_add_test(tc, letters_are_kept_once_and_the_newest_of_an_id_is_found);
        tcase_add_test(tc, of_too_many_letters_the_oldest_go);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
