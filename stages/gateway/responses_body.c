#include "stages/gateway/responses_body.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "stages/gateway/responses_items.h"

int responses_fail(struct responses_bad *bad, const char *member, const char *format, ...) {
        int n = snprintf(bad->text, sizeof(bad->text), "%s: ", member);
        va_list ap;

        snprintf(bad->member, sizeof(bad->member), "%s", member);
        va_start(ap, format);
        vsnprintf(bad->text + n, sizeof(bad->text) - (size_t)n, format, ap);
        va_end(ap);
        return RESPONSES_E_INVALID;
}

/* ---- what tells of a value ---- */

bool responses_find(struct json_text object, const char *name, struct json_text *ret) {
        struct json_text value;

        if (!json_find(json_inside(object), name, &value) || value.p[0] == 'n')
                return false;
        *ret = value;
        return true;
}

bool responses_is(struct json_text string, const char *text) {
        return json_key_is(string, text);
}

void responses_put(struct json_buf *b, const char *before, struct json_text value) {
        json_put_text(b, before);
        json_put(b, value.p, value.n);
}

static const char *kind_of(struct json_text value) {
        switch (value.p[0]) {
        case '"':
                return "a string";
        case '{':
                return "an object";
        case '[':
                return "an array";
        case 't':
        case 'f':
                return "a boolean";
        default:
                return "a number";
        }
}

int responses_want(struct responses_bad *bad, const char *member, struct json_text value,
                char first, const char *expected) {
        return value.p[0] == first ? 0
                                   : responses_fail(bad, member, "expected %s, got %s", expected,
                                                     kind_of(value));
}

/* ---- tools ---- */

/* All members but the type, in the braces that chats have around them. */
static void put_function(struct json_buf *b, struct json_text object, const char *inside) {
        struct json_walk w = json_walk_in(json_inside(object));
        struct json_text key, value;
        bool any = false;

        json_put_text(b, inside);
        while (json_walk_member(&w, &key, &value) == 0) {
                if (json_key_is(key, "type"))
                        continue;
                responses_put(b, any ? "," : "", key);
                responses_put(b, ":", value);
                any = true;
        }
        json_put_text(b, "}}");
}

static int put_tool(struct json_buf *b, uint32_t i, struct json_text tool,
                struct responses_bad *bad) {
        struct json_text type, nested;
        char name[BODY_MEMBER_MAX];

        snprintf(name, sizeof(name), "tools[%u]", i);
        if (responses_want(bad, name, tool, '{', "an object"))
                return RESPONSES_E_INVALID;
        snprintf(name, sizeof(name), "tools[%u].type", i);
        if (!responses_find(tool, "type", &type))
                return responses_fail(bad, name, "missing");
        if (!responses_is(type, "function"))
                return responses_fail(bad, name, "%.*s is not supported, only \"function\" is",
                                (int)(type.n < RESPONSES_QUOTE_MAX ? type.n : RESPONSES_QUOTE_MAX),
                                type.p);
        if (responses_find(tool, "function", &nested)) { /* it is in that form already */
                json_put(b, tool.p, tool.n);
                return 0;
        }
        snprintf(name, sizeof(name), "tools[%u].name", i);
        if (!responses_find(tool, "name", &nested))
                return responses_fail(bad, name, "missing");
        put_function(b, tool, "{\"type\":\"function\",\"function\":{");
        return 0;
}

static int put_tools(struct json_buf *b, struct json_text tools, struct responses_bad *bad) {
        struct json_walk w = json_walk_in(json_inside(tools));
        struct json_text tool;
        uint32_t i = 0;

        if (responses_want(bad, "tools", tools, '[', "an array"))
                return RESPONSES_E_INVALID;
        while (json_walk_element(&w, &tool) == 0) {
                json_put_text(b, i == 0 ? ",\"tools\":[" : ",");
                if (put_tool(b, i++, tool, bad))
                        return RESPONSES_E_INVALID;
        }
        if (i > 0) /* backends refuse an empty one */
                json_put(b, "]", 1);
        return 0;
}

static int put_tool_choice(struct json_buf *b, struct json_text choice, struct responses_bad *bad) {
        struct json_text type, name;

        if (choice.p[0] == '"') {
                responses_put(b, ",\"tool_choice\":", choice);
                return 0;
        }
        if (responses_want(bad, "tool_choice", choice, '{', "a string or an object"))
                return RESPONSES_E_INVALID;
        if (!responses_find(choice, "type", &type))
                return responses_fail(bad, "tool_choice.type", "missing");
        if (!responses_is(type, "function"))
                return responses_fail(bad, "tool_choice.type",
                                "%.*s is not supported, only \"function\" is",
                                (int)(type.n < RESPONSES_QUOTE_MAX ? type.n : RESPONSES_QUOTE_MAX),
                                type.p);
        if (responses_find(choice, "function", &name)) {
                responses_put(b, ",\"tool_choice\":", choice);
                return 0;
        }
        if (!responses_find(choice, "name", &name))
                return responses_fail(bad, "tool_choice.name", "missing");
        responses_put(b, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":", name);
        json_put_text(b, "}}");
        return 0;
}

