/*
 * extract -- the sentences of some documents that answer a question best; no model, no index.
 *
 * Shape   pure functions over the caller's texts
 * Units   byte offsets into a document's text
 * Owner   everything is the caller's; the workspace is on the stack
 * Errors  none: without a sentence worth saying, and where the sentences and titles together have too
 *         few of the question's words, there are no picks: the answer is not in the documents
 * Limits  EXTRACT_TERMS question words, EXTRACT_SENTENCES sentences; what lies beyond is not looked
 * at
 *
 * A sentence scores by the question's words that it has, each weighted by how rare it is among all
 * the sentences (as in BM25's idf), divided by a mild length norm, plus a little for standing early
 * in its document and in an early document: the documents come best first. A pick repeats no other:
 * words that an earlier pick had count half (after MMR, Carbonell and Goldstein 1998). Ideographs and
 * kana stand in no words: their terms are pairs of neighbours.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EXTRACT_PICKS_MAX 4u
#define EXTRACT_TERMS 32u
#define EXTRACT_SENTENCES 256u
#define EXTRACT_SENTENCE_BYTES 600u /* a longer one is cut after a word */

struct extract_text {
        const char *p;
        uint32_t n;
};

struct extract_document {
        struct extract_text text;
        struct extract_text title; /* its words count as said, when a sentence of it is picked */
};

struct extract_pick {
        uint32_t document; /* index into docs */
        uint32_t from, to; /* bytes of its text, without white space around them */
};

/* Picks up to EXTRACT_PICKS_MAX sentences, in the order in which they should be read: by document,
 * then by place. Returns how many. */
uint32_t extract_best(const struct extract_text *question, const struct extract_document *docs,
                uint32_t n_docs, struct extract_pick ret[EXTRACT_PICKS_MAX]);

/* The next sentence of a text from *at on: false at the end. */
bool extract_sentence(const struct extract_text *text, uint32_t *at, uint32_t *ret_from,
                uint32_t *ret_to);
