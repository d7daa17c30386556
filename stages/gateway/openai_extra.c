#include "stages/gateway/openai_extra.h"

/* The inside of an array of objects; false: it is something else. */
static bool choices_of(struct json_text value, struct json_text *ret) {
        struct json_walk w = json_walk_in(json_inside(value));
        struct json_text one;

        if (value.p[0] != '[')
                return false;
        while (json_walk_element(&w, &one) == 0)
                if (one.p[0] != '{')
                        return false;
        *ret = json_inside(value);
        return true;
}

struct openai_extra openai_extra_of(const struct record *record) {
        struct openai_extra extra = {0};
        struct json_text key, value;
        struct json_walk w;

        if (!(record->has & HAS(extra)) || record->extra.n == 0)
                return extra;
        extra.members = (struct json_text){record->extra.p, record->extra.n};
        if (json_utf8_bad(extra.members.p, extra.members.n) < extra.members.n ||
                        !json_is_members(extra.members))
                return (struct openai_extra){0};
        w = json_walk_in(extra.members);
        while (json_walk_member(&w, &key, &value) == 0) {
                if (json_key_is(key, "choices") && !choices_of(value, &extra.choices))
                        return (struct openai_extra){0};
                if (json_key_is(key, "usage") && value.p[0] == '{')
                        extra.usage = value;
        }
        return extra;
}

bool openai_extra_tool(struct mr_view object, struct json_text *ret_members,
                struct json_text *ret_function) {
        struct json_text inside = json_inside((struct json_text){object.p, object.n}), value;

        if (object.n < 2 || object.p[0] != '{' || object.p[object.n - 1] != '}' ||
                        json_utf8_bad(object.p, object.n) < object.n || !json_is_members(inside))
                return false;
        *ret_members = inside;
        if (json_find(inside, "function", &value) && value.p[0] == '{')
                *ret_function = json_inside(value);
        return true;
}

uint32_t openai_extra_choices(const struct openai_extra *extra) {
        struct json_walk w = json_walk_in(extra->choices);
        struct json_text one;
        uint32_t n = 0;

        while (json_walk_element(&w, &one) == 0)
                n++;
        return n;
}

uint64_t openai_extra_index(struct json_text choice) {
        struct json_text value;
        uint64_t index;

        return json_find(choice, "index", &value) && json_u64(value, &index) ? index : 0;
}

bool openai_extra_has(struct json_text choice, const char *name) {
        struct json_text value;

        return json_find(choice, name, &value);
}

bool openai_extra_find(
                const struct openai_extra *extra, uint64_t index, struct json_text *ret_choice) {
        struct json_walk w = json_walk_in(extra->choices);
        struct json_text one;

        while (json_walk_element(&w, &one) == 0) {
                if (openai_extra_index(json_inside(one)) != index)
                        continue;
                *ret_choice = json_inside(one);
                return true;
        }
        return false;
}

/* As it stands, from its key to the end of its value. */
static void put_member(struct json_buf *b, struct json_text key, struct json_text value) {
        if (b->len > 0 && b->at[b->len - 1] != '{')
                json_put(b, ",", 1);
        json_put(b, key.p, (uint32_t)(value.p - key.p) + value.n);
}

void openai_extra_put_top(struct json_buf *b, const struct openai_extra *extra) {
        struct json_walk w = json_walk_in(extra->members);
        struct json_text key, value;

        while (json_walk_member(&w, &key, &value) == 0)
                if (!json_key_is(key, "choices") && !json_key_is(key, "usage"))
                        put_member(b, key, value);
}

void openai_extra_put_choice(struct json_buf *b, struct json_text choice) {
        struct json_walk w = json_walk_in(choice);
        struct json_text key, value;

        while (json_walk_member(&w, &key, &value) == 0)
                if (!json_key_is(key, "index") && !json_key_is(key, "delta"))
                        put_member(b, key, value);
}

void openai_extra_put_tool(struct json_buf *b, struct json_text members) {
        struct json_walk w = json_walk_in(members);
        struct json_text key, value;

        while (json_walk_member(&w, &key, &value) == 0)
                if (!json_key_is(key, "function"))
                        put_member(b, key, value);
}

void openai_extra_put_function(struct json_buf *b, struct json_text function) {
        struct json_walk w = json_walk_in(function);
        struct json_text key, value;

        while (json_walk_member(&w, &key, &value) == 0)
                put_member(b, key, value);
}

void openai_extra_put_delta(struct json_buf *b, struct json_text choice) {
        struct json_text key, value, delta;
        struct json_walk w;

        if (!json_find(choice, "delta", &delta) || delta.p[0] != '{')
                return;
        w = json_walk_in(json_inside(delta));
        while (json_walk_member(&w, &key, &value) == 0)
                put_member(b, key, value);
}
