#include "stages/gateway/openai_json.h"

#include <string.h>

#include "stages/gateway/openai_extra.h"

#define FIXED 512u         /* a chunk's names, numbers and brackets */
#define CHOICE_FIXED 96u   /* of a choice that only extra has */
#define SOURCE_FIXED 192u  /* names and numbers of one source */
#define TOOL_FIXED 128u

static struct mr_view view(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static bool is_text(struct mr_view v, const char *text) {
        return v.n == strlen(text) && memcmp(v.p, text, v.n) == 0;
}

/* ---- text ---- */

uint32_t openai_text_piece_bound(struct mr_view text) {
        uint32_t more = 0;

        for (uint32_t i = 0; i < text.n; i++) {
                unsigned char c = (unsigned char)text.p[i];

                more += c < 0x20 ? JSON_ESCAPE_GROWTH - 1 : c == '"' || c == '\\';
        }
        if (text.n > 0 && json_utf8_bad(text.p, text.n) < text.n)
                more = text.n * (JSON_ESCAPE_GROWTH - 1);
        return text.n + more;
}

static void put_string(struct json_buf *b, struct mr_view text) {
        json_put(b, "\"", 1);
        json_put_mended(b, text.p, text.n);
        json_put(b, "\"", 1);
}

/* A comma, unless it would be the first thing in its brackets. */
static void comma(struct json_buf *b) {
        if (b->len > 0 && b->at[b->len - 1] != '{' && b->at[b->len - 1] != '[')
                json_put(b, ",", 1);
}

/* ---- what all chunks have ---- */

uint32_t openai_head_bound(const struct openai_answer *answer) {
        return FIXED + openai_text_piece_bound(answer->id) + openai_text_piece_bound(answer->model);
}

void openai_put_head(struct json_buf *b, const struct openai_answer *answer, const char *object) {
        json_put_text(b, answer->kind == OPENAI_CHAT ? "{\"id\":\"chatcmpl-" : "{\"id\":\"cmpl-");
        json_put_mended(b, answer->id.p, answer->id.n);
        json_put_text(b, "\",\"object\":\"");
        json_put_text(b, object);
        json_put_text(b, "\",\"created\":");
        json_put_u64(b, answer->created);
        json_put_text(b, ",\"model\":");
        put_string(b, answer->model);
}

static void chunk_begin(struct json_buf *b, const struct openai_answer *answer) {
        openai_put_head(b, answer,
                        answer->kind == OPENAI_CHAT ? "chat.completion.chunk" : "text_completion");
        json_put_text(b, ",\"choices\":[");
}

/* The choices are out; the members at the top follow, then the brace. */
static void choices_end(struct json_buf *b, const struct openai_answer *answer) {
        json_put_text(b, answer->usage_asked ? "],\"usage\":null" : "]");
}

static uint64_t choice_of(const struct record *delta) {
        return delta->has & HAS(choice) ? delta->choice : 0;
}

static void choice_begin(struct json_buf *b, uint64_t index) {
        comma(b);
        json_put_text(b, "{\"index\":");
        json_put_u64(b, index);
}

/* Where a text of that kind goes; what is neither text nor refusal counts as reasoning. */
static const char *text_member(const struct openai_answer *answer, const struct record *delta) {
        bool plain = !(delta->has & HAS(delta_kind)) || delta->delta_kind.n == 0;

        if (plain)
                return answer->kind == OPENAI_CHAT ? "\"content\":\"" : "\"text\":\"";
        return is_text(delta->delta_kind, "refusal") ? "\"refusal\":\""
                                                     : "\"reasoning_content\":\"";
}

/* ---- roles ---- */

static bool role_take(struct openai_roles *roles, uint64_t choice) {
        uint64_t bit = 1ull << choice % 64;

        if (choice >= OPENAI_CHOICES_MAX || roles->had[choice / 64] & bit)
                return false;
        roles->had[choice / 64] |= bit;
        return true;
}

bool openai_role_due(
                struct openai_roles *roles, const struct record *delta, uint32_t *ret_choice) {
        struct openai_extra extra = openai_extra_of(delta);
        struct json_walk w = json_walk_in(extra.choices);
        struct json_text one;
        uint64_t choice = choice_of(delta);

        /* Members alone may be of any choice, so of none that they do not name. */
        if ((delta->has & (HAS(text) | HAS(tool)) || extra.choices.n == 0) &&
                        role_take(roles, choice)) {
                *ret_choice = (uint32_t)choice;
                return true;
        }
        while (json_walk_element(&w, &one) == 0) {
                choice = openai_extra_index(json_inside(one));
                if (role_take(roles, choice)) {
                        *ret_choice = (uint32_t)choice;
                        return true;
                }
        }
        return false;
}

void openai_role_chunk(struct json_buf *b, const struct openai_answer *answer, uint32_t choice) {
        chunk_begin(b, answer);
        choice_begin(b, choice);
        json_put_text(b, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                         "\"logprobs\":null,\"finish_reason\":null}");
        choices_end(b, answer);
        json_put(b, "}", 1);
}

/* ---- texts of several deltas ---- */

uint32_t openai_text_bound(const struct openai_answer *answer) {
        return openai_head_bound(answer);
}

void openai_text_begin(
                struct json_buf *b, const struct openai_answer *answer, const struct record *like) {
        chunk_begin(b, answer);
        choice_begin(b, choice_of(like));
        json_put_text(b, answer->kind == OPENAI_CHAT ? ",\"delta\":{" : ",");
        json_put_text(b, text_member(answer, like));
}

void openai_text_piece(struct json_buf *b, struct mr_view text) {
        json_put_mended(b, text.p, text.n);
}

void openai_text_end(
                struct json_buf *b, const struct openai_answer *answer, const struct record *like) {
        bool no_text = like->has & HAS(delta_kind) && like->delta_kind.n > 0;

        if (answer->kind == OPENAI_CHAT)
                json_put_text(b, "\"}");
        else
                json_put_text(b, no_text ? "\",\"text\":\"\"" : "\"");
        json_put_text(b, ",\"logprobs\":null,\"finish_reason\":null}");
        choices_end(b, answer);
        json_put(b, "}", 1);
}

/* ---- deltas ---- */

static struct mr_view tool_text(const msgpack_object *o) {
        if (o->type != MSGPACK_OBJECT_STR)
                return (struct mr_view){0};
        return (struct mr_view){o->via.str.ptr, o->via.str.size};
}

bool openai_tool_of(const struct record *delta, struct openai_tool *ret) {
        *ret = (struct openai_tool){0};
        if (!(delta->has & HAS(tool)) || delta->tool->type != MSGPACK_OBJECT_MAP)
                return false;
        for (uint32_t i = 0; i < delta->tool->via.map.size; i++) {
                const msgpack_object_kv *kv = &delta->tool->via.map.ptr[i];
                struct mr_view key = tool_text(&kv->key);

                if (is_text(key, "index") && kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
                        ret->index = kv->val.via.u64;
                else if (is_text(key, "id"))
                        ret->id = tool_text(&kv->val);
                else if (is_text(key, "name"))
                        ret->name = tool_text(&kv->val);
                else if (is_text(key, "arguments"))
                        ret->arguments = tool_text(&kv->val);
                else if (is_text(key, "extra"))
                        openai_extra_tool(tool_text(&kv->val), &ret->members, &ret->function);
        }
        return true;
}

bool openai_tool_is_function(const struct openai_tool *tool) {
        return tool->name.n > 0 || tool->arguments.n > 0 || tool->function.n > 0 ||
               !(openai_extra_has(tool->members, "type") ||
                               openai_extra_has(tool->members, "custom"));
}

static void put_function(struct json_buf *b, const struct openai_tool *tool) {
        json_put_text(b, ",\"function\":{");
        if (tool->name.n > 0) {
                json_put_text(b, "\"name\":");
                put_string(b, tool->name);
                json_put(b, ",", 1);
        }
        json_put_text(b, "\"arguments\":");
        put_string(b, tool->arguments);
        openai_extra_put_function(b, tool->function);
        json_put(b, "}", 1);
}

/* The first fragment of a call has its id and name. */
static void put_tool(struct json_buf *b, const struct openai_tool *tool) {
        bool function = openai_tool_is_function(tool);

        json_put_text(b, "\"tool_calls\":[{\"index\":");
        json_put_u64(b, tool->index);
        if (tool->id.n > 0) {
                json_put_text(b, ",\"id\":");
                put_string(b, tool->id);
        }
        if (function && (tool->id.n > 0 || tool->name.n > 0))
                json_put_text(b, ",\"type\":\"function\"");
        if (function)
                put_function(b, tool);
        openai_extra_put_tool(b, tool->members);
        json_put_text(b, "}]");
}

static void put_text_member(struct json_buf *b, const struct openai_answer *answer,
                const struct record *delta) {
        comma(b);
        json_put_text(b, text_member(answer, delta));
        json_put_mended(b, delta->text.p, delta->text.n);
        json_put(b, "\"", 1);
}

/* A choice of a chunk: what the record says of it (NULL: nothing), and its members in extra. */
static void put_choice(struct json_buf *b, const struct openai_answer *answer, uint64_t index,
                const struct record *delta, struct json_text extra) {
        bool chat = answer->kind == OPENAI_CHAT;
        struct openai_tool tool;

        choice_begin(b, index);
        if (chat) {
                json_put_text(b, ",\"delta\":{");
                if (delta && openai_tool_of(delta, &tool))
                        put_tool(b, &tool);
        }
        if (delta && delta->has & HAS(text))
                put_text_member(b, answer, delta);
        if (chat) {
                openai_extra_put_delta(b, extra);
                json_put(b, "}", 1);
        } else if (!delta || !(delta->has & HAS(text)) || delta->has & HAS(delta_kind)) {
                json_put_text(b, ",\"text\":\"\"");
        }
        openai_extra_put_choice(b, extra);
        if (!openai_extra_has(extra, "logprobs"))
                json_put_text(b, ",\"logprobs\":null");
        if (!openai_extra_has(extra, "finish_reason"))
                json_put_text(b, ",\"finish_reason\":null");
        json_put(b, "}", 1);
}

uint32_t openai_delta_bound(const struct openai_answer *answer, const struct record *delta) {
        struct openai_extra extra = openai_extra_of(delta);
        uint32_t bytes = openai_head_bound(answer) + extra.members.n +
                         CHOICE_FIXED * openai_extra_choices(&extra);
        struct openai_tool tool;

        if (delta->has & HAS(text))
                bytes += openai_text_piece_bound(delta->text);
        if (openai_tool_of(delta, &tool))
                bytes += TOOL_FIXED + openai_text_piece_bound(tool.id) +
                         openai_text_piece_bound(tool.name) +
                         openai_text_piece_bound(tool.arguments) + tool.members.n;
        return bytes;
}

void openai_delta_chunk(struct json_buf *b, const struct openai_answer *answer,
                const struct record *delta) {
        struct openai_extra extra = openai_extra_of(delta);
        struct json_walk w = json_walk_in(extra.choices);
        bool own = delta->has & (HAS(text) | HAS(tool)) || extra.choices.n == 0;
        struct json_text one, inside = {0};

        chunk_begin(b, answer);
        if (own) {
                openai_extra_find(&extra, choice_of(delta), &inside);
                put_choice(b, answer, choice_of(delta), delta, inside);
        }
        while (json_walk_element(&w, &one) == 0) {
                inside = json_inside(one);
                if (!own || openai_extra_index(inside) != choice_of(delta))
                        put_choice(b, answer, openai_extra_index(inside), NULL, inside);
        }
        choices_end(b, answer);
        openai_extra_put_top(b, &extra);
        json_put(b, "}", 1);
}

/* ---- the end ---- */

struct mr_view openai_finish_reason(const struct record *done) {
        return done->has & HAS(finish_reason) ? done->finish_reason : view("stop");
}

bool openai_has_sources(const struct record *done) {
        return done->has & HAS(sources) && done->sources->type == MSGPACK_OBJECT_ARRAY &&
               done->sources->via.array.size > 0;
}

static uint32_t sources_bound(const struct record *done) {
        uint32_t bytes = 0;

        if (!openai_has_sources(done))
                return 0;
        for (uint32_t i = 0; i < done->sources->via.array.size; i++) {
                const msgpack_object *row = &done->sources->via.array.ptr[i];
                uint32_t n = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.size : 0;

                bytes += SOURCE_FIXED;
                for (uint32_t k = 0; k < n; k++)
                        bytes += openai_text_piece_bound(tool_text(&row->via.array.ptr[k]));
        }
        return bytes;
}

static void put_value(struct json_buf *b, const msgpack_object *value) {
        if (value->type == MSGPACK_OBJECT_STR)
                put_string(b, tool_text(value));
        else if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
                json_put_u64(b, value->via.u64);
        else if (value->type == MSGPACK_OBJECT_BOOLEAN)
                json_put_text(b, value->via.boolean ? "true" : "false");
        else
                json_put_text(b, "null");
}

void openai_put_sources(struct json_buf *b, const struct record *done) {
        static const char *const names[] = {"\"n\":", "\"id\":", "\"title\":", "\"url\":",
                        "\"start\":", "\"end\":", "\"cited\":"};
        const uint32_t n_names = sizeof(names) / sizeof(names[0]);

        if (!openai_has_sources(done))
                return;
        json_put_text(b, ",\"sources\":[");
        for (uint32_t i = 0; i < done->sources->via.array.size; i++) {
                const msgpack_object *row = &done->sources->via.array.ptr[i];
                uint32_t n = row->type == MSGPACK_OBJECT_ARRAY ? row->via.array.size : 0;

                comma(b);
                json_put(b, "{", 1);
                for (uint32_t k = 0; k < n && k < n_names; k++) {
                        comma(b);
                        json_put_text(b, names[k]);
                        put_value(b, &row->via.array.ptr[k]);
                }
                json_put(b, "}", 1);
        }
        json_put(b, "]", 1);
}

void openai_put_usage(struct json_buf *b, const struct record *done) {
        uint64_t prompt = done->has & HAS(prompt_tokens) ? done->prompt_tokens : 0;
        uint64_t completion = done->has & HAS(completion_tokens) ? done->completion_tokens : 0;
        struct openai_extra extra = openai_extra_of(done);

        json_put_text(b, "\"usage\":");
        if (extra.usage.n > 0) {
                json_put(b, extra.usage.p, extra.usage.n);
                return;
        }
        json_put_text(b, "{\"prompt_tokens\":");
        json_put_u64(b, prompt);
        json_put_text(b, ",\"completion_tokens\":");
        json_put_u64(b, completion);
        json_put_text(b, ",\"total_tokens\":");
        json_put_u64(b, done->has & HAS(total_tokens) ? done->total_tokens : prompt + completion);
        json_put(b, "}", 1);
}

uint32_t openai_done_bound(const struct openai_answer *answer, const struct record *done) {
        return openai_head_bound(answer) + openai_text_piece_bound(openai_finish_reason(done)) +
               sources_bound(done) + openai_extra_of(done).members.n;
}

void openai_finish_chunk(
                struct json_buf *b, const struct openai_answer *answer, const struct record *done) {
        struct openai_extra extra = openai_extra_of(done);
        struct json_text inside = {0};

        openai_extra_find(&extra, 0, &inside);
        chunk_begin(b, answer);
        choice_begin(b, 0);
        if (answer->kind == OPENAI_CHAT) {
                json_put_text(b, ",\"delta\":{");
                openai_extra_put_delta(b, inside);
                json_put(b, "}", 1);
        } else {
                json_put_text(b, ",\"text\":\"\"");
        }
        openai_extra_put_choice(b, inside);
        if (!openai_extra_has(inside, "logprobs"))
                json_put_text(b, ",\"logprobs\":null");
        json_put_text(b, ",\"finish_reason\":");
        put_string(b, openai_finish_reason(done));
        json_put(b, "}", 1);
        choices_end(b, answer);
        openai_put_sources(b, done);
        openai_extra_put_top(b, &extra);
        json_put(b, "}", 1);
}

void openai_usage_chunk(
                struct json_buf *b, const struct openai_answer *answer, const struct record *done) {
        chunk_begin(b, answer);
        json_put_text(b, "],");
        openai_put_usage(b, done);
        json_put(b, "}", 1);
}

/* ---- models ---- */

uint32_t openai_model_bound(struct mr_view name) {
        return FIXED + openai_text_piece_bound(name);
}

void openai_model(struct json_buf *b, struct mr_view name, uint64_t created) {
        json_put_text(b, "{\"id\":");
        put_string(b, name);
        json_put_text(b, ",\"object\":\"model\",\"created\":");
        json_put_u64(b, created);
        json_put_text(b, ",\"owned_by\":\"millrace\"}");
}
