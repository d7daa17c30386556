/*
 * body_values: what the values of a body mean (body_own.h).
 */
#include <stdio.h>
#include <string.h>

#include "stages/engines/json/body_own.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

#define CHAT (1u << BODY_CHAT)
#define COMPLETIONS (1u << BODY_COMPLETIONS)
#define EMBEDDINGS (1u << BODY_EMBEDDINGS)
#define RESPONSES (1u << BODY_RESPONSES)
#define STREAMS (CHAT | COMPLETIONS | RESPONSES)
#define ALL (STREAMS | EMBEDDINGS)

#define IS(value) (1u << VALUE_##value)

static const char *const value_names[] = {
                "null", "a boolean", "a number", "a string", "an array", "an object"};

/* Members of the body whose type is checked, and what else it takes. */
static const struct {
        const char *name;
        uint32_t types;
        const char *expected;
} rules[BODY_KEYS_N] = {
                [KEY_MESSAGES] = {"messages", IS(ARRAY), "an array"},
                [KEY_MODEL] = {"model", IS(STRING) | IS(NULL), "a string"},
                [KEY_STREAM] = {"stream", IS(BOOL) | IS(NULL), "a boolean"},
                [KEY_STREAM_OPTIONS] = {"stream_options", IS(OBJECT) | IS(NULL), "an object"},
                [KEY_MAX_TOKENS] = {"max_tokens", IS(NUMBER) | IS(NULL), "a number"},
                [KEY_N] = {"n", IS(NUMBER) | IS(NULL), "a number"},
                [KEY_STOP] = {"stop", IS(STRING) | IS(ARRAY) | IS(NULL), "a string or an array of strings"},
                [KEY_FORMAT] = {"response_format", IS(OBJECT) | IS(NULL), "an object"},
                [KEY_PROMPT] = {"prompt", IS(STRING) | IS(ARRAY), "a string or an array"},
                [KEY_INPUT] = {"input", IS(STRING) | IS(ARRAY), "a string or an array"},
                [KEY_INSTRUCTIONS] = {"instructions", IS(STRING) | IS(NULL), "a string"},
                [KEY_BACKGROUND] = {"background", IS(BOOL) | IS(NULL), "a boolean"},
                [KEY_PREVIOUS] = {"previous_response_id", IS(STRING) | IS(NULL), "a string"},
};

static int wrong(struct body_scanner *s, uint32_t at, const char *member, const char *expected,
                enum value got) {
        return body_fail(s, at, member, "expected %s, got %s", expected, value_names[got]);
}

/* ---- keys and containers ---- */

#define KEY(region, name, key, kinds) {region, sizeof(name) - 1, key, kinds, name}

static const struct {
        uint8_t region, len, key, kinds;
        const char *name;
} keys[] = {
                KEY(AT_MESSAGE, "role", KEY_ROLE, CHAT),
                KEY(AT_MESSAGE, "content", KEY_CONTENT, CHAT),
                KEY(AT_PART, "type", KEY_TYPE, CHAT),
                KEY(AT_PART, "text", KEY_TEXT, CHAT),
                KEY(AT_BODY, "messages", KEY_MESSAGES, CHAT),
                KEY(AT_BODY, "model", KEY_MODEL, ALL),
                KEY(AT_BODY, "stream", KEY_STREAM, STREAMS),
                KEY(AT_BODY, "stream_options", KEY_STREAM_OPTIONS, STREAMS),
                KEY(AT_BODY, "max_tokens", KEY_MAX_TOKENS, CHAT | COMPLETIONS),
                KEY(AT_BODY, "max_completion_tokens", KEY_MAX_TOKENS, CHAT),
                KEY(AT_BODY, "n", KEY_N, CHAT | COMPLETIONS),
                KEY(AT_BODY, "stop", KEY_STOP, CHAT | COMPLETIONS),
                KEY(AT_BODY, "echo", KEY_STOP_STAYS, COMPLETIONS),
                KEY(AT_BODY, "include_stop_str_in_output", KEY_STOP_STAYS, CHAT | COMPLETIONS),
                KEY(AT_BODY, "response_format", KEY_FORMAT, CHAT | COMPLETIONS),
                KEY(AT_BODY, "prompt", KEY_PROMPT, COMPLETIONS),
                KEY(AT_BODY, "input", KEY_INPUT, EMBEDDINGS | RESPONSES),
                KEY(AT_BODY, "instructions", KEY_INSTRUCTIONS, RESPONSES),
                KEY(AT_BODY, "background", KEY_BACKGROUND, RESPONSES),
                KEY(AT_BODY, "previous_response_id", KEY_PREVIOUS, RESPONSES),
                KEY(AT_BODY, "prompt_cache_key", KEY_CACHE_KEY, ALL),
                KEY(AT_BODY, "safety_identifier", KEY_SAFETY_ID, ALL),
                KEY(AT_BODY, "user", KEY_USER, ALL),
                KEY(AT_BODY, "metadata", KEY_METADATA, ALL),
                KEY(AT_OPTIONS, "include_usage", KEY_INCLUDE_USAGE, STREAMS),
                KEY(AT_METADATA, "user_id", KEY_USER_ID, ALL),
};

