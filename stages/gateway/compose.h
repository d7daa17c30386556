/*
 * compose -- what travels of a submit: the OpenAI chat body, its marks, the query, a digest.
 *
 * Shape   struct composed: views into the client's frame or into the composer's own buffer
 * Units   bytes
 * Owner   the composer; a composed request lives until the next one and as long as its frame
 * Errors  0 or the error code for the client, with words
 * Limits  a body <= max_body_bytes; JSON depth 64 (bodies), 32 (messages); stop strings as stops.h has them,
 *         COMPOSE_STOP_MAX bytes of JSON; a response_format COMPOSE_FORMAT_MAX bytes
 *
 * A client's own body goes on byte for byte; `params` beside it travel as JSON members for a later
 * stage to set. For prompt and messages the body is built here: {"messages":[...],params...}. A body of
 * the Responses API becomes a chat body (responses_body.h), and goes on as a client's own.
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/body.h"
#include "stages/engines/json/json.h"
#include "stages/gateway/ask.h"

#define COMPOSE_PARAMS_MAX 4096u
#define COMPOSE_STOP_MAX 4096u
#define COMPOSE_FORMAT_MAX 32768u
#define COMPOSE_DEPTH 32u /* as frames */

struct composer {
        struct body_scanner *scanner;
        struct body_found found;
        uint64_t max_body_bytes;
        char *built; /* bodies that are built here */
        uint32_t built_cap;
        char params[COMPOSE_PARAMS_MAX];
        char model[ASK_NAME_MAX + JSON_CHAR_MAX], session[ASK_NAME_MAX + JSON_CHAR_MAX];
};

struct composed {
        struct mr_view body;
        struct body_marks marks;
        struct mr_view query;
        struct mr_view earlier; /* user turns before it */
        struct mr_view params; /* for a client's own body only */
        struct mr_view stop, response_format; /* JSON; n 0: absent */
        uint64_t max_tokens; /* of all answers together; 0: it does not say */
        struct mr_view model;   /* the frame's, else the body's; n 0: none */
        struct mr_view session; /* likewise */
        uint32_t options;       /* OPTION_BODY_BUILT, _USAGE_ASKED, _STREAM, _DETACH, _CHOICES */
        bool followed;          /* a detached request whose asker reads it all the same */
        uint64_t digest[2];
};

int composer_init(struct composer *composer, uint64_t max_body_bytes); /* 0 or -ENOMEM */
void composer_close(struct composer *composer);
/* A client's own body is scanned once: what was found of it, for a copy of its frame. Views into the frame
 * become views into the copy, other texts are copied to `texts`, which has composed_texts() bytes.
 * composed_keeps(): can it be kept? A body that is built here lies elsewhere. */
bool composed_keeps(const struct composed *made);
uint32_t composed_texts(const struct composed *made, struct mr_view frame);
void composed_keep(struct composed *ret, const struct composed *made, struct mr_view frame,
                const uint8_t *copy, char *texts);
int compose(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *ret_error);
