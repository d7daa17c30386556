/*
 * rules -- a rule set as the engine runs it: compiled patterns, and what belongs to each entity.
 *
 * Shape   struct redact, made by redact_new() in rules.c, read by find.c and redact.c
 * Owner   rules.c makes and frees it; find.c uses the working memory at its end
 * Limits  REDACT_FORMS_MAX patterns, REDACT_SPANS_MAX finds waiting at once
 */
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "stages/engines/redact/checks.h"
#include "stages/engines/redact/redact.h"

#define REDACT_FORMS_MAX 256u
#define REDACT_FORM_WORDS (REDACT_FORMS_MAX / 64u)
#define REDACT_SPANS_MAX 4096u
#define REDACT_NONE REDACT_ENTITIES_MAX /* of a form: no find of a built-in entity may lie in it */

struct rules_entity {
        char name[REDACT_NAME_MAX + 1];
        check_fn *check;
        double sure;
        char *context; /* words, a space between two; NULL: none */
        enum redact_action action;
        bool on;
};

struct rules_form {
        pcre2_code *code;
        uint32_t entity;
        double score;
};

/* A find, in bytes of the buffer at hand. */
struct redact_span {
        uint32_t start, end, entity;
        double score;
};

struct redact {
        struct rules_entity entities[REDACT_ENTITIES_MAX + 1]; /* the last is REDACT_NONE */
        uint32_t n_entities, n_builtins; /* the built-in ones come first */
        struct rules_form forms[REDACT_FORMS_MAX];
        uint32_t n_forms;
        uint64_t starts[256][REDACT_FORM_WORDS]; /* which forms may begin with a byte */
        double min_score;
        bool numbered;
        uint8_t *key;
        uint32_t n_key;
        char **allowed; /* values that are no finds, in lower case */
        uint32_t n_allowed;

        pcre2_compile_context *compiling;
        pcre2_match_context *matching;
        pcre2_match_data *match;
        pcre2_jit_stack *stack;
        struct redact_span spans[REDACT_SPANS_MAX];
};

/* What a buffer holds. */
struct find {
        const struct redact_span *spans; /* decided, in order, not overlapping */
        uint32_t n_spans;
        uint32_t limit;  /* everything before it is decided */
        uint32_t entity; /* of what begins at the limit and is not; REDACT_PLAIN: nothing does */
        bool broken;     /* matching failed at the limit */
};

/* Finds from `from` on; what stands before it is only looked back at. `last`: no more text comes. */
struct find redact_find(struct redact *r, const char *text, uint32_t from, uint32_t n, bool last);

/* Where the UTF-8 character begins that has the byte at `at`; `at` itself when it is part of none. */
uint32_t redact_character(const char *text, uint32_t at);
/* How many bytes a character has that begins with this one. */
uint32_t redact_character_bytes(char lead);

/* ---- load.c ---- */

/* The bytes of a file of rules, to be freed. 0, -ENOMEM, REDACT_E_RULES. */
int rules_text_read(const char *path, char **ret, size_t *ret_n, struct redact_why *why);

/* ---- rules_file.c ---- */

/* Reads the operator's rules into r. 0, -ENOMEM, REDACT_E_RULES. */
int rules_file_read(struct redact *r, const struct redact_options *options, struct redact_why *why);

/* ---- rules.c, for rules_file.c ---- */

/* A new one; 0, -ENOMEM, REDACT_E_RULES (too many). */
int rules_add_entity(struct redact *r, const char *name, size_t n, uint32_t *ret,
                struct redact_why *why);
/* Compiles a pattern. 0, -ENOMEM, REDACT_E_RULES with *why (no file, no line). */
int rules_add_form(struct redact *r, uint32_t entity, double score, const char *pattern, size_t n,
                struct redact_why *why);
