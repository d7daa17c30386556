/*
 * format -- the form of an answer's texts: stop strings, Markdown, white space, JSON as it was asked for.
 *
 * Shape   struct format: what post.format says, and the request at hand; what a request asks for itself stands
 *         in its slot's payload, what it has waiting in the bytes of its slab version
 * Units   bytes
 * Owner   one for the process; plans are made of the payload when they are needed and freed with the slot
 * Errors  0, -EINVAL (settings: *why), -ENOMEM, FORMAT_E_*
 * Limits  FORMAT_STREAMS choices of an answer are formatted; one with more ends as too large
 *
 * Only texts that are answers: reasoning, refusals and the arguments of tools go by.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/engines/format/json_check.h"
#include "stages/engines/format/markdown.h"
#include "stages/engines/format/stops.h"
#include "stages/engines/format/trim.h"
#include "stages/engines/format/words.h"

#define FORMAT_STREAMS 8u
#define FORMAT_HELD (STOPS_BYTES + TRIM_HELD + MARKDOWN_HELD) /* of one choice, at most */
#define FORMAT_PACKED (FORMAT_STREAMS * sizeof(struct format_stream)) /* more than any request takes */

enum format_error {
        FORMAT_E_STOPPED = 1, /* the choice is over with what is in out */
        FORMAT_E_INVALID,     /* it is not what was asked for: `why`; what is in out may still go out */
        FORMAT_E_LARGE,       /* more choices than are told apart */
};

struct format_stream {
        uint16_t choice;
        uint8_t over; /* a stop string has come: nothing more is said */
        struct stops_state stops;
        struct trim trim;
        struct markdown markdown;
        struct json_check json;
};

/* What a request asks for, ready to be used. */
struct format_plan {
        uint64_t req_id; /* 0: none was made */
        struct stops *stops;
        struct json_schema *schema;
};

struct format {
        struct words words;
        struct format_plan *plans; /* by slot */
        uint32_t n_plans;
        char *out, *between; /* room for any text with what has waited before it */
        uint32_t n_out;
        const char *why;

        /* The request at hand. */
        const struct format_plan *plan;
        uint8_t what; /* FORMAT_* of words.h */
        uint32_t n_streams;
        struct format_stream streams[FORMAT_STREAMS];
};

/* cap: bytes of the longest text. */
int format_new(const struct settings *settings, uint32_t cap, struct format **ret, struct words_why *why);
struct format *format_free(struct format *f);
int format_slots(struct format *f, uint32_t n_slots); /* 0, -ENOMEM */

/* What is to be done with this request's answer: FORMAT_* bits. */
uint8_t format_of(const struct format *f, const struct record *head);
/* The request at hand: its payload, a record of stop and response_format; what it has waiting, 0 bytes: nothing.
 * -EPROTO: nothing that was packed here. */
int format_load(struct format *f, uint32_t slot, uint64_t req_id, uint8_t what, const struct record *asked,
                const uint8_t *bytes, uint32_t n);
uint32_t format_pack(const struct format *f, uint8_t *to);
bool format_has_plan(const struct format *f, uint32_t slot, uint64_t req_id);
void format_forget(struct format *f, uint32_t slot);

/* Feeds one choice; out is begun anew. last: nothing of it comes any more. */
int format_feed(struct format *f, uint16_t choice, const char *text, uint32_t n, bool last);
