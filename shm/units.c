#include "shm/units.h"

#include <stdlib.h>

uint64_t *units_new(uint32_t n_units) {
        return calloc((size_t)n_units / 64 + 1, sizeof(uint64_t));
}

static bool is_used(const uint64_t *used, uint32_t at) {
        return (used[at / 64] >> (at % 64) & 1) != 0;
}

bool units_are_used(const uint64_t *used, uint32_t at, uint32_t n) {
        for (uint32_t i = at; i < at + n; i++)
                if (!is_used(used, i))
                        return false;
        return true;
}

void units_use(uint64_t *used, uint32_t at, uint32_t n) {
        for (uint32_t i = at; i < at + n; i++)
                used[i / 64] |= UINT64_C(1) << (i % 64);
}

void units_release(uint64_t *used, uint32_t at, uint32_t n) {
        for (uint32_t i = at; i < at + n; i++)
                used[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* First run of n free units in [from, to); whole words are passed over at once. */
static uint32_t find(const uint64_t *used, uint32_t from, uint32_t to, uint32_t n) {
        uint32_t run = 0, at = from;

        while (at < to) {
                if (at % 64 == 0 && used[at / 64] == UINT64_MAX) {
                        run = 0;
                        at += 64;
                        continue;
                }
                run = is_used(used, at) ? 0 : run + 1;
                at++;
                if (run == n)
                        return at - n;
        }
        return UNITS_NONE;
}

uint32_t units_take(uint64_t *used, uint32_t n_units, uint32_t *hint, uint32_t n) {
        uint32_t at;

        if (n == 0 || n > n_units)
                return UNITS_NONE;
        at = find(used, *hint, n_units, n);
        if (at == UNITS_NONE)
                at = find(used, 0, n_units, n);
        if (at == UNITS_NONE)
                return UNITS_NONE;
        units_use(used, at, n);
        *hint = at + n < n_units ? at + n : 0;
        return at;
}

bool units_claim(uint64_t *used, uint32_t n_units, uint32_t at, uint32_t n) {
        if (at > n_units || n > n_units - at)
                return false;
        for (uint32_t i = at; i < at + n; i++)
                if (is_used(used, i))
                        return false;
        units_use(used, at, n);
        return true;
}
