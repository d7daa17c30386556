#include "stages/stream/turn_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"

#define FRAME_BYTES 128u /* what stands around a message, or around one call */

static int text_add(struct turn_text *text, struct mr_view more) {
        uint64_t cap = text->cap ? text->cap : 1024;
        char *p;

        while (cap < (uint64_t)text->n + more.n)
                cap *= 2;
        if (cap > UINT32_MAX / (2 * JSON_ESCAPE_GROWTH))
                return -ENOMEM;
        if (cap != text->cap) {
                p = realloc(text->p, cap);
                if (!p)
                        return -ENOMEM;
                text->p = p;
                text->cap = (uint32_t)cap;
        }
        if (more.n)
                memcpy(text->p + text->n, more.p, more.n);
        text->n += more.n;
        return 0;
}

static bool is_named(const msgpack_object *key, const char *name) {
        return key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
               memcmp(key->via.str.ptr, name, key->via.str.size) == 0;
}

static uint64_t tool_index(const msgpack_object *tool) {
        for (uint32_t i = 0; i < tool->via.map.size; i++)
                if (is_named(&tool->via.map.ptr[i].key, "index") &&
                                tool->via.map.ptr[i].val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
                        return tool->via.map.ptr[i].val.via.u64;
        return 0;
}

static int tool_add(struct turn_answer *answer, const msgpack_object *tool) {
        uint64_t index = tool->type == MSGPACK_OBJECT_MAP ? tool_index(tool) : TURN_TOOLS_MAX;
        int r = 0;

        if (index >= TURN_TOOLS_MAX)
                return 0;
        if (!answer->tools)
                answer->tools = calloc(TURN_TOOLS_MAX, sizeof(*answer->tools));
        if (!answer->tools)
                return -ENOMEM;
        if (index >= answer->n_tools)
                answer->n_tools = (uint32_t)index + 1;
        for (uint32_t i = 0; i < tool->via.map.size && r == 0; i++) {
                const msgpack_object_kv *kv = &tool->via.map.ptr[i];
                struct turn_tool *to = &answer->tools[index];
                struct mr_view value;

                if (kv->val.type != MSGPACK_OBJECT_STR)
                        continue;
                value = (struct mr_view){kv->val.via.str.ptr, kv->val.via.str.size};
                if (is_named(&kv->key, "id") && !to->id.n)
                        r = text_add(&to->id, value);
                else if (is_named(&kv->key, "name") && !to->name.n)
                        r = text_add(&to->name, value);
                else if (is_named(&kv->key, "arguments"))
                        r = text_add(&to->arguments, value);
        }
        return r;
}

int turn_answer_event(struct turn_answer *answer, struct record_decoder *decoder, uint32_t type,
                const void *bytes, uint32_t len) {
        struct record record;
        int r = type == RECORD_DELTA ? record_decode(decoder, bytes, len, &record) : 0;

        if (r || type != RECORD_DELTA)
                return r;
        if (record.has & HAS(choice) && record.choice != 0)
                return 0;
        if (record.has & HAS(tool))
                return tool_add(answer, record.tool);
        if (!(record.has & HAS(text)) || record.has & HAS(delta_kind))
                return 0;
        return text_add(&answer->text, record.text);
}

/* ---- the message ---- */

static void put_member(struct json_buf *out, const char *name, const struct turn_text *text) {
        json_put_text(out, name);
        json_put_text(out, "\"");
        json_put_mended(out, text->p ? text->p : "", text->n);
        json_put_text(out, "\"");
}

static void put_tools(struct json_buf *out, const struct turn_answer *answer) {
        const char *before = ",\"tool_calls\":[{\"type\":\"function\"";

        for (uint32_t i = 0; i < answer->n_tools; i++) {
                const struct turn_tool *tool = &answer->tools[i];

                if (!tool->name.n)
                        continue;
                json_put_text(out, before);
                put_member(out, ",\"id\":", &tool->id);
                put_member(out, ",\"function\":{\"name\":", &tool->name);
                put_member(out, ",\"arguments\":", &tool->arguments);
                json_put_text(out, "}}");
                before = ",{\"type\":\"function\"";
        }
        if (before[1] == '{')
                json_put_text(out, "]");
}

static uint64_t most_bytes(const struct turn_answer *answer) {
        uint64_t n = answer->text.n, frames = 1;

        for (uint32_t i = 0; i < answer->n_tools; i++) {
                const struct turn_tool *tool = &answer->tools[i];
                n += (uint64_t)tool->id.n + tool->name.n + tool->arguments.n;
                frames++;
        }
        return n * JSON_ESCAPE_GROWTH + frames * FRAME_BYTES;
}

static void clear(struct turn_answer *answer) {
        for (uint32_t i = 0; i < answer->n_tools; i++) {
                free(answer->tools[i].id.p);
                free(answer->tools[i].name.p);
                free(answer->tools[i].arguments.p);
        }
        free(answer->tools);
        free(answer->text.p);
        *answer = (struct turn_answer){.tools = NULL};
}

int turn_answer_end(struct turn_answer *answer, char **ret, uint32_t *ret_n) {
        uint64_t cap = most_bytes(answer);
        struct json_buf out = {.cap = cap > UINT32_MAX ? 0 : (uint32_t)cap};
        bool said = answer->text.n > 0;

        for (uint32_t i = 0; i < answer->n_tools; i++)
                said = said || answer->tools[i].name.n > 0;
        *ret = NULL;
        *ret_n = 0;
        if (said && out.cap)
                out.at = malloc(out.cap);
        if (said && !out.at) {
                clear(answer);
                return -ENOMEM;
        }
        if (said) {
                put_member(&out, "{\"role\":\"assistant\",\"content\":", &answer->text);
                put_tools(&out, answer);
                json_put_text(&out, "}");
                *ret = out.at;
                *ret_n = out.len;
        }
        clear(answer);
        return 0;
}
