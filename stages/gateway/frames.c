#include "stages/gateway/frames.h"

static const struct frames_ops *ops_of(const struct conn *c) {
        return c->listener->ctx;
}

void frames_opened(struct conn *c) {
        struct frames *f = c->own;

        msgpack_scanner_init(&f->scanner);
}

/* Doubles the buffer for a frame that needs it. False: the memory for large frames is taken. */
static bool input_grow(struct conn *c) {
        uint64_t cap = (uint64_t)c->in_cap * 2, most = ops_of(c)->frame_bytes;

        if (cap > most)
                cap = most;
        return cap > c->in_cap && conn_grow(c, cap);
}

/* The frame at `at` is not wanted. One error, and its bytes are forgotten as they come. */
static void skip_begin(struct conn *c, uint32_t at, enum frames_refusal why) {
        struct frames *f = c->own;
        struct msgpack_scanner look;
        bool huge;

        msgpack_scanner_init(&look);
        huge = msgpack_scan(&look, c->in + at, c->in_len - at, FRAMES_DEPTH, FRAMES_SKIP_MAX) ==
               MSGPACK_SCAN_LARGE;
        ops_of(c)->refused(c, huge ? FRAMES_HUGE : why);
        if (huge) {
                conn_finish(c);
                return;
        }
        c->midway = true;
        msgpack_scanner_init(&f->scanner);
}

/* Forgets bytes of a frame that is too large, as they come. True: its end was reached. */
static bool skip_on(struct conn *c) {
        struct frames *f = c->own;
        enum msgpack_scan r =
                        msgpack_scan(&f->scanner, c->in, c->in_len, FRAMES_DEPTH, FRAMES_SKIP_MAX);
        uint32_t n;

        if (r != MSGPACK_SCAN_DONE && r != MSGPACK_SCAN_MORE) {
                conn_finish(c); /* its error has been said */
                return false;
        }
        n = f->scanner.at < c->in_len ? (uint32_t)f->scanner.at : c->in_len;
        f->scanner.at -= n;
        conn_eat(c, n);
        conn_shrink(c);
        if (r == MSGPACK_SCAN_MORE)
                return false;
        c->midway = false;
        msgpack_scanner_init(&f->scanner);
        return true;
}

/* A frame that is not whole yet. False: no more can be done with what is there. */
static bool frame_wait(struct conn *c, uint32_t *at) {
        conn_eat(c, *at);
        *at = 0;
        if (c->in_len < c->in_cap || input_grow(c))
                return false;
        skip_begin(c, 0, c->in_cap >= ops_of(c)->frame_bytes ? FRAMES_LARGE : FRAMES_NO_MEMORY);
        return true;
}

/* The next frame at `at`. False: that was all for now. */
static bool frame_next(struct conn *c, uint32_t *at, unsigned *n) {
        const struct frames_ops *ops = ops_of(c);
        struct frames *f = c->own;
        enum msgpack_scan r = msgpack_scan(&f->scanner, c->in + *at, c->in_len - *at, FRAMES_DEPTH,
                        ops->frame_bytes);

        if (r == MSGPACK_SCAN_MORE)
                return frame_wait(c, at);
        if (r == MSGPACK_SCAN_LARGE) {
                skip_begin(c, *at, FRAMES_LARGE);
        } else if (r != MSGPACK_SCAN_DONE) {
                ops->refused(c, r == MSGPACK_SCAN_DEEP ? FRAMES_DEEP : FRAMES_BROKEN);
                conn_finish(c);
        } else {
                ops->frame(c, c->in + *at, (uint32_t)f->scanner.at);
                *at += (uint32_t)f->scanner.at;
                msgpack_scanner_init(&f->scanner);
                (*n)++;
        }
        return true;
}

unsigned frames_input(struct conn *c, unsigned max) {
        uint32_t at = 0;
        unsigned n = 0;

        while (n < max && c->state <= CONN_HALF && at < c->in_len && conn_room(c)) {
                if (c->midway) {
                        conn_eat(c, at);
                        at = 0;
                        if (!skip_on(c))
                                break;
                        continue;
                }
                if (!frame_next(c, &at, &n))
                        break;
        }
        if (c->state > CONN_HALF)
                return n;
        if (at > 0)
                conn_eat(c, at);
        if (c->in_len < FRAMES_IN)
                conn_shrink(c); /* a full small buffer is about to be outgrown again */
        return n;
}
