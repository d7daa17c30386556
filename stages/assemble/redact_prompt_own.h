/*
 * redact_prompt_own -- what the two halves of it share: redact_prompt.c (pieces, the note) and
 * redact_texts.c (what is found in a text, and where it stands in the whole).
 *
 * Shape   struct redact_prompt; rooms that grow and stay
 * Units   bytes
 * Owner   as in redact_prompt.h
 * Errors  0, PROMPT_E_*
 * Limits  as in redact_prompt.h
 */
#pragma once

#include "stages/assemble/prompt_own.h"
#include "stages/assemble/prompt_texts.h"
#include "stages/assemble/redact_prompt.h"

#define REDACT_TOLD UINT32_MAX /* of a value: what it was is not kept */
#define REDACT_NOTE_BYTES                                                                          \
        (REDACT_PROMPT_VALUES + REDACT_ENTITIES_MAX * (REDACT_NAME_MAX + 8u) +                     \
                        REDACT_NUMBERS * (REDACT_NAME_MAX + 32u))

struct redact_room {
        void *p;
        size_t cap; /* bytes */
};

/* A piece of the prompt as it was made, and where it lies in the whole. */
struct part {
        const char *literal; /* NULL: bytes of the body from `off` on */
        uint32_t off, at, len;
        bool client;
};

/* Bytes [start, end) of the whole become others: a range of r->texts. */
struct edit {
        uint32_t start, end, text, n_text;
};

/* Of the value with the same place in r->numbers. */
struct value {
        uint32_t off, n; /* in r->values; off REDACT_TOLD: not kept */
};

struct redact_prompt {
        struct redact *engine;
        bool restores;
        struct redact_stream stream;

        /* The prompt at hand. */
        uint32_t n_whole, n_parts, n_edits, n_texts, part;
        struct redact_room whole, parts, edits, texts;
        struct redact_room decoded[2], escaped[2]; /* by how deep strings lie in strings */
        struct redact_room items, spans;           /* its pieces */
        uint32_t blocked;                   /* an entity; REDACT_PLAIN: nothing is */
        bool failed;                        /* there was no memory for an edit */
        uint32_t counts[REDACT_ENTITIES_MAX];
        struct redact_numbers numbers;
        struct value kept[REDACT_NUMBERS];
        uint32_t n_values;
        char values[REDACT_PROMPT_VALUES];
        uint8_t note[REDACT_NOTE_BYTES];
};

/* Room for n items of a size; what is there stays. NULL: there is none. */
void *redact_room(struct redact_room *room, size_t n, size_t size);
/* Finds in one text of the whole, in the order of the texts: a prompt_text_fn. */
int redact_text(void *ctx, struct json_text value, enum prompt_text kind);
