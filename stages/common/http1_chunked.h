/*
 * http1_chunked -- a body in chunked transfer coding, decoded where it lies: refused, never
 * repaired.
 *
 *   SIZE --(";" EXTENSION)--> CRLF --(size > 0)--> DATA --> CRLF --> SIZE
 *                              `-----(size 0)----> trailer lines --> empty line: the end
 *
 * Shape   bytes as they come, in pieces of any length -> the body's own bytes, moved to the front
 *         of the piece that they came in
 * Units   bytes
 * Owner   the caller keeps the buffer; the decoder remembers no address of it
 * Errors  HTTP1_E_MORE, HTTP1_E_REFUSED (with the status to answer, and a sentence why)
 * Limits  as many bytes of body as the caller says; HTTP1_CHUNK_DIGITS for a size, and the
 *         HTTP1_CHUNK_* and HTTP1_TRAILER* below for what is read and forgotten
 *
 * Two readers of one stream must see the same body (RFC 9112 section 7.1 and 11.2): only CRLF ends
 * a line; a size is hexadecimal digits and nothing else, so no sign, no 0x and no space beside it;
 * data ends where its size says. Extensions are ignored. Trailers are ignored too, but for those
 * that would say something about framing, routing, rights or content to a reader that merges them
 * into the head: they are refused (RFC 9110 section 6.5.1).
 */
#pragma once

#include <stdint.h>

#include "stages/common/http1.h"

#define HTTP1_CHUNK_DIGITS 16u
#define HTTP1_CHUNK_EXTENSION_MAX 256u          /* of one chunk */
#define HTTP1_CHUNK_EXTENSIONS_MAX (16u * 1024u) /* of all chunks of a body */
#define HTTP1_TRAILERS_MAX (4u * 1024u)         /* all lines of them */
#define HTTP1_TRAILER_NAME_MAX 64u

/* Zeroed at the start of each body. */
struct http1_chunked {
        uint64_t content; /* bytes of the body so far */
        uint64_t left;    /* the size being read; then the bytes of that chunk still to come */
        uint32_t state;
        uint32_t n_part;  /* bytes so far: of a size, of an extension, of a trailer's name */
        uint32_t n_extra; /* likewise: of all extensions, then of all trailers */
        char name[HTTP1_TRAILER_NAME_MAX]; /* of the trailer at hand, lower case */
};

/* Decodes `len` bytes; *ret_content bytes of the body then stand at their front, whatever is
 * returned. 0: the body is whole, and what followed it begins at bytes + *ret_taken. HTTP1_E_MORE:
 * all were taken, call again with the bytes behind them. HTTP1_E_REFUSED: 413 as soon as the body
 * is said to grow beyond `max`, before its bytes come. Not to be called again after 0 or
 * HTTP1_E_REFUSED. */
int http1_chunked_decode(struct http1_chunked *chunked, char *bytes, uint32_t len, uint64_t max,
                uint32_t *ret_content, uint32_t *ret_taken, struct http1_refusal *ret_refusal);
