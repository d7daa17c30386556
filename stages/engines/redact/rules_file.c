#include "stages/engines/redact/rules.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_BYTES 2048u
#define PROBE_TAIL 64u
#define PROBE_STEPS 20000u
#define WORDS_BYTES 262144u /* of all words of one entity, as a pattern */

/* The words of one entity while the file is read; they become one pattern. */
struct words {
        char *pattern;
        size_t n;
};

struct reading {
        struct redact *r;
        const char *name; /* of the file */
        unsigned line;
        struct words words[REDACT_ENTITIES_MAX];
        struct redact_why *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(
                struct reading *reading, const char *format, ...) {
        char text[192];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        snprintf(reading->why->text, sizeof(reading->why->text), "%s:%u: %s", reading->name,
                        reading->line, text);
        return REDACT_E_RULES;
}

/* ---- lines ---- */

struct text {
        const char *p;
        size_t n;
};

static struct text next_word(struct text *rest) {
        struct text word;

        while (rest->n > 0 && (*rest->p == ' ' || *rest->p == '\t')) {
                rest->p++;
                rest->n--;
        }
        word.p = rest->p;
        while (rest->n > 0 && *rest->p != ' ' && *rest->p != '\t') {
                rest->p++;
                rest->n--;
        }
        word.n = (size_t)(rest->p - word.p);
        while (rest->n > 0 && (*rest->p == ' ' || *rest->p == '\t')) {
                rest->p++;
                rest->n--;
        }
        return word;
}

static bool equals(struct text text, const char *word) {
        return text.n == strlen(word) && !memcmp(text.p, word, text.n);
}

/* The entity that a line names; one of the operator's own is made when it is new. */
static int entity_of(struct reading *reading, struct text name, uint32_t *ret) {
        bool good = name.n > 0 && name.n <= REDACT_NAME_MAX && name.p[0] >= 'A' && name.p[0] <= 'Z';

        for (size_t i = 0; good && i < name.n; i++)
                good = (name.p[i] >= 'A' && name.p[i] <= 'Z') || check_is_digit(name.p[i]) ||
                       name.p[i] == '_';
        if (!good)
                return refuse(reading,
                                "an entity's name was expected: capitals, digits and _, at most %u",
                                REDACT_NAME_MAX);
        *ret = redact_entity(reading->r, name.p, name.n);
        if (*ret != REDACT_PLAIN)
                return 0;
        struct redact_why why = {""};
        int e = rules_add_entity(reading->r, name.p, name.n, ret, &why);
        return e == REDACT_E_RULES ? refuse(reading, "%s", why.text) : e;
}

/* ---- patterns ---- */

/* Runs a pattern over a text that it may choke on, as one that goes on and as one that ends. */
static int probe(struct reading *reading, const pcre2_code *code, const char *text, size_t n) {
        struct redact *r = reading->r;
        const size_t *at = pcre2_get_ovector_pointer(r->match);

        for (unsigned whole = 0; whole < 2; whole++) {
                for (size_t pos = 0; pos < n; pos = at[1]) {
                        int e = pcre2_jit_match(code, (PCRE2_SPTR)text, n, pos,
                                        whole ? 0 : PCRE2_PARTIAL_HARD, r->match, r->matching);
                        if (e == PCRE2_ERROR_MATCHLIMIT || e == PCRE2_ERROR_JIT_STACKLIMIT)
                                return refuse(reading,
                                                "the pattern needs too many steps on some texts: "
                                                "bound or simplify its repetitions");
                        if (e < 0)
                                break;
                        if (at[1] == at[0])
                                return refuse(reading,
                                                "the pattern matches nothing at all somewhere");
                }
        }
        return 0;
}

/* Repetitions of each byte that the pattern itself has, alone and in turn with common ones, then the
 * pattern's bytes in reverse: what nested repetitions choke on. */
static int probe_all(struct reading *reading, const pcre2_code *code, struct text pattern) {
        static const char common[] = "a0 .-_A/@:";
        char bytes[PROBE_TAIL], text[PROBE_BYTES];
        unsigned n = sizeof(common) - 1;
        int e = 0;

        memcpy(bytes, common, n);
        for (size_t i = 0; i < pattern.n && n < sizeof(bytes); i++)
                if (!memchr(bytes, pattern.p[i], n))
                        bytes[n++] = pattern.p[i];
        memset(text, 0, sizeof(text));
        for (unsigned i = 0; i < n; i++)
                text[sizeof(text) - 2 - i] = bytes[i];
        text[sizeof(text) - 1] = '\n';
        for (unsigned i = 0; e == 0 && i < n; i++) {
                for (unsigned k = 0; e == 0 && k < sizeof(common); k++) {
                        memset(text, bytes[i], sizeof(text) - PROBE_TAIL - 1);
                        for (unsigned at = 1; k > 0 && at < sizeof(text) - PROBE_TAIL - 1; at += 2)
                                text[at] = common[k - 1];
                        e = probe(reading, code, text, sizeof(text));
                }
        }
        return e;
}

static int add_pattern(
                struct reading *reading, uint32_t entity, double score, struct text pattern) {
        struct redact_why why = {""};
        int e = rules_add_form(reading->r, entity, score, pattern.p, pattern.n, &why);

