/*
 * sockets -- where the daemon is reached: the client socket, the control socket, HTTP, the metrics.
 *
 * Shape   a listening, non-blocking, close-on-exec socket each; the supervisor keeps them, workers
 * get copies, so that a restart refuses nobody Owner   whoever opened a listener closes it with
 * listener_close(), which unlinks a Unix socket's file when it is still the one that was made
 * Errors  0, or SOCKETS_E_USER with a line that says what and where
 * Limits  a path has at most 107 bytes, the control socket's ".ctl" included
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "stages/common/settings.h"
#include "supervisor/report.h"

#define SOCKETS_PATH_MAX 107u
#define SOCKETS_NAME_MAX (SOCKETS_PATH_MAX + 5u) /* unix:PATH; HOST:PORT is shorter */
#define SOCKETS_CONTROL_SUFFIX ".ctl"

enum sockets_error { SOCKETS_E_USER = 1 };

struct listener {
        int fd;    /* -1: none */
        dev_t dev; /* of a Unix socket's file */
        ino_t ino;
        char path[SOCKETS_PATH_MAX + 1]; /* empty: not a Unix socket */
        char name[SOCKETS_NAME_MAX + 1]; /* as the setting has it, with the port that it got; empty:
                                          * not opened by an address */
};

/* The client socket's path: the setting, else by environment and user. A default place is made with
 * mode 0700, and refused when it belongs to another user or is open to one. */
int sockets_client_path(const char *setting, char ret_path[static SOCKETS_PATH_MAX + 1],
                struct report *report);
/* 0 and the control socket's path. */
int sockets_control_path(const char *client, char ret_path[static SOCKETS_PATH_MAX + 1],
                struct report *report);

/* A file that no process listens on is replaced; any other is an error that names it. mode: 0600,
 * or 0666 where peers of other users are told apart by their uid. */
int listener_unix(const char *path, mode_t mode, struct listener *ret, struct report *report);
/* "HOST:PORT", "[IPV6]:PORT" (IPv6 alone) or "unix:PATH" with that mode. `what`: the setting's key, for
 * the error, and `instead`: how to do without. */
int listener_open(const char *where, mode_t mode, const char *what, const char *instead,
                struct listener *ret, struct report *report);
/* What connections over TCP inherit that face any client: see sockets.c. */
void listener_harden(const struct listener *listener);
void listener_close(struct listener *listener);
/* Wakes one of those who wait at it: the kernel wakes one for each connection, and that one may have
 * died of something else just then. */
void listener_poke(const struct listener *listener);

/* Whether the peer of a Unix connection is this user or root. */
int sockets_peer_is_ours(int fd);
