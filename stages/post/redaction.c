#include "stages/post/redaction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/pack.h"
#include "stages/post/packed.h"

static_assert((int)REDACT_AS_TYPE == (int)SETTINGS_REDACT_REPLACE &&
                                (int)REDACT_AS_MASK == (int)SETTINGS_REDACT_MASK &&
                                (int)REDACT_AS_HASH == (int)SETTINGS_REDACT_HASH &&
                                (int)REDACT_AS_NOTHING == (int)SETTINGS_REDACT_DROP &&
                                (int)REDACT_BLOCKS == (int)SETTINGS_REDACT_BLOCK,
                "the engine's actions are those of the settings");

/* ---- rules ---- */

int redaction_new(const struct settings *settings, uint32_t cap, struct redaction **ret,
                struct redact_why *why) {
        const struct redact_config config = REDACT_CONFIG(&settings->post.redact);
        struct redaction *r;
        int e;

        if (config.n_entities == 0 && !config.rules)
                return 0;
        r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->owns = true;
        r->cap = cap;
        r->out = malloc(cap);
        r->packed = malloc(sizeof(*r));
        e = r->out && r->packed ? redact_load(&config, &r->engine, why) : -ENOMEM;
        if (e) {
                redaction_free(r);
                return e == REDACT_E_RULES ? -EINVAL : e;
        }
        *ret = r;
        return 0;
}

int redaction_over(struct redact *engine, uint32_t cap, struct redaction **ret) {
        struct redaction *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->engine = engine;
        r->silent = true;
        r->cap = cap;
        r->out = malloc(cap);
        r->packed = malloc(sizeof(*r));
        if (!r->out || !r->packed) {
                redaction_free(r);
                return -ENOMEM;
        }
        *ret = r;
        return 0;
}

struct redaction *redaction_free(struct redaction *r) {
        if (!r)
                return NULL;
        if (r->owns)
                redact_free(r->engine);
        free(r->out);
        free(r->packed);
        free(r);
        return NULL;
}

/* ---- what assemble noted of the prompt ---- */

static struct mr_view text_of(const msgpack_object *o) {
        return o->type == MSGPACK_OBJECT_STR ? (struct mr_view){o->via.str.ptr, o->via.str.size}
                                             : (struct mr_view){NULL, 0};
}

/* Entities that are not looked for any more since then are passed over. */
static int note_counts(struct redaction *r, const msgpack_object *counts) {
        if (counts->type != MSGPACK_OBJECT_MAP)
                return -EPROTO;
        for (uint32_t i = 0; i < counts->via.map.size; i++) {
                const msgpack_object_kv *kv = &counts->via.map.ptr[i];
                struct mr_view name = text_of(&kv->key);
                uint32_t entity;
                if (!name.p || kv->val.type != MSGPACK_OBJECT_POSITIVE_INTEGER)
                        return -EPROTO;
                entity = redact_entity(r->engine, name.p, name.n);
                if (entity == REDACT_PLAIN || r->n_prompt_counts == REDACTION_COUNTS)
                        continue;
                r->prompt_counts[r->n_prompt_counts++] =
                                (struct redaction_count){entity, (uint32_t)kv->val.via.u64};
        }
        return 0;
}

