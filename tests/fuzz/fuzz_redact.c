/* The engine that redacts: whatever the rules, the text and the cuts are, the pieces together are the
 * redaction of the whole, they cover the text, and nothing goes on early that the whole would not say.
 *
 * Input: a byte that picks the rules, a byte that seeds the cuts, then the text; or, for rules made here,
 * eight bytes for each of up to four patterns, then letters of a small alphabet. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/redact/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX 1024u
#define OUT_MAX (TEXT_MAX * 40u)
#define PATTERNS 4u
#define PATTERN_PARTS 8u

struct out {
        char text[OUT_MAX];
        size_t n;
        uint64_t covered;
        bool blocked;
};

static void put(void *ctx, const struct redact_piece *piece) {
        struct out *out = ctx;

        assert(piece->start == out->covered && piece->end > piece->start && !out->blocked);
        out->covered = piece->end;
        out->blocked = piece->blocked;
        assert(piece->n <= OUT_MAX - out->n);
        memcpy(out->text + out->n, piece->text, piece->n);
        out->n += piece->n;
}

/* ---- rules ---- */

static struct redact *builtin(unsigned which) {
        static struct redact *made[3];
        static const char *const all[] = {"all"}, *const core[] = {"core"};
        const struct redact_options options[] = {
                        {.entities = all, .n_entities = 1, .min_score = 0.4},
                        {.entities = all, .n_entities = 1, .min_score = 0.01, .numbered = true},
                        {.entities = core,
                                        .n_entities = 1,
                                        .min_score = 0.4,
                                        .action = REDACT_BLOCKS},
        };
        struct redact_why why;

        if (!made[which] && redact_new(&options[which], &made[which], &why))
                abort();
        return made[which];
}

/* Patterns of a few parts, most of which match somewhere in a text of the small alphabet. */
static struct redact *generated(const uint8_t *p) {
        static const char *const parts[] = {"a", "b", "[ab]", "\\d", "\\d{1,4}", "a+", "b{0,3}?",
                        "[^a]", "(?<!a)", "(?=b)", "(?!1)", "\\b", "(?:ab|ba)", "(a|b)\\1", ".",
                        "x?"};
        char rules[PATTERNS * (PATTERN_PARTS * 12 + 24)];
        struct redact *r = NULL;
        struct redact_why why;
        size_t n = 0;

        for (unsigned i = 0; i < PATTERNS; i++, p += PATTERN_PARTS) {
                n += (size_t)snprintf(
                                rules + n, sizeof(rules) - n, "pattern P%u 0.%u ", i, 4 + p[0] % 6);
                for (unsigned k = 1; k < PATTERN_PARTS && p[k] < 0xc0; k++)
                        n += (size_t)snprintf(rules + n, sizeof(rules) - n, "%s", parts[p[k] % 16]);
                n += (size_t)snprintf(rules + n, sizeof(rules) - n, "\n");
        }
        const struct redact_options options = {
                        .min_score = 0.4, .rules = rules, .n_rules = n, .rules_name = "generated"};
        return redact_new(&options, &r, &why) ? NULL : r;
}

/* ---- the property ---- */

static struct out whole, cut;
static struct redact_stream stream;

static void start(struct out *out, struct redact_numbers *numbers) {
        out->n = 0;
        out->covered = 0;
        out->blocked = false;
        numbers->n = 0;
}

static void check(struct redact *r, const char *text, size_t n, unsigned seed) {
        static struct redact_numbers numbers;
        const struct redact_sink to_whole = {put, &whole, &numbers}, to_cut = {put, &cut, &numbers};

        start(&whole, &numbers);
        redact_feed(r, &stream, text, n, true, &to_whole);
        assert(whole.blocked || whole.covered == n);
        for (unsigned round = 0; round < 3; round++) {
                start(&cut, &numbers);
                for (size_t at = 0, step; at < n; at += step) {
                        step = round == 0 ? 1 : 1 + (size_t)rand_r(&seed) % (round == 1 ? 7 : 300);
                        if (step > n - at)
                                step = n - at;
                        redact_feed(r, &stream, text + at, step, false, &to_cut);
                        assert(cut.n <= whole.n && !memcmp(cut.text, whole.text, cut.n));
                }
                redact_feed(r, &stream, NULL, 0, true, &to_cut);
                assert(cut.n == whole.n && !memcmp(cut.text, whole.text, cut.n));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char alphabet[] = "ab01 x\xc3\xa9@.-\n";
        const size_t head = 2 + PATTERNS * PATTERN_PARTS;
        struct redact *r;
        char text[TEXT_MAX];

        if (size < 2 || size > TEXT_MAX)
                return 0;
        if (data[0] % 4 < 3) {
                check(builtin(data[0] % 4), (const char *)data + 2, size - 2, data[1]);
                return 0;
        }
        r = size >= head ? generated(data + 2) : NULL;
        for (size_t i = head; r && i < size; i++)
                text[i - head] = alphabet[data[i] % (sizeof(alphabet) - 1)];
        if (r)
                check(r, text, size - head, data[1]);
        redact_free(r);
        return 0;
}
