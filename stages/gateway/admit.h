/*
 * admit -- the one way into a lane: lane's share -> slot claimed -> arena block -> record in the ring
 * -> slot OPEN; the commit of the ring and `accepted` follow at the end of the turn.
 *
 * Shape   struct admit: one try, with what an earlier one has claimed
 * Units   nanoseconds of CLOCK_MONOTONIC
 * Owner   struct gateway; a slot that stays claimed in `slot` is the caller's
 * Errors  enum admit_result
 * Limits  ADMIT_INLINE bytes of body travel in the record, larger ones lie in the arena; a copy of the
 *         record always, as long as there is room (for a dead letter)
 */
#pragma once

#include "stages/gateway/gateway.h"

#define ADMIT_INLINE 4096u

enum admit_result {
        ADMIT_DONE,
        ADMIT_WAIT,    /* no room, or two gateways claim the id */
        ADMIT_REFUSED, /* for what it says; the error is set */
};

/* A request that is to be admitted, from the frame or from the door. */
struct admit {
        struct answer *a;
        const struct ask *ask;
        const struct composed *composed;
        struct ask_error *error;
        uint64_t t0, deadline_ns;
        uint32_t lane;
        uint32_t slot;    /* claimed by an earlier try, ADMISSION_NONE */
        uint32_t options; /* OPTION_ID_MADE */
        struct arena_ref block; /* of the arena */
        uint32_t body_len;      /* of the body in it */
        uint8_t *copy;          /* where the record goes in it, NULL: nowhere */
        uint8_t *to;            /* in the ring */
        uint32_t bound;
};

/* enum admit_result. */
int admit(struct gateway *gw, struct admit *ad);
/* Makes real what was admitted to the lane in this turn. */
void admit_commit(struct gateway *gw, uint32_t lane);
