#include "stages/engines/redact/checks.h"

/* What the first six digits of a brand's cards are, and how many digits they have. */
static const struct brand {
        uint32_t from, to;
        uint8_t least, most;
} brands[] = {
                {100000, 199999, 15, 15}, /* UATP */
                {220000, 220499, 16, 19}, /* Mir */
                {222100, 272099, 16, 16}, /* Mastercard */
                {300000, 305999, 14, 19}, /* Diners Club */
                {308800, 310299, 16, 16}, /* JCB */
                {309500, 309599, 14, 19}, /* Diners Club */
                {311200, 312099, 16, 16}, /* JCB */
                {315800, 315999, 16, 16}, /* JCB */
                {333700, 334999, 16, 16}, /* JCB */
                {340000, 349999, 15, 15}, /* American Express */
                {352800, 358999, 16, 19}, /* JCB */
                {360000, 369999, 14, 19}, /* Diners Club */
                {370000, 379999, 15, 15}, /* American Express */
                {380000, 399999, 14, 19}, /* Diners Club */
                {400000, 499999, 13, 13}, /* Visa */
                {400000, 499999, 16, 16}, {400000, 499999, 19, 19},
                {500000, 509999, 12, 19}, /* Maestro, Dankort, Elo, Verve */
                {510000, 559999, 16, 16}, /* Mastercard */
                {560000, 589999, 12, 19}, /* Maestro */
                {600000, 699999, 12,
                                19}, /* Discover, UnionPay, Maestro, RuPay, InstaPayment, Hipercard */
                {810000, 817199, 16, 19}, /* UnionPay */
};

static bool of_a_brand(const uint8_t *digits, uint32_t n) {
        uint32_t prefix = 0;

        for (uint32_t i = 0; i < 6; i++)
                prefix = prefix * 10 + digits[i];
        for (uint32_t i = 0; i < sizeof(brands) / sizeof(brands[0]); i++)
                if (prefix >= brands[i].from && prefix <= brands[i].to && n >= brands[i].least &&
                                n <= brands[i].most)
                        return true;
        return false;
}

/* The first group of a card has four or six digits, the others two to seven; or there is only one. */
static bool grouped(const char *p, uint32_t n) {
        uint32_t run = 0, groups = 0;

        for (uint32_t i = 0; i <= n; i++) {
                if (i < n && check_is_digit(p[i])) {
                        run++;
                        continue;
                }
                groups++;
                if (i < n || groups > 1)
                        if (groups == 1 ? run != 4 && run != 6 : run < 2 || run > 7)
                                return false;
                run = 0;
        }
        return groups <= 6;
}

/* The pattern takes digits that follow after a separator along: the longest card that is one, ending
 * with a group, is the find. What goes on with a hyphen goes on. */
enum check_verdict check_card(const char *p, uint32_t *n) {
        uint8_t d[19];
        uint32_t len = *n;

        while (len >= 12) {
                uint32_t digits = check_digits(p, len, d, sizeof(d));
                bool goes_on = len < *n && p[len] == '-';
                if (!goes_on && digits >= 12 && of_a_brand(d, digits) && check_luhn(d, digits, 0) &&
                                grouped(p, len)) {
                        *n = len;
                        return CHECK_SURE;
                }
                while (len > 0 && check_is_digit(p[len - 1]))
                        len--;
                while (len > 0 && !check_is_digit(p[len - 1]))
                        len--;
        }
        return CHECK_DROP;
}
