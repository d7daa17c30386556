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
        const struct redact_config config = {
                        .entities = (const char *const *)settings->post.redact.entities.v,
                        .n_entities = settings->post.redact.entities.n,
                        .min_score = settings->post.redact.min_score,
                        .action = (enum redact_action)settings->post.redact.action,
                        .actions = (const char *const *)settings->post.redact.actions.v,
                        .n_actions = settings->post.redact.actions.n,
                        .numbered = settings->post.redact.numbered,
                        .rules = settings->post.redact.rules,
                        .key_env = settings->post.redact.key_env,
        };
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

/* ---- what a slab version has of a request ---- */

struct packed_head {
        uint32_t n_streams, n_counts, n_numbers;
};

struct packed_stream {
        uint64_t at;
        uint16_t choice, n_past, n_held;
        uint8_t kind, closed;
};

static void take_stream(struct packed *from, struct redaction_stream *to) {
        struct packed_stream head = {0};

        packed_take(from, &head, sizeof(head));
        if (head.n_past > REDACT_PAST || head.n_held > REDACT_HELD) {
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
        packed_take(from, to->text.bytes, (uint32_t)head.n_past + head.n_held);
        if (head.kind & REDACTION_JSON)
                packed_take(from, &to->json, sizeof(to->json));
        from->broken |= to->json.n_escape > sizeof(to->json.escape) ||
                        to->json.n_number > sizeof(to->json.number);
}

int redaction_load(struct redaction *r, const uint8_t *bytes, uint32_t n) {
        struct packed from = {.p = bytes, .n = n};
        struct packed_head head = {0};

        r->n_streams = r->n_counts = r->numbers.n = 0;
        if (n == 0)
                return 0;
        packed_take(&from, &head, sizeof(head));
        if (head.n_streams > REDACTION_STREAMS || head.n_counts > REDACTION_COUNTS ||
                        head.n_numbers > REDACT_NUMBERS)
                return -EPROTO;
        packed_take(&from, r->counts, head.n_counts * (uint32_t)sizeof(r->counts[0]));
        packed_take(&from, r->numbers.v, head.n_numbers * (uint32_t)sizeof(r->numbers.v[0]));
        for (uint32_t i = 0; i < head.n_streams; i++)
                take_stream(&from, &r->streams[i]);
        if (from.broken || from.n > 0)
                return -EPROTO;
        r->n_streams = head.n_streams;
        r->n_counts = head.n_counts;
        r->numbers.n = head.n_numbers;
        return 0;
}

uint32_t redaction_pack(struct redaction *r) {
        const struct packed_head head = {r->n_streams, r->n_counts, r->numbers.n};
        uint8_t *to = packed_give(r->packed, &head, sizeof(head));

        to = packed_give(to, r->counts, r->n_counts * sizeof(r->counts[0]));
        to = packed_give(to, r->numbers.v, r->numbers.n * sizeof(r->numbers.v[0]));
        for (uint32_t i = 0; i < r->n_streams; i++) {
                const struct redaction_stream *stream = &r->streams[i];
                const struct packed_stream packed = {.at = stream->text.at,
                                .choice = stream->choice,
                                .n_past = stream->text.n_past,
                                .n_held = stream->text.n_held,
                                .kind = stream->kind,
                                .closed = stream->text.closed};
                to = packed_give(to, &packed, sizeof(packed));
                to = packed_give(to, stream->text.bytes, (size_t)packed.n_past + packed.n_held);
                if (stream->kind & REDACTION_JSON)
                        to = packed_give(to, &stream->json, sizeof(stream->json));
        }
        return (uint32_t)(to - r->packed);
}

/* ---- texts ---- */

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
        memset(&stream->json, 0, sizeof(stream->json));
        stream->text.at = 0;
        stream->text.n_past = stream->text.n_held = 0;
        stream->text.closed = 0;
        return stream;
}

static void count(struct redaction *r, uint32_t entity) {
        uint32_t i = 0;

        while (i < r->n_counts && r->counts[i].entity != entity)
                i++;
        if (i == REDACTION_COUNTS)
                return;
        if (i == r->n_counts) {
                r->counts[i].entity = entity;
                r->counts[i].n = 0;
                r->n_counts++;
        }
        r->counts[i].n++;
}

void redaction_note(struct redaction *r, const struct redact_piece *piece) {
        r->blocked |= piece->blocked;
        if (piece->blocked)
                r->blocked_by = piece->entity;
        if (piece->entity != REDACT_PLAIN)
                count(r, piece->entity);
}

static void put(void *ctx, const struct redact_piece *piece) {
        struct redaction *r = ctx;

        redaction_note(r, piece);
        if (r->silent && piece->blocked)
                return;
        if (r->full || piece->n > r->limit - r->n_out) {
                r->full = true;
                return;
        }
        memcpy(r->out + r->n_out, piece->text, piece->n);
        r->n_out += piece->n;
}

int redaction_feed(struct redaction *r, uint16_t choice, uint8_t kind, const char *text, uint32_t n,
                bool last) {
        struct redaction_stream *stream = redaction_stream_of(r, choice, kind);

        r->n_out = 0;
        r->full = r->blocked = false;
        if (!stream)
                return REDACTION_E_LARGE;
        redact_feed(r->engine, &stream->text, text, n, last,
                        &(struct redact_sink){put, r, &r->numbers});
        if (r->full)
                return REDACTION_E_LARGE;
        return r->blocked ? REDACTION_E_BLOCKED : 0;
}

uint32_t redaction_counts(const struct redaction *r, uint8_t *to, uint32_t cap) {
        struct pack_buf w;

        if (r->n_counts == 0)
                return 0;
        pack_buf_init(&w, to, cap);
        pack_map(&w, r->n_counts);
        for (uint32_t i = 0; i < r->n_counts; i++) {
                const char *name = redact_name(r->engine, r->counts[i].entity);
                pack_str(&w, (struct mr_view){name, (uint32_t)strlen(name)});
                pack_uint(&w, r->counts[i].n);
        }
        return w.full ? 0 : w.len;
}

void redaction_tell(const struct redaction *r, struct counters_shm *counters) {
        for (uint32_t i = 0; i < r->n_counts; i++) {
                uint32_t at = r->counts[i].entity;
                if (!redact_builtin(at))
                        at = COUNTERS_REDACTIONS - 1;
                uint64_t v = atomic_load_explicit(&counters->redactions[at], memory_order_relaxed);
                atomic_store_explicit(&counters->redactions[at], v + r->counts[i].n,
                                memory_order_relaxed);
        }
}
