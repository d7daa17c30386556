/*
 * frames -- the Unix socket's transport: whole msgpack objects in the bytes of a connection.
 *
 * Shape   struct frames: the connection's part of it (conn->own); struct frames_ops: who takes them
 * Units   bytes
 * Owner   the connection
 * Errors  told to the dialect (refused), which answers
 * Limits  an object <= frame_bytes; FRAMES_DEPTH levels
 */
#pragma once

#include "stages/common/record.h"
#include "stages/gateway/conn.h"

#define FRAMES_IN 16384u
#define FRAMES_OUT_SOFT 65536u
#define FRAMES_DEPTH 32u
/* A frame over the limit is read to its end and forgotten, so that its client reads the answer and
 * the connection stays in step; one that says to be longer than this is not. */
#define FRAMES_SKIP_MAX (1ull << 30)

enum frames_refusal {
        FRAMES_BROKEN,    /* not msgpack; the connection closes */
        FRAMES_DEEP,      /* nested too deep; the connection closes */
        FRAMES_LARGE,     /* over frame_bytes; it is skipped, and the connection goes on */
        FRAMES_HUGE,      /* over FRAMES_SKIP_MAX; the connection closes */
        FRAMES_NO_MEMORY, /* the memory for large frames is taken; the frame is skipped */
};

struct frames {
        struct msgpack_scanner scanner; /* of the frame at in[0] */
};

/* The listener's ctx. */
struct frames_ops {
        uint64_t frame_bytes;
        void (*frame)(struct conn *c, const uint8_t *bytes, uint32_t len);
        void (*refused)(struct conn *c, enum frames_refusal why);
};

/* For protocol.opened and protocol.input. */
void frames_opened(struct conn *c);
unsigned frames_input(struct conn *c, unsigned max);
