#include <check.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/clock.h"
#include "stages/engines/index/chunk.h"
#include "stages/rag/documents.h"
#include "stages/rag/retrieve.h"

static char dir[] = "/tmp/millrace-rag-XXXXXX", path[64];
static int bell;
static struct slab_shm slab; /* where threads say what they are at */
static const struct settings settings;

static struct index_str str(const char *text) {
        return (struct index_str){text, strlen(text)};
}

static void add(struct index_writer *writer, const char *id, const char *text) {
        struct chunk_list chunks = {0};
        struct index_document doc = {.key.id = str(id), .title = str("T"), .text = str(text)};
        enum index_outcome outcome;

        ck_assert_int_eq(chunk_split(str(text), NULL, 0, &chunks), 0);
        doc.chunks = chunks.chunks;
        doc.n_chunks = chunks.n_chunks;
        ck_assert_int_eq(index_writer_add(writer, &doc, NULL, &outcome), 0);
        chunk_list_clear(&chunks);
}

static void build_index(void) {
        struct index_writer *writer;
        char text[8192];

        ck_assert_int_eq(index_writer_open(path, NULL, NULL, &writer), 0);
        add(writer, "gate.md", "The keeper closes the iron gate at nine.");
        for (size_t i = 0; i + 16 < sizeof(text); i += 15)
                memcpy(text + i, "the long wheel. ", 16);
        text[sizeof(text) - 16] = 0;
        add(writer, "wheel.md", text);
        ck_assert_int_eq(index_writer_commit(writer, NULL), 0);
        index_writer_free(writer);
}

static void setup(void) {
        strcpy(dir, "/tmp/millrace-rag-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/main.index", dir);
        ck_assert_int_eq(doorbell_new(&bell), 0);
}

/* It holds nothing but the index, which holds no folders. */
static void folder_remove(void) {
        char name[512];
        DIR *index = opendir(path);
        struct dirent *entry;

        while (index && (entry = readdir(index))) {
                snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
                unlink(name);
        }
        if (index)
                closedir(index);
        rmdir(path);
}

static void teardown(void) {
        folder_remove();
        rmdir(dir);
        close(bell);
}

static struct retrieve_job *ask(struct retrieve *r, const char *question, uint64_t deadline_ns) {
        struct retrieve_job *job = retrieve_take(r);
        struct pollfd p = {.fd = bell, .events = POLLIN};

        ck_assert_ptr_nonnull(job);
        job->k = 5;
        job->deadline_ns = deadline_ns;
        question_take(&job->question,
                        &(struct record){.has = HAS(query),
                                        .query = {question, (uint32_t)strlen(question)}});
        retrieve_submit(r, job);
        while (!(job = retrieve_done(r))) {
                ck_assert_int_eq(poll(&p, 1, 30000), 1);
                doorbell_clear(bell);
        }
        return job;
}

static uint64_t soon(void) {
        return clock_now_ns() + 20 * NS_PER_S;
}

START_TEST(an_index_that_is_not_there_is_said_and_found_later) {
        struct retrieve *r;
        struct retrieve_job *job;

        ck_assert_int_eq(retrieve_new(&r, path, &settings, 4, bell), 0);
        ck_assert_int_eq(retrieve_start(r, &slab), 0);
        ck_assert(!retrieve_available(r, 10 * NS_PER_S));
        job = ask(r, "gate", soon());
        ck_assert_int_eq(job->status, INDEX_E_MISSING);
        ck_assert_ptr_null(job->result);
        retrieve_release(r, job);
        build_index();
        ck_assert(!retrieve_replaced(r));
        ck_assert_msg(!retrieve_available(r, 10 * NS_PER_S + 1), "looked up at most once a second");
        ck_assert(retrieve_available(r, 12 * NS_PER_S));
        ck_assert_msg(retrieve_replaced(r), "it was not there when this process began");
        job = ask(r, "gate", soon());
        ck_assert_int_eq(job->status, 0);
        ck_assert_uint_eq(index_result_n(job->result), 1);
        retrieve_release(r, job);
}
END_TEST

