/*
 * http_rules -- what keeps web pages away from a daemon that asks nobody for a key, and lets those
 * in that the operator has named.
 *
 * Shape   a request's head -> 0 or a refusal; header lines for answers to pages of other origins
 * Units   bytes
 * Owner   the caller owns settings and requests; nothing is kept
 * Errors  HTTP_RULES_E_REFUSED
 * Limits  HTTP_RULES_LINES_MAX bytes of header lines; a page that asks for more headers gets none
 *
 * A page of elsewhere can reach a local port in three ways, and each has its rule:
 *   - by a name of its own that it lets lead to us (DNS rebinding): Host must be one of
 *     http.allowed_hosts, or the address that the listener has in http.listen. Over a Unix socket
 *     no page comes, so Host may be anything there;
 *   - across origins: Origin must be one of http.allowed_origins, or that of Host itself. No Origin
 *     is fine: no browser leaves it out where a page could gain something;
 *   - by a form, which asks nobody beforehand: a body must say that it is application/json, which a
 *     form cannot.
 * Where keys are asked for, a page would need one, and all three are allowed. A body in a content
 * coding is refused everywhere.
 *
 * CORS is off: without http.allowed_origins no answer has a header of it, and a browser's preflight
 * is refused as a foreign Origin (403). With a listed Origin, the preflight is answered, and every
 * answer says that it depends on Origin.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/http1.h"
#include "stages/common/settings.h"

/* What is asked of the paths here, all in all; OPTIONS is asked of each. */
#define HTTP_RULES_METHODS "GET, HEAD, POST, DELETE"
#define HTTP_RULES_LINES_MAX 4096u

enum http_rules_error { HTTP_RULES_E_REFUSED = 1 };

/* Of one listener. */
struct http_rules {
        const struct settings_strs *hosts, *origins; /* http.allowed_hosts, http.allowed_origins */
        struct mr_view listen_host; /* of its address in http.listen; n 0: none (unix:PATH, *) */
        bool unix_socket;
        bool asks_key; /* nobody is let in without one */
};

/* `where`: the listener's element of http.listen. */
void http_rules_init(struct http_rules *ret, const struct settings *s, const char *where);

/* 0, or HTTP_RULES_E_REFUSED: 403 for Host and Origin, 415 for the body, with a sentence; the head
 * alone says it. An answer of 415 carries the line HTTP_RULES_ACCEPTS. */
int http_rules_check(const struct http_rules *rules, const struct http1_request *request,
                struct http1_refusal *ret_refusal);
#define HTTP_RULES_ACCEPTS "Accept: application/json\r\nAccept-Encoding: identity\r\n"

/* A browser asks whether its page may ask: OPTIONS with Origin and Access-Control-Request-Method.
 * It has no body and no key, and is answered 204 with http_rules_preflight(), where
 * http_rules_check() let it pass. */
bool http_rules_is_preflight(const struct http1_request *request);
/* Header lines, each with its CRLF; returns their bytes. 0: the page may not ask, answer 403. */
uint32_t http_rules_preflight(const struct http_rules *rules, const struct http1_request *request,
                char to[static HTTP_RULES_LINES_MAX]);
/* Likewise for any other answer, refusals included; 0: none are due. */
uint32_t http_rules_answer(const struct http_rules *rules, const struct http1_request *request,
                char to[static HTTP_RULES_LINES_MAX]);
