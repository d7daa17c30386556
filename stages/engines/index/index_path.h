/*
 * index_path -- where the index of an instance lies when nobody says.
 *
 * Shape   $STATE_DIRECTORY (of several the first), else $XDG_STATE_HOME/millrace, else
 *         ~/.local/state/millrace; in it <instance>.index
 * Owner   the caller's buffer; the environment is only read
 * Errors  0, -ENAMETOOLONG, or -ENOENT when there is no home either
 * Limits  nothing is made or looked at
 */
#pragma once

#include <stddef.h>

int index_default_path(const char *instance, char *buf, size_t n);
