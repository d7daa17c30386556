/*
 * sse -- server-sent events out of a byte stream that may be split anywhere.
 *
 * Shape   a byte state machine; the caller feeds bytes and takes one event at a time
 * Units   bytes
 * Owner   the caller owns struct sse and frees it with sse_close(); an event's views live until the
 *         next call
 * Errors  SSE_*, -ENOMEM
 * Limits  a line and the data of an event are at most max_bytes each (SSE_E_TOO_LARGE ends the
 * stream)
 *
 * Source: WHATWG HTML, 9.2 "Server-sent events". Lines end in LF, CR or CRLF; a byte-order mark and
 * comments are skipped; several data lines are joined by LF. Two things are taken that the text
 * does not know: an event without its blank line at the end of the stream (backends leave it out),
 * and a bare "error:" line, which is an event of that name (older llama.cpp).
 *
 *   START -(BOM)-> LINE -(name)-> FIELD -(:)-> COLON -(one space)-> VALUE
 *     any -(CR, LF)-> LINE; LINE -(CR, LF)-> the event is out
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SSE_EVENT_BYTES_MAX (16u << 20)
#define SSE_NAME_MAX 64u
#define SSE_FIELD_MAX 8u

enum sse_result {
        SSE_MORE = 0,    /* all bytes are taken, no event yet */
        SSE_EVENT,       /* *ret is set; call again with what is left */
        SSE_E_TOO_LARGE, /* a line or an event is over the limit: give the stream up */
};

enum sse_state { SSE_START, SSE_LINE, SSE_FIELD, SSE_COLON, SSE_VALUE, SSE_SKIP };
enum sse_field { SSE_FIELD_OTHER, SSE_FIELD_DATA, SSE_FIELD_EVENT, SSE_FIELD_ERROR };

struct sse_event {
        const char *data;
        uint32_t data_len;
        const char *name; /* "" when the stream names none; cut at SSE_NAME_MAX */
        uint32_t name_len;
};

struct sse {
        enum sse_state state;
        enum sse_field field;
        uint32_t max_bytes;
        uint32_t bom;        /* bytes of the mark seen */
        uint32_t line_bytes; /* of the line at hand */
        bool after_cr;       /* an LF now belongs to the CR before it */
        bool has_data;
        bool taken; /* the event was handed out: forget it before going on */
        char *data;
        uint32_t data_len, data_cap;
        char name[SSE_NAME_MAX];
        uint32_t name_len;
        char field_name[SSE_FIELD_MAX];
        uint32_t field_len;
};

void sse_init(struct sse *s, uint32_t max_bytes);
/* Back to the start of a stream; keeps its memory. */
void sse_reset(struct sse *s);
void sse_close(struct sse *s);
/* Takes bytes from *at on and moves it. */
int sse_next(struct sse *s, const char **at, const char *end, struct sse_event *ret);
/* The stream has ended: SSE_EVENT when an event still waited for its blank line. */
int sse_finish(struct sse *s, struct sse_event *ret);
