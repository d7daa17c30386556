/*
 * side -- a lossy ring of spans and tap records: newest overwrites oldest, readers only lose.
 *
 * Shape   header | SIDE_N slots of SIDE_SLOT bytes, each {seq, len, kind, bytes}
 * Owner   process p writes side.<p>; telemetry and `tap` read it; nobody waits for anybody
 * Errors  0, -EPROTO, SIDE_E_*
 * Limits  entries up to SIDE_SLOT - 24 bytes; longer ones are cut by the writer
 */
#pragma once

#include "shm/layout.h"

#define SIDE_N 128u
#define SIDE_SLOT 256u

enum side_error {
        SIDE_E_EMPTY = 1, /* nothing newer than the cursor */
        SIDE_E_LOST,      /* overwritten before it was read: *cursor moved to the oldest kept */
};

enum side_kind { SIDE_SPAN = 1, SIDE_TAP = 2, SIDE_EVENT = 3 };

struct side_slot {
        mr_au64 seq; /* 0 while it is being written, its entry's number after; SYNC(side.slot) */
        uint32_t len, kind;
        uint8_t bytes[SIDE_SLOT - 16];
};
static_assert(sizeof(struct side_slot) == SIDE_SLOT, "ABI");

struct side_shm {
        uint64_t magic, layout;
        alignas(LAYOUT_SEPARATION) mr_au64 head; /* number of the next entry, from 1 */
        alignas(LAYOUT_SEPARATION) struct side_slot slot[SIDE_N];
};

uint64_t side_bytes(void);
void side_format(struct side_shm *shm);
int side_check(const struct side_shm *shm, uint64_t map_bytes);
void side_write(struct side_shm *shm, enum side_kind kind, const void *bytes, uint32_t len);
/* *cursor: next entry wanted (0: the oldest kept). Copies, then checks. 0, SIDE_E_EMPTY,
 * SIDE_E_LOST. */
int side_read(const struct side_shm *shm, uint64_t *cursor, void *to, uint32_t cap,
        uint32_t *ret_len, enum side_kind *ret_kind);
