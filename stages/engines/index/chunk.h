/*
 * chunk -- cuts a document's text into passages fit for retrieval.
 *
 * Shape   chunks in order, each a byte range of the text; together they cover all of it but white
 *         space at the edges. Neighbours overlap by a sentence or two, unless a heading parts them
 * Units   bytes; sizes in estimated tokens (4 bytes of ASCII, 2 of other alphabets, 1 ideograph)
 * Owner   the caller owns text and marks; chunks and their heading paths belong to the list
 * Errors  0, -ENOMEM, or -E2BIG for a text of more than INDEX_CHUNKS_MAX chunks
 * Limits  no chunk starts or ends inside a UTF-8 character, nor inside a sentence of up to
 *         CHUNK_TOKENS_MAX tokens; any bytes are accepted
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CHUNK_TOKENS_MIN 200u /* smaller ones only between headings and at the end */
#define CHUNK_TOKENS_MAX 400u
#define CHUNK_TOKENS_OVERLAP 60u /* at most; by whole sentences */

enum chunk_mark_kind {
        CHUNK_MARK_BLOCK,   /* a paragraph, list item, table row starts here */
        CHUNK_MARK_CODE,    /* the same, and its lines are its sentences, up to the next mark */
        CHUNK_MARK_HEADING, /* a heading: the section goes up to the next of its level or above */
};

/* Where a text may be cut. Sorted by offset; offsets that repeat or go back are ignored. */
struct chunk_mark {
        size_t offset;
        enum chunk_mark_kind kind;
        uint8_t level;          /* headings: 1..6 */
        struct index_str title; /* headings: their text, owned by whoever made the mark */
};

struct chunk {
        uint64_t start;
        uint64_t end;
        struct index_str path; /* "Title of the section > of the one within", indexed before the
                                  text */
};

struct chunk_list {
        struct chunk *chunks;
        size_t n_chunks;
        char *paths; /* what the chunks' paths point to */
};

/* Empty lines are borders without a mark. There is always a chunk; a blank text has an empty one.
 */
int chunk_split(struct index_str text, const struct chunk_mark *marks, size_t n_marks,
                struct chunk_list *ret_list);
void chunk_list_clear(struct chunk_list *list);

/* The end of the sentence that holds byte `from`: behind its stop and the white space that follows,
 * at most text.n_bytes. */
size_t chunk_sentence_end(struct index_str text, size_t from);

#ifdef __cplusplus
}
#endif
