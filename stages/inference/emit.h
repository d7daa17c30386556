/*
 * emit -- the records of an answer into the ring to post.
 *
 * Shape   one call, one DELTA, DONE, ERROR or RESTART; the first of a request is preceded by its head
 * Units   bytes
 * Owner   what is emitted becomes visible with emit_commit(): versions, outputs, then acks
 * Errors  0, EMIT_E_FULL (no room: flight_wait(), and the same call again in resume())
 * Limits  a delta's text is at most EMIT_TEXT_MAX bytes: longer ones come in pieces
 *
 * Head and first record are in one commit, so out_ord 0 in the slab means that nobody downstream
 * has heard of the request.
 */
#pragma once

#include "stages/common/record.h"

#define EMIT_TEXT_MAX 8192u /* a quarter of the smallest ring takes it with its head */
#define EMIT_NAME_MAX 1024u

enum emit_error { EMIT_E_FULL = 1 };

struct flight;
struct inference;

struct emit_tool {
        uint64_t index;
        struct mr_view id, name; /* n 0: absent; EMIT_NAME_MAX */
        struct mr_view extra;    /* a JSON object of members that nobody knows; n 0: none */
};

struct emit_delta {
        struct mr_view text; /* of a tool call: a piece of its arguments */
        uint32_t choice;
        struct mr_view kind; /* "reasoning", "refusal"; n 0: text */
        const struct emit_tool *tool;
        struct mr_view extra;
};

int emit_delta(struct flight *f, const struct emit_delta *delta);
/* What was said before is void, the answer begins anew behind it; unless somebody has read it: then it ends in
 * this error. */
int emit_restart(struct flight *f, enum mr_error code, struct mr_view message);
/* The terminal record, as the flight's members say: DONE, or ERROR when code is set. */
int emit_terminal(struct flight *f);
/* Publishes the batch and acks its claims. */
void emit_commit(struct inference *inf);