enum key body_key(const struct body_scanner *s, const unsigned char *name, size_t n) {
        uint8_t region = s->level[s->depth].region;

        if (region >= AT_PROMPT)
                return KEY_OTHER;
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
                if (keys[i].region == region && keys[i].len == n &&
                                memcmp(keys[i].name, name, n) == 0 && keys[i].kinds >> s->kind & 1)
                        return (enum key)keys[i].key;
        return KEY_OTHER;
}

static enum region below_body(enum key key, bool object) {
        if (object)
                return key == KEY_STREAM_OPTIONS ? AT_OPTIONS
                       : key == KEY_METADATA     ? AT_METADATA
                                                 : AT_OTHER;
        if (key == KEY_PROMPT || key == KEY_INPUT)
                return AT_PROMPT;
        return key == KEY_MESSAGES ? AT_MESSAGES : AT_OTHER;
}

enum region body_region_below(const struct body_scanner *s, bool object) {
        const struct level *in = &s->level[s->depth];

        switch ((enum region)in->region) {
        case AT_NOWHERE:
                return object ? AT_BODY : AT_OTHER;
        case AT_BODY:
                return below_body((enum key)in->key, object);
        case AT_MESSAGES:
                return object ? AT_MESSAGE : AT_OTHER;
        case AT_MESSAGE:
                return in->key == KEY_CONTENT && !object ? AT_CONTENT : AT_OTHER;
        case AT_CONTENT:
                return object ? AT_PART : AT_OTHER;
        case AT_PROMPT:
                return object ? AT_OTHER : AT_TOKENS;
        case AT_PART:
        case AT_OPTIONS:
        case AT_METADATA:
        case AT_TOKENS:
        case AT_OTHER:
                break;
        }
        return AT_OTHER;
}

/* What a container of that kind starts from; of duplicate keys the last one counts. */
void body_region_begin(struct body_scanner *s, enum region region) {
        struct body_marks *m = &s->found->marks;

        if (region == AT_MESSAGES) {
                body_marks_begin(m);
                s->found->query_len = s->found->earlier_len = 0;
        } else if (region == AT_MESSAGE) {
                s->role = BODY_ROLE_ABSENT;
                s->content = (struct body_span){0};
                s->pending_len = 0;
        } else if (region == AT_CONTENT) {
                s->pending_len = 0;
        } else if (region == AT_PART) {
                s->part_mark = s->pending_len;
                s->part_other = false;
        } else if (region == AT_OPTIONS) {
                s->found->usage_asked = false;
        } else if (region == AT_METADATA) {
                s->found->sessions[SESSION_METADATA_USER_ID] = (struct body_span){0};
        } else if (region == AT_PROMPT) {
                s->n_prompts = 0;
                s->pending_len = 0;
        }
}

/* ---- texts ---- */

static bool is_text(const unsigned char *p, size_t n, const char *name) {
        return n == strlen(name) && memcmp(p, name, n) == 0;
}

/* Text of the message at hand. What has escapes is decoded from the body itself: the parser turns
 * lone surrogates into bytes that are not UTF-8. */
static void pending_add(struct body_scanner *s, const char *p, size_t n, uint32_t start) {
        uint32_t room = BODY_QUERY_MAX - s->pending_len, take = 0, end = body_here(s);

        if (end - start != n + 2) {
                if (json_unescape(s->text + start, end - start, s->pending + s->pending_len, room,
                                    &take) < 0)
                        take = 0;
        } else if (n > 0) {
                take = json_utf8_cut(p, (uint32_t)n, room);
                memcpy(s->pending + s->pending_len, p, take);
        }
        s->pending_len += take;
}

