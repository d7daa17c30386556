/*
 * prompt_texts -- every text of a body that a model or its provider reads, in the order of the body.
 *
 * Shape   a walk by a table of places: which member of what is a text; a callback for each
 * Units   bytes
 * Owner   all memory is the caller's; views into the body
 * Errors  0, -EPROTO (the body cannot be walked), what the callback says
 * Limits  as in walk.h; members that the table does not have are not looked at
 *
 * Texts are what messages say (content and its parts, refusals, reasoning, results of tools), the
 * arguments of calls, a completion's prompt and suffix, what is to be embedded, descriptions of tools and
 * of answer schemas, and what names the user. Names and ids, addresses of images and what files and
 * audio hold are none.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/walk.h"

enum prompt_text {
        PROMPT_TEXT,
        PROMPT_TEXT_JSON, /* the arguments of a call: JSON in a string */
};

/* value: a string with its quotes. Not 0: the walk ends. */
typedef int prompt_text_fn(void *ctx, struct json_text value, enum prompt_text kind);

int prompt_texts(struct json_text body, enum record_endpoint endpoint, prompt_text_fn *fn, void *ctx);