static int note_row(struct redaction *r, const msgpack_object *row) {
        const msgpack_object *of = row->via.array.ptr;
        struct redact_numbers *numbers = &r->prompt_numbers;
        struct mr_view name, value;
        uint32_t entity;

        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size != 4)
                return -EPROTO;
        name = text_of(&of[0]);
        value = text_of(&of[3]);
        if (!name.p || of[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
                        of[2].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
                return -EPROTO;
        if (value.p && !restore_add(&r->restore, name, of[1].via.u64, value))
                return -EPROTO;
        entity = redact_entity(r->engine, name.p, name.n);
        if (entity == REDACT_PLAIN || numbers->n == REDACT_NUMBERS)
                return 0;
        numbers->v[numbers->n].entity = entity;
        numbers->v[numbers->n].number = (uint32_t)of[1].via.u64;
        numbers->v[numbers->n++].hash = of[2].via.u64;
        return 0;
}

int redaction_noted(struct redaction *r, uint64_t req_id, const msgpack_object *note) {
        const msgpack_object *rows;
        int e;

        r->noted = req_id;
        r->n_prompt_counts = r->prompt_numbers.n = r->restore.n = 0;
        if (!note)
                return 0;
        if (note->type != MSGPACK_OBJECT_ARRAY || note->via.array.size != 2 ||
                        note->via.array.ptr[1].type != MSGPACK_OBJECT_ARRAY)
                return -EPROTO;
        e = note_counts(r, &note->via.array.ptr[0]);
        rows = &note->via.array.ptr[1];
        for (uint32_t i = 0; e == 0 && i < rows->via.array.size; i++)
                e = note_row(r, &rows->via.array.ptr[i]);
        return e;
}

/* ---- what a slab version has of a request ---- */

struct packed_head {
        uint32_t n_streams, n_counts, n_numbers;
};

struct packed_stream {
        uint64_t at;
        uint16_t choice, n_past, n_held;
        uint8_t kind, closed, n_token;
};

static void take_stream(struct packed *from, struct redaction_stream *to) {
        struct packed_stream head = {0};

        packed_take(from, &head, sizeof(head));
        if (head.n_past > REDACT_PAST || head.n_held > REDACT_HELD ||
                        head.n_token >= RESTORE_NAME_MAX) {
                from->broken = true;
                return;
        }
        memset(&to->json, 0, sizeof(to->json));
        to->choice = head.choice;
        to->kind = head.kind;
        to->text.at = head.at;
        to->text.n_past = head.n_past;
        to->text.n_held = head.n_held;
        to->text.closed = head.closed;
        to->token.n = head.n_token;
        packed_take(from, to->text.bytes, (uint32_t)head.n_past + head.n_held);
        packed_take(from, to->token.bytes, head.n_token);
        if (head.kind & REDACTION_JSON)
                packed_take(from, &to->json, sizeof(to->json));
        from->broken |= to->json.n_escape > sizeof(to->json.escape) ||
                        to->json.n_number > sizeof(to->json.number);
}

int redaction_load(struct redaction *r, const uint8_t *bytes, uint32_t n) {
        struct packed from = {.p = bytes, .n = n};
        struct packed_head head = {0};

        r->n_streams = r->n_counts = 0;
        r->numbers = r->prompt_numbers;
        if (n == 0)
                return 0;
        packed_take(&from, &head, sizeof(head));
        if (head.n_streams > REDACTION_STREAMS || head.n_counts > REDACTION_COUNTS ||
                        head.n_numbers > REDACT_NUMBERS - r->numbers.n)
                return -EPROTO;
        packed_take(&from, r->counts, head.n_counts * (uint32_t)sizeof(r->counts[0]));
        packed_take(&from, r->numbers.v + r->numbers.n,
                        head.n_numbers * (uint32_t)sizeof(r->numbers.v[0]));
        for (uint32_t i = 0; i < head.n_streams; i++)
                take_stream(&from, &r->streams[i]);
        if (from.broken || from.n > 0)
                return -EPROTO;
        r->n_streams = head.n_streams;
        r->n_counts = head.n_counts;
        r->numbers.n += head.n_numbers;
        return 0;
}

uint32_t redaction_pack(struct redaction *r) {
        const uint32_t known = r->prompt_numbers.n;
        const struct packed_head head = {r->n_streams, r->n_counts, r->numbers.n - known};
        uint8_t *to = packed_give(r->packed, &head, sizeof(head));

        to = packed_give(to, r->counts, r->n_counts * sizeof(r->counts[0]));
        to = packed_give(to, r->numbers.v + known, head.n_numbers * sizeof(r->numbers.v[0]));
        for (uint32_t i = 0; i < r->n_streams; i++) {
                const struct redaction_stream *stream = &r->streams[i];
                const struct packed_stream packed = {.at = stream->text.at,
                                .choice = stream->choice,
                                .n_past = stream->text.n_past,
                                .n_held = stream->text.n_held,
                                .kind = stream->kind,
                                .closed = stream->text.closed,
                                .n_token = stream->token.n};
                to = packed_give(to, &packed, sizeof(packed));
                to = packed_give(to, stream->text.bytes, (size_t)packed.n_past + packed.n_held);
                to = packed_give(to, stream->token.bytes, packed.n_token);
                if (stream->kind & REDACTION_JSON)
                        to = packed_give(to, &stream->json, sizeof(stream->json));
        }
        return (uint32_t)(to - r->packed);
}

/* ---- texts ---- */

void redaction_stream_begin(struct redaction_stream *stream) {
        memset(&stream->json, 0, sizeof(stream->json));
        stream->text.at = 0;
        stream->text.n_past = stream->text.n_held = 0;
        stream->text.closed = 0;
        stream->token.n = 0;
}

struct redaction_stream *redaction_stream_of(struct redaction *r, uint16_t choice, uint8_t kind) {
        struct redaction_stream *stream = r->streams;

        for (uint32_t i = 0; i < r->n_streams; i++, stream++)
                if (stream->choice == choice && stream->kind == kind)
                        return stream;
        if (r->n_streams == REDACTION_STREAMS)
                return NULL;
        r->n_streams++;
        stream->choice = choice;
        stream->kind = kind;
        redaction_stream_begin(stream);
        return stream;
}

static void count(struct redaction_count *counts, uint32_t *n, uint32_t entity, uint32_t finds) {
        uint32_t i = 0;

        while (i < *n && counts[i].entity != entity)
                i++;
        if (i == REDACTION_COUNTS)
                return;
        if (i == *n)
                counts[(*n)++] = (struct redaction_count){entity, 0};
        counts[i].n += finds;
}

void redaction_put(struct redaction *r, struct redaction_stream *stream,
                const struct redact_piece *piece, const struct restore_out *out) {
        r->blocked |= piece->blocked;
        if (piece->blocked)
                r->blocked_by = piece->entity;
        if (piece->entity == REDACT_PLAIN && r->restore.n) {
                restore_feed(&r->restore, &stream->token, piece->text, piece->n, out);
                return;
        }
        restore_flush(&stream->token, out); /* what stands for a find is part of no placeholder */
        if (piece->entity != REDACT_PLAIN)
                count(r->counts, &r->n_counts, piece->entity, 1);
        if (piece->n && !(r->silent && piece->blocked))
                out->put(out->ctx, piece->text, piece->n);
}

void redaction_out(struct redaction *r, const char *p, uint32_t n) {
        if (r->full || n > r->limit - r->n_out) {
                r->full = true;
                return;
        }
        memcpy(r->out + r->n_out, p, n);
        r->n_out += n;
}

struct feeding {
        struct redaction *r;
        struct redaction_stream *stream;
        struct restore_out out;
};

static void put_out(void *ctx, const char *p, uint32_t n) {
        redaction_out(ctx, p, n);
}

static void put(void *ctx, const struct redact_piece *piece) {
        struct feeding *f = ctx;

        redaction_put(f->r, f->stream, piece, &f->out);
}

int redaction_feed(struct redaction *r, uint16_t choice, uint8_t kind, const char *text, uint32_t n,
                bool last) {
        struct feeding f = {r, redaction_stream_of(r, choice, kind), {put_out, r}};

        r->n_out = 0;
        r->full = r->blocked = false;
        if (!f.stream)
                return REDACTION_E_LARGE;
        redact_feed(r->engine, &f.stream->text, text, n, last,
                        &(struct redact_sink){put, &f, &r->numbers});
        if (last)
                restore_flush(&f.stream->token, &f.out);
        if (r->full)
                return REDACTION_E_LARGE;
        return r->blocked ? REDACTION_E_BLOCKED : 0;
}

uint32_t redaction_counts(const struct redaction *r, uint8_t *to, uint32_t cap) {
        struct redaction_count counts[REDACTION_COUNTS];
        uint32_t n = r->n_counts;
        struct pack_buf w;

        memcpy(counts, r->counts, n * sizeof(*counts));
        for (uint32_t i = 0; i < r->n_prompt_counts; i++)
                count(counts, &n, r->prompt_counts[i].entity, r->prompt_counts[i].n);
        if (n == 0)
                return 0;
        pack_buf_init(&w, to, cap);
        pack_map(&w, n);
        for (uint32_t i = 0; i < n; i++) {
                const char *name = redact_name(r->engine, counts[i].entity);
                pack_str(&w, (struct mr_view){name, (uint32_t)strlen(name)});
                pack_uint(&w, counts[i].n);
        }
        return w.full ? 0 : w.len;
}

void redaction_tell(const struct redaction *r, struct counters_shm *counters) {
        for (uint32_t i = 0; i < r->n_counts; i++) {
                uint32_t entity = r->counts[i].entity;
                counters_redacted(counters, redact_builtin(entity) ? entity : UINT32_MAX,
                                r->counts[i].n);
        }
}
