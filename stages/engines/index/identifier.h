/*
 * identifier -- the words that names in code are made of.
 *
 * Shape   parse_http_header gives "parse", "http" and "header", and parseHTTPHeader the same with
 *         its capitals; what has no seam gives nothing, since it is a word already
 * Units   bytes
 * Owner   parts point into the text
 * Errors  0, or what fn returned
 * Limits  letters, digits and '_' of ASCII; parts of one character are left out; any bytes are
 *         accepted
 */
#pragma once

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tells the parts of all names in the text. */
int identifier_parts(struct index_str text, int (*fn)(struct index_str part, void *ctx), void *ctx);

#ifdef __cplusplus
}
#endif
