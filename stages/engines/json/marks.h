/*
 * marks -- where the parts of an OpenAI chat body lie that later stages edit.
 *
 * Shape   byte spans, found by the gateway's one scan (body.h); travels as the field `marks` of a record
 * Units   bytes from the start of the body
 * Owner   plain values
 */
#pragma once

#include <stdint.h>

/* Byte spans in the client's body, made by the gateway's one scan. A JSON value's span covers the value
 * with its quotes or brackets; len 0: not there. The last of duplicate keys counts, as in most parsers. */
struct body_span {
        uint32_t off, len;
};
struct body_marks {
        struct body_span messages;      /* the array */
        struct body_span model;         /* the string */
        struct body_span last_user;     /* value of "content" of the last user message */
        struct body_span first_system;  /* value of "content" of a system message that comes first */
        struct body_span stream;        /* value of "stream" */
        struct body_span stream_options;/* value of "stream_options" */
        struct body_span max_tokens;    /* value of "max_tokens" or "max_completion_tokens" */
        uint32_t object_end;            /* offset of the closing brace of the body */
        uint32_t n_messages;
};
