/*
 * turn_answer -- what a model has said, put together of the events of its response, as one message of a chat.
 *
 * Shape   texts of the first choice, and the tools that it calls: fragments of one call have its index
 * Units   bytes
 * Owner   the caller; turn_answer_end() gives the message away and frees everything else
 * Errors  0, -ENOMEM, -EPROTO (an event that is no record)
 * Limits  TURN_TOOLS_MAX calls; what a backend says beside text and calls (reasoning, members of its own)
 *         is not kept
 */
#pragma once

#include "stages/common/record.h"

#define TURN_TOOLS_MAX 128u

struct turn_text {
        char *p;
        uint32_t n, cap;
};

struct turn_answer {
        struct turn_text text;
        struct turn_tool {
                struct turn_text id, name, arguments;
        } *tools; /* NULL: none yet */
        uint32_t n_tools;
};

int turn_answer_event(struct turn_answer *answer, struct record_decoder *decoder, uint32_t type,
                const void *bytes, uint32_t len);
/* *ret: JSON, to be freed; NULL: nothing was said. */
int turn_answer_end(struct turn_answer *answer, char **ret, uint32_t *ret_n);
