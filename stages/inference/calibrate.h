/*
 * calibrate -- a backend's own count of a prompt corrects the estimate for its model.
 *
 * Shape   one call for each answer that ends well; rows in our counters page (shm/calibration.h)
 * Units   tokens
 * Owner   inference is the rows' only writer
 * Errors  none: a count that no tokenizer would make is counted as such and changes nothing
 * Limits  stages/engines/tokens/fit.h; a model whose name is longer than a row's counts as "*", and so
 *         does one that only "*" names where the worker asks for a model of its own
 */
#pragma once

#include "stages/engines/tokens/tokens.h"

struct flight;

/* The backend has counted: f->usage. */
void calibrate(struct flight *f);
/* What the estimate of a text for the flight's model is, by what this process has learnt. */
uint64_t calibrate_tokens(struct flight *f, const struct tokens_count *count);
