/*
 * results -- the responses of detached requests in the store.
 *
 * Shape   a row for each response, and one for each of its events, keyed (response, ord): storing it
 *         again changes nothing. One that has not ended has the outcome 0: it is not found, and its events may
 *         be replaced by others, when its request runs anew
 * Units   milliseconds of the wall clock
 * Owner   views of a found response live until the next call with the same store
 * Errors  0, STORE_E_*
 * Limits  none of its own; a transaction is the caller's
 */
#pragma once

#include "stages/engines/store/store.h"

struct results_text {
        const char *p;
        uint32_t n;
};

struct results_response {
        uint64_t req_id;
        struct results_text tenant, id;
        uint32_t lane;
        uint64_t outcome;
        uint64_t digest[2];
        int64_t finished_ms;
};

struct results_event {
        uint64_t ord; /* its number, from 1 */
        uint32_t type;
        const void *record;
        uint32_t len;
};

/* *ret_row: what its events are put under. */
int results_put(struct store *store, const struct results_response *response, int64_t *ret_row);
int results_put_event(struct store *store, int64_t row, const struct results_event *event);
/* That was its last event: what an earlier run had more of goes. */
int results_cut(struct store *store, int64_t row, uint64_t last_ord);
/* Forgets what a lane, or anybody in another generation of memory, has begun to store and not ended. */
int results_forget_open(struct store *store, uint32_t lane, uint64_t generation);

/* The newest response of an id; tenant and id of *ret are not set. */
int results_find(struct store *store, struct results_text tenant, struct results_text id,
        struct results_response *ret, int64_t *ret_row);
/* How many events it has, and bytes in their records. */
int results_size(struct store *store, int64_t row, uint64_t *ret_n, uint64_t *ret_bytes);
/* Its events in order; another return than 0 ends it and is returned. */
int results_events(struct store *store, int64_t row,
        int (*each)(void *ctx, const struct results_event *event), void *ctx);

/* Every id, in no order. */
int results_ids(struct store *store,
        void (*each)(void *ctx, struct results_text tenant, struct results_text id), void *ctx);
/* Forgets up to `most` responses that finished before then. */
int results_expire(struct store *store, int64_t before_ms, uint32_t most, uint32_t *ret_n);
