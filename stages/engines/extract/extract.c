#include "stages/engines/extract/extract.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define STEM_MAX 24u
#define WORTH_SAYING 0.35 /* of the best score: what is weaker is noise beside it */
#define TERMS_ENOUGH 4u   /* of a long question; of a short one, a third */

/* ---- words ---------------------------------------------------------------------------------- */

static bool is_space(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Letters and digits of ASCII; every byte of another script belongs to a word. */
static bool is_word(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (c & 0x80);
}

static bool is_upper(char c) {
        return c >= 'A' && c <= 'Z';
}

struct stem {
        char s[STEM_MAX];
        uint32_t n;
};

static bool ends(const struct stem *w, const char *suffix) {
        uint32_t n = (uint32_t)strlen(suffix);

        return w->n >= n + 3 && memcmp(w->s + w->n - n, suffix, n) == 0;
}

/* Takes the endings off that keep "restarts", "restarted" and "restarting" apart. */
static void stem_cut(struct stem *w) {
        static const char *const suffixes[] = {"ingly", "edly", "ings", "ing", "ies", "ied", "ed",
                        "es", "ly", "s", "e", "y"};

        for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
                if (!ends(w, suffixes[i]))
                        continue;
                w->n -= (uint32_t)strlen(suffixes[i]);
                break;
        }
        if (w->n > 3 && w->s[w->n - 1] == w->s[w->n - 2])
                w->n--; /* stopped -> stop */
}

/* Bytes of the dash, quote or wide stop at p[at], 0: there is none. */
static uint32_t wide_mark(const char *p, uint32_t n, uint32_t at) {
        if (at >= n || n - at < 3)
                return 0;
        return memcmp(p + at, "\xe2\x80", 2) == 0 || memcmp(p + at, "\xe3\x80", 2) == 0 ||
                               memcmp(p + at, "\xef\xbc", 2) == 0
                               ? 3
                               : 0;
}

/* Bytes of the ideograph, kana or hangul at p[at], 0: it is none. */
static uint32_t ideograph(const char *p, uint32_t n, uint32_t at) {
        const uint8_t c = at < n ? (uint8_t)p[at] : 0;
        const uint32_t len = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe3 && c < 0xee ? 3 : 0;

        return len > n - at || wide_mark(p, n, at) ? 0 : len;
}

/* A pair of neighbours, or the last of them when it is the only one. */
static void pair_cut(const char *p, uint32_t n, uint32_t at, uint32_t first, struct stem *ret) {
        const uint32_t second = ideograph(p, n, at + first);

        ret->n = first + second;
        memcpy(ret->s, p + at, ret->n);
}

/* The next word from *at on, lower case and stemmed. */
static bool next_stem(const char *p, uint32_t n, uint32_t *at, struct stem *ret) {
        uint32_t i = *at, wide;

        while (i < n && (!is_word(p[i]) || wide_mark(p, n, i)))
                i += is_word(p[i]) ? 3 : 1;
        wide = ideograph(p, n, i);
        if (wide) {
                pair_cut(p, n, i, wide, ret);
                *at = i + wide + (ideograph(p, n, i + wide + (ret->n - wide)) ? 0 : ret->n - wide);
                return true;
        }
        ret->n = 0;
        for (; i < n && is_word(p[i]) && !ideograph(p, n, i) && !wide_mark(p, n, i); i++)
                if (ret->n < STEM_MAX)
                        ret->s[ret->n++] = is_upper(p[i]) ? (char)(p[i] | 0x20) : p[i];
        *at = i;
        if (ret->n == 0)
                return false;
        stem_cut(ret);
        return true;
}

