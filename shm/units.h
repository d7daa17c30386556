/*
 * units -- which units of an extent area are in use: a private bitmap, next-fit.
 *
 * Shape   one bit a unit; runs of consecutive units
 * Units   units; the caller knows their size
 * Owner   the process that allocates; never in shared memory, rebuilt on attach (I6)
 * Errors  UNITS_NONE when no run is long enough
 * Limits  nothing here allocates but units_new()
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define UNITS_NONE UINT32_MAX

/* A bitmap with every unit free, for free(); NULL without memory. */
uint64_t *units_new(uint32_t n_units);
/* Marks a run of n > 0 units and returns its first one. *hint: where the last search ended. */
uint32_t units_take(uint64_t *used, uint32_t n_units, uint32_t *hint, uint32_t n);
/* Marks exactly this run: false when it is out of bounds or partly taken. */
bool units_claim(uint64_t *used, uint32_t n_units, uint32_t at, uint32_t n);
/* Whether all of a run are marked; marks them, whatever they were. */
bool units_are_used(const uint64_t *used, uint32_t at, uint32_t n);
void units_use(uint64_t *used, uint32_t at, uint32_t n);
void units_release(uint64_t *used, uint32_t at, uint32_t n);
