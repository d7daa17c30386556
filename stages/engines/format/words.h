/*
 * words -- what post.format says: which changes of form are made to the answers of which model.
 *
 * Shape   one word for all models, or MODEL=WORD, which counts for that model in place of those for all
 * Owner   whoever called words_read(); views into the settings
 * Errors  0, WORDS_E_BAD with *why
 * Limits  as many as the row takes
 */
#pragma once

#include <stdint.h>

#define FORMAT_TRIM 1u
#define FORMAT_STRIP 2u
#define FORMAT_STOPS 4u /* the request has stop strings */
#define FORMAT_JSON 8u  /* the request asks for JSON */
#define FORMAT_UNCHECKED 16u
#define WORDS_MAX 64u

enum words_error { WORDS_E_BAD = 1 };

struct words_why {
        uint32_t index; /* of the word */
        char text[128];
};

struct words {
        uint32_t n;
        struct {
                const char *model; /* NULL: all */
                uint32_t n_model;
                uint8_t what;
        } v[WORDS_MAX];
};

int words_read(struct words *words, const char *const *list, uint32_t n, struct words_why *why);
/* FORMAT_* bits for a model. */
uint8_t words_of(const struct words *words, const char *model, uint32_t n);
