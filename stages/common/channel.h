/*
 * channel -- what supervisor and worker say to each other over their one SOCK_SEQPACKET pair.
 *
 * Shape   one message a packet: struct channel_head, then its bytes, up to one descriptor
 *         (SCM_RIGHTS)
 * Owner   the receiver of a descriptor closes it; workers find the channel at descriptor CHANNEL_FD
 * Errors  0, -errno, CHANNEL_E_*; a message that does not fit its type is -EPROTO
 * Limits  CHANNEL_BYTES a packet (settings come in several)
 *
 * Order at the start: HELLO, SETTINGS*, OBJECT*, BELL*, LISTENER*, LOCK, START from the supervisor;
 * READY (or FAILED) from the worker. Later: DRAIN, CLOSE, CUT, LEAVE, OBJECT (arenas; TAKEN comes
 * back), or end of file (supervisor gone: leave). A lane that is reset: LANE_LEFT from each gateway,
 * then OBJECT* and LANE to each of them.
 */
#pragma once

#include <stdint.h>

#include "shm/layout.h"

#define CHANNEL_FD 3
#define CHANNEL_BYTES 32768u

enum channel_type {
        CHANNEL_HELLO = 1, /* struct channel_hello */
        CHANNEL_SETTINGS,  /* bytes of settings_pack(); the last packet has flag 1 */
        CHANNEL_OBJECT,    /* struct channel_object + descriptor */
        CHANNEL_BELL,      /* struct channel_bell + descriptor */
        CHANNEL_LISTENER,  /* struct channel_listener + descriptor */
        CHANNEL_LOCK,      /* descriptor of the instance lock, to be kept open */
        CHANNEL_START,
        CHANNEL_DRAIN,     /* take nothing new (gateway: refuse, `draining`), finish, say DRAINED */
        CHANNEL_LEAVE,     /* publish everything, exit 0 */
        CHANNEL_READY,     /* worker: attached, recovered, neighbours rung */
        CHANNEL_DRAINED,   /* worker: nothing is in flight here (repeated DRAIN asks again) */
        CHANNEL_FAILED,    /* worker: one line of text, then it exits */
        CHANNEL_CUT,       /* gateway: second signal: each open answer ends with one `draining` */
        CHANNEL_CLOSE,     /* gateway: another one has its place: let nobody in, finish, say DRAINED */
        CHANNEL_TAKEN,     /* worker: an object that came after START is mapped */
        CHANNEL_LANE,      /* struct channel_lane, to a gateway: its new objects have been sent */
        CHANNEL_LANE_LEFT, /* likewise, from a gateway: nothing of the lane is mapped any more */
        CHANNEL_LANE_BROKEN, /* likewise: whose memory it is that makes it exit with 71 next */
        CHANNEL_GIVEN_UP,  /* struct channel_given_up: a record that this stage died of is a dead letter */
};

struct channel_head {
        uint32_t type;
        uint32_t flags;
};

struct channel_hello {
        uint32_t role; /* enum mr_role */
        uint32_t proc; /* process index in the topology */
        uint32_t lane, slot;
        uint64_t epoch;      /* incarnation, from 1 */
        uint32_t blame;      /* 1: the last incarnation's death was its own doing */
        uint32_t core;       /* pinned to; UINT32_MAX: none */
        uint32_t recycled;   /* 1: the last incarnation left because it had grown too large */
        uint32_t signal;     /* blame: that it died of; 0: none */
        uint64_t page_bytes; /* of the topology object */
        uint64_t settings_bytes;
        char instance[64];
        char socket[108];
};

struct channel_object {
        uint32_t kind; /* enum mr_object */
        /* ring: id; slab: lane, stage; admission, arena: slot; log: lane; counters, side: proc */
        uint32_t a, b;
        uint32_t writable; /* the descriptor is O_RDWR and this worker is the writer */
        uint64_t bytes;    /* 0, and no descriptor: it exists no more (arenas) */
};

struct channel_bell {
        uint32_t proc; /* whose bell; the worker's own index: its own */
        uint32_t rsv;
};

enum channel_listener_kind { LISTENER_SOCKET = 1, LISTENER_TELEMETRY = 2, LISTENER_HTTP = 3 };
#define HTTP_LISTENERS_MAX 16u /* as many as http.listen may name */
struct channel_listener {
        uint32_t kind;
        uint32_t index; /* HTTP: which one of http.listen; else 0 */
};

struct channel_lane {
        uint32_t lane, rsv;
        uint64_t generation; /* LANE_BROKEN: 0 */
};

struct channel_given_up {
        uint32_t strikes; /* deaths that it explains */
        uint32_t rsv;
};

enum channel_error { CHANNEL_E_EOF = 1, CHANNEL_E_AGAIN };

/* fd -1: none. 0, CHANNEL_E_AGAIN (would block), CHANNEL_E_EOF (peer gone), -errno. */
int channel_send(int channel, enum channel_type type, uint32_t flags, const void *bytes,
                uint32_t len, int fd);
/* *ret_fd is -1 or a new close-on-exec descriptor. wait: block. */
int channel_recv(int channel, int wait, struct channel_head *ret_head, void *buf, uint32_t cap,
                uint32_t *ret_len, int *ret_fd);
