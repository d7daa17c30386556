/*
 * detached -- responses that the database is to have before their end is published.
 *
 * Shape   the last event is held in the log, the whole response goes to the database's thread; with its
 *         word the event is published, whether it could be stored or not: an answer that cannot be
 *         stored now is stored as soon as the database works again
 * Owner   struct stream
 * Errors  none: what cannot be stored is in the log, and `status` says degraded
 * Limits  one job for each response; jobs are copies
 */
#pragma once

#include "stages/stream/stream.h"

/* Attach: whatever the last incarnation had under way goes to the database again. */
void detached_resume(struct worker *w);
/* Appends an event and says so; the last one of a detached response, or of a dead letter, is held and goes to the database first. As
 * response_log_append(). */
int detached_append(struct worker *w, uint32_t response, const struct ring_msg *msg, uint64_t outcome);
/* So many of the bytes that the database does not have, as a job. NULL: no memory. The worker fails when they are no events. */
struct database_job *detached_job(struct worker *w, uint32_t response, uint64_t bytes);
/* What has ended and is not stored goes to the database again. */
void detached_again(struct worker *w);
/* What the database has answered; its state. How many answers. */
unsigned detached_turn(struct worker *w);
/* Nothing is under way. */
bool detached_idle(const struct stream *stream);
