/*
 * turns -- what a session keeps of a request that has ended well: what was asked, out of the arena of the
 * gateway that admitted it, and what was said, out of the log.
 *
 * Shape   a turn travels in the job that stores it (database.h); its answer is put together there, by the
 *         database's thread, within the transaction
 * Owner   the job
 * Errors  a turn that cannot be had is counted and said once for each
 * Limits  none of its own
 *
 * As with letters the end of the response is held until the turn is stored: whoever has seen an answer's end
 * and asks the next question finds it in the history.
 */
#pragma once

#include "stages/stream/stream.h"

/* Is its end one that is held for that? */
bool turns_wanted(const struct stream *stream, uint32_t response, uint64_t outcome);
/* What was asked. NULL: it cannot be had. */
struct database_turn *turns_make(struct worker *w, uint32_t response);
/* It will not be stored. */
void turns_lost(struct worker *w, uint64_t req_id, const char *why);
