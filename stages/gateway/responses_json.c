#include "stages/gateway/responses_json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/responses_fold.h"

#define TABLE_FIRST 8u
#define TEXT_FIRST 256u
#define TEXT_MAX (1u << 30)

static bool is_text(struct mr_view v, const char *text) {
        return v.n == strlen(text) && memcmp(v.p, text, v.n) == 0;
}

/* ---- memory ---- */

/* Room for one more element of `size` bytes behind n. */
static int room(void *table, uint32_t *cap, uint32_t n, size_t size) {
        uint32_t to = *cap ? *cap * 2 : TABLE_FIRST;
        void *old, *bigger;

        if (n < *cap)
                return 0;
        memcpy(&old, table, sizeof(old));
        bigger = realloc(old, to * size);
        if (!bigger)
                return -ENOMEM;
        memcpy(table, &bigger, sizeof(bigger));
        *cap = to;
        return 0;
}

static int take(struct responses *r, uint64_t bytes) {
        if (bytes > r->max_bytes - r->n_bytes)
                return RESPONSES_E_LARGE;
        r->n_bytes += bytes;
        return 0;
}

static int text_add(struct responses *r, struct responses_text *to, struct mr_view text) {
        uint64_t need = (uint64_t)to->n + text.n, cap = to->cap ? to->cap : TEXT_FIRST;
        int e = need > TEXT_MAX ? RESPONSES_E_LARGE : take(r, text.n);
        char *bigger;

        if (e || text.n == 0)
                return e;
        while (cap < need)
                cap *= 2;
        if (cap > to->cap) {
                bigger = realloc(to->at, cap);
                if (!bigger)
                        return -ENOMEM;
                to->at = bigger;
                to->cap = (uint32_t)cap;
        }
        memcpy(to->at + to->n, text.p, text.n);
        to->n += text.n;
        to->bound += openai_text_piece_bound(text);
        return 0;
}

int responses_new(struct responses **ret, uint64_t max_bytes) {
        struct responses *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->max_bytes = max_bytes;
        *ret = r;
        return 0;
}

struct responses *responses_free(struct responses *r) {
        if (!r)
                return NULL;
        for (uint32_t i = 0; i < r->n_parts; i++)
                free(r->parts[i].text.at);
        for (uint32_t i = 0; i < r->n_items; i++) {
                free(r->items[i].call_id.at);
                free(r->items[i].name.at);
        }
        free(r->parts);
        free(r->items);
        free(r->due);
        free(r);
        return NULL;
}

/* ---- events ---- */

static int due(struct responses *r, enum responses_event_type type, uint32_t item, uint32_t part) {
        if (room(&r->due, &r->due_cap, r->n_due, sizeof(*r->due)) < 0)
                return -ENOMEM;
        r->due[r->n_due++] = (struct responses_event_due){.type = type, .item = item, .part = part};
        return 0;
}

bool responses_due(const struct responses *r) {
        return r->written < r->n_due;
}

uint64_t responses_number(const struct responses *r) {
        return r->number;
}

void responses_pass(struct responses *r) {
        r->written++;
        r->number++;
}

int responses_begin(struct responses *r) {
        int e = 0;

        if (r->begun)
                return 0;
        r->begun = true;
        e = due(r, EVENT_CREATED, 0, 0);
        return e ? e : due(r, EVENT_IN_PROGRESS, 0, 0);
}

/* ---- items ---- */

static int part_begin(struct responses *r, enum responses_part_kind kind) {
        struct responses_item *item = &r->items[r->n_items - 1];
        int e = take(r, RESPONSES_ITEM_BYTES);

        if (e == 0)
                e = room(&r->parts, &r->parts_cap, r->n_parts, sizeof(*r->parts));
        if (e)
                return e;
        r->parts[r->n_parts++] = (struct responses_part){.kind = kind, .index = item->n++};
        if (kind == PART_ARGUMENTS)
                return 0;
        return due(r, EVENT_PART_ADDED, r->n_items - 1, r->n_parts - 1);
}

/* What the texts of a part came to. */
static int part_end(struct responses *r, uint32_t at) {
        const struct responses_item *item = &r->items[at];
        uint32_t part = item->first + item->n - 1;
        int e = due(r, EVENT_TEXT_DONE, at, part);

        return e || item->kind == ITEM_CALL ? e : due(r, EVENT_PART_DONE, at, part);
}

static int item_end(struct responses *r, uint32_t at, enum responses_item_state state) {
        int e = part_end(r, at);

        r->items[at].state = state;
        if (r->open == at + 1)
                r->open = 0;
        return e ? e : due(r, EVENT_ITEM_DONE, at, 0);
}

