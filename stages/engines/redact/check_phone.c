#include "stages/engines/redact/checks.h"

#include <string.h>

#define PHONE_DIGITS 16u

/* Country codes and how many digits follow them (E.164; national plans). */
static const struct calling {
        uint16_t code;
        uint8_t least, most;
} callings[] = {
                {1, 10, 10},
                {7, 10, 10},
                {20, 8, 10},
                {27, 9, 9},
                {30, 10, 10},
                {31, 9, 9},
                {32, 8, 9},
                {33, 9, 9},
                {34, 9, 9},
                {36, 8, 9},
                {39, 6, 11},
                {40, 9, 9},
                {41, 9, 9},
                {43, 7, 13},
                {44, 9, 10},
                {45, 8, 8},
                {46, 7, 10},
                {47, 8, 8},
                {48, 9, 9},
                {49, 6, 12},
                {51, 8, 9},
                {52, 10, 11},
                {53, 8, 8},
                {54, 10, 11},
                {55, 10, 11},
                {56, 9, 9},
                {57, 8, 10},
                {58, 10, 10},
                {60, 8, 10},
                {61, 9, 9},
                {62, 8, 12},
                {63, 8, 10},
                {64, 8, 10},
                {65, 8, 8},
                {66, 8, 9},
                {81, 9, 10},
                {82, 8, 10},
                {84, 9, 10},
                {86, 10, 11},
                {90, 10, 10},
                {91, 10, 10},
                {92, 9, 10},
                {93, 9, 9},
                {94, 9, 9},
                {95, 7, 10},
                {98, 10, 10},
                {211, 9, 9},
                {212, 9, 9},
                {213, 8, 9},
                {216, 8, 8},
                {218, 8, 9},
                {220, 7, 7},
                {221, 9, 9},
                {222, 8, 8},
                {223, 8, 8},
                {224, 8, 9},
                {225, 8, 10},
                {226, 8, 8},
                {227, 8, 8},
                {228, 8, 8},
                {229, 8, 10},
                {230, 7, 8},
                {231, 7, 9},
                {232, 8, 8},
                {233, 9, 9},
                {234, 8, 10},
                {235, 8, 8},
                {236, 8, 8},
                {237, 8, 9},
                {238, 7, 7},
                {239, 7, 7},
                {240, 9, 9},
                {241, 7, 8},
                {242, 9, 9},
                {243, 7, 9},
                {244, 9, 9},
                {245, 7, 9},
                {246, 7, 7}, {247, 5, 6},
                {248, 7, 7},
                {249, 9, 9},
                {250, 9, 9},
                {251, 9, 9},
                {252, 7, 9},
                {253, 8, 8},
                {254, 9, 10},
                {255, 9, 9},
                {256, 9, 9},
                {257, 8, 8},
                {258, 8, 9},
                {260, 9, 9},
                {261, 9, 9},
                {262, 9, 9},
                {263, 8, 10},
                {264, 8, 9},
                {265, 7, 9},
                {266, 8, 8},
                {267, 7, 8},
                {268, 8, 8},
                {269, 7, 7},
                {290, 4, 5},
                {291, 7, 7},
                {297, 7, 7},
                {298, 6, 6},
                {299, 6, 6},
                {350, 8, 8},
                {351, 9, 9},
                {352, 6, 11},
                {353, 7, 9},
                {354, 7, 9},
                {355, 8, 9},
                {356, 8, 8},
                {357, 8, 8},
                {358, 6, 11},
                {359, 7, 9},
                {370, 8, 8},
                {371, 8, 8},
                {372, 7, 8},
                {373, 8, 8},
                {374, 8, 8},
                {375, 9, 9},
                {376, 6, 9},
                {377, 8, 9},
                {378, 6, 10},
                {380, 9, 9},
                {381, 8, 9},
                {382, 8, 9},
                {383, 8, 8},
                {385, 8, 9},
                {386, 8, 8},
                {387, 8, 8},
                {389, 8, 8},
                {420, 9, 9},
                {421, 9, 9},
                {423, 7, 9},
                {500, 5, 5},
                {501, 7, 7},
                {502, 8, 8},
                {503, 8, 8},
                {504, 8, 8},
                {505, 8, 8},
                {506, 8, 8},
                {507, 7, 8},
                {508, 6, 6},
                {509, 8, 8},
                {590, 9, 9},
                {591, 8, 8},
                {592, 7, 7},
                {593, 8, 9},
                {594, 9, 9},
                {595, 8, 9},
                {596, 9, 9},
                {597, 6, 7},
                {598, 8, 8},
                {599, 7, 8},
                {670, 7, 8},
                {672, 6, 6},
                {673, 7, 7},
                {674, 7, 7},
                {675, 7, 8},
                {676, 5, 7},
                {677, 5, 7},
                {678, 5, 7},
                {679, 7, 7},
                {680, 7, 7},
                {681, 6, 6},
                {682, 5, 5},
                {683, 4, 7},
                {685, 5, 7},
                {686, 5, 8},
                {687, 6, 6},
                {688, 5, 6},
                {689, 6, 8},
                {690, 4, 4},
                {691, 7, 7},
                {692, 7, 7},
                {800, 8, 8},
                {850, 8, 10},
                {852, 8, 8},
                {853, 8, 8},
                {855, 8, 9},
                {856, 8, 10},
                {880, 8, 10},
                {886, 8, 9},
                {960, 7, 7},
                {961, 7, 8},
                {962, 8, 9},
                {963, 8, 9},
                {964, 8, 10},
                {965, 8, 8},
                {966, 9, 9},
                {967, 7, 9},
                {968, 8, 8},
                {970, 8, 9},
                {971, 8, 9},
                {972, 8, 9},
                {973, 8, 8},
                {974, 8, 8},
                {975, 7, 8},
                {976, 8, 8},
                {977, 8, 10},
                {992, 9, 9},
                {993, 8, 8},
                {994, 9, 9},
                {995, 9, 9},
                {996, 9, 9},
                {998, 9, 9},
};

