/*
 * test_index -- short words for the tests of the index.
 */
#pragma once

#include "stages/engines/index/chunk.h"
#include "tests/engines/index/test_folder.h"

static inline struct index_writer *writer_open(void) {
        struct index_writer *writer = NULL;
        struct index_error err = {0};

        ck_assert_msg(index_writer_open(in_folder("ix"), NULL, &err, &writer) == 0, "%s", err.text);
        return writer;
}

static inline struct index_reader *reader_open(void) {
        struct index_reader *reader = NULL;
        struct index_error err = {0};

        ck_assert_msg(index_reader_open(in_folder("ix"), &err, &reader) == 0, "%s", err.text);
        return reader;
}

static inline int put_bytes(struct index_writer *writer, struct index_str id, const char *title,
                struct index_str text, struct index_error *err, enum index_outcome *ret_outcome) {
        struct chunk_list list;

        ck_assert_int_eq(chunk_split(text, NULL, 0, &list), 0);
        const struct index_document doc = {
                        .key.id = id,
                        .title = str(title),
                        .url = str("https://example.org/x"),
                        .source = str("some/file.md"),
                        .metadata = str("{\"a\":1}"),
                        .text = text,
                        .chunks = list.chunks,
                        .n_chunks = list.n_chunks,
        };
        int r = index_writer_add(writer, &doc, err, ret_outcome);
        chunk_list_clear(&list);
        return r;
}

static inline enum index_outcome put(
                struct index_writer *writer, const char *id, const char *title, const char *text) {
        enum index_outcome outcome = INDEX_ADDED;
        struct index_error err = {0};

        ck_assert_msg(put_bytes(writer, str(id), title, str(text), &err, &outcome) == 0, "%s",
                        err.text);
        return outcome;
}

static inline void commit(struct index_writer *writer) {
        struct index_error err = {0};

        ck_assert_msg(index_writer_commit(writer, &err) == 0, "%s", err.text);
}

static inline struct index_result *ask_bytes(
                struct index_reader *reader, struct index_str text, uint32_t k) {
        const struct index_query query = {.text = text, .k = k};
        struct index_result *result = NULL;
        struct index_error err = {0};

        ck_assert_msg(index_reader_query(reader, &query, &err, &result) == 0, "%s", err.text);
        return result;
}

static inline struct index_result *ask(struct index_reader *reader, const char *text) {
        return ask_bytes(reader, str(text), 10);
}

static inline size_t n_found(struct index_reader *reader, const char *text) {
        struct index_result *result = ask(reader, text);
        const size_t n = index_result_n(result);

        index_result_free(result);
        return n;
}

/* The best hit's id is `id`. */
static inline void best_is(struct index_reader *reader, const char *text, const char *id) {
        struct index_result *result = ask(reader, text);

        ck_assert_uint_ge(index_result_n(result), 1);
        ck_assert_str_eq(index_result_hit(result, 0)->key.id.data, id);
        index_result_free(result);
}
