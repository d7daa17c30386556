#include "stages/assemble/redact_prompt_own.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/pack.h"

int redact_prompt_new(const struct settings *settings, struct redact_prompt **ret,
                struct redact_why *why) {
        struct redact_config config = REDACT_CONFIG(&settings->post.redact);
        bool restores = settings->post.redact.restore;
        struct redact_prompt *r;
        int e;

        if ((!settings->post.redact.input && !restores) || (!config.n_entities && !config.rules))
                return 0;
        config.numbered |= restores;
        r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->restores = restores;
        e = redact_load(&config, &r->engine, why);
        if (e) {
                redact_prompt_free(r);
                return e == REDACT_E_RULES ? -EINVAL : e;
        }
        *ret = r;
        return 0;
}

struct redact_prompt *redact_prompt_free(struct redact_prompt *r) {
        if (!r)
                return NULL;
        redact_free(r->engine);
        for (unsigned i = 0; i < 2; i++) {
                free(r->decoded[i].p);
                free(r->escaped[i].p);
        }
        free(r->whole.p);
        free(r->parts.p);
        free(r->edits.p);
        free(r->texts.p);
        free(r->items.p);
        free(r->spans.p);
        free(r);
        return NULL;
}

void *redact_room(struct redact_room *room, size_t n, size_t size) {
        size_t cap = room->cap ? room->cap : 4096;
        void *more;

        while (cap < n * size)
                cap *= 2;
        if (cap == room->cap)
                return room->p;
        more = realloc(room->p, cap);
        if (!more)
                return NULL;
        room->p = more;
        room->cap = cap;
        return more;
}

/* ---- the whole ---- */

/* What an edit of the prompt inserted came from the client, or did not. */
static bool is_clients(const struct prompt *prompt, const char *literal) {
        uint32_t at = (uint32_t)(literal - prompt->literal);

        for (uint32_t i = 0; i < prompt->n_edits; i++)
                if (at >= prompt->edits[i].from && at < prompt->edits[i].to)
                        return prompt->edits[i].client;
        return false;
}

static int gather_piece(struct redact_prompt *r, const struct prompt *prompt,
                const msgpack_object *piece, const struct record *record,
                const struct arena_view *arena) {
        struct part *parts = redact_room(&r->parts, r->n_parts + 1u, sizeof(*parts));
        bool literal = piece->type == MSGPACK_OBJECT_BIN;
        struct part part = {.at = r->n_whole, .client = true};
        char *whole;

        if (literal) {
                part.literal = piece->via.bin.ptr;
                part.len = piece->via.bin.size;
                part.client = is_clients(prompt, part.literal);
        } else {
                part.off = (uint32_t)piece->via.array.ptr[0].via.u64;
                part.len = (uint32_t)piece->via.array.ptr[1].via.u64;
        }
        whole = redact_room(&r->whole, (size_t)r->n_whole + part.len, 1);
        if (!parts || !whole)
                return PROMPT_E_TOO_LARGE;
        parts[r->n_parts++] = part;
        r->n_whole += part.len;
        if (!literal)
                return prompt_body_copy(record, arena, part.off, part.len, whole + part.at);
        memcpy(whole + part.at, part.literal, part.len);
        return 0;
}

/* ---- pieces again ---- */

struct cutting {
        const struct redact_prompt *r;
        msgpack_object *items, (*spans)[3];
        uint32_t n;
};

static msgpack_object bin_of(const char *p, uint32_t n) {
        return (msgpack_object){.type = MSGPACK_OBJECT_BIN, .via.bin = {n, p}};
}

/* Bytes of the body; instead: what stands in their place, NULL: they do. */
static void put_body(struct cutting *c, uint32_t off, uint32_t len, const msgpack_object *instead) {
        msgpack_object *span = c->spans[c->n];

        span[0] = (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = off};
        span[1] = (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = len};
        if (instead)
                span[2] = *instead;
        c->items[c->n++] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY,
                        .via.array = {instead ? 3 : 2, span}};
}

static void put_same(struct cutting *c, const struct part *part, uint32_t from, uint32_t to) {
        if (part->literal)
                c->items[c->n++] = bin_of(part->literal + (from - part->at), to - from);
        else
                put_body(c, part->off + (from - part->at), to - from, NULL);
}

/* The edit begins in this part; what of it lies in the next ones is left out there. */
static void put_edit(struct cutting *c, const struct part *part, const struct edit *edit) {
        msgpack_object text = bin_of((char *)c->r->texts.p + edit->text, edit->n_text);

        if (!part->literal && edit->end <= part->at + part->len)
                put_body(c, part->off + (edit->start - part->at), edit->end - edit->start, &text);
        else if (edit->n_text)
                c->items[c->n++] = text;
}

