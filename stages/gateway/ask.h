/*
 * ask -- what a client asks for, in whatever dialect it says so.
 *
 * Shape   struct ask: one request, as views into the bytes that it came in
 * Units   milliseconds
 * Owner   views live as long as those bytes
 * Errors  the code for the client, and words that name what is wrong
 * Limits  ids ADMISSION_ID_MAX bytes, names and sessions ASK_NAME_MAX
 */
#pragma once

#include "stages/common/record.h"
#include "stages/engines/json/body.h"

#define ASK_NAME_MAX 1024u
#define ASK_ERROR_MAX 240u
#define ASK_LIST_MAX 512u

enum ask_op { OP_SUBMIT, OP_ATTACH, OP_CANCEL, OP_RESULT, OP_PING, OPS_N };
enum ask_content { CONTENT_PROMPT, CONTENT_MESSAGES, CONTENT_BODY };
enum ask_priority {
        PRIORITY_SYSTEM,
        PRIORITY_INTERACTIVE,
        PRIORITY_DEFAULT,
        PRIORITY_BULK,
        PRIORITIES_N
};

/* Texts that were not given have n == 0. */
struct ask {
        enum ask_op op;
        struct mr_view id, session, model, system, template_name;
        enum ask_content content;
        struct mr_view text;     /* prompt or body */
        struct mr_view messages; /* msgpack of the array */
        struct mr_view vars;     /* msgpack of the map */
        struct mr_view params;   /* msgpack of the map */
        struct mr_view collections; /* which of them to look in: names, comma separated */
        struct mr_view filter;      /* KEY=VALUE of the metadata, comma separated */
        enum ask_priority priority;
        uint64_t deadline_ms; /* 0: none */
        bool deadline_first;  /* of a stream: it holds until the first token only */
        bool body_decides;    /* the body says whether it is a stream, and names the session */
        enum body_kind kind;  /* of CONTENT_BODY */
        bool detached_only;   /* attach, cancel, result: another request is not found */
        uint64_t after;
        uint32_t options; /* OPTION_DETACH, OPTION_STREAM, OPTION_RAG_ON, OPTION_RAG_OFF */
};

struct ask_error {
        enum mr_error code;
        char text[ASK_ERROR_MAX];
        char param[BODY_MEMBER_MAX]; /* the member of a body that is wrong; "": none, or another */
};

/* Sets the error and returns its code. */
__attribute__((format(printf, 3, 4))) int ask_fail(
                struct ask_error *error, enum mr_error code, const char *format, ...);
/* UTF-8; max > 0: at most so many bytes, and printable. 0 or the error's code; `name`: whose text. */
int ask_text_check(
                const char *name, struct mr_view text, uint32_t max, struct ask_error *error);
/* Up to LIST_MAX parts, comma separated, none empty; `pairs`: of the form KEY=VALUE. 0 or the
 * error's code. */
int ask_list_check(const char *name, struct mr_view text, bool pairs, struct ask_error *error);
/* 0 or the error's code. */
int ask_priority_read(
                const char *name, struct mr_view text, enum ask_priority *ret, struct ask_error *error);

#define ASK_NO_RETRY UINT64_MAX /* of retry_after_ms: there is none */
