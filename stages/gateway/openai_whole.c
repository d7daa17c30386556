#include "stages/gateway/openai_whole.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/openai_extra.h"
#include "stages/gateway/openai_fold.h"

#define BYTES_FIRST 1024u
#define TABLE_FIRST 16u
#define TOOL_MORE 128u /* names and brackets of a tool call */
#define MEMBER_MORE 8u /* brackets, colon and comma of a member */

/* ---- memory ---- */

/* Room for `more` elements behind n; capacities double. */
static int room(void *table, uint32_t *cap, uint32_t n, uint64_t more, size_t size) {
        uint64_t to = *cap ? *cap : TABLE_FIRST;
        void *old, *bigger;

        if (n + more <= *cap)
                return 0;
        while (to < n + more)
                to *= 2;
        if (to > UINT32_MAX)
                return -ENOMEM;
        memcpy(&old, table, sizeof(old));
        bigger = realloc(old, to * size);
        if (!bigger)
                return -ENOMEM;
        memcpy(table, &bigger, sizeof(bigger));
        *cap = (uint32_t)to;
        return 0;
}

/* So many choices have a place. */
static int choices_reach(struct openai_whole *w, uint32_t n) {
        if (n <= w->n_choices)
                return 0;
        if (room(&w->choices, &w->choices_cap, w->n_choices, n - w->n_choices, sizeof(*w->choices)))
                return -ENOMEM;
        memset(w->choices + w->n_choices, 0, (n - w->n_choices) * sizeof(*w->choices));
        w->n_choices = n;
        return 0;
}

int openai_whole_new(struct openai_whole **ret, uint64_t hint, uint64_t max_bytes) {
        uint64_t first = hint < max_bytes ? hint : max_bytes;
        struct openai_whole *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        w->max_bytes = max_bytes < UINT32_MAX ? max_bytes : UINT32_MAX;
        if (choices_reach(w, 1) ||
                        room(&w->bytes, &w->bytes_cap, 0, first > BYTES_FIRST ? first : BYTES_FIRST,
                                        1)) {
                openai_whole_free(w);
                return -ENOMEM;
        }
        *ret = w;
        return 0;
}

struct openai_whole *openai_whole_free(struct openai_whole *w) {
        if (!w)
                return NULL;
        free(w->bytes);
        free(w->pieces);
        free(w->members);
        free(w->tools);
        free(w->choices);
        free(w);
        return NULL;
}

/* ---- chains ---- */

static int append(struct openai_whole *w, struct whole_chain *chain, const char *p, uint32_t n) {
        struct whole_piece *last = chain->last ? &w->pieces[chain->last - 1] : NULL;

        if (n == 0)
                return 0;
        if (n > w->max_bytes - w->n_bytes)
                return WHOLE_E_LARGE;
        if (room(&w->bytes, &w->bytes_cap, w->n_bytes, n, 1))
                return -ENOMEM;
        memcpy(w->bytes + w->n_bytes, p, n);
        w->n_bytes += n;
        if (last && last->off + last->len == w->n_bytes - n) {
                last->len += n;
                return 0;
        }
        if (room(&w->pieces, &w->pieces_cap, w->n_pieces, 1, sizeof(*w->pieces)))
                return -ENOMEM;
        w->pieces[w->n_pieces++] = (struct whole_piece){.off = w->n_bytes - n, .len = n};
        if (chain->last)
                w->pieces[chain->last - 1].next = w->n_pieces;
        else
                chain->first = w->n_pieces;
        chain->last = w->n_pieces;
        return 0;
}

/* Text that is escaped when it is written. */
static int append_text(struct openai_whole *w, struct whole_chain *chain, struct mr_view text) {
        w->more += openai_text_piece_bound(text) - text.n;
        return append(w, chain, text.p, text.n);
}

/* One value in the place of what was there; where it fits, in its memory. */
static int replace(struct openai_whole *w, struct whole_chain *chain, struct json_text value) {
        struct whole_piece *first = chain->first ? &w->pieces[chain->first - 1] : NULL;

        if (first && value.n <= first->len) {
                memcpy(w->bytes + first->off, value.p, value.n);
                first->len = value.n;
                first->next = 0;
                chain->last = chain->first;
                return 0;
        }
        *chain = (struct whole_chain){0};
        return append(w, chain, value.p, value.n);
}

/* ---- members that nobody knows ---- */

enum scope {
        SCOPE_TOP,
        SCOPE_CHOICE,
        SCOPE_DELTA,
        SCOPE_TOOL,
        SCOPE_CHOICE_BELOW,
        SCOPE_DELTA_BELOW
};

