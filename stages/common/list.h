/*
 * list -- names in one text, comma separated.
 *
 * Shape   "a, b=c": blanks around a part are not its; what is empty is a part too, but for the one
 *         behind a last comma
 * Units   bytes
 * Owner   parts point into the text
 * Limits  LIST_MAX parts are what a client may give
 */
#pragma once

#include <stdbool.h>
#include <string.h>

#include "stages/common/record.h"

#define LIST_MAX 16u

/* The next part, taken off *rest, which is the whole text at first; false: there is none. */
static inline bool list_next(struct mr_view *rest, struct mr_view *ret) {
        const char *comma;

        if (rest->n == 0)
                return false;
        comma = memchr(rest->p, ',', rest->n);
        ret->p = rest->p;
        ret->n = comma ? (uint32_t)(comma - rest->p) : rest->n;
        rest->n -= comma ? ret->n + 1 : ret->n;
        rest->p += comma ? ret->n + 1 : ret->n;
        while (ret->n > 0 && ret->p[0] == ' ') {
                ret->p++;
                ret->n--;
        }
        while (ret->n > 0 && ret->p[ret->n - 1] == ' ')
                ret->n--;
        return true;
}
