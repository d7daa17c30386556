/*
 * http_answer -- answers of HTTP/1.1, written into a connection's output.
 *
 * Shape   a whole answer with its length, or a head and then pieces (chunks, where HTTP/1.1 is spoken)
 * Units   bytes
 * Owner   the connection's output
 * Errors  false, or nothing done: the connection is closed
 * Limits  lines <= HTTP_LINES_MAX
 */
#pragma once

#include "stages/engines/json/json.h"
#include "stages/gateway/http.h"

#define HTTP_LINES_MAX 1024u

/* Header lines that are not the transport's own, each with its CRLF. */
struct http_lines {
        struct json_buf b;
        char at[HTTP_LINES_MAX];
};
void http_lines_init(struct http_lines *lines);
/* A value that is none, because it holds unprintable characters, is left out. */
void http_line(struct http_lines *lines, const char *name, struct mr_view value);
void http_line_u64(struct http_lines *lines, const char *name, uint64_t value);

struct http_body {
        struct conn *conn;
        struct json_buf b; /* the body is put there */
        uint32_t head_len, length_at;
};
/* lines NULL: none. bound: of the body. */
bool http_answer_begin(struct http_body *ret, struct conn *c, unsigned status, const char *type,
                const struct http_lines *lines, uint32_t bound);
void http_answer_end(struct http_body *body);
/* All of it, and http_done(). */
void http_answer_text(struct conn *c, unsigned status, const char *type,
                const struct http_lines *lines, const char *text);

/* A stream of server-sent events: its header lines are added to `lines`. */
bool http_events_begin(struct conn *c, struct http_lines *lines);
/* A comment, which no client takes for an event. */
void http_events_ping(struct conn *c);
bool http_piece_begin(struct conn *c, struct json_buf *ret, uint32_t bound);
void http_piece_end(struct conn *c, const struct json_buf *piece);
/* The last chunk. */
void http_stream_end(struct conn *c);

/* An error in OpenAI's form with its code's status, how to go on from it, and http_done(). */
void http_fail(struct conn *c, const struct openai_error *error, struct http_lines *lines,
                uint64_t retry_after_ms);
/* The same without a word on retries. status 0: the code's own. lines NULL: none. */
void http_refuse(struct conn *c, unsigned status, enum mr_error code, const char *message,
                const struct http_lines *lines);
/* Retry-After, retry-after-ms, x-should-retry. */
void http_retry_lines(struct http_lines *lines, const struct openai_error *error,
                uint64_t retry_after_ms);