static void pending_line(struct body_scanner *s) {
        if (s->pending_len > 0 && s->pending_len < BODY_QUERY_MAX)
                s->pending[s->pending_len++] = '\n';
}

static uint32_t character_from(const char *text, uint32_t n, uint32_t at) {
        while (at < n && (text[at] & 0xc0) == 0x80)
                at++;
        return at;
}

void body_query_next(struct body_found *found) {
        const uint32_t most = BODY_EARLIER_MAX - 1; /* and the end of the line */
        uint32_t n = found->query_len, from = n > most ? n - most : 0, drop;

        if (n == 0)
                return;
        from = character_from(found->query, n, from);
        n -= from;
        drop = found->earlier_len + n > most ? found->earlier_len + n - most : 0;
        drop = character_from(found->earlier, found->earlier_len, drop);
        found->earlier_len -= drop;
        memmove(found->earlier, found->earlier + drop, found->earlier_len);
        memcpy(found->earlier + found->earlier_len, found->query + from, n);
        found->earlier_len += n;
        found->earlier[found->earlier_len++] = '\n';
}

static void query_set(struct body_scanner *s) {
        memcpy(s->found->query, s->pending, s->pending_len);
        s->found->query_len = s->pending_len;
}

void body_string(struct body_scanner *s, const unsigned char *p, size_t n, uint32_t start) {
        const struct level *in = &s->level[s->depth];
        const char *text = (const char *)p;

        if (in->region == AT_MESSAGE && in->key == KEY_ROLE) {
                s->role = body_role_of(text, (uint32_t)n);
        } else if ((in->region == AT_MESSAGE && in->key == KEY_CONTENT) ||
                        (in->region == AT_BODY && in->key == KEY_PROMPT)) {
                s->pending_len = 0;
                pending_add(s, text, n, start);
        } else if (in->region == AT_CONTENT || in->region == AT_PROMPT ||
                        (in->region == AT_PART && in->key == KEY_TEXT)) {
                if (in->region == AT_PART) /* of duplicate texts the last counts */
                        s->pending_len = s->part_mark;
                if (n > 0)
                        pending_line(s);
                pending_add(s, text, n, start);
        } else if (in->region == AT_PART && in->key == KEY_TYPE) {
                s->part_other = !is_text(p, n, "text") && !is_text(p, n, "input_text");
        }
}

/* ---- values of the body ---- */

static int n_value(struct body_scanner *s, enum value value, struct body_span span) {
        uint64_t n = 0;

        if (value == VALUE_NUMBER && (!json_u64((struct json_text){s->text + span.off, span.len},
                                                      &n) ||
                                                     n < 1 || n > BODY_N_MAX))
                return body_fail(s, span.off, "n", "expected a whole number from 1 to %u",
                                BODY_N_MAX);
        s->found->n = (uint32_t)n;
        return 1;
}

/* The prompt, or what is to be embedded. Documents may stand before texts only. */
static int prompt_value(struct body_scanner *s, enum key key, enum value value,
                struct body_span span) {
        bool text = value == VALUE_STRING || s->prompts == VALUE_STRING;

        if (value == VALUE_ARRAY && s->n_prompts == 0)
                return body_fail(s, span.off, rules[key].name, "expected at least one element");
        if (value == VALUE_STRING)
                s->n_prompts = 1;
        s->found->input = span;
        if (key != KEY_PROMPT)
                return 1;
        if (value == VALUE_ARRAY && s->prompts == VALUE_NUMBER)
                s->n_prompts = 1;
        s->found->marks.last_user = text ? span : (struct body_span){0};
        if (!text)
                s->pending_len = 0;
        query_set(s);
        return 1;
}

static int session_value(struct body_scanner *s, enum body_session which, enum value value,
                struct body_span span) {
        bool text = value == VALUE_STRING && span.len > 2;

        s->found->sessions[which] = text ? span : (struct body_span){0};
        return 1;
}

static int mark_value(struct body_span *to, enum value value, struct body_span span, bool edited) {
        /* null is absent for us; where it is to be replaced, it is still there. */
        *to = value == VALUE_NULL && !edited ? (struct body_span){0} : span;
        return 1;
}

