/*
 * sessions -- turns of a conversation: kept once, in order, by tenant; the oldest and the expired go.
 */
#include "stages/engines/store/sessions.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALWAYS INT64_MIN

static char folder[64], path[128], said[512];
static char aside[STORE_WHY_MAX], why[STORE_WHY_MAX];
static struct store store;

static int open_with(bool create, bool read, struct store *ret) {
        struct store_options options = {.path = path, .create = create, .read = read};

        return store_open(&options, ret, aside, why);
}

static void set_up(void) {
        snprintf(folder, sizeof(folder), "/tmp/millrace-sessions-XXXXXX");
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

static struct results_text text_of(const char *text) {
        return (struct results_text){text, (uint32_t)strlen(text)};
}

/* The exchange `n` of the session, at that time. */
static int put_at(const char *tenant, const char *name, uint64_t n, bool continues, int64_t ms,
                uint64_t keep, int64_t fresh_ms) {
        char asked[16], answer[16], id[16];

        snprintf(asked, sizeof(asked), "q%u", (unsigned)n);
        snprintf(answer, sizeof(answer), "a%u", (unsigned)n);
        snprintf(id, sizeof(id), "id-%u", (unsigned)n);
        const struct sessions_exchange e = {.req_id = n,
                        .id = text_of(id),
                        .when_ms = ms,
                        .continues = continues,
                        .asked = text_of(asked),
                        .answer = text_of(answer)};
        return sessions_put(&store, text_of(tenant), text_of(name), &e, keep, fresh_ms);
}

static int put(const char *tenant, const char *name, uint64_t n) {
        return put_at(tenant, name, n, false, (int64_t)n, 100, ALWAYS);
}

static int say(void *ctx, const struct sessions_exchange *e) {
        (void)ctx;
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "%u:%.*s%.*s@%u ", (unsigned)e->turn,
                        (int)e->asked.n, e->asked.p, (int)e->answer.n, e->answer.p, (unsigned)e->at);
        return 0;
}

/* What a session has said behind that turn. */
static const char *said_by(struct store *from, const char *tenant, const char *name, uint64_t after) {
        struct sessions_session session;

        said[0] = '\0';
        if (sessions_find(from, text_of(tenant), text_of(name), ALWAYS, &session) == 0)
                ck_assert_int_eq(sessions_exchanges(from, session.n, after, say, NULL), 0);
        return said;
}

START_TEST(a_reader_makes_no_file_and_takes_none_of_another_version) {
        struct store reader;

        ck_assert_int_eq(open_with(false, true, &reader), STORE_E_NONE);
        ck_assert_int_eq(access(path, F_OK), -1);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        ck_assert_int_eq(write(fd, "no database at all, but precious", 32), 32);
        close(fd);
        ck_assert_int_eq(open_with(false, true, &reader), STORE_E_FAILED);
        ck_assert_ptr_nonnull(strstr(why, "not a database"));
        ck_assert_int_eq(truncate(path, 0), 0);
        ck_assert_int_eq(open_with(false, true, &reader), STORE_E_NONE);
}
END_TEST

START_TEST(a_reader_sees_what_was_committed_and_changes_nothing) {
        struct store reader;

        ck_assert_int_eq(open_with(true, false, &store), 0);
        ck_assert_int_eq(open_with(false, true, &reader), 0);
        ck_assert_str_eq(said_by(&reader, "local", "s", 0), "");
        ck_assert_int_eq(store_run(&store, SQL_BEGIN), 0);
        ck_assert_int_eq(put("local", "s", 1), 0);
        ck_assert_str_eq(said_by(&reader, "local", "s", 0), "");
        ck_assert_int_eq(store_run(&store, SQL_COMMIT), 0);
        ck_assert_str_eq(said_by(&reader, "local", "s", 0), "1:q1a1@0 ");
        ck_assert_int_eq(store_run(&reader, SQL_PROBE), STORE_E_FAILED);
        store_close(&reader);
}
END_TEST

START_TEST(an_exchange_is_kept_once_and_in_order) {
        ck_assert_int_eq(open_with(true, false, &store), 0);
        ck_assert_int_eq(put("local", "s", 7), 0);
        ck_assert_int_eq(put("local", "s", 7), 0);
        ck_assert_int_eq(put_at("local", "s", 3, true, 8, 100, ALWAYS), 0);
        ck_assert_int_eq(put("local", "s", 9), 0);
        ck_assert_str_eq(said_by(&store, "local", "s", 0), "1:q7a7@0 1:q3a3@4 2:q9a9@8 ");
        ck_assert_str_eq(said_by(&store, "local", "s", 1), "2:q9a9@8 ");
}
END_TEST

