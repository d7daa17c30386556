/*
 * thread -- a thread beside a worker's loop, for what waits for a disk.
 *
 * Owner   who starts it; not before attach: Landlock binds the thread that enters it and those that it
 *         starts from then on
 * Errors  0 or -errno
 */
#pragma once

#include <pthread.h>

/* It takes no signals: they are the loop's, and the crash handler's. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *arg);
