#include "stages/rag/question.h"

#include <errno.h>
#include <stdlib.h>

static struct index_str str_of(struct mr_view view) {
        return (struct index_str){view.p ? view.p : "", view.n};
}

/* KEY=VALUE; what has no key is all value. */
static struct index_pair pair_of(struct mr_view text) {
        const char *equals = text.n > 0 ? memchr(text.p, '=', text.n) : NULL;
        const uint32_t n = equals ? (uint32_t)(equals - text.p) : 0, skip = equals ? n + 1 : 0;

        return (struct index_pair){str_of((struct mr_view){text.p, n}),
                        str_of((struct mr_view){text.p + skip, text.n - skip})};
}

/* ---- what is allowed ---- */

int question_limits_init(struct question_limits *limits, const struct settings *settings) {
        const struct settings_strs *collections = &settings->rag.collections;
        const struct settings_strs *filter = &settings->rag.filter;

        *limits = (struct question_limits){.expand = settings->rag.expand};
        limits->collections = calloc(collections->n + 1, sizeof(*limits->collections));
        limits->pairs = calloc(filter->n + 1, sizeof(*limits->pairs));
        if (!limits->collections || !limits->pairs) {
                question_limits_close(limits);
                return -ENOMEM;
        }
        for (uint32_t i = 0; i < collections->n; i++)
                limits->collections[i] = (struct index_str){
                                collections->v[i], strlen(collections->v[i])};
        for (uint32_t i = 0; i < filter->n; i++)
                limits->pairs[i] = pair_of((struct mr_view){
                                filter->v[i], (uint32_t)strlen(filter->v[i])});
        limits->part = (struct index_part){
                        limits->collections, collections->n, limits->pairs, filter->n};
        return 0;
}

void question_limits_close(struct question_limits *limits) {
        free(limits->collections);
        free(limits->pairs);
        *limits = (struct question_limits){0};
}

/* ---- what is asked ---- */

static void keep(char *to, uint32_t *ret_n, uint32_t most, bool has, struct mr_view text) {
        *ret_n = !has ? 0 : text.n < most ? text.n : most;
        if (*ret_n > 0)
                memcpy(to, text.p, *ret_n);
}

void question_take(struct question *q, const struct record *r) {
        const bool tenant = r->has & HAS(tenant) && r->tenant.n <= sizeof(q->tenant);

        keep(q->text, &q->n_text, sizeof(q->text), r->has & HAS(query), r->query);
        keep(q->earlier, &q->n_earlier, sizeof(q->earlier), r->has & HAS(earlier), r->earlier);
        keep(q->collections, &q->n_collections, sizeof(q->collections), r->has & HAS(collections),
                        r->collections);
        keep(q->filter, &q->n_filter, sizeof(q->filter), r->has & HAS(filter), r->filter);
        keep(q->tenant, &q->n_tenant, sizeof(q->tenant), tenant, r->tenant);
}

void question_view(const struct question *q, const struct question_limits *limits,
                struct question_view *ret) {
        struct mr_view rest = {q->collections, q->n_collections}, part;
        size_t n_collections = 0, n_pairs = 0;

        for (; n_collections < LIST_MAX && list_next(&rest, &part); n_collections++)
                ret->collections[n_collections] = str_of(part);
        rest = (struct mr_view){q->filter, q->n_filter};
        for (; n_pairs < LIST_MAX && list_next(&rest, &part); n_pairs++)
                ret->pairs[n_pairs] = pair_of(part);
        ret->query = (struct index_query){.text = {q->text, q->n_text},
                        .earlier = {q->earlier, q->n_earlier},
                        .scope = {.tenant = {q->tenant, q->n_tenant},
                                        .asked = {ret->collections, n_collections, ret->pairs,
                                                        n_pairs},
                                        .allowed = limits->part},
                        .expand = limits->expand,
                        .merge = true};
}
