/*
 * native_put -- the native dialect's events, each one whole msgpack map into a flat buffer.
 *
 * Shape   pure functions over struct pack_buf; no connection
 * Units   bytes; milliseconds
 * Owner   the buffer is the caller's
 * Errors  w->full; a buffer of the size that the bound says is never full
 * Limits  as the log's events
 */
#pragma once

#include "shm/admission.h"
#include "shm/log.h"
#include "stages/common/record.h"

/* What an event takes beyond the texts in it: names of members, numbers, an id. */
#define NATIVE_EVENT_BOUND (512u + ADMISSION_ID_MAX)

/* {"ev":name (,"id":id) ... with `members` more to come. id.n 0: none. */
void native_put_begin(struct pack_buf *w, const char *name, struct mr_view id, uint32_t members);
void native_put_accepted(struct pack_buf *w, struct mr_view id, uint32_t lane);
/* seq 0: refuses an operation. retry_after_ms: ASK_NO_RETRY: nil. NATIVE_EVENT_BOUND and the message. */
void native_put_error(struct pack_buf *w, struct mr_view id, uint64_t seq, enum mr_error code,
                struct mr_view message, uint64_t retry_after_ms);

/* One event of the log: a DELTA, DONE or ERROR with its number. */
uint32_t native_event_bound(const struct log_event_head *head, const struct record *record);
void native_put_event(struct pack_buf *w, struct mr_view id, const struct log_event_head *head,
                const struct record *record);
/* A delta over first..seq with the choice and kind of `like`; text_bytes of its text come behind it.
 * NATIVE_EVENT_BOUND, the kind and the text. */
void native_put_text_head(struct pack_buf *w, struct mr_view id, uint64_t first, uint64_t seq,
                const struct record *like, uint32_t text_bytes);

/* A result up to its text, of which text_bytes come behind it; then the rest. type 0: no terminal event
 * yet. Twice NATIVE_EVENT_BOUND, the text, and what collect_measure() says for the rest. */
void native_put_result_head(struct pack_buf *w, struct mr_view id, const char *status,
                uint32_t text_bytes);
void native_put_result_rest(struct pack_buf *w, uint16_t type, const struct record *terminal);
