/*
 * chunk -- one JSON chunk of an OpenAI-compatible stream, as parts that millrace knows and members
 * that it does not.
 *
 * Shape   parser with reusable memory; struct chunk: views into that memory
 * Units   bytes
 * Owner   the caller owns the parser and frees it with chunk_close(); a chunk's views live until
 * the next chunk_parse(), those of `usage_raw` also need the JSON text itself Errors  0, -EPROTO
 * (not JSON, not an object, too deep), -ENOMEM Limits  depth CHUNK_DEPTH_MAX, CHUNK_EXTRAS_MAX
 * unknown members a chunk (more are left out)
 *
 * What backends write differs (wire.md calls for all of it): content null or "" first, `reasoning`
 * and `reasoning_content` (both at once: the first counts), usage absent or null, choices empty,
 * integer or string error codes, a whole `message` instead of a `delta` when a backend does not
 * stream. Null counts as absent in members that are known, and in a choice's `logprobs`.
 *
 * `extra` holds the unknown members where the chunk had them, as the inside of a JSON object:
 * "choices":[{"index":0,"stop_reason":7,"delta":{"token_id":5}}],"timings":{…}; bytes untouched.
 * Those of a tool call are an object of their own: {"extra_content":{…},"function":{"x":1}}. A call
 * of another type than `function` has all that it is there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CHUNK_DEPTH_MAX 64u
#define CHUNK_EXTRAS_MAX 64u

struct chunk_str {
        const char *p; /* NULL: absent */
        uint32_t n;
};

enum chunk_kind { CHUNK_TEXT, CHUNK_REASONING, CHUNK_REFUSAL, CHUNK_TOOL };

struct chunk_part {
        enum chunk_kind kind;
        uint32_t choice;
        struct chunk_str text; /* of a tool call: a piece of its arguments */
        uint32_t tool_index;
        struct chunk_str tool_id, tool_name;
        struct chunk_str tool_extra; /* a JSON object; n 0: none */
};

struct chunk_usage {
        bool has;
        bool details; /* more than the three numbers: worth passing on raw */
        uint64_t prompt, completion, total;
        struct chunk_str raw; /* the JSON object */
};

struct chunk_failure {
        bool has;  /* a top-level "error" that is not null, or "object":"error" */
        bool bare; /* message and code stood at the top level, as in a bare error line */
        struct chunk_str message, type, param, code; /* code as text, whatever it was */
};

struct chunk {
        const struct chunk_part *parts;
        uint32_t n_parts;
        uint32_t n_choices;
        struct chunk_str finish_reason; /* of choice 0; other choices' stand in extra */
        bool finished;                  /* some choice has a finish_reason */
        struct chunk_usage usage;
        struct chunk_failure failure;
        struct chunk_str extra;
};

struct chunk_parser;

int chunk_new(struct chunk_parser **ret);
struct chunk_parser *chunk_free(struct chunk_parser *p);
static inline void chunk_freep(struct chunk_parser **p) {
        *p = chunk_free(*p);
}
/* legacy: a choice's "text" is its text, as in completions; else it is a member like any other. */
int chunk_parse(struct chunk_parser *p, const char *json, uint32_t n, bool legacy,
                struct chunk *ret);
