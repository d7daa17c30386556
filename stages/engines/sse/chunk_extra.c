/*
 * chunk_extra: the members of a chunk that millrace does not know, put together where they stood.
 */
#include <stdlib.h>
#include <string.h>

#include "stages/engines/sse/chunk_own.h"

bool chunk_grow(char **at, uint32_t *cap, uint64_t need) {
        uint64_t to = *cap ? *cap : 1024;
        char *bigger;

        if (need <= *cap)
                return true;
        while (to < need)
                to *= 2;
        if (to > UINT32_MAX)
                return false;
        bigger = realloc(*at, to);
        if (!bigger)
                return false;
        *at = bigger;
        *cap = (uint32_t)to;
        return true;
}

void chunk_extra_add(struct chunk_parser *p, enum place place, uint32_t from, uint32_t to) {
        if (p->n_spans < CHUNK_EXTRAS_MAX)
                p->spans[p->n_spans++] = (struct span){from, to, place};
}

static void extra_put(struct chunk_parser *p, const char *s, uint32_t n) {
        if (!chunk_grow(&p->extra, &p->extra_cap, (uint64_t)p->extra_len + n)) {
                p->out_of_memory = true;
                return;
        }
        memcpy(p->extra + p->extra_len, s, n);
        p->extra_len += n;
}

static void extra_text(struct chunk_parser *p, const char *s) {
        extra_put(p, s, (uint32_t)strlen(s));
}

/* The spans of one place from `first` on, each after a comma when `comma`. */
static uint32_t extra_spans(struct chunk_parser *p, enum place place, uint32_t first, bool comma) {
        uint32_t n = 0;

        for (uint32_t i = first; i < p->n_spans; i++) {
                if (p->spans[i].place != place)
                        continue;
                if (comma || n)
                        extra_text(p, ",");
                extra_put(p, p->json + p->spans[i].from, p->spans[i].to - p->spans[i].from);
                n++;
        }
        return n;
}

static bool has_spans(const struct chunk_parser *p, enum place place, uint32_t first) {
        for (uint32_t i = first; i < p->n_spans; i++)
                if (p->spans[i].place == place)
                        return true;
        return false;
}

/* Nothing in it that JSON would escape. */
static bool is_plain(struct chunk_str s) {
        for (uint32_t i = 0; i < s.n; i++)
                if ((uint8_t)s.p[i] < 0x20 || s.p[i] == '"' || s.p[i] == '\\')
                        return false;
        return true;
}

/* The choice is over: its unknown members become an element of "choices" in extra. */
void chunk_extra_choice(struct chunk_parser *p) {
        static const char digits[] = "0123456789";
        bool finish = p->choice != 0 && p->choice_finish.p && is_plain(p->choice_finish);
        char index[10];
        uint32_t n = sizeof(index), v = p->choice;

        if (p->n_spans == p->choice_span && !finish)
                return;
        do
                index[--n] = digits[v % 10];
        while ((v /= 10) != 0);
        extra_text(p, p->n_extra_choices++ ? ",{\"index\":" : "\"choices\":[{\"index\":");
        extra_put(p, index + n, (uint32_t)sizeof(index) - n);
        extra_spans(p, AT_CHOICE, p->choice_span, true);
        if (finish) {
                extra_text(p, ",\"finish_reason\":\"");
                extra_put(p, p->choice_finish.p, p->choice_finish.n);
                extra_text(p, "\"");
        }
        if (has_spans(p, AT_DELTA, p->choice_span)) {
                extra_text(p, ",\"delta\":{");
                extra_spans(p, AT_DELTA, p->choice_span, false);
                extra_text(p, "}");
        }
        extra_text(p, "}");
        p->n_spans = p->choice_span;
}

/* Behind the decoded strings. The call itself is longer in the JSON, so there is room. */
static void text_put(struct chunk_parser *p, const char *s, uint32_t n) {
        memcpy(p->text + p->text_len, s, n);
        p->text_len += n;
}

static void text_spans(struct chunk_parser *p, enum place place) {
        for (uint32_t i = p->tool_span; i < p->n_spans; i++) {
                const struct span *span = &p->spans[i];

                if (span->place != place)
                        continue;
                if (p->text[p->text_len - 1] != '{')
                        text_put(p, ",", 1);
                text_put(p, p->json + span->from, span->to - span->from);
        }
}

/* The call is over: its unknown members become an object of their own. */
void chunk_extra_tool(struct chunk_parser *p) {
        uint32_t from = p->text_len;

        if (p->n_spans == p->tool_span)
                return;
        text_put(p, "{", 1);
        text_spans(p, AT_TOOL);
        if (has_spans(p, AT_FUNCTION, p->tool_span)) {
                if (p->text[p->text_len - 1] != '{')
                        text_put(p, ",", 1);
                text_put(p, "\"function\":{", 12);
                text_spans(p, AT_FUNCTION);
                text_put(p, "}", 1);
        }
        text_put(p, "}", 1);
        p->tool.tool_extra = (struct chunk_str){p->text + from, p->text_len - from};
        p->n_spans = p->tool_span;
}

/* The chunk's own unknown members come after those of its choices, which are in `extra` already. */
void chunk_extra_end(struct chunk_parser *p) {
        if (p->n_extra_choices)
                extra_text(p, "]");
        extra_spans(p, AT_TOP, 0, p->n_extra_choices != 0);
        if (p->extra_len)
                p->out.extra = (struct chunk_str){p->extra, p->extra_len};
}
