/*
 * documents -- the hits of a query as the `documents` field of a record.
 *
 * Shape   an array of arrays: id, title, url, start, end, score, text, heading path (record.def)
 * Owner   struct documents is reused; its object points into it and into the result, which must stay
 *         alive
 * Limits  rag.top_k hits, rag.max_tokens of text in all, DOCUMENTS_BYTES bytes in all
 */
#pragma once

#include <msgpack.h>

#include "stages/engines/index/index.h"
#include "stages/rag/duplicates.h"

#define DOCUMENTS_MAX 100u
#define DOCUMENTS_COLUMNS 8u
#define DOCUMENTS_BYTES 65536u

struct documents {
        msgpack_object list;
        msgpack_object rows[DOCUMENTS_MAX];
        msgpack_object cells[DOCUMENTS_MAX][DOCUMENTS_COLUMNS];
        struct duplicates duplicates;
        char plain[DOCUMENTS_BYTES]; /* titles, paths and texts without what nobody sees */
};

/* So many hits are to be asked for, since some may be dropped. */
uint32_t documents_wanted(uint32_t top_k);
/* Best first, at most top_k, without those that repeat another; as many as fit; the last may be cut
 * between characters. Returns how many. */
uint32_t documents_make(struct documents *documents, const struct index_result *result,
                uint32_t top_k, uint64_t max_tokens);
