/*
 * lookup -- ids that no table knows: gateways ask whether the database has them.
 *
 * Shape   a LOOKUP record names an id and the number that its response is to get; the response is written
 *         into the log under that number, finished, and a NOTICE says so; else an ABSENT
 * Owner   a LOOKUP stays in its ring until its answer is out, so that it survives us
 * Errors  a broken record: shared memory is inconsistent
 * Limits  STREAM_LOOKUPS_MAX at once, the others wait in their rings; an answer waits for room in the
 *         ring of its gateway, and holds up nobody else; a response that the log can never hold, even with its
 *         deltas joined, is one that the database cannot give
 */
#pragma once

#include "stages/stream/stream.h"

void lookup_init(struct stream *stream);
/* The largest response that the log takes back; a quarter of it comes back event by event, more is joined. */
uint64_t lookup_whole_bytes(const struct worker *w);
/* Takes what gateways ask, and answers what can be answered. How much was done. */
unsigned lookup_turn(struct worker *w);
/* The thread is done with it; the job is kept. */
void lookup_loaded(struct worker *w, struct database_job *job);
void lookup_fini(struct stream *stream);
