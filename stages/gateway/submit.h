/*
 * submit -- one request in: checked, composed, given a lane, admitted or sent to the door.
 *
 * Shape   admission: lane's share -> slot claimed -> arena block -> record in the ring -> slot
 * OPEN; the commit of the ring and `accepted` follow at the end of the turn Owner   struct gateway
 * Errors  the client is told; nothing is returned to the caller
 * Limits  SUBMIT_INLINE bytes of body travel in the record, larger ones lie in the arena
 */
#pragma once

#include "stages/gateway/gateway.h"

#define SUBMIT_INLINE 4096u

void submit(struct gateway *gw, struct client *client, const struct ask *ask,
                const struct lookup_frame *frame);
/* Makes real what was admitted to the lane in this turn. */
void submit_commit(struct gateway *gw, uint32_t lane);
/* A request at the door tries again: 0: it left the door, 1: it stays. */
int submit_waiting(struct gateway *gw, struct door_entry *entry);
/* Everybody who waits for it is refused; it leaves the door. */
void submit_refuse_waiting(
                struct gateway *gw, struct answer *a, enum mr_error code, const char *message);
