/*
 * openai_tape -- what a backend said, as the records that inference makes of it.
 *
 * Shape   chunks of a backend's stream in, records out, and JSON text as yajl's tree sees it
 * Units   bytes
 * Owner   the test; everything lives until tape_clear()
 * Errors  a failed check
 * Limits  TAPE_RECORDS records, TAPE_BYTES of everything in them
 */
#pragma once

#include <yajl/yajl_tree.h>

#include "stages/common/record.h"
#include "stages/gateway/openai_whole.h"

#define TAPE_RECORDS 512u
#define TAPE_BYTES (1u << 20)
#define OUT_BYTES (4u << 20)

struct tape {
        struct record records[TAPE_RECORDS];
        uint32_t n;
        bool done; /* the last record is the DONE */
        uint32_t used;
        _Alignas(16) char bytes[TAPE_BYTES];
};
extern struct tape tape;
extern const struct openai_answer chat, chat_with_usage, legacy;

void tape_clear(void);
/* A chunk of a backend's stream: its parts, and its unknown members with the first of them. */
void tape_chunk(const char *json);
struct record *tape_record(void); /* an empty one */
struct record *tape_text(uint32_t choice, const char *kind, const char *text);
struct record *tape_tool(uint32_t choice, uint32_t index, const char *id, const char *name,
                const char *arguments);
struct record *tape_done(const char *finish_reason);
/* n copies of a row [n, id, title, url, start, end, cited] for the DONE. */
void tape_sources(struct record *done, uint32_t n);
struct mr_view tape_view(const char *text);

/* ---- JSON ---- */

/* The bytes of one call, checked: it fits its bound, one byte less is told, it parses. The text
 * ends in a zero and lives until the next call. */
const char *delta_chunk(const struct openai_answer *answer, const struct record *delta);
const char *role_chunk(const struct openai_answer *answer, uint32_t choice);
const char *finish_chunk(const struct openai_answer *answer, const struct record *done);
const char *usage_chunk(const struct openai_answer *answer, const struct record *done);
const char *error_body(const struct openai_error *error);
/* Of everything on the tape. */
const char *whole_answer(const struct openai_answer *answer);

/* Parsed; lives until the next call but three. */
yajl_val json_tree(const char *text);
/* The value at "choices.0.delta.content"; NULL: not there. */
yajl_val json_at(yajl_val from, const char *path);
void expect_string(yajl_val from, const char *path, const char *want);
void expect_number(yajl_val from, const char *path, const char *want);
void expect_null(yajl_val from, const char *path);
void expect_absent(yajl_val from, const char *path);
