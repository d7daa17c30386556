#include "stages/engines/tokens/tokens.h"

uint64_t tokens_estimate(const char *text, uint64_t n) {
        uint64_t wide = 0;

        for (uint64_t i = 0; i < n; i++)
                wide += (uint8_t)text[i] >> 7;
        return (n - wide + 3) / 4 + (wide + 1) / 2;
}
