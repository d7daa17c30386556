/*
 * openai_request -- the body that a backend is sent: the client's, byte for byte, but for what must
 * differ.
 *
 * Shape   one buffer: the record's pieces, with the edits of this stage spliced in
 * Units   bytes
 * Owner   the caller frees *ret
 * Errors  0, REQUEST_BODY_E_GONE, -EPROTO, -ENOMEM
 * Limits  edited values: model, stream, stream_options; the request's params come as last members
 */
#pragma once

#include <stdint.h>

struct flight;

int openai_request_build(struct flight *f, char **ret, uint64_t *ret_len);
