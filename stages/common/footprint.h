/*
 * footprint -- how much private memory this process uses, as its limit (RLIMIT_DATA) counts it.
 *
 * Shape   what was there besides the heap when it began, and the heap as malloc knows it
 * Units   bytes
 * Owner   the caller; begun before the sandbox, which has no /proc
 * Errors  0, -errno
 * Limits  footprint_bytes() makes no system call and walks malloc's free lists: once a second
 */
#pragma once

#include <stdint.h>

struct footprint {
        uint64_t rest_bytes; /* data of programs and libraries, stacks */
};

int footprint_begin(struct footprint *footprint);
uint64_t footprint_bytes(const struct footprint *footprint);
