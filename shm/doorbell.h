/*
 * doorbell -- one eventfd for each process; whoever made work for it rings.
 *
 * Shape   an eventfd, created by the supervisor, so that it survives the process it wakes
 * Owner   the supervisor; workers hold a descriptor of their own bell and of each neighbour's
 * Errors  ringing never fails from the caller's view: EAGAIN means "already signalled"
 *
 * A worker owes its neighbours the bells of a turn until it next enters the kernel, and rings each
 * once, with the call that also puts it to sleep: a neighbour on the same core that was woken by a
 * call of its own would take the core before the turn is over, for two more switches. A worker that
 * is killed with bells owed is like one that is killed before it rings: everyone is rung for it (I7).
 */
#pragma once

#include "shm/layout.h"

/* A new bell: 0 and *ret_fd (close-on-exec, non-blocking), or -errno. */
int doorbell_new(int *ret_fd);
void doorbell_ring(int fd);

/* W, R: the process that owes them. */
struct doorbells {
        int fds[PROCS_MAX];
        uint32_t n;
};
/* Rings later, once however often it is owed; at once when `owed` is NULL or full. */
void doorbell_owe(struct doorbells *owed, int fd);
/* Takes what was rung; spurious wakes are harmless. */
void doorbell_clear(int fd);
