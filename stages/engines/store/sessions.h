/*
 * sessions -- conversations that are kept, in the store.
 *
 * Shape   a row for each session, named by tenant and name, and one for each exchange of it: the client's
 *         messages as they came, and the answer as one message, both as JSON text. A turn is what begins
 *         with words of the user: an exchange that goes on with the results of tools belongs to the turn
 *         before it
 * Units   milliseconds of the wall clock; bytes
 * Owner   views of what is found live until the callback returns
 * Errors  0, STORE_E_*, or what a callback returned
 * Limits  as many turns as the caller says, the oldest go first; a transaction is the caller's
 */
#pragma once

#include "stages/engines/store/results.h"

struct sessions_exchange {
        uint64_t req_id;
        struct results_text id;
        uint64_t turn; /* counts up from 1; of one that is put: found by the store */
        uint64_t at;   /* bytes of the session before it; likewise */
        int64_t when_ms;
        bool continues; /* of one that is put: no turn begins here */
        struct results_text asked, answer;
};

struct sessions_session {
        int64_t n;
        struct results_text tenant, name;
        uint64_t turns;     /* that it has had */
        uint64_t kept;      /* exchanges that are still there; of a list only */
        uint64_t bytes;     /* that it has had */
        int64_t began_ms, last_ms;
};

/* The same exchange again changes nothing. Of the turns the last `keep` stay; what had its last turn before
 * `fresh_ms` begins anew. */
int sessions_put(struct store *store, struct results_text tenant, struct results_text name,
                const struct sessions_exchange *exchange, uint64_t keep, int64_t fresh_ms);
/* STORE_E_NONE: there is none, or its last turn was before `fresh_ms`. Texts of *ret are not set. */
int sessions_find(struct store *store, struct results_text tenant, struct results_text name,
                int64_t fresh_ms, struct sessions_session *ret);
/* Its exchanges behind that turn, in order; another return than 0 ends it and is returned. */
int sessions_exchanges(struct store *store, int64_t session, uint64_t after_turn,
                int (*each)(void *ctx, const struct sessions_exchange *exchange), void *ctx);
/* All, the one that was used last comes last. */
int sessions_each(struct store *store,
                int (*each)(void *ctx, const struct sessions_session *session), void *ctx);
int sessions_drop(struct store *store, int64_t session);
/* Forgets up to `most` sessions whose last turn was before that. */
int sessions_expire(struct store *store, int64_t before_ms, uint32_t most, uint32_t *ret_n);
