/*
 * openai_whole_put: the folded records as OpenAI's "chat.completion" or "text_completion".
 */
#include <string.h>

#include "stages/gateway/openai_fold.h"

#define CHOICE_FIXED 256u /* names and brackets of a choice */

/* ---- chains ---- */

static void put_raw(struct json_buf *b, const struct openai_whole *w, struct whole_chain chain) {
        for (uint32_t at = chain.first; at; at = w->pieces[at - 1].next)
                json_put(b, w->bytes + w->pieces[at - 1].off, w->pieces[at - 1].len);
}

static void put_string(struct json_buf *b, const struct openai_whole *w, struct whole_chain chain) {
        json_put(b, "\"", 1);
        for (uint32_t at = chain.first; at; at = w->pieces[at - 1].next) {
                const struct whole_piece *piece = &w->pieces[at - 1];

                json_put_mended(b, w->bytes + piece->off, piece->len);
        }
        json_put(b, "\"", 1);
}

static bool key_is(const struct openai_whole *w, const struct whole_member *m, const char *name) {
        const struct whole_piece *p = &w->pieces[m->key.first - 1];

        return json_key_is((struct json_text){w->bytes + p->off, p->len}, name);
}

/* ---- members ---- */

static void put_member_value(
                struct json_buf *b, const struct openai_whole *w, const struct whole_member *m);

/* `but`: a member that is left out, NULL: none. */
static void put_members(
                struct json_buf *b, const struct openai_whole *w, uint32_t list, const char *but) {
        for (uint32_t at = list; at; at = w->members[at - 1].next) {
                const struct whole_member *m = &w->members[at - 1];

                if (but && key_is(w, m, but))
                        continue;
                if (b->len > 0 && b->at[b->len - 1] != '{')
                        json_put(b, ",", 1);
                put_raw(b, w, m->key);
                json_put(b, ":", 1);
                put_member_value(b, w, m);
        }
}

static void put_member_value(
                struct json_buf *b, const struct openai_whole *w, const struct whole_member *m) {
        static const char open[] = {[FOLD_ARRAY] = '[', [FOLD_STRING] = '"', [FOLD_OBJECT] = '{'};
        static const char shut[] = {[FOLD_ARRAY] = ']', [FOLD_STRING] = '"', [FOLD_OBJECT] = '}'};

        if (m->fold != FOLD_LAST)
                json_put(b, &open[m->fold], 1);
        if (m->fold == FOLD_OBJECT)
                put_members(b, w, m->below, NULL);
        else
                put_raw(b, w, m->value);
        if (m->fold != FOLD_LAST)
                json_put(b, &shut[m->fold], 1);
}

static bool has_member(const struct openai_whole *w, uint32_t list, const char *name) {
        for (uint32_t at = list; at; at = w->members[at - 1].next)
                if (key_is(w, &w->members[at - 1], name))
                        return true;
        return false;
}

/* ---- choices ---- */

static void put_function(
                struct json_buf *b, const struct openai_whole *w, const struct whole_tool *tool) {
        json_put_text(b, ",\"type\":\"function\",\"function\":{\"name\":");
        put_string(b, w, tool->name);
        json_put_text(b, ",\"arguments\":");
        put_string(b, w, tool->arguments);
        put_members(b, w, tool->function_members, NULL);
        json_put(b, "}", 1);
}

static void put_tools(struct json_buf *b, const struct openai_whole *w, uint32_t list) {
        json_put_text(b, ",\"tool_calls\":[");
        for (uint32_t at = list; at; at = w->tools[at - 1].next) {
                const struct whole_tool *tool = &w->tools[at - 1];

                json_put_text(b, at == list ? "{\"id\":" : ",{\"id\":");
                put_string(b, w, tool->id);
                if (tool->function)
                        put_function(b, w, tool);
                put_members(b, w, tool->members, NULL);
                json_put(b, "}", 1);
        }
        json_put(b, "]", 1);
}

