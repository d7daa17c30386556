#include "stages/gateway/responses_items.h"

#include <stdarg.h>
#include <stdio.h>

enum open { OPEN_NOTHING, OPEN_ASSISTANT, OPEN_CALLS };

struct items {
        struct json_buf *b;
        struct responses_bad *bad;
        enum open open;
        uint32_t at; /* the item at hand */
        char name[BODY_MEMBER_MAX];
};

/* "input[3].content[0].type": the name of what is looked at. */
__attribute__((format(printf, 2, 3))) static const char *name_of(
                struct items *t, const char *format, ...) {
        int n = snprintf(t->name, sizeof(t->name), "input[%u]", t->at);
        va_list ap;

        va_start(ap, format);
        vsnprintf(t->name + n, sizeof(t->name) - (size_t)n, format, ap);
        va_end(ap);
        return t->name;
}

static int unsupported(struct items *t, const char *name, struct json_text what) {
        return responses_fail(t->bad, name, "%.*s is not supported",
                        (int)(what.n < RESPONSES_QUOTE_MAX ? what.n : RESPONSES_QUOTE_MAX),
                        what.p);
}

/* The assistant's message ends. */
static void shut(struct items *t) {
        if (t->open == OPEN_CALLS)
                json_put(t->b, "]", 1);
        if (t->open != OPEN_NOTHING)
                json_put(t->b, "}", 1);
        t->open = OPEN_NOTHING;
}

static void comma(struct items *t) {
        if (t->b->len > 0 && t->b->at[t->b->len - 1] == '}')
                json_put(t->b, ",", 1);
}

/* ---- parts ---- */

static bool is_text_part(struct json_text part) {
        struct json_text type;

        return part.p[0] == '{' && responses_find(part, "type", &type) &&
               (responses_is(type, "input_text") || responses_is(type, "output_text") ||
                               responses_is(type, "text") || responses_is(type, "summary_text"));
}

/* A member of a part that must be a string. */
static int part_string(struct items *t, uint32_t i, struct json_text part, const char *member,
                struct json_text *ret) {
        if (!responses_find(part, member, ret))
                return responses_fail(
                                t->bad, name_of(t, ".content[%u].%s", i, member), "missing");
        return responses_want(t->bad, name_of(t, ".content[%u].%s", i, member), *ret, '"',
                        "a string");
}

static int put_image(struct items *t, uint32_t i, struct json_text part) {
        struct json_text url, detail;

        if (responses_find(part, "file_id", &url))
                return responses_fail(t->bad, name_of(t, ".content[%u].file_id", i),
                                "not supported: no files are kept here");
        if (part_string(t, i, part, "image_url", &url))
                return RESPONSES_E_INVALID;
        responses_put(t->b, "{\"type\":\"image_url\",\"image_url\":{\"url\":", url);
        if (responses_find(part, "detail", &detail))
                responses_put(t->b, ",\"detail\":", detail);
        json_put_text(t->b, "}}");
        return 0;
}

static int put_file(struct items *t, uint32_t i, struct json_text part) {
        struct json_text data, name;

        if (responses_find(part, "file_id", &data))
                return responses_fail(t->bad, name_of(t, ".content[%u].file_id", i),
                                "not supported: no files are kept here");
        if (responses_find(part, "file_url", &data))
                return responses_fail(t->bad, name_of(t, ".content[%u].file_url", i),
                                "not supported: nothing is fetched here, send file_data");
        if (part_string(t, i, part, "file_data", &data))
                return RESPONSES_E_INVALID;
        responses_put(t->b, "{\"type\":\"file\",\"file\":{\"file_data\":", data);
        if (responses_find(part, "filename", &name))
                responses_put(t->b, ",\"filename\":", name);
        json_put_text(t->b, "}}");
        return 0;
}

static int put_part(struct items *t, uint32_t i, struct json_text part) {
        struct json_text type, text;

        if (responses_want(t->bad, name_of(t, ".content[%u]", i), part, '{', "a part"))
                return RESPONSES_E_INVALID;
        if (part_string(t, i, part, "type", &type))
                return RESPONSES_E_INVALID;
        if (is_text_part(part)) {
                if (part_string(t, i, part, "text", &text))
                        return RESPONSES_E_INVALID;
                responses_put(t->b, "{\"type\":\"text\",\"text\":", text);
        } else if (responses_is(type, "refusal")) {
                if (part_string(t, i, part, "refusal", &text))
                        return RESPONSES_E_INVALID;
                responses_put(t->b, "{\"type\":\"refusal\",\"refusal\":", text);
        } else if (responses_is(type, "input_image")) {
                return put_image(t, i, part);
        } else if (responses_is(type, "input_file")) {
                return put_file(t, i, part);
        } else if (responses_is(type, "input_audio")) {
                json_put(t->b, part.p, part.n); /* chats have the same */
                return 0;
        } else {
                return unsupported(t, name_of(t, ".content[%u].type", i), type);
        }
        json_put(t->b, "}", 1);
        return 0;
}

/* Texts that need no parts: backends take a string everywhere. */
static bool is_one_text(struct json_text parts, bool joined) {
        struct json_walk w = json_walk_in(json_inside(parts));
        struct json_text part;
        uint32_t n = 0;

        while (json_walk_element(&w, &part) == 0) {
                struct json_text text;

                if (!is_text_part(part) || !responses_find(part, "text", &text) ||
                                text.p[0] != '"')
                        return false;
                n++;
        }
        return n == 1 || joined;
}

