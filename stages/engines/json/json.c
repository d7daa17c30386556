#include "stages/engines/json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_put(struct json_buf *b, const char *p, uint32_t n) {
        if (n > b->cap - b->len) {
                b->full = true;
                return;
        }
        memcpy(b->at + b->len, p, n);
        b->len += n;
}

void json_put_text(struct json_buf *b, const char *text) {
        json_put(b, text, (uint32_t)strlen(text));
}

/* What must be escaped: the letter after the backslash, 'u' for the long form, 0 for as it stands.
 */
static char escape_of(unsigned char c) {
        switch (c) {
        case '"':
                return '"';
        case '\\':
                return '\\';
        case '\n':
                return 'n';
        case '\r':
                return 'r';
        case '\t':
                return 't';
        default:
                return c < 0x20 ? 'u' : 0;
        }
}

void json_put_escaped(struct json_buf *b, const char *p, uint32_t n) {
        uint32_t plain = 0;

        for (uint32_t i = 0; i < n; i++) {
                char letter = escape_of((unsigned char)p[i]);

                if (!letter)
                        continue;
                json_put(b, p + plain, i - plain);
                plain = i + 1;
                if (letter == 'u') {
                        static const char hex[] = "0123456789abcdef";
                        char out[6] = {'\\', 'u', '0', '0', hex[p[i] >> 4 & 15], hex[p[i] & 15]};

                        json_put(b, out, 6);
                } else {
                        json_put(b, (char[2]){'\\', letter}, 2);
                }
        }
        json_put(b, p + plain, n - plain);
}

void json_put_mended(struct json_buf *b, const char *p, uint32_t n) {
        while (n > 0) {
                uint32_t good = json_utf8_bad(p, n);

                json_put_escaped(b, p, good);
                if (good == n)
                        return;
                json_put_text(b, "\xef\xbf\xbd");
                p += good + 1;
                n -= good + 1;
        }
}

void json_put_string(struct json_buf *b, const char *p, uint32_t n) {
        json_put(b, "\"", 1);
        json_put_escaped(b, p, n);
        json_put(b, "\"", 1);
}

/* Not by printf: an answer has ten of them. */
void json_put_u64(struct json_buf *b, uint64_t v) {
        char text[20];
        uint32_t at = sizeof(text);

        do {
                text[--at] = (char)('0' + v % 10);
                v /= 10;
        } while (v > 0);
        json_put(b, text + at, (uint32_t)sizeof(text) - at);
}

