/*
 * compose_own -- what the parts of a composer share: compose.c (what is built of prompts and messages, params,
 * names), compose_body.c and compose_bounds.c.
 *
 * Owner   struct composer
 * Errors  0 or the error's code
 */
#pragma once

#include "stages/gateway/compose.h"

#define COMPOSER_KEEP 65536u /* buffers up to this stay for the next request */

/* The buffer for what is built grows until it fits, up to max_body_bytes. */
int composer_begin(struct composer *composer, struct ask_error *error);
struct json_buf composer_buf(const struct composer *composer);
bool composer_fits(const struct composer *composer, const struct json_buf *out);
/* what: the words in front of "larger than …". */
int composer_more(struct composer *composer, const struct json_buf *out, const char *what,
                struct ask_error *error);

/* Sets body, DETACH and followed; composer->found is of the chat body. */
int compose_body(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *error);

/* Where what bounds an answer stands in JSON. */
struct compose_bounds {
        struct body_span stop, max_tokens;
};

/* Takes over what the JSON says; what it does not say stays. */
void compose_bound(struct composed *made, const char *json, const struct compose_bounds *bounds,
                uint32_t n_answers);
/* Can an answer be held to it? */
int compose_bounds_check(const struct composed *made, struct ask_error *error);
