/*
 * admission_table -- the writer's side of this gateway's admission object: slots from claim to
 * close.
 *
 * Shape   struct admission_table over struct admission_shm; the other gateways' tables read-only
 * Units   requests
 * Owner   this gateway slot; its next incarnation attaches and goes on
 * Errors  0, -ENOMEM, ADMISSION_E_FULL, TABLE_E_*
 * Limits  n_slots requests; a lane holds max_in_flight over all gateways
 *
 *   table_lane_take -> table_claim -> (table_settle) -> table_open -> ... -> table_close
 *                                  `-> table_withdraw (+ table_lane_give)
 */
#pragma once

#include "shm/admission.h"
#include "shm/arena.h"

enum table_error {
        TABLE_E_ELSEWHERE = 16, /* another gateway has this id in an open slot */
        TABLE_E_WAIT,           /* two gateways claim it: look again next turn */
        TABLE_E_YIELD,          /* a lower gateway claims it: withdraw, look again next turn */
};

struct admission_table {
        struct admission_shm *shm;
        struct arena *arena;
        const struct admission_view *others; /* GATEWAY_SLOTS_MAX; shm NULL: not mapped */
        uint32_t gateway, n_slots, n_lanes;
        uint64_t max_in_flight;
        uint64_t generation;
        uint32_t *free, n_free;
        uint64_t in_flight[LANES_MAX]; /* of this gateway */
        uint32_t n_open;
};

/* What attach must know of a lane. */
struct table_lane {
        uint64_t committed; /* head of our ring into the lane */
        uint64_t lane_gen;
};

/* Architecture 4.1: CLOSING slots are finished, CLAIMING ones freed, OPEN ones whose record was
 * never committed freed, those of an older lane generation failed; the arena is rebuilt from the
 * rest. 0, -EPROTO, -ENOMEM. */
int table_attach(struct admission_table *t, const struct table_lane *lanes);
void table_detach(struct admission_table *t);

/* Our contribution to a lane, exact over all gateways: 0 or ADMISSION_E_FULL. SYNC(admission.sum).
 */
int table_lane_take(struct admission_table *t, uint32_t lane);
void table_lane_give(struct admission_table *t, uint32_t lane);

uint64_t table_next_request(struct admission_table *t);

struct table_claim {
        const char *id, *tenant;
        uint32_t id_len, tenant_len;
        uint64_t id_hash, req_id;
};
/* 0 or ADMISSION_E_FULL. */
int table_claim(struct admission_table *t, const struct table_claim *claim, uint32_t *ret_slot);
/* After the claim is published: does it stand? 0, TABLE_E_*; for TABLE_E_ELSEWHERE *ret_gateway and
 * *ret_slot say where. */
int table_settle(const struct admission_table *t, uint32_t slot, uint32_t *ret_gateway,
                uint32_t *ret_slot);
void table_withdraw(struct admission_table *t, uint32_t slot);
/* Has any other gateway slot ever been in use? */
bool table_has_others(const struct admission_table *t);

struct table_open {
        uint32_t lane, flags;
        uint64_t lane_gen, ring_seq, t0;
        struct arena_ref block;
        uint32_t body_len, record_len;
        uint64_t digest[2];
};
void table_open(struct admission_table *t, uint32_t slot, const struct table_open *open);
/* The slot's end, counted once whatever kills us: frees the arena block, gives the lane back. */
void table_close(struct admission_table *t, uint32_t slot, enum admission_outcome outcome);
/* Our ring into the lane was committed up to `head`: what was opened for it is admitted for good. */
void table_committed(struct admission_table *t, uint32_t lane, uint64_t head);
bool table_is_open(const struct admission_table *t, uint32_t slot);
uint64_t table_total(const struct admission_table *t, enum admission_outcome outcome);

/* A private copy of another gateway's slot that is open and admitted; its writer may be changing it.
 * 0 or ADMISSION_E_NONE. */
int table_peek(const struct admission_view *view, uint32_t slot, struct admission_slot *ret);
