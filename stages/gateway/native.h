/*
 * native -- the dialect of the Unix socket: msgpack maps <-> what is asked and what is answered.
 *
 * Shape   struct ask: one request of a client, as views into its frame; native_*(): one event,
 * packed straight into the connection's output Units   milliseconds where a client says so,
 * nanoseconds inside Owner   views live as long as the frame; events are copied Errors
 * native_parse: 0 or the error code for the client, with the field that is wrong in words Limits
 * ids ADMISSION_ID_MAX bytes, names and sessions NATIVE_NAME_MAX, depth 32 (frames)
 */
#pragma once

#include "shm/log.h"
#include "stages/common/record.h"
#include "stages/gateway/frames.h"

#define NATIVE_NAME_MAX 1024u
#define NATIVE_ERROR_MAX 240u

enum native_op { OP_SUBMIT, OP_ATTACH, OP_CANCEL, OP_RESULT, OP_PING, OPS_N };
enum native_content { CONTENT_PROMPT, CONTENT_MESSAGES, CONTENT_BODY };
enum native_priority {
        PRIORITY_SYSTEM,
        PRIORITY_INTERACTIVE,
        PRIORITY_DEFAULT,
        PRIORITY_BULK,
        PRIORITIES_N
};

/* Texts that were not given have n == 0. */
struct ask {
        enum native_op op;
        struct mr_view id, session, model, system, template_name;
        enum native_content content;
        struct mr_view text;     /* prompt or body */
        struct mr_view messages; /* msgpack of the array */
        struct mr_view vars;     /* msgpack of the map */
        struct mr_view params;   /* msgpack of the map */
        enum native_priority priority;
        uint64_t deadline_ms; /* 0: none */
        uint64_t after;
        uint32_t options; /* OPTION_DETACH, OPTION_STREAM, OPTION_RAG_ON, OPTION_RAG_OFF */
};

struct native_error {
        enum mr_error code;
        char text[NATIVE_ERROR_MAX];
};

/* ret->id is set even when something else is wrong, so that the error can name it. */
int native_parse(const uint8_t *bytes, uint32_t len, struct ask *ret,
                struct native_error *ret_error);
bool native_is_map(const uint8_t *bytes, uint32_t len);
/* Sets the error and returns its code. */
__attribute__((format(printf, 3, 4))) int native_fail(
                struct native_error *error, enum mr_error code, const char *format, ...);

/* ---- events; each is one whole map in the output of c ---- */

#define NATIVE_NO_RETRY UINT64_MAX

void native_pong(struct conn *c);
/* more: events follow, and may go out with it (one send and one wake-up of the client less). */
void native_accepted(struct conn *c, struct mr_view id, uint32_t lane, bool more);
void native_cancelled(struct conn *c, struct mr_view id);
/* seq 0: refuses an operation. id.n 0: none. retry_after_ms: NATIVE_NO_RETRY: nil. */
void native_error(struct conn *c, struct mr_view id, uint64_t seq, enum mr_error code,
                struct mr_view message, uint64_t retry_after_ms);
/* One event of the log: a DELTA, DONE or ERROR with its number; `first` 0: covers itself only. */
void native_event(struct conn *c, struct mr_view id, const struct log_event_head *head,
                uint64_t first, const struct record *record);

/* A text that is put together from several events: begun with its whole length, then its pieces. */
struct native_text {
        struct conn *conn;
        struct pack_buf w;
};
/* A delta over first..seq with the choice and kind of `like`. False: the connection is gone. */
bool native_text_delta(struct native_text *t, struct conn *c, struct mr_view id, uint64_t first,
                uint64_t seq, const struct record *like, uint32_t text_bytes);
/* A result up to and with its text; the rest comes with native_result_end(). */
bool native_text_result(struct native_text *t, struct conn *c, struct mr_view id,
                const char *status, uint32_t text_bytes, uint32_t rest_bytes);
void native_text_piece(struct native_text *t, struct mr_view text);
void native_text_end(struct native_text *t);
/* type 0: no terminal event yet. */
void native_result_end(struct native_text *t, uint16_t type, const struct record *terminal);
