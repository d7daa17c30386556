#include "stages/assemble/earlier.h"

#include <stdlib.h>

#include "stages/engines/json/walk.h"

#define KEY(name) ((struct mustache_text){"" name, sizeof(name) - 1})
#define NO_KEY ((struct mustache_text){"", 0})

void earlier_put(struct prompt *prompt, struct json_buf *lit, const struct body_marks *marks,
                struct history_slice history) {
        struct prompt_edit edit = {.at = marks->conversation.off, .from = lit->len, .client = true};

        for (uint32_t i = 0; i < history.n; i++) {
                json_put(lit, history.v[i].asked.p, history.v[i].asked.n);
                json_put_text(lit, ",");
                json_put(lit, history.v[i].answer.p, history.v[i].answer.n);
                json_put_text(lit, ",");
        }
        edit.to = lit->len;
        prompt_edit_put(prompt, edit);
        prompt->n_history = history.n;
}

void earlier_examples_put(struct prompt *prompt, struct json_buf *lit, const struct body_marks *marks,
                struct few_shot_choice examples) {
        struct prompt_edit edit = {.at = marks->conversation.off, .from = lit->len};

        for (uint32_t i = 0; i < examples.n; i++) {
                json_put(lit, examples.v[i]->messages.p, examples.v[i]->messages.n);
                json_put_text(lit, ",");
        }
        edit.to = lit->len;
        prompt_edit_put(prompt, edit);
}

/* ---- for templates ---- */

static void data_text(struct mustache_data *data, struct mustache_text key,
                const struct examples_text *text) {
        mustache_data_put(data, key, DATA_TEXT, (struct mustache_text){text->p, text->n});
}

void earlier_examples_data(struct mustache_data *data, struct few_shot_choice examples) {
        mustache_data_open(data, KEY("examples"), DATA_LIST);
        for (uint32_t i = 0; i < examples.n; i++) {
                mustache_data_open(data, NO_KEY, DATA_MAP);
                data_text(data, KEY("user"), &examples.v[i]->user);
                data_text(data, KEY("assistant"), &examples.v[i]->assistant);
                mustache_data_close(data);
        }
        mustache_data_close(data);
}

/* Texts of a JSON string, or of the parts of a message, a line for each. */
static uint32_t decode(struct json_text value, char *to, uint32_t cap) {
        struct json_walk walk = json_walk_in(json_inside(value));
        struct json_text part, text;
        uint32_t n = 0, got;

        if (value.n && value.p[0] == '"')
                return json_unescape(value.p, value.n, to, cap, &got) == 0 ? got : 0;
        if (!value.n || value.p[0] != '[')
                return 0;
        while (json_walk_element(&walk, &part) == 0) {
                if (part.p[0] != '{' || !json_find(json_inside(part), "text", &text) ||
                                json_unescape(text.p, text.n, to + n, cap - n, &got) != 0)
                        continue;
                n += got;
                if (n < cap)
                        to[n++] = '\n';
        }
        return n && to[n - 1] == '\n' ? n - 1 : n;
}

static void data_member(struct mustache_data *data, struct mustache_text key,
                struct json_text message, const char *name) {
        struct json_text value = {"", 0};
        char *to = malloc(message.n + 1u);
        uint32_t n = 0;

        if (to && json_find(json_inside(message), name, &value))
                n = decode(value, to, message.n);
        mustache_data_put(data, key, DATA_TEXT, n ? mustache_data_copy(data, to, n) : NO_KEY);
        free(to);
}

static void data_messages(struct mustache_data *data, struct mr_view messages) {
        struct json_walk walk = {.p = messages.p, .n = messages.n};
        struct json_text message;

        while (json_walk_element(&walk, &message) == 0) {
                mustache_data_open(data, NO_KEY, DATA_MAP);
                data_member(data, KEY("role"), message, "role");
                data_member(data, KEY("content"), message, "content");
                mustache_data_close(data);
        }
}

void earlier_data(struct mustache_data *data, struct history_slice history) {
        mustache_data_open(data, KEY("history"), DATA_LIST);
        for (uint32_t i = 0; i < history.n; i++) {
                data_messages(data, history.v[i].asked);
                data_messages(data, history.v[i].answer);
        }
        mustache_data_close(data);
}
