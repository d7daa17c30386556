/*
 * chat -- the tokens of a request's body, by class of text, as its bytes go by.
 *
 * Shape   struct chat_count: begin, feed the body in pieces of any size, end; then `count`
 * Units   bytes in; hundredths of a token out
 * Owner   the caller; nothing is allocated
 * Errors  none: the body was checked by the gateway's scan, and of one that is no JSON any count will do
 * Limits  keys of CHAT_KEY_MAX bytes are told apart; objects and arrays deeper than CHAT_DEPTH_MAX are
 *         passed over; text with escapes is counted in runs of CHAT_TEXT_MAX bytes, other text where it
 *         lies, so that the count may differ by a few tokens with the pieces that the body comes in
 *
 * What counts is what a model is shown: texts of messages and of calls in them, a completion's prompt,
 * and what is declared (tools, functions, a response's schema) as JSON. Around each message are
 * CHAT_MESSAGE_COST, around all of them CHAT_COST. A picture or a recording is CHAT_MEDIA_COST, and
 * makes the count inexact: no backend can be held to it.
 */
#pragma once

#include <stdbool.h>

#include "stages/engines/tokens/tokens.h"

#define CHAT_KEY_MAX 24u
#define CHAT_DEPTH_MAX 64u
#define CHAT_TEXT_MAX 4096u
#define CHAT_RUN_MIN 512u
#define CHAT_COST (2 * TOKENS_UNIT)
#define CHAT_MESSAGE_COST (3 * TOKENS_UNIT)
#define CHAT_MEDIA_COST (765 * TOKENS_UNIT)

enum chat_part { CHAT_NOTHING, CHAT_MESSAGES, CHAT_PROMPT, CHAT_DECLARED };

struct chat_count {
        struct tokens_count count;
        bool exact; /* no pictures, recordings or files */
        /* Private: where the bytes are. */
        uint64_t in_object; /* a bit for each level */
        uint32_t depth, n_key, n_text;
        enum chat_part part;
        bool in_string, is_key, wants_key, counts, escaped, in_number;
        uint32_t hex_left, code, high;
        char key[CHAT_KEY_MAX];
        char text[CHAT_TEXT_MAX];
};

void chat_begin(struct chat_count *chat);
void chat_feed(struct chat_count *chat, const char *bytes, uint32_t n);
void chat_end(struct chat_count *chat);
