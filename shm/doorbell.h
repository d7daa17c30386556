/*
 * doorbell -- one eventfd for each process; whoever made work for it rings.
 *
 * Shape   an eventfd, created by the supervisor, so that it survives the process it wakes
 * Owner   the supervisor; workers hold a descriptor of their own bell and of each neighbour's
 * Errors  ringing never fails from the caller's view: EAGAIN means "already signalled"
 */
#pragma once

/* A new bell: 0 and *ret_fd (close-on-exec, non-blocking), or -errno. */
int doorbell_new(int *ret_fd);
void doorbell_ring(int fd);
/* Takes what was rung; spurious wakes are harmless. */
void doorbell_clear(int fd);
