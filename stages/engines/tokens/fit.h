/*
 * fit -- the estimate of tokens, corrected by what backends have counted.
 *
 * Shape   a factor for each part of a count, found by recursive least squares: sums of an answer's
 *         shares by part and of counted / estimated, kept in struct calibration (shm/calibration.h)
 * Units   factors; shares of an estimate
 * Owner   pure functions of their arguments
 * Errors  0, FIT_E_*
 * Limits  factors from FIT_FACTOR_MIN (around a chat: 0) to FIT_FACTOR_MAX, whatever backends say; an
 *         answer is taken to have been off by its estimate at most, and counts for less the more there
 *         were; only about the last FIT_MEMORY answers with a part count for that part
 *
 * Each answer says: the sum over parts of share * factor is counted / estimated. The sums of all answers
 * and of the belief that factors are 1 (worth FIT_BELIEF answers) are solved for the factors. Old answers
 * fade, but only in the parts that new ones have: what is known of code stays while only prose is asked.
 *
 * Source: recursive least squares in information form, with directional forgetting; Haykin, Adaptive
 * Filter Theory.
 */
#pragma once

#include "shm/calibration.h"
#include "stages/engines/tokens/tokens.h"

#define FIT_FACTOR_MIN 0.25
#define FIT_FACTOR_MAX 4.0
#define FIT_RATIO_MAX 8.0 /* counted / estimated beyond which, or below 1 / which, it is no count */
#define FIT_MEMORY 100.0
#define FIT_BELIEF 0.04

enum fit_error { FIT_E_UNLIKELY = 1 /* no tokenizer counts like that */ };

struct fit {
        uint64_t n; /* answers; 0: all factors are 1 */
        double factor[TOKENS_PARTS_N];
};

/* A backend counted so many tokens where we estimated `count`. */
int fit_learn(struct calibration *c, const struct tokens_count *count, uint64_t counted);
void fit_solve(const struct calibration *c, struct fit *ret);
/* Tokens, rounded up. */
uint64_t fit_tokens(const struct fit *fit, const struct tokens_count *count);
