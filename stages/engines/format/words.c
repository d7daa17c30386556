#include "stages/engines/format/words.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool read_word(const char *word, uint8_t *ret) {
        static const struct {
                const char *word;
                uint8_t what;
        } table[] = {{"keep", 0}, {"trim", FORMAT_TRIM}, {"strip_markdown", FORMAT_STRIP},
                        {"json_unchecked", FORMAT_UNCHECKED}};

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
                if (strcmp(word, table[i].word) != 0)
                        continue;
                *ret = table[i].what;
                return true;
        }
        return false;
}

int words_read(struct words *words, const char *const *list, uint32_t n, struct words_why *why) {
        words->n = 0;
        for (uint32_t i = 0; i < n && i < WORDS_MAX; i++) {
                const char *equals = strrchr(list[i], '=');
                if (equals == list[i] || !read_word(equals ? equals + 1 : list[i], &words->v[i].what)) {
                        why->index = i;
                        snprintf(why->text, sizeof(why->text),
                                        "trim, strip_markdown, json_unchecked or keep, or one of them behind MODEL=");
                        return WORDS_E_BAD;
                }
                words->v[i].model = equals ? list[i] : NULL;
                words->v[i].n_model = equals ? (uint32_t)(equals - list[i]) : 0;
                words->n++;
        }
        return 0;
}

uint8_t words_of(const struct words *words, const char *model, uint32_t n) {
        uint8_t all = 0, own = 0;
        bool named = false;

        for (uint32_t i = 0; i < words->n; i++) {
                if (!words->v[i].model) {
                        all |= words->v[i].what;
                } else if (words->v[i].n_model == n && !memcmp(words->v[i].model, model, n)) {
                        own |= words->v[i].what;
                        named = true;
                }
        }
        return named ? own : all;
}