static bool same(const struct stem *a, const struct stem *b) {
        return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

static bool is_stop_word(const struct stem *w) {
        static const char *const stop[] = {"a", "about", "all", "an", "and", "are", "as", "at",
                        "be", "by", "can", "could", "did", "do", "doe", "does", "for", "from",
                        "had", "has", "have", "he", "how", "i", "if", "in", "is", "it", "its", "me",
                        "my", "of", "on", "or", "our", "she", "should", "tell", "that", "the",
                        "their", "them", "then", "there", "thes", "they", "thi", "this", "to",
                        "was", "we", "wer", "what", "when", "wher", "which", "who", "whom", "whos",
                        "why", "will", "with", "would", "you", "your"};

        for (size_t i = 0; i < sizeof(stop) / sizeof(*stop); i++)
                if (strlen(stop[i]) == w->n && memcmp(stop[i], w->s, w->n) == 0)
                        return true;
        return false;
}

/* ---- sentences ------------------------------------------------------------------------------ */

/* A blank line ends a sentence whatever stands before it: a heading has no stop. */
static bool blank_line(const char *p, uint32_t n, uint32_t at) {
        if (p[at] != '\n')
                return false;
        for (at++; at < n && p[at] != '\n'; at++)
                if (!is_space(p[at]))
                        return false;
        return at < n;
}

/* Bytes of a stop of Chinese or Japanese, which needs no space behind it. */
static uint32_t wide_stop(const char *p, uint32_t n, uint32_t at) {
        return n - at >= 3 && (memcmp(p + at, "\xe3\x80\x82", 3) == 0 ||
                                              memcmp(p + at, "\xef\xbc\x81", 3) == 0 ||
                                              memcmp(p + at, "\xef\xbc\x9f", 3) == 0)
                               ? 3
                               : 0;
}

/* A stop, then space, then what begins a sentence; "e.g. this" and "2.5 ms" do not end one. */
static bool ends_sentence(const char *p, uint32_t n, uint32_t at) {
        uint32_t next = at + 1;

        if (p[at] != '.' && p[at] != '!' && p[at] != '?')
                return false;
        while (next < n && (p[next] == '"' || p[next] == '\'' || p[next] == ')' || p[next] == '`' ||
                                           p[next] == '*'))
                next++;
        if (next < n && !is_space(p[next]))
                return false;
        if (p[at] == '.' && at >= 2 && p[at - 2] == '.')
                return false; /* e.g. i.e. */
        if (p[at] == '.' && at >= 1 && is_upper(p[at - 1]) && (at < 2 || is_space(p[at - 2])))
                return false; /* an initial */
        while (next < n && is_space(p[next]))
                next++;
        return next == n || !(p[next] >= 'a' && p[next] <= 'z');
}

/* Marks at the start of a line that are Markdown's and not the sentence's. */
static uint32_t skip_marks(const char *p, uint32_t n, uint32_t at) {
        while (at < n && (is_space(p[at]) || p[at] == '#' || p[at] == '>' || p[at] == '|' ||
                                         ((p[at] == '-' || p[at] == '*' || p[at] == '+') &&
                                                         at + 1 < n && is_space(p[at + 1]))))
                at++;
        return at;
}

static uint32_t cut_long(const char *p, uint32_t from, uint32_t to) {
        uint32_t end = from + EXTRACT_SENTENCE_BYTES;

        if (to - from <= EXTRACT_SENTENCE_BYTES)
                return to;
        while (end > from + EXTRACT_SENTENCE_BYTES / 2 && !is_space(p[end]))
                end--;
        while (end > from && ((uint8_t)p[end] & 0xc0) == 0x80)
                end--;
        return end;
}

bool extract_sentence(const struct extract_text *text, uint32_t *at, uint32_t *ret_from,
                uint32_t *ret_to) {
        uint32_t from = skip_marks(text->p, text->n, *at), end = from, to;

        if (from >= text->n)
                return false;
        while (end < text->n && !ends_sentence(text->p, text->n, end) &&
                        !blank_line(text->p, text->n, end) && !wide_stop(text->p, text->n, end))
                end++;
        to = end < text->n ? end + wide_stop(text->p, text->n, end) : end;
        /* Quotes and brackets behind the stop are the sentence's. */
        while (to == end && end < text->n && !is_space(text->p[end]))
                to = ++end;
        *at = to > from ? to : from + 1;
        while (to > from && is_space(text->p[to - 1]))
                to--;
        *ret_from = from;
        *ret_to = cut_long(text->p, from, to);
        return true;
}

/* ---- scores --------------------------------------------------------------------------------- */

struct sentence {
        uint32_t document, from, to, words, place;
        uint32_t terms; /* bit set of the question's words that it has */
        double score;
        bool picked;
};

struct work {
        struct stem terms[EXTRACT_TERMS];
        uint32_t n_terms;
        uint32_t seen_in[EXTRACT_TERMS];
        struct sentence sentences[EXTRACT_SENTENCES];
        uint32_t n_sentences;
        uint32_t covered; /* terms that a pick has */
};

static_assert(EXTRACT_TERMS <= 32, "a sentence's terms are one word");

static uint32_t term_bit(const struct work *w, const struct stem *stem) {
        for (uint32_t i = 0; i < w->n_terms; i++)
                if (same(&w->terms[i], stem))
                        return 1u << i;
        return 0;
}

static void read_question(struct work *w, const struct extract_text *question) {
        struct stem stem;
        uint32_t at = 0;

        while (w->n_terms < EXTRACT_TERMS && next_stem(question->p, question->n, &at, &stem))
                if (!is_stop_word(&stem) && !term_bit(w, &stem))
                        w->terms[w->n_terms++] = stem;
}

static void read_sentence(struct work *w, const struct extract_text *doc, struct sentence *s) {
        struct stem stem;
        uint32_t at = 0;

        while (next_stem(doc->p + s->from, s->to - s->from, &at, &stem)) {
                s->words++;
                s->terms |= term_bit(w, &stem);
        }
        for (uint32_t i = 0; i < w->n_terms; i++)
                w->seen_in[i] += s->terms >> i & 1;
}

/* Whether the same words were taken in already: passages of one document overlap. */
static bool repeats(
                const struct work *w, const struct extract_document *docs, const struct sentence *s) {
        for (uint32_t i = 0; i < w->n_sentences; i++) {
                const struct sentence *t = &w->sentences[i];
                if (t->to - t->from == s->to - s->from &&
                                memcmp(docs[t->document].text.p + t->from,
                                                docs[s->document].text.p + s->from,
                                                s->to - s->from) == 0)
                        return true;
        }
        return false;
}

static void read_documents(struct work *w, const struct extract_document *docs, uint32_t n_docs) {
        for (uint32_t d = 0; d < n_docs; d++) {
                uint32_t at = 0, place = 0;
                struct sentence s = {.document = d};
                while (w->n_sentences < EXTRACT_SENTENCES &&
                                extract_sentence(&docs[d].text, &at, &s.from, &s.to)) {
                        if (s.to <= s.from || repeats(w, docs, &s))
                                continue;
                        s.words = s.terms = 0;
                        s.place = place++;
                        read_sentence(w, &docs[d].text, &s);
                        w->sentences[w->n_sentences++] = s;
                }
        }
}

static double score(const struct work *w, const struct sentence *s) {
        double sum = 0;

        for (uint32_t i = 0; i < w->n_terms; i++) {
                double idf;
                if (!(s->terms >> i & 1))
                        continue;
                idf = log(1.0 + (w->n_sentences - w->seen_in[i] + 0.5) / (w->seen_in[i] + 0.5));
                sum += w->covered >> i & 1 ? idf / 2 : idf;
        }
        if (sum == 0)
                return 0;
        if (s->words < 4)
                sum /= 3; /* a heading, a label: it names the thing and says nothing of it */
        return sum / (0.75 + 0.25 * s->words / 18.0) * (1.0 + 0.3 / (1.0 + s->document)) *
               (1.0 + 0.1 / (1.0 + s->place));
}

static struct sentence *best(struct work *w) {
        struct sentence *top = NULL;

        for (uint32_t i = 0; i < w->n_sentences; i++) {
                struct sentence *s = &w->sentences[i];
                s->score = s->picked ? 0 : score(w, s);
                if (s->score > 0 && (!top || s->score > top->score))
                        top = s;
        }
        return top;
}

/* Sentences stand in reading order already. */
static uint32_t in_order(const struct work *w, struct extract_pick ret[EXTRACT_PICKS_MAX]) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < w->n_sentences && n < EXTRACT_PICKS_MAX; i++) {
                const struct sentence *s = &w->sentences[i];
                if (s->picked)
                        ret[n++] = (struct extract_pick){s->document, s->from, s->to};
        }
        return n;
}

