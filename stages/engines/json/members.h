/*
 * members -- where the members of a JSON object lie, by name.
 *
 * Shape   the caller names members; one pass finds where their values are
 * Units   byte offsets into the text; a value's span includes its quotes or brackets
 * Owner   the text and the array are the caller's; nothing is kept
 * Errors  0, -EPROTO (not JSON, not an object, deeper than MEMBERS_DEPTH_MAX), -ENOMEM
 * Limits  the first level only; of members of one name the last counts, as in most parsers
 *
 * Strict JSON (RFC 8259), UTF-8 checked.
 */
#pragma once

#include <stdint.h>

#include "stages/engines/json/marks.h"

#define MEMBERS_DEPTH_MAX 64u

struct json_member {
        const char *name;
        struct body_span value; /* len 0: there is none, or it is null */
};

int json_members(const char *text, uint32_t len, struct json_member *members, uint32_t n);
