/*
 * title -- what `ps` shows of a worker, and of one that waits to become one.
 *
 * Shape   "millrace-rag: INSTANCE lane 0", "millrace-gateway: INSTANCE", "millrace-standby: INSTANCE rag"
 * Owner   the caller's buffer; title_set() writes over the text that the process was started with
 * Errors  none: what is too long is cut
 * Limits  a standby's title is at least as long as that of what it becomes, so it has room for that one
 */
#pragma once

#include <stdint.h>

#include "shm/layout.h"

#define TITLE_BYTES 128

/* lane: of a stage; of other roles it is not looked at. */
void title_worker(char ret[static TITLE_BYTES], enum mr_role role, const char *instance, uint32_t lane);
void title_standby(char ret[static TITLE_BYTES], enum mr_role role, const char *instance);
/* Once in a process; argv0 is its own. */
void title_set(char *argv0, const char *title);
