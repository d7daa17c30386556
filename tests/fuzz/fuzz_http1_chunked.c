/* http1_chunked_decode: however a body is cut into pieces, it says the same, and no more bytes come out
 * than went in. */
#include <stdlib.h>
#include <string.h>

#include "stages/common/http1_chunked.h"

#define CONTENT_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct outcome {
        int r;
        unsigned status;
        uint32_t taken;
        uint64_t content, hash;
};

/* Pieces of `step` bytes; 0: of lengths that a generator makes of the input. */
static struct outcome run(const uint8_t *bytes, uint32_t n, uint32_t step) {
        struct outcome o = {.r = HTTP1_E_MORE, .hash = 1};
        struct http1_chunked chunked = {0};
        uint32_t random = n;

        for (uint32_t from = 0, len; from < n && o.r == HTTP1_E_MORE; from += len) {
                struct http1_refusal why = {0};
                uint32_t content, taken;

                random = random * 1664525 + 1013904223;
                len = step ? step : 1 + random % 37;
                if (len > n - from)
                        len = n - from;
                char *piece = malloc(len);
                if (!piece)
                        abort();
                memcpy(piece, bytes + from, len);
                o.r = http1_chunked_decode(&chunked, piece, len, CONTENT_MAX, &content, &taken, &why);
                if (content > taken || taken > len || (o.r == HTTP1_E_MORE && taken != len))
                        abort();
                if (o.r == HTTP1_E_REFUSED && (why.status < 400 || why.status > 499 || !why.why))
                        abort();
                for (uint32_t i = 0; i < content; i++)
                        o.hash = o.hash * 31 + (uint8_t)piece[i];
                o.status = why.status;
                o.taken += taken;
                o.content += content;
                free(piece);
        }
        if (o.content > CONTENT_MAX || o.content != chunked.content)
                abort();
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        struct outcome whole;

        if (n > 4 * CONTENT_MAX)
                return 0;
        whole = run(bytes, (uint32_t)n, (uint32_t)n + 1);
        if (whole.r == 0 && (whole.taken < 5 || memcmp(bytes + whole.taken - 2, "\r\n", 2) != 0))
                abort();
        for (uint32_t step = 0; step < 6; step++) {
                struct outcome cut = run(bytes, (uint32_t)n, step);
                if (cut.r != whole.r || cut.status != whole.status || cut.taken != whole.taken ||
                                cut.content != whole.content || cut.hash != whole.hash)
                        abort();
        }
        return 0;
}
