#include "stages/engines/redact/checks.h"

#include <string.h>

uint32_t check_digits(const char *p, uint32_t n, uint8_t *to, uint32_t cap) {
        uint32_t out = 0;

        for (uint32_t i = 0; i < n && out < cap; i++)
                if (check_is_digit(p[i]))
                        to[out++] = (uint8_t)(p[i] - '0');
        return out;
}

bool check_luhn(const uint8_t *digits, uint32_t n, uint32_t carry) {
        uint32_t sum = carry;

        for (uint32_t i = 0; i < n; i++) {
                uint32_t v = digits[n - 1 - i];
                if (i & 1)
                        v = v > 4 ? v * 2 - 9 : v * 2;
                sum += v;
        }
        return sum % 10 == 0;
}

uint32_t check_weighted(const uint8_t *digits, const uint8_t *weights, uint32_t n) {
        uint32_t sum = 0;

        for (uint32_t i = 0; i < n; i++)
                sum += (uint32_t)digits[i] * weights[i];
        return sum;
}

static enum check_verdict verdict(bool holds) {
        return holds ? CHECK_SURE : CHECK_DROP;
}

static bool all_equal(const uint8_t *digits, uint32_t n) {
        for (uint32_t i = 1; i < n; i++)
                if (digits[i] != digits[0])
                        return false;
        return true;
}

enum check_verdict check_none(const char *p, uint32_t *n) {
        (void)p;
        (void)n;
        return CHECK_KEEP;
}

/* ---- United States ---- */

/* Never issued: areas 000, 666 and 9xx, group 00, serial 0000; numbers that stood in advertisements. */
enum check_verdict check_ssn(const char *p, uint32_t *n) {
        static const char *const known[] = {"078051120", "123456789", "219099999"};
        uint8_t d[9];
        char text[9];

        if (check_digits(p, *n, d, 9) != 9 || all_equal(d, 9) || d[0] == 9 ||
                        (d[3] == 0 && d[4] == 0))
                return CHECK_DROP;
        for (uint32_t i = 0; i < 9; i++)
                text[i] = (char)('0' + d[i]);
        if (!memcmp(text, "000", 3) || !memcmp(text, "666", 3) || !memcmp(text + 5, "0000", 4))
                return CHECK_DROP;
        for (uint32_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
                if (!memcmp(text, known[i], 9))
                        return CHECK_DROP;
        return CHECK_KEEP;
}

/* Federal Reserve districts, thrifts, electronic, travellers' cheques; then weights 3 7 1. */
enum check_verdict check_aba(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {3, 7, 1, 3, 7, 1, 3, 7, 1};
        uint8_t d[9];
        uint32_t prefix;

        if (check_digits(p, *n, d, 9) != 9 || all_equal(d, 9))
                return CHECK_DROP;
        prefix = d[0] * 10u + d[1];
        if (!(prefix <= 12 || (prefix >= 21 && prefix <= 32) || (prefix >= 61 && prefix <= 72) ||
                            prefix == 80))
                return CHECK_DROP;
        return verdict(check_weighted(d, weights, 9) % 10 == 0);
}

#define NPI_PREFIX_SUM 24u /* Luhn's sum of 80840 before ten digits */

enum check_verdict check_npi(const char *p, uint32_t *n) {
        uint8_t d[10];

        return verdict(check_digits(p, *n, d, 10) == 10 && !all_equal(d, 9) &&
                        check_luhn(d, 10, NPI_PREFIX_SUM));
}

enum check_verdict check_dea(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {1, 2, 1, 2, 1, 2};
        uint8_t d[7];

        if (*n != 9 || check_digits(p + 2, *n - 2, d, 7) != 7)
                return CHECK_DROP;
        return verdict(check_weighted(d, weights, 6) % 10 == d[6]);
}

/* ---- Europe ---- */

enum check_verdict check_nhs(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
        uint8_t d[10];

        return verdict(check_digits(p, *n, d, 10) == 10 && !all_equal(d, 10) &&
                        check_weighted(d, weights, 10) % 11 == 0);
}

/* ISO 7064 mod 11,10; one of the first ten digits occurs two or three times, the others once at most. */
enum check_verdict check_de_tax(const char *p, uint32_t *n) {
        uint8_t d[11], count[10] = {0};
        uint32_t product = 10, repeated = 0;

        if (check_digits(p, *n, d, 11) != 11)
                return CHECK_DROP;
        for (uint32_t i = 0; i < 10; i++) {
                uint32_t sum = (d[i] + product) % 10;
                product = (sum ? sum : 10) * 2 % 11;
                count[d[i]]++;
        }
        for (uint32_t i = 0; i < 10; i++) {
                if (count[i] > 3)
                        return CHECK_DROP;
                repeated += count[i] > 1;
        }
        return verdict(repeated == 1 && (11 - product) % 10 == d[10]);
}

/* Corsica's 2A and 2B count as 19 and 18. */
enum check_verdict check_fr_nir(const char *p, uint32_t *n) {
        uint64_t number = 0;
        uint32_t place = 0, key = 0;

