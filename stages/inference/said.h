/*
 * said -- the text of the last user message, decoded piece by piece from the client's JSON.
 *
 * Shape   a byte state machine over the value of "content": a string, or an array of strings and
 * of parts whose "text" members count Units   byte offsets into the body Owner   plain data: a copy of it is a
 * place to come back to Errors  0, SAID_E_*, -EPROTO (the record names bytes that are not there)
 * Limits  a piece is at most the caller's buffer, at least 16 bytes; nothing here allocates
 *
 * Where assemble has put something in the place of bytes of the body, that is said.
 * A piece ends after white space, where words end, so that an answer comes word by word. The text
 * comes out byte for byte; a lone surrogate becomes U+FFFD, as everywhere in the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct inference;
struct flight;

enum said_error {
        SAID_E_END = 1, /* nothing left */
        SAID_E_GONE,    /* the body was freed: the request has ended elsewhere */
};

enum said_state { SAID_OUTSIDE, SAID_KEY, SAID_SKIP, SAID_TEXT };

struct said {
        uint32_t at, end; /* bytes of the body still to be read */
        uint32_t piece;   /* where to look for the next that stands in the place of some of them */
        uint32_t instead; /* of that, bytes that have been read */
        enum said_state state;
        bool escape;   /* behind a backslash */
        uint8_t n_hex; /* hex digits of \u still to come */
        uint16_t unit; /* the UTF-16 unit being read */
        uint16_t high; /* a high surrogate that waits for its low half, 0: none */
        uint8_t depth; /* open brackets: 1 the array, 2 a part */
        bool part;     /* what is open at depth 2 is an object */
        bool key_next; /* a string that comes now is a key of the part */
        bool is_text;  /* the part's key at hand is "text" */
        char key[5];
        uint8_t key_len;
};

void said_init(struct said *s, uint32_t off, uint32_t len);
/* The next piece into to (cap >= 16). */
int said_piece(struct said *s, struct flight *f, char *to, uint32_t cap, uint32_t *ret_len);
