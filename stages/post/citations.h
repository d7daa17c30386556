/*
 * citations -- which of the numbered documents an answer names, as its text goes by.
 *
 * Shape   a bit set and the number that is being read; `[3]` may be cut anywhere between deltas
 * Owner   part of the post stage's slab version: fixed-size, no pointers
 * Limits  documents 1..64; larger numbers are not sources
 */
#pragma once

#include <stdint.h>

struct citations {
        uint64_t cited;   /* bit n - 1: [n] was seen */
        uint32_t number;  /* of the bracket that is open */
        uint8_t state;    /* 0 outside, 1 after '[', 2 in the digits */
        uint8_t rsv[3];
};

void citations_feed(struct citations *citations, const char *text, uint32_t n);
