/*
 * answer -- which request gets which answer.
 *
 * Shape   a parsed request, or a refusal -> a whole HTTP/1.1 response, head and body
 * Owner   writes into the caller's text, which is reset first
 * Errors  none: what goes wrong is the answer. A text without memory is left `failed`: close then
 * Limits  no body is read: a request with one is refused
 *
 *   GET, HEAD /metrics   GET, HEAD /   else 404; other methods 405; a foreign Host or Origin 403
 */
#pragma once

#include "stages/common/http1.h"
#include "stages/common/settings.h"
#include "stages/telemetry/figures.h"
#include "stages/telemetry/text.h"

/* What a Host and an Origin may be, so that a web page cannot read a local daemon's figures under
 * a name of its own that leads here. */
struct answer_allow {
        const struct settings_strs *hosts, *origins;
        struct mr_view listen_host; /* of telemetry.listen; n 0: none */
        bool any;                   /* a Unix socket: no web page can reach it */
};

/* The response to a whole request. Returns whether the connection may go on behind it. */
bool answer_request(struct text *out, const struct http1_request *request,
                const struct answer_allow *allow, const struct figures *f);
/* The response to what was no request; the connection ends. */
void answer_refusal(struct text *out, const struct http1_refusal *refusal);
