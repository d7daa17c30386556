#include "stages/engines/sse/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/sse/chunk_own.h"

#define PARTS_FIRST 8u

#define KNOWN(at, means, text) {at, means, sizeof(text) - 1, text}

static const struct {
        enum place place;
        enum member member;
        uint8_t len; /* of its name */
        const char *name;
} known[] = {
                KNOWN(AT_TOP, M_CHOICES, "choices"),
                KNOWN(AT_TOP, M_USAGE, "usage"),
                KNOWN(AT_TOP, M_IGNORED, "id"),
                KNOWN(AT_TOP, M_OBJECT, "object"),
                KNOWN(AT_TOP, M_IGNORED, "created"),
                KNOWN(AT_TOP, M_IGNORED, "model"),
                KNOWN(AT_TOP, M_IGNORED, "obfuscation"),
                KNOWN(AT_TOP, M_ERROR, "error"),
                KNOWN(AT_TOP, M_MESSAGE, "message"),
                KNOWN(AT_TOP, M_TYPE, "type"),
                KNOWN(AT_TOP, M_CODE, "code"),
                KNOWN(AT_CHOICE, M_DELTA, "delta"),
                KNOWN(AT_CHOICE, M_INDEX, "index"),
                KNOWN(AT_CHOICE, M_FINISH, "finish_reason"),
                KNOWN(AT_CHOICE, M_NULLABLE, "logprobs"),
                KNOWN(AT_CHOICE, M_DELTA, "message"),
                KNOWN(AT_CHOICE, M_CONTENT, "text"),
                KNOWN(AT_DELTA, M_CONTENT, "content"),
                KNOWN(AT_DELTA, M_IGNORED, "role"),
                KNOWN(AT_DELTA, M_REASONING, "reasoning_content"),
                KNOWN(AT_DELTA, M_REASONING, "reasoning"),
                KNOWN(AT_DELTA, M_REFUSAL, "refusal"),
                KNOWN(AT_DELTA, M_TOOLS, "tool_calls"),
                KNOWN(AT_TOOL, M_INDEX, "index"),
                KNOWN(AT_TOOL, M_ID, "id"),
                KNOWN(AT_TOOL, M_KIND, "type"),
                KNOWN(AT_TOOL, M_FUNCTION, "function"),
                KNOWN(AT_FUNCTION, M_NAME, "name"),
                KNOWN(AT_FUNCTION, M_ARGUMENTS, "arguments"),
                KNOWN(AT_USAGE, M_PROMPT, "prompt_tokens"),
                KNOWN(AT_USAGE, M_COMPLETION, "completion_tokens"),
                KNOWN(AT_USAGE, M_TOTAL, "total_tokens"),
                KNOWN(AT_ERROR, M_MESSAGE, "message"),
                KNOWN(AT_ERROR, M_TYPE, "type"),
                KNOWN(AT_ERROR, M_CODE, "code"),
                KNOWN(AT_ERROR, M_PARAM, "param"),
};

/* Keeps a decoded string; chunk_parse() made room for all of them. */
static struct chunk_str keep(struct chunk_parser *p, const unsigned char *s, size_t n) {
        char *at = p->text + p->text_len;

