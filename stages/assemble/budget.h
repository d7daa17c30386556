/*
 * budget -- how many tokens a prompt may take, and which parts of it are free.
 *
 * Shape   struct prompt_budget: the settings', then what the template and the request say
 * Units   tokens; those of texts are estimates
 * Owner   plain values
 * Errors  0, PROMPT_E_*
 * Limits  none of its own
 *
 * What does not fit goes in this order: documents, then turns of the history; never system text, examples
 * or what the client has sent. If that alone is too long the request is refused, where a context is
 * given at all (enforce).
 */
#pragma once

#include "stages/assemble/prompt_own.h"

/* The front matter's word counts where it says something, and the request's for its answer. */
int budget_of(struct prompt_budget *ret, const struct prompt_budget *settings,
                const struct mustache_file *file, const struct prompt_source *src);
/* What prompts may take in all. */
uint64_t budget_allowed(const struct prompt_budget *budget);
/* What is free beside those, with a margin, for the estimate is one. */
uint64_t budget_room(const struct prompt_budget *budget, uint64_t used);
uint64_t budget_room_for_documents(const struct prompt_budget *budget, uint64_t used);
