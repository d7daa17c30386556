/*
 * lock -- the instance lock: whoever holds it knows that no other writer of the instance is alive.
 *
 * Shape   an flock on /dev/shm/millrace.<uid>.<instance>.lock. The descriptor is handed to every
 *         worker, so the lock outlives a supervisor that was killed for as long as a worker lives.
 *         The file holds one line, "<pid> <control socket>", for whoever finds it taken.
 * Owner   the supervisor; it unlinks the file last, after every object of the instance
 * Errors  0, -errno, or LOCK_E_HELD with a line that names the holders
 * Limits  path and descriptor are one inode once lock_take() returns 0
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/report.h"

enum lock_error { LOCK_E_HELD = 1 };

struct lock {
        int fd; /* -1: not held */
        char path[160];
};

/* Waits up to wait_ms for a holder that is just ending; a supervisor that answers `ping` on its
 * control socket and is not draining is not waited for. */
int lock_take(const char *instance, uint32_t wait_ms, struct lock *ret, struct report *report);
/* What the next one to find the lock taken is told. */
void lock_sign(const struct lock *lock, const char *control_path);
/* Whether the lock's path still names the file that is locked: else it locks nothing. */
bool lock_is_named(const struct lock *lock);
/* Unlinks the file and gives the lock up. */
void lock_drop(struct lock *lock);
