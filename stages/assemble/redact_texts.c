#include "stages/assemble/redact_prompt_own.h"

#include <string.h>

#define NUMBER_MAX 64u /* characters of a number that is looked at */
#define NUMBER_INSTEAD 1024u

/* ---- strings in strings ---- */

/* The inside of a JSON string: as it is written, and what it says. */
struct source {
        struct source *outer; /* it lies in what that one says; NULL: in the whole */
        uint32_t base;        /* where */
        const char *raw, *text;
        uint32_t n_raw, n_text;
        uint32_t at_raw, at_text; /* the same place in both */
};

static int source_decode(struct source *s, struct redact_room *room) {
        char *to;
        uint32_t i = 0;

        s->text = s->raw;
        s->n_text = s->n_raw;
        if (!memchr(s->raw, '\\', s->n_raw))
                return 0;
        to = redact_room(room, s->n_raw, 1);
        if (!to)
                return PROMPT_E_TOO_LARGE;
        s->text = to;
        s->n_text = 0;
        while (i < s->n_raw) {
                uint32_t n, used;
                if (s->raw[i] != '\\') {
                        to[s->n_text++] = s->raw[i++];
                        continue;
                }
                if (json_unescape_one(s->raw + i + 1, s->n_raw - i - 1, to + s->n_text, &n, &used))
                        return PROMPT_E_UNREADABLE;
                s->n_text += n;
                i += 1 + used;
        }
        return 0;
}

/* Where the byte is written that says text[at]. Places are asked for in order. */
static uint32_t source_raw(struct source *s, uint32_t at) {
        char ignored[JSON_CHAR_MAX];

        if (s->text == s->raw)
                return at;
        while (s->at_text < at) {
                uint32_t n = 1, used = 0;
                if (s->raw[s->at_raw] == '\\')
                        (void)json_unescape_one(s->raw + s->at_raw + 1, s->n_raw - s->at_raw - 1,
                                        ignored, &n, &used);
                s->at_raw += 1 + used;
                s->at_text += n;
        }
        return s->at_raw;
}

/* ---- edits ---- */

static void edit_add(struct redact_prompt *r, uint32_t start, uint32_t end, const char *text,
                uint32_t n) {
        struct edit *edits = redact_room(&r->edits, r->n_edits + 1u, sizeof(*edits));
        char *texts = redact_room(&r->texts, (size_t)r->n_texts + n, 1);

        if (!edits || !texts) {
                r->failed = true;
                return;
        }
        edits[r->n_edits++] = (struct edit){start, end, r->n_texts, n};
        if (n > 0)
                memcpy(texts + r->n_texts, text, n);
        r->n_texts += n;
}

/* Puts something else in the place of what s says from start to end. */
static void edit_put(struct redact_prompt *r, struct source *s, uint32_t start, uint32_t end,
                const char *text, uint32_t n) {
        struct json_buf out = {.cap = n * JSON_ESCAPE_GROWTH};

        out.at = redact_room(&r->escaped[s->outer != NULL], out.cap, 1);
        if (!out.at) {
                r->failed = true;
                return;
        }
        json_put_mended(&out, text, n);
        start = s->base + source_raw(s, start);
        end = s->base + source_raw(s, end);
        if (s->outer)
                edit_put(r, s->outer, start, end, out.at, out.len);
        else
                edit_add(r, start, end, out.at, out.len);
}

/* Did the client send the bytes of the last edit? */
static bool edit_is_clients(struct redact_prompt *r) {
        const struct edit *edit = (struct edit *)r->edits.p + r->n_edits - 1;
        const struct part *part = (struct part *)r->parts.p + r->part;

        while (part->at + part->len <= edit->start) {
                part++;
                r->part++;
        }
        for (const struct part *p = part; p->at < edit->end && p->client; p++)
                if (p->at + p->len >= edit->end)
                        return true;
        return false;
}

/* ---- finds ---- */

static void count(struct redact_prompt *r, const struct redact_piece *piece) {
        r->counts[piece->entity]++;
        if (piece->blocked && r->blocked == REDACT_PLAIN)
                r->blocked = piece->entity;
}

/* Keeps what a number stands for, once the client is known to have sent it. */
static void keep(struct redact_prompt *r, const struct redact_piece *piece) {
        uint32_t n = (uint32_t)(piece->end - piece->start), i = 0;

        if (!r->restores || !piece->number || r->failed || !edit_is_clients(r))
                return;
        while (r->numbers.v[i].entity != piece->entity || r->numbers.v[i].number != piece->number)
                i++;
        if (r->kept[i].off != REDACT_TOLD || n > REDACT_PROMPT_VALUES - r->n_values)
                return;
        memcpy(r->values + r->n_values, piece->found, n);
        r->kept[i] = (struct value){r->n_values, n};
        r->n_values += n;
}

