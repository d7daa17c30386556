/*
 * control_ask -- asks another supervisor, over its control socket, who it is.
 *
 * Shape   one request {"op":"ping"}, one answer
 * Units   milliseconds
 * Owner   nothing is kept
 * Errors  0 or -errno: nobody there, no answer in time, or one that is no pong
 * Limits  blocks for at most timeout_ms
 */
#pragma once

#include <stdint.h>

struct control_pong {
        int64_t pid;
        char instance[64];
        char state[16];
        char socket[108];
};

int control_ask_ping(const char *path, uint32_t timeout_ms, struct control_pong *ret);
