#include "stages/rag/plain.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_invisible(uint32_t c) {
        static const uint32_t ranges[][2] = {{0x7f, 0x9f}, {0xad, 0xad}, {0x34f, 0x34f},
                        {0x61c, 0x61c}, {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f},
                        {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164},
                        {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb},
                        {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};

        if (c < 0x20)
                return c != '\t' && c != '\n' && c != '\r';
        for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges) && c >= ranges[i][0]; i++)
                if (c <= ranges[i][1])
                        return true;
        return false;
}

/* Bytes of the character at p, and which one it is; what is none is one byte of its own. */
static size_t character(const unsigned char *p, size_t n, uint32_t *ret) {
        const size_t len = p[0] < 0xc2 || p[0] > 0xf4 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        uint32_t c = p[0] & (0x7fu >> len);

        *ret = 0xfffd;
        if (len == 1 || len > n)
                return 1;
        for (size_t i = 1; i < len; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 1;
                c = c << 6 | (p[i] & 0x3f);
        }
        *ret = c;
        return len;
}

size_t plain_copy(char *to, const char *text, size_t n) {
        size_t at = 0, kept = 0;

        while (at < n) {
                const unsigned char *p = (const unsigned char *)text + at;
                uint32_t c = p[0];

                if (c >= ' ' && c < 0x7f) { /* nearly all of them */
                        to[kept++] = text[at++];
                        continue;
                }
                const size_t len = c < 0x80 ? 1 : character(p, n - at, &c);

                if (!is_invisible(c)) {
                        memmove(to + kept, p, len);
                        kept += len;
                }
                at += len;
        }
        return kept;
}
