/*
 * responses_items -- the input of a response as the messages of a chat (responses_body.h).
 *
 * Shape   an assistant's message stays open while items follow that belong to it: its calls
 * Owner   all memory is the caller's
 * Errors  0 or RESPONSES_E_INVALID
 */
#pragma once

#include "stages/gateway/responses_body.h"

#define RESPONSES_QUOTE_MAX 40u /* bytes of a client's own word in an error */

/* The messages, comma separated; a comma in front when something stands there. */
int responses_items(struct json_buf *b, struct json_text input, struct responses_bad *bad);

/* ---- pieces that both halves use (responses_body.c) ---- */

__attribute__((format(printf, 3, 4))) int responses_fail(
                struct responses_bad *bad, const char *member, const char *format, ...);
/* The last member of that name; false: none, or null. */
bool responses_find(struct json_text object, const char *name, struct json_text *ret);
bool responses_is(struct json_text string, const char *text);
void responses_put(struct json_buf *b, const char *before, struct json_text value);
/* Is it the value that begins so? */
int responses_want(struct responses_bad *bad, const char *member, struct json_text value,
                char first, const char *expected);