static int member_value(
                struct body_scanner *s, enum key key, enum value value, struct body_span span) {
        struct body_found *found = s->found;
        bool yes = value == VALUE_BOOL && s->text[span.off] == 't';

        if (key < BODY_KEYS_N && rules[key].name && !(rules[key].types >> value & 1))
                return wrong(s, span.off, rules[key].name, rules[key].expected, value);
        switch (key) {
        case KEY_MESSAGES:
                return mark_value(&found->marks.messages, value, span, true);
        case KEY_MODEL:
                return mark_value(&found->marks.model, value, span, false);
        case KEY_STREAM:
                found->stream = yes;
                return mark_value(&found->marks.stream, value, span, true);
        case KEY_STREAM_OPTIONS:
                found->usage_asked &= value == VALUE_OBJECT;
                return mark_value(&found->marks.stream_options, value, span, true);
        case KEY_MAX_TOKENS:
                return mark_value(&found->marks.max_tokens, value, span, false);
        case KEY_N:
                return n_value(s, value, span);
        case KEY_STOP:
                return mark_value(&found->stop, value, span, false);
        case KEY_STOP_STAYS:
                s->stop_stays |= yes;
                return 1;
        case KEY_FORMAT:
                return mark_value(&found->format, value, span, false);
        case KEY_PROMPT:
        case KEY_INPUT:
                return prompt_value(s, key, value, span);
        case KEY_BACKGROUND:
                found->background = yes;
                return 1;
        case KEY_INSTRUCTIONS:
        case KEY_PREVIOUS:
                return 1; /* of the right type, and that is all */
        case KEY_CACHE_KEY:
                return session_value(s, SESSION_PROMPT_CACHE_KEY, value, span);
        case KEY_SAFETY_ID:
                return session_value(s, SESSION_SAFETY_IDENTIFIER, value, span);
        case KEY_USER:
                return session_value(s, SESSION_USER, value, span);
        case KEY_METADATA:
                return value == VALUE_OBJECT ||
                       session_value(s, SESSION_METADATA_USER_ID, value, span);
        case KEY_OTHER:
        case BODY_KEYS_N:
        case KEY_ROLE:
        case KEY_CONTENT:
        case KEY_TYPE:
        case KEY_TEXT:
        case KEY_INCLUDE_USAGE:
        case KEY_USER_ID:
                break;
        }
        return 1;
}

/* ---- values below it ---- */

/* "messages[3].role"; which of them it is, is counted in the marks. */
static const char *in_message(
                const struct body_scanner *s, const char *member, char to[static BODY_MEMBER_MAX]) {
        snprintf(to, BODY_MEMBER_MAX, "messages[%u]%s", s->found->marks.n_messages, member);
        return to;
}

static int message_value(
                struct body_scanner *s, enum key key, enum value value, struct body_span span) {
        char name[BODY_MEMBER_MAX];

        if (key == KEY_ROLE && value != VALUE_STRING)
                return wrong(s, span.off, in_message(s, ".role", name), "a string", value);
        if (key != KEY_CONTENT)
                return 1;
        if (value != VALUE_STRING && value != VALUE_ARRAY && value != VALUE_NULL)
                return wrong(s, span.off, in_message(s, ".content", name),
                                "a string or an array of parts", value);
        s->content = span;
        if (value == VALUE_NULL) {
                s->content = (struct body_span){0};
                s->pending_len = 0;
        }
        return 1;
}

static int message_end(struct body_scanner *s, enum value value, struct body_span span) {
        char name[BODY_MEMBER_MAX];

        if (value != VALUE_OBJECT)
                return wrong(s, span.off, in_message(s, "", name), "an object", value);
        if (s->role == BODY_ROLE_ABSENT)
                return body_fail(s, span.off, in_message(s, "", name), "no role");
        if (s->role == BODY_ROLE_USER) {
                body_query_next(s->found);
                query_set(s);
        }
        body_marks_message(&s->found->marks, s->role, span, s->content);
        return 1;
}

static int part_end(struct body_scanner *s, enum value value, struct body_span span) {
        char name[BODY_MEMBER_MAX];

        if (value != VALUE_OBJECT && value != VALUE_STRING)
                return wrong(s, span.off, in_message(s, ".content", name), "parts", value);
        if (value == VALUE_OBJECT && s->part_other)
                s->pending_len = s->part_mark;
        return 1;
}

