/*
 * marks -- numbers by numbers: what is remembered of files by a hash of their names.
 *
 * Shape   a table with open addressing, at most half full; a key or value of 0 is none
 * Units   none
 * Owner   whoever declares it clears it
 * Errors  0 or -ENOMEM, after which it is as before
 */
#pragma once

#include <stdint.h>

struct mark {
        uint64_t key;
        uint64_t value;
};

struct marks {
        struct mark *at;
        uint64_t n;
        uint64_t room; /* a power of two, or 0 */
};

/* 0: there is none. */
uint64_t marks_get(const struct marks *marks, uint64_t key);
int marks_put(struct marks *marks, uint64_t key, uint64_t value);
void marks_clear(struct marks *marks);
