/*
 * openai_error -- what a backend's error means here.
 *
 * Shape   pure functions: HTTP status and error object in, code and what to try next out
 * Errors  none
 * Limits  OPENAI_MESSAGE_MAX bytes of a backend's message are passed on; of its `code` and `param`, what
 *         ATTEMPT_OWN_MAX takes, or nothing
 *
 * A backend's own class is kept where it has one: a 429 stays rate_limited, its 400 keeps its
 * message and is not tried again, "overloaded" stays overloaded even in the middle of a stream.
 * What it says about keys (401, 403) is not passed on: such messages quote them.
 */
#pragma once

#include "stages/engines/sse/chunk.h"
#include "stages/inference/attempt.h"

#define OPENAI_MESSAGE_MAX 300u

/* A response with another status than 2xx. */
struct attempt_failure openai_http_failure(
                unsigned status, const struct chunk_failure *failure, uint64_t retry_after_ms);
/* An error in the middle of a stream. */
struct attempt_failure openai_stream_failure(const struct chunk_failure *failure);
/* The backend's message as one clean line; "" when it must not be passed on (`secret` is in it). */
void openai_message(const struct chunk_failure *failure, const char *secret,
                char to[static OPENAI_MESSAGE_MAX]);
/* The backend's `code` and `param`, where the request itself is refused or comes too soon: a client may know what
 * they mean. Words that are too long, not printable or have the secret in them are not there, nor is a code that
 * only says the status again. */
void openai_own(const struct chunk_failure *failure, const char *secret, struct attempt_failure *to);
