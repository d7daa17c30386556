/*
 * reply -- what services of vectors and of scores answer, taken apart.
 *
 * Shape   OpenAI's {"data":[{"index","embedding"}...]}; {"results":[{"index","relevance_score"}...]}
 *         of llama.cpp, Jina and Cohere; of an error {"error":{"message"}} or {"message"}
 * Units   bytes
 * Owner   the bytes are the caller's, what is returned too
 * Errors  0, -ENOMEM, or -EBADMSG with a sentence in *err
 * Limits  VECTORS_DIMENSION_MAX numbers a vector; rows in any order, each exactly once; what else the
 *         answer says is passed over
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

/* n vectors one behind the other, to be freed. */
int reply_vectors(const char *bytes, size_t n_bytes, uint32_t n, struct index_error *err,
                uint32_t *ret_dimension, float **ret_vectors);
/* A score for each of n texts; what the service left out has -INFINITY. */
int reply_scores(const char *bytes, size_t n_bytes, uint32_t n, struct index_error *err,
                double *ret_scores);
/* The service's own words about what went wrong, in `to`; "" when there are none. */
void reply_complaint(const char *bytes, size_t n_bytes, char *to, size_t n);
