#include "stages/common/http1_chunked.h"

#include <assert.h>
#include <string.h>

#include "stages/common/http1_chars.h"

enum chunked_state {
        CHUNKED_SIZE, /* the start */
        CHUNKED_EXTENSION,
        CHUNKED_SIZE_LF,
        CHUNKED_DATA,
        CHUNKED_DATA_CR, /* behind the last byte of a chunk */
        CHUNKED_DATA_LF,
        CHUNKED_LINE, /* the first byte of a trailer, or of the empty line */
        CHUNKED_NAME,
        CHUNKED_VALUE,
        CHUNKED_LINE_LF,
        CHUNKED_LAST_LF,
        CHUNKED_END,
        CHUNKED_STATES_N
};

static int refuse(struct http1_refusal *ret, unsigned status, const char *why) {
        *ret = (struct http1_refusal){status, why};
        return HTTP1_E_REFUSED;
}

static void enter(struct http1_chunked *c, enum chunked_state state) {
        c->state = state;
        c->n_part = 0;
}

/* ---- a size and its line ---- */

static int digit(unsigned char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int step_size(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        int value = digit(byte);

        if (value >= 0) {
                if (c->n_part++ == HTTP1_CHUNK_DIGITS)
                        return refuse(ret, 400, "a chunk's size has too many digits");
                c->left = c->left << 4 | (uint64_t)value;
                return 0;
        }
        if (c->n_part == 0 || (byte != ';' && byte != '\r'))
                return refuse(ret, 400, "a chunk's size is not a hexadecimal number");
        enter(c, byte == ';' ? CHUNKED_EXTENSION : CHUNKED_SIZE_LF);
        return 0;
}

static int step_extension(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte == '\r') {
                enter(c, CHUNKED_SIZE_LF);
                return 0;
        }
        if (!http1_is_text(byte))
                return refuse(ret, 400, "a control character in a chunk's extension");
        if (c->n_part++ == HTTP1_CHUNK_EXTENSION_MAX || c->n_extra++ == HTTP1_CHUNK_EXTENSIONS_MAX)
                return refuse(ret, 400, "the extensions of chunks are too long");
        return 0;
}

static int step_size_lf(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte != '\n')
                return refuse(ret, 400, "a chunk's size does not end in CRLF");
        if (c->left == 0)
                c->n_extra = 0;
        enter(c, c->left > 0 ? CHUNKED_DATA : CHUNKED_LINE);
        return 0;
}

/* ---- the end of data ---- */

static int step_data_cr(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte != '\r')
                return refuse(ret, 400, "a chunk does not end where its size says");
        enter(c, CHUNKED_DATA_LF);
        return 0;
}

static int step_data_lf(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte != '\n')
                return refuse(ret, 400, "a chunk does not end where its size says");
        enter(c, CHUNKED_SIZE);
        return 0;
}

/* ---- trailers ---- */

static bool is_forbidden(const char *name, uint32_t n) {
        static const char *const names[] = {"authorization", "cache-control", "connection",
                        "content-encoding", "content-length", "content-range", "content-type",
                        "cookie", "expect", "forwarded", "host", "keep-alive", "max-forwards",
                        "origin", "pragma", "proxy-authorization", "range", "te", "trailer",
                        "transfer-encoding", "upgrade", "x-api-key"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
                        return true;
        return false;
}

static int step_name(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte == ':' && c->n_part > 0) {
                if (is_forbidden(c->name, c->n_part))
                        return refuse(ret, 400, "a trailer that may stand in the head only");
                enter(c, CHUNKED_VALUE);
                return 0;
        }
        if (!http1_is_token(byte))
                return refuse(ret, 400,
                                "a trailer's name has a character that may not stand there");
        if (c->n_part == HTTP1_TRAILER_NAME_MAX)
                return refuse(ret, 431, "a trailer's name is too long");
        c->name[c->n_part++] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
        return 0;
}

static int step_line(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte == '\r') {
                enter(c, CHUNKED_LAST_LF);
                return 0;
        }
        enter(c, CHUNKED_NAME);
        return step_name(c, byte, ret);
}

static int step_value(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte == '\r') {
                enter(c, CHUNKED_LINE_LF);
                return 0;
        }
        return http1_is_text(byte) ? 0 : refuse(ret, 400, "a control character in a trailer");
}

static int step_line_lf(struct http1_chunked *c, unsigned char byte, struct http1_refusal *ret) {
        if (byte != '\n')
                return refuse(ret, 400, "a carriage return that ends no trailer");
        enter(c, c->state == CHUNKED_LAST_LF ? CHUNKED_END : CHUNKED_LINE);
        return 0;
}

/* ---- all of it ---- */

/* Every byte but those of data. */
static int step(struct http1_chunked *c, unsigned char byte, uint64_t max,
                struct http1_refusal *ret) {
        static int (*const steps[CHUNKED_STATES_N])(
                        struct http1_chunked *, unsigned char, struct http1_refusal *) = {
                        [CHUNKED_SIZE] = step_size,
                        [CHUNKED_EXTENSION] = step_extension,
                        [CHUNKED_SIZE_LF] = step_size_lf,
                        [CHUNKED_DATA_CR] = step_data_cr,
                        [CHUNKED_DATA_LF] = step_data_lf,
                        [CHUNKED_LINE] = step_line,
                        [CHUNKED_NAME] = step_name,
                        [CHUNKED_VALUE] = step_value,
                        [CHUNKED_LINE_LF] = step_line_lf,
                        [CHUNKED_LAST_LF] = step_line_lf,
        };
        bool trailer = c->state >= CHUNKED_LINE;
        int r;

        if (trailer && c->n_extra++ == HTTP1_TRAILERS_MAX)
                return refuse(ret, 431, "the trailers are too long");
        r = steps[c->state](c, byte, ret);
        if (r == 0 && c->state == CHUNKED_DATA && c->left > max - c->content)
                return refuse(ret, 413, "the body is larger than what is allowed");
        return r;
}

/* Moves what is there of the chunk at hand to the front; how much. */
static uint32_t take_data(struct http1_chunked *c, char *to, const char *from, uint32_t len) {
        uint32_t n = c->left < len ? (uint32_t)c->left : len;

        if (to != from)
                memmove(to, from, n);
        c->content += n;
        c->left -= n;
        if (c->left == 0)
                enter(c, CHUNKED_DATA_CR);
        return n;
}

int http1_chunked_decode(struct http1_chunked *c, char *bytes, uint32_t len, uint64_t max,
                uint32_t *ret_content, uint32_t *ret_taken, struct http1_refusal *ret) {
        uint32_t at = 0, content = 0;
        int r = 0;

        assert(c->state != CHUNKED_END && c->content <= max);
        while (at < len && r == 0 && c->state != CHUNKED_END) {
                if (c->state == CHUNKED_DATA) {
                        uint32_t n = take_data(c, bytes + content, bytes + at, len - at);
                        content += n;
                        at += n;
                } else {
                        r = step(c, (unsigned char)bytes[at++], max, ret);
                }
        }
        *ret_content = content;
        *ret_taken = at;
        return r ? r : c->state == CHUNKED_END ? 0 : HTTP1_E_MORE;
}
