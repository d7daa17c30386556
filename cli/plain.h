/*
 * plain -- what commands print for people: columns, times, texts that cannot drive a terminal; and where a
 * daemon has its database.
 *
 * Shape   functions over stdout
 * Owner   nothing is kept
 * Errors  the command's exit code, said on stderr
 */
#pragma once

#include <limits.h>

#include "cli/cli.h"

#define PLAIN_WHEN_BYTES 32

/* Milliseconds of the wall clock as 2026-01-31T12:00:00Z. */
void plain_when(int64_t ms, char to[static PLAIN_WHEN_BYTES]);
/* Control characters become blanks. */
void plain_print(const char *p, uint32_t n);
/* Padded; `-` stands for nothing. */
void plain_column(const char *p, uint32_t n, int width);

/* The database of a daemon with this configuration, NULL: with none. `without`: what there is not when
 * stream.database is none. CLI_DONE or what to exit with. */
int plain_database(const char *command, const char *config, const char *without,
                char path[static PATH_MAX]);
