/*
 * fusion -- two lists of hits joined into one.
 *
 * Shape   each list best first, with a score and the name of what was hit; the answer names entries of
 *         both
 * Units   scores of the lists are their own; those of the answer are 0..1 (min-max) or sums of
 *         1 / (60 + rank) (RRF)
 * Owner   names are the caller's
 * Errors  0 or -ENOMEM
 * Limits  a name stands once in a list
 *
 * Min-max: the mean of both scores, each list stretched to 0..1; what a list has not is 0 in it, and
 * all of a list without differences is 1. RRF: Cormack, Clarke and Büttcher, SIGIR 2009, k = 60. Equal
 * sums: the better single rank, then the order of the names' bytes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FUSION_NONE SIZE_MAX

struct fusion_entry {
        struct index_str name;
        double score;
};

struct fusion_list {
        const struct fusion_entry *entries;
        size_t n;
};

struct fusion_pick {
        size_t at[2]; /* places in the two lists, from 0; FUSION_NONE: not in it */
        double score;
};

/* to: room for both lists. Best first; *ret_n of them. */
int fusion_join(enum index_fusion how, const struct fusion_list lists[2], struct fusion_pick *to,
                size_t *ret_n);

#ifdef __cplusplus
}
#endif
