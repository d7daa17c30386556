/*
 * body -- one scan of an OpenAI body: is it one, where are the parts that stages edit, and what
 * does it say of how it is to be answered?
 *
 * Shape   struct body_scanner: memory for the parser, made once; struct body_found: what a scan
 *         found
 * Units   byte offsets into the body; spans of values include their quotes or brackets
 * Owner   whoever called body_scanner_new(); a scan keeps nothing of the body
 * Errors  0, BODY_E_INVALID (body_found.error says what and at which byte), -ENOMEM
 * Limits  BODY_DEPTH_MAX levels, numbers of BODY_NUMBER_MAX characters, BODY_QUERY_MAX bytes of
 *         query; a scan allocates only for strings with escapes that are longer than SCRATCH_BYTES
 *
 * Strict JSON (RFC 8259), UTF-8 checked; a lone surrogate in an escape is passed on as it stands.
 * Of duplicate keys the last one counts, and null is as good as absent. What a kind of body must
 * have: a chat messages, a completion its prompt, embeddings and responses their input. Everything
 * else is the backend's to judge, but for the members below, whose types are checked.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/engines/json/marks.h"

#define BODY_DEPTH_MAX 64u
#define BODY_NUMBER_MAX 1000u
#define BODY_N_MAX 128u
#define BODY_QUERY_MAX 4096u
#define BODY_EARLIER_MAX 1024u
#define BODY_ERROR_MAX 160u
#define BODY_MEMBER_MAX 48u

enum body_error { BODY_E_INVALID = 1 };

enum body_kind {
        BODY_CHAT,        /* messages */
        BODY_COMPLETIONS, /* prompt: a text, texts, tokens, or arrays of tokens */
        BODY_EMBEDDINGS,  /* input: likewise */
        BODY_RESPONSES,   /* input: a text, or items */
};

/* Who is asking, for the choice of a lane: the first of them that is a text which is not empty. */
enum body_session {
        SESSION_PROMPT_CACHE_KEY,
        SESSION_SAFETY_IDENTIFIER,
        SESSION_USER,
        SESSION_METADATA_USER_ID,
        SESSIONS_N
};

struct body_found {
        struct body_marks marks; /* a completion's prompt is its last_user, unless it is tokens */
        bool stream;
        bool usage_asked; /* stream_options.include_usage is true */
        uint32_t n;             /* 1 to BODY_N_MAX; 0: it does not say */
        uint32_t n_answers;     /* of a chat or completion: so many choices, at least 1 */
        struct body_span stop;  /* value of "stop", unless the answer may have such a string in it */
        struct body_span format; /* value of "response_format" */
        struct body_span input; /* of everything but a chat: the prompt or the input */
        struct body_span sessions[SESSIONS_N];

        bool background; /* responses only */

        uint32_t query_len, earlier_len;
        char query[BODY_QUERY_MAX]; /* decoded text of the last user message, cut at a character */
        char earlier[BODY_EARLIER_MAX]; /* of those before it: the end, a line for each */
        char error[BODY_ERROR_MAX];
        char member[BODY_MEMBER_MAX]; /* whose value is wrong: "messages[3].role"; "": nobody's */
};

struct body_scanner;

int body_scanner_new(struct body_scanner **ret); /* 0 or -ENOMEM */
struct body_scanner *body_scanner_free(struct body_scanner *s);

int body_scan(struct body_scanner *s, enum body_kind kind, const char *body, uint32_t len,
                struct body_found *ret);
/* Another user message comes: the query so far is an earlier one. */
void body_query_next(struct body_found *found);
/* The session that the body names; len 0: none. */
struct body_span body_session(const struct body_found *found);
/* Its member's name. */
const char *body_session_name(const struct body_found *found);
