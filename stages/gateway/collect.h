/*
 * collect -- one text out of many events: stream:false, and `result`.
 *
 * Shape   two walks over the log: how long is it, then its bytes straight into the output
 * Owner   the cursor is the caller's
 * Errors  0, LOG_E_GONE (nothing was written)
 * Limits  a text up to admission.max_response_bytes; a whole answer is walked in one go
 */
#pragma once

#include "stages/gateway/gateway.h"

/* Everything behind the cursor: adjacent deltas of one choice and kind become one, then the
 * terminal. */
int collect_answer(struct gateway *gw, struct reader *r, struct log_cursor from);
/* The `result` event, from a cursor at the beginning. */
int collect_result(
                struct gateway *gw, struct conn *c, const struct answer *a, struct log_cursor from);
/* The same while the log has nothing of it. */
int collect_nothing(struct conn *c, struct mr_view id, bool running);
