#include "stages/engines/redact/checks.h"

#include <string.h>

static enum check_verdict verdict(bool holds) {
        return holds ? CHECK_SURE : CHECK_DROP;
}

/* A foreigner's X, Y or Z stands for 0, 1 or 2. */
enum check_verdict check_es_nif(const char *p, uint32_t *n) {
        static const char letters[] = "TRWAGMYFPDXBNJZSQVHLCKE";
        char first = check_upper(p[0]);
        uint32_t number = first >= 'X' && first <= 'Z' ? (uint32_t)(first - 'X') : 0;

        for (uint32_t i = 0; i + 1 < *n; i++)
                if (check_is_digit(p[i]))
                        number = number * 10 + (uint32_t)(p[i] - '0');
        return verdict(check_upper(p[*n - 1]) == letters[number % 23]);
}

/* What a character counts in an odd place, letters from A on; a digit counts as the letter of its place. */
enum check_verdict check_it_fiscal(const char *p, uint32_t *n) {
        static const uint8_t odd[26] = {1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6,
                        8, 12, 14, 16, 10, 22, 25, 24, 23};
        uint32_t sum = 0;

        if (*n != 16)
                return CHECK_DROP;
        for (uint32_t i = 0; i < 15; i++) {
                uint32_t v = check_is_digit(p[i]) ? (uint32_t)(p[i] - '0')
                                                  : (uint32_t)(check_upper(p[i]) - 'A');
                sum += i % 2 ? v : odd[v];
        }
        return verdict(check_upper(p[15]) == (char)('A' + sum % 26));
}

enum check_verdict check_hetu(const char *p, uint32_t *n) {
        static const char characters[] = "0123456789ABCDEFHJKLMNPRSTUVWXY";
        uint32_t number = 0, day, month;

        if (*n != 11)
                return CHECK_DROP;
        day = (uint32_t)(p[0] - '0') * 10 + (uint32_t)(p[1] - '0');
        month = (uint32_t)(p[2] - '0') * 10 + (uint32_t)(p[3] - '0');
        if (day < 1 || day > 31 || month < 1 || month > 12)
                return CHECK_DROP;
        for (uint32_t i = 0; i < 10; i++)
                if (i != 6)
                        number = number * 10 + (uint32_t)(p[i] - '0');
        return verdict(check_upper(p[10]) == characters[number % 31]);
}

enum check_verdict check_nric(const char *p, uint32_t *n) {
        static const uint8_t weights[] = {2, 7, 6, 5, 4, 3, 2};
        char first = check_upper(p[0]);
        const char *letters = "JZIHGFEDCBA";
        uint8_t d[7];
        uint32_t sum;

        if (check_digits(p, *n, d, 7) != 7)
                return CHECK_DROP;
        sum = check_weighted(d, weights, 7);
        if (first == 'T' || first == 'G')
                sum += 4;
        if (first == 'F' || first == 'G')
                letters = "XWUTRQPNMLK";
        if (first == 'M') {
                sum += 3;
                letters = "XWUTRQPNJLK";
        }
        return verdict(check_upper(p[*n - 1]) == letters[sum % 11]);
}
