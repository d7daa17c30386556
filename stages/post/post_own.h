/*
 * post_own -- what the files of the post stage share; nobody else includes it.
 *
 * Shape   struct post: the stage; the slab version's state; emitting into the output ring
 * Owner   post.c, which checked the room for whatever one input makes before it took it
 * Errors  none: memory that we alone write and that does not hold together ends the worker
 */
#pragma once

#include <assert.h>

#include "stages/common/stage.h"
#include "stages/post/citations.h"
#include "stages/post/hold.h"
#include "stages/post/redaction.h"

#define POST_OUTPUTS (HOLD_STREAMS + 1u)
#define POST_PIECE 65536u /* a delta that grew is cut into pieces of this size */
#define CALL_BYTES 65536u /* what a tool call has beside its arguments */
#define COUNTS_BYTES (REDACTION_COUNTS * (REDACT_NAME_MAX + 8u))

/* What a request's version remembers. */
struct post_state {
        struct hold hold;
        struct citations citations;
};
static_assert(sizeof(struct post_state) <= SLAB_STATE_BYTES, "must fit a slab version");

struct post_input {
        uint64_t seq;
        uint32_t slot; /* SLAB_NONE: nothing was kept for it */
};

struct post {
        struct slab slab;
        struct ring_rx *rx;
        struct ring_tx *tx;
        struct worker_out *out;
        struct worker_out *cancels; /* to inference; NULL: no such ring */
        struct post_input batch[TURN_RECORDS];
        uint32_t n_batch;
        char *text;                  /* a delta as it goes on */
        struct redaction *redaction; /* NULL: nothing is redacted */
        uint32_t spare;  /* room in the output ring for what redaction adds to an input */
        uint32_t budget; /* of text, left for the input at hand */
        uint32_t slot;   /* of the input at hand */
        uint8_t counts[COUNTS_BYTES];
        uint8_t *call; /* a tool call as it goes on */
        uint32_t call_bytes;
        uint64_t turn_ns;
};

/* ---- post.c ---- */

void post_emit(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const struct record *record, uint16_t type, uint8_t flags);
/* A text goes on in pieces; *record is what stands beside it. */
void post_emit_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, const char *text, uint32_t n);
/* The record of a delta of this stream, without its text. */
struct record post_delta_of(uint16_t choice, uint8_t kind);
void post_cancel_inference(struct worker *w, const struct ring_msg *msg);

/* ---- post_redact.c, where something is redacted ---- */

/* Unpacks what waits of the request at hand. */
void post_redact_open(struct worker *w);
/* Logprobs spell the text once more: they do not go on. */
void post_redact_extra(struct record *record);
/* The arguments of a tool call, in place of those in *record. False: the answer has ended. */
bool post_redact_tool(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record);
/* A text, and on. False: the answer has ended. */
bool post_redact_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool last);
/* Everything that waits. False: the answer has ended. */
bool post_redact_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next);
/* Says how often what was redacted. */
void post_redact_counts(struct worker *w, struct record *record);
