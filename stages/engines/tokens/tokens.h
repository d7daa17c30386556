/*
 * tokens -- how many tokens a text is, estimated.
 *
 * Shape   a pure function of the bytes: one pass over words, numbers, signs, space and scripts
 * Units   tokens, rounded up; a count by class is in hundredths of a token
 * Limits  mean error within 10 % for English prose and code, 20 % for JSON, Chinese, Japanese and
 *         Korean, by tests/e2e/test_count.py; worse for other scripts and for smaller vocabularies,
 *         until the backend's own counts have calibrated it (fit.h)
 *
 * Source: byte-pair vocabularies of 200,000 entries know most words of up to eight letters with the
 * space before them, split numbers into three digits, and take brackets and signs in pairs; the
 * weights were fitted to counts of such a vocabulary. A backend's own count wins wherever there is
 * one.
 *
 * The class of a character beyond ASCII is that of its script; of all else, that of the block of some
 * lines that it stands in, by its signs.
 */
#pragma once

#include <stdint.h>

#define TOKENS_UNIT 100u

enum tokens_part {
        TOKENS_ENGLISH, /* and what else is written in Latin letters */
        TOKENS_CODE,
        TOKENS_JSON,
        TOKENS_CJK,
        TOKENS_OTHER, /* other scripts */
        TOKENS_CHAT,  /* no text: what a chat puts around its messages */
        TOKENS_PARTS_N
};

struct tokens_count {
        uint64_t cost[TOKENS_PARTS_N];
};

/* Adds what the text costs. */
void tokens_count(struct tokens_count *to, const char *text, uint64_t n);
uint64_t tokens_total(const struct tokens_count *count);
uint64_t tokens_estimate(const char *text, uint64_t n);
/* As it stands in metrics. */
const char *tokens_part_name(enum tokens_part part);
