/*
 * screen -- texts looked at for words and patterns by category, with the engine that redacts.
 *
 * Shape   struct screen: the engine, and what is done about each category; the operator's lists, or the tripwires
 *         of tripwires.def
 * Owner   whoever called screen_load(), screen_tripwires()
 * Errors  0, -ENOMEM, REDACT_E_RULES with *why (file and line)
 * Limits  as redact.h has them
 *
 * Lists have the form of redaction's own rules (rules_file.c); an entity's name is a category. Of a category that is
 * only flagged everything goes on; of any other no part of a find does.
 */
#pragma once

#include "stages/engines/redact/redact.h"

enum screen_action {
        SCREEN_BLOCK, /* the request is refused, an answer ends in an error */
        SCREEN_END,   /* an answer ends in front of it; a request is refused */
        SCREEN_FLAG   /* it is only counted */
};

struct screen {
        struct redact *engine;
        uint8_t actions[REDACT_ENTITIES_MAX]; /* enum screen_action */
};

struct screen_config {
        const char *lists;          /* path; NULL: none */
        const char *const *actions; /* CATEGORY=ACTION; SCREEN_BLOCK where none is named */
        uint32_t n_actions;
        bool flags; /* everything is only flagged */
};

/* What was found in a text, or in several. */
struct screen_found {
        uint32_t n[REDACT_ENTITIES_MAX]; /* finds by category */
        double score;                    /* the best */
        bool any, blocked;
};

/* *ret NULL: there are no lists. */
int screen_load(const struct screen_config *config, struct screen **ret, struct redact_why *why);
/* Finds of PROMPT_INJECTION, with scores. */
int screen_tripwires(struct screen **ret, struct redact_why *why);
struct screen *screen_free(struct screen *screen);
/* A whole text; adds to *found. */
void screen_text(struct screen *screen, const char *text, size_t n, struct screen_found *found);
