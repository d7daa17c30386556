/*
 * letters -- dead letters: what was asked, out of the tables and arena of the gateway that admitted it.
 *
 * Shape   a letter is a copy, and travels in the job that stores it (database.h)
 * Owner   struct stream
 * Errors  a request that has no copy in the arena, for lack of room, leaves a letter without it
 * Limits  STREAM_LETTERS_MAX letters and turns that could not be stored are kept until the database works again
 *
 * The slot stays open, and its arena block as it is, until the request's end is published; and that is
 * held until the letter is stored, whether the request is detached or not.
 */
#pragma once

#include "stages/stream/stream.h"

/* Why: of the ERROR record. False: it is no dead letter. */
bool letter_cause(const struct record *error, struct response_letter *ret);
/* What the gateway says of an open request. False: it has ended there. */
bool letters_slot(const struct worker *w, uint64_t req_id, struct admission_slot *ret);
/* The whole request of a response whose end is held. NULL: no memory. */
struct database_letter *letters_make(const struct worker *w, uint32_t response);
/* A letter, or a turn, that could not be stored: taken, to be tried again. */
void letters_keep(struct worker *w, struct database_job *job);
/* The database works again. */
void letters_retry(struct worker *w);
void letters_fini(struct worker *w);
