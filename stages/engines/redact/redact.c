#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "stages/engines/redact/rules.h"
#include "stages/engines/redact/sha256.h"

#define HASH_BYTES 8u /* of the HMAC that are shown */

/* ---- what stands in a find's place ---- */

/* The number of a value: the same for each time that it occurs. 0: there are too many. */
static uint32_t number_of(
                struct redact_numbers *numbers, uint32_t entity, const char *p, uint32_t n) {
        uint64_t hash = XXH3_64bits(p, n);
        uint32_t last = 0;

        for (uint32_t i = 0; i < numbers->n; i++) {
                if (numbers->v[i].entity != entity)
                        continue;
                if (numbers->v[i].hash == hash)
                        return numbers->v[i].number;
                last = numbers->v[i].number;
        }
        if (numbers->n == REDACT_NUMBERS)
                return 0;
        numbers->v[numbers->n].entity = entity;
        numbers->v[numbers->n].number = last + 1;
        numbers->v[numbers->n].hash = hash;
        numbers->n++;
        return last + 1;
}

static int put_hash(const struct redact *r, const char *name, const char *p, uint32_t n, char *to,
                size_t cap) {
        uint8_t hash[SHA256_BYTES];
        int at = snprintf(to, cap, "<%s:", name);

        sha256_hmac(r->key, r->n_key, p, n, hash);
        for (unsigned i = 0; i < HASH_BYTES; i++)
                at += snprintf(to + at, cap - (size_t)at, "%02x", hash[i]);
        return at + snprintf(to + at, cap - (size_t)at, ">");
}

/* Letters and digits become stars, one for each character; what separates them stays. */
static uint32_t put_mask(const char *p, uint32_t n, char *to) {
        uint32_t out = 0;

        for (uint32_t i = 0; i < n; i += redact_character_bytes(p[i]))
                to[out++] = check_is_alnum(p[i]) || (p[i] & 0x80) ? '*' : p[i];
        return out;
}

/* to: REDACT_HELD bytes, which is more than any of these. */
static uint32_t put_instead(const struct redact *r, const struct redact_sink *sink, uint32_t entity,
                const char *p, uint32_t n, char *to, uint32_t *ret_number) {
        const struct rules_entity *row = &r->entities[entity];
        uint32_t number = 0;

        switch (row->action) {
        case REDACT_AS_NOTHING:
                return 0;
        case REDACT_AS_MASK:
                return put_mask(p, n, to);
        case REDACT_AS_IS:
                memcpy(to, p, n);
                return n;
        case REDACT_AS_HASH:
                return (uint32_t)put_hash(r, row->name, p, n, to, REDACT_HELD);
        case REDACT_AS_TYPE:
        case REDACT_BLOCKS:
                break;
        }
        if (r->numbered && sink->numbers)
                number = number_of(sink->numbers, entity, p, n);
        *ret_number = number;
        if (number)
                return (uint32_t)snprintf(to, REDACT_HELD, "<%s_%u>", row->name, number);
        return (uint32_t)snprintf(to, REDACT_HELD, "<%s>", row->name);
}

/* ---- pieces ---- */

static void put_plain(const struct redact_stream *stream, const struct redact_sink *sink,
                uint32_t from, uint32_t to) {
        const char *p = stream->bytes + from;
        uint64_t start = stream->at + from - stream->n_past;

        if (from < to)
                sink->put(sink->ctx, &(struct redact_piece){.entity = REDACT_PLAIN,
                                                     .text = p,
                                                     .n = to - from,
                                                     .found = p,
                                                     .start = start,
                                                     .end = start + to - from});
}

static void put_find(const struct redact *r, struct redact_stream *stream,
                const struct redact_sink *sink, const struct redact_span *span) {
        bool blocks = r->entities[span->entity].action == REDACT_BLOCKS;
        char instead[REDACT_HELD];
        struct redact_piece piece = {.entity = span->entity,
                        .blocked = blocks,
                        .text = instead,
                        .found = stream->bytes + span->start,
                        .start = stream->at + span->start - stream->n_past,
                        .end = stream->at + span->end - stream->n_past,
                        .score = span->score};

        piece.n = put_instead(r, sink, span->entity, piece.found, span->end - span->start, instead,
                        &piece.number);
        sink->put(sink->ctx, &piece);
        stream->closed = blocks;
}

