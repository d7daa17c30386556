/*
 * redact_prompt -- personal data taken out of a prompt before any backend sees it.
 *
 * Shape   the prompt's pieces put together once, walked (prompt_texts.h), and cut into pieces again with
 *         something else in the place of each find; every byte that is no find stays as it was
 * Units   bytes; places count in the whole prompt
 * Owner   one for the process; what a call leaves lives until the next one
 * Errors  0, PROMPT_E_*, -EINVAL (settings: logged by the caller from `why`), -ENOMEM
 * Limits  what the record has room for; REDACT_NUMBERS numbered values, REDACT_PROMPT_VALUES bytes of
 *         values to be restored: what is beyond is replaced, and stays so
 *
 * A find in the client's own bytes becomes a piece [offset, length, BIN]: bytes of the body, and what
 * stands in their place. Equal prompts are redacted equally, so that a stage that was killed does the
 * same again.
 *
 * The note is for post alone: [counts, rows]. counts: map of entity to finds. A row is [entity, number,
 * hash, value] for each value that has a number; the value is nil unless it is to be restored, which
 * only what the client sent may be.
 */
#pragma once

#include "shm/counters.h"
#include "stages/assemble/prompt.h"
#include "stages/common/settings.h"
#include "stages/engines/redact/redact.h"

#define REDACT_PROMPT_VALUES 8192u

struct redact_prompt;

/* *ret NULL: prompts are not redacted. */
int redact_prompt_new(const struct settings *settings, struct redact_prompt **ret,
                struct redact_why *why);
struct redact_prompt *redact_prompt_free(struct redact_prompt *r);

/* Redacts what prompt_build() made: prompt->pieces become others. ret_note: n 0 when there is nothing
 * to note. PROMPT_E_BLOCKED: prompt->message says of what entity. */
int redact_prompt(struct redact_prompt *r, struct prompt *prompt, const struct record *record,
                const struct arena_view *arena, struct mr_view *ret_note);
/* Adds the counts of the last prompt to the process's own. */
void redact_prompt_tell(const struct redact_prompt *r, struct counters_shm *counters);
