/*
 * openai_fold -- what openai_whole.c gathers and openai_whole_put.c writes.
 *
 * Shape   texts and values are chains of pieces of one block of bytes; members, tool calls and
 *         pieces lie in tables and are named by their place + 1, 0 for none
 * Units   bytes
 * Owner   struct openai_whole
 * Limits  those of openai_whole.h
 */
#pragma once

#include "stages/engines/json/walk.h"
#include "stages/gateway/openai_whole.h"

struct whole_piece {
        uint32_t next;
        uint32_t off, len;
};

struct whole_chain {
        uint32_t first, last;
};

/* How the values of a member fold. */
enum whole_fold {
        FOLD_LAST,   /* the chain is the value */
        FOLD_ARRAY,  /* the chain is the inside of an array */
        FOLD_STRING, /* the chain is the inside of a string, escaped as it came */
        FOLD_OBJECT, /* the members below it are the value */
};

struct whole_member {
        uint32_t next; /* beside it */
        struct whole_chain key, value;
        enum whole_fold fold;
        uint32_t below; /* FOLD_OBJECT */
};

struct whole_tool {
        uint32_t next; /* of the choice, by index */
        uint64_t index;
        struct whole_chain id, name, arguments;
        bool function;                      /* else it is all in its members */
        uint32_t members, function_members; /* that nobody knows */
};

struct whole_choice {
        bool here;
        struct whole_chain content, reasoning, refusal, finish_reason; /* the last with quotes */
        bool has_content, has_reasoning, has_refusal;
        uint32_t tools;
        uint32_t members, message_members;
};

struct openai_whole {
        uint64_t max_bytes;
        uint64_t more; /* what escapes, names and brackets add to the bytes */
        char *bytes;
        struct whole_piece *pieces;
        struct whole_member *members;
        struct whole_tool *tools;
        struct whole_choice *choices; /* by index; the first is always there */
        uint32_t n_bytes, n_pieces, n_members, n_tools, n_choices;
        uint32_t bytes_cap, pieces_cap, members_cap, tools_cap, choices_cap;
        uint32_t top; /* members of the answer itself */
};
