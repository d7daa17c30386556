/*
 * responses_body -- a request of OpenAI's Responses API as the chat body that backends take.
 *
 * Shape   a body that body_scan() accepted as BODY_RESPONSES in, {"messages":[…],…} into a flat buffer
 *         out
 * Units   bytes
 * Owner   all memory is the caller's
 * Errors  0, or RESPONSES_E_INVALID: words and the member that is wrong. json_buf.full: it did not fit
 * Limits  JSON depth WALK_DEPTH_MAX; nothing here allocates
 *
 * What becomes of a member:
 *   instructions         a system message in front of all others
 *   input                a text: a user message; items: messages, the calls of an assistant and what
 *                        its tools said; reasoning is left out
 *   tools, tool_choice   functions in the form that chats have; other tools are refused by their type
 *   max_output_tokens    max_tokens
 *   text                 response_format, verbosity
 *   reasoning            reasoning_effort
 *   store, include, truncation, background, stream_options, top_logprobs    nothing
 *   previous_response_id, conversation, prompt    refused: nothing is kept that they could name
 *   any other            passed on as it stands
 */
#pragma once

#include "stages/engines/json/body.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

enum responses_body_error { RESPONSES_E_INVALID = 1 };

struct responses_bad {
        char text[BODY_ERROR_MAX]; /* begins with the member */
        char member[BODY_MEMBER_MAX];
};

int responses_body(struct json_buf *b, struct json_text body, struct responses_bad *ret_bad);
