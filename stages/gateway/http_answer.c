#include "stages/gateway/http_answer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "stages/common/clock.h"

/* Of a head: what stands there beside lines and the request's own id and origin. */
#define HEAD_BOUND 512u
#define CHUNK_HEAD 10u /* eight digits and their end */
#define CHUNK_END 2u
#define LENGTH_DIGITS 10u

/* ---- header lines ---- */

void http_lines_init(struct http_lines *lines) {
        lines->b = (struct json_buf){.at = lines->at, .cap = sizeof(lines->at)};
}

/* An id that was refused for it may hold what ends a line. */
static bool is_value(struct mr_view text) {
        for (uint32_t i = 0; i < text.n; i++)
                if ((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f)
                        return false;
        return true;
}

void http_line(struct http_lines *lines, const char *name, struct mr_view value) {
        if (!is_value(value))
                return;
        json_put_text(&lines->b, name);
        json_put(&lines->b, ": ", 2);
        json_put(&lines->b, value.p, value.n);
        json_put(&lines->b, "\r\n", 2);
}

void http_line_u64(struct http_lines *lines, const char *name, uint64_t value) {
        json_put_text(&lines->b, name);
        json_put(&lines->b, ": ", 2);
        json_put_u64(&lines->b, value);
        json_put(&lines->b, "\r\n", 2);
}

void http_retry_lines(struct http_lines *lines, const struct openai_error *error,
                uint64_t retry_after_ms) {
        if (retry_after_ms != ASK_NO_RETRY) {
                http_line_u64(lines, "Retry-After", (retry_after_ms + 999) / 1000);
                http_line_u64(lines, "retry-after-ms", retry_after_ms);
        }
        http_line(lines, "x-should-retry",
                        openai_error_retryable(error) ? text_view("true") : text_view("false"));
}

/* ---- heads ---- */

/* The clock is looked at once a turn, the text is made once a second. */
static const char *date(struct gateway *gw) {
        struct http_surface *http = &gw->http;
        uint64_t now_s = loop_now_ns(gw->w->loop) / NS_PER_S;
        time_t wall;
        struct tm tm;

        if (now_s == http->date_at_s)
                return http->date;
        wall = time(NULL);
        http->date_at_s = now_s;
        if (!gmtime_r(&wall, &tm) || strftime(http->date, sizeof(http->date),
                                                     "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
                http->date[0] = '\0';
        return http->date;
}

static uint32_t head_bound(const struct http *h, const struct http_lines *lines) {
        return HEAD_BOUND + h->request_id_len + h->lines_len + (lines ? lines->b.len : 0);
}

static void put_status(struct json_buf *b, struct conn *c, unsigned status) {
        json_put_text(b, "HTTP/1.1 ");
        json_put_u64(b, status);
        json_put(b, " ", 1);
        json_put_text(b, http1_status_text(status));
        json_put_text(b, "\r\nDate: ");
        json_put_text(b, date(gateway_of(c)));
        json_put(b, "\r\n", 2);
}

static void put_lines(struct json_buf *b, const struct http *h, const struct http_lines *lines) {
        if (lines)
                json_put(b, lines->at, lines->b.len);
        if (h->request_id_len > 0) {
                json_put_text(b, "x-request-id: ");
                json_put(b, h->request_id, h->request_id_len);
                json_put(b, "\r\n", 2);
        }
        if (h->lines_len > 0)
                json_put(b, h->lines, h->lines_len);
        if (h->last)
                json_put_text(b, "Connection: close\r\n");
        else if (h->minor0)
                json_put_text(b, "Connection: keep-alive\r\n");
}

static void put_type(struct json_buf *b, const char *type) {
        if (!type)
                return;
        json_put_text(b, "Content-Type: ");
        json_put_text(b, type);
        json_put(b, "\r\n", 2);
}

/* ---- whole answers ---- */

bool http_answer_begin(struct http_body *ret, struct conn *c, unsigned status, const char *type,
                const struct http_lines *lines, uint32_t bound) {
        const struct http *h = http_of(c);
        uint32_t head = head_bound(h, lines);
        uint8_t *to = bound < UINT32_MAX / 2 ? conn_reserve(c, head + bound) : NULL;
        struct json_buf b = {.at = (char *)to, .cap = head};

        if (!to)
                return false;
        put_status(&b, c, status);
        put_type(&b, type);
        put_lines(&b, h, lines);
        *ret = (struct http_body){.conn = c};
        if (status != 204) {
                json_put_text(&b, "Content-Length: ");
                ret->length_at = b.len;
                json_put(&b, "          ", LENGTH_DIGITS);
                json_put(&b, "\r\n", 2);
        }
        json_put(&b, "\r\n", 2);
        ret->head_len = b.len;
        ret->b = (struct json_buf){.at = (char *)to + b.len, .cap = head + bound - b.len};
        return true;
}

void http_answer_end(struct http_body *body) {
        char *head = body->b.at - body->head_len;
        uint32_t left = body->b.len;

        for (uint32_t i = LENGTH_DIGITS; body->length_at && i > 0; i--) {
                head[body->length_at + i - 1] = (char)('0' + left % 10);
                left /= 10;
                if (left == 0)
                        break;
        }
        conn_wrote(body->conn,
                        body->head_len + (http_of(body->conn)->is_head ? 0 : body->b.len));
}

void http_answer_text(struct conn *c, unsigned status, const char *type,
                const struct http_lines *lines, const char *text) {
        struct http_body body;

        if (!http_answer_begin(&body, c, status, type, lines, (uint32_t)strlen(text)))
                return;
        json_put_text(&body.b, text);
        http_answer_end(&body);
        http_done(c);
}

/* ---- streams ---- */

bool http_events_begin(struct conn *c, struct http_lines *lines) {
        struct http *h = http_of(c);
        struct json_buf b;
        uint32_t bound;
        uint8_t *to;

        /* Neither a cache nor a proxy is to hold events back, or to change them. */
        json_put_text(&lines->b, "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n");
        bound = head_bound(h, lines);
        to = conn_reserve(c, bound);
        b = (struct json_buf){.at = (char *)to, .cap = bound};
        if (!to)
                return false;
        if (h->minor0)
                h->last = true; /* its end is the connection's */
        put_status(&b, c, 200);
        put_type(&b, "text/event-stream; charset=utf-8");
        put_lines(&b, h, lines);
        if (!h->minor0)
                json_put_text(&b, "Transfer-Encoding: chunked\r\n");
        json_put(&b, "\r\n", 2);
        conn_wrote(c, b.len);
        h->streaming = true;
        return true;
}

bool http_piece_begin(struct conn *c, struct json_buf *ret, uint32_t bound) {
        uint8_t *to = bound < UINT32_MAX / 2 ? conn_reserve(c, CHUNK_HEAD + bound + CHUNK_END)
                                             : NULL;

        if (!to)
                return false;
        *ret = (struct json_buf){.at = (char *)to + CHUNK_HEAD, .cap = bound};
        return true;
}

void http_piece_end(struct conn *c, const struct json_buf *piece) {
        static const char hex[] = "0123456789abcdef";
        char *at = piece->at - CHUNK_HEAD;
        uint32_t digits = 1;

        if (piece->len == 0 || http_of(c)->is_head)
                return; /* that would be the last chunk; there is no body */
        if (http_of(c)->minor0) {
                memmove(at, piece->at, piece->len);
                conn_wrote(c, piece->len);
                return;
        }
        while (digits < 8 && piece->len >> 4 * digits)
                digits++;
        for (uint32_t i = 0; i < digits; i++)
                at[i] = hex[piece->len >> 4 * (digits - 1 - i) & 15];
        memcpy(at + digits, "\r\n", 2);
        memmove(at + digits + 2, piece->at, piece->len);
        memcpy(at + digits + 2 + piece->len, "\r\n", CHUNK_END);
        conn_wrote(c, digits + 2 + piece->len + CHUNK_END);
}

void http_events_ping(struct conn *c) {
        static const char comment[] = ": ping\n\n";
        struct json_buf b;

        if (!http_piece_begin(c, &b, sizeof(comment) - 1))
                return;
        json_put(&b, comment, sizeof(comment) - 1);
        http_piece_end(c, &b);
}

void http_stream_end(struct conn *c) {
        static const char end[] = "0\r\n\r\n";
        const struct http *h = http_of(c);
        uint8_t *to = h->minor0 || h->is_head ? NULL : conn_reserve(c, sizeof(end) - 1);

        if (!to)
                return;
        memcpy(to, end, sizeof(end) - 1);
        conn_wrote(c, sizeof(end) - 1);
}

/* ---- errors ---- */

static void answer_error(struct conn *c, unsigned status, const struct openai_error *error,
                const struct http_lines *lines) {
        struct http_body body;

        if (!http_answer_begin(&body, c, status, "application/json", lines,
                            openai_error_bound(error)))
                return;
        openai_error_body(&body.b, error);
        http_answer_end(&body);
        http_done(c);
}

void http_fail(struct conn *c, const struct openai_error *error, struct http_lines *lines,
                uint64_t retry_after_ms) {
        http_retry_lines(lines, error, retry_after_ms);
        answer_error(c, mr_error_status(error->code), error, lines);
}

void http_refuse(struct conn *c, unsigned status, enum mr_error code, const char *message,
                const struct http_lines *lines) {
        struct openai_error error = {.code = code, .message = text_view(message)};

        answer_error(c, status ? status : mr_error_status(code), &error, lines);
}
