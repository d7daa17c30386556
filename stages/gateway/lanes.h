/*
 * lanes -- which lanes take requests, and what becomes of the requests of one that is reset.
 *
 * Shape   the supervisor's word for each lane in the topology, looked at once a turn
 * Owner   struct gateway
 * Errors  told to the clients: `overloaded` for what needs a lane that is down, `internal` for what
 *         a lane held when it was reset
 * Limits  a request that names neither session nor id goes to a lane that is not down
 *
 *   HERE --(word: RESETTING)--> LEFT: open requests failed, nothing mapped, the supervisor told
 *   LEFT --(its new objects came)--> HERE           HERE, word: DOWN: refused, what is open stays
 */
#pragma once

#include "stages/gateway/gateway.h"

/* A lane that is down is tried again that often. */
#define LANES_RETRY_MS 30000u

/* How many lanes have changed. */
unsigned lanes_turn(struct gateway *gw);
/* Mapped: false between a lane's reset and its return. */
bool lane_is_here(const struct gateway *gw, uint32_t lane);
bool lane_is_down(const struct gateway *gw, uint32_t lane);
/* ops->lane */
void gateway_lane(struct worker *w, uint32_t lane, uint64_t generation);
