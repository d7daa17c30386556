/*
 * front -- what a template's file says of itself: YAML between two lines of `---` at its start.
 *
 * Shape   text of the file -> struct mustache_front, and where the template begins
 * Units   bytes; tokens
 * Owner   whoever called mustache_front_read(); mustache_front_clear() takes {0} and what was cleared
 * Errors  0, -ENOMEM, MUSTACHE_E_SYNTAX with the place in the file: no YAML, an unknown key, a key
 *         given twice, a value that is none of those expected
 * Limits  FRONT_BYTES_MAX, FRONT_MODELS_MAX, params nested FRONT_DEPTH_MAX levels; no anchors
 */
#pragma once

#include "stages/engines/mustache/mustache.h"

#define FRONT_BYTES_MAX 65536u
#define FRONT_MODELS_MAX 64u
#define FRONT_DEPTH_MAX 16u

struct mustache_front {
        size_t body; /* where the template begins */
        bool has_escape;
        enum mustache_escape escape;
        bool missing_is_error;
        char *model;     /* what is asked in place of what the request names; NULL: that */
        char **models;   /* requests for these take the template when they name none */
        uint32_t n_models;
        char *params;    /* members of the request's body as JSON, comma separated; NULL: none */
        uint32_t n_params; /* bytes of them */
        uint64_t context_tokens, max_output_tokens, document_tokens; /* 0: as in the settings */
        char *few_shot;            /* file of examples, as it is written; NULL: that of the settings */
        uint64_t few_shot_nearest; /* so many of them; 0: all */
};

int mustache_front_read(
                const char *file, size_t n, struct mustache_front *ret, struct mustache_error *err);
/* A file that a template of that folder names: beside it, unless it is named from the root. */
void mustache_front_path(const char *folder, const char *name, char *to, size_t cap);
void mustache_front_clear(struct mustache_front *front);
