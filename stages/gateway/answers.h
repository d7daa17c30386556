/*
 * answers -- every request that this gateway knows, by number and by the client's id.
 *
 * Shape   two hash tables over one pool; chunks of the pool are never given back
 * Owner   struct gateway
 * Errors  0, -ENOMEM; NULL when the limit is reached
 */
#pragma once

#include "stages/gateway/gateway.h"

int answers_init(struct answers *answers, uint32_t limit);
void answers_close(struct answers *answers);

struct answer *answers_by_req(const struct answers *answers, uint64_t req_id);
struct answer *answers_by_id(const struct answers *answers, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id);
/* The same, for whoever wants all of it: not one of which only the database has the beginning. */
struct answer *answer_named(const struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id);
/* A new answer at the door, without number; id.n 0: without name. NULL: too many. */
struct answer *answer_new(
                struct gateway *gw, uint64_t id_hash, struct mr_view tenant, struct mr_view id);
void answer_number(struct gateway *gw, struct answer *a, uint64_t req_id);
void answer_name(struct gateway *gw, struct answer *a, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id);
/* Its id may run anew; who reads it goes on. */
void answer_unname(struct gateway *gw, struct answer *a);
void answer_free(struct gateway *gw, struct answer *a);

/* Looks it up wherever a request moves: here, the other gateways, the logs. 0: *ret is known here
 * now; ANSWER_E_NONE; ANSWER_E_GONE: it was, and its events are evicted; ANSWER_E_FULL. */
enum answer_error { ANSWER_E_NONE = 1, ANSWER_E_GONE, ANSWER_E_FULL };
int answer_find(struct gateway *gw, struct mr_view tenant, struct mr_view id, struct answer **ret);
/* The same without a look at what is known here. */
int answer_find_elsewhere(struct gateway *gw, uint64_t id_hash, struct mr_view tenant,
                struct mr_view id, struct answer **ret);

/* Does a log know it as one that runs, or that ended and may not run anew? */
bool answer_is_logged(const struct gateway *gw, struct mr_view tenant, struct mr_view id);

/* Its readers are looked after in this turn. */
void answer_dirty(struct gateway *gw, struct answer *a);
/* All of a lane: notices were missed. */
void answers_dirty_lane(struct gateway *gw, uint32_t lane);
/* Looks for requests that nobody reads any more (reader_orphan). */
void answers_orphans(struct gateway *gw);
/* Marks and sends CANCEL to inference; what waits at the door or has finished is not changed. */
void answer_cancel(struct gateway *gw, struct answer *a, enum cancel_reason reason);
/* It has ended, but inference has begun it anew, or is still at it: CANCEL is sent, so that it does not run on for nobody. */
void answer_stop(struct gateway *gw, struct answer *a);
/* Sends what is due. How many. */
unsigned cancels_turn(struct gateway *gw);
