/*
 * parts -- an open detached answer for which the log has no room goes to the database piece by piece.
 *
 * Shape   the oldest half of the open detached response that holds most is copied into a job; with the database's
 *         word its extents are given back. What is waiting for room waits meanwhile (back-pressure)
 * Owner   struct stream; a job is a copy
 * Errors  none: while the database cannot be written the log may lose what it does not have (response_log.h)
 * Limits  one part of a response at a time
 */
#pragma once

#include "stages/stream/stream.h"

/* The log has no room. True: it will have, wait; false: nothing is under way, and nothing can be. */
bool parts_make_room(struct worker *w);
/* The database's word on a part. */
void parts_done(struct worker *w, const struct database_job *job);
