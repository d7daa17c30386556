/*
 * responses_json -- OpenAI's Responses API out of decoded records: events of a stream, whole responses.
 *
 * Shape   struct responses: fed with every DELTA of a response, from the first, and its DONE or ERROR;
 *         each makes events due, which are written as SSE, or passed over
 * Units   bytes; `created` in seconds since 1970; events are numbered from 0
 * Owner   whoever called responses_new(); texts of records are copied. A record lives until its events
 *         are written, the last one as long as the responses do
 * Errors  0, -ENOMEM, RESPONSES_E_LARGE; json_buf.full: a buffer of the size that the bound says is
 *         never full
 * Limits  max_bytes of texts, RESPONSES_ITEM_BYTES counted for each item
 *
 * Events are a function of the records and of struct responses_answer alone, so that each has its
 * number again after a resume, and at another gateway:
 *
 *   created in_progress
 *     (output_item.added (content_part.added delta* done content_part.done)* output_item.done)*
 *   completed | incomplete | failed | cancelled
 *
 * A message or a reasoning item ends where something else begins; calls of functions, whose pieces may
 * come in turns, end with the answer. What ends in an error has no `done` for what was open. Other
 * choices than the first, and members that millrace does not know, have no place here.
 */
#pragma once

#include "stages/gateway/openai_json.h"

#define RESPONSES_ITEM_BYTES 256u

enum responses_fold_error { RESPONSES_E_LARGE = 1 };

struct responses_answer {
        struct mr_view id;    /* x-millrace-id: resp_<id>, msg_<id>_<n>, … */
        struct mr_view model; /* the public name */
        uint64_t created;
        bool background;
};

struct responses;

int responses_new(struct responses **ret, uint64_t max_bytes);
struct responses *responses_free(struct responses *r);

/* It was accepted: `created` and `in_progress` are due, if they have not been. 0 or -ENOMEM. */
int responses_begin(struct responses *r);
/* DELTA, DONE or ERROR. All that was due must have been written or passed over. */
int responses_add(struct responses *r, enum record_type type, const struct record *record);

/* ---- events ---- */

bool responses_due(const struct responses *r);
/* The number of the next event, due or not. */
uint64_t responses_number(const struct responses *r);
void responses_pass(struct responses *r);
uint64_t responses_event_bound(
                const struct responses *r, const struct responses_answer *answer);
/* The next event that is due: "event:", "id:", "data:" and an empty line. */
void responses_event(
                struct json_buf *b, struct responses *r, const struct responses_answer *answer);
/* The stream ends, and the response perhaps does not: {"type":"error",…} with the next number. */
uint32_t responses_error_bound(
                const struct responses_answer *answer, const struct openai_error *error);
void responses_error(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, const struct openai_error *error);

/* ---- whole ---- */

/* What its status is, when its records do not say. */
enum responses_say { RESPONSES_AS_IT_IS, RESPONSES_QUEUED, RESPONSES_CANCELLED };

/* The response as it stands. */
uint64_t responses_whole_bound(
                const struct responses *r, const struct responses_answer *answer);
void responses_whole(struct json_buf *b, const struct responses *r,
                const struct responses_answer *answer, enum responses_say say);
