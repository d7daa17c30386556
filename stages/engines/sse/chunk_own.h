/*
 * chunk_own -- what chunk.c reads and chunk_extra.c builds unknown members from.
 *
 * Shape   struct chunk_parser
 * Owner   chunk.c
 */
#pragma once

#include <yajl/yajl_parse.h>

#include "stages/engines/sse/chunk.h"
#include "stages/engines/sse/json_pool.h"

/* Where the parser stands. OTHER: inside a value that millrace does not know. */
enum place {
        AT_NOTHING,
        AT_TOP,
        AT_CHOICES,
        AT_CHOICE,
        AT_DELTA,
        AT_TOOLS,
        AT_TOOL,
        AT_FUNCTION,
        AT_USAGE,
        AT_ERROR,
        AT_OTHER,
        PLACES_N
};

enum member {
        M_UNKNOWN,
        M_NULLABLE, /* unknown, but where it is null */
        M_IGNORED,
        M_CHOICES,
        M_USAGE,
        M_OBJECT,
        M_ERROR,
        M_INDEX,
        M_DELTA,
        M_FINISH,
        M_CONTENT,
        M_REASONING,
        M_REFUSAL,
        M_TOOLS,
        M_ID,
        M_KIND,
        M_FUNCTION,
        M_NAME,
        M_ARGUMENTS,
        M_PROMPT,
        M_COMPLETION,
        M_TOTAL,
        M_MESSAGE,
        M_TYPE,
        M_CODE,
        M_PARAM,
        M_DETAIL
};

struct span {
        uint32_t from, to;
        enum place place;
};

struct chunk_parser {
        yajl_handle handle;
        const char *json;
        uint32_t json_len;
        uint32_t last_end; /* offset behind the token before this one */
        struct chunk out;
        enum place stack[CHUNK_DEPTH_MAX + 1];
        enum member member[CHUNK_DEPTH_MAX + 1]; /* of the object on that level */
        uint32_t key_at[CHUNK_DEPTH_MAX + 1];
        uint32_t value_at[CHUNK_DEPTH_MAX + 1]; /* where the container on that level began */
        uint32_t depth;
        bool out_of_memory;
        bool top_is_object;
        bool says_error; /* "object":"error": what stands at the top is one */
        bool legacy; /* a choice's "text" is its text */

        struct chunk_part *parts;
        uint32_t parts_cap;
        char *text; /* decoded strings and what calls have: within twice the JSON, so it never moves */
        uint32_t text_len, text_cap;

        uint32_t choice, choice_part; /* of the choice at hand */
        struct chunk_str choice_finish;
        uint32_t n_tools, tool_span; /* of the call at hand: its first span */
        struct chunk_part tool;
        struct span spans[CHUNK_EXTRAS_MAX];
        uint32_t n_spans, choice_span; /* first span of the choice at hand */
        char *extra;                   /* built members */
        uint32_t extra_len, extra_cap;
        uint32_t n_extra_choices;

        struct json_pool pool; /* so that a chunk costs no allocation */
};

/* False: no memory, or more than 4 GiB. */
bool chunk_grow(char **at, uint32_t *cap, uint64_t need);

/* ---- chunk_extra.c: members that nobody knows ---- */

/* One of `place`: the JSON's bytes from its key to the end of its value. */
void chunk_extra_add(struct chunk_parser *p, enum place place, uint32_t from, uint32_t to);
/* The tool call, the choice, the chunk is over: its members are put together. */
void chunk_extra_tool(struct chunk_parser *p);
void chunk_extra_choice(struct chunk_parser *p);
void chunk_extra_end(struct chunk_parser *p);