/* An element of the prompt: all of them are of one type. Items of responses are objects. */
static int prompt_element(struct body_scanner *s, enum value value, struct body_span span) {
        const char *member = rules[s->level[1].key].name;
        bool items = s->kind == BODY_RESPONSES;
        char name[BODY_MEMBER_MAX];

        snprintf(name, sizeof(name), "%s[%u]", member, s->n_prompts);
        if (items && value != VALUE_OBJECT)
                return wrong(s, span.off, name, "an object", value);
        if (!items && value != VALUE_STRING && value != VALUE_NUMBER && value != VALUE_ARRAY)
                return wrong(s, span.off, name, "a text or tokens", value);
        if (s->n_prompts > 0 && value != s->prompts)
                return wrong(s, span.off, name, value_names[s->prompts], value);
        s->prompts = value;
        s->n_prompts++;
        return 1;
}

static int option_value(struct body_scanner *s, enum key key, enum value value,
                struct body_span span) {
        if (key != KEY_INCLUDE_USAGE)
                return 1;
        if (value != VALUE_BOOL && value != VALUE_NULL)
                return wrong(s, span.off, "stream_options.include_usage", "a boolean", value);
        s->found->usage_asked = value == VALUE_BOOL && s->text[span.off] == 't';
        return 1;
}

int body_value(struct body_scanner *s, enum value value, struct body_span span) {
        const struct level *in = &s->level[s->depth];
        enum key key = (enum key)in->key;

        switch ((enum region)in->region) {
        case AT_NOWHERE:
                if (value != VALUE_OBJECT)
                        return body_fail(s, span.off, NULL, "expected an object, got %s",
                                        value_names[value]);
                s->found->marks.object_end = span.off + span.len - 1;
                return 1;
        case AT_BODY:
                return member_value(s, key, value, span);
        case AT_MESSAGES:
                return message_end(s, value, span);
        case AT_MESSAGE:
                return message_value(s, key, value, span);
        case AT_CONTENT:
                return part_end(s, value, span);
        case AT_PROMPT:
                return prompt_element(s, value, span);
        case AT_TOKENS:
                if (value != VALUE_NUMBER)
                        return wrong(s, span.off, rules[s->level[1].key].name, "tokens", value);
                return 1;
        case AT_OPTIONS:
                return option_value(s, key, value, span);
        case AT_METADATA:
                return key != KEY_USER_ID ||
                       session_value(s, SESSION_METADATA_USER_ID, value, span);
        case AT_PART:
        case AT_OTHER:
                return 1;
        }
        return 0;
}

/* ---- the end ---- */

int body_end(struct body_scanner *s) {
        struct body_found *found = s->found;
        uint32_t end = found->marks.object_end;

        found->n_answers = (found->n ? found->n : 1) * (s->kind == BODY_COMPLETIONS ? s->n_prompts : 1);
        if (s->stop_stays)
                found->stop = (struct body_span){0};

        switch (s->kind) {
        case BODY_CHAT:
                if (found->marks.messages.len == 0)
                        return body_fail(s, end, "messages", "missing");
                if (found->marks.n_messages == 0)
                        return body_fail(s, found->marks.messages.off, "messages",
                                        "expected at least one message");
                return 1;
        case BODY_COMPLETIONS:
                if (found->input.len == 0)
                        return body_fail(s, end, "prompt", "missing");
                if (found->n_answers > BODY_N_MAX)
                        return body_fail(s, found->input.off, "prompt",
                                        "with n more than %u answers", BODY_N_MAX);
                return 1;
        case BODY_EMBEDDINGS:
        case BODY_RESPONSES:
                return found->input.len > 0 || body_fail(s, end, "input", "missing");
        }
        return 0;
}

static int session_of(const struct body_found *found) {
        for (int i = 0; i < SESSIONS_N; i++)
                if (found->sessions[i].len > 0)
                        return i;
        return -1;
}

struct body_span body_session(const struct body_found *found) {
        int i = session_of(found);

        return i < 0 ? (struct body_span){0} : found->sessions[i];
}

const char *body_session_name(const struct body_found *found) {
        static const char *const names[] = {"prompt_cache_key", "safety_identifier", "user",
                        "metadata.user_id"};
        int i = session_of(found);

        return i < 0 ? "" : names[i];
}
