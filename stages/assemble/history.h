/*
 * history -- what a session has said before, out of the database that the stream stage writes.
 *
 * Shape   one thread with a connection of its own, that only reads; one question at a time. What it finds are
 *         exchanges: the client's messages and the answer to them, as JSON text
 * Units   bytes; tokens are estimates
 * Owner   the stage; what was found lives until the next question
 * Errors  0, -errno; a question that fails or takes too long leaves the prompt without its history
 * Limits  the last HISTORY_BYTES_MAX bytes of a session, sessions.history_turns turns
 *
 * Whoever saw the end of an answer finds it here: stream publishes an end after its transaction. Requests of
 * one session that run at once are in no order: each has in its history what had ended when assemble came
 * to it. All of one session pass through one lane, so there is one writer.
 *
 * Which turns: never one in part, and never one that is older than one that is left out. Where not all may
 * stay the cut moves in steps of many turns, so that the beginning of the prompt, which a backend keeps, is the
 * same for several requests: it lies where a quarter of the turns allowed is full, or where as many bytes of the
 * session have passed as a quarter of the context has tokens.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/engines/tokens/fit.h"

#define HISTORY_BYTES_MAX 98304u
#define HISTORY_WAIT_NS UINT64_C(5000000000) /* then the prompt goes without */

struct history_exchange {
        uint64_t turn; /* counts up from 1 */
        uint64_t at;   /* bytes of the session before it */
        struct mr_view asked, answer; /* messages, comma separated; one message */
        char *bytes; /* both; owned */
};

struct history_found {
        struct history_exchange *v;
        uint32_t n, cap;
        uint64_t bytes;
        uint64_t cut; /* turns that the limit of turns leaves out */
};

/* What fits. */
struct history_slice {
        const struct history_exchange *v;
        uint32_t n;
};

struct history;

/* *ret NULL: no history is kept. bell: an eventfd to ring when an answer is there, not owned. */
int history_new(struct history **ret, const struct settings *settings, int bell);
int history_start(struct history *h); /* its thread */
struct history *history_free(struct history *h);

/* False: the thread has not come back from the question before. */
bool history_ask(struct history *h, struct mr_view tenant, struct mr_view session);
/* Has it answered? */
bool history_is_there(struct history *h);
/* Takes the answer. NULL: it failed, and *ret_why says why. */
const struct history_found *history_take(struct history *h, const char **ret_why);
/* Does not wait for it any more. */
void history_leave(struct history *h);

uint64_t history_tokens(struct history_slice slice, const struct fit *fit);
/* The turns that take at most `tokens`; `context` is the model's. */
struct history_slice history_fit(
                const struct history_found *found, uint64_t context, uint64_t tokens,
                const struct fit *fit);
