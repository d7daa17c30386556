/*
 * responses -- OpenAI's Responses API over HTTP: unary, as a stream, in the background; by its id later.
 *
 * Shape   POST /v1/responses; GET /v1/responses/ID, with stream=true&starting_after=N from the event
 *         behind N on; POST /v1/responses/ID/cancel
 * Units   seconds since 1970 for `created`; numbers of events (responses_json.h)
 * Owner   struct http has one struct responses_ask for the request at hand
 * Errors  before the head is out: a status and OpenAI's error body; later an event. A response that
 *         failed is a whole answer to who asks for it by its id, or asked for it in the background
 * Limits  ids ADMISSION_ID_MAX bytes; a stream keeps the response so far, at most RESPONSES_TIMES times
 *         admission.max_response_bytes and an event
 *
 * Only requests in the background (and other detached ones) can be asked for by their id. Each reader
 * folds the log from the beginning, so the numbers of events are the same for all.
 */
#pragma once

#include "stages/gateway/dialect.h"

#define RESPONSES_TIMES 2u

struct http1_request;
struct responses_ask;

void responses_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