START_TEST(tenants_have_sessions_of_their_own) {
        ck_assert_int_eq(open_with(true, false, &store), 0);
        ck_assert_int_eq(put("local", "s", 1), 0);
        ck_assert_int_eq(put("uid:7", "s", 2), 0);
        ck_assert_str_eq(said_by(&store, "local", "s", 0), "1:q1a1@0 ");
        ck_assert_str_eq(said_by(&store, "uid:7", "s", 0), "1:q2a2@0 ");
        ck_assert_str_eq(said_by(&store, "uid:8", "s", 0), "");
}
END_TEST

START_TEST(of_too_many_turns_the_oldest_go_whole) {
        ck_assert_int_eq(open_with(true, false, &store), 0);
        for (uint64_t n = 1; n <= 6; n++)
                ck_assert_int_eq(put_at("local", "s", n, n % 2 == 0, 1, 2, ALWAYS), 0);
        ck_assert_str_eq(said_by(&store, "local", "s", 0), "2:q3a3@8 2:q4a4@12 3:q5a5@16 3:q6a6@20 ");
}
END_TEST

START_TEST(a_session_that_has_expired_is_not_found_begins_anew_and_goes) {
        struct sessions_session session;
        uint32_t n;

        ck_assert_int_eq(open_with(true, false, &store), 0);
        ck_assert_int_eq(put_at("local", "old", 1, false, 100, 9, ALWAYS), 0);
        ck_assert_int_eq(put_at("local", "new", 2, false, 200, 9, ALWAYS), 0);
        ck_assert_int_eq(sessions_find(&store, text_of("local"), text_of("old"), 101, &session),
                        STORE_E_NONE);
        ck_assert_int_eq(sessions_find(&store, text_of("local"), text_of("new"), 101, &session), 0);
        ck_assert_int_eq(put_at("local", "old", 3, true, 300, 9, 101), 0);
        ck_assert_str_eq(said_by(&store, "local", "old", 0), "1:q3a3@0 ");
        ck_assert_int_eq(sessions_expire(&store, 300, 10, &n), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(said_by(&store, "local", "new", 0), "");
        ck_assert_str_eq(said_by(&store, "local", "old", 0), "1:q3a3@0 ");
}
END_TEST

static int name_it(void *ctx, const struct sessions_session *s) {
        (void)ctx;
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "%.*s/%.*s=%u,%u ", (int)s->tenant.n,
                        s->tenant.p, (int)s->name.n, s->name.p, (unsigned)s->turns, (unsigned)s->kept);
        return 0;
}

START_TEST(all_are_listed_and_one_is_dropped_with_its_turns) {
        struct sessions_session session;

        ck_assert_int_eq(open_with(true, false, &store), 0);
        ck_assert_int_eq(put("local", "a", 5), 0);
        ck_assert_int_eq(put("local", "b", 4), 0);
        ck_assert_int_eq(put("local", "b", 6), 0);
        said[0] = '\0';
        ck_assert_int_eq(sessions_each(&store, name_it, NULL), 0);
        ck_assert_str_eq(said, "local/a=1,1 local/b=2,2 ");
        ck_assert_int_eq(sessions_find(&store, text_of("local"), text_of("b"), ALWAYS, &session), 0);
        ck_assert_int_eq(sessions_drop(&store, session.n), 0);
        said[0] = '\0';
        ck_assert_int_eq(sessions_each(&store, name_it, NULL), 0);
        ck_assert_str_eq(said, "local/a=1,1 ");
        ck_assert_int_eq(sessions_exchanges(&store, session.n, 0, say, NULL), 0);
        ck_assert_str_eq(said, "local/a=1,1 ");
}
END_TEST

int main(void) {
        Suite *suite = suite_create("sessions");
        TCase *tc = tcase_create("sessions");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, tear_down);
        tcase_add_test(tc, a_reader_makes_no_file_and_takes_none_of_another_version);
        tcase_add_test(tc, a_reader_sees_what_was_committed_and_changes_nothing);
        tcase_add_test(tc, an_exchange_is_kept_once_and_in_order);
        tcase_add_test(tc, tenants_have_sessions_of_their_own);
        tcase_add_test(tc, of_too_many_turns_the_oldest_go_whole);
        tcase_add_test(tc, a_session_that_has_expired_is_not_found_begins_anew_and_goes);
        tcase_add_test(tc, all_are_listed_and_one_is_dropped_with_its_turns);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
