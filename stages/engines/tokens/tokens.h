/*
 * tokens -- how many tokens a text is, estimated.
 *
 * Shape   a pure function of the bytes
 * Units   tokens, rounded up
 * Limits  within about 20 % for English prose and code; worse for rare scripts (a backend's own count
 *         wins wherever there is one)
 *
 * Source: the usual four bytes a token of English under byte-pair encodings; one token for each two
 * bytes beyond ASCII, which fits two- and three-byte scripts within a third.
 */
#pragma once

#include <stdint.h>

uint64_t tokens_estimate(const char *text, uint64_t n);
