/*
 * native -- the dialect of the Unix socket: msgpack maps <-> what is asked and what is answered.
 *
 * Shape   native_parse(): a frame into struct ask; native_dialect: events, each one whole map packed
 *         straight into the connection's output
 * Units   milliseconds
 * Owner   views live as long as the frame; events are copied
 * Errors  native_parse: 0 or the error code for the client, with the field that is wrong in words
 * Limits  as ask.h; depth 32 (frames)
 */
#pragma once

#include "stages/gateway/ask.h"
#include "stages/gateway/dialect.h"

/* ret->id is set even when something else is wrong, so that the error can name it. */
int native_parse(const uint8_t *bytes, uint32_t len, struct ask *ret,
                struct ask_error *ret_error);
bool native_is_map(const uint8_t *bytes, uint32_t len);

/* Answers a ping. */
void native_pong(struct conn *c);

extern const struct dialect native_dialect;
