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
#include "stages/engines/redact/screen.h"
#include "stages/engines/tokens/tokens.h"
#include "stages/post/citations.h"
#include "stages/post/format.h"
#include "stages/post/hold.h"
#include "stages/post/redaction.h"

#define POST_OUTPUTS (HOLD_STREAMS + 1u)
#define RING_ALIGN_BYTES 64u /* what each record of a ring may take beside its own bytes */
#define CALL_BYTES 512u /* the record of a tool call beside what its input has */
#define COUNTS_BYTES (REDACTION_COUNTS * (REDACT_NAME_MAX + 8u))
#define SCREEN_COUNTS_BYTES (REDACT_ENTITIES_MAX * (REDACT_NAME_MAX + 8u)) /* a prompt's */

/* How an answer ends that is not to be as long as who makes it would have it. */
enum post_finish { POST_GOES_ON, POST_STOPPED, POST_AT_LENGTH, POST_FILTERED };

#define POST_CHOICES 1u   /* more than one answer was asked for */
#define POST_ESTIMATED 2u /* OPTION_ESTIMATED */
#define POST_OTHER 4u     /* a tool was called, or a refusal given: there need be no text */

/* What ends an answer, and how near that is. */
struct post_bounds {
        uint64_t cost;       /* said so far, in TOKENS_UNIT of a token, estimated */
        uint32_t pieces;     /* said so far */
        uint32_t max_tokens; /* 0: as many as it likes */
        uint8_t what;        /* FORMAT_* */
        uint8_t flags;       /* POST_* */
        uint8_t finish;      /* enum post_finish: what is still to come is only its end */
};

/* What a request's version remembers. */
struct post_state {
        struct hold hold;
        struct citations citations;
        struct post_bounds bounds;
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
        struct format *format;
        struct redaction *redaction; /* NULL: nothing is redacted */
        struct record_decoder decoder; /* of payloads: beside the record at hand */
        struct screen *screen;       /* NULL: there are no lists */
        struct redaction *safety;    /* likewise: what waits of texts that are looked at */
        uint8_t found[COUNTS_BYTES + SCREEN_COUNTS_BYTES];
        uint8_t *packed;             /* what waits of the request at hand */
        uint8_t *asked; /* of a head: what post needs of it later */
        uint32_t asked_bytes;
        uint32_t piece;  /* a delta that grew is cut into pieces of at most this size */
        uint32_t spare;  /* room in the output ring for what redaction adds to an input, and lists held back */
        uint32_t budget; /* of text, left for the input at hand */
        uint32_t slot;   /* of the input at hand */
        uint8_t counts[COUNTS_BYTES];
        char *extra;   /* members that are not known, as they go on: those of a delta, then those of its call */
        uint32_t n_extra;
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
void post_cancel_inference(struct worker *w, const struct ring_msg *msg);
/* A text behind its formatting: past the lists, redacted where that is configured, and out. False: the answer has
 * ended. */
bool post_go_on(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text);

/* Behind the lists. */
bool post_redacted(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text);

/* ---- post_state.c: a request at hand, and its end ---- */

static inline struct post_state *post_state_of(struct slab_version *next) {
        return (struct post_state *)next->state;
}
/* What a head asks for, and assemble's note of its prompt where there is room for that too, packed: the payload
 * that the request's slot keeps. Returns its bytes. */
uint32_t post_asked(struct worker *w, const struct ring_msg *msg, bool noted);
/* A head came. False: there was no room for what it asks for, and the request has ended. */
bool post_begin(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const struct record *record);
/* What the payload of the request at hand says. Its views live in the slab. */
void post_payload(struct worker *w, struct record *ret);
/* The answer begins anew. */
void post_begin_anew(struct worker *w, struct slab_version *next);
/* Unpacks what waits of the request at hand; post_keep() packs it again. */
void post_open(struct worker *w, struct slab_version *next);
void post_keep(struct worker *w, const struct ring_msg *msg, struct slab_version *next);
/* Nothing more is said but what waits and may still go out, unless it is filtered; DONE comes from inference. */
void post_end(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                enum post_finish finish);
/* It ends with an error. */
void post_fail(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                enum mr_error code, const char *message);
/* The DONE of an answer that was ended here says so. */
void post_finish_set(const struct slab_version *next, struct record *record);
/* The record of a delta of this stream, without its text. */
struct record post_delta_of(uint16_t choice, uint8_t kind);
/* Settles what waits. False: the answer has ended already. */
bool post_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next);

/* ---- post_format.c ---- */

/* Logprobs spell the text once more: they do not go on beside another. */
void post_drop_logprobs(struct record *record);
/* Cuts a text to what max_tokens leaves of it. True: that was all. */
bool post_bound(struct post_bounds *bounds, struct mr_view *text);
/* An answer's text, formatted, and on. False: the answer has ended. */
bool post_format_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, struct mr_view text, bool last);
bool post_format_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next);

/* ---- post_safety.c ---- */

int post_safety_init(struct worker *w, uint32_t text_bytes); /* 0, -ENOMEM, -EINVAL */
void post_safety_fini(struct post *post);
/* A text past the lists, and on. False: the answer has ended. */
bool post_safety_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool last);
bool post_safety_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next);
/* Counts what was found in the answer. */
void post_safety_tell(struct worker *w);
/* The same, and says what was found in prompt and answer. */
void post_safety_counts(struct worker *w, struct record *record);

/* ---- post_redact.c, where something is redacted ---- */

/* Learns what assemble noted of the prompt of the request at hand, and unpacks what waits. */
void post_redact_open(struct worker *w, const uint8_t *bytes, uint32_t n);
/* Members that are not known, in place of those in *record. False: one of them blocks, they are left out, and the
 * answer has ended. */
bool post_redact_extra(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record);
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
