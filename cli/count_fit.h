/*
 * count_fit -- what the running daemon has learnt of a model's tokens.
 *
 * Shape   one question to the supervisor: `tokens` of docs/control.md
 * Errors  none: where nobody answers, or nothing was learnt, fit->n is 0 and the factors are 1
 * Limits  waits COUNT_FIT_SECONDS for the answer
 */
#pragma once

#include "stages/engines/tokens/fit.h"

#define COUNT_FIT_SECONDS 2

/* socket NULL: the default one. model NULL: of all models together. */
void count_fit(const char *socket, const char *model, struct fit *ret);
