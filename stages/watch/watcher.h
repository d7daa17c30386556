/*
 * watcher -- the thread that keeps the index as the watched folders are, for the loop.
 *
 * Shape   watcher_go() begins a pass (pass.h), watcher_done() tells that it is over; the loop's bell
 *         is rung then
 * Owner   made before the sandbox; the thread runs until the process ends, and the settings with it
 * Errors  0 or -errno
 * Limits  one pass at a time
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/settings.h"
#include "stages/watch/pass.h"

struct watcher;

/* Makes an index where there is none, so that there is a folder to be allowed. */
int watcher_new(struct watcher **ret, const struct settings *settings, int bell);
int watcher_start(struct watcher *watcher);
/* Readable when something has happened in a folder. */
int watcher_fd(const struct watcher *watcher);
void watcher_go(struct watcher *watcher);
/* True once for each pass. */
bool watcher_done(struct watcher *watcher, struct pass_report *ret);
/* How often since the start; also while a pass runs. */
uint64_t watcher_count(const struct watcher *watcher, enum pass_count which);
/* A pass that runs ends soon, and what it has not committed is left to the successor. */
void watcher_stop(struct watcher *watcher);
