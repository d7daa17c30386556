/*
 * question -- what a request asks the index: its text, the turns before it, and where it may look.
 *
 * Shape   struct question: copies of a record's fields, since the record does not wait for the answer;
 *         struct question_view: the same as the index wants it
 * Units   bytes
 * Owner   a view points into its question and into the limits, which must not move
 * Errors  none: the gateway has checked the lists; what is too long is cut, a tenant's name is left out
 * Limits  QUESTION_*; LIST_MAX names and pairs of a request
 */
#pragma once

#include "stages/common/list.h"
#include "stages/common/settings.h"
#include "stages/engines/index/index.h"

#define QUESTION_TEXT 4096u
#define QUESTION_EARLIER 1024u
#define QUESTION_LIST 512u

struct question {
        uint32_t n_text, n_earlier, n_collections, n_filter, n_tenant;
        char text[QUESTION_TEXT];
        char earlier[QUESTION_EARLIER];
        char collections[QUESTION_LIST];
        char filter[QUESTION_LIST];
        char tenant[INDEX_TENANT_MAX];
};

/* What the settings allow: rag.collections and rag.filter. */
struct question_limits {
        struct index_str *collections;
        struct index_pair *pairs;
        struct index_part part;
        bool expand;
};

struct question_view {
        struct index_str collections[LIST_MAX];
        struct index_pair pairs[LIST_MAX];
        struct index_query query; /* without k and deadline */
};

int question_limits_init(struct question_limits *limits, const struct settings *settings);
void question_limits_close(struct question_limits *limits);

void question_take(struct question *question, const struct record *record);
void question_view(const struct question *question, const struct question_limits *limits,
                struct question_view *ret);
