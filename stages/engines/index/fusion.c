#include "stages/engines/index/fusion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RRF_K 60.0

struct named {
        struct index_str name;
        struct fusion_pick pick;
};

static double part_of(enum index_fusion how, const struct fusion_list *list, size_t i) {
        const double most = list->entries[0].score;
        const double least = list->entries[list->n - 1].score;

        if (how == INDEX_FUSION_RRF)
                return 1 / (RRF_K + 1 + (double)i);
        return (most > least ? (list->entries[i].score - least) / (most - least) : 1) / 2;
}

static int compare_str(const struct index_str *a, const struct index_str *b) {
        const size_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
        const int order = n > 0 ? memcmp(a->data, b->data, n) : 0;

        return order != 0 ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

static int by_name(const void *a, const void *b) {
        return compare_str(&((const struct named *)a)->name, &((const struct named *)b)->name);
}

static size_t best_rank(const struct fusion_pick *pick) {
        return pick->at[0] < pick->at[1] ? pick->at[0] : pick->at[1];
}

static int by_score(const void *a, const void *b) {
        const struct named *x = a;
        const struct named *y = b;
        const size_t rank_x = best_rank(&x->pick);
        const size_t rank_y = best_rank(&y->pick);

        if (x->pick.score != y->pick.score)
                return x->pick.score > y->pick.score ? -1 : 1;
        if (rank_x != rank_y)
                return rank_x < rank_y ? -1 : 1;
        return by_name(a, b);
}

/* Entries of one name become one. */
static size_t join_names(struct named *all, size_t n) {
        size_t kept = 0;

        qsort(all, n, sizeof(*all), by_name);
        for (size_t i = 0; i < n; i++) {
                struct fusion_pick *last = kept > 0 ? &all[kept - 1].pick : NULL;
                const struct fusion_pick *pick = &all[i].pick;

                if (!last || by_name(&all[kept - 1], &all[i]) != 0) {
                        all[kept++] = all[i];
                        continue;
                }
                for (int k = 0; k < 2; k++)
                        if (pick->at[k] != FUSION_NONE)
                                last->at[k] = pick->at[k];
                last->score += pick->score;
        }
        return kept;
}

int fusion_join(enum index_fusion how, const struct fusion_list lists[2], struct fusion_pick *to,
                size_t *ret_n) {
        const size_t n = lists[0].n + lists[1].n;
        struct named *all = malloc((n > 0 ? n : 1) * sizeof(*all));
        size_t kept = 0;

        if (!all)
                return -ENOMEM;
        for (int k = 0; k < 2; k++)
                for (size_t i = 0; i < lists[k].n; i++) {
                        struct fusion_pick pick = {{FUSION_NONE, FUSION_NONE}, 0};

                        pick.at[k] = i;
                        pick.score = part_of(how, &lists[k], i);
                        all[kept++] = (struct named){lists[k].entries[i].name, pick};
                }
        kept = join_names(all, kept);
        if (kept > 0)
                qsort(all, kept, sizeof(*all), by_score);
        for (size_t i = 0; i < kept; i++)
                to[i] = all[i].pick;
        free(all);
        *ret_n = kept;
        return 0;
}
