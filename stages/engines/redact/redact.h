/*
 * redact -- personal data and secrets found in a text and replaced, while the text is still arriving.
 *
 * Shape   struct redact: the rules, compiled once; struct redact_stream: what one text has waiting, a
 *         plain value without pointers; a callback that is given the pieces in their order
 * Units   bytes; offsets count from the start of the text that was fed
 * Owner   the caller owns all three; a struct redact is used by one thread at a time, by any number of
 *         streams in turn
 * Errors  0, -ENOMEM, REDACT_E_*; a text that cannot be settled is never let through: see Limits
 * Limits  REDACT_HELD bytes wait at most. A match that grows beyond (only a pattern of the operator's
 *         can), or one that takes more than REDACT_STEPS steps of backtracking, ends the text there: the
 *         entity stands for it and for everything after it
 *
 * What is put out depends on the text alone, not on how it was cut: the pieces together are the redaction
 * of the whole. PCRE2's PCRE2_PARTIAL_HARD makes that so: it reports a match that could still change
 * with more text as partial, together with its start, so every other result is final. Text goes on up to
 * the earliest start of a partial match or of an undecided group of finds that overlap, and the next
 * call begins there again; nothing else need be remembered but REDACT_PAST bytes for what looks back
 * (assertions, context words).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDACT_PAST 128u
#define REDACT_HELD 4096u
#define REDACT_STEPS 200000u
#define REDACT_ENTITIES_MAX 128u
#define REDACT_NAME_MAX 32u
#define REDACT_PLAIN UINT32_MAX
#define REDACT_NUMBERS 64u

enum redact_error { REDACT_E_RULES = 1 };

/* Why rules were refused, for the operator: names the file and line where there is one. */
struct redact_why {
        char text[256];
};

enum redact_action {
        REDACT_AS_TYPE,
        REDACT_AS_MASK,
        REDACT_AS_HASH,
        REDACT_AS_NOTHING,
        REDACT_BLOCKS,
        REDACT_AS_IS /* it is only counted; what cannot be settled goes on too (screen.h) */
};

/* Likewise for one entity only. */
struct redact_choice {
        const char *entity;
        enum redact_action action;
};

struct redact_options {
        const char *const *entities; /* names, core or all */
        uint32_t n_entities;
        double min_score;
        enum redact_action action;
        const struct redact_choice *choices;
        uint32_t n_choices;
        bool numbered;      /* <EMAIL_ADDRESS_1>: equal values of one text have equal numbers */
        const uint8_t *key; /* of REDACT_AS_HASH */
        uint32_t n_key;
        const char *rules; /* the operator's own: see docs/redaction.md; NULL: none */
        size_t n_rules;
        const char *rules_name; /* of their file, for complaints */
};

struct redact;
/* 0, -ENOMEM, REDACT_E_RULES with *why. */
int redact_new(const struct redact_options *options, struct redact **ret, struct redact_why *why);
struct redact *redact_free(struct redact *r);
const char *redact_name(const struct redact *r, uint32_t entity);
/* The entity of that name, REDACT_PLAIN when there is none. */
uint32_t redact_entity(const struct redact *r, const char *name, size_t n);
uint32_t redact_entities(const struct redact *r); /* how many there are, found or not */

/* The same as an operator writes it: names of actions, a file, a variable of the environment. */
struct redact_config {
        const char *const *entities;
        uint32_t n_entities;
        double min_score;
        enum redact_action action;
        const char *const *actions; /* ENTITY=ACTION */
        uint32_t n_actions;
        bool numbered;
        const char *rules;   /* path of a file; NULL: none */
        const char *key_env; /* the variable that holds the key of hashes; NULL: none */
};
/* What post.redact of the settings says: `s` points to it. */
#define REDACT_CONFIG(s)                                                                           \
        ((struct redact_config){.entities = (const char *const *)(s)->entities.v,                  \
                        .n_entities = (s)->entities.n,                                             \
                        .min_score = (s)->min_score,                                               \
                        .action = (enum redact_action)(s)->action,                                 \
                        .actions = (const char *const *)(s)->actions.v,                            \
                        .n_actions = (s)->actions.n,                                               \
                        .numbered = (s)->numbered,                                                 \
                        .rules = (s)->rules,                                                       \
                        .key_env = (s)->key_env})
/* REDACT_E_RULES also when something is hashed and there is no key. */
int redact_load(const struct redact_config *config, struct redact **ret, struct redact_why *why);
/* False: there is no action of that name. */
bool redact_action_find(const char *name, size_t n, enum redact_action *ret);

/* What a built-in entity is, in the order of entities.def; NULL beyond the last. */
struct redact_entity_row {
        const char *name;
        bool core;
        double sure;
        const char *context, *sentence;
};
const struct redact_entity_row *redact_builtin(uint32_t index);

/* The values that have a number so far: of a text, or of all texts of one request. */
struct redact_numbers {
        uint32_t n;
        struct {
                uint32_t entity, number;
                uint64_t hash;
        } v[REDACT_NUMBERS];
};

/* What waits of one text. Zeroed, it is the start of one. bytes: n_past that went on, n_held to come. */
struct redact_stream {
        uint64_t at; /* offset of the first held byte */
        uint16_t n_past, n_held;
        uint8_t closed; /* nothing goes on any more: something blocked, or could not be settled */
        uint8_t rsv[3];
        char bytes[REDACT_PAST + REDACT_HELD];
};

struct redact_piece {
        uint32_t entity;  /* REDACT_PLAIN: as it came */
        bool blocked;     /* the text ends with this piece */
        const char *text; /* what goes on */
        uint32_t n;
        uint32_t number; /* of a value, in `text`; 0: it has none */
        const char *found; /* what it stands for */
        uint64_t start, end;
        double score;
};

struct redact_sink {
        void (*put)(void *ctx, const struct redact_piece *piece);
        void *ctx;
        struct redact_numbers *numbers; /* NULL: none are given */
};

/* Feeds n more bytes; `last` says that the text ends with them, which settles everything and leaves the
 * stream as it was at its start. Pieces are put in order, each byte of the text in exactly one. */
void redact_feed(struct redact *r, struct redact_stream *stream, const char *text, size_t n,
                bool last, const struct redact_sink *sink);
/* Settles what waits, as if the text ended here; what follows is another text, for which this one is
 * context. */
void redact_pause(struct redact *r, struct redact_stream *stream, const struct redact_sink *sink);
