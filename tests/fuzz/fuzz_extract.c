/* A question and documents, split at NUL: every pick lies in its document, in order. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/extract/extract.h"

#define DOCUMENTS_MAX 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct extract_text texts[DOCUMENTS_MAX + 1] = {{.p = "", .n = 0}};
        struct extract_document docs[DOCUMENTS_MAX];
        struct extract_pick picks[EXTRACT_PICKS_MAX];
        const char *at = (const char *)data, *end = at + size;
        uint32_t n = 0, got;

        while (n <= DOCUMENTS_MAX && at < end) {
                const char *stop = memchr(at, 0, (size_t)(end - at));
                stop = stop ? stop : end;
                texts[n++] = (struct extract_text){at, (uint32_t)(stop - at)};
                at = stop < end ? stop + 1 : end;
        }
        for (uint32_t i = 1; i < n; i++)
                docs[i - 1] = (struct extract_document){.text = texts[i], .title = texts[n - i]};
        got = extract_best(&texts[0], docs, n ? n - 1 : 0, picks);
        for (uint32_t i = 0; i < got; i++) {
                if (picks[i].document + 1 >= n || picks[i].from >= picks[i].to ||
                                picks[i].to > texts[picks[i].document + 1].n)
                        abort();
                if (i && (picks[i].document < picks[i - 1].document ||
                                         (picks[i].document == picks[i - 1].document &&
                                                         picks[i].from < picks[i - 1].to)))
                        abort();
        }
        return 0;
}
