/*
 * identifier -- the words that names in code are made of.
 */
#include "stages/engines/index/identifier.h"

#include <stdbool.h>

static bool is_lower(char c) {
        return c >= 'a' && c <= 'z';
}

static bool is_upper(char c) {
        return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* Of a word: letters of other scripts too, though they have no seams that could be seen here. */
static bool is_word(char c) {
        return is_lower(c) || is_upper(c) || is_digit(c) || c == '_' || (c & 0x80);
}

/* Does a part of the word start at `at`? "HTTPHeader" has its seam before the last capital, but
 * "CPUs" is one word. */
static bool is_seam(const char *word, size_t n, size_t at) {
        if (at == 0 || !is_upper(word[at]))
                return false;
        if (is_lower(word[at - 1]) || is_digit(word[at - 1]))
                return true;
        return is_upper(word[at - 1]) && at + 2 < n && is_lower(word[at + 1]) &&
               is_lower(word[at + 2]);
}

static bool has_seam(const char *word, size_t n) {
        bool underscore = false;

        for (size_t i = 0; i < n; i++) {
                if (is_seam(word, n, i))
                        return true;
                underscore = underscore || (word[i] == '_' && i > 0 && i + 1 < n);
        }
        return underscore;
}

static int tell_parts(const char *word, size_t n, int (*fn)(struct index_str part, void *ctx),
                void *ctx) {
        size_t start = 0;

        for (size_t at = 0; at <= n; at++) {
                const bool ends = at == n || word[at] == '_' || is_seam(word, n, at);
                int r = 0;

                if (!ends)
                        continue;
                if (at - start > 1)
                        r = fn((struct index_str){word + start, at - start}, ctx);
                if (r != 0)
                        return r;
                start = at < n && word[at] == '_' ? at + 1 : at;
        }
        return 0;
}

int identifier_parts(
                struct index_str text, int (*fn)(struct index_str part, void *ctx), void *ctx) {
        size_t at = 0;

        while (at < text.n_bytes) {
                size_t end = at;
                int r = 0;

                while (end < text.n_bytes && is_word(text.data[end]))
                        end++;
                if (end > at && has_seam(text.data + at, end - at))
                        r = tell_parts(text.data + at, end - at, fn, ctx);
                if (r != 0)
                        return r;
                at = end + 1;
        }
        return 0;
}
