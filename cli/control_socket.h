/*
 * control_socket -- a question to the supervisor and its answer, as docs/control.md has them.
 *
 * Shape   one connection, msgpack maps both ways
 * Owner   the caller: descriptor, unpacker, answer
 * Errors  0 or -errno; -ECONNRESET: the daemon ended before it answered
 * Limits  none of their own; waits for as long as the descriptor's own timeout lets it
 */
#pragma once

#include <msgpack.h>

#define CONTROL_PATH_MAX 512u

/* socket NULL: the default one. path: what was tried, or what stands for it. */
int control_socket_connect(const char *socket, char path[static CONTROL_PATH_MAX], int *ret_fd);
int control_socket_send(int fd, const msgpack_sbuffer *request);
int control_socket_receive(int fd, msgpack_unpacker *unpacker, msgpack_unpacked *ret);
/* Of a map; nil where it has no such member, or is no map. */
const msgpack_object *control_member(const msgpack_object *map, const char *key);
