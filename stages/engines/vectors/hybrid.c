#include "stages/engines/vectors/hybrid.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stages/engines/vectors/vectors.h"

#define NS_PER_MS 1000000u
#define TIME_MIN_MS 2u /* with less left, a service is not asked */

struct hybrid {
        const struct hybrid_conf *conf;
        struct index_reader *reader;
        struct vectors *vectors;
        struct remote *embeddings;
        struct remote *rerank;
};

static enum hybrid_outcome outcome_of(int r) {
        return r == REMOTE_E_TIMEOUT ? HYBRID_TIMEOUT : HYBRID_FAILED;
}

/* Half of what is left: the rest of the search wants some too. */
static bool time_for(const struct index_query *query, uint64_t *ret_ms) {
        struct timespec ts;
        uint64_t now;

        *ret_ms = 0;
        if (query->deadline_ns == 0)
                return true;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        now = (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
        if (query->deadline_ns > now)
                *ret_ms = (query->deadline_ns - now) / 2 / NS_PER_MS;
        return *ret_ms >= TIME_MIN_MS;
}

static bool may_ask(struct hybrid *s, enum remote_kind kind) {
        return !s->conf->may || s->conf->may(s->conf->ctx, kind);
}

static void tell(struct hybrid *s, enum remote_kind kind, enum hybrid_outcome outcome,
                const char *why) {
        s->conf->told(s->conf->ctx, kind, outcome, why);
}

/* ---- meaning --------------------------------------------------------------------------------- */

/* The vectors as they are now; false: there are none that would do. */
static bool vectors_ready(struct hybrid *s, struct index_error *why) {
        const char *model = s->conf->embeddings->model ? s->conf->embeddings->model : "";

        if (s->vectors && !vectors_same(s->vectors, s->conf->folder))
                s->vectors = vectors_close(s->vectors);
        if (!s->vectors) {
                int r = vectors_open(s->conf->folder, why, &s->vectors);

                if (r == VECTORS_E_MISSING)
                        snprintf(why->text, sizeof(why->text),
                                        "the index has no vectors: make them with millrace index "
                                        "add -c FILE PATH...");
                if (r != 0)
                        return false;
        }
        if (strcmp(vectors_model(s->vectors), model) == 0)
                return true;
        snprintf(why->text, sizeof(why->text),
                        "the vectors are of the model \"%.120s\", not of \"%.120s\": remove " VECTORS_FILE
                        " from the index and add again",
                        vectors_model(s->vectors), model);
        return false;
}

/* The scan of the question's nearest; NULL: words alone. */
static struct vectors_scan *scan_for(struct hybrid *s, const struct index_query *query) {
        struct index_error why = {0};
        struct vectors_scan *scan = NULL;
        float *vector = NULL;
        uint32_t dimension = 0;
        uint64_t ms;
        int r;

        if (query->text.n_bytes == 0 || !time_for(query, &ms) || !may_ask(s, REMOTE_EMBEDDINGS))
                return NULL;
        if (!vectors_ready(s, &why)) {
                tell(s, REMOTE_EMBEDDINGS, HYBRID_UNFIT, why.text);
                return NULL;
        }
        r = remote_vectors(s->embeddings, &query->text, 1, ms, &why, &dimension, &vector);
        if (r == 0 && dimension == vectors_dimension(s->vectors)) {
                r = vectors_scan_new(s->vectors, vector, &scan);
        } else if (r == 0) {
                snprintf(why.text, sizeof(why.text),
                                "it gives vectors of %u numbers, and those of the index have %u: "
                                "remove " VECTORS_FILE " from the index and add again",
                                dimension, vectors_dimension(s->vectors));
                tell(s, REMOTE_EMBEDDINGS, HYBRID_UNFIT, why.text);
                free(vector);
                return NULL;
        }
        if (r < 0)
                snprintf(why.text, sizeof(why.text), "its vector is of no use: %s", strerror(-r));
        tell(s, REMOTE_EMBEDDINGS, r == 0 ? HYBRID_WORKED : outcome_of(r), why.text);
        free(vector);
        return scan;
}

/* ---- the second look ------------------------------------------------------------------------- */

struct rank {
        size_t at;
        double score;
};

static int by_score(const void *a, const void *b) {
        const struct rank *x = a;
        const struct rank *y = b;

        if (x->score != y->score)
                return x->score > y->score ? -1 : 1;
        return x->at < y->at ? -1 : 1;
}

/* Those that the service has left out, and those that it was not shown, come behind, in the order
 * that they had. */
static int reorder(struct index_result *result, const double *scores, size_t n_scores) {
        const size_t n = index_result_n(result);
        struct rank *ranks = malloc(n * sizeof(*ranks));
        double *sorted = malloc(n * sizeof(*sorted));
        size_t *order = malloc(n * sizeof(*order));
        double least = INFINITY;

        for (size_t i = 0; i < n_scores; i++)
                if (isfinite(scores[i]))
                        least = fmin(least, scores[i]);
        for (size_t i = 0; ranks && i < n; i++)
                ranks[i] = (struct rank){i, i < n_scores && isfinite(scores[i])
                                                            ? scores[i]
                                                            : least - 1 - (double)i};
        if (ranks)
                qsort(ranks, n, sizeof(*ranks), by_score);
        for (size_t i = 0; ranks && sorted && order && i < n; i++) {
                order[i] = ranks[i].at;
                sorted[i] = ranks[i].score;
        }
        const int r = ranks && sorted && order ? index_result_arrange(result, order, sorted)
                                               : -ENOMEM;
        free(ranks);
        free(sorted);
        free(order);
        return r;
}

static void look_again(struct hybrid *s, const struct index_query *query,
                struct index_result *result) {
        struct index_str texts[HYBRID_RERANK_N];
        double scores[HYBRID_RERANK_N];
        struct index_error why = {0};
        size_t n = index_result_n(result);
        uint64_t ms;
        int r;

        n = n < HYBRID_RERANK_N ? n : HYBRID_RERANK_N;
        if (n < 2 || !time_for(query, &ms) || !may_ask(s, REMOTE_RERANK))
                return;
        for (size_t i = 0; i < n; i++)
                texts[i] = index_result_hit(result, i)->text;
        r = remote_scores(s->rerank, query->text, texts, (uint32_t)n, ms, &why, scores);
        if (r == 0)
                r = reorder(result, scores, n);
        if (r < 0)
                snprintf(why.text, sizeof(why.text), "%s", strerror(-r));
        tell(s, REMOTE_RERANK, r == 0 ? HYBRID_WORKED : outcome_of(r), why.text);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int query_run(struct hybrid *s, const struct index_query *query, struct index_error *err,
                struct index_result **ret_result) {
        struct vectors_scan *scan = s->embeddings ? scan_for(s, query) : NULL;
        const struct index_meaning meaning = {vectors_scan_nearest, scan, s->conf->fusion};
        struct index_query whole = *query;
        int r;

        whole.meaning = scan ? &meaning : NULL;
        if (s->rerank && whole.k < HYBRID_RERANK_N)
                whole.k = HYBRID_RERANK_N;
        r = index_reader_query(s->reader, &whole, err, ret_result);
        vectors_scan_free(scan);
        return r;
}

int hybrid_open(struct hybrid *s, struct index_error *err) {
        return s->reader ? 0 : index_reader_open(s->conf->folder, err, &s->reader);
}

int hybrid_run(struct hybrid *s, const struct index_query *query, struct index_error *err,
                struct index_result **ret_result) {
        struct index_result *result = NULL;
        int r = hybrid_open(s, err);

        if (r == 0)
                r = query_run(s, query, err, &result);
        if (r == 0 && s->rerank)
                look_again(s, query, result);
        if (r == 0) {
                index_result_cut(result, query->k);
                *ret_result = result;
        } else if (r != INDEX_E_DEADLINE) { /* it may be another index by now: open anew */
                s->reader = index_reader_free(s->reader);
                s->vectors = vectors_close(s->vectors);
        }
        return r;
}

int hybrid_new(const struct hybrid_conf *conf, struct hybrid **ret_hybrid) {
        struct hybrid *s = calloc(1, sizeof(*s));
        int r = s ? 0 : -ENOMEM;

        if (r == 0)
                s->conf = conf;
        if (r == 0 && conf->embeddings)
                r = remote_new(REMOTE_EMBEDDINGS, conf->embeddings, &s->embeddings);
        if (r == 0 && conf->rerank)
                r = remote_new(REMOTE_RERANK, conf->rerank, &s->rerank);
        if (r == 0)
                *ret_hybrid = s;
        else
                hybrid_free(s);
        return r;
}

struct hybrid *hybrid_free(struct hybrid *s) {
        if (!s)
                return NULL;
        index_reader_free(s->reader);
        vectors_close(s->vectors);
        remote_free(s->embeddings);
        remote_free(s->rerank);
        free(s);
        return NULL;
}
