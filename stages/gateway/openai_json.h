/*
 * openai_json -- OpenAI's JSON out of decoded records: the chunks of a stream, errors, models.
 *
 * Shape   pure functions: what is the same in every piece (struct openai_answer) and a record in,
 *         one JSON object into a flat buffer out; no framing of SSE
 * Units   bytes; `created` in seconds since 1970
 * Owner   all memory is the caller's
 * Errors  json_buf.full: it did not fit. A buffer of the size that the bound says is never full
 * Limits  OPENAI_CHOICES_MAX choices are told apart for roles; nothing here allocates
 *
 * The order of a stream: role chunk, a chunk for each delta, finish chunk, and when it was asked
 * for, usage chunk. An event's bytes are a function of its record and of struct openai_answer
 * alone, so that they are the same after a resume.
 *
 * `extra` of a record is merged in where the backend had it: its members come out byte for byte at
 * the top, in the choice or in the delta that they stood in. Extra that is not what the record says
 * is left out as a whole: another process wrote it. Text that is not UTF-8 gets U+FFFD for each
 * byte that is wrong.
 *
 * What millrace has and OpenAI has not: "sources", an array of {n, id, title, url, start, end,
 * cited} at the top of the finish chunk and of a whole answer, when there are any.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

#define OPENAI_CHOICES_MAX 128u

enum openai_kind {
        OPENAI_CHAT,        /* "chat.completion.chunk", "chat.completion"; ids chatcmpl- */
        OPENAI_COMPLETIONS, /* "text_completion"; ids cmpl- */
};

/* What every piece of an answer says. */
struct openai_answer {
        enum openai_kind kind;
        struct mr_view id;    /* x-millrace-id; the prefix is added here */
        struct mr_view model; /* the public name */
        uint64_t created;
        bool usage_asked; /* stream_options.include_usage: chunks say "usage":null */
};

/* ---- chunks ---- */

/* Which choices have had their role chunk. All zero: none. */
struct openai_roles {
        uint64_t had[OPENAI_CHOICES_MAX / 64];
};
/* The next choice of this delta that has not had its role chunk; it counts as said from now on.
 * False: none. Legacy completions have no role chunks. */
bool openai_role_due(struct openai_roles *roles, const struct record *delta, uint32_t *ret_choice);

/* No chunk without a record, and no error body beyond its message, is larger. */
uint32_t openai_head_bound(const struct openai_answer *answer);
void openai_role_chunk(
                struct json_buf *b, const struct openai_answer *answer, uint32_t choice);

/* DELTA: text, reasoning, refusal or a fragment of a tool call. */
uint32_t openai_delta_bound(const struct openai_answer *answer, const struct record *delta);
void openai_delta_chunk(
                struct json_buf *b, const struct openai_answer *answer, const struct record *delta);

/* One chunk over the texts of several deltas that have the choice and kind of `like`, and neither
 * tool nor extra: begun, its texts, ended. */
uint32_t openai_text_bound(const struct openai_answer *answer); /* beside the texts */
uint32_t openai_text_piece_bound(struct mr_view text);
void openai_text_begin(
                struct json_buf *b, const struct openai_answer *answer, const struct record *like);
void openai_text_piece(struct json_buf *b, struct mr_view text);
void openai_text_end(
                struct json_buf *b, const struct openai_answer *answer, const struct record *like);

/* DONE: the finish chunk (first choice; others had theirs in their deltas), and the usage chunk. */
uint32_t openai_done_bound(const struct openai_answer *answer, const struct record *done);
void openai_finish_chunk(
                struct json_buf *b, const struct openai_answer *answer, const struct record *done);
void openai_usage_chunk(
                struct json_buf *b, const struct openai_answer *answer, const struct record *done);

/* ---- errors ---- */

struct openai_error {
        enum mr_error code;
        struct mr_view message;
        struct mr_view param;    /* n 0: null */
        struct mr_view own_code; /* the backend's; n 0: ours */
};
/* Of an ERROR record; what it lacks is filled in. */
struct openai_error openai_error_of(const struct record *error);
uint32_t openai_error_bound(const struct openai_error *error);
/* millrace's own name, or the one that the table of the contract has for it. */
struct mr_view openai_error_code(const struct openai_error *error);
/* May the same request be answered when it comes again? */
bool openai_error_retryable(const struct openai_error *error);
void openai_error_body(struct json_buf *b, const struct openai_error *error);

/* ---- models ---- */

uint32_t openai_model_bound(struct mr_view name);
/* {"id","object":"model","created","owned_by"} */
void openai_model(struct json_buf *b, struct mr_view name, uint64_t created);

/* ---- pieces that whole answers share (openai_whole.c) ---- */

/* {"id":…,"object":…,"created":…,"model":… */
void openai_put_head(
                struct json_buf *b, const struct openai_answer *answer, const char *object);
/* "usage":{…}, the backend's own object when the record has it. */
void openai_put_usage(struct json_buf *b, const struct record *done);
/* ,"sources":[…]; nothing when there are none. */
void openai_put_sources(struct json_buf *b, const struct record *done);
bool openai_has_sources(const struct record *done);
struct mr_view openai_finish_reason(const struct record *done);
/* A tool call's fragment; false: the record has none. What it lacks has n == 0. */
struct openai_tool {
        uint64_t index;
        struct mr_view id, name, arguments;
        struct json_text members, function; /* that nobody knows: insides, of the call and its function */
};
bool openai_tool_of(const struct record *delta, struct openai_tool *ret);
/* False: a call of another type, which is all in its members. */
bool openai_tool_is_function(const struct openai_tool *tool);
