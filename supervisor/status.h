/*
 * status -- what `millrace status --json` prints, as one msgpack map (docs/control.md).
 *
 * Shape   written from the supervisor's own tables, the counters pages (mapped read-only) and /proc
 * Units   bytes, seconds, counts
 * Owner   the caller's packer and buffer
 * Errors  none: what cannot be seen is null or 0
 * Limits  numbers are read while they change; `admitted` is made from the others, so that it always
 * is their sum
 */
#pragma once

#include <msgpack.h>

#include "supervisor/daemon.h"

/* `running`, `degraded` or `draining`. */
const char *status_state(const struct daemon *d);
void status_pack(const struct daemon *d, msgpack_packer *pk);
