#include "stages/engines/redact/rules.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JIT_STACK_MIN 32768u
#define JIT_STACK_MAX 1048576u

/* ---- the table ---- */

static const struct builtin {
        struct redact_entity_row row;
        check_fn *check;
} builtins[] = {
#define CORE true
#define MORE false
#define ENTITY(name, group, check, sure, context, sentence)                                        \
        {{#name, group, sure, context, sentence}, check},
#define FORM(entity, score, pattern)
#define NO_ENTITY(pattern)
#include "stages/engines/redact/entities.def"
#undef ENTITY
#undef FORM
#undef NO_ENTITY
};
#define BUILTINS_N (sizeof(builtins) / sizeof(builtins[0]))
static_assert(BUILTINS_N < REDACT_ENTITIES_MAX / 2, "room for the operator's, and a counter each");

enum builtin_entity {
#define ENTITY(name, group, check, sure, context, sentence) BUILTIN_##name,
#define FORM(entity, score, pattern)
#define NO_ENTITY(pattern)
#include "stages/engines/redact/entities.def"
#undef ENTITY
#undef FORM
#undef NO_ENTITY
};

static const struct form_row {
        uint32_t entity;
        double score;
        const char *pattern;
} form_rows[] = {
#define ENTITY(name, group, check, sure, context, sentence)
#define FORM(entity, score, pattern) {BUILTIN_##entity, score, pattern},
#define NO_ENTITY(pattern) {REDACT_NONE, 1.0, pattern},
#include "stages/engines/redact/entities.def"
#undef ENTITY
#undef FORM
#undef NO_ENTITY
};
#define FORM_ROWS_N (sizeof(form_rows) / sizeof(form_rows[0]))

const struct redact_entity_row *redact_builtin(uint32_t index) {
        return index < BUILTINS_N ? &builtins[index].row : NULL;
}

/* ---- entities ---- */

uint32_t redact_entity(const struct redact *r, const char *name, size_t n) {
        for (uint32_t i = 0; i < r->n_entities; i++)
                if (strlen(r->entities[i].name) == n && !memcmp(r->entities[i].name, name, n))
                        return i;
        return REDACT_PLAIN;
}

int rules_add_entity(struct redact *r, const char *name, size_t n, uint32_t *ret,
                struct redact_why *why) {
        struct rules_entity *entity = &r->entities[r->n_entities];

        if (r->n_entities == REDACT_ENTITIES_MAX || n > REDACT_NAME_MAX) {
                snprintf(why->text, sizeof(why->text), "at most %u entities, of %u bytes each",
                                REDACT_ENTITIES_MAX, REDACT_NAME_MAX);
                return REDACT_E_RULES;
        }
        *entity = (struct rules_entity){.check = check_none, .on = true};
        memcpy(entity->name, name, n);
        *ret = r->n_entities++;
        return 0;
}

static int add_builtins(struct redact *r, struct redact_why *why) {
        for (uint32_t i = 0; i < BUILTINS_N; i++) {
                const struct redact_entity_row *row = &builtins[i].row;
                uint32_t at;
                int e = rules_add_entity(r, row->name, strlen(row->name), &at, why);
                if (e)
                        return e;
                r->entities[at].on = false;
                r->entities[at].check = builtins[i].check;
                r->entities[at].sure = row->sure;
                if (!row->context[0])
                        continue;
                r->entities[at].context = strdup(row->context);
                if (!r->entities[at].context)
                        return -ENOMEM;
        }
        r->n_builtins = r->n_entities;
        r->entities[REDACT_NONE] = (struct rules_entity){.name = "NONE", .check = check_none};
        return 0;
}

static int switch_on(struct redact *r, const char *name, struct redact_why *why) {
        bool all = !strcmp(name, "all"), core = !strcmp(name, "core");
        uint32_t at = redact_entity(r, name, strlen(name));

        for (uint32_t i = 0; i < BUILTINS_N; i++)
                if (all || (core && builtins[i].row.core))
                        r->entities[i].on = true;
        if (all || core)
                return 0;
        if (at == REDACT_PLAIN) {
                snprintf(why->text, sizeof(why->text), "there is no entity %.64s", name);
                return REDACT_E_RULES;
        }
        r->entities[at].on = true;
        return 0;
}

static int choose(struct redact *r, const struct redact_options *options, struct redact_why *why) {
        int e = 0;

        for (uint32_t i = 0; e == 0 && i < options->n_entities; i++)
                e = switch_on(r, options->entities[i], why);
        for (uint32_t i = 0; i < r->n_entities; i++)
                r->entities[i].action = options->action;
        for (uint32_t i = 0; e == 0 && i < options->n_choices; i++) {
                const struct redact_choice *choice = &options->choices[i];
                uint32_t at = redact_entity(r, choice->entity, strlen(choice->entity));
                if (at == REDACT_PLAIN) {
                        snprintf(why->text, sizeof(why->text), "there is no entity %.64s",
                                        choice->entity);
                        return REDACT_E_RULES;
                }
                r->entities[at].action = choice->action;
        }
        return e;
}

/* ---- patterns ---- */

static void note_start(struct redact *r, unsigned byte, uint32_t form) {
        r->starts[byte][form / 64] |= 1ull << form % 64;
}

/* The bytes that a match may begin with, as PCRE2 has found out. */
static void note_starts(struct redact *r, const pcre2_code *code, uint32_t form) {
        const uint8_t *bitmap = NULL;
        uint32_t type = 0, unit = 0;

        pcre2_pattern_info(code, PCRE2_INFO_FIRSTCODETYPE, &type);
        pcre2_pattern_info(code, PCRE2_INFO_FIRSTCODEUNIT, &unit);
        pcre2_pattern_info(code, PCRE2_INFO_FIRSTBITMAP, &bitmap);
        for (unsigned byte = 0; byte < 256; byte++) {
                bool letter = check_is_letter((char)byte) && check_is_letter((char)unit);
                if (type == 1 ? byte == unit || (letter && (byte | 0x20) == (unit | 0x20))
                              : !bitmap || bitmap[byte / 8] >> byte % 8 & 1)
                        note_start(r, byte, form);
        }
}

int rules_add_form(struct redact *r, uint32_t entity, double score, const char *pattern, size_t n,
                struct redact_why *why) {
        PCRE2_SIZE at = 0;
        int error = 0;
        pcre2_code *code;

        if (r->n_forms == REDACT_FORMS_MAX) {
                snprintf(why->text, sizeof(why->text), "at most %u patterns", REDACT_FORMS_MAX);
                return REDACT_E_RULES;
        }
        code = pcre2_compile((PCRE2_SPTR)pattern, n, 0, &error, &at, r->compiling);
        if (!code) {
                char text[160] = "";
                pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof(text));
                snprintf(why->text, sizeof(why->text), "%s at byte %zu of the pattern", text, at);
                return error == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM : REDACT_E_RULES;
        }
        if (pcre2_jit_compile(code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD)) {
                pcre2_code_free(code);
                snprintf(why->text, sizeof(why->text),
                                "the pattern cannot be compiled to machine code");
                return REDACT_E_RULES;
        }
        note_starts(r, code, r->n_forms);
        r->forms[r->n_forms++] = (struct rules_form){code, entity, score};
        return 0;
}

static int add_forms(struct redact *r, struct redact_why *why) {
        for (uint32_t i = 0; i < r->n_builtins; i++)
                r->entities[REDACT_NONE].on |= r->entities[i].on;
        for (uint32_t i = 0; i < FORM_ROWS_N; i++) {
                const struct form_row *row = &form_rows[i];
                if (!r->entities[row->entity].on)
                        continue;
                int e = rules_add_form(r, row->entity, row->score, row->pattern,
                                strlen(row->pattern), why);
                if (e)
                        return e;
        }
        return 0;
}

/* ---- the whole ---- */

static int allocate(struct redact *r, const struct redact_options *options) {
        r->compiling = pcre2_compile_context_create(NULL);
        r->matching = pcre2_match_context_create(NULL);
        r->match = pcre2_match_data_create(8, NULL);
        r->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        r->key = malloc(options->n_key ? options->n_key : 1);
        if (!r->compiling || !r->matching || !r->match || !r->stack || !r->key)
                return -ENOMEM;
        pcre2_set_match_limit(r->matching, REDACT_STEPS);
        pcre2_jit_stack_assign(r->matching, NULL, r->stack);
        pcre2_set_max_pattern_length(r->compiling, 1u << 20);
        if (options->n_key)
                memcpy(r->key, options->key, options->n_key);
        r->n_key = options->n_key;
        r->min_score = options->min_score;
        r->numbered = options->numbered;
        return 0;
}

int redact_new(const struct redact_options *options, struct redact **ret, struct redact_why *why) {
        struct redact *r = calloc(1, sizeof(*r));
        int e = r ? allocate(r, options) : -ENOMEM;

        if (e == 0)
                e = add_builtins(r, why);
        if (e == 0 && options->rules)
                e = rules_file_read(r, options, why);
        if (e == 0)
                e = choose(r, options, why);
        if (e == 0)
                e = add_forms(r, why);
        if (e) {
                redact_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

struct redact *redact_free(struct redact *r) {
        if (!r)
                return NULL;
        for (uint32_t i = 0; i < r->n_entities; i++)
                free(r->entities[i].context);
        for (uint32_t i = 0; i < r->n_forms; i++)
                pcre2_code_free(r->forms[i].code);
        for (uint32_t i = 0; i < r->n_allowed; i++)
                free(r->allowed[i]);
        free((void *)r->allowed);
        free(r->key);
        pcre2_jit_stack_free(r->stack);
        pcre2_match_data_free(r->match);
        pcre2_match_context_free(r->matching);
        pcre2_compile_context_free(r->compiling);
        free(r);
        return NULL;
}

const char *redact_name(const struct redact *r, uint32_t entity) {
        return r->entities[entity].name;
}

uint32_t redact_entities(const struct redact *r) {
        return r->n_entities;
}