/* What cannot be decided within the bounds does not go on, nor does what follows it. */
static void close_stream(const struct redact *r, struct redact_stream *stream,
                const struct redact_sink *sink, uint32_t from, uint32_t to, uint32_t entity) {
        struct redact_piece piece = {.entity = entity,
                        .blocked = true,
                        .found = stream->bytes + from,
                        .start = stream->at + from - stream->n_past,
                        .end = stream->at + to - stream->n_past,
                        .score = 1.0};
        char instead[REDACT_HELD];

        piece.text = instead;
        piece.n = (uint32_t)snprintf(instead, sizeof(instead), "<%s>", r->entities[entity].name);
        sink->put(sink->ctx, &piece);
        stream->closed = 1;
}

static void advance(struct redact_stream *stream, uint32_t limit, uint32_t n);

/* What cannot be decided, of an entity that is only counted. */
static void count_all(struct redact_stream *stream, const struct redact_sink *sink, uint32_t from, uint32_t to,
                uint32_t entity) {
        const char *p = stream->bytes + from;

        sink->put(sink->ctx, &(struct redact_piece){.entity = entity,
                                             .text = p,
                                             .n = to - from,
                                             .found = p,
                                             .start = stream->at + from - stream->n_past,
                                             .end = stream->at + to - stream->n_past,
                                             .score = 1.0});
        advance(stream, to, to);
}

/* Everything before `limit` has gone on; the last of it stays to be looked back at. */
static void advance(struct redact_stream *stream, uint32_t limit, uint32_t n) {
        uint32_t drop = limit > REDACT_PAST ? limit - REDACT_PAST : 0;

        stream->at += limit - stream->n_past;
        stream->n_past = (uint16_t)(limit - drop);
        stream->n_held = (uint16_t)(n - limit);
        if (drop)
                memmove(stream->bytes, stream->bytes + drop, n - drop);
}

/* Bytes at the end that may still become a character. */
static uint32_t unfinished(const char *text, uint32_t from, uint32_t n) {
        uint32_t begin = n - 1;

        if (n == from)
                return 0;
        while (begin > from && n - begin < 3 && ((uint8_t)text[begin] & 0xc0) == 0x80)
                begin--;
        return begin + redact_character_bytes(text[begin]) > n ? n - begin : 0;
}

static void settle(struct redact *r, struct redact_stream *stream, bool last,
                const struct redact_sink *sink) {
        uint32_t n = (uint32_t)stream->n_past + stream->n_held, from = stream->n_past, limit;
        uint32_t visible = last ? n : n - unfinished(stream->bytes, from, n);
        struct find find = redact_find(r, stream->bytes, from, visible, last);

        for (uint32_t i = 0; i < find.n_spans && !stream->closed; i++) {
                put_plain(stream, sink, from, find.spans[i].start);
                put_find(r, stream, sink, &find.spans[i]);
                from = find.spans[i].end;
        }
        if (stream->closed)
                return;
        limit = find.limit < visible ? redact_character(stream->bytes, find.limit) : find.limit;
        if (limit < from)
                limit = from;
        put_plain(stream, sink, from, limit);
        if ((find.broken || n - limit == REDACT_HELD) && find.entity != REDACT_PLAIN &&
                        r->entities[find.entity].action == REDACT_AS_IS) {
                count_all(stream, sink, limit, n, find.entity);
                return;
        }
        if (find.broken) {
                close_stream(r, stream, sink, limit, n, find.entity);
                return;
        }
        advance(stream, limit, n);
        if (stream->n_held == REDACT_HELD)
                close_stream(r, stream, sink, stream->n_past, n, find.entity);
}

void redact_feed(struct redact *r, struct redact_stream *stream, const char *text, size_t n,
                bool last, const struct redact_sink *sink) {
        while (n > 0 && !stream->closed) {
                uint32_t room = REDACT_HELD - stream->n_held;
                uint32_t take = n < room ? (uint32_t)n : room;

                memcpy(stream->bytes + stream->n_past + stream->n_held, text, take);
                stream->n_held = (uint16_t)(stream->n_held + take);
                text += take;
                n -= take;
                if (n > 0 || !last || stream->n_held == REDACT_HELD)
                        settle(r, stream, false, sink);
        }
        if (!last)
                return;
        if (!stream->closed)
                settle(r, stream, true, sink);
        stream->at = 0;
        stream->n_past = stream->n_held = 0;
        stream->closed = 0;
}

void redact_pause(struct redact *r, struct redact_stream *stream, const struct redact_sink *sink) {
        if (stream->closed)
                return;
        settle(r, stream, true, sink);
        if (stream->closed)
                return;
        if (stream->n_past == REDACT_PAST)
                memmove(stream->bytes, stream->bytes + 1, --stream->n_past);
        stream->bytes[stream->n_past++] = '\n';
}
