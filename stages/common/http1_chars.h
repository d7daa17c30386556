/*
 * http1_chars -- which bytes may stand where in HTTP/1.1, for those who read it byte by byte.
 *
 * Shape   one byte -> yes or no (RFC 9110 section 5.6)
 * Units   none
 * Owner   nobody
 * Errors  none
 * Limits  none
 */
#pragma once

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

/* In a method or a field's name. */
static inline bool http1_is_token(unsigned char c) {
        return isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* In a field's value. */
static inline bool http1_is_text(unsigned char c) {
        return c == '\t' || (c >= ' ' && c != 0x7f);
}