static bool chain_is(
                const struct openai_whole *w, struct whole_chain chain, struct json_text text) {
        const struct whole_piece *p = &w->pieces[chain.first - 1];

        return p->len == text.n && memcmp(w->bytes + p->off, text.p, text.n) == 0;
}

/* Place + 1 of the member with that key, made when it is not there; 0 and *ret_error otherwise. */
static uint32_t member_get(
                struct openai_whole *w, uint32_t *list, struct json_text key, int *ret_error) {
        struct whole_member made = {.fold = FOLD_LAST};
        uint32_t at = *list, last = 0;

        for (; at; last = at, at = w->members[at - 1].next)
                if (chain_is(w, w->members[at - 1].key, key))
                        return at;
        if (w->n_members == WHOLE_MEMBERS_MAX)
                *ret_error = WHOLE_E_LARGE;
        else
                *ret_error = append(w, &made.key, key.p, key.n);
        if (*ret_error == 0)
                *ret_error = room(&w->members, &w->members_cap, w->n_members, 1,
                                sizeof(*w->members));
        if (*ret_error)
                return 0;
        w->members[w->n_members++] = made;
        w->more += MEMBER_MORE;
        if (last)
                w->members[last - 1].next = w->n_members;
        else
                *list = w->n_members;
        return w->n_members;
}

static enum whole_fold fold_of(enum scope scope, char first) {
        if (scope == SCOPE_TOP)
                return FOLD_LAST;
        if (first == '[')
                return FOLD_ARRAY;
        if (first == '{' && (scope == SCOPE_CHOICE || scope == SCOPE_DELTA || scope == SCOPE_TOOL))
                return FOLD_OBJECT;
        return first == '"' && scope == SCOPE_DELTA_BELOW ? FOLD_STRING : FOLD_LAST;
}

static bool is_blank(struct json_text text) {
        for (uint32_t i = 0; i < text.n; i++)
                if (!strchr(" \t\n\r", text.p[i]) || !text.p[i])
                        return false;
        return true;
}

static int join_array(struct openai_whole *w, struct whole_chain *chain, struct json_text value) {
        struct json_text inside = json_inside(value);
        int r = 0;

        if (is_blank(inside))
                return 0;
        if (chain->first)
                r = append(w, chain, ",", 1);
        return r ? r : append(w, chain, inside.p, inside.n);
}

static int fold_members(struct openai_whole *w, uint32_t *list, struct json_text inside,
                enum scope scope);

static int fold_object(
                struct openai_whole *w, uint32_t at, struct json_text value, enum scope scope) {
        uint32_t below = w->members[at - 1].below;
        int r = fold_members(w, &below, json_inside(value),
                        scope == SCOPE_CHOICE ? SCOPE_CHOICE_BELOW : SCOPE_DELTA_BELOW);

        w->members[at - 1].below = below;
        return r;
}

static int fold_value(
                struct openai_whole *w, uint32_t at, struct json_text value, enum scope scope) {
        enum whole_fold fold = fold_of(scope, value.p[0]);
        struct whole_member *m = &w->members[at - 1];
        bool begun = m->value.first || m->fold != FOLD_LAST;

        if (value.p[0] == 'n' && begun)
                return 0; /* null is as good as absent */
        if (fold != m->fold) {
                m->value = (struct whole_chain){0};
                m->below = 0;
                m->fold = fold;
        }
        switch (fold) {
        case FOLD_LAST:
                return replace(w, &m->value, value);
        case FOLD_ARRAY:
                return join_array(w, &m->value, value);
        case FOLD_STRING:
                return append(w, &m->value, value.p + 1, value.n - 2);
        case FOLD_OBJECT:
                return fold_object(w, at, value, scope);
        }
        return -EPROTO;
}

/* Members that have places of their own. */
static bool is_ours(struct json_text key, enum scope scope) {
        if (scope == SCOPE_TOP)
                return json_key_is(key, "choices") || json_key_is(key, "usage");
        if (scope == SCOPE_TOOL)
                return json_key_is(key, "function");
        return scope == SCOPE_CHOICE && (json_key_is(key, "index") || json_key_is(key, "delta") ||
                                                        json_key_is(key, "finish_reason"));
}

static int fold_members(struct openai_whole *w, uint32_t *list, struct json_text inside,
                enum scope scope) {
        struct json_walk walk = json_walk_in(inside);
        struct json_text key, value;
        int r = 0;

        while (r == 0 && json_walk_member(&walk, &key, &value) == 0) {
                uint32_t at;

                if (is_ours(key, scope))
                        continue;
                at = member_get(w, list, key, &r);
                if (at)
                        r = fold_value(w, at, value, scope);
        }
        return r;
}

