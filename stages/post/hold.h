/*
 * hold -- text that must wait for more before it may go on: never half a UTF-8 character.
 *
 * Shape   one small set per request, an entry for each (choice, kind) that has bytes waiting
 * Units   bytes
 * Owner   part of the post stage's slab version: fixed-size, no pointers
 * Errors  none: bytes that are no UTF-8 become U+FFFD, as the Unicode standard recommends (3.9, one for
 *         each maximal subpart)
 * Limits  HOLD_STREAMS waiting streams a request; one more has its bytes settled with U+FFFD
 */
#pragma once

#include <stdint.h>

#define HOLD_STREAMS 12u
#define HOLD_GROWTH 3u /* one bad byte becomes three */
#define HOLD_SLACK 16u

enum hold_kind { HOLD_TEXT, HOLD_REASONING, HOLD_REFUSAL, HOLD_OTHER };

struct hold_entry {
        uint16_t choice;
        uint8_t kind; /* enum hold_kind */
        uint8_t n;    /* bytes waiting, 1..3; 0: free */
        uint8_t bytes[4];
};

struct hold {
        struct hold_entry entry[HOLD_STREAMS];
};

/* Writes what may go on of (waiting bytes + text) to `to`, which holds HOLD_GROWTH * n + HOLD_SLACK
 * bytes; the start of an unfinished character waits. Returns the bytes written. */
uint32_t hold_feed(struct hold *hold, uint16_t choice, enum hold_kind kind, const char *text, uint32_t n,
        char *to);
/* True when the text may go on as it is: nothing waits for its stream, it is UTF-8 and ends whole. */
int hold_is_clean(const struct hold *hold, uint16_t choice, enum hold_kind kind, const char *text,
        uint32_t n);
/* The answer is over: the next waiting stream is emptied; *ret says whose, U+FFFD stands for its bytes.
 * 0: none was waiting. */
int hold_flush_one(struct hold *hold, struct hold_entry *ret);
