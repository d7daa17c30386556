#include "stages/engines/redact/rules.h"

#include <stdlib.h>
#include <string.h>

#define CONTEXT_WORDS 5u
#define CONTEXT_LIFT 0.35
#define CONTEXT_LEAST 0.4
#define CONTEXT_PREFIX 4u /* letters from which a context word may be the start of a word */

/* ---- characters ---- */

static bool continues(char c) {
        return ((uint8_t)c & 0xc0) == 0x80;
}

uint32_t redact_character_bytes(char lead) {
        uint8_t c = (uint8_t)lead;

        return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

uint32_t redact_character(const char *text, uint32_t at) {
        uint32_t begin = at;

        while (begin > 0 && at - begin < 3 && continues(text[begin]))
                begin--;
        return begin + redact_character_bytes(text[begin]) > at ? begin : at;
}

/* ---- what a match is worth ---- */

static bool word_byte(char c) {
        return check_is_alnum(c) || (c & 0x80);
}

static bool equal_folded(const char *p, const char *word, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
                char c = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
                if (c != word[i])
                        return false;
        }
        return true;
}

static bool is_context(const char *context, const char *word, uint32_t n) {
        while (*context) {
                uint32_t len = (uint32_t)strcspn(context, " ");
                if ((len == n || (len >= CONTEXT_PREFIX && len < n)) &&
                                equal_folded(word, context, len))
                        return true;
                context += len + (context[len] == ' ');
        }
        return false;
}

/* Whether one of the five words before `at` is a context word. Looks back REDACT_PAST bytes at most, so
 * that it sees the same however the text was cut. */
static bool in_context(const struct rules_entity *entity, const char *text, uint32_t at) {
        uint32_t floor = at > REDACT_PAST ? at - REDACT_PAST : 0;

        for (uint32_t words = 0; words < CONTEXT_WORDS && at > floor;) {
                uint32_t end;
                while (at > floor && !word_byte(text[at - 1]))
                        at--;
                end = at;
                while (at > floor && word_byte(text[at - 1]))
                        at--;
                if (at == end)
                        break;
                if (is_context(entity->context, text + at, end - at))
                        return true;
                words++;
        }
        return false;
}

static bool is_allowed(const struct redact *r, const char *p, uint32_t n) {
        for (uint32_t i = 0; i < r->n_allowed; i++)
                if (strlen(r->allowed[i]) == n && equal_folded(p, r->allowed[i], n))
                        return true;
        return false;
}

/* Makes a find of a match, or not. */
static bool judge(const struct redact *r, const struct rules_form *form, const char *text,
                struct redact_span *span) {
        const struct rules_entity *entity = &r->entities[form->entity];
        uint32_t n = span->end - span->start;
        enum check_verdict verdict = entity->check(text + span->start, &n);

        if (verdict == CHECK_DROP)
                return false;
        span->end = span->start + n;
        span->entity = form->entity;
        span->score = form->score;
        if (verdict == CHECK_SURE && span->score < entity->sure)
                span->score = entity->sure;
        if (span->score < 1.0 && entity->context && in_context(entity, text, span->start)) {
                span->score += CONTEXT_LIFT;
                if (span->score < CONTEXT_LEAST)
                        span->score = CONTEXT_LEAST;
                if (span->score > 1.0)
                        span->score = 1.0;
        }
        return span->score >= r->min_score && !is_allowed(r, text + span->start, n);
}

/* A pattern works on bytes: what it found must not cut a character. */
static void whole_characters(const char *text, uint32_t n, struct redact_span *span) {
        uint32_t begin = redact_character(text, span->end);

        span->start = redact_character(text, span->start);
        while (begin < span->end && span->end < n && redact_character(text, span->end) == begin)
                span->end++;
}

/* ---- one pattern ---- */

enum scan_end { SCAN_DONE, SCAN_LIVE, SCAN_BROKEN };

struct scan {
        struct redact *r;
        const char *text;
        uint32_t from, n;
        bool last;
        uint32_t n_spans;
};

/* Puts a pattern's finds down. *ret_live: where one is in progress. */
static enum scan_end scan_form(struct scan *scan, uint32_t index, uint32_t *ret_live) {
        struct redact *r = scan->r;
        const struct rules_form *form = &r->forms[index];
        const size_t *at = pcre2_get_ovector_pointer(r->match);
        uint32_t pos = scan->from;

        for (;;) {
                struct redact_span *span = &r->spans[scan->n_spans];
                while (pos < scan->n &&
                                !(r->starts[(uint8_t)scan->text[pos]][index / 64] >> index % 64 &
                                                1))
                        pos++;
                if (pos == scan->n)
                        return SCAN_DONE;
                int e = pcre2_jit_match(form->code, (PCRE2_SPTR)scan->text, scan->n, pos,
                                scan->last ? 0 : PCRE2_PARTIAL_HARD, r->match, r->matching);
                if (e == PCRE2_ERROR_NOMATCH)
                        return SCAN_DONE;
                *ret_live = e == PCRE2_ERROR_PARTIAL ? (uint32_t)at[0] : pos;
                if (e == PCRE2_ERROR_PARTIAL)
                        return SCAN_LIVE;
                if (e < 0 || scan->n_spans == REDACT_SPANS_MAX - 1)
                        return SCAN_BROKEN;
                *span = (struct redact_span){.start = (uint32_t)at[0], .end = (uint32_t)at[1]};
                pos = span->start + 1;
                if (span->end <= span->start)
                        continue;
                whole_characters(scan->text, scan->n, span);
                if (!judge(r, form, scan->text, span))
                        continue;
                pos = span->end;
                scan->n_spans++;
        }
}

