#include "stages/engines/json/body.h"

#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "stages/engines/json/json.h"

/* What a container is, by where it stands. */
enum region {
        AT_NOWHERE,
        AT_BODY,
        AT_MESSAGES,
        AT_MESSAGE,
        AT_CONTENT,
        AT_PART,
        AT_OPTIONS,
        AT_OTHER
};

enum key {
        KEY_OTHER,
        KEY_MESSAGES,
        KEY_MODEL,
        KEY_STREAM,
        KEY_STREAM_OPTIONS,
        KEY_MAX_TOKENS, /* of the body */
        KEY_ROLE,
        KEY_CONTENT, /* of a message */
        KEY_TYPE,
        KEY_TEXT,          /* of a part */
        KEY_INCLUDE_USAGE, /* of the options */
};

enum role { ROLE_ABSENT, ROLE_USER, ROLE_SYSTEM, ROLE_ANY };
enum value { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING, VALUE_ARRAY, VALUE_OBJECT };

static const char *const value_names[] = {
                "null", "a boolean", "a number", "a string", "an array", "an object"};

struct level {
        uint8_t region, key;
        uint32_t start; /* offset of the bracket */
};

struct body_scanner {
        yajl_handle parser;
        const char *text;
        uint32_t len;
        uint32_t prev; /* end of the token before */
        uint32_t depth;
        struct level level[BODY_DEPTH_MAX + 1]; /* 0: outside of everything */
        struct body_found *found;

        /* The message at hand. */
        enum role role;
        struct body_span content;
        uint32_t part_mark; /* length of `pending` where the part began */
        bool part_other;    /* the part says that it is no text */
        uint32_t pending_len;
        char pending[BODY_QUERY_MAX];

        uint32_t used;
        alignas(16) uint8_t scratch[BODY_SCRATCH];
};

/* ---- the parser's memory: a heap that is forgotten as a whole; what is too large comes from
 * malloc */

struct block {
        alignas(16) size_t n;
};

static bool in_scratch(const struct body_scanner *s, const void *p) {
        return (uintptr_t)p >= (uintptr_t)s->scratch &&
               (uintptr_t)p < (uintptr_t)s->scratch + sizeof(s->scratch);
}

static void *scratch_malloc(void *ctx, size_t n) {
        struct body_scanner *s = ctx;
        size_t whole = (n + sizeof(struct block) + 15) & ~(size_t)15;
        struct block *b;

        if (whole <= sizeof(s->scratch) - s->used) {
                b = (struct block *)(void *)(s->scratch + s->used);
                s->used += (uint32_t)whole;
        } else {
                b = malloc(whole);
                if (!b)
                        return NULL;
        }
        b->n = n;
        return b + 1;
}

static void scratch_free(void *ctx, void *p) {
        if (p && !in_scratch(ctx, p))
                free((struct block *)p - 1);
}

static void *scratch_realloc(void *ctx, void *p, size_t n) {
        void *to = scratch_malloc(ctx, n);

        if (to && p) {
                size_t old = ((struct block *)p - 1)->n;

                memcpy(to, p, old < n ? old : n);
                scratch_free(ctx, p);
        }
        return to;
}

/* ---- where the parser stands ---- */

__attribute__((format(printf, 3, 4))) static int fail(
                struct body_scanner *s, uint32_t at, const char *format, ...) {
        char *to = s->found->error;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(to, BODY_ERROR_MAX, format, ap);
        va_end(ap);
        if (n >= 0 && n < (int)BODY_ERROR_MAX)
                snprintf(to + n, BODY_ERROR_MAX - (size_t)n, " at byte %u", at);
        return 0;
}

static uint32_t here(const struct body_scanner *s) {
        return (uint32_t)yajl_get_bytes_consumed(s->parser);
}

/* Start of the token behind the last one. The parser takes form feed and vertical tab for white
 * space; RFC 8259 does not. False: such a byte stands there, and *ret is its offset. */
static bool token_start(struct body_scanner *s, uint32_t *ret) {
        uint32_t i = s->prev;

        while (i < s->len && strchr(" \t\n\r,:", s->text[i]) && s->text[i])
                i++;
        *ret = i;
        return i >= s->len || (s->text[i] != '\f' && s->text[i] != '\v');
}

static bool key_is(const unsigned char *p, size_t n, const char *name) {
        return n == strlen(name) && memcmp(p, name, n) == 0;
}

/* Text of the message at hand. What has escapes is decoded from the body itself: the parser turns
 * lone surrogates into bytes that are not UTF-8. */
