/*
 * door -- where requests wait until a lane has room; the only place where they do.
 *
 * Shape   for each lane four lines, one for each priority; a waiting request is its frame and its
 * answer Units   bytes of frames; nanoseconds Owner   struct gateway; an entry belongs to its
 * answer (answer->waiting) Errors  0, DOOR_E_FULL Limits  admission.queue requests,
 * admission.queue_bytes bytes, admission.queue_timeout_ms each
 */
#pragma once

#include "stages/common/loop.h"
#include "shm/layout.h"
#include "stages/gateway/compose.h"
#include "stages/gateway/dialect.h"

struct answer;
struct gateway;

enum door_error { DOOR_E_FULL = 1 };

#define DOOR_LOOK (UINT64_MAX - 1) /* more than any arena holds */

struct door_entry {
        struct door_entry *next, *prev;
        struct answer *answer;
        const struct dialect *dialect; /* that `frame` is in */
        uint32_t lane;
        enum ask_priority priority;
        uint32_t slot;    /* claimed in the admission table, ADMISSION_NONE */
        uint32_t options; /* OPTION_ID_MADE */
        uint64_t t0;
        uint64_t deadline_ns; /* of the request, 0: none */
        struct loop_timer timer;
        bool by_deadline; /* what the timer means */
        bool kept;            /* `made` is what is composed of the frame */
        struct composed made; /* views into what follows */
        uint32_t frame_len, bytes;
        uint8_t frame[];
};

struct door_line {
        struct door_entry *first, *last;
};

struct door {
        uint64_t max, max_bytes, timeout_ns;
        uint64_t n, bytes;
        struct door_line line[LANES_MAX][PRIORITIES_N];
        uint32_t waiting[LANES_MAX];
        uint64_t arena_used;    /* when a body last did not fit; UINT64_MAX: none waits for that */
        struct loop_timer tick; /* other gateways do not tell when they release */
};

struct door_wait {
        struct answer *answer;
        const struct dialect *dialect;
        const struct composed *made;
        const uint8_t *frame;
        uint32_t frame_len, lane, slot, options;
        enum ask_priority priority;
        uint64_t t0, deadline_ns;
};

void door_init(struct gateway *gw);
/* Is somebody waiting who goes first? */
bool door_occupied(const struct gateway *gw, uint32_t lane, enum ask_priority priority);
int door_enter(struct gateway *gw, const struct door_wait *wait);
/* Takes it out (admitted, refused, or left). */
void door_leave(struct gateway *gw, struct door_entry *entry);
/* Lets in what can go. How many. */
unsigned door_turn(struct gateway *gw);
/* Frees what waits, without a word. */
void door_forget(struct gateway *gw);
/* Answers all that wait, for one lane or for any, with this code. */
void door_refuse_lane(struct gateway *gw, uint32_t lane, enum mr_error code, const char *message);
void door_refuse_all(struct gateway *gw, enum mr_error code, const char *message);