void json_put_i64(struct json_buf *b, int64_t v) {
        if (v < 0)
                json_put(b, "-", 1);
        json_put_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void json_put_f64(struct json_buf *b, double v) {
        char text[40];
        int n = 0;

        for (int digits = 15; digits <= 17; digits++) {
                n = snprintf(text, sizeof(text), "%.*g", digits, v);
                if (strtod(text, NULL) == v)
                        break;
        }
        json_put(b, text, (uint32_t)n);
}

/* Bytes of the character that starts at p, 0 when it is not UTF-8 (Unicode 15, table 3-7). */
static uint32_t utf8_char(const unsigned char *p, uint32_t left) {
        uint32_t n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        unsigned char low = 0x80, high = 0xbf;

        if (p[0] < 0x80)
                return 1;
        if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
                return 0;
        if (p[0] == 0xe0)
                low = 0xa0;
        else if (p[0] == 0xed)
                high = 0x9f;
        else if (p[0] == 0xf0)
                low = 0x90;
        else if (p[0] == 0xf4)
                high = 0x8f;
        if (p[1] < low || p[1] > high)
                return 0;
        for (uint32_t i = 2; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        return n;
}

uint32_t json_utf8_bad(const char *p, uint32_t n) {
        uint32_t i = 0;

        while (i < n) {
                uint64_t eight;
                uint32_t step;

                if (n - i >= 8) {
                        memcpy(&eight, p + i, 8);
                        if (!(eight & 0x8080808080808080ull)) {
                                i += 8;
                                continue;
                        }
                }
                step = utf8_char((const unsigned char *)p + i, n - i);
                if (!step)
                        return i;
                i += step;
        }
        return n;
}

uint32_t json_utf8_cut(const char *p, uint32_t n, uint32_t max) {
        if (n <= max)
                return n;
        while (max > 0 && ((unsigned char)p[max] & 0xc0) == 0x80)
                max--;
        return max;
}

static int hex4(const char *p, uint32_t left, uint32_t *ret) {
        uint32_t v = 0;

        if (left < 4)
                return -EPROTO;
        for (int i = 0; i < 4; i++) {
                char c = p[i];

                v <<= 4;
                if (c >= '0' && c <= '9')
                        v |= (uint32_t)(c - '0');
                else if ((c | 32) >= 'a' && (c | 32) <= 'f')
                        v |= (uint32_t)((c | 32) - 'a' + 10);
                else
                        return -EPROTO;
        }
        *ret = v;
        return 0;
}

static uint32_t utf8_encode(uint32_t c, char to[static 4]) {
        if (c < 0x80) {
                to[0] = (char)c;
                return 1;
        }
        if (c < 0x800) {
                to[0] = (char)(0xc0 | c >> 6);
                to[1] = (char)(0x80 | (c & 63));
                return 2;
        }
        if (c < 0x10000) {
                to[0] = (char)(0xe0 | c >> 12);
                to[1] = (char)(0x80 | (c >> 6 & 63));
                to[2] = (char)(0x80 | (c & 63));
                return 3;
        }
        to[0] = (char)(0xf0 | c >> 18);
        to[1] = (char)(0x80 | (c >> 12 & 63));
        to[2] = (char)(0x80 | (c >> 6 & 63));
        to[3] = (char)(0x80 | (c & 63));
        return 4;
}

/* `u` and what follows; a lone surrogate becomes U+FFFD. *ret_used counts from the `u`. */
static int unescape_unicode(const char *p, uint32_t left, uint32_t *ret_char, uint32_t *ret_used) {
        uint32_t c, low;

        if (hex4(p + 1, left - 1, &c) < 0)
                return -EPROTO;
        *ret_used = 5;
        if (c >= 0xd800 && c < 0xdc00 && left >= 11 && p[5] == '\\' && p[6] == 'u' &&
                        hex4(p + 7, left - 7, &low) == 0 && low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                *ret_used = 11;
        }
        *ret_char = c >= 0xd800 && c < 0xe000 ? 0xfffd : c;
        return 0;
}

int json_unescape_one(const char *p, uint32_t left, char to[static JSON_CHAR_MAX], uint32_t *ret_n,
                uint32_t *ret_used) {
        static const char letters[] = "\"\\/bfnrt";
        static const char values[] = "\"\\/\b\f\n\r\t";
        const char *hit;
        uint32_t c;

        if (left == 0)
                return -EPROTO;
        if (p[0] == 'u') {
                if (unescape_unicode(p, left, &c, ret_used) < 0)
                        return -EPROTO;
                *ret_n = utf8_encode(c, to);
                return 0;
        }
        hit = p[0] ? strchr(letters, p[0]) : NULL;
        if (!hit)
                return -EPROTO;
        to[0] = values[hit - letters];
        *ret_n = 1;
        *ret_used = 1;
        return 0;
}

int json_unescape(const char *p, uint32_t n, char *to, uint32_t cap, uint32_t *ret_len) {
        uint32_t len = 0, i = 1;

        if (n < 2 || p[0] != '"' || p[n - 1] != '"')
                return -EPROTO;
        while (i < n - 1) {
                char escaped[4];
                const char *from = p + i;
                uint32_t width = 1, used = 1;

                if (p[i] == '"')
                        return -EPROTO;
                if (p[i] == '\\') {
                        if (json_unescape_one(p + i + 1, n - 2 - i, escaped, &width, &used) < 0)
                                return -EPROTO;
                        from = escaped;
                        used++;
                }
                if (width > cap - len)
                        break;
                memcpy(to + len, from, width);
                len += width;
                i += used;
        }
        /* A raw character may have been cut where the buffer ended. */
        if (i < n - 1 && ((unsigned char)p[i] & 0xc0) == 0x80) {
                while (len > 0 && ((unsigned char)to[len - 1] & 0xc0) == 0x80)
                        len--;
                if (len > 0)
                        len--;
        }
        *ret_len = len;
        return 0;
}