/* Whether what is picked, with the titles above it, speaks of what is asked. */
static bool answers(const struct work *w, const struct extract_document *docs) {
        uint32_t terms = 0;
        const uint32_t third = (w->n_terms + 2) / 3;

        for (uint32_t i = 0; i < w->n_sentences; i++) {
                const struct sentence *s = &w->sentences[i];
                const struct extract_text *title = &docs[s->document].title;
                struct stem stem;
                uint32_t at = 0;
                if (!s->picked)
                        continue;
                terms |= s->terms;
                while (next_stem(title->p, title->n, &at, &stem))
                        terms |= term_bit(w, &stem);
        }
        return (uint32_t)__builtin_popcount(terms) >= (third < TERMS_ENOUGH ? third : TERMS_ENOUGH);
}

uint32_t extract_best(const struct extract_text *question, const struct extract_document *docs,
                uint32_t n_docs, struct extract_pick ret[EXTRACT_PICKS_MAX]) {
        struct work w = {0};
        struct sentence *s;
        double first = 0;

        read_question(&w, question);
        read_documents(&w, docs, n_docs);
        for (uint32_t n = 0; n < EXTRACT_PICKS_MAX && (s = best(&w)); n++) {
                if (n == 0)
                        first = s->score;
                else if (s->score < first * WORTH_SAYING)
                        break;
                s->picked = true;
                w.covered |= s->terms;
        }
        if (first == 0 && w.n_sentences)
                w.sentences[0].picked =
                                true; /* the documents matched by something else: show the best */
        return answers(&w, docs) ? in_order(&w, ret) : 0;
}
