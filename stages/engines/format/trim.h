/*
 * trim -- a text without the white space around it, while it is still arriving.
 *
 * Shape   struct trim: a plain value; zeroed, it is the start of a text
 * Units   bytes
 * Owner   the caller's
 * Limits  of white space at the end, the last TRIM_HELD bytes are taken away; white space is ASCII's
 */
#pragma once

#include <stdint.h>

#define TRIM_HELD 256u

struct trim {
        uint16_t n;    /* white space that waits: it is the end, or it is not */
        uint8_t begun; /* something but white space has come */
        uint8_t rsv;
        char held[TRIM_HELD];
};

/* Writes what may go on to `to`, which holds n + TRIM_HELD bytes. What still waits at the end of the text is
 * taken away. */
uint32_t trim_feed(struct trim *trim, const char *text, uint32_t n, char *to);
