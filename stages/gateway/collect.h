/*
 * collect -- one text out of many events: stream:false, `result`, and readers that fell behind.
 *
 * Shape   two walks over the log: how long is it, then its bytes straight into the output
 * Owner   the cursor is the caller's
 * Errors  0, LOG_E_GONE (nothing was written)
 * Limits  a text up to admission.max_response_bytes; a whole answer is walked in one go
 */
#pragma once

#include "stages/gateway/gateway.h"

/* The next event, decoded into the worker's decoder. 0, LOG_E_AGAIN, LOG_E_GONE. */
int collect_next(struct gateway *gw, const struct answer *a, struct log_cursor *at,
                struct log_event_head *head, struct record *record);
/* Of how many events a delta was joined; 0: it was not. */
uint64_t collect_joined(const struct record *r);
/* One event to its reader; what is joined becomes a delta over all of it that he has not seen. */
void collect_event(struct reader *r, const struct log_event_head *head, struct record *record);
/* Everything behind the cursor: adjacent deltas of one choice and kind become one, then the
 * terminal. */
int collect_answer(struct gateway *gw, struct reader *r, struct log_cursor from);

/* A reader that fell behind: the event that it has just taken, from `from`, and those behind it that go
 * with it become one delta of about COLLECT_RUN_BYTES. 0, LOG_E_GONE, COLLECT_E_ALONE: it goes with no
 * other, and is still to be written. */
#define COLLECT_RUN_BYTES 16384u
#define COLLECT_E_ALONE (-1)
int collect_run(struct gateway *gw, struct reader *r, const struct log_event_head *head,
                const struct record *record, struct log_cursor from);

/* What a whole answer is made of. */
struct collect_whole {
        uint64_t events, text_bytes;
        uint64_t bytes; /* of all records */
        uint16_t type;  /* of the terminal event, 0: none yet */
        uint32_t rest_bytes;
        uint64_t code;
};
int collect_measure(struct gateway *gw, const struct answer *a, struct log_cursor at,
                struct collect_whole *ret);
/* Is it text of the first choice? Only that is the text of a result. */
bool collect_is_text(const struct log_event_head *head, const struct record *r);
/* `status` of a result. whole NULL: the log has no event of it. */
const char *collect_status(const struct answer *a, const struct collect_whole *whole);
