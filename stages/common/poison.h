/*
 * poison -- a request that this stage has died of again and again, given up.
 *
 * Shape   a record with POISON_STRIKES strikes is not handled any more: in its place goes the ERROR that
 *         poison_error() makes; nothing of the record is read for it, not even its fields
 * Units   strikes: deaths of this stage's own doing with the record at hand
 * Owner   the stage emits the error in the record's place, commits and acknowledges as for any other
 * Errors  none
 * Limits  a record with a strike runs alone: the stage has nothing else in flight meanwhile
 *
 *   0 --(death)--> 1 --(alone; death)--> 2 --(alone; death)--> 3: dead letter
 *
 * Stream stores the whole request, as the gateway wrote it down, before it publishes the error
 * (stages/stream/letters.h); it also puts in what the error does not say: whose request it was.
 */
#pragma once

#include "stages/common/stage.h"

#define POISON_STRIKES 3u
#define POISON_ERROR_BYTES 256u /* more than the error's record ever takes */

struct poison_error {
        struct record record;
        char message[96];
};

/* The error that the request ends in. */
void poison_error(const struct worker *w, uint32_t strikes, struct poison_error *ret);
/* After the commit: counted, logged, and the supervisor hears what the deaths were about. */
void poison_given_up(struct worker *w, uint64_t req_id, uint32_t strikes);
