/*
 * join -- events of a stored response on their way back into the log: deltas that follow each other become one.
 *
 * Shape   a growing block of struct log_event_head, payload, padding to 8. A joined delta has the number of its
 *         last event, and in `cuts` how long the text of each was, so that readers can tell them apart again
 * Units   bytes; a length is LEB128: seven bits a byte, the lowest first, the last one below 128
 * Owner   the caller, on the database's thread
 * Errors  0, -ENOMEM, -EPROTO (a stored record that is none)
 * Limits  JOIN_TEXT_MAX bytes of text in one; only what has text and nothing else but choice and kind is joined
 *
 * The many small deltas of an answer take ten times the room of its text, in the log as anywhere: an answer
 * that is larger than the log comes back into it this way.
 */
#pragma once

#include <stdbool.h>

#include "shm/log.h"
#include "stages/common/record.h"

#define JOIN_TEXT_MAX 32768u
#define JOIN_CUTS_MAX 32768u
#define JOIN_KIND_MAX 32u

struct join {
        struct record_decoder *decoder;
        bool wanted; /* else every event comes as it is */
        uint8_t *at;
        uint64_t bytes, cap;
        /* The delta that is being put together; its text and cuts. */
        char *text;
        uint32_t n_text, n_cuts;
        uint64_t seq, choice;
        uint32_t n_kind;
        char kind[JOIN_KIND_MAX];
};

int join_event(struct join *join, const struct log_event_head *head, const void *record);
/* All have come, or something failed: the block is the caller's, who frees it. */
int join_end(struct join *join, uint8_t **ret, uint64_t *ret_bytes);
