/* What a service of vectors or scores may say: nothing of it leads outside of what was asked for. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/vectors/reply.h"
#include "stages/engines/vectors/vectors.h"

#define TEXTS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *bytes = (const char *)data;
        double scores[TEXTS];
        char text[48];
        float *vectors = NULL;
        uint32_t dimension = 0;

        if (reply_vectors(bytes, size, TEXTS, NULL, &dimension, &vectors) == 0) {
                if (dimension == 0 || dimension > VECTORS_DIMENSION_MAX)
                        abort();
                for (uint32_t i = 0; i < TEXTS * dimension; i++)
                        if (!isfinite(vectors[i]))
                                abort();
                free(vectors);
        }
        (void)reply_scores(bytes, size, TEXTS, NULL, scores);
        for (uint32_t i = 0; i < TEXTS; i++)
                if (isnan(scores[i]))
                        abort();
        reply_complaint(bytes, size, text, sizeof(text));
        if (strlen(text) >= sizeof(text))
                abort();
        return 0;
}