START_TEST(a_folder_in_the_place_of_another_is_told_apart_and_the_same_one_is_not) {
        struct retrieve *r;

        build_index();
        ck_assert_int_eq(retrieve_new(&r, path, &settings, 4, bell), 0);
        ck_assert_int_eq(retrieve_start(r, &slab), 0); /* its threads keep what is never freed */
        ck_assert(retrieve_available(r, 10 * NS_PER_S));
        ck_assert(!retrieve_replaced(r));
        folder_remove();
        ck_assert(!retrieve_available(r, 12 * NS_PER_S));
        ck_assert_msg(!retrieve_replaced(r), "nothing is there");
        build_index();
        ck_assert(retrieve_available(r, 14 * NS_PER_S));
        ck_assert(retrieve_replaced(r));
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_an_error_of_its_own) {
        struct retrieve *r;
        struct retrieve_job *job;

        build_index();
        ck_assert_int_eq(retrieve_new(&r, path, &settings, 4, bell), 0);
        ck_assert_int_eq(retrieve_start(r, &slab), 0);
        job = ask(r, "gate", 1);
        ck_assert_int_eq(job->status, INDEX_E_DEADLINE);
        retrieve_release(r, job);
}
END_TEST

START_TEST(there_are_as_many_jobs_as_were_asked_for) {
        struct retrieve *r;
        struct retrieve_job *jobs[2];

        ck_assert_int_eq(retrieve_new(&r, path, &settings, 2, bell), 0);
        ck_assert_int_eq(retrieve_start(r, &slab), 0); /* its threads keep what is never freed */
        jobs[0] = retrieve_take(r);
        jobs[1] = retrieve_take(r);
        ck_assert(jobs[0] && jobs[1] && jobs[0] != jobs[1]);
        ck_assert_ptr_null(retrieve_take(r));
        retrieve_release(r, jobs[0]);
        ck_assert_ptr_eq(retrieve_take(r), jobs[0]);
}
END_TEST

START_TEST(documents_keep_to_the_budget_of_tokens) {
        static struct documents documents;
        struct retrieve *r;
        struct retrieve_job *job;

        build_index();
        ck_assert_int_eq(retrieve_new(&r, path, &settings, 4, bell), 0);
        ck_assert_int_eq(retrieve_start(r, &slab), 0);
        job = ask(r, "iron gate long wheel", soon());
        ck_assert_uint_eq(index_result_n(job->result), 2);
        ck_assert_uint_eq(documents_make(&documents, job->result, 5, 2000), 2);
        ck_assert_uint_eq(documents.list.via.array.size, 2);
        ck_assert_uint_eq(documents.rows[0].via.array.size, DOCUMENTS_COLUMNS);
        for (uint32_t i = 0; i < 2; i++) {
                const msgpack_object *cells = documents.cells[i];
                ck_assert_uint_eq(cells[4].via.u64 - cells[3].via.u64, cells[6].via.str.size);
        }
        ck_assert_uint_eq(documents_make(&documents, job->result, 5, 5), 1);
        ck_assert_uint_le(documents.cells[0][6].via.str.size, 20 + 20);
        ck_assert_uint_eq(documents_make(&documents, job->result, 1, 2000), 1);
        retrieve_release(r, job);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("retrieve");
        TCase *all = tcase_create("all");
        SRunner *runner;
        int failed;

        tcase_set_timeout(all, 60);
        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, an_index_that_is_not_there_is_said_and_found_later);
        tcase_add_test(all, a_folder_in_the_place_of_another_is_told_apart_and_the_same_one_is_not);
        tcase_add_test(all, a_deadline_that_has_passed_is_an_error_of_its_own);
        tcase_add_test(all, there_are_as_many_jobs_as_were_asked_for);
        tcase_add_test(all, documents_keep_to_the_budget_of_tokens);
        suite_add_tcase(suite, all);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
