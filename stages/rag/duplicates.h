/*
 * duplicates -- passages that say again what one before them says.
 *
 * Shape   a passage is the set of its runs of SHINGLE_WORDS words, whatever their case and what
 *         stands between them (shingling: Broder 1997); it is a duplicate when one before it has four
 *         fifths of its runs
 * Units   hashes
 * Owner   the caller's struct, reused for each list of passages
 * Errors  none
 * Limits  DUPLICATES_TEXTS passages; of each the first DUPLICATES_SHINGLES runs
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DUPLICATES_TEXTS 100u
#define DUPLICATES_SHINGLES 512u

struct duplicates {
        uint32_t n_texts;
        uint32_t n[DUPLICATES_TEXTS];
        uint32_t shingles[DUPLICATES_TEXTS][DUPLICATES_SHINGLES];
};

/* Was there one like it since n_texts was set to 0? If not, it is one of them from now on. */
bool duplicates_has(struct duplicates *duplicates, const char *text, size_t n);
