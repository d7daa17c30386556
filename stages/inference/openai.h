/*
 * openai -- one attempt at an OpenAI-compatible backend: request out, stream in.
 *
 * Shape   struct openai_call, pooled; at most one for each flight
 * Units   bytes, nanoseconds
 * Owner   struct inference owns the pool; a call belongs to its flight until it lets go
 * Errors  told to attempt.c
 * Limits  members that nobody knows: a quarter of a record for each event, and for all that come
 *         before the first part; more are left out. Events of SSE_EVENT_BYTES_MAX, an error body of OPENAI_ERROR_BODY_MAX, an answer of
 *         max_response_bytes; while the ring is full at most one of curl's buffers waits here
 *
 *   HEAD -(2xx, event stream)-> STREAM -([DONE], end with finish_reason)-> done
 *   HEAD -(2xx, JSON)-> WHOLE -(end)-> done;  HEAD -(2xx, embeddings)-> RAW -(end)-> done;
 *    HEAD -(any other status)-> ERROR -(end)-> failed
 *
 * Four clocks run beside the request's deadline: connect (curl's), first token, silence, total.
 */
#pragma once

#include "stages/common/loop.h"
#include "stages/engines/sse/chunk.h"
#include "stages/engines/sse/sse.h"
#include "stages/inference/upstream.h"

#define OPENAI_ERROR_BODY_MAX (64u << 10)

struct flight;
struct inference;

enum openai_mode { OPENAI_HEAD, OPENAI_STREAM, OPENAI_WHOLE, OPENAI_RAW, OPENAI_ERROR };

struct openai_bytes {
        char *p;
        uint32_t n, cap;
};

struct openai_call {
        struct flight *f;
        struct upstream_call *http; /* NULL: it has ended */
        struct openai_call *next;   /* in the pool */
        enum openai_mode mode;
        struct sse sse;

        /* The event at hand, and how far its parts are out. */
        struct sse_event event;
        bool waits; /* for room */
        uint32_t part, part_at;
        bool extra_out;

        struct openai_bytes rest; /* of curl's buffer, not looked at yet */
        uint32_t rest_at;
        struct openai_bytes whole;   /* of an answer or an error that is not a stream */
        struct openai_bytes extra;   /* members that came before the first part: a length, then they */
        uint32_t extra_at;           /* how far those are out */
        uint32_t extra_last;         /* where the last of them begin */
        struct openai_bytes last;    /* members of the chunk that ended the first choice, for DONE */
        struct openai_bytes details; /* usage beyond the three numbers, for DONE */

        bool ended; /* the response is over, as `code` says */
        CURLcode code;
        unsigned status;
        uint64_t retry_after_ms;

        bool finished;
        char finish[24];
        struct loop_timer timer;
        uint64_t started_ns, last_ns;
        bool got_token;
};

struct openai_pool {
        struct openai_call *free;
        struct chunk_parser
                        *chunks; /* one for all: a chunk is done with before the next is parsed */
};

int openai_pool_new(struct openai_pool **ret);
struct openai_pool *openai_pool_free(struct openai_pool *pool);

/* ---- openai_answer.c: what the response says ------------------------------------------------ */

enum openai_step {
        OPENAI_ON,   /* go on */
        OPENAI_WAIT, /* no room: the event waits */
        OPENAI_OVER, /* the attempt is over; the call is not ours any more */
};

/* The event at hand (call->event), from where it stopped. */
enum openai_step openai_event(struct openai_call *call);
/* Everything that it said is out: the request is done. */
void openai_finish(struct openai_call *call);
/* The response is over and everything in it was looked at. */
void openai_conclude(struct openai_call *call);

/* ---- openai_raw.c: an answer that is passed on whole ----------------------------------------- */

/* call->whole, all of it there; from where it stopped. */
enum openai_step openai_raw(struct openai_call *call);

/* ---- workers/openai.c: the call itself ------------------------------------------------------ */

/* Lets go of the call; `linger`: the answer is whole, the connection may be kept. */
void openai_release(struct openai_call *call, bool linger);
int openai_bytes_add(struct openai_bytes *b, const char *p, uint32_t n);
