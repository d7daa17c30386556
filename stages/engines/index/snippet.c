/*
 * snippet -- which sentences of a passage to show.
 */
#include "stages/engines/index/snippet.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "stages/engines/index/chunk.h"

static_assert(INDEX_QUERY_TERMS_MAX % 64 == 0, "a set of terms is whole words");

struct unit {
        size_t start;
        size_t end;
        struct snippet_terms terms;
};

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the piece that starts at `from` ends: with its sentence, or, when that is too long to show
 * whole, about half of what can be shown further: behind a blank, or anywhere but inside a
 * character. */
static size_t piece_end(struct index_str text, size_t from, size_t max_bytes) {
        const size_t sentence_end = chunk_sentence_end(text, from);
        const size_t half = max_bytes / 2 < 4 ? 4 : max_bytes / 2;
        size_t end = from + half;

        if (sentence_end - from <= max_bytes || sentence_end <= end)
                return sentence_end;
        for (size_t at = end; at > from + half / 2; at--)
                if (is_blank(text.data[at - 1]))
                        return at;
        while (end > from + 1 && ((unsigned char)text.data[end] & 0xc0) == 0x80)
                end--;
        return end;
}

static int units_make(struct index_str text, size_t max_bytes, snippet_terms_fn *fn, void *ctx,
                struct unit **units, size_t *ret_n) {
        size_t room = 0;
        size_t n = 0;

        for (size_t at = 0; at < text.n_bytes; n++) {
                if (n == room) {
                        room = room ? room * 2 : 32;
                        struct unit *more = reallocarray(*units, room, sizeof(**units));
                        if (!more)
                                return -ENOMEM;
                        *units = more;
                }
                struct unit *unit = &(*units)[n];
                *unit = (struct unit){.start = at, .end = piece_end(text, at, max_bytes)};
                int r = fn((struct index_str){text.data + at, unit->end - at}, &unit->terms, ctx);
                if (r != 0)
                        return r;
                at = unit->end;
        }
        *ret_n = n;
        return 0;
}

/* What `more` adds to `had`, which then has it. */
static double terms_add(struct snippet_terms *had, const struct snippet_terms *more,
                const double *weights, size_t n_weights) {
        double sum = 0;

        for (size_t t = 0; t < n_weights; t++) {
                const uint64_t bit = UINT64_C(1) << (t % 64);

                if (!(had->bits[t / 64] & bit) && (more->bits[t / 64] & bit)) {
                        had->bits[t / 64] |= bit;
                        sum += weights[t];
                }
        }
        return sum;
}

static void best_run(const struct unit *units, size_t n, size_t max_bytes, const double *weights,
                size_t n_weights, size_t *ret_start, size_t *ret_end) {
        double best = -1;

        for (size_t i = 0; i < n; i++) {
                struct snippet_terms had = {0};
                double sum = 0;

                for (size_t j = i; j < n && units[j].end - units[i].start <= max_bytes; j++) {
                        sum += terms_add(&had, &units[j].terms, weights, n_weights);
                        if (sum > best) {
                                best = sum;
                                *ret_start = units[i].start;
                                *ret_end = units[j].end;
                        }
                }
        }
}

int snippet_find(struct index_str text, size_t max_bytes, const double *weights, size_t n_weights,
                snippet_terms_fn *fn, void *ctx, size_t *ret_start, size_t *ret_end) {
        struct unit *units = NULL;
        size_t start = 0;
        size_t end = 0;
        size_t n = 0;
        int r = units_make(text, max_bytes, fn, ctx, &units, &n);

        if (r == 0) {
                best_run(units, n, max_bytes, weights, n_weights, &start, &end);
                while (start < end && is_blank(text.data[start]))
                        start++;
                while (end > start && is_blank(text.data[end - 1]))
                        end--;
                *ret_start = start;
                *ret_end = end;
        }
        free(units);
        return r;
}