/* ---- the rest ---- */

static int put_text(struct json_buf *b, struct json_text text, struct responses_bad *bad) {
        struct json_text format, type, verbosity;

        if (responses_want(bad, "text", text, '{', "an object"))
                return RESPONSES_E_INVALID;
        if (responses_find(text, "verbosity", &verbosity))
                responses_put(b, ",\"verbosity\":", verbosity);
        if (!responses_find(text, "format", &format))
                return 0;
        if (!responses_find(format, "type", &type))
                return responses_fail(bad, "text.format.type", "missing");
        if (responses_is(type, "text"))
                return 0;
        if (responses_is(type, "json_schema"))
                put_function(b, format,
                                ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{");
        else
                responses_put(b, ",\"response_format\":", format);
        return 0;
}

static int put_reasoning(
                struct json_buf *b, struct json_text reasoning, struct responses_bad *bad) {
        struct json_text effort;

        if (responses_want(bad, "reasoning", reasoning, '{', "an object"))
                return RESPONSES_E_INVALID;
        if (responses_find(reasoning, "effort", &effort))
                responses_put(b, ",\"reasoning_effort\":", effort);
        return 0;
}

static int put_max_tokens(struct json_buf *b, struct json_text max, struct responses_bad *bad) {
        uint64_t n;

        if (!json_u64(max, &n) || n == 0)
                return responses_fail(bad, "max_output_tokens", "expected a whole number above 0");
        responses_put(b, ",\"max_tokens\":", max);
        return 0;
}

static int refuse(struct json_buf *b, struct json_text value, struct responses_bad *bad,
                const char *member) {
        (void)b;
        (void)value;
        return responses_fail(bad, member,
                        "not supported: answers are not kept as a conversation, send the whole "
                        "input");
}

static int refuse_previous(struct json_buf *b, struct json_text value, struct responses_bad *bad) {
        return refuse(b, value, bad, "previous_response_id");
}

static int refuse_conversation(
                struct json_buf *b, struct json_text value, struct responses_bad *bad) {
        return refuse(b, value, bad, "conversation");
}

static int refuse_prompt(struct json_buf *b, struct json_text value, struct responses_bad *bad) {
        (void)b;
        (void)value;
        return responses_fail(bad, "prompt", "not supported: no prompts are kept here");
}

static int leave_out(struct json_buf *b, struct json_text value, struct responses_bad *bad) {
        (void)b;
        (void)value;
        (void)bad;
        return 0;
}

/* Members that do not go on as they stand. Of several that are null none is there. */
static const struct member {
        const char *name;
        int (*put)(struct json_buf *b, struct json_text value, struct responses_bad *bad);
} members[] = {
                {"background", leave_out},
                {"conversation", refuse_conversation},
                {"include", leave_out},
                {"input", leave_out},        /* it is written first */
                {"instructions", leave_out}, /* likewise */
                {"max_output_tokens", put_max_tokens},
                {"messages", leave_out}, /* they are made here */
                {"previous_response_id", refuse_previous},
                {"prompt", refuse_prompt},
                {"reasoning", put_reasoning},
                {"store", leave_out},
                {"stream_options", leave_out},
                {"text", put_text},
                {"tool_choice", put_tool_choice},
                {"tools", put_tools},
                {"top_logprobs", leave_out},
                {"truncation", leave_out},
};

static const struct member *member_find(struct json_text key) {
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
                if (json_key_is(key, members[i].name))
                        return &members[i];
        return NULL;
}

static int put_members(struct json_buf *b, struct json_text body, struct responses_bad *bad) {
        struct json_walk w = json_walk_in(json_inside(body));
        struct json_text key, value;

        while (json_walk_member(&w, &key, &value) == 0) {
                const struct member *m = member_find(key);

                if (!m) {
                        responses_put(b, ",", key);
                        responses_put(b, ":", value);
                } else if (value.p[0] != 'n' && m->put(b, value, bad)) {
                        return RESPONSES_E_INVALID;
                }
        }
        return 0;
}

int responses_body(struct json_buf *b, struct json_text body, struct responses_bad *ret_bad) {
        struct json_text instructions, input;
        struct json_text space = body;

        /* What stands around the object is not looked at. */
        while (space.n > 0 && space.p[0] != '{') {
                space.p++;
                space.n--;
        }
        while (space.n > 0 && space.p[space.n - 1] != '}')
                space.n--;
        json_put_text(b, "{\"messages\":[");
        if (responses_find(space, "instructions", &instructions)) {
                if (responses_want(ret_bad, "instructions", instructions, '"', "a string"))
                        return RESPONSES_E_INVALID;
                responses_put(b, "{\"role\":\"system\",\"content\":", instructions);
                json_put(b, "}", 1);
        }
        if (!responses_find(space, "input", &input))
                return responses_fail(ret_bad, "input", "missing");
        if (responses_items(b, input, ret_bad))
                return RESPONSES_E_INVALID;
        json_put(b, "]", 1);
        if (put_members(b, space, ret_bad))
                return RESPONSES_E_INVALID;
        json_put(b, "}", 1);
        return 0;
}
