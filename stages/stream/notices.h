/*
 * notices -- who follows a response is told that there is more of it.
 *
 * Shape   responses with news are collected over a turn; then one notice for each of them to each gateway
 *         that follows it
 * Owner   struct stream
 * Errors  a notice is a hint: what does not fit raises `missed`, and the gateway looks at everything
 * Limits  STREAM_TOUCHED responses a turn
 */
#pragma once

#include "stages/stream/stream.h"

/* It has news. */
void notices_touch(struct stream *stream, uint64_t req_id, uint32_t response);
void notices_send(struct worker *w);
/* This gateway is to look at everything that it follows. */
void notices_look_again(struct worker *w, uint32_t gateway);
