/*
 * redaction -- personal data taken out of an answer's texts, each stream of it apart.
 *
 * Shape   struct redaction: the compiled rules and the request at hand; what a request has waiting is
 *         packed into the bytes of its slab version and unpacked again for its next delta
 * Units   bytes
 * Owner   one for the process; the bytes belong to the slab
 * Errors  0, -EINVAL (settings: logged by the caller from `why`), -ENOMEM, REDACTION_E_*
 * Limits  REDACTION_STREAMS streams (choice and kind) and REDACTION_COUNTS entities a request
 *
 * A tail that waits is flushed by DONE and dropped with an ERROR: what a broken answer had begun to say
 * may be the start of something that must not go out.
 */
#pragma once

#include "shm/counters.h"
#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/engines/redact/redact.h"
#include "stages/post/restore.h"

#define REDACTION_STREAMS 16u
#define REDACTION_COUNTS 64u
#define REDACTION_JSON 0x80u  /* bit of a kind */
#define REDACTION_CALLS 0x80u /* tool calls of a choice that are told apart */

enum redaction_error {
        REDACTION_E_BLOCKED = 1, /* the answer ends here; what may still go out is in out */
        REDACTION_E_LARGE,       /* more than fits: nothing of it may go out */
};

/* Where a stream of JSON stands. */
struct redaction_json {
        uint8_t in_string, n_escape, n_number, rsv;
        char escape[12]; /* of a string: begun and not complete */
        char number[48]; /* outside of strings */
};

struct redaction_stream {
        uint16_t choice;
        uint8_t kind;               /* enum hold_kind, or REDACTION_JSON | index of a tool call */
        struct redaction_json json; /* of such */
        struct redact_stream text;
        struct restore_token token; /* of what the engine has let go on */
};

struct redaction_count {
        uint32_t entity, n;
};

struct redaction {
        struct redact *engine;
        bool owns; /* the engine */
        char *out;                  /* what goes on of what was fed last */
        uint32_t n_out, cap, limit; /* limit <= cap: of the input at hand */
        bool full, blocked;
        bool silent;         /* of what blocks nothing is put out, not even what stands for it */
        uint32_t blocked_by; /* the entity */
        uint8_t *packed; /* room for any request */

        /* The request at hand. */
        uint32_t n_streams, n_counts;
        struct redaction_stream streams[REDACTION_STREAMS];
        struct redaction_stream alone; /* for a text that is whole at once */
        struct redaction_count counts[REDACTION_COUNTS];
        struct redact_numbers numbers; /* the first are those of the prompt */

        /* What is known of its prompt. */
        uint64_t noted; /* the request that this is of; 0: none */
        uint32_t n_prompt_counts;
        struct redaction_count prompt_counts[REDACTION_COUNTS];
        struct redact_numbers prompt_numbers;
        struct restore restore;
};

/* *ret NULL: nothing is to be redacted. */
int redaction_new(const struct settings *settings, uint32_t cap, struct redaction **ret,
                struct redact_why *why);
/* One whose rules are somebody else's, who frees them: what blocks is silent. */
int redaction_over(struct redact *engine, uint32_t cap, struct redaction **ret);
struct redaction *redaction_free(struct redaction *r);

/* What assemble noted of a request's prompt (redact_prompt.h), NULL: nothing. Strings of the note stay
 * where they are. To be told before redaction_load(). 0 or -EPROTO. */
int redaction_noted(struct redaction *r, uint64_t req_id, const msgpack_object *note);
/* The request that these bytes are of, 0 bytes: a new one. -EPROTO: nothing that was packed here. */
int redaction_load(struct redaction *r, const uint8_t *bytes, uint32_t n);
/* Packs it again; r->packed has the bytes. */
uint32_t redaction_pack(struct redaction *r);

/* Feeds one stream; out is begun anew. */
int redaction_feed(struct redaction *r, uint16_t choice, uint8_t kind, const char *text, uint32_t n,
                bool last);
/* The same for the arguments of a tool call, which are JSON: inside of strings the text is what their
 * escapes mean, and a number that is a find becomes a string. */
int redaction_feed_json(struct redaction *r, uint16_t choice, uint8_t call, const char *text,
                uint32_t n, bool last);
/* Members of an object that are not known: r->out has them without those that spell the answer once more.
 * REDACTION_E_LARGE also when they are no members. */
int redaction_extra(struct redaction *r, struct mr_view members);
/* A whole JSON string, with its quotes, behind what is in out. */
void redaction_json_string(struct redaction *r, const char *p, uint32_t n);
/* Bytes as they are, behind what is in out. */
void redaction_out(struct redaction *r, const char *p, uint32_t n);
/* The stream of that kind, a new one when there is none; NULL: there are too many. */
struct redaction_stream *redaction_stream_of(struct redaction *r, uint16_t choice, uint8_t kind);
/* Nothing waits in it, nothing is known of what came before. */
void redaction_stream_begin(struct redaction_stream *stream);
/* Counts a piece and lets it go on, with what is to be restored in it. */
void redaction_put(struct redaction *r, struct redaction_stream *stream,
                const struct redact_piece *piece, const struct restore_out *out);
/* Adds the counts to the process's own. */
void redaction_tell(const struct redaction *r, struct counters_shm *counters);
/* The counts so far, those of the prompt with them, as one packed map: entity -> finds. Returns its
 * bytes, 0: there were none. */
uint32_t redaction_counts(const struct redaction *r, uint8_t *to, uint32_t cap);
