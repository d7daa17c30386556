/*
 * lookup -- what is asked about an id that no table knows, but that the database may have.
 *
 * Shape   the frame is parked and a LOOKUP goes to a stream stage; with its answer every frame parked for
 *         that id comes again, in its order: the response is in a log by then, or nowhere
 * Units   nanoseconds; bytes of frames
 * Owner   struct gateway; a parked frame belongs to its connection, and goes with it
 * Errors  the client is told: `overloaded` when too much is parked or no answer comes
 * Limits  4096 frames, admission.queue_bytes bytes, ten seconds each id
 *
 * A new id costs nothing: each log has a table of hashes of what is stored (log_may_be_stored()).
 */
#pragma once

#include "stages/common/loop.h"
#include "stages/common/record.h"

struct conn;
struct gateway;
struct lookup;
struct ring_msg;

/* A frame, and whose request it names. */
struct lookup_frame {
        struct conn *conn;
        const uint8_t *bytes;
        uint32_t len;
        struct mr_view tenant, id;
};

struct lookups {
        struct lookup *all;
        struct lookup *resolving; /* whose frames come again just now */
        bool failed;              /* and the database could not be asked */
        bool unsent;              /* a LOOKUP waits for room in its ring */
        uint64_t n;               /* frames */
        uint64_t bytes;
};

void lookups_init(struct gateway *gw);
void lookups_close(struct gateway *gw);
bool lookups_have_database(const struct gateway *gw);

/* True: the database is asked, and the frame comes again (or its client was told that it cannot). */
bool lookup_park(struct gateway *gw, const struct lookup_frame *frame);
/* A NOTICE or ABSENT; whoever looked at the logs meanwhile may know the response already. */
void lookup_answered(struct gateway *gw, const struct ring_msg *msg);
/* Sends what is due. How many. */
unsigned lookups_turn(struct gateway *gw);
/* The lane was reset: what it was asked, it is asked again, or another one. */
void lookups_lane_left(struct gateway *gw, uint32_t lane);
/* Everybody who waits is refused. */
void lookups_refuse(struct gateway *gw, enum mr_error code, const char *message);
/* The connection goes, and with it what it asked. */
void lookups_gone(struct gateway *gw, const struct conn *c);
