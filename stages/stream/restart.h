/*
 * restart -- a detached request that inference lost in the middle of its answer runs anew.
 *
 * Shape   RESTART asks: has anybody read what there is? Nobody has: the log forgets it, and the answer
 *         begins at event 1 again. Somebody has: it ends in worker_restarted, and gateways cancel what
 *         inference has begun (its outputs are acked, as after any end)
 * Owner   struct stream
 * Errors  those of response_log_append(); RESPONSE_E_SPACE: the record is to come again
 * Limits  the decision is stored with the number of its input before anything is dropped or said, so a
 *         kill anywhere repeats it
 */
#pragma once

#include "stages/stream/stream.h"

/* One RESTART of an open response. */
int restart_take(struct worker *w, uint32_t response, const struct ring_msg *msg);