static void cut_part(struct cutting *c, const struct part *part, const struct edit **next,
                const struct edit *last) {
        uint32_t at = part->at, end = part->at + part->len;

        while (at < end) {
                const struct edit *edit = *next;
                if (edit == last || edit->start >= end) {
                        put_same(c, part, at, end);
                        return;
                }
                if (edit->start > at)
                        put_same(c, part, at, edit->start);
                if (edit->start >= part->at)
                        put_edit(c, part, edit);
                at = edit->end < end ? edit->end : end;
                if (edit->end <= end)
                        ++*next;
        }
}

static int cut(struct redact_prompt *r, struct prompt *prompt) {
        size_t most = 2u * ((size_t)r->n_parts + r->n_edits);
        const struct part *parts = r->parts.p;
        const struct edit *next = r->edits.p, *last = next + r->n_edits;
        struct cutting c = {.r = r};

        c.items = redact_room(&r->items, most, sizeof(*c.items));
        c.spans = redact_room(&r->spans, most, sizeof(*c.spans));
        if (!c.items || !c.spans)
                return PROMPT_E_TOO_LARGE;
        for (uint32_t i = 0; i < r->n_parts; i++)
                cut_part(&c, &parts[i], &next, last);
        prompt->pieces.via.array.ptr = c.items;
        prompt->pieces.via.array.size = c.n;
        return 0;
}

/* ---- the note ---- */

static struct mr_view name_of(const struct redact_prompt *r, uint32_t entity) {
        const char *name = redact_name(r->engine, entity);

        return (struct mr_view){name, (uint32_t)strlen(name)};
}

static void note_counts(const struct redact_prompt *r, struct pack_buf *w) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                n += r->counts[i] > 0;
        pack_map(w, n);
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++) {
                if (!r->counts[i])
                        continue;
                pack_str(w, name_of(r, i));
                pack_uint(w, r->counts[i]);
        }
}

static struct mr_view note_make(struct redact_prompt *r) {
        struct pack_buf w;

        pack_buf_init(&w, r->note, sizeof(r->note));
        msgpack_pack_array(&w.pk, 2);
        note_counts(r, &w);
        msgpack_pack_array(&w.pk, r->numbers.n);
        for (uint32_t i = 0; i < r->numbers.n; i++) {
                const struct value *value = &r->kept[i];
                msgpack_pack_array(&w.pk, 4);
                pack_str(&w, name_of(r, r->numbers.v[i].entity));
                pack_uint(&w, r->numbers.v[i].number);
                pack_uint(&w, r->numbers.v[i].hash);
                if (value->off == REDACT_TOLD)
                        msgpack_pack_nil(&w.pk);
                else
                        pack_str(&w, (struct mr_view){r->values + value->off, value->n});
        }
        return (struct mr_view){(const char *)r->note, w.full ? 0 : w.len};
}

/* ---- one prompt ---- */

static void begin(struct redact_prompt *r) {
        r->n_whole = r->n_parts = r->n_edits = r->n_texts = r->part = r->n_values = 0;
        r->numbers.n = 0;
        r->blocked = REDACT_PLAIN;
        r->failed = false;
        memset(r->counts, 0, sizeof(r->counts));
        for (uint32_t i = 0; i < REDACT_NUMBERS; i++)
                r->kept[i].off = REDACT_TOLD;
}

int redact_prompt(struct redact_prompt *r, struct prompt *prompt, const struct record *record,
                const struct arena_view *arena, struct mr_view *ret_note) {
        uint64_t endpoint = record->has & HAS(endpoint) ? record->endpoint : ENDPOINT_CHAT;
        int e = 0;

        begin(r);
        for (uint32_t i = 0; e == 0 && i < prompt->pieces.via.array.size; i++)
                e = gather_piece(r, prompt, &prompt->pieces.via.array.ptr[i], record, arena);
        if (e == 0)
                e = prompt_texts((struct json_text){r->whole.p, r->n_whole},
                                (enum record_endpoint)endpoint, redact_text, r);
        if (e == PROMPT_E_BLOCKED)
                snprintf(prompt->message, sizeof(prompt->message),
                                "the prompt holds what may not be sent: %s",
                                redact_name(r->engine, r->blocked));
        if (e)
                return e < 0 ? PROMPT_E_UNREADABLE : e;
        *ret_note = (struct mr_view){NULL, 0};
        if (r->n_edits == 0)
                return 0;
        *ret_note = note_make(r);
        prompt->exact = false; /* the estimate is of what the client wrote */
        return cut(r, prompt);
}

void redact_prompt_tell(const struct redact_prompt *r, struct counters_shm *counters) {
        for (uint32_t i = 0; i < REDACT_ENTITIES_MAX; i++)
                if (r->counts[i])
                        counters_redacted(counters, redact_builtin(i) ? i : UINT32_MAX,
                                        r->counts[i]);
}