        for (uint32_t i = 0; i < *n; i++) {
                char c = check_upper(p[i]);
                if (c == ' ')
                        continue;
                if (place < 13 && check_is_letter(c))
                        number = number / 10 * 100 + (c == 'A' ? 19 : 18);
                else if (place < 13)
                        number = number * 10 + (uint64_t)(c - '0');
                else
                        key = key * 10 + (uint32_t)(c - '0');
                place++;
        }
        return verdict(place == 15 && key == 97 - number % 97);
}

enum check_verdict check_it_vat(const char *p, uint32_t *n) {
        uint8_t d[11];

        return verdict(check_digits(p, *n, d, 11) == 11 && !all_equal(d, 11) &&
                        check_luhn(d, 11, 0));
}

enum check_verdict check_pesel(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1};
        uint8_t d[11];

        return verdict(check_digits(p, *n, d, 11) == 11 &&
                        check_weighted(d, weights, 11) % 10 == 0);
}

enum check_verdict check_tckn(const char *p, uint32_t *n) {
        uint8_t d[11];
        uint32_t odd, even, sum = 0;

        if (check_digits(p, *n, d, 11) != 11)
                return CHECK_DROP;
        odd = (uint32_t)d[0] + d[2] + d[4] + d[6] + d[8];
        even = (uint32_t)d[1] + d[3] + d[5] + d[7];
        for (uint32_t i = 0; i < 10; i++)
                sum += d[i];
        return verdict((odd * 7 + 100 - even) % 10 == d[9] && sum % 10 == d[10]);
}

/* ---- Asia, Australia ---- */

/* Verhoeff: the dihedral group of order 10, and a permutation of period 8. */
static bool verhoeff(const uint8_t *digits, uint32_t n) {
        static const uint8_t permutation[8][10] = {
                        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                        {1, 5, 7, 6, 2, 8, 3, 0, 9, 4},
                        {5, 8, 0, 3, 7, 9, 6, 1, 4, 2},
                        {8, 9, 1, 6, 0, 4, 3, 5, 2, 7},
                        {9, 4, 5, 3, 1, 2, 6, 8, 7, 0},
                        {4, 2, 8, 6, 5, 7, 3, 9, 0, 1},
                        {2, 7, 9, 3, 8, 0, 6, 4, 1, 5},
                        {7, 0, 4, 6, 9, 1, 3, 2, 5, 8},
        };
        uint32_t c = 0;

        for (uint32_t i = 0; i < n; i++) {
                uint32_t v = permutation[i % 8][digits[n - 1 - i]];
                if (c < 5)
                        c = v < 5 ? (c + v) % 5 : 5 + (c + v) % 5;
                else
                        c = v < 5 ? 5 + (c - v) % 5 : (c - v + 5) % 5;
        }
        return c == 0;
}

enum check_verdict check_aadhaar(const char *p, uint32_t *n) {
        uint8_t d[12];
        bool mirrored = true;

        if (check_digits(p, *n, d, 12) != 12)
                return CHECK_DROP;
        for (uint32_t i = 0; i < 6; i++)
                mirrored = mirrored && d[i] == d[11 - i];
        return verdict(!mirrored && verhoeff(d, 12));
}

enum check_verdict check_abn(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19};
        uint8_t d[11];

        if (check_digits(p, *n, d, 11) != 11 || d[0] == 0)
                return CHECK_DROP;
        d[0]--;
        return verdict(check_weighted(d, weights, 11) % 89 == 0);
}

enum check_verdict check_acn(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {8, 7, 6, 5, 4, 3, 2, 1, 1};
        uint8_t d[9];

        return verdict(check_digits(p, *n, d, 9) == 9 && !all_equal(d, 9) &&
                        check_weighted(d, weights, 9) % 10 == 0);
}

enum check_verdict check_tfn(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {1, 4, 3, 7, 5, 8, 6, 9, 10};
        uint8_t d[9];

        return verdict(check_digits(p, *n, d, 9) == 9 && !all_equal(d, 9) &&
                        check_weighted(d, weights, 9) % 11 == 0);
}

enum check_verdict check_medicare(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {1, 3, 7, 9, 1, 3, 7, 9};
        uint8_t d[10];

        return verdict(check_digits(p, *n, d, 10) == 10 &&
                        check_weighted(d, weights, 8) % 10 == d[8]);
}

enum check_verdict check_rrn(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5};
        uint8_t d[13];

        return verdict(check_digits(p, *n, d, 13) == 13 &&
                        (11 - check_weighted(d, weights, 12) % 11) % 10 == d[12]);
}
