/*
 * redaction_extra: members of a backend's chunk that millrace does not know. Each of their strings is a text
 * of its own; those that spell the answer once more, piece by piece, are left out.
 */
#include <string.h>

#include "stages/engines/json/walk.h"
#include "stages/post/redaction.h"

/* Where a text goes on from chunk to chunk, no string of it can be looked at alone. */
static bool is_left_out(struct json_text key) {
        static const char *const names[] = {"logprobs", "reasoning_details", "audio"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (json_key_is(key, names[i]))
                        return true;
        return false;
}

static void put_text(struct redaction *r, const char *text) {
        redaction_out(r, text, (uint32_t)strlen(text));
}

static void put_value(struct redaction *r, struct json_text value);

static void put_members(struct redaction *r, struct json_text inside) {
        struct json_walk walk = json_walk_in(inside);
        struct json_text key, value;

        for (bool first = true; json_walk_member(&walk, &key, &value) == 0;) {
                if (is_left_out(key))
                        continue;
                if (!first)
                        put_text(r, ",");
                redaction_out(r, key.p, key.n);
                put_text(r, ":");
                put_value(r, value);
                first = false;
        }
}

static void put_elements(struct redaction *r, struct json_text inside) {
        struct json_walk walk = json_walk_in(inside);
        struct json_text value;

        for (bool first = true; json_walk_element(&walk, &value) == 0; first = false) {
                if (!first)
                        put_text(r, ",");
                put_value(r, value);
        }
}

static void put_value(struct redaction *r, struct json_text value) {
        switch (value.p[0]) {
        case '{':
                put_text(r, "{");
                put_members(r, json_inside(value));
                put_text(r, "}");
                return;
        case '[':
                put_text(r, "[");
                put_elements(r, json_inside(value));
                put_text(r, "]");
                return;
        case '"':
                redaction_json_string(r, value.p, value.n);
                return;
        default:
                redaction_out(r, value.p, value.n);
        }
}

int redaction_extra(struct redaction *r, struct mr_view members) {
        r->n_out = 0;
        r->full = r->blocked = false;
        if (!json_is_members((struct json_text){members.p, members.n}))
                return REDACTION_E_LARGE;
        put_members(r, (struct json_text){members.p, members.n});
        return r->full ? REDACTION_E_LARGE : r->blocked ? REDACTION_E_BLOCKED : 0;
}
