/*
 * state_path -- where the files of an instance lie when nobody says.
 *
 * Shape   $STATE_DIRECTORY (of several the first), else $XDG_STATE_HOME/millrace, else
 *         ~/.local/state/millrace; in it <instance> and what kind of file it is
 * Owner   the caller's buffer; the environment is only read
 * Errors  0, -ENAMETOOLONG, or -ENOENT when there is no home either
 * Limits  nothing is made or looked at
 */
#pragma once

#include <stddef.h>

/* ending: ".index", ".db" */
int state_default_path(const char *instance, const char *ending, char *buf, size_t n);