/* A candidate taken apart. */
struct phone {
        uint8_t digits[PHONE_DIGITS];
        uint8_t group[PHONE_DIGITS]; /* digits in each group */
        uint32_t n, n_groups;
        bool separated, bracketed;
};

/* False: more digits than any number has. */
static bool take_apart(const char *p, uint32_t n, struct phone *phone) {
        bool in_group = false;

        *phone = (struct phone){.n = 0};
        for (uint32_t i = 0; i < n && p[i] != 'x' && p[i] != 'e'; i++) {
                if (!check_is_digit(p[i])) {
                        in_group = false;
                        phone->bracketed |= p[i] == '(';
                        continue;
                }
                if (phone->n == PHONE_DIGITS)
                        return false;
                if (!in_group)
                        phone->n_groups++;
                in_group = true;
                phone->digits[phone->n++] = (uint8_t)(p[i] - '0');
                phone->group[phone->n_groups - 1]++;
        }
        phone->separated = phone->n_groups > 1;
        return true;
}

/* Area and exchange of North America begin with 2 to 9. */
static bool north_american(const uint8_t *d, uint32_t n) {
        return n == 10 && d[0] >= 2 && d[3] >= 2 && !(d[1] == 1 && d[2] == 1) &&
               !(d[4] == 1 && d[5] == 1);
}

static bool international(const struct phone *phone) {
        uint32_t code = 0;

        for (uint32_t i = 0; i < 3 && i < phone->n; i++) {
                code = code * 10 + phone->digits[i];
                for (uint32_t k = 0; k < sizeof(callings) / sizeof(callings[0]); k++) {
                        uint32_t rest = phone->n - i - 1, trunk;
                        if (callings[k].code != code)
                                continue;
                        if (code == 1)
                                return north_american(phone->digits + 1, rest);
                        /* +44 (0)20: the trunk's 0, in brackets, is not dialled */
                        trunk = phone->bracketed && phone->digits[i + 1] == 0 && code != 39;
                        return rest - trunk >= callings[k].least &&
                               rest - trunk <= callings[k].most;
                }
        }
        return false;
}

/* Groups as dates and other numbers have them: d-m-y, y-m-d, social security's 3-2-4. */
static bool another_number(const struct phone *phone) {
        const uint8_t *g = phone->group;

        if (phone->bracketed || phone->n_groups < 3)
                return false;
        if (g[0] <= 2 && g[1] <= 2 && g[2] == 4 && phone->digits[g[0] + g[1]] <= 2)
                return true;
        if (g[0] == 4 && g[1] <= 2 && g[2] <= 2)
                return true;
        return phone->n_groups == 3 && g[0] == 3 && g[1] == 2 && g[2] == 4;
}

/* How sure a number without a country code is. */
static enum check_verdict national(const struct phone *phone) {
        const uint8_t *d = phone->digits, *g = phone->group;

        if (another_number(phone))
                return CHECK_DROP;
        if (north_american(d, phone->n) &&
                        (phone->n_groups == 1 || phone->bracketed ||
                                        (g[0] == 3 && g[1] == (phone->n_groups == 2 ? 7 : 3) &&
                                                        phone->n_groups <= 3)))
                return CHECK_KEEP;
        if (phone->n == 11 && d[0] == 1 && phone->separated && g[0] == 1 &&
                        north_american(d + 1, 10))
                return CHECK_KEEP;
        if (phone->n_groups > 6)
                return CHECK_DROP;
        /* The trunk prefix 0 of most of Europe and Asia. */
        if (d[0] == 0 && d[1] != 0 && phone->separated && phone->n >= 9 && phone->n <= 12)
                return CHECK_KEEP;
        /* Brazil: a bracketed area and eight or nine digits. */
        if (phone->bracketed && g[0] == 2 && d[0] != 0 && (phone->n == 10 || phone->n == 11))
                return CHECK_KEEP;
        /* India's mobiles in two halves. */
        if (phone->n == 10 && phone->n_groups == 2 && g[0] == 5 && d[0] >= 6)
                return CHECK_KEEP;
        return CHECK_DROP;
}

static enum check_verdict judge(const char *p, uint32_t n) {
        struct phone phone;

        if (!take_apart(p, n, &phone))
                return CHECK_DROP;
        if (p[0] == '+')
                return international(&phone) ? CHECK_KEEP : CHECK_DROP;
        return national(&phone);
}

/* Drops the last group of digits, and what stands before it. */
static uint32_t without_last_group(const char *p, uint32_t n) {
        while (n > 0 && check_is_digit(p[n - 1]))
                n--;
        while (n > 0 && !check_is_digit(p[n - 1]) && p[n - 1] != ')')
                n--;
        return n;
}

/* The pattern takes groups that follow along: the longest number that is one is the find. */
enum check_verdict check_phone(const char *p, uint32_t *n) {
        for (uint32_t len = *n; len >= 7; len = without_last_group(p, len)) {
                enum check_verdict verdict = judge(p, len);
                if (verdict != CHECK_DROP) {
                        *n = len;
                        return verdict;
                }
                if (!check_is_digit(p[len - 1]))
                        break;
        }
        return CHECK_DROP;
}