static int item_begin(struct responses *r, enum responses_item_kind kind,
                enum responses_part_kind part, const struct openai_tool *tool) {
        struct responses_item item = {.kind = kind, .first = r->n_parts};
        int e = r->open ? item_end(r, r->open - 1, ITEM_COMPLETED) : 0;

        if (e == 0)
                e = room(&r->items, &r->items_cap, r->n_items, sizeof(*r->items));
        if (e)
                return e;
        r->items[r->n_items++] = item;
        if (tool) {
                struct responses_item *made = &r->items[r->n_items - 1];

                made->tool = tool->index;
                e = text_add(r, &made->call_id, tool->id);
                if (e == 0)
                        e = text_add(r, &made->name, tool->name);
        } else {
                r->open = r->n_items;
        }
        if (e == 0)
                e = due(r, EVENT_ITEM_ADDED, r->n_items - 1, 0);
        return e ? e : part_begin(r, part);
}

static int delta_due(struct responses *r, uint32_t at, uint32_t part, struct mr_view text) {
        int e = text.n > 0 ? due(r, EVENT_DELTA, at, part) : 0;

        if (e == 0 && text.n > 0)
                r->due[r->n_due - 1].text = text;
        return e;
}

/* What was joined of several is said as it was before. */
static int delta_add(
                struct responses *r, uint32_t at, struct mr_view text, struct mr_view cuts) {
        uint32_t part = r->items[at].first + r->items[at].n - 1;
        int e = text_add(r, &r->parts[part].text, text);

        while (e == 0 && cuts.n > 0) {
                uint32_t n = record_cut_take(&cuts);
                struct mr_view piece = {text.p, n < text.n ? n : text.n};

                e = delta_due(r, at, part, piece);
                text.p += piece.n;
                text.n -= piece.n;
        }
        return e ? e : delta_due(r, at, part, text);
}

static int add_text(struct responses *r, const struct record *delta) {
        struct mr_view kind = delta->has & HAS(delta_kind) ? delta->delta_kind
                                                           : (struct mr_view){0};
        enum responses_part_kind part = kind.n == 0                  ? PART_TEXT
                                        : is_text(kind, "refusal") ? PART_REFUSAL
                                                                   : PART_REASONING;
        enum responses_item_kind want = part == PART_REASONING ? ITEM_REASONING : ITEM_MESSAGE;
        static const struct mr_view none;
        uint32_t at = r->open - 1;
        int e = 0;

        if (delta->text.n == 0)
                return 0;
        if (!r->open || r->items[at].kind != want) {
                e = item_begin(r, want, part, NULL);
                at = r->n_items - 1;
        } else if (r->parts[r->items[at].first + r->items[at].n - 1].kind != part) {
                e = part_end(r, at);
                if (e == 0)
                        e = part_begin(r, part);
        }
        return e ? e : delta_add(r, at, delta->text, delta->has & HAS(cuts) ? delta->cuts : none);
}

static int add_tool(struct responses *r, const struct openai_tool *tool) {
        uint32_t at = r->n_items;
        int e = 0;

        while (at > 0 && (r->items[at - 1].kind != ITEM_CALL || r->items[at - 1].tool != tool->index))
                at--;
        if (at == 0) {
                e = item_begin(r, ITEM_CALL, PART_ARGUMENTS, tool);
                at = r->n_items;
        } else if (r->items[at - 1].name.n == 0) {
                e = text_add(r, &r->items[at - 1].name, tool->name);
        }
        return e ? e : delta_add(r, at - 1, tool->arguments, (struct mr_view){0});
}

/* ---- records ---- */

const char *responses_incomplete(const struct record *done) {
        struct mr_view reason = openai_finish_reason(done);

        if (is_text(reason, "length"))
                return "max_output_tokens";
        return is_text(reason, "content_filter") ? "content_filter" : NULL;
}

static int add_done(struct responses *r, const struct record *done) {
        enum responses_item_state state =
                        responses_incomplete(done) ? ITEM_INCOMPLETE : ITEM_COMPLETED;
        int e = 0;

        if (r->n_items == 0) /* an answer without a word is a message all the same */
                e = item_begin(r, ITEM_MESSAGE, PART_TEXT, NULL);
        for (uint32_t i = 0; e == 0 && i < r->n_items; i++)
                if (r->items[i].state == ITEM_OPEN)
                        e = item_end(r, i, state);
        return e;
}

static int add_delta(struct responses *r, const struct record *delta) {
        struct openai_tool tool;
        int e = 0;

        if (delta->has & HAS(choice) && delta->choice != 0)
                return 0;
        if (openai_tool_of(delta, &tool))
                e = add_tool(r, &tool);
        if (e == 0 && delta->has & HAS(text))
                e = add_text(r, delta);
        return e;
}

int responses_add(struct responses *r, enum record_type type, const struct record *record) {
        int e;

        r->n_due = r->written = 0;
        e = responses_begin(r);
        if (e == 0 && type == RECORD_DELTA)
                return add_delta(r, record);
        r->end_type = type;
        r->end = record;
        if (e == 0 && type == RECORD_DONE)
                e = add_done(r, record);
        return e ? e : due(r, EVENT_END, 0, 0);
}
