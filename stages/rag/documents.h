/*
 * documents -- the hits of a query as the `documents` field of a record.
 *
 * Shape   an array of arrays: id, title, url, start, end, score, text (record.def)
 * Owner   struct documents is reused; its object points into the result, which must stay alive
 * Limits  rag.top_k hits, rag.max_tokens of text in all, DOCUMENTS_BYTES bytes in all
 */
#pragma once

#include <msgpack.h>

#include "stages/engines/index/index.h"

#define DOCUMENTS_MAX 100u
#define DOCUMENTS_COLUMNS 7u
#define DOCUMENTS_BYTES 65536u

struct documents {
        msgpack_object list;
        msgpack_object rows[DOCUMENTS_MAX];
        msgpack_object cells[DOCUMENTS_MAX][DOCUMENTS_COLUMNS];
};

/* Best first, as many as fit; the last may be cut between characters. Returns how many. */
uint32_t documents_make(struct documents *documents, const struct index_result *result,
        uint64_t max_tokens);
