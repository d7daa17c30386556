#include "stages/engines/format/markdown.h"

#include <stdbool.h>
#include <string.h>

#define INDENT_MAX 64u
#define RUN_MAX 128u
#define INFO_MAX 128u /* of the line that opens a block of code */

/* What stands beside a mark. */
enum side { SIDE_EDGE, SIDE_SPACE, SIDE_SIGN, SIDE_WORD };

struct out {
        char *to;
        uint32_t n;
};

static void put(struct out *out, const char *p, uint32_t n) {
        memcpy(out->to + out->n, p, n);
        out->n += n;
}

static bool is_sign(char c) {
        return c > ' ' && c < 0x7f && !((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'));
}

static enum side side_of(char c) {
        if (c == '\n' || c == '\r')
                return SIDE_EDGE;
        if (c == ' ' || c == '\t')
                return SIDE_SPACE;
        return is_sign(c) ? SIDE_SIGN : SIDE_WORD;
}

static void step(struct markdown *m, struct out *out, char c);

static void hold(struct markdown *m, enum markdown_at at, char c) {
        m->at = (uint8_t)at;
        m->held[m->n++] = c;
}

/* Bytes [from, to) of what was held are text like any other; the rest of it is gone. */
static void again(struct markdown *m, struct out *out, uint32_t from, uint32_t to) {
        char held[MARKDOWN_HELD];

        memcpy(held, m->held + from, to - from);
        m->n = 0;
        m->at = MARKDOWN_TEXT;
        for (uint32_t i = 0; i < to - from; i++)
                step(m, out, held[i]);
}

/* The first bytes of what was held are no marks. */
static void let_go(struct markdown *m, struct out *out, uint32_t n) {
        put(out, m->held, n);
        m->before = (uint8_t)side_of(m->held[n - 1]);
        again(m, out, n, m->n);
}

/* ---- within a line ---- */

static void text_step(struct markdown *m, struct out *out, char c) {
        bool code = m->code > 0;

        if (c == '`' || (!code && (c == '*' || c == '_' || c == '~'))) {
                hold(m, MARKDOWN_RUN, c);
        } else if (!code && c == '\\') {
                hold(m, MARKDOWN_ESCAPE, c);
        } else if (!code && c == '!') {
                hold(m, MARKDOWN_BANG, c);
        } else if (!code && c == '[') {
                hold(m, MARKDOWN_LABEL, c);
        } else {
                put(out, &c, 1);
                m->before = (uint8_t)side_of(c);
                if (c == '\n') {
                        m->at = MARKDOWN_LINE;
                        m->code = 0;
                }
        }
}

/* Are these marks? c: what follows them. */
static bool is_mark(struct markdown *m, enum side after) {
        bool word_before = m->before == SIDE_WORD, word_after = after == SIDE_WORD;
        bool space_before = m->before <= SIDE_SPACE, space_after = after <= SIDE_SPACE;
        char mark = m->held[0];

        if (mark == '~' && m->n != 2)
                return false;
        if (space_before && space_after)
                return false;
        return !(word_before && word_after) || (mark != '_' && m->n >= 2);
}

/* The marks end here. */
static void run_end(struct markdown *m, struct out *out, enum side after) {
        bool gone;

        if (m->held[0] == '`') {
                gone = m->code == 0 || m->code == m->n;
                m->code = gone ? (uint8_t)(m->code ? 0 : m->n) : m->code;
        } else {
                gone = is_mark(m, after);
        }
        if (!gone) {
                put(out, m->held, m->n);
                m->before = SIDE_SIGN;
        }
        m->n = 0;
        m->at = MARKDOWN_TEXT;
}

static void run_step(struct markdown *m, struct out *out, char c) {
        if (c == m->held[0] && m->n < RUN_MAX) {
                m->held[m->n++] = c;
                return;
        }
        run_end(m, out, c == m->held[0] ? SIDE_SIGN : side_of(c));
        step(m, out, c);
}

static void escape_step(struct markdown *m, struct out *out, char c) {
        if (!is_sign(c)) {
                let_go(m, out, 1);
                step(m, out, c);
                return;
        }
        m->n = 0;
        m->at = MARKDOWN_TEXT;
        put(out, &c, 1);
        m->before = SIDE_SIGN;
}

static void bang_step(struct markdown *m, struct out *out, char c) {
        if (c == '[') {
                hold(m, MARKDOWN_LABEL, c);
                return;
        }
        let_go(m, out, 1);
        step(m, out, c);
}

/* ---- links ---- */

/* It was none: all of it goes on, and what it held may have marks of its own. */
static void no_link(struct markdown *m, struct out *out, char c) {
        let_go(m, out, m->held[0] == '!' ? 2 : 1);
        step(m, out, c);
}

static void label_step(struct markdown *m, struct out *out, char c) {
        if (c == '[' || c == '\n' || m->n >= MARKDOWN_HELD - 2) {
                no_link(m, out, c);
                return;
        }
        m->held[m->n++] = c;
        if (c == ']') {
                m->label = m->n;
                m->at = MARKDOWN_AFTER;
        }
}

static void after_step(struct markdown *m, struct out *out, char c) {
        if (c != '(') {
                no_link(m, out, c);
                return;
        }
        hold(m, MARKDOWN_URL, c);
        m->parens = 1;
}

/* The label is what stays; it has no brackets. */
static void link_end(struct markdown *m, struct out *out) {
        again(m, out, m->held[0] == '!' ? 2 : 1, m->label - 1u);
}

static void url_step(struct markdown *m, struct out *out, char c) {
        m->parens = (uint8_t)(m->parens + (c == '(') - (c == ')'));
        if (m->parens == 0) {
                link_end(m, out);
        } else if (c == '\n' || m->parens == UINT8_MAX || m->n >= MARKDOWN_HELD - 1) {
                no_link(m, out, c);
        } else {
                m->held[m->n++] = c;
        }
}

/* ---- at a line's start ---- */

/* The line has no marker: it is text. */
static void no_marker(struct markdown *m, struct out *out) {
        m->before = SIDE_EDGE;
        again(m, out, 0, m->n);
}

/* The marker is gone, and what it stood before is text. */
static void marked(struct markdown *m) {
        m->n = 0;
        m->at = MARKDOWN_TEXT;
        m->before = SIDE_EDGE;
}

/* Opens a block of code, once its line is whole. `at`: of the mark in held, run: how many. */
static void fence_step(struct markdown *m, struct out *out, uint32_t at, uint32_t run) {
        char mark = m->held[at], last = m->held[m->n - 1];
        bool info = m->n > at + run;

        if (info && (run < 3 || (mark == '`' && last == '`') || m->n > at + run + INFO_MAX)) {
                no_marker(m, out);
        } else if (info && last == '\n') {
                m->fence = (uint8_t)mark;
                m->n_fence = (uint8_t)run;
                m->n = 0;
                m->at = MARKDOWN_BLOCK_LINE;
        }
}

/* A mark and whether it is an item's, a rule, or emphasis. */
static void item_step(struct markdown *m, struct out *out, uint32_t at, uint32_t run) {
        char mark = m->held[at], last = m->held[m->n - 1];

        if (m->n == at + run)
                return;
        if (last == ' ' && run == 1 && mark != '_' && mark != '=') {
                put(out, m->held, at);
                put(out, "- ", 2);
                marked(m);
        } else if (last == '\n' && run >= 3 && mark != '+') {
                m->n = 0;
                m->before = SIDE_EDGE;
        } else {
                no_marker(m, out);
        }
}

static void marker_step(struct markdown *m, struct out *out, uint32_t at, uint32_t run) {
        bool whole = m->n > at + run;
        char last = m->held[m->n - 1];

        switch (m->held[at]) {
        case '#':
                if (whole && run <= 6 && last == ' ')
                        marked(m);
                else if (whole)
                        no_marker(m, out);
                return;
        case '>':
                if (!whole && run == 1)
                        return;
                m->n = 0; /* what stands behind a quote's mark is the start of a line again */
                if (last != ' ')
                        step(m, out, last);
                return;
        case '`':
        case '~':
                fence_step(m, out, at, run);
                return;
        case '-':
        case '*':
        case '+':
        case '_':
        case '=':
                item_step(m, out, at, run);
                return;
        default:
                no_marker(m, out);
        }
}

static void line_step(struct markdown *m, struct out *out, char c) {
        uint32_t at = 0, run = 0;

        m->held[m->n++] = c;
        while (at < m->n && (m->held[at] == ' ' || m->held[at] == '\t'))
                at++;
        while (at + run < m->n && m->held[at + run] == m->held[at])
                run++;
        if (at == m->n ? m->n == INDENT_MAX : run == RUN_MAX)
                no_marker(m, out);
        else if (at < m->n)
                marker_step(m, out, at, run);
}

/* ---- in a block of code ---- */

static void block_line_step(struct markdown *m, struct out *out, char c) {
        uint32_t at = 0, run = 0, end;

        m->held[m->n++] = c;
        while (at < m->n && at < 3 && m->held[at] == ' ')
                at++;
        while (at + run < m->n && m->held[at + run] == (char)m->fence)
                run++;
        for (end = at + run; run >= m->n_fence && end < m->n && (m->held[end] == ' ' || m->held[end] == '\r');)
                end++;
        if (run >= m->n_fence && end < m->n && m->held[end] == '\n') {
                m->fence = 0;
                m->n = 0;
                m->at = MARKDOWN_LINE;
                m->before = SIDE_EDGE;
        } else if (end < m->n || m->n == RUN_MAX) {
                put(out, m->held, m->n);
                m->at = c == '\n' ? MARKDOWN_BLOCK_LINE : MARKDOWN_BLOCK;
                m->n = 0;
        }
}

static void block_step(struct markdown *m, struct out *out, char c) {
        put(out, &c, 1);
        if (c == '\n')
                m->at = MARKDOWN_BLOCK_LINE;
}

/* ---- a text ---- */

static void step(struct markdown *m, struct out *out, char c) {
        static void (*const steps[])(struct markdown *, struct out *, char) = {
                        [MARKDOWN_LINE] = line_step,
                        [MARKDOWN_TEXT] = text_step,
                        [MARKDOWN_RUN] = run_step,
                        [MARKDOWN_ESCAPE] = escape_step,
                        [MARKDOWN_BANG] = bang_step,
                        [MARKDOWN_LABEL] = label_step,
                        [MARKDOWN_AFTER] = after_step,
                        [MARKDOWN_URL] = url_step,
                        [MARKDOWN_BLOCK_LINE] = block_line_step,
                        [MARKDOWN_BLOCK] = block_step,
        };

        steps[m->at](m, out, c);
}

uint32_t markdown_feed(struct markdown *m, const char *text, uint32_t n, char *to) {
        struct out out = {.to = to};

        for (uint32_t i = 0; i < n; i++)
                step(m, &out, text[i]);
        return out.n;
}

/* A link that is not complete is text, and so is what may have been a line's marker. */
static void settle(struct markdown *m, struct out *out) {
        uint32_t at = 0;

        if (m->at == MARKDOWN_BLOCK_LINE) {
                while (at < m->n && m->held[at] == ' ')
                        at++;
                if (m->n - at < m->n_fence)
                        put(out, m->held, m->n);
                m->n = 0;
                return;
        }
        if (m->at == MARKDOWN_RUN) {
                run_end(m, out, SIDE_EDGE);
                return;
        }
        if (m->at != MARKDOWN_LINE) {
                let_go(m, out, 1);
                return;
        }
        while (at < m->n && (m->held[at] == ' ' || m->held[at] == '\t'))
                at++;
        if (m->n - at >= 3 && strchr("-*_=`~", m->held[at]) && m->held[m->n - 1] == m->held[at])
                m->n = 0; /* a rule, or the start of a block of which nothing came */
        else
                no_marker(m, out);
}

uint32_t markdown_flush(struct markdown *m, char *to) {
        struct out out = {.to = to};

        while (m->n > 0)
                settle(m, &out);
        *m = (struct markdown){0};
        return out.n;
}
