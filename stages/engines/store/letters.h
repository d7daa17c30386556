/*
 * letters -- requests that were given up, with everything that was asked, in the store.
 *
 * Shape   a row for each dead letter: why, and the request as its gateway wrote it down (a REQUEST record),
 *         with its body beside it where that did not travel inline
 * Units   milliseconds of the wall clock
 * Owner   views of a letter live until the callback returns
 * Errors  0, STORE_E_*, or what a callback returned
 * Limits  as many as the caller says, the oldest go first; a transaction is the caller's
 */
#pragma once

#include "stages/engines/store/results.h"

struct letter {
        int64_t n; /* counts up for ever */
        uint64_t req_id;
        struct results_text tenant, id, stage;
        uint32_t lane, strikes, signal;
        int64_t died_ms;
        const void *record; /* record_len 0: the request could not be kept */
        uint32_t record_len;
        const void *body; /* body_len 0: it is in the record; NULL in a list */
        uint32_t body_len;
};

/* The same letter again changes nothing. `most`: so many are kept. */
int letters_put(struct store *store, const struct letter *letter, uint64_t most);
/* All, the oldest first, without their bodies; another return than 0 ends it and is returned. */
int letters_each(struct store *store, int (*each)(void *ctx, const struct letter *letter), void *ctx);
/* The newest of an id. STORE_E_NONE: there is none. */
int letters_find(struct store *store, struct results_text id,
        int (*found)(void *ctx, const struct letter *letter), void *ctx);
/* STORE_E_NONE: it is not there. */
int letters_drop(struct store *store, int64_t n);