struct finding {
        struct redact_prompt *r;
        struct source *source;
        uint64_t base; /* of the source in what the engine has been fed */
};

static void put(void *ctx, const struct redact_piece *piece) {
        struct finding *f = ctx;

        if (piece->entity == REDACT_PLAIN)
                return;
        count(f->r, piece);
        edit_put(f->r, f->source, (uint32_t)(piece->start - f->base),
                        (uint32_t)(piece->end - f->base), piece->text, piece->n);
        keep(f->r, piece);
}

static int verdict(const struct redact_prompt *r) {
        return r->failed ? PROMPT_E_TOO_LARGE : r->blocked != REDACT_PLAIN ? PROMPT_E_BLOCKED : 0;
}

/* ---- the arguments of a call ---- */

/* What is fed is context of what comes next: a key of its value. */
static int argument_string(struct redact_prompt *r, struct source *outer, struct json_text value) {
        struct source s = {.outer = outer,
                        .base = (uint32_t)(value.p - outer->text) + 1,
                        .raw = value.p + 1,
                        .n_raw = value.n - 2};
        struct finding f = {.r = r, .source = &s, .base = r->stream.at};
        const struct redact_sink sink = {put, &f, &r->numbers};
        int e = source_decode(&s, &r->decoded[1]);

        if (e)
                return e;
        redact_feed(r->engine, &r->stream, s.text, s.n_text, false, &sink);
        redact_pause(r->engine, &r->stream, &sink);
        return verdict(r);
}

struct number {
        struct redact_prompt *r;
        struct json_buf out;
        bool found;
        struct redact_piece last; /* of its finds; `found` is the number's own text */
};

static void put_number(void *ctx, const struct redact_piece *piece) {
        struct number *number = ctx;

        json_put(&number->out, piece->text, piece->n);
        if (piece->entity == REDACT_PLAIN)
                return;
        count(number->r, piece);
        number->found = true;
        number->last = *piece;
}

/* A number that is a find becomes a string. */
static int argument_number(struct redact_prompt *r, struct source *outer, struct json_text value) {
        char instead[NUMBER_INSTEAD];
        struct number number = {.r = r, .out = {.at = instead, .cap = sizeof(instead)}};
        const struct redact_sink sink = {put_number, &number, &r->numbers};
        uint32_t at = (uint32_t)(value.p - outer->text);

        if (value.n > NUMBER_MAX)
                return 0;
        json_put_text(&number.out, "\"");
        redact_feed(r->engine, &r->stream, value.p, value.n, false, &sink);
        redact_pause(r->engine, &r->stream, &sink);
        json_put_text(&number.out, "\"");
        if (!number.found)
                return 0;
        edit_put(r, outer, at, at + value.n, instead, number.out.len);
        number.last.found = value.p;
        if (number.last.end - number.last.start == value.n)
                keep(r, &number.last);
        return verdict(r);
}

static int argument(struct redact_prompt *r, struct source *outer, struct json_text value) {
        struct json_walk walk = json_walk_in(json_inside(value));
        struct json_text key;
        bool object = value.p[0] == '{';
        int e = 0;

        if (value.p[0] == '"')
                return argument_string(r, outer, value);
        if (value.p[0] == '-' || (value.p[0] >= '0' && value.p[0] <= '9'))
                return argument_number(r, outer, value);
        while (e == 0) {
                struct json_text inner;
                e = object ? json_walk_member(&walk, &key, &inner)
                           : json_walk_element(&walk, &inner);
                if (e)
                        return e == WALK_E_END ? 0 : PROMPT_E_UNREADABLE;
                if (object)
                        e = argument_string(r, outer, key);
                if (e == 0)
                        e = argument(r, outer, inner);
        }
        return e;
}

/* Is it one value of JSON, and nothing else? */
static bool is_json(const struct source *s, struct json_text *ret) {
        struct json_walk walk = {.p = s->text, .n = s->n_text};
        struct json_text more;

        return json_walk_element(&walk, ret) == 0 &&
               json_walk_element(&walk, &more) == WALK_E_END;
}

/* ---- texts ---- */

int redact_text(void *ctx, struct json_text value, enum prompt_text kind) {
        struct redact_prompt *r = ctx;
        struct source s = {.base = (uint32_t)(value.p - (char *)r->whole.p) + 1,
                        .raw = value.p + 1,
                        .n_raw = value.n - 2};
        struct finding f = {.r = r, .source = &s};
        struct json_text json;
        int e = source_decode(&s, &r->decoded[0]);

        if (e)
                return e;
        r->stream.at = 0;
        r->stream.n_past = r->stream.n_held = 0;
        r->stream.closed = 0;
        if (kind == PROMPT_TEXT_JSON && is_json(&s, &json))
                return argument(r, &s, json);
        redact_feed(r->engine, &r->stream, s.text, s.n_text, true,
                        &(struct redact_sink){put, &f, &r->numbers});
        return verdict(r);
}
