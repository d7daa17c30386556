#include "stages/engines/tokens/tokens.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#define TOKEN TOKENS_UNIT
#define WORD_LETTERS 8u  /* a word of so many is one token */
#define LETTER_COST 20u  /* of each beyond */
#define LONG_LETTERS 24u /* from here on it is no word but keys, hashes, pictures in letters */
#define LONG_COST 45u
#define NUMBER_DIGITS 3u
#define LINE_COST 92u    /* line ends with the indentation behind them */
#define SIGN_COST 73u    /* the first of a run of punctuation */
#define SIGNS_COST 35u   /* each behind it */
#define STRAY_COST 150u

/* What a block of text is, is told from its signs; it ends with a line, or in the middle of a long one. */
#define BLOCK_MIN 256u
#define BLOCK_MAX 1024u

/* Of each character of a script; the first row whose end is not passed. TOKENS_ENGLISH: of the class
 * that the text around it has. */
static const struct {
        uint32_t end, cost;
        enum tokens_part part;
} scripts[] = {
                {0x024f, 45, TOKENS_ENGLISH},      /* Latin with accents */
                {0x036f, 150, TOKENS_OTHER},     /* others */
                {0x03ff, 38, TOKENS_OTHER},      /* Greek */
                {0x052f, 30, TOKENS_OTHER},      /* Cyrillic */
                {0x058f, 60, TOKENS_OTHER},      /* Armenian */
                {0x05ff, 40, TOKENS_OTHER},      /* Hebrew */
                {0x077f, 38, TOKENS_OTHER},      /* Arabic */
                {0x08ff, 150, TOKENS_OTHER},     /* others */
                {0x0e7f, 35, TOKENS_OTHER},      /* of India, and Thai */
                {0x2fff, 150, TOKENS_ENGLISH},     /* signs, and rare scripts */
                {0x303f, 45, TOKENS_CJK},      /* punctuation of Chinese and Japanese */
                {0x30ff, 85, TOKENS_CJK},      /* kana */
                {0x33ff, 150, TOKENS_CJK},     /* others */
                {0x9fff, 80, TOKENS_CJK},      /* Han */
                {0xabff, 150, TOKENS_OTHER},     /* others */
                {0xd7af, 78, TOKENS_CJK},      /* Hangul */
                {0xfeff, 150, TOKENS_OTHER},     /* others */
                {0xffef, 45, TOKENS_CJK},      /* the wide forms */
                {0x1ffff, 200, TOKENS_OTHER},    /* pictographs */
                {0x3ffff, 150, TOKENS_CJK},    /* rare Han */
                {UINT32_MAX, 150, TOKENS_OTHER}, /* others */
};

struct reader {
        const uint8_t *p;
        uint64_t n, at, cost; /* cost: of the unit at hand */
        uint64_t block_end;
        enum tokens_part part, block;
};

/* What a byte is; above ASCII: part of a character. Signs say more of the text around them: M, that
 * prose has few of; O, braces and brackets; X, with what is beside them. */
enum kind { PART, W, D, L, U, S, M, O, X };
static const uint8_t kinds[256] = {
                S, S, S, S, S, S, S, S, S, W, W, W, W, W, S, S,
                S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S,
                W, S, X, M, M, S, M, S, X, S, M, M, S, S, S, S,
                D, D, D, D, D, D, D, D, D, D, S, X, M, X, M, S,
                S, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
                U, U, U, U, U, U, U, U, U, U, U, O, M, O, S, M,
                S, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
                L, L, L, L, L, L, L, L, L, L, L, O, M, O, S, S,
};

static bool is_lower(uint8_t c) {
        return kinds[c] == L;
}

static bool is_upper(uint8_t c) {
        return kinds[c] == U;
}

static bool is_digit(uint8_t c) {
        return kinds[c] == D;
}

static bool is_space(uint8_t c) {
        return kinds[c] == W;
}

static bool is_sign(uint8_t c) {
        return kinds[c] >= S;
}

/* Capitals, then small letters: a capital behind a small letter begins another word. */
static void read_word(struct reader *r) {
        uint64_t from = r->at, n;

        while (r->at < r->n && is_upper(r->p[r->at]))
                r->at++;
        while (r->at < r->n && is_lower(r->p[r->at]))
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
        if (scripts[row].part != TOKENS_ENGLISH)
                r->part = scripts[row].part;
}

/* ---- what the text is ---- */

