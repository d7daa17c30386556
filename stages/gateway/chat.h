/*
 * chat -- POST /v1/chat/completions: OpenAI's dialect over HTTP, unary and as a stream.
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

void chat_run(struct gateway *gw, struct conn *c, const struct http1_request *request,
                struct mr_view body);
/* The request is over, or its client is gone. */
void chat_forget(struct chat *chat);
/* A stream has been silent for a while. */
void chat_ping(struct conn *c);
