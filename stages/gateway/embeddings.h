/*
 * embeddings -- POST /v1/embeddings: the backend's own answer, passed on whole.
 *
 * Shape   one answer, of the deltas of kind "json" in their order
 * Owner   struct http (its chat)
 * Errors  as chat.h
 * Limits  admission.max_response_bytes
 */
#pragma once

#include "stages/gateway/chat.h"

void embeddings_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