struct signs {
        uint32_t quotes; /* with a colon behind them: keys */
        uint32_t code;   /* semicolons at the end of lines, equals signs, calls */
        uint32_t marks;  /* that prose has few of */
};

/* Three counts of a block in one word. */
#define COUNT_BITS 16u
#define COUNT_OF(sum, i) ((uint32_t)((sum) >> (COUNT_BITS * (i)) & 0xffffu))
enum { COUNT_SPACE, COUNT_MARKS, COUNT_OPEN };
static_assert(BLOCK_MAX < 1u << COUNT_BITS, "a block's bytes fit a count");
static const uint64_t counts[] = {[W] = UINT64_C(1) << COUNT_BITS * COUNT_SPACE,
                [M] = UINT64_C(1) << COUNT_BITS * COUNT_MARKS,
                [O] = UINT64_C(1) << COUNT_BITS * COUNT_OPEN,
                [X] = 0};

static void sign_count(const struct reader *r, uint64_t at, uint64_t end, struct signs *s) {
        uint8_t next = at + 1 < end ? r->p[at + 1] : 0;

        switch (r->p[at]) {
        case '"':
                s->quotes += next == ':' || (next == ' ' && at + 2 < end && r->p[at + 2] == ':');
                return;
        case ';':
                s->code += next == '\n' || next == '\r' || next == 0;
                s->marks++;
                return;
        case '(':
                s->code += at > 0 && (is_lower(r->p[at - 1]) || is_upper(r->p[at - 1]));
                return;
        default: /* '=' */
                s->code++;
                s->marks++;
                return;
        }
}

static void block_begin(struct reader *r) {
        uint64_t at = r->at, limit = r->n - at > BLOCK_MAX ? at + BLOCK_MAX : r->n;
        uint32_t solid, open;
        uint64_t sum = 0;
        struct signs s = {0};

        for (; at < limit && !(r->p[at] == '\n' && at - r->at >= BLOCK_MIN); at++) {
                uint8_t kind = kinds[r->p[at]];
                sum += counts[kind];
                if (kind == X)
                        sign_count(r, at, limit, &s);
        }
        solid = (uint32_t)(at - r->at) - COUNT_OF(sum, COUNT_SPACE);
        open = COUNT_OF(sum, COUNT_OPEN);
        s.marks += COUNT_OF(sum, COUNT_MARKS) + open;
        r->block_end = at < limit ? at + 1 : at;
        r->block = TOKENS_ENGLISH;
        if ((s.quotes * 60 > solid || open * 8 > solid) && s.code * 40 <= solid)
                r->block = TOKENS_JSON;
        else if (s.marks * 20 > solid || s.code * 40 > solid)
                r->block = TOKENS_CODE;
}

static void read_unit(struct reader *r) {
        switch ((enum kind)kinds[r->p[r->at]]) {
        case L:
        case U:
                read_word(r);
                return;
        case W:
                read_space(r);
                return;
        case D:
                read_number(r);
                return;
        case S:
        case M:
        case O:
        case X:
                read_signs(r);
                return;
        case PART:
                read_character(r);
                return;
        }
}

void tokens_count(struct tokens_count *to, const char *text, uint64_t n) {
        struct reader r = {.p = (const uint8_t *)text, .n = n};

        while (r.at < n) {
                if (r.at >= r.block_end)
                        block_begin(&r);
                r.cost = 0;
                r.part = r.block;
                read_unit(&r);
                to->cost[r.part] += r.cost;
        }
}

uint64_t tokens_total(const struct tokens_count *count) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < TOKENS_PARTS_N; i++)
                sum += count->cost[i];
        return (sum + TOKENS_UNIT - 1) / TOKENS_UNIT;
}

uint64_t tokens_estimate(const char *text, uint64_t n) {
        struct tokens_count count = {{0}};

        tokens_count(&count, text, n);
        return tokens_total(&count);
}

const char *tokens_part_name(enum tokens_part part) {
        static const char *const names[TOKENS_PARTS_N] = {[TOKENS_ENGLISH] = "english",
                        [TOKENS_CODE] = "code",
                        [TOKENS_JSON] = "json",
                        [TOKENS_CJK] = "cjk",
                        [TOKENS_OTHER] = "other",
                        [TOKENS_CHAT] = "chat"};

        return (unsigned)part < TOKENS_PARTS_N ? names[part] : NULL;
}