/* ---- finds that overlap ---- */

static int by_start(const void *a, const void *b) {
        const struct redact_span *x = a, *y = b;

        return x->start != y->start
                               ? (x->start < y->start ? -1 : 1)
                               : (x->end != y->end ? (x->end < y->end ? -1 : 1)
                                                   : (x->entity > y->entity) - (x->entity < y->entity));
}

/* Best score first, then the longest, then the earlier row. */
static int by_worth(const void *a, const void *b) {
        const struct redact_span *x = a, *y = b;
        uint32_t nx = x->end - x->start, ny = y->end - y->start;

        if (x->score > y->score || x->score < y->score)
                return x->score > y->score ? -1 : 1;
        if (nx != ny)
                return nx > ny ? -1 : 1;
        if (x->entity != y->entity)
                return x->entity < y->entity ? -1 : 1;
        return (x->start > y->start) - (x->start < y->start);
}

static bool overlap(const struct redact_span *a, const struct redact_span *b) {
        return a->start < b->end && b->start < a->end;
}

/* Takes out what is none, and the finds of built-in entities that lie in it. */
static uint32_t without_none(const struct redact *r, struct redact_span *group, uint32_t n) {
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++)
                for (uint32_t k = 0; k < n && group[i].entity == REDACT_NONE; k++)
                        if (group[k].entity < r->n_builtins && group[k].start >= group[i].start &&
                                        group[k].end <= group[i].end)
                                group[k].entity = REDACT_PLAIN;
        for (uint32_t i = 0; i < n; i++)
                if (group[i].entity != REDACT_NONE && group[i].entity != REDACT_PLAIN)
                        group[kept++] = group[i];
        return kept;
}

/* Leaves, of a group that overlaps, those that stand; returns how many, in order. */
static uint32_t settle_group(const struct redact *r, struct redact_span *group, uint32_t n) {
        uint32_t kept = 0;

        n = without_none(r, group, n);
        if (n < 2)
                return n;
        qsort(group, n, sizeof(*group), by_worth);
        for (uint32_t i = 0; i < n; i++) {
                bool free_to_stand = true;
                for (uint32_t k = 0; k < kept && free_to_stand; k++)
                        free_to_stand = !overlap(&group[i], &group[k]);
                if (free_to_stand)
                        group[kept++] = group[i];
        }
        qsort(group, kept, sizeof(*group), by_start);
        return kept;
}

/* Settles the groups that end before `live`; the first that does not is where the rest waits. */
static struct find merge(struct redact *r, uint32_t n, uint32_t live, uint32_t entity) {
        struct redact_span *spans = r->spans;
        struct find find = {.spans = spans, .limit = live, .entity = entity};
        uint32_t from = 0;

        if (n > 1)
                qsort(spans, n, sizeof(*spans), by_start);
        while (from < n) {
                uint32_t end = spans[from].end, to = from + 1, kept;
                while (to < n && spans[to].start < end) {
                        if (spans[to].end > end)
                                end = spans[to].end;
                        to++;
                }
                if (end > live) {
                        if (spans[from].start <= find.limit) {
                                find.limit = spans[from].start;
                                find.entity = spans[from].entity;
                        }
                        break;
                }
                kept = settle_group(r, spans + from, to - from);
                memmove(spans + find.n_spans, spans + from, kept * sizeof(*spans));
                find.n_spans += kept;
                from = to;
        }
        return find;
}

/* ---- all patterns ---- */

/* The forms that may begin somewhere in the text. */
static void forms_of(const struct redact *r, const char *text, uint32_t from, uint32_t n,
                uint64_t ret[REDACT_FORM_WORDS]) {
        uint32_t words = (r->n_forms + 63) / 64;

        memset(ret, 0, REDACT_FORM_WORDS * sizeof(*ret));
        for (uint32_t i = from; i < n; i++)
                for (uint32_t w = 0; w < words; w++)
                        ret[w] |= r->starts[(uint8_t)text[i]][w];
}

struct find redact_find(struct redact *r, const char *text, uint32_t from, uint32_t n, bool last) {
        struct scan scan = {.r = r, .text = text, .from = from, .n = n, .last = last};
        uint32_t live = n, entity = REDACT_PLAIN;
        uint64_t forms[REDACT_FORM_WORDS];
        struct find find;
        bool broken = false;

        forms_of(r, text, from, n, forms);
        for (uint32_t w = 0; w < REDACT_FORM_WORDS; w++) {
                for (uint64_t left = forms[w]; left; left &= left - 1) {
                        uint32_t index = w * 64 + (uint32_t)__builtin_ctzll(left), at = n;
                        enum scan_end end = scan_form(&scan, index, &at);
                        if (end == SCAN_DONE || at >= live)
                                continue;
                        entity = r->forms[index].entity;
                        broken = end == SCAN_BROKEN;
                        live = at;
                }
        }
        find = merge(r, scan.n_spans, live, entity);
        find.broken = broken && find.limit == live;
        return find;
}
