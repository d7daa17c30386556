/*
 * sentence -- where a sentence ends; by its look, since a text names no language.
 */
#include "stages/engines/index/chunk.h"

#include <stdbool.h>
#include <string.h>

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_lower(char c) {
        return c >= 'a' && c <= 'z';
}

static bool is_letter(char c) {
        return is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* Words whose stop is no end, as they are written before a name or a number. */
static bool is_abbreviation(const char *word, size_t n) {
        static const char *const known[] = {"Dr", "Eq", "Eqs", "Fig", "Figs", "Jr", "Mr", "Mrs",
                        "Ms", "No", "Prof", "Ref", "Refs", "Sec", "Sr", "St", "al", "approx", "cf",
                        "e.g", "eg", "etc", "i.e", "ie", "resp", "vol", "vs"};

        if (n == 1 && is_letter(word[0]))
                return true; /* an initial */
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
                if (strlen(known[i]) == n && memcmp(known[i], word, n) == 0)
                        return true;
        return false;
}

/* `at` is a stop: does the word before it want one? */
static bool stop_belongs_to_word(struct index_str text, size_t from, size_t at) {
        size_t start = at;

        while (start > from && at - start < 8 &&
                        (is_letter(text.data[start - 1]) || text.data[start - 1] == '.'))
                start--;
        return is_abbreviation(text.data + start, at - start);
}

/* Length of a full stop of Chinese or Japanese at `at`, which needs no space behind it. */
static size_t wide_stop(struct index_str text, size_t at) {
        static const char *const stops[] = {"\xe3\x80\x82", "\xef\xbc\x81", "\xef\xbc\x9f"};

        if (text.n_bytes - at < 3)
                return 0;
        for (size_t i = 0; i < sizeof(stops) / sizeof(*stops); i++)
                if (memcmp(text.data + at, stops[i], 3) == 0)
                        return 3;
        return 0;
}

/* Behind closing quotes and brackets that follow a stop. */
static size_t skip_closers(struct index_str text, size_t at) {
        static const char *const closers[] = {"\"", "'", ")", "]", "*", "_", "\xe2\x80\x9d",
                        "\xe2\x80\x99", "\xc2\xbb", "\xe3\x80\x8d", "\xe3\x80\x8f"};
        bool found = true;

        while (found) {
                found = false;
                for (size_t i = 0; !found && i < sizeof(closers) / sizeof(*closers); i++) {
                        const size_t n = strlen(closers[i]);

                        found = text.n_bytes - at >= n &&
                                memcmp(text.data + at, closers[i], n) == 0;
                        at += found ? n : 0;
                }
        }
        return at;
}

static size_t skip_blanks(struct index_str text, size_t at) {
        while (at < text.n_bytes && is_blank(text.data[at]))
                at++;
        return at;
}

/* A line break that parts: an empty line follows, or an item of a list, a heading, a table's row.
 */
static bool line_parts(struct index_str text, size_t at) {
        size_t next = at + 1;

        while (next < text.n_bytes && (text.data[next] == ' ' || text.data[next] == '\t'))
                next++;
        if (next >= text.n_bytes)
                return true;
        const char c = text.data[next];
        const char d = next + 1 < text.n_bytes ? text.data[next + 1] : ' ';
        if (c == '\n' || c == '\r' || c == '#' || c == '|')
                return true;
        if ((c == '-' || c == '*' || c == '+') && (d == ' ' || d == '\t'))
                return true;
        if (!is_digit(c))
                return false;
        while (next < text.n_bytes && is_digit(text.data[next]))
                next++;
        return next + 1 < text.n_bytes && (text.data[next] == '.' || text.data[next] == ')') &&
               text.data[next + 1] == ' ';
}

/* The end of the sentence when `at` is a stop that ends one, else 0. */
static size_t stop_ends(struct index_str text, size_t from, size_t at) {
        const char c = text.data[at];
        const size_t wide = wide_stop(text, at);

        if (wide > 0)
                return skip_blanks(text, skip_closers(text, at + wide));
        if (c != '.' && c != '!' && c != '?')
                return 0;
        const size_t closed = skip_closers(text, at + 1);
        const size_t next = skip_blanks(text, closed);
        if (next == text.n_bytes)
                return next;
        if (next == closed || is_lower(text.data[next]))
                return 0;
        return c == '.' && stop_belongs_to_word(text, from, at) ? 0 : next;
}

size_t chunk_sentence_end(struct index_str text, size_t from) {
        for (size_t at = from; at < text.n_bytes; at++) {
                if (text.data[at] == '\n' && at > from && line_parts(text, at))
                        return skip_blanks(text, at);
                const size_t end = stop_ends(text, from, at);
                if (end > 0)
                        return end;
        }
        return text.n_bytes;
}
