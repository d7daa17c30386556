/*
 * restore -- what was redacted in a prompt: put back where the answer names it.
 *
 * Shape   struct restore: the values of a request that have a number, as assemble's note tells them;
 *         struct restore_token: the start of a placeholder that may yet become one
 * Units   bytes
 * Owner   rows are views into the note, which lies in the slab as long as the request does
 * Errors  0, -EPROTO (no such note)
 * Limits  REDACT_NUMBERS rows; what is no placeholder of the prompt goes on as it came
 *
 * A placeholder has its `<` in front only and its `>` at the end, so what waits is either the start of
 * one or goes on whole: nothing need be looked at twice.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/redact/redact.h"

#define RESTORE_NAME_MAX (REDACT_NAME_MAX + 14u) /* <NAME_4294967295> */

struct restore_row {
        uint8_t n;
        char name[RESTORE_NAME_MAX];
        struct mr_view value;
};

struct restore {
        uint32_t n;
        struct restore_row rows[REDACT_NUMBERS];
};

struct restore_token {
        uint8_t n;
        char bytes[RESTORE_NAME_MAX];
};

struct restore_out {
        void (*put)(void *ctx, const char *p, uint32_t n);
        void *ctx;
};

/* Adds a value by its number. False: there are too many, or the name is too long. */
bool restore_add(struct restore *r, struct mr_view entity, uint64_t number, struct mr_view value);
void restore_feed(const struct restore *r, struct restore_token *token, const char *text, uint32_t n,
                const struct restore_out *out);
/* Nothing follows: what waits is no placeholder. */
void restore_flush(struct restore_token *token, const struct restore_out *out);
