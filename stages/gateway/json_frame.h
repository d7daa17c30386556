/*
 * json_frame -- a request of the native dialect in JSON, as the msgpack map that the Unix socket would
 * bring; and an event of it back to JSON.
 *
 * Shape   struct json_frame: a buffer that is used again and again; json_from_frame(): pure
 * Units   bytes
 * Owner   the caller closes it; `bytes` is good until the next frame
 * Errors  0, or the error's code with the byte at which it is wrong
 * Limits  FRAMES_DEPTH levels; a frame is at most JSON_FRAME_GROWTH times as long as its text
 *
 * So that a surface in JSON needs no second reader of requests and no second writer of events: what they
 * are called and what they hold is said once, in native.c and native_events.c. Values stay what they are;
 * "body", an object in JSON, becomes its own text, byte for byte, and "extra" goes the other way.
 */
#pragma once

#include "stages/engines/json/json.h"
#include "stages/gateway/ask.h"

#define JSON_FRAME_GROWTH 5u /* {"a":{},…: five bytes of msgpack for two of JSON */

struct json_frame {
        uint8_t *bytes;
        uint32_t len, cap;
};

/* op: what the surface means by it (with `detach`, when that is asked for); the text's own members of
 * these names do not count. NULL: they do. */
int json_frame(struct json_frame *f, const char *text, uint32_t len, const char *op, bool detach,
                struct ask_error *ret_error);
void json_frame_close(struct json_frame *f);

/* One msgpack value as JSON. A buffer of JSON_EVENT_GROWTH times its length is large enough. False: it is no
 * msgpack (nothing of ours is not). */
#define JSON_EVENT_GROWTH 6u
bool json_from_frame(struct json_buf *b, const uint8_t *bytes, uint32_t len);
