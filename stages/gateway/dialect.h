/*
 * dialect -- how a surface says what readers have to say: the seam between readers, submit and door
 * on one side, and the Unix socket's msgpack or HTTP's JSON on the other.
 *
 * Shape   struct dialect: one const table for each; struct client carries its own
 * Units   milliseconds
 * Owner   views live as long as the call
 * Errors  an output that cannot take what is written closes the connection, and with it the
 *         client's readers: callers look at conn->state
 * Limits  none of its own
 */
#pragma once

#include "shm/log.h"
#include "stages/common/record.h"
#include "stages/engines/json/json.h"
#include "stages/gateway/ask.h"
#include "stages/gateway/conn.h"

struct answer;
struct composed;
struct client;
struct gateway;
struct reader;

/* A text that is put together from several events: begun with its whole length, then its pieces. */
struct dialect_text {
        struct client *client;
        uint32_t mark; /* the dialect's */
        union {
                struct pack_buf pack;
                struct json_buf json;
        } w;
};

/* How a reader that was just made stands. */
enum attached {
        ATTACHED_READS,  /* there are events for it, or there will be */
        ATTACHED_AT_END, /* the answer has ended, and it has seen all of it */
        ATTACHED_GONE,   /* its events are evicted: an error comes */
};

struct dialect_error {
        enum mr_error code;
        struct mr_view message;
        struct mr_view param;    /* the member of a body that is wrong; n 0: none, or another */
        uint64_t retry_after_ms; /* ASK_NO_RETRY: none */
};

struct dialect {
        /* The bytes of a request again: from the door, or when the database was asked. As
         * native_parse(). */
        int (*parse)(const uint8_t *bytes, uint32_t len, struct ask *ret,
                        struct ask_error *ret_error);
        /* What a submit turned out to be, before anything is taken for it. NULL: nothing to know. */
        void (*composed)(struct client *client, const struct composed *made);
        /* more: events follow, and may go out with it. */
        void (*accepted)(struct client *client, const struct answer *a, bool more);
        void (*cancelled)(struct client *client, struct mr_view id);
        /* `attach` has made this reader. NULL: nothing is said. */
        void (*attached)(struct client *client, struct reader *r, enum attached how);
        /* seq 0: refuses what was asked; else the last word of a reader. id.n 0: none. */
        void (*error)(struct client *client, struct mr_view id, uint64_t seq,
                        const struct dialect_error *error);
        /* One event of the log: a DELTA, DONE or ERROR with its number. */
        void (*event)(struct client *client, const struct answer *a,
                        const struct log_event_head *head, const struct record *record);
        /* A delta over first..seq with the choice and kind of `like`. False: the connection is gone.
         * NULL: event() gets each as the log has it, what was joined with its `cuts`. */
        bool (*text_delta)(struct dialect_text *t, struct client *client, const struct answer *a,
                        uint64_t first, uint64_t seq, const struct record *like,
                        uint32_t text_bytes);
        void (*text_piece)(struct dialect_text *t, struct mr_view text);
        void (*text_end)(struct dialect_text *t, const struct record *like);
        /* Everything behind the cursor, up to and with the terminal event. 0 or LOG_E_GONE (nothing
         * was written). */
        int (*whole)(struct gateway *gw, struct reader *r, struct log_cursor from);
        /* The answer as it stands. `from` NULL: the log has nothing of it. 0 or LOG_E_GONE. */
        int (*result)(struct gateway *gw, struct client *client, const struct answer *a,
                        const struct log_cursor *from);
};
