/*
 * prompt -- the body as the model shall see it: the client's own bytes with insertions, never rewritten.
 *
 * Shape   edits at byte offsets of the body become pieces: [offset, length] into the body, or bytes
 * Units   bytes; tokens are estimates (measure.h)
 * Owner   struct prompt belongs to the stage and is reused; its pieces live until the next prompt_build()
 * Errors  0, PROMPT_E_*
 * Limits  PROMPT_PIECES pieces, PROMPT_LITERAL_MAX inserted bytes; documents that do not fit are left out
 *
 * Order, for the backends' prefix caches: what never changes first (system text), the conversation as it
 * came, then one last user message: documents, then the question. The documents are numbered, their
 * delimiters escaped inside, and named as data (prompt injection is not prevented by this, only made
 * harder). A template takes the place of that: it says what the last user message is, with the client's
 * own text, documents and variables in it (templates.h).
 */
#pragma once

#include "shm/arena.h"
#include "shm/counters.h"
#include "stages/assemble/history.h"
#include "stages/common/record.h"
#include "stages/engines/json/marks.h"
#include "stages/engines/mustache/folder.h"
#include "stages/engines/tokens/chat.h"
#include "stages/engines/tokens/fit.h"

struct templates;

#define PROMPT_TEXTS 8u /* text parts of the last user message, where a template takes them */
#define PROMPT_EDITS (8u + PROMPT_TEXTS + PROMPT_TEXTS * MUSTACHE_MARKS_MAX)
#define PROMPT_PIECES (3u * PROMPT_EDITS + 1u)
#define PROMPT_LITERAL_MAX 131072u
#define PROMPT_MESSAGE_MAX 320u

enum prompt_error {
        PROMPT_E_GONE = 1,  /* the body is not in its arena any more: the request has ended */
        PROMPT_E_TEMPLATE,  /* a template was asked for that is not there */
        PROMPT_E_TOO_LARGE, /* what is inserted does not fit */
        PROMPT_E_CONTEXT,   /* it is longer than the model's context allows: `message` has the numbers */
        PROMPT_E_RENDER,    /* the template cannot be rendered: `message` says why */
        PROMPT_E_BLOCKED,   /* something in it may not be sent: `message` says what */
        PROMPT_E_UNREADABLE, /* it cannot be walked, so it cannot be redacted */
};

struct prompt_edit {
        uint32_t at;          /* offset in the body; inserted before that byte */
        uint32_t skip;        /* bytes of the body that are left out from there on */
        uint32_t from, to;    /* range of `literal` that is inserted */
        struct body_span own; /* then bytes of the body itself; len 0: none */
        bool client; /* what is inserted came from the client, too, or was said to it */
};

struct prompt {
        /* Given beside the request: */
        const struct history_found *history; /* NULL: none */
        /* Result: */
        msgpack_object pieces;
        uint32_t n_documents;
        uint32_t n_history; /* exchanges of the history that are in it */
        uint64_t prompt_tokens;
        struct tokens_count count; /* of the prompt, before any correction */
        bool exact;                /* a backend may be held to it */
        struct mr_view defaults; /* members of the body that the request may overrule; n 0: none */
        struct mr_view model; /* to be asked in place of the request's; n 0: that */
        char message[PROMPT_MESSAGE_MAX];
        /* Work space: */
        struct prompt_edit edits[PROMPT_EDITS];
        uint32_t n_edits;
        msgpack_object items[PROMPT_PIECES];
        msgpack_object spans[PROMPT_PIECES][2];
        char *literal; /* PROMPT_LITERAL_MAX bytes */
        char *content; /* bytes of the body, where they have to be looked at */
        uint32_t content_cap;
        const struct counters_shm *const *pages; /* PROCS_MAX, NULL: not mapped */
        struct fit fit;                          /* of the model */
        struct chat_count chat;
};

struct prompt_budget {
        uint64_t context_tokens;
        uint64_t max_output_tokens;
        uint64_t document_tokens;
        bool enforce; /* a prompt that is longer is refused */
};

/* 0 or -ENOMEM. pages: counters of all inference processes, PROCS_MAX; NULL where there is none. */
int prompt_init(struct prompt *prompt, const struct counters_shm *const *pages);
void prompt_close(struct prompt *prompt);
/* arena: where the body lies when the record does not carry it; NULL: not mapped. */
int prompt_build(struct prompt *prompt, struct templates *templates, const struct record *record,
                const struct arena_view *arena, const struct prompt_budget *budget);
