#include "stages/engines/tokens/tokens.h"

#include <stdbool.h>

/* Costs are hundredths of a token. */
#define TOKEN 100u
#define WORD_LETTERS 8u  /* a word of so many is one token */
#define LETTER_COST 20u  /* of each beyond */
#define LONG_LETTERS 24u /* from here on it is no word but keys, hashes, pictures in letters */
#define LONG_COST 45u
#define NUMBER_DIGITS 3u
#define LINE_COST 92u    /* line ends with the indentation behind them */
#define SIGN_COST 73u    /* the first of a run of punctuation */
#define SIGNS_COST 35u   /* each behind it */
#define STRAY_COST 150u

/* Of each character of a script; the first row whose end is not passed. */
static const struct {
        uint32_t end, cost;
} scripts[] = {
                {0x024f, 45},      /* Latin with accents */
                {0x036f, 150},     /* others */
                {0x03ff, 38},      /* Greek */
                {0x052f, 30},      /* Cyrillic */
                {0x058f, 60},      /* Armenian */
                {0x05ff, 40},      /* Hebrew */
                {0x077f, 38},      /* Arabic */
                {0x08ff, 150},     /* others */
                {0x0e7f, 35},      /* of India, and Thai */
                {0x2fff, 150},     /* signs, and rare scripts */
                {0x303f, 45},      /* punctuation of Chinese and Japanese */
                {0x30ff, 85},      /* kana */
                {0x33ff, 150},     /* others */
                {0x9fff, 80},      /* Han */
                {0xabff, 150},     /* others */
                {0xd7af, 78},      /* Hangul */
                {0xfeff, 150},     /* others */
                {0xffef, 45},      /* the wide forms */
                {0x1ffff, 200},    /* pictographs */
                {0x3ffff, 150},    /* rare Han */
                {UINT32_MAX, 150}, /* others */
};

struct reader {
        const uint8_t *p;
        uint64_t n, at, cost;
};

static bool is_upper(uint8_t c) {
        return c >= 'A' && c <= 'Z';
}

static bool is_lower(uint8_t c) {
        return c >= 'a' && c <= 'z';
}

static bool is_digit(uint8_t c) {
        return c >= '0' && c <= '9';
}

static bool is_space(uint8_t c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_sign(uint8_t c) {
        return c < 0x80 && !is_upper(c) && !is_lower(c) && !is_digit(c) && !is_space(c);
}

/* A capital behind a small letter begins another word. */
static bool in_word(uint8_t before, uint8_t c) {
        return is_lower(c) || (is_upper(c) && !is_lower(before));
}

static void read_word(struct reader *r) {
        uint64_t from = r->at++, n;

        while (r->at < r->n && in_word(r->p[r->at - 1], r->p[r->at]))
                r->at++;
        n = r->at - from;
        r->cost += TOKEN;
        if (n > LONG_LETTERS) {
                r->cost += (n - LONG_LETTERS) * LONG_COST;
                n = LONG_LETTERS;
        }
        if (n > WORD_LETTERS)
                r->cost += (n - WORD_LETTERS) * LETTER_COST;
}

static void read_number(struct reader *r) {
        uint64_t from = r->at;

        while (r->at < r->n && is_digit(r->p[r->at]))
                r->at++;
        r->cost += (r->at - from + NUMBER_DIGITS - 1) / NUMBER_DIGITS * TOKEN;
}

/* One space belongs to what follows it, unless that is a number. */
static void read_space(struct reader *r) {
        uint64_t from = r->at;
        bool line = false;

        for (; r->at < r->n && is_space(r->p[r->at]); r->at++)
                line = line || r->p[r->at] == '\n';
        if (line)
                r->cost += LINE_COST;
        else if (r->at - from > 1 || (r->at < r->n && is_digit(r->p[r->at])))
                r->cost += TOKEN;
}

static void read_signs(struct reader *r) {
        uint64_t from = r->at++;

        while (r->at < r->n && is_sign(r->p[r->at]))
                r->at++;
        r->cost += SIGN_COST + (r->at - from - 1) * SIGNS_COST;
}

/* A character beyond ASCII; a byte that begins none stands for itself. */
static void read_character(struct reader *r) {
        uint32_t lead = r->p[r->at++];
        uint32_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
        uint32_t code = lead & (0x3fu >> more);
        uint32_t row = 0, n = 0;

        for (; n < more && r->at < r->n && (r->p[r->at] & 0xc0) == 0x80; n++)
                code = code << 6 | (r->p[r->at++] & 0x3fu);
        if (more == 0 || n < more) {
                r->cost += STRAY_COST;
                return;
        }
        while (code > scripts[row].end)
                row++;
        r->cost += scripts[row].cost;
}

uint64_t tokens_estimate(const char *text, uint64_t n) {
        struct reader r = {.p = (const uint8_t *)text, .n = n};

        while (r.at < n) {
                uint8_t c = r.p[r.at];
                if (is_lower(c) || is_upper(c))
                        read_word(&r);
                else if (is_space(c))
                        read_space(&r);
                else if (is_digit(c))
                        read_number(&r);
                else if (c < 0x80)
                        read_signs(&r);
                else
                        read_character(&r);
        }
        return (r.cost + TOKEN - 1) / TOKEN;
}