        if (e == REDACT_E_RULES)
                return refuse(reading, "%s", why.text);
        if (e)
                return e;
        pcre2_set_match_limit(reading->r->matching, PROBE_STEPS);
        e = probe_all(reading, reading->r->forms[reading->r->n_forms - 1].code, pattern);
        pcre2_set_match_limit(reading->r->matching, REDACT_STEPS);
        return e;
}

static int on_pattern(struct reading *reading, struct text rest) {
        struct text name = next_word(&rest), score_text = next_word(&rest);
        char number[16] = "", *end = NULL;
        uint32_t entity;
        double score;
        int e = entity_of(reading, name, &entity);

        if (e)
                return e;
        snprintf(number, sizeof(number), "%.*s", (int)score_text.n, score_text.p);
        score = strtod(number, &end);
        if (end == number || *end || !(score > 0.0 && score <= 1.0))
                return refuse(reading, "a score above 0 and up to 1 was expected");
        if (rest.n == 0)
                return refuse(reading, "a pattern was expected");
        return add_pattern(reading, entity, score, rest);
}

/* ---- words, values, context ---- */

#define WORD_FROM "(?i)(?<![\\w\\x80-\\xff])(?:"
#define WORD_TO ")(?![\\w\\x80-\\xff])"

static int on_word(struct reading *reading, struct text rest) {
        struct text name = next_word(&rest);
        uint32_t entity;
        int e = entity_of(reading, name, &entity);

        if (e)
                return e;
        if (rest.n < 2)
                return refuse(reading, "a word of two bytes or more was expected");
        struct words *words = &reading->words[entity];
        size_t room = words->n + 2 * rest.n + sizeof(WORD_FROM WORD_TO) + 1;
        if (room > WORDS_BYTES)
                return refuse(reading, "too many words for one entity: at most %u bytes",
                                WORDS_BYTES);
        char *pattern = realloc(words->pattern, room);
        if (!pattern)
                return -ENOMEM;
        words->pattern = pattern;
        if (!words->n) {
                memcpy(pattern, WORD_FROM, sizeof(WORD_FROM) - 1);
                words->n = sizeof(WORD_FROM) - 1;
        } else {
                pattern[words->n++] = '|';
        }
        for (size_t i = 0; i < rest.n; i++) {
                if (!check_is_alnum(rest.p[i]) && !(rest.p[i] & 0x80))
                        pattern[words->n++] = '\\';
                pattern[words->n++] = rest.p[i];
        }
        return 0;
}

static int add_words(struct reading *reading) {
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++) {
                struct words *words = &reading->words[i];
                struct redact_why why = {""};
                if (!words->n)
                        continue;
                memcpy(words->pattern + words->n, WORD_TO, sizeof(WORD_TO) - 1);
                int e = rules_add_form(reading->r, i, 1.0, words->pattern,
                                words->n + sizeof(WORD_TO) - 1, &why);
                if (e)
                        return e == REDACT_E_RULES ? refuse(reading, "%s", why.text) : e;
        }
        return 0;
}

static char *folded(struct text text) {
        char *copy = strndup(text.p, text.n);

        for (size_t i = 0; copy && i < text.n; i++)
                if (copy[i] >= 'A' && copy[i] <= 'Z')
                        copy[i] |= 0x20;
        return copy;
}

static int on_allow(struct reading *reading, struct text rest) {
        struct redact *r = reading->r;
        char **more;

        if (rest.n == 0)
                return refuse(reading, "a value was expected");
        more = (char **)realloc((void *)r->allowed, (r->n_allowed + 1) * sizeof(*more));
        if (!more)
                return -ENOMEM;
        r->allowed = more;
        more[r->n_allowed] = folded(rest);
        if (!more[r->n_allowed])
                return -ENOMEM;
        r->n_allowed++;
        return 0;
}

static int on_context(struct reading *reading, struct text rest) {
        struct text name = next_word(&rest);
        uint32_t entity;
        int e = entity_of(reading, name, &entity);
        char *words;

        if (e)
                return e;
        if (rest.n == 0)
                return refuse(reading, "context words were expected");
        words = folded(rest);
        if (!words)
                return -ENOMEM;
        free(reading->r->entities[entity].context);
        reading->r->entities[entity].context = words;
        return 0;
}

static int on_line(struct reading *reading, struct text line) {
        static const struct {
                const char *word;
                int (*read)(struct reading *reading, struct text rest);
        } kinds[] = {{"pattern", on_pattern}, {"word", on_word}, {"allow", on_allow},
                        {"context", on_context}};
        struct text kind;

        while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == ' '))
                line.n--;
        kind = next_word(&line);
        if (kind.n == 0 || kind.p[0] == '#')
                return 0;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (equals(kind, kinds[i].word))
                        return kinds[i].read(reading, line);
        return refuse(reading, "pattern, word, allow or context was expected, not %.*s",
                        kind.n < 32 ? (int)kind.n : 32, kind.p);
}

int rules_file_read(
                struct redact *r, const struct redact_options *options, struct redact_why *why) {
        struct reading *reading = calloc(1, sizeof(*reading));
        struct text rest = {options->rules, options->n_rules};
        int e = 0;

        if (!reading)
                return -ENOMEM;
        reading->r = r;
        reading->name = options->rules_name;
        reading->why = why;
        while (e == 0 && rest.n > 0) {
                const char *end = memchr(rest.p, '\n', rest.n);
                struct text line = {rest.p, end ? (size_t)(end - rest.p) : rest.n};
                reading->line++;
                e = on_line(reading, line);
                rest.p += line.n + (end != NULL);
                rest.n -= line.n + (end != NULL);
        }
        if (e == 0)
                e = add_words(reading);
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                free(reading->words[i].pattern);
        free(reading);
        return e;
}
