/*
 * tape -- a response log for tests, and a deterministic tape of inputs to be written into it.
 *
 * Shape   input number s (from 1) is the head, a delta or the end of one of TAPE_LANES responses that are
 *         open side by side; what its event must hold follows from s alone
 * Units   input numbers, bytes
 * Owner   the test; the mapping is shared with its children
 * Errors  a failed check ends the test
 * Limits  none
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/stream/response_log.h"

#define TAPE_LANES 8u
#define TAPE_STEPS 12u /* a head, ten deltas, the end */

struct rig {
        void *map;
        uint64_t bytes;
        struct response_log log;
        struct log_view view;
};

struct rig rig_new(uint64_t budget);
void rig_close(struct rig *rig);
/* What a successor does. */
void rig_attach(struct rig *rig);

/* A response with the id "id-<req>". Its entry. */
uint32_t rig_create(struct rig *rig, uint64_t req_id, uint64_t in_seq, bool detached);
/* An event of `len` bytes of the pattern of (req_id, its number); what response_log_append() says. */
int rig_append(struct rig *rig, uint64_t req_id, uint64_t in_seq, uint32_t len, uint64_t outcome);

/* A last event that is held back. */
int rig_hold(struct rig *rig, uint64_t req_id, uint64_t in_seq, uint32_t len);

/* The number of the last event of an entry. */
uint64_t rig_last(const struct rig *rig, uint32_t response);

void pattern_fill(uint8_t *to, uint64_t req_id, uint64_t seq, uint32_t len);
bool pattern_is(const uint8_t *bytes, uint64_t req_id, uint64_t seq, uint32_t len);
uint64_t tape_random(uint64_t *state);

struct tape_input {
        uint64_t req_id;
        uint64_t seq; /* of its event, 0: the head */
        uint32_t len;
        uint16_t type;
};
/* max_len: the longest event on this tape. */
struct tape_input tape_at(uint64_t s, uint32_t max_len);
/* The input that made this event. */
uint64_t tape_input_of(uint64_t req_id, uint64_t seq);
/* Writes input s; an input that is in the log already changes nothing. */
void tape_write(struct rig *rig, uint64_t s, uint32_t max_len);
/* Reads all that is kept of a response: each event once, in order, byte for byte. False: it is evicted.
 * *ret_last: the number of its last event. */
bool tape_read(const struct log_view *view, uint64_t req_id, uint32_t max_len, uint64_t *ret_last);
/* Every response that was begun by the inputs first..acked-1 holds what those made of it; one input more
 * may be published. keeps_all: none may be evicted. How many events were read. */
uint64_t tape_check(const struct log_view *view, uint64_t first, uint64_t acked, uint32_t max_len,
        bool keeps_all);
