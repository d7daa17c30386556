/*
 * earlier -- messages that stand before the client's own: examples, then what its session has said.
 *
 * Shape   JSON text as it was kept, put in before the first message that is not of the system, or data for a
 *         template that says itself where they are to stand
 * Units   bytes
 * Owner   as in prompt.h
 * Errors  none: a buffer that is full says so (json_buf)
 * Limits  as in prompt.h, history.h
 */
#pragma once

#include "stages/assemble/few_shot.h"
#include "stages/assemble/prompt_own.h"
#include "stages/engines/mustache/data.h"

/* As one edit of the body. */
void earlier_put(struct prompt *prompt, struct json_buf *lit, const struct body_marks *marks,
                struct history_slice history);
void earlier_examples_put(struct prompt *prompt, struct json_buf *lit, const struct body_marks *marks,
                struct few_shot_choice examples);
/* The list `examples`: user and assistant of each. */
void earlier_examples_data(struct mustache_data *data, struct few_shot_choice examples);
/* The list `history`: role and content of each message. */
void earlier_data(struct mustache_data *data, struct history_slice history);
