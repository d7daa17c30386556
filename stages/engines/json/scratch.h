/*
 * scratch -- memory for one scan's parser: a heap that is forgotten as a whole.
 *
 * Shape   a block of fixed size; what does not fit it comes from malloc
 * Units   bytes
 * Owner   whoever holds the struct; the parser gives back what it took before the next scan
 * Errors  NULL: no memory
 * Limits  SCRATCH_BYTES without malloc
 */
#pragma once

#include <stdalign.h>
#include <stdint.h>

#include <yajl/yajl_common.h>

#define SCRATCH_BYTES 32768u

struct scratch {
        uint32_t used; /* 0 begins anew */
        alignas(16) uint8_t bytes[SCRATCH_BYTES];
};

/* What the parser takes its memory by. */
yajl_alloc_funcs scratch_funcs(struct scratch *scratch);
