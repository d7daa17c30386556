/*
 * front -- what a template's file says of itself: YAML between two lines of `---` at its start.
 *
 * Shape   text of the file -> struct mustache_front, and where the template begins
 * Units   bytes
 * Owner   plain values
 * Errors  0, -ENOMEM, MUSTACHE_E_SYNTAX with the place in the file: no YAML, an unknown key, a key
 *         given twice, a value that is none of those expected
 * Limits  FRONT_BYTES_MAX; no anchors
 */
#pragma once

#include "stages/engines/mustache/mustache.h"

#define FRONT_BYTES_MAX 65536u

struct mustache_front {
        size_t body; /* where the template begins */
        bool has_escape;
        enum mustache_escape escape;
        bool missing_is_error;
};

int mustache_front_read(
                const char *file, size_t n, struct mustache_front *ret, struct mustache_error *err);
