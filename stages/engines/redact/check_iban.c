#include "stages/engines/redact/checks.h"

#include <string.h>

#define IBAN_MAX 34u

/* What stands after the check digits, as SWIFT's registry writes it: so many digits (n), letters (a) or
 * of both (c). */
static const struct country {
        char code[3];
        const char *form;
} countries[] = {
                {"AD", "8n12c"},
                {"AE", "19n"},
                {"AL", "8n16c"},
                {"AT", "16n"},
                {"AZ", "4a20c"},
                {"BA", "16n"},
                {"BE", "12n"},
                {"BG", "4a6n8c"},
                {"BH", "4a14c"},
                {"BI", "23n"},
                {"BR", "23n1a1c"},
                {"BY", "4c4n16c"},
                {"CH", "5n12c"},
                {"CR", "18n"},
                {"CY", "8n16c"},
                {"CZ", "20n"},
                {"DE", "18n"},
                {"DJ", "23n"},
                {"DK", "14n"},
                {"DO", "4c20n"},
                {"EE", "16n"},
                {"EG", "25n"},
                {"ES", "20n"},
                {"FI", "14n"},
                {"FK", "2a12n"},
                {"FO", "14n"},
                {"FR", "10n11c2n"},
                {"GB", "4a14n"},
                {"GE", "2a16n"},
                {"GI", "4a15c"},
                {"GL", "14n"},
                {"GR", "7n16c"},
                {"GT", "24c"},
                {"HN", "4a20n"},
                {"HR", "17n"},
                {"HU", "24n"},
                {"IE", "4a14n"},
                {"IL", "19n"},
                {"IQ", "4a15n"},
                {"IS", "22n"},
                {"IT", "1a10n12c"},
                {"JO", "4a4n18c"},
                {"KW", "4a22c"},
                {"KZ", "3n13c"},
                {"LB", "4n20c"},
                {"LC", "4a24c"},
                {"LI", "5n12c"},
                {"LT", "16n"},
                {"LU", "3n13c"},
                {"LV", "4a13c"},
                {"LY", "21n"},
                {"MC", "10n11c2n"},
                {"MD", "20c"},
                {"ME", "18n"},
                {"MK", "3n10c2n"},
                {"MN", "16n"},
                {"MR", "23n"},
                {"MT", "4a5n18c"},
                {"MU", "4a19n3a"},
                {"NI", "4a20n"},
                {"NL", "4a10n"},
                {"NO", "11n"},
                {"OM", "3n16c"},
                {"PK", "4a16c"},
                {"PL", "24n"},
                {"PS", "4a21c"},
                {"PT", "21n"},
                {"QA", "4a21c"},
                {"RO", "4a16c"},
                {"RS", "18n"},
                {"RU", "14n15c"},
                {"SA", "2n18c"},
                {"SC", "4a20n3a"},
                {"SD", "14n"},
                {"SE", "20n"},
                {"SI", "15n"},
                {"SK", "20n"},
                {"SM", "1a10n12c"},
                {"SO", "19n"},
                {"ST", "21n"},
                {"SV", "4a20n"},
                {"TL", "19n"},
                {"TN", "20n"},
                {"TR", "6n16c"},
                {"UA", "6n19c"},
                {"VA", "18n"},
                {"VG", "4a16n"},
                {"XK", "16n"},
                {"YE", "4a4n18c"},
};

static const char *form_of(const char *code) {
        for (uint32_t i = 0; i < sizeof(countries) / sizeof(countries[0]); i++)
                if (!memcmp(countries[i].code, code, 2))
                        return countries[i].form;
        return NULL;
}

/* The next run of a form: how many, and of what. */
static uint32_t run_of(const char **form, char *ret_kind) {
        uint32_t n = 0;

        while (check_is_digit(**form))
                n = n * 10 + (uint32_t)(*(*form)++ - '0');
        *ret_kind = *(*form)++;
        return n;
}

static uint32_t length_of(const char *form) {
        uint32_t n = 4;
        char kind;

        while (*form)
                n += run_of(&form, &kind);
        return n;
}

static bool has_form(const char *p, const char *form) {
        while (*form) {
                char kind;
                for (uint32_t n = run_of(&form, &kind); n > 0; n--, p++) {
                        if (kind == 'n' && !check_is_digit(*p))
                                return false;
                        if (kind == 'a' && check_is_digit(*p))
                                return false;
                }
        }
        return true;
}

/* ISO 7064 mod 97-10 of the account, then country and check digits; letters count 10 to 35. */
static bool mod_97(const char *p, uint32_t n) {
        uint32_t rest = 0;

        for (uint32_t i = 0; i < n; i++) {
                char c = p[(i + 4) % n];
                if (check_is_digit(c))
                        rest = (rest * 10 + (uint32_t)(c - '0')) % 97;
                else
                        rest = (rest * 100 + (uint32_t)(c - 'A') + 10) % 97;
        }
        return rest == 1;
}

/* The pattern may have taken words that follow along; the country says how long it is. */
enum check_verdict check_iban(const char *p, uint32_t *n) {
        char compact[IBAN_MAX];
        uint32_t got = 0, at = 0, length;
        const char *form;

        compact[0] = check_upper(p[0]);
        compact[1] = check_upper(p[1]);
        form = form_of(compact);
        if (!form)
                return CHECK_DROP;
        length = length_of(form);
        for (; at < *n && got < length; at++)
                if (check_is_alnum(p[at]))
                        compact[got++] = check_upper(p[at]);
        if (got < length || (at < *n && check_is_alnum(p[at])))
                return CHECK_DROP;
        if (!has_form(compact + 4, form) || !mod_97(compact, length))
                return CHECK_DROP;
        *n = at;
        return CHECK_SURE;
}