        if (n)
                memcpy(at, s, n);
        p->text_len += (uint32_t)n;
        return (struct chunk_str){at, (uint32_t)n};
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void part_add(struct chunk_parser *p, const struct chunk_part *part) {
        if (p->out.n_parts == p->parts_cap) {
                uint32_t cap = p->parts_cap ? p->parts_cap * 2 : PARTS_FIRST;
                struct chunk_part *bigger = realloc(p->parts, cap * sizeof(*bigger));
                if (!bigger) {
                        p->out_of_memory = true;
                        return;
                }
                p->parts = bigger;
                p->parts_cap = cap;
        }
        p->parts[p->out.n_parts++] = *part;
}

static void text_add(struct chunk_parser *p, enum chunk_kind kind, struct chunk_str text) {
        if (text.n)
                part_add(p, &(struct chunk_part){.kind = kind, .choice = p->choice, .text = text});
}

/* Some backends say it under both names. */
static void reasoning_add(struct chunk_parser *p, struct chunk_str text) {
        for (uint32_t i = p->choice_part; i < p->out.n_parts; i++)
                if (p->parts[i].kind == CHUNK_REASONING)
                        return;
        text_add(p, CHUNK_REASONING, text);
}

static void choice_end(struct chunk_parser *p) {
        /* "index" may come after "delta". */
        for (uint32_t i = p->choice_part; i < p->out.n_parts; i++)
                p->parts[i].choice = p->choice;
        if (p->choice_finish.p) {
                p->out.finished = true;
                if (p->choice == 0)
                        p->out.finish_reason = p->choice_finish;
        }
        chunk_extra_choice(p);
}

/* ---- values --------------------------------------------------------------------------------- */

static enum member member_of(enum place place, const char *name, size_t n) {
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
                if (known[i].place == place && known[i].len == n &&
                                memcmp(known[i].name, name, n) == 0)
                        return known[i].member;
        return place == AT_USAGE ? M_DETAIL : M_UNKNOWN;
}

static bool place_keeps_extras(enum place place) {
        return place == AT_TOP || place == AT_CHOICE || place == AT_DELTA || place == AT_TOOL ||
               place == AT_FUNCTION;
}

/* What a bare error line says at the top is nothing that an answer has. */
static bool is_unknown(enum place place, enum member member, bool null) {
        return member == M_UNKNOWN || (member == M_NULLABLE && !null) ||
               (place == AT_TOP && (member == M_MESSAGE || member == M_TYPE || member == M_CODE));
}

/* A value ended at `end`: an unknown member of a known place is kept as its bytes. */
static void value_end(struct chunk_parser *p, bool null) {
        enum place place = p->stack[p->depth];
        uint32_t end = (uint32_t)yajl_get_bytes_consumed(p->handle);

        if (place_keeps_extras(place) && is_unknown(place, p->member[p->depth], null))
                chunk_extra_add(p, place, p->key_at[p->depth], end);
        if (place == AT_USAGE && p->member[p->depth] == M_DETAIL && !null)
                p->out.usage.details = true;
        p->last_end = end;
}

/* Vertical tab and form feed are no JSON, but the parser takes them for white space. */
static bool is_between(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r') || c == ',' || c == ':';
}

/* The start of the token that was just read. */
static uint32_t token_start(const struct chunk_parser *p) {
        uint32_t at = p->last_end;

        while (at < p->json_len && is_between(p->json[at]))
                at++;
        return at;
}

static void failure_set(struct chunk_parser *p, enum member member, struct chunk_str value) {
        struct chunk_failure *failure = &p->out.failure;

        if (member == M_MESSAGE)
                failure->message = value;
        else if (member == M_TYPE)
                failure->type = value;
        else if (member == M_PARAM)
                failure->param = value;
        else
                failure->code = value;
}

static void on_text(
                struct chunk_parser *p, enum place place, enum member member, struct chunk_str s) {
        if ((place == AT_DELTA || place == AT_CHOICE) && member == M_CONTENT)
                text_add(p, CHUNK_TEXT, s);
        else if (place == AT_DELTA && member == M_REASONING)
                reasoning_add(p, s);
        else if (place == AT_DELTA && member == M_REFUSAL)
                text_add(p, CHUNK_REFUSAL, s);
        else if (place == AT_CHOICE && member == M_FINISH)
                p->choice_finish = s;
        else if (place == AT_TOOL && member == M_ID)
                p->tool.tool_id = s;
        else if (place == AT_FUNCTION && member == M_NAME)
                p->tool.tool_name = s;
        else if (place == AT_FUNCTION && member == M_ARGUMENTS)
                p->tool.text = s;
        else if (place == AT_ERROR)
                failure_set(p, member, s);
        else if (place == AT_TOP && member == M_ERROR) {
                p->out.failure.has = true;
                p->out.failure.message = s;
        } else if (place == AT_TOP && member == M_OBJECT) {
                p->says_error = s.n == 5 && memcmp(s.p, "error", 5) == 0;
        } else if (place == AT_TOP && !p->out.failure.has && member >= M_MESSAGE &&
                        member <= M_CODE) {
                p->out.failure.bare = true;
                failure_set(p, member, s);
        }
}

static uint64_t to_u64(const char *s, size_t n) {
        uint64_t v = 0;

        for (size_t i = 0; i < n && s[i] >= '0' && s[i] <= '9' && v < UINT64_MAX / 16; i++)
                v = v * 10 + (uint64_t)(s[i] - '0');
        return v;
}

static int on_string(void *ctx, const unsigned char *s, size_t n) {
        struct chunk_parser *p = ctx;

        if (p->member[p->depth] == M_KIND && (n != 8 || memcmp(s, "function", 8) != 0))
                p->member[p->depth] = M_UNKNOWN;
        on_text(p, p->stack[p->depth], p->member[p->depth], keep(p, s, n));
        value_end(p, false);
        return 1;
}

static int on_number(void *ctx, const char *s, size_t n) {
        struct chunk_parser *p = ctx;
        enum place place = p->stack[p->depth];
        enum member member = p->member[p->depth];
        uint64_t v = to_u64(s, n);
        uint32_t index = v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;

        if (place == AT_CHOICE && member == M_INDEX)
                p->choice = index;
        else if (place == AT_TOOL && member == M_INDEX)
                p->tool.tool_index = index;
        else if (place == AT_USAGE && member == M_PROMPT)
                p->out.usage.prompt = v;
        else if (place == AT_USAGE && member == M_COMPLETION)
                p->out.usage.completion = v;
        else if (place == AT_USAGE && member == M_TOTAL)
                p->out.usage.total = v;
        else if ((place == AT_ERROR || place == AT_TOP) && member == M_CODE)
                on_text(p, place, member, keep(p, (const unsigned char *)s, n));
        value_end(p, false);
        return 1;
}

static int on_null(void *ctx) {
        value_end(ctx, true);
        return 1;
}

static int on_boolean(void *ctx, int value) {
        struct chunk_parser *p = ctx;

        if (p->stack[p->depth] == AT_TOP && p->member[p->depth] == M_ERROR && value)
                p->out.failure.has = true;
        value_end(p, false);
        return 1;
}

static int on_key(void *ctx, const unsigned char *s, size_t n) {
        struct chunk_parser *p = ctx;

        p->member[p->depth] = member_of(p->stack[p->depth], (const char *)s, n);
        if (p->stack[p->depth] == AT_CHOICE && p->member[p->depth] == M_CONTENT && !p->legacy)
                p->member[p->depth] = M_UNKNOWN;
        p->key_at[p->depth] = token_start(p);
        p->last_end = (uint32_t)yajl_get_bytes_consumed(p->handle);
        return 1;
}

/* ---- containers ----------------------------------------------------------------------------- */

/* Where does an object or array that starts here lead to? */
static enum place place_of(const struct chunk_parser *p, bool object) {
        enum place place = p->stack[p->depth];
        enum member member = p->member[p->depth];

