/*
 * measure -- what a prompt costs in tokens, by class of text, corrected by what backends have counted.
 *
 * Shape   fills `count`, `exact` and `chat` of struct prompt
 * Units   hundredths of a token by class; tokens
 * Owner   as in prompt.h; pages of inference's counters are read, never written
 * Errors  none: of a body that is gone whatever was read of it counts, its request has ended
 * Limits  nothing is copied: a body counts where it lies; one of over MEASURE_WHOLE bytes is not read a
 *         second time with what was inserted, which then counts as text
 */
#pragma once

#include "stages/assemble/prompt.h"

#define MEASURE_WHOLE 32768u

/* The model's factors: everything after it is measured with them. */
void measure_begin(struct prompt *prompt, struct mr_view model);
/* The client's body, as it came. Returns tokens. */
uint64_t measure_body(struct prompt *prompt, const struct record *record, const struct arena_view *arena);
/* The pieces; the body was measured. Returns tokens. */
uint64_t measure_pieces(struct prompt *prompt, const struct record *record,
                const struct arena_view *arena, uint32_t literal_len);
/* A text or a part of JSON's inside that may be inserted. */
uint64_t measure_text(const struct prompt *prompt, const char *text, uint32_t n);
