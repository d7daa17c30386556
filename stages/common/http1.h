/*
 * http1 -- the head of an HTTP/1.1 request, as a server must read it: refused, never repaired.
 *
 * Shape   bytes -> http1_parse() -> struct http1_request, a set of views into those bytes
 * Units   bytes
 * Owner   the caller keeps the buffer; views live as long as its bytes stay where they are
 * Errors  HTTP1_E_MORE, HTTP1_E_REFUSED (with the status to answer, and a sentence why)
 * Limits  HTTP1_HEAD_MAX bytes for a head, target included; HTTP1_FIELDS_MAX fields
 *
 * The library splits and interprets; our own framing rules come first, since whatever two readers
 * of one stream can understand in two ways is a way to smuggle (RFC 9112 section 11.2): only CRLF
 * ends a line; no folded lines, no empty line first, no control characters, no space around a
 * field's name; one Host, one Content-Length of digits only, Transfer-Encoding only as "chunked"
 * and never beside Content-Length or in HTTP/1.0; a target in absolute form names the same host as
 * Host does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/common/record.h"

#define HTTP1_HEAD_MAX (64u * 1024u)
#define HTTP1_FIELDS_MAX 128u

enum http1_error {
        HTTP1_E_MORE = 1, /* not whole yet: call again with more behind the same bytes */
        HTTP1_E_REFUSED,  /* answer, then close: nobody knows where the next one begins */
};

enum http1_body { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED };

struct http1_field {
        struct mr_view name, value; /* value without the white space around it */
};

struct http1_request {
        struct mr_view method; /* as it came: methods are case-sensitive */
        struct mr_view target; /* as it came */
        struct mr_view path;   /* not decoded; "*" or the authority where the form is so */
        struct mr_view query;  /* what follows '?', or p == NULL */
        struct mr_view host;   /* of Host or the target, without the port, an IPv6 address with its
                                * brackets; n 0: none */
        uint32_t minor;        /* of the version: 0 or 1 */
        bool keep_alive;
        bool expects_continue;
        bool upgrade; /* asks for another protocol */
        enum http1_body body;
        uint64_t body_bytes; /* HTTP1_BODY_LENGTH */
        uint32_t head_bytes; /* the body, or the next request, begins there */
        uint32_t n_fields;
        struct http1_field fields[HTTP1_FIELDS_MAX];
};

struct http1_refusal {
        unsigned status;
        const char *why;
};

/* How far a head was looked at; zeroed at the start of each. */
struct http1_scan {
        uint32_t at;   /* bytes looked at */
        uint32_t mark; /* where the part at hand begins */
        uint32_t state;
};

/* 0, HTTP1_E_MORE, HTTP1_E_REFUSED (*ret_refusal is set). */
int http1_parse(struct http1_scan *scan, const char *bytes, uint32_t len, struct http1_request *ret,
                struct http1_refusal *ret_refusal);

/* The first field of that name (lower case), or NULL. */
const struct mr_view *http1_field(const struct http1_request *request, const char *name);
bool http1_is(struct mr_view view, const char *text); /* byte for byte */
bool http1_is_nocase(struct mr_view view, const char *text);
/* Splits HOST[:PORT]; *ret_host keeps an IPv6 address's brackets. False: it is none. */
bool http1_host_split(struct mr_view authority, struct mr_view *ret_host, struct mr_view *ret_port);
/* "Not Found"; "Unknown" for a number that is no status. */
const char *http1_status_text(unsigned status);