        if (object && place == AT_NOTHING)
                return AT_TOP;
        if (object && place == AT_CHOICES)
                return AT_CHOICE;
        if (object && place == AT_TOOLS)
                return AT_TOOL;
        if (!object && place == AT_TOP && member == M_CHOICES)
                return AT_CHOICES;
        if (!object && place == AT_DELTA && member == M_TOOLS)
                return AT_TOOLS;
        if (!object)
                return AT_OTHER;
        if (place == AT_TOP && member == M_USAGE)
                return AT_USAGE;
        if (place == AT_TOP && member == M_ERROR)
                return AT_ERROR;
        if (place == AT_CHOICE && member == M_DELTA)
                return AT_DELTA;
        if (place == AT_TOOL && member == M_FUNCTION)
                return AT_FUNCTION;
        return AT_OTHER;
}

static int container_start(struct chunk_parser *p, bool object) {
        enum place place = place_of(p, object);
        uint32_t end = (uint32_t)yajl_get_bytes_consumed(p->handle);

        if (p->depth == CHUNK_DEPTH_MAX)
                return 0;
        p->depth++;
        p->stack[p->depth] = place;
        p->member[p->depth] = M_IGNORED;
        p->value_at[p->depth] = end - 1;
        p->last_end = end;
        if (place == AT_TOP)
                p->top_is_object = true;
        if (place == AT_ERROR)
                p->out.failure.has = true;
        if (place == AT_CHOICE) {
                p->choice = 0;
                p->choice_part = p->out.n_parts;
                p->choice_span = p->n_spans;
                p->choice_finish = (struct chunk_str){0};
                p->out.n_choices++;
        }
        if (place == AT_TOOLS)
                p->n_tools = 0;
        if (place == AT_TOOL) {
                p->tool = (struct chunk_part){.kind = CHUNK_TOOL, .tool_index = p->n_tools++};
                p->tool_span = p->n_spans;
        }
        return 1;
}

static int container_end(void *ctx) {
        struct chunk_parser *p = ctx;
        enum place place = p->stack[p->depth];
        uint32_t end = (uint32_t)yajl_get_bytes_consumed(p->handle);
        uint32_t from = p->value_at[p->depth];

        if (place == AT_CHOICE)
                choice_end(p);
        if (place == AT_TOOL) {
                chunk_extra_tool(p);
                part_add(p, &p->tool);
        }
        if (place == AT_USAGE) {
                p->out.usage.has = true;
                p->out.usage.raw = (struct chunk_str){p->json + from, end - from};
        }
        p->depth--;
        value_end(p, false);
        return !p->out_of_memory;
}

static int on_map_start(void *ctx) {
        return container_start(ctx, true);
}

static int on_array_start(void *ctx) {
        return container_start(ctx, false);
}

static const yajl_callbacks callbacks = {
                .yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_map_start,
                .yajl_map_key = on_key,
                .yajl_end_map = container_end,
                .yajl_start_array = on_array_start,
                .yajl_end_array = container_end,
};

/* ---- life ----------------------------------------------------------------------------------- */

int chunk_new(struct chunk_parser **ret) {
        struct chunk_parser *p = calloc(1, sizeof(*p));

        if (!p)
                return -ENOMEM;
        *ret = p;
        return 0;
}

struct chunk_parser *chunk_free(struct chunk_parser *p) {
        if (!p)
                return NULL;
        free(p->parts);
        free(p->text);
        free(p->extra);
        free(p);
        return NULL;
}

static void parse_begin(struct chunk_parser *p, const char *json, uint32_t n) {
        p->json = json;
        p->json_len = n;
        p->last_end = 0;
        p->out = (struct chunk){0};
        p->stack[0] = AT_NOTHING;
        p->member[0] = M_IGNORED;
        p->depth = 0;
        p->out_of_memory = false;
        p->top_is_object = false;
        p->says_error = false;
        p->text_len = 0;
        p->n_spans = 0;
        p->extra_len = 0;
        p->n_extra_choices = 0;
        json_pool_reset(&p->pool);
}

int chunk_parse(struct chunk_parser *p, const char *json, uint32_t n, bool legacy,
                struct chunk *ret) {
        yajl_alloc_funcs funcs = json_pool_funcs(&p->pool);
        yajl_status status;

        parse_begin(p, json, n);
        p->legacy = legacy;
        if (!chunk_grow(&p->text, &p->text_cap, 2 * (uint64_t)n + 1))
                return -ENOMEM;
        p->handle = yajl_alloc(&callbacks, &funcs, p);
        if (!p->handle)
                return -ENOMEM;
        /* A backend may cut a character between two chunks; post mends it. */
        yajl_config(p->handle, yajl_dont_validate_strings, 1);
        status = yajl_parse(p->handle, (const unsigned char *)json, n);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(p->handle);
        yajl_free(p->handle);
        p->handle = NULL;
        if (status == yajl_status_ok)
                chunk_extra_end(p);
        if (p->out_of_memory)
                return -ENOMEM;
        if (status != yajl_status_ok || !p->top_is_object)
                return -EPROTO;
        p->out.failure.has |= p->out.failure.bare && p->says_error;
        p->out.parts = p->parts;
        *ret = p->out;
        return 0;
}