/* ---- choices ---- */

/* Stays where it is until another one is asked for. */
static int choice_get(struct openai_whole *w, uint64_t index, struct whole_choice **ret) {
        if (index >= OPENAI_CHOICES_MAX)
                return WHOLE_E_LARGE;
        if (choices_reach(w, (uint32_t)index + 1))
                return -ENOMEM;
        w->choices[index].here = true;
        *ret = &w->choices[index];
        return 0;
}

static int fold_choice(struct openai_whole *w, struct json_text inside) {
        struct json_walk walk = json_walk_in(inside);
        struct json_text key, value;
        struct whole_choice *c;
        int r = choice_get(w, openai_extra_index(inside), &c);

        if (r)
                return r;
        r = fold_members(w, &c->members, inside, SCOPE_CHOICE);
        while (r == 0 && json_walk_member(&walk, &key, &value) == 0) {
                if (json_key_is(key, "delta") && value.p[0] == '{')
                        r = fold_members(w, &c->message_members, json_inside(value), SCOPE_DELTA);
                else if (json_key_is(key, "finish_reason") && value.p[0] == '"')
                        r = replace(w, &c->finish_reason, value);
        }
        return r;
}

/* The tool call with that index, in its place among the others. */
static int tool_get(struct openai_whole *w, struct whole_choice *c, uint64_t index,
                struct whole_tool **ret) {
        uint32_t at = c->tools, before = 0;

        while (at && w->tools[at - 1].index < index) {
                before = at;
                at = w->tools[at - 1].next;
        }
        if (!at || w->tools[at - 1].index != index) {
                if (w->n_tools == WHOLE_TOOLS_MAX)
                        return WHOLE_E_LARGE;
                if (room(&w->tools, &w->tools_cap, w->n_tools, 1, sizeof(*w->tools)))
                        return -ENOMEM;
                w->tools[w->n_tools++] = (struct whole_tool){.next = at, .index = index};
                w->more += TOOL_MORE;
                at = w->n_tools;
                if (before)
                        w->tools[before - 1].next = at;
                else
                        c->tools = at;
        }
        *ret = &w->tools[at - 1];
        return 0;
}

static int fold_tool_members(
                struct openai_whole *w, struct whole_tool *to, const struct openai_tool *tool) {
        int r = fold_members(w, &to->members, tool->members, SCOPE_TOOL);

        return r ? r : fold_members(w, &to->function_members, tool->function, SCOPE_DELTA);
}

static int fold_tool(
                struct openai_whole *w, struct whole_choice *c, const struct openai_tool *tool) {
        struct whole_tool *to;
        int r = tool_get(w, c, tool->index, &to);

        if (r == 0 && !to->id.first)
                r = append_text(w, &to->id, tool->id);
        if (r == 0 && !to->name.first)
                r = append_text(w, &to->name, tool->name);
        if (r == 0) {
                to->function |= openai_tool_is_function(tool);
                r = append_text(w, &to->arguments, tool->arguments);
        }
        return r ? r : fold_tool_members(w, to, tool);
}

static int fold_text(
                struct openai_whole *w, struct whole_choice *c, const struct record *delta) {
        struct mr_view kind = delta->has & HAS(delta_kind) ? delta->delta_kind
                                                           : (struct mr_view){0};

        if (kind.n == 0) {
                c->has_content = true;
                return append_text(w, &c->content, delta->text);
        }
        if (kind.n == 7 && memcmp(kind.p, "refusal", 7) == 0) {
                c->has_refusal = true;
                return append_text(w, &c->refusal, delta->text);
        }
        c->has_reasoning = true;
        return append_text(w, &c->reasoning, delta->text);
}

static int fold_own(struct openai_whole *w, const struct record *delta) {
        struct openai_tool tool;
        struct whole_choice *c;
        int r = choice_get(w, delta->has & HAS(choice) ? delta->choice : 0, &c);

        if (r)
                return r;
        if (delta->has & HAS(text))
                r = fold_text(w, c, delta);
        if (r == 0 && openai_tool_of(delta, &tool))
                r = fold_tool(w, c, &tool);
        return r;
}

int openai_whole_add(struct openai_whole *w, const struct record *record) {
        struct openai_extra extra = openai_extra_of(record);
        struct json_walk walk = json_walk_in(extra.choices);
        struct json_text one;
        int r = 0;

        if (record->has & (HAS(text) | HAS(tool)))
                r = fold_own(w, record);
        while (r == 0 && json_walk_element(&walk, &one) == 0)
                r = fold_choice(w, json_inside(one));
        return r ? r : fold_members(w, &w->top, extra.members, SCOPE_TOP);
}
