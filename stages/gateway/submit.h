/*
 * submit -- one request in: checked, composed, given a lane, admitted or sent to the door.
 *
 * Owner   struct gateway
 * Errors  the client is told; nothing is returned to the caller
 */
#pragma once

#include "stages/gateway/gateway.h"

void submit(struct gateway *gw, struct client *client, const struct ask *ask,
                const struct lookup_frame *frame);
/* A request at the door tries again: 0: it left the door, 1: it stays. */
int submit_waiting(struct gateway *gw, struct door_entry *entry);
/* Everybody who waits for it is refused; it leaves the door. */
void submit_refuse_waiting(
                struct gateway *gw, struct answer *a, enum mr_error code, const char *message);
