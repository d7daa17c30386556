/*
 * chat -- OpenAI's dialect over HTTP: chat completions and legacy completions, unary and as a stream, and
 * what other endpoints of it have in common with them.
 *
 * Shape   struct chat: what the answer to one request has to say again and again
 * Units   seconds since 1970 for `created`
 * Owner   struct http
 * Errors  before the head is out: a status and OpenAI's error body; later an error event, and a
 *         connection that does not end as a whole answer does
 * Limits  ids ADMISSION_ID_MAX bytes; models ASK_NAME_MAX
 */
#pragma once

#include "shm/admission.h"
#include "stages/gateway/dialect.h"
#include "stages/gateway/openai_json.h"

#define CHAT_MODEL_SMALL 64u

struct chat {
        enum openai_kind kind;
        bool stream, usage_asked;
        bool accepted;
        uint32_t lane;
        uint32_t id_len;
        uint64_t created; /* 0: not known yet */
        struct openai_roles roles;
        char *model; /* model_small, or a larger one */
        uint32_t model_len;
        char id[ADMISSION_ID_MAX];
        char model_small[CHAT_MODEL_SMALL];
};

struct conn;
struct gateway;
struct http1_request;

/* POST /v1/chat/completions and /v1/completions. */
void chat_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);

/* ---- for whoever answers in OpenAI's way (embeddings.c) ---- */

/* Asks; the answer goes by `dialect`. */
void chat_submit(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body, const struct dialect *dialect);
int chat_parse(const uint8_t *bytes, uint32_t len, struct ask *ret, struct ask_error *ret_error);
void chat_composed(struct client *client, const struct composed *made);
void chat_accepted(struct client *client, const struct answer *a, bool more);
void chat_error(struct client *client, struct mr_view id, uint64_t seq,
                const struct dialect_error *e);
/* The ERROR that an answer ended with. */
void chat_failed(struct client *client, uint64_t seq, const struct record *record);
/* Header lines of an answer; done NULL: without times. */
struct http_lines;
void chat_lines(struct http_lines *lines, const struct chat *chat, const struct record *done);
/* Server-Timing, of a record that says how long stages took; nothing of another. */
void chat_times(struct http_lines *lines, const struct record *done);