static void put_one_text(struct json_buf *b, struct json_text parts) {
        struct json_walk w = json_walk_in(json_inside(parts));
        struct json_text part, text = {0};

        json_put(b, "\"", 1);
        while (json_walk_element(&w, &part) == 0)
                if (responses_find(part, "text", &text))
                        json_put(b, text.p + 1, text.n - 2);
        json_put(b, "\"", 1);
}

/* joined: texts of several parts are one text, as an assistant's and a tool's are. */
static int put_content(struct items *t, struct json_text content, bool joined) {
        struct json_walk w = json_walk_in(json_inside(content));
        struct json_text part;
        uint32_t i = 0;

        if (content.p[0] == '"') {
                json_put(t->b, content.p, content.n);
                return 0;
        }
        if (is_one_text(content, joined)) {
                put_one_text(t->b, content);
                return 0;
        }
        json_put(t->b, "[", 1);
        while (json_walk_element(&w, &part) == 0) {
                if (i > 0)
                        json_put(t->b, ",", 1);
                if (put_part(t, i++, part))
                        return RESPONSES_E_INVALID;
        }
        json_put(t->b, "]", 1);
        return 0;
}

/* ---- items ---- */

static int item_string(
                struct items *t, struct json_text item, const char *member, struct json_text *ret) {
        if (!responses_find(item, member, ret))
                return responses_fail(t->bad, name_of(t, ".%s", member), "missing");
        return responses_want(t->bad, name_of(t, ".%s", member), *ret, '"', "a string");
}

static int content_find(
                struct items *t, struct json_text item, const char *member, struct json_text *ret) {
        if (!responses_find(item, member, ret))
                return responses_fail(t->bad, name_of(t, ".%s", member), "missing");
        return ret->p[0] == '"' ? 0
                                : responses_want(t->bad, name_of(t, ".%s", member), *ret, '[',
                                                  "a string or an array of parts");
}

static int put_message(struct items *t, struct json_text item) {
        struct json_text role, content;
        bool assistant;

        if (item_string(t, item, "role", &role) || content_find(t, item, "content", &content))
                return RESPONSES_E_INVALID;
        shut(t);
        comma(t);
        assistant = responses_is(role, "assistant");
        responses_put(t->b, "{\"role\":", role);
        json_put_text(t->b, ",\"content\":");
        if (put_content(t, content, assistant))
                return RESPONSES_E_INVALID;
        if (assistant)
                t->open = OPEN_ASSISTANT;
        else
                json_put(t->b, "}", 1);
        return 0;
}

static int put_call(struct items *t, struct json_text item) {
        struct json_text id, name, arguments;

        if (item_string(t, item, "call_id", &id) || item_string(t, item, "name", &name) ||
                        item_string(t, item, "arguments", &arguments))
                return RESPONSES_E_INVALID;
        if (t->open == OPEN_NOTHING) {
                comma(t);
                json_put_text(t->b, "{\"role\":\"assistant\",\"content\":null");
        }
        json_put_text(t->b, t->open == OPEN_CALLS ? "," : ",\"tool_calls\":[");
        t->open = OPEN_CALLS;
        responses_put(t->b, "{\"id\":", id);
        responses_put(t->b, ",\"type\":\"function\",\"function\":{\"name\":", name);
        responses_put(t->b, ",\"arguments\":", arguments);
        json_put_text(t->b, "}}");
        return 0;
}

static int put_output(struct items *t, struct json_text item) {
        struct json_text id, output;

        if (item_string(t, item, "call_id", &id) || content_find(t, item, "output", &output))
                return RESPONSES_E_INVALID;
        shut(t);
        comma(t);
        responses_put(t->b, "{\"role\":\"tool\",\"tool_call_id\":", id);
        json_put_text(t->b, ",\"content\":");
        if (put_content(t, output, true))
                return RESPONSES_E_INVALID;
        json_put(t->b, "}", 1);
        return 0;
}

static int put_item(struct items *t, struct json_text item) {
        struct json_text type;

        if (responses_want(t->bad, name_of(t, "%s", ""), item, '{', "an object"))
                return RESPONSES_E_INVALID;
        if (!responses_find(item, "type", &type) || responses_is(type, "message"))
                return put_message(t, item);
        if (responses_is(type, "function_call"))
                return put_call(t, item);
        if (responses_is(type, "function_call_output"))
                return put_output(t, item);
        if (responses_is(type, "reasoning"))
                return 0;
        return unsupported(t, name_of(t, ".type"), type);
}

int responses_items(struct json_buf *b, struct json_text input, struct responses_bad *bad) {
        struct json_walk w = json_walk_in(json_inside(input));
        struct items t = {.b = b, .bad = bad};
        struct json_text item;

        if (input.p[0] == '"') {
                comma(&t);
                responses_put(b, "{\"role\":\"user\",\"content\":", input);
                json_put(b, "}", 1);
                return 0;
        }
        for (; json_walk_element(&w, &item) == 0; t.at++)
                if (put_item(&t, item))
                        return RESPONSES_E_INVALID;
        shut(&t);
        return 0;
}
