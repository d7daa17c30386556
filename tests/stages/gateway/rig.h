/*
 * rig -- a gateway in this process, with lanes that the test plays: it takes requests out of the
 * rings and writes answers into the logs, by the layouts of shm/.
 */
#pragma once

#include <msgpack.h>

#include "shm/segment.h"
#include "stages/gateway/http.h"
#include "stages/gateway/ops.h"

#define RIG_LANES_MAX 2

struct rig_lane {
        struct ring_map maps[8]; /* data, cancel, notice, lookup: the producer's and the consumer's
                                    view of each */
        struct ring_rx requests, cancels, lookups;
        struct ring_tx notices;
        struct log_shm *log;
        uint32_t n_responses, n_extents; /* used so far */
        bool silent;                     /* notices are dropped and counted as missed */
        bool stuck;                      /* requests are left in the ring */
};

struct rig {
        struct worker w;
        struct gateway *gw;
        struct conn_listener *http;
        struct topology_shm *topology;
        struct rig_lane lane[RIG_LANES_MAX];
        struct admission_shm *own, *other; /* this gateway's table, and one that the test writes */
        void *arena;
        uint64_t arena_bytes;
        struct arena_view view;
        struct record_decoder decoder; /* the lanes' */
        void *memory[64];
        uint32_t n_memory;
        uint32_t n_lanes;
        bool alive;
};

struct rig_setup {
        uint32_t lanes, max_in_flight;
        uint32_t slot; /* of this gateway; the other one has the other slot of two */
        uint64_t arena_bytes;
        void (*settings)(struct settings *s);
};

void rig_new(struct rig *rig, const struct rig_setup *setup);
/* Dies at once, and comes back over the same memory. */
void rig_kill(struct rig *rig);
void rig_revive(struct rig *rig);
void rig_free(struct rig *rig);

/* What the supervisor says of a lane. */
void rig_lane_state(struct rig *rig, uint32_t lane, enum lane_state state, uint64_t generation);
/* The new objects of a lane that the gateway has left. */
void rig_lane_back(struct rig *rig, uint32_t lane, uint64_t generation);

/* One turn of the loop and of the stage; with what it did. */
unsigned rig_turn(struct rig *rig);
/* Turns until nothing more happens. */
void rig_settle(struct rig *rig);
/* Turns for this long. */
void rig_wait_ms(struct rig *rig, unsigned ms);

/* ---- a client ---- */

struct rig_client {
        int fd;
        msgpack_unpacker unpacker;
        msgpack_unpacked event;
};

void rig_connect(struct rig *rig, struct rig_client *c);
void rig_disconnect(struct rig_client *c);
void rig_send(struct rig_client *c, const void *bytes, size_t n);
/* name, text, name, text, ..., NULL */
void rig_say(struct rig_client *c, ...);
/* The next event, after turns; NULL: none comes (end of file or silence). */
const msgpack_object *rig_event(struct rig *rig, struct rig_client *c);
bool rig_closed(struct rig *rig, struct rig_client *c);

const msgpack_object *rig_get(const msgpack_object *map, const char *name);
bool rig_is(const msgpack_object *map, const char *name, const char *text);
uint64_t rig_u64(const msgpack_object *map, const char *name);
/* Fails the test unless the next event is of that kind. */
const msgpack_object *rig_expect(struct rig *rig, struct rig_client *c, const char *ev);
/* The next event must be an error without seq, with that code, whose message holds that text. */
void rig_expect_refusal(struct rig *rig, struct rig_client *c, const char *code, const char *text);

/* ---- a client over HTTP ---- */

struct rig_http {
        int fd;
        uint32_t len; /* of what has come and was not taken */
        char got[1 << 20];
};

void rig_http_connect(struct rig *rig, struct rig_http *c);
void rig_http_say(struct rig_http *c, const char *text);
/* Turns until `text` has come; the test fails when it does not. */
void rig_http_expect(struct rig *rig, struct rig_http *c, const char *text);
/* Everything up to its end is taken. */
void rig_http_take(struct rig *rig, struct rig_http *c, const char *text);
bool rig_http_closed(struct rig *rig, struct rig_http *c);

/* ---- a lane ---- */

/* The next request of a lane; false: none came. Views are good until the next call. */
bool rig_take(struct rig *rig, uint32_t lane, struct record *ret, uint64_t *ret_req_id);
/* reason, 0: none. */
uint64_t rig_take_cancel(struct rig *rig, uint32_t lane, uint64_t *ret_req_id);
/* Makes the response from the request's head. */
uint32_t rig_response(
                struct rig *rig, uint32_t lane, uint64_t req_id, const struct record *request);
void rig_log(struct rig *rig, uint32_t lane, uint32_t response, uint16_t type, uint64_t seq,
                const struct record *event, uint64_t outcome);
void rig_delta(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq, const char *text);
void rig_done(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq);
void rig_error(struct rig *rig, uint32_t lane, uint32_t response, uint64_t seq, enum mr_error code);
/* The response runs anew, as far as LOG_RESTART_* says; 0: all that was logged is gone. */
void rig_restart(struct rig *rig, uint32_t lane, uint32_t response, uint64_t restart);
/* Takes every extent away. */
void rig_evict(struct rig *rig, uint32_t lane, uint32_t response);