static void pending_add(struct body_scanner *s, const char *p, size_t n, uint32_t start) {
        uint32_t room = BODY_QUERY_MAX - s->pending_len, take = 0;

        if (here(s) - start != n + 2) {
                if (json_unescape(s->text + start, here(s) - start, s->pending + s->pending_len,
                                    room, &take) < 0)
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

/* ---- values ---- */

static int body_value(
                struct body_scanner *s, enum key key, enum value value, struct body_span span) {
        static const struct {
                enum value want;
                const char *name;
        } rules[] = {
                        [KEY_MESSAGES] = {VALUE_ARRAY, "messages"},
                        [KEY_MODEL] = {VALUE_STRING, "model"},
                        [KEY_STREAM] = {VALUE_BOOL, "stream"},
                        [KEY_STREAM_OPTIONS] = {VALUE_OBJECT, "stream_options"},
                        [KEY_MAX_TOKENS] = {VALUE_NUMBER, "max_tokens"},
        };
        struct body_marks *m = &s->found->marks;
        struct body_span *to[] = {[KEY_MESSAGES] = &m->messages,
                        [KEY_MODEL] = &m->model,
                        [KEY_STREAM] = &m->stream,
                        [KEY_STREAM_OPTIONS] = &m->stream_options,
                        [KEY_MAX_TOKENS] = &m->max_tokens};

        if (key < KEY_MESSAGES || key > KEY_MAX_TOKENS)
                return 1;
        if (value == VALUE_NULL && key != KEY_MESSAGES) {
                /* Absent for us, but still there to be replaced. */
                *to[key] = key == KEY_MODEL || key == KEY_MAX_TOKENS ? (struct body_span){0} : span;
                return 1;
        }
        if (value != rules[key].want)
                return fail(s, span.off, "%s: expected %s, got %s", rules[key].name,
                                value_names[rules[key].want], value_names[value]);
        *to[key] = span;
        return 1;
}

static int message_value(
                struct body_scanner *s, enum key key, enum value value, struct body_span span) {
        uint32_t n = s->found->marks.n_messages;

        if (key == KEY_ROLE && value != VALUE_STRING)
                return fail(s, span.off, "messages[%u].role: expected a string, got %s", n,
                                value_names[value]);
        if (key != KEY_CONTENT)
                return 1;
        if (value != VALUE_STRING && value != VALUE_ARRAY && value != VALUE_NULL)
                return fail(s, span.off,
                                "messages[%u].content: expected a string or an array of parts, got "
                                "%s",
                                n, value_names[value]);
        s->content = span;
        if (value == VALUE_NULL) {
                s->content = (struct body_span){0};
                s->pending_len = 0;
        }
        return 1;
}

static int message_end(struct body_scanner *s, struct body_span span) {
        struct body_marks *m = &s->found->marks;

        if (s->role == ROLE_ABSENT)
                return fail(s, span.off, "messages[%u]: no role", m->n_messages);
        if (s->role == ROLE_USER) {
                m->last_user = s->content;
                memcpy(s->found->query, s->pending, s->pending_len);
                s->found->query_len = s->pending_len;
        }
        if (s->role == ROLE_SYSTEM && m->n_messages == 0)
                m->first_system = s->content;
        m->n_messages++;
        return 1;
}

/* A value is whole; its container decides what it means. */
static int value_done(struct body_scanner *s, enum value value, uint32_t start) {
        const struct level *in = &s->level[s->depth];
        struct body_span span = {.off = start, .len = here(s) - start};

        s->prev = here(s);
        switch ((enum region)in->region) {
        case AT_NOWHERE:
                if (value != VALUE_OBJECT)
                        return fail(s, start, "expected an object, got %s", value_names[value]);
                s->found->marks.object_end = s->prev - 1;
                return 1;
        case AT_BODY:
                return body_value(s, in->key, value, span);
        case AT_MESSAGES:
                if (value != VALUE_OBJECT)
                        return fail(s, start, "messages[%u]: expected an object, got %s",
                                        s->found->marks.n_messages, value_names[value]);
                return message_end(s, span);
        case AT_MESSAGE:
                return message_value(s, in->key, value, span);
        case AT_CONTENT:
                if (value != VALUE_OBJECT && value != VALUE_STRING)
                        return fail(s, start, "messages[%u].content: expected parts, got %s",
                                        s->found->marks.n_messages, value_names[value]);
                if (value == VALUE_OBJECT && s->part_other)
                        s->pending_len = s->part_mark;
                return 1;
        case AT_PART:
        case AT_OPTIONS:
        case AT_OTHER:
                return 1;
        }
        return 0;
}

static void string_seen(struct body_scanner *s, const unsigned char *p, size_t n) {
        const struct level *in = &s->level[s->depth];
        uint32_t start;

        (void)token_start(s, &start);

        if (in->region == AT_MESSAGE && in->key == KEY_ROLE) {
                s->role = key_is(p, n, "user")                                  ? ROLE_USER
                          : key_is(p, n, "system") || key_is(p, n, "developer") ? ROLE_SYSTEM
                                                                                : ROLE_ANY;
        } else if (in->region == AT_MESSAGE && in->key == KEY_CONTENT) {
                s->pending_len = 0;
                pending_add(s, (const char *)p, n, start);
        } else if (in->region == AT_CONTENT || (in->region == AT_PART && in->key == KEY_TEXT)) {
                if (in->region == AT_PART) /* of duplicate texts the last counts */
                        s->pending_len = s->part_mark;
                if (n > 0)
                        pending_line(s);
                pending_add(s, (const char *)p, n, start);
        } else if (in->region == AT_PART && in->key == KEY_TYPE) {
                s->part_other = !key_is(p, n, "text") && !key_is(p, n, "input_text");
        }
}

static int on_scalar(struct body_scanner *s, enum value value) {
        uint32_t start;

        if (!token_start(s, &start))
                return fail(s, start, "not JSON: a control character between values");
        return value_done(s, value, start);
}

static int on_null(void *ctx) {
        return on_scalar(ctx, VALUE_NULL);
}

static int on_boolean(void *ctx, int yes) {
        struct body_scanner *s = ctx;

        if (s->level[s->depth].region == AT_OPTIONS && s->level[s->depth].key == KEY_INCLUDE_USAGE)
                s->found->usage_asked = yes;
        return on_scalar(s, VALUE_BOOL);
}

static int on_number(void *ctx, const char *p, size_t n) {
        (void)p;
        (void)n;
        return on_scalar(ctx, VALUE_NUMBER);
}

static int on_string(void *ctx, const unsigned char *p, size_t n) {
        string_seen(ctx, p, n);
        return on_scalar(ctx, VALUE_STRING);
}

/* ---- containers ---- */

static enum region region_below(struct body_scanner *s, bool object) {
        const struct level *in = &s->level[s->depth];

        switch ((enum region)in->region) {
        case AT_NOWHERE:
                return object ? AT_BODY : AT_OTHER;
        case AT_BODY:
                if (in->key == KEY_MESSAGES && !object)
                        return AT_MESSAGES;
                return in->key == KEY_STREAM_OPTIONS && object ? AT_OPTIONS : AT_OTHER;
        case AT_MESSAGES:
                return object ? AT_MESSAGE : AT_OTHER;
        case AT_MESSAGE:
                return in->key == KEY_CONTENT && !object ? AT_CONTENT : AT_OTHER;
        case AT_CONTENT:
                return object ? AT_PART : AT_OTHER;
        case AT_PART:
        case AT_OPTIONS:
        case AT_OTHER:
                break;
        }
        return AT_OTHER;
}

/* What a container of that kind starts from; of duplicate keys the last one counts. */
static void region_begin(struct body_scanner *s, enum region region) {
        struct body_marks *m = &s->found->marks;

        if (region == AT_MESSAGES) {
                m->n_messages = 0;
                m->last_user = m->first_system = (struct body_span){0};
                s->found->query_len = 0;
        } else if (region == AT_MESSAGE) {
                s->role = ROLE_ABSENT;
                s->content = (struct body_span){0};
                s->pending_len = 0;
        } else if (region == AT_CONTENT) {
                s->pending_len = 0;
        } else if (region == AT_PART) {
                s->part_mark = s->pending_len;
                s->part_other = false;
        } else if (region == AT_OPTIONS) {
                s->found->usage_asked = false;
        }
}

static int on_open(struct body_scanner *s, bool object) {
        enum region region = region_below(s, object);
        uint32_t start;

        if (!token_start(s, &start))
                return fail(s, start, "not JSON: a control character between values");
        if (s->depth == BODY_DEPTH_MAX)
                return fail(s, start, "nested deeper than %u levels", BODY_DEPTH_MAX);
        region_begin(s, region);
        s->level[++s->depth] = (struct level){.region = (uint8_t)region, .start = start};
        s->prev = here(s);
        return 1;
}

static int on_close(struct body_scanner *s, enum value value) {
        uint32_t start, bracket;

        if (!token_start(s, &bracket))
                return fail(s, bracket, "not JSON: a control character between values");
        start = s->level[s->depth].start;
        s->depth--;
        return value_done(s, value, start);
}

static int on_start_map(void *ctx) {
        return on_open(ctx, true);
}

static int on_end_map(void *ctx) {
        return on_close(ctx, VALUE_OBJECT);
}

static int on_start_array(void *ctx) {
        return on_open(ctx, false);
}

static int on_end_array(void *ctx) {
        return on_close(ctx, VALUE_ARRAY);
}

static int on_key(void *ctx, const unsigned char *p, size_t n) {
        static const struct {
                enum region region;
                const char *name;
                enum key key;
        } keys[] = {
                        {AT_BODY, "messages", KEY_MESSAGES},
                        {AT_BODY, "model", KEY_MODEL},
                        {AT_BODY, "stream", KEY_STREAM},
                        {AT_BODY, "stream_options", KEY_STREAM_OPTIONS},
                        {AT_BODY, "max_tokens", KEY_MAX_TOKENS},
                        {AT_BODY, "max_completion_tokens", KEY_MAX_TOKENS},
                        {AT_MESSAGE, "role", KEY_ROLE},
                        {AT_MESSAGE, "content", KEY_CONTENT},
                        {AT_PART, "type", KEY_TYPE},
                        {AT_PART, "text", KEY_TEXT},
                        {AT_OPTIONS, "include_usage", KEY_INCLUDE_USAGE},
        };
        struct body_scanner *s = ctx;
        struct level *in = &s->level[s->depth];
        uint32_t start;

        if (!token_start(s, &start))
                return fail(s, start, "not JSON: a control character between values");
        in->key = KEY_OTHER;
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
                if (keys[i].region == in->region && key_is(p, n, keys[i].name))
                        in->key = keys[i].key;
        s->prev = here(s);
        return 1;
}

static const yajl_callbacks callbacks = {
                .yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_start_map,
                .yajl_map_key = on_key,
                .yajl_end_map = on_end_map,
                .yajl_start_array = on_start_array,
                .yajl_end_array = on_end_array,
};

/* ---- a scan ---- */

int body_scanner_new(struct body_scanner **ret) {
        struct body_scanner *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

struct body_scanner *body_scanner_free(struct body_scanner *s) {
        free(s);
        return NULL;
}

/* The parser's own words, on one line. */
static void parser_error(struct body_scanner *s, uint32_t at) {
        unsigned char *words = yajl_get_error(s->parser, 0, NULL, 0);
        uint32_t n = words ? (uint32_t)strcspn((char *)words, "\n") : 0;

        fail(s, at, "not JSON: %.*s", (int)n, words ? (char *)words : "");
        if (words)
                yajl_free_error(s->parser, words);
}

static int whole_body(struct body_scanner *s) {
        yajl_status status = yajl_parse(s->parser, (const unsigned char *)s->text, s->len);
        uint32_t end = status == yajl_status_ok ? s->len : here(s);

        if (status == yajl_status_ok)
                status = yajl_complete_parse(s->parser);
        if (status == yajl_status_client_canceled)
                return BODY_E_INVALID;
        if (status != yajl_status_ok) {
                parser_error(s, end);
                return BODY_E_INVALID;
        }
        if (!token_start(s, &end)) {
                fail(s, end, "not JSON: a control character behind the body");
                return BODY_E_INVALID;
        }
        if (s->found->marks.messages.len == 0) {
                fail(s, s->found->marks.object_end, "messages: missing");
                return BODY_E_INVALID;
        }
        if (s->found->marks.n_messages == 0) {
                fail(s, s->found->marks.messages.off, "messages: expected at least one message");
                return BODY_E_INVALID;
        }
        return 0;
}

int body_scan(struct body_scanner *s, const char *body, uint32_t len, struct body_found *ret) {
        yajl_alloc_funcs memory = {.malloc = scratch_malloc,
                        .realloc = scratch_realloc,
                        .free = scratch_free,
                        .ctx = s};
        uint32_t bad;
        int r;

        s->text = body;
        s->len = len;
        s->prev = s->depth = s->used = s->pending_len = 0;
        s->level[0] = (struct level){0};
        s->found = ret;
        ret->marks = (struct body_marks){0};
        ret->usage_asked = false;
        ret->query_len = 0;
        ret->error[0] = 0;
        /* The parser's own check lets overlong forms pass. */
        bad = json_utf8_bad(body, len);
        if (bad < len) {
                fail(s, bad, "not UTF-8");
                return BODY_E_INVALID;
        }
        s->parser = yajl_alloc(&callbacks, &memory, s);
        if (!s->parser)
                return -ENOMEM;
        yajl_config(s->parser, yajl_dont_validate_strings, 1);
        r = whole_body(s);
        yajl_free(s->parser);
        s->parser = NULL;
        s->found = NULL;
        return r;
}
