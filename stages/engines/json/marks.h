/*
 * marks -- where the parts of an OpenAI chat body lie that later stages edit.
 *
 * Shape   byte spans, found by the gateway's one scan (body.h); travels as the field `marks` of a record
 * Units   bytes from the start of the body
 * Owner   plain values
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

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
        struct body_span conversation;  /* from the first message that is not of the system to the last's end */
        uint32_t object_end;            /* offset of the closing brace of the body */
        uint32_t n_messages;
        uint32_t n_users, n_assistants; /* of these messages */
        uint32_t goes_on;               /* 1: the conversation begins with what a tool has said */
};

/* Whose message it is. */
enum body_role {
        BODY_ROLE_ABSENT,
        BODY_ROLE_USER,
        BODY_ROLE_SYSTEM, /* or of the developer */
        BODY_ROLE_ASSISTANT,
        BODY_ROLE_TOOL,
        BODY_ROLE_OTHER
};

static inline enum body_role body_role_of(const char *name, uint32_t n) {
        static const struct {
                const char *name;
                uint32_t n;
                enum body_role role;
        } roles[] = {{"user", 4, BODY_ROLE_USER}, {"system", 6, BODY_ROLE_SYSTEM},
                        {"developer", 9, BODY_ROLE_SYSTEM}, {"assistant", 9, BODY_ROLE_ASSISTANT},
                        {"tool", 4, BODY_ROLE_TOOL}, {"function", 8, BODY_ROLE_TOOL}};

        for (uint32_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
                if (roles[i].n == n && memcmp(roles[i].name, name, n) == 0)
                        return roles[i].role;
        return BODY_ROLE_OTHER;
}

/* Nothing of the messages is known. */
static inline void body_marks_begin(struct body_marks *m) {
        m->last_user = m->first_system = m->conversation = (struct body_span){0};
        m->n_messages = m->n_users = m->n_assistants = m->goes_on = 0;
}

/* The next message, and the value of its content. */
static inline void body_marks_message(struct body_marks *m, enum body_role role,
                struct body_span message, struct body_span content) {
        bool first = m->n_messages++ == 0;

        if (role == BODY_ROLE_USER) {
                m->last_user = content;
                m->n_users++;
        }
        if (role == BODY_ROLE_ASSISTANT)
                m->n_assistants++;
        if (role == BODY_ROLE_SYSTEM && first)
                m->first_system = content;
        if (role == BODY_ROLE_SYSTEM && !m->conversation.len)
                return;
        if (!m->conversation.len) {
                m->conversation.off = message.off;
                m->goes_on = role == BODY_ROLE_TOOL;
        }
        m->conversation.len = message.off + message.len - m->conversation.off;
}