/* What only calls tools, refuses or speaks has no content. */
static bool says_else(const struct openai_whole *w, const struct whole_choice *c) {
        for (uint32_t at = c->message_members; at; at = w->members[at - 1].next) {
                const struct whole_member *m = &w->members[at - 1];

                if (m->fold == FOLD_OBJECT && (key_is(w, m, "function_call") || key_is(w, m, "audio")))
                        return true;
        }
        return c->tools || c->has_refusal;
}

static void put_message(
                struct json_buf *b, const struct openai_whole *w, const struct whole_choice *c) {
        json_put_text(b, ",\"message\":{\"role\":\"assistant\",\"content\":");
        if (c->has_content || !says_else(w, c))
                put_string(b, w, c->content);
        else
                json_put_text(b, "null");
        json_put_text(b, ",\"refusal\":");
        if (c->has_refusal)
                put_string(b, w, c->refusal);
        else
                json_put_text(b, "null");
        if (c->has_reasoning) {
                json_put_text(b, ",\"reasoning_content\":");
                put_string(b, w, c->reasoning);
        }
        if (c->tools)
                put_tools(b, w, c->tools);
        put_members(b, w, c->message_members, NULL);
        json_put(b, "}", 1);
}

static void put_completion(
                struct json_buf *b, const struct openai_whole *w, const struct whole_choice *c) {
        json_put_text(b, ",\"text\":");
        put_string(b, w, c->content);
        if (c->has_reasoning) {
                json_put_text(b, ",\"reasoning_content\":");
                put_string(b, w, c->reasoning);
        }
}

static void put_finish_reason(struct json_buf *b, const struct openai_whole *w,
                const struct whole_choice *c, bool first, const struct record *done) {
        json_put_text(b, ",\"finish_reason\":");
        if (!first && c->finish_reason.first) {
                put_raw(b, w, c->finish_reason);
                return;
        }
        json_put(b, "\"", 1);
        json_put_mended(b, openai_finish_reason(done).p, openai_finish_reason(done).n);
        json_put(b, "\"", 1);
}

static void put_choice(struct json_buf *b, const struct openai_whole *w, uint32_t index,
                const struct openai_answer *answer, const struct record *done) {
        const struct whole_choice *c = &w->choices[index];

        json_put_text(b, index == 0 ? "{\"index\":" : ",{\"index\":");
        json_put_u64(b, index);
        if (answer->kind == OPENAI_CHAT)
                put_message(b, w, c);
        else
                put_completion(b, w, c);
        if (!has_member(w, c->members, "logprobs"))
                json_put_text(b, ",\"logprobs\":null");
        put_members(b, w, c->members, NULL);
        put_finish_reason(b, w, c, index == 0, done);
        json_put(b, "}", 1);
}

/* ---- the answer ---- */

uint64_t openai_whole_bound(const struct openai_whole *w, const struct openai_answer *answer,
                const struct record *done) {
        uint64_t bytes = w->n_bytes + w->more + openai_done_bound(answer, done);

        for (uint32_t i = 0; i < w->n_choices; i++)
                if (w->choices[i].here || i == 0)
                        bytes += CHOICE_FIXED + openai_text_piece_bound(openai_finish_reason(done));
        return bytes;
}

void openai_whole_put(struct json_buf *b, const struct openai_whole *w,
                const struct openai_answer *answer, const struct record *done) {
        openai_put_head(b, answer,
                        answer->kind == OPENAI_CHAT ? "chat.completion" : "text_completion");
        json_put_text(b, ",\"choices\":[");
        for (uint32_t i = 0; i < w->n_choices; i++)
                if (w->choices[i].here || i == 0)
                        put_choice(b, w, i, answer, done);
        json_put_text(b, "],");
        openai_put_usage(b, done);
        openai_put_sources(b, done);
        put_members(b, w, w->top, openai_has_sources(done) ? "sources" : NULL);
        json_put(b, "}", 1);
}
