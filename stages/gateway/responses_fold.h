/*
 * responses_fold -- what responses_json.c gathers and responses_json_put.c writes.
 *
 * Shape   items, each with its parts one behind the other in a table; a call of a function has one part,
 *         its arguments
 * Units   bytes
 * Owner   struct responses
 * Limits  those of responses_json.h
 */
#pragma once

#include "stages/gateway/responses_json.h"

struct responses_text {
        char *at;
        uint32_t n, cap;
        uint64_t bound; /* when it is escaped */
};

enum responses_part_kind { PART_TEXT, PART_REFUSAL, PART_REASONING, PART_ARGUMENTS };

struct responses_part {
        enum responses_part_kind kind;
        uint32_t index; /* in its item */
        struct responses_text text;
};

enum responses_item_kind { ITEM_MESSAGE, ITEM_REASONING, ITEM_CALL };
enum responses_item_state { ITEM_OPEN, ITEM_COMPLETED, ITEM_INCOMPLETE };

struct responses_item {
        enum responses_item_kind kind;
        enum responses_item_state state;
        uint32_t first, n;                  /* parts */
        uint64_t tool;                      /* the backend's index of a call */
        struct responses_text call_id, name;
};

enum responses_event_type {
        EVENT_CREATED,
        EVENT_IN_PROGRESS,
        EVENT_ITEM_ADDED,
        EVENT_PART_ADDED,
        EVENT_DELTA,
        EVENT_TEXT_DONE, /* of what the deltas were of */
        EVENT_PART_DONE,
        EVENT_ITEM_DONE,
        EVENT_END,
};

struct responses_event_due {
        enum responses_event_type type;
        uint32_t item, part; /* part: in the table */
        struct mr_view text; /* EVENT_DELTA: the record's */
};

struct responses {
        uint64_t max_bytes, n_bytes;
        uint64_t number;
        bool begun;
        struct responses_item *items;
        struct responses_part *parts;
        struct responses_event_due *due; /* of one record; written up to `written` */
        uint32_t n_items, items_cap, n_parts, parts_cap, n_due, due_cap, written;
        uint32_t open; /* the message or reasoning that goes on, its place + 1; 0: none */
        enum record_type end_type;
        const struct record *end; /* the DONE or ERROR */
};

/* Why a DONE is no whole answer; NULL: it is one. */
const char *responses_incomplete(const struct record *done);
