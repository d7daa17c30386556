#include "stages/rag/duplicates.h"

#include <stdlib.h>

#define SHINGLE_WORDS 4u
#define HASH_START 2166136261u /* FNV-1a */
#define HASH_STEP 16777619u

static bool is_word(unsigned char c) {
        return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c >= 0x80;
}

static uint32_t next_word(const char *text, size_t n, size_t *at) {
        uint32_t hash = HASH_START;

        while (*at < n && !is_word((unsigned char)text[*at]))
                ++*at;
        if (*at == n)
                return 0;
        for (; *at < n && is_word((unsigned char)text[*at]); ++*at) {
                const unsigned char c = (unsigned char)text[*at];
                hash = (hash ^ (c < 0x80 ? c | 0x20 : c)) * HASH_STEP;
        }
        return hash ? hash : 1;
}

static int compare(const void *a, const void *b) {
        const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

/* Sorted, each once. A text of fewer words is one run. */
static uint32_t shingles_of(const char *text, size_t n, uint32_t to[DUPLICATES_SHINGLES]) {
        uint32_t words[SHINGLE_WORDS] = {0}, n_words = 0, n_runs = 0, n_kept = 0, word;
        size_t at = 0;

        while (n_runs < DUPLICATES_SHINGLES && (word = next_word(text, n, &at)) != 0) {
                uint32_t hash = HASH_START;

                words[n_words++ % SHINGLE_WORDS] = word;
                for (uint32_t i = 0; i < SHINGLE_WORDS; i++)
                        hash = (hash ^ words[(n_words + i) % SHINGLE_WORDS]) * HASH_STEP;
                n_runs += n_words > SHINGLE_WORDS || n_words == 1; /* the first one grows to its size */
                to[n_runs - 1] = hash;
        }
        qsort(to, n_runs, sizeof(*to), compare);
        for (uint32_t i = 0; i < n_runs; i++)
                if (i == 0 || to[i] != to[n_kept - 1])
                        to[n_kept++] = to[i];
        return n_kept;
}

/* Does the first say four fifths of the second? */
static bool says(const uint32_t *a, uint32_t n_a, const uint32_t *b, uint32_t n_b) {
        uint32_t n = 0;

        for (uint32_t i = 0, j = 0; i < n_a && j < n_b;) {
                const bool same = a[i] == b[j], less = a[i] < b[j];

                n += same;
                i += same || less;
                j += !less;
        }
        return n_b > 0 && n * 5 >= n_b * 4;
}

bool duplicates_has(struct duplicates *d, const char *text, size_t n) {
        uint32_t *own = d->shingles[d->n_texts], n_own;

        if (d->n_texts == DUPLICATES_TEXTS)
                return false;
        n_own = shingles_of(text, n, own);
        for (uint32_t i = 0; i < d->n_texts; i++)
                if (says(d->shingles[i], d->n[i], own, n_own))
                        return true;
        d->n[d->n_texts++] = n_own;
        return false;
}
