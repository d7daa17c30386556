/*
 * gateway -- what the files of this stage share: clients, answers, readers.
 *
 * Shape   a client is a connection with a tenant; an answer is one request, wherever it runs; a
 * reader is one client's cursor over one answer Units   nanoseconds of CLOCK_MONOTONIC Owner struct
 * gateway (w->stage) owns everything; answers and readers come from pools Errors  none of its own
 * Limits  answers: slots + door + GATEWAY_MORE_ANSWERS; readers: four for each answer
 *
 * Where an answer stands, and who moves it:
 *   DOOR --(submit: admitted)--> OPEN --(reader: terminal event)--> FINISHED --> freed without
 * readers (attach, cancel, result of another gateway's request) ELSEWHERE --(terminal event)-->
 * FINISHED DOOR --(another gateway was first)--> ELSEWHERE;   DOOR --(refused, everybody left)-->
 * freed
 */
#pragma once

#include "stages/common/stage.h"
#include "stages/gateway/admission_table.h"
#include "stages/gateway/compose.h"
#include "stages/gateway/door.h"
#include "stages/gateway/frames.h"
#include "stages/gateway/http_surface.h"
#include "stages/gateway/dialect.h"
#include "stages/gateway/lookup.h"

#define GATEWAY_FRAMES_TURN 128u  /* frames and requests a turn */
#define GATEWAY_SOCKET_MAX 4096u  /* connections of the Unix socket */
#define GATEWAY_EVENTS_TURN 512u  /* events a turn, over all readers */
#define GATEWAY_EVENTS_READER 64u /* events a reader's turn */
#define GATEWAY_MORE_ANSWERS 1024u
#define GATEWAY_FRAME_MORE 131072u /* what a frame may hold beside its body */

struct reader;

struct client {
        struct conn *conn;
        const struct dialect *dialect;
        struct reader *readers;
        uint32_t tenant_len;
        char tenant[24]; /* "local", "uid:N" */
};

enum answer_where { ANSWER_DOOR, ANSWER_OPEN, ANSWER_ELSEWHERE, ANSWER_FINISHED };

struct answer {
        struct answer *next_by_req, *next_by_id, *next_dirty, *next_cancel;
        uint64_t req_id; /* 0: at the door */
        uint64_t id_hash;
        uint32_t lane;
        uint32_t slot;     /* OPEN: in our table; else ADMISSION_NONE */
        uint32_t response; /* in the lane's log, LOG_NONE: not there yet */
        uint8_t where;     /* enum answer_where */
        uint8_t cancel;    /* enum cancel_reason that was asked for, 0: none */
        bool named;        /* in the table of ids */
        bool dirty, cancel_due, detached;
        bool deadline_first; /* the deadline holds until the first delta only */
        struct reader *readers;
        struct door_entry *waiting; /* DOOR */
        struct loop_timer deadline;
        struct gateway *gateway;
        uint64_t t0, first_ns;
        uint64_t digest[2];
        uint16_t id_len, tenant_len;
        char id[ADMISSION_ID_MAX];
        char tenant[ADMISSION_TENANT_MAX];
};

enum reader_kind {
        READER_EVENTS,   /* each event as it comes */
        READER_UNARY,    /* stream:false: everything at the end */
        READER_DETACHED, /* only `accepted` */
};

struct reader {
        struct reader *next, **self;               /* of the answer */
        struct reader *client_next, **client_self; /* of the client */
        struct answer *answer;
        struct client *client;
        enum reader_kind kind;
        uint32_t accepts; /* so many `accepted` are due */
        bool opened;
        bool behind; /* its client was too slow: texts are joined until it has caught up */
        uint64_t after;
        struct log_cursor cursor;
};

struct answers {
        struct answer **by_req, **by_id;
        uint32_t mask;
        uint32_t n, limit;
        struct answer *free;
        struct answers_chunk *chunks;
};

struct readers {
        struct reader *free;
        uint32_t n, limit;
        struct readers_chunk *chunks;
};

struct gateway {
        struct worker *w;
        uint32_t slot, n_lanes;
        uint32_t uid;
        bool leaving; /* connections close because we go, not because their clients do */
        struct conns conns;
        struct frames_ops frames;
        struct http_surface http;
        struct conn_listener *socket; /* of the Unix socket */
        struct composer composer;
        struct arena arena;
        struct admission_table table;
        struct door door;
        struct lookups lookups;
        struct answers answers;
        struct readers readers;
        struct record_decoder vars; /* of frames, apart from the log's events */
        struct worker_out *to_rag[LANES_MAX], *to_inference[LANES_MAX], *to_stream[LANES_MAX];
        struct worker_in *notices[LANES_MAX];
        uint64_t missed[LANES_MAX];
        bool over_bound[LANES_MAX]; /* a request waits until fewer records do */
        uint64_t lane_gen[LANES_MAX];
        uint64_t lane_left[LANES_MAX]; /* generation that made us leave it, 0: none */
        bool lane_here[LANES_MAX], lane_down[LANES_MAX]; /* lanes.h */
        struct answer *dirty, **dirty_end;
        struct answer *cancels;
        struct loop_timer grace;     /* after a death: whose clients did not come back? */
        struct loop_timer last_call; /* closing: the clients that are there may ask until then */
        bool called;                 /* it has passed */
        uint64_t closed_ns;      /* when the last slot closed */
        uint64_t close_gap_ns;   /* between two closes, on average */
        uint32_t random_at;
        uint8_t random[1024];
        uint8_t event[LOG_EVENT_MAX];
};

static inline struct gateway *gateway_of(const struct conn *c) {
        return c->conns->ctx;
}
static inline struct mr_view answer_id(const struct answer *a) {
        return (struct mr_view){a->id, a->id_len};
}
static inline struct mr_view text_view(const char *text) {
        return (struct mr_view){text, (uint32_t)__builtin_strlen(text)};
}

/* n <= 1024 bytes of the kernel's. 0 or -EIO. */
int gateway_random(struct gateway *gw, uint8_t *to, uint32_t n);
/* What an answer calls the model that was asked for: n 0 is the only one there is. */
struct mr_view gateway_model_name(const struct gateway *gw, struct mr_view asked);
/* Seconds since 1970 of a CLOCK_MONOTONIC time. */
static inline uint64_t gateway_epoch_s(const struct gateway *gw, uint64_t ns) {
        return (uint64_t)(gw->http.epoch_s + (int64_t)(ns / NS_PER_S));
}
/* How long a refused client should wait. */
uint64_t gateway_retry_after_ms(const struct gateway *gw);
/* Names a new client after its connection's peer. */
void client_init(struct client *client, struct conn *c, const struct dialect *dialect);
/* It is gone: nothing names it any more. */
void client_gone(struct client *client);
static inline void client_refuse(struct client *client, struct mr_view id, enum mr_error code,
                const char *message, uint64_t retry_after_ms) {
        const struct dialect_error error = {.code = code,
                        .message = text_view(message),
                        .retry_after_ms = retry_after_ms};

        client->dialect->error(client, id, 0, &error);
}
/* What it asks for is wrong in itself. */
static inline void client_refuse_ask(
                struct client *client, struct mr_view id, const struct ask_error *wrong) {
        const struct dialect_error error = {.code = wrong->code,
                        .message = text_view(wrong->text),
                        .param = text_view(wrong->param),
                        .retry_after_ms = ASK_NO_RETRY};

        client->dialect->error(client, id, 0, &error);
}
/* One request of a client: what it asks for is done, or refused. */
void gateway_ask(struct gateway *gw, struct client *client, const uint8_t *bytes, uint32_t len);
