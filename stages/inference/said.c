#include "stages/inference/said.h"

#include <string.h>

#include "stages/inference/request_body.h"

#define OUT_MAX 8u /* bytes that one byte of JSON can settle: U+FFFD and a character */

struct out {
        char at[OUT_MAX];
        uint32_t n;
};

struct run {
        const uint8_t *p;
        uint32_t n;
        bool body; /* else what stands in the place of some of it */
};

void said_init(struct said *s, uint32_t off, uint32_t len) {
        *s = (struct said){.at = off, .end = off + len};
}

static void put(struct out *out, uint32_t c) {
        char *to = out->at + out->n;

        if (c < 0x80) {
                to[0] = (char)c;
                out->n += 1;
        } else if (c < 0x800) {
                to[0] = (char)(0xc0 | c >> 6);
                to[1] = (char)(0x80 | (c & 0x3f));
                out->n += 2;
        } else if (c < 0x10000) {
                to[0] = (char)(0xe0 | c >> 12);
                to[1] = (char)(0x80 | (c >> 6 & 0x3f));
                to[2] = (char)(0x80 | (c & 0x3f));
                out->n += 3;
        } else {
                to[0] = (char)(0xf0 | c >> 18);
                to[1] = (char)(0x80 | (c >> 12 & 0x3f));
                to[2] = (char)(0x80 | (c >> 6 & 0x3f));
                to[3] = (char)(0x80 | (c & 0x3f));
                out->n += 4;
        }
}

/* A high surrogate that no low one follows. */
static void put_lone(struct said *s, struct out *out) {
        if (s->high)
                put(out, 0xfffd);
        s->high = 0;
}

static void unit_end(struct said *s, struct out *out) {
        uint16_t unit = s->unit;

        if (s->high && unit >= 0xdc00 && unit <= 0xdfff) {
                put(out, 0x10000 + ((uint32_t)(s->high - 0xd800) << 10) +
                                                (uint32_t)(unit - 0xdc00));
                s->high = 0;
                return;
        }
        put_lone(s, out);
        if (unit >= 0xd800 && unit <= 0xdbff)
                s->high = unit;
        else
                put(out, unit >= 0xdc00 && unit <= 0xdfff ? 0xfffd : unit);
}

static uint16_t hex_of(uint8_t c) {
        if (c >= '0' && c <= '9')
                return (uint16_t)(c - '0');
        return (uint16_t)((c | 0x20) - 'a' + 10) & 0xf;
}

static void escaped_byte(struct said *s, uint8_t c, struct out *out) {
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *at = c ? strchr(from, c) : NULL;

        s->escape = false;
        if (c == 'u') {
                s->n_hex = 4;
                s->unit = 0;
                return;
        }
        put_lone(s, out);
        out->at[out->n++] = at ? to[at - from] : (char)c;
}

static void text_byte(struct said *s, uint8_t c, struct out *out) {
        if (s->n_hex) {
                s->unit = (uint16_t)(s->unit << 4 | hex_of(c));
                if (--s->n_hex == 0)
                        unit_end(s, out);
        } else if (s->escape) {
                escaped_byte(s, c, out);
        } else if (c == '\\') {
                s->escape = true;
        } else {
                put_lone(s, out);
                if (c == '"')
                        s->state = SAID_OUTSIDE;
                else
                        out->at[out->n++] = (char)c;
        }
}

static void outside_byte(struct said *s, uint8_t c) {
        switch (c) {
        case '"':
                s->state = s->key_next                                      ? SAID_KEY
                           : s->depth <= 1 || (s->depth == 2 && s->is_text) ? SAID_TEXT
                                                                            : SAID_SKIP;
                s->key_len = 0;
                break;
        case '[':
        case '{':
                if (s->depth < UINT8_MAX)
                        s->depth++;
                if (s->depth == 2) {
                        s->part = c == '{';
                        s->is_text = false;
                }
                s->key_next = s->depth == 2 && s->part;
                break;
        case ']':
        case '}':
                if (s->depth)
                        s->depth--;
                s->key_next = false;
                break;
        case ',':
                s->key_next = s->depth == 2 && s->part;
                break;
        default:
                break;
        }
}

/* A string that is not said: a key of a part, or anything else. */
static void other_byte(struct said *s, uint8_t c) {
        if (s->escape) {
                s->escape = false;
        } else if (c == '\\') {
                s->escape = true;
                s->key_len = sizeof(s->key); /* no key that counts is written with escapes */
        } else if (c == '"') {
                if (s->state == SAID_KEY) {
                        s->is_text = s->key_len == 4 && memcmp(s->key, "text", 4) == 0;
                        s->key_next = false;
                }
                s->state = SAID_OUTSIDE;
        } else if (s->key_len < sizeof(s->key)) {
                s->key[s->key_len++] = (char)c;
        }
}

static void take_byte(struct said *s, uint8_t c, struct out *out) {
        switch (s->state) {
        case SAID_OUTSIDE:
                outside_byte(s, c);
                break;
        case SAID_KEY:
        case SAID_SKIP:
                other_byte(s, c);
                break;
        case SAID_TEXT:
                text_byte(s, c, out);
                break;
        }
}

static bool is_space(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Bytes from where s stands on: of the body up to the next that others stand in the place of, or of
 * those. ret->n 0: there are none, and s has moved on. */
static int window(struct said *s, struct flight *f, struct run *ret) {
        struct body_span span;
        struct mr_view instead;
        bool replaced = request_replaced(f, s->at, &s->piece, &span, &instead) &&
                        span.off < s->end && span.len <= s->end - span.off;
        int r;

        *ret = (struct run){.body = true};
        if (replaced && span.off == s->at) {
                ret->body = false;
                ret->n = instead.n - s->instead;
                if (ret->n) {
                        ret->p = (const uint8_t *)instead.p + s->instead;
                        return 0;
                }
                s->at += span.len;
                s->instead = 0;
                return 0;
        }
        r = request_body_window(f, s->at, &ret->p, &ret->n);
        if (r)
                return r == REQUEST_BODY_E_GONE ? SAID_E_GONE : r;
        if (replaced && ret->n > span.off - s->at)
                ret->n = span.off - s->at;
        return 0;
}

int said_piece(struct said *s, struct flight *f, char *to, uint32_t cap, uint32_t *ret_len) {
        struct run run = {.n = 0};
        uint32_t n = 0;
        struct said before;
        bool space = false, between = true; /* between two characters */

        while (s->at < s->end && n + OUT_MAX <= cap) {
                struct out out;
                if (run.n == 0) {
                        int r = window(s, f, &run);
                        if (r)
                                return r;
                        if (run.n == 0)
                                continue;
                }
                if (space && between)
                        before = *s;
                out.n = 0;
                take_byte(s, *run.p++, &out);
                run.n--;
                *(run.body ? &s->at : &s->instead) += 1;
                between = out.n > 0;
                if (!between)
                        continue;
                if (space && !is_space(out.at[0])) {
                        *s = before; /* the next word begins here */
                        break;
                }
                memcpy(to + n, out.at, out.n);
                n += out.n;
                space = is_space(out.at[out.n - 1]);
        }
        if (n == 0)
                return SAID_E_END;
        *ret_len = n;
        return 0;
}
