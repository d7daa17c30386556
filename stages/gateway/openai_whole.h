/*
 * openai_whole -- one whole answer of OpenAI's out of the records of a stream.
 *
 * Shape   struct openai_whole: fed with every DELTA, in order, and the DONE; then written as JSON
 * Units   bytes
 * Owner   whoever called openai_whole_new(); records are copied
 * Errors  0, -ENOMEM, WHOLE_E_LARGE (more than max_bytes, or more than the limits below)
 * Limits  max_bytes of texts and members; OPENAI_CHOICES_MAX choices, WHOLE_TOOLS_MAX tool calls,
 *         WHOLE_MEMBERS_MAX unknown members. Memory: those bytes, and 12 for each time that two
 *         neighbouring records are not of one text
 *
 * How the chunks of a stream fold: texts are joined for each choice and kind, tool calls are put
 * together by their index (id and name: the first that is given). Of members that millrace does not
 * know, at the top: the last counts; in a choice or a delta: arrays are joined, the members of
 * objects are folded one by one (their arrays and, in a delta, their strings joined), and of
 * everything else the last counts; in a tool call as in a delta. So logprobs.content and logprobs.refusal come out whole.
 */
#pragma once

#include "stages/gateway/openai_json.h"

#define WHOLE_TOOLS_MAX 1024u
#define WHOLE_MEMBERS_MAX 1024u

enum whole_error { WHOLE_E_LARGE = 1 };

struct openai_whole;

/* `hint`: bytes that the records have together, when that is known; else 0. */
int openai_whole_new(struct openai_whole **ret, uint64_t hint, uint64_t max_bytes);
struct openai_whole *openai_whole_free(struct openai_whole *w);

/* The next record: a DELTA, or the DONE (of which only the members in its extra are taken). */
int openai_whole_add(struct openai_whole *w, const struct record *record);

/* A buffer of that size is large enough. */
uint64_t openai_whole_bound(const struct openai_whole *w, const struct openai_answer *answer,
                const struct record *done);
/* The answer; usage, sources and the first choice's finish_reason are those of `done`. */
void openai_whole_put(struct json_buf *b, const struct openai_whole *w,
                const struct openai_answer *answer, const struct record *done);
