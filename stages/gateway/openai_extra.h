/*
 * openai_extra -- members of a backend's chunk that millrace does not know, by where they stood.
 *
 * Shape   views into the record's `extra`, the inside of a JSON object as engines/sse/chunk.h makes
 *         it: "choices":[{"index":0,"stop_reason":7,"delta":{"token_id":5}}],"timings":{…}
 * Units   bytes
 * Owner   the record's; nothing is copied
 * Errors  none: extra that is no JSON, no UTF-8, or has choices that are no objects is not there
 * Limits  JSON depth 64
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

struct openai_extra {
        struct json_text members; /* all of it; n 0: there is none */
        struct json_text choices; /* inside of the array */
        struct json_text usage;   /* the object, with its braces */
};

struct openai_extra openai_extra_of(const struct record *record);
/* The inside of a call's own object, and of "function" in it; false: it is none. */
bool openai_extra_tool(struct mr_view object, struct json_text *ret_members,
                struct json_text *ret_function);
uint32_t openai_extra_choices(const struct openai_extra *extra); /* how many */
/* The inside of the choice with that index; false: *ret is untouched. */
bool openai_extra_find(
                const struct openai_extra *extra, uint64_t index, struct json_text *ret_choice);
uint64_t openai_extra_index(struct json_text choice); /* 0 when it does not say */
bool openai_extra_has(struct json_text choice, const char *name);

/* ",name:value" for each; the first has no comma where nothing stands before it in its brackets. */
void openai_extra_put_top(struct json_buf *b, const struct openai_extra *extra);
void openai_extra_put_choice(struct json_buf *b, struct json_text choice);
void openai_extra_put_delta(struct json_buf *b, struct json_text choice);
void openai_extra_put_tool(struct json_buf *b, struct json_text members); /* but "function" */
void openai_extra_put_function(struct json_buf *b, struct json_text function);
