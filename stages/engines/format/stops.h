/*
 * stops -- stop strings found in a text that is still arriving, before any part of one has gone on.
 *
 * Shape   struct stops: the strings of one request, read once; struct stops_state: how much of each the text
 *         ends with, a plain value without pointers
 * Units   bytes
 * Owner   the caller owns both
 * Errors  0, -EPROTO (no JSON string, nor an array of them), STOPS_E_MANY
 * Limits  STOPS_MAX strings of STOPS_BYTES bytes each
 *
 * The string that is complete first ends the text, the longest of those that end at one place; the text before
 * it is the answer. What waits is the longest end of the text that a stop string begins with, so it need not be
 * kept: the string has it. Each string is followed by Knuth, Morris and Pratt's automaton.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STOPS_MAX 16u
#define STOPS_BYTES 255u

enum stops_error { STOPS_E_MANY = 1 };

struct stops {
        uint32_t n;
        struct {
                uint8_t n;
                char text[STOPS_BYTES];
                uint8_t fail[STOPS_BYTES]; /* [i]: how much still matches when text[i] does not */
        } v[STOPS_MAX];
};

struct stops_state {
        uint8_t matched[STOPS_MAX];
};

/* What a request says: a string, or an array of strings; empty ones stop nothing. */
int stops_read(struct stops *stops, const char *json, uint32_t n);
/* Writes what may go on to `to`, which holds n + STOPS_BYTES bytes. *ret_stopped: a stop string is complete, and
 * the text is over. Returns the bytes written. */
uint32_t stops_feed(const struct stops *stops, struct stops_state *state, const char *text, uint32_t n,
                char *to, bool *ret_stopped);
/* The text ends: what waited was the start of nothing. */
uint32_t stops_flush(const struct stops *stops, struct stops_state *state, char *to);
