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
 * "body", an object in JSON, becomes its own text, byte for byte, and "extra", also of a tool call,
 * goes the other way.
 */
#pragma once

#include "stages/engines/json/json.h"
#include "stages/gateway/ask.h"

#define JSON_FRAME_MORE_MAX 16u
#define JSON_FRAME_GROWTH 5u /* {"a":{},…: five bytes of msgpack for two of JSON */

struct json_frame {
        uint8_t *bytes;
        uint32_t len, cap;
};

/* A member that the surface adds, unless the text has it; `force`: whatever the text says. */
struct json_frame_more {
        const char *name;
        struct mr_view text; /* p NULL: the number, or true */
        uint64_t number;     /* UINT64_MAX: true */
        bool force;
};
int json_frame(struct json_frame *f, const char *text, uint32_t len,
                const struct json_frame_more *more, uint32_t n_more, struct ask_error *ret_error);
void json_frame_close(struct json_frame *f);

/* Room for n bytes in its buffer, which are the caller's to write. 0 or -ENOMEM. */
int json_frame_room(struct json_frame *f, uint64_t n);

/* One msgpack value as JSON. A buffer of JSON_EVENT_GROWTH times its length is large enough. False: it is no
 * msgpack (nothing of ours is not). */
#define JSON_EVENT_GROWTH 6u
bool json_from_frame(struct json_buf *b, const uint8_t *bytes, uint32_t len);
