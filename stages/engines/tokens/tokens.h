/*
 * tokens -- how many tokens a text is, estimated.
 *
 * Shape   a pure function of the bytes: one pass over words, numbers, signs, space and scripts
 * Units   tokens, rounded up
 * Limits  mean error within 10 % for English prose and code, 20 % for JSON, Chinese, Japanese and
 *         Korean, by tests/e2e/test_count.py; worse for other scripts and for smaller vocabularies
 *
 * Source: byte-pair vocabularies of 200,000 entries know most words of up to eight letters with the
 * space before them, split numbers into three digits, and take brackets and signs in pairs; the
 * weights were fitted to counts of such a vocabulary. A backend's own count wins wherever there is
 * one.
 */
#pragma once

#include <stdint.h>

uint64_t tokens_estimate(const char *text, uint64_t n);
