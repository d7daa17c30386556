/*
 * post_redact: an answer's texts and the arguments of its tool calls on their way through redaction.
 */
#include <errno.h>
#include <string.h>

#include "stages/common/pack.h"
#include "stages/post/post_own.h"

void post_redact_counts(struct worker *w, struct record *record) {
        struct post *post = w->stage;
        uint32_t n = redaction_counts(post->redaction, post->counts, sizeof(post->counts));

        redaction_tell(post->redaction, w->counters);
        if (n && record_raw_parse(&w->decoder, post->counts, n, &record->redactions) == 0)
                record->has |= HAS(redactions);
}

void post_redact_open(struct worker *w, const uint8_t *bytes, uint32_t n) {
        struct post *post = w->stage;
        uint64_t req_id = slab_peek(&post->slab, post->slot)->req_id;
        const msgpack_object *note = NULL;
        struct record kept;
        int r = 0;

        if (post->redaction->noted != req_id) {
                post_payload(w, &kept);
                if (kept.has & HAS(redacted))
                        r = record_raw_parse(&post->decoder, kept.redacted.p, kept.redacted.n, &note);
                if (r == 0)
                        r = redaction_noted(post->redaction, req_id, note);
                if (r)
                        worker_fail(w, "post: assemble's note of a prompt is broken", r);
        }
        r = redaction_load(post->redaction, bytes, n);
        if (r)
                worker_fail(w, "post: what waits of an answer is broken", r);
}

/* So much may go on of what is fed next. */
static void limit_to(struct post *post, uint32_t most) {
        struct redaction *r = post->redaction;

        r->limit = post->budget < r->cap ? post->budget : r->cap;
        r->limit = r->limit < most ? r->limit : most;
}

/* Ends an answer that does not go on. False: it has ended. */
static bool fed(struct worker *w, const struct ring_msg *msg, struct slab_version *next, int e) {
        struct post *post = w->stage;

        if (e == REDACTION_E_LARGE) {
                post_fail(w, msg, next, MR_E_too_large, "the answer is too large to be redacted");
                return false;
        }
        post->budget -= post->redaction->n_out;
        return true;
}

/* ---- members that are not known ---- */

/* Redacts them behind what is in post->extra; what is too long, or no JSON, is left out. False: one of
 * them blocks, and the answer has ended. */
static bool members_put(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct mr_view members) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        uint32_t most = post->tx->map.geo.max_rec / 2; /* the rest is for a piece of text, or a call */
        int e;

        limit_to(post, most > post->n_extra ? most - post->n_extra : 0);
        e = redaction_extra(r, members);
        if (e == REDACTION_E_BLOCKED) {
                post_end(w, msg, next, POST_FILTERED);
                return false;
        }
        if (e)
                return true;
        memcpy(post->extra + post->n_extra, r->out, r->n_out);
        post->n_extra += r->n_out;
        post->budget -= r->n_out;
        return true;
}

bool post_redact_extra(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        bool goes_on;

        post->n_extra = 0;
        if (!(record->has & HAS(extra)))
                return true;
        goes_on = members_put(w, msg, next, record->extra);
        record->extra = (struct mr_view){post->extra, post->n_extra};
        if (!post->n_extra)
                record->has &= ~HAS(extra);
        return goes_on;
}

/* An object with its braces, as a tool call has it. *ret->n 0: nothing is left of it. */
static bool object_put(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const msgpack_object *object, struct mr_view *ret) {
        struct post *post = w->stage;
        uint32_t from = post->n_extra;

        *ret = (struct mr_view){post->extra + from, 0};
        if (!object || object->type != MSGPACK_OBJECT_STR || object->via.str.size < 2)
                return true;
        post->extra[post->n_extra++] = '{';
        if (!members_put(w, msg, next,
                            (struct mr_view){object->via.str.ptr + 1, object->via.str.size - 2}))
                return false;
        post->extra[post->n_extra++] = '}';
        if (post->n_extra > from + 2)
                ret->n = post->n_extra - from;
        return true;
}

static uint16_t choice_of(const struct record *record) {
        return record->has & HAS(choice) ? (uint16_t)record->choice : 0;
}

bool post_redact_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool last) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        int e;

        limit_to(post, UINT32_MAX);
        e = redaction_feed(r, choice_of(record), (uint8_t)kind, text.p, text.n, last);
        if (!fed(w, msg, next, e))
                return false;
        post_emit_text(w, msg, next, record, r->out, r->n_out);
        if (e == REDACTION_E_BLOCKED)
                post_end(w, msg, next, POST_FILTERED);
        return e == 0;
}

/* ---- tool calls ---- */

static bool is_key(const msgpack_object *key, const char *name) {
        return key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
               !memcmp(key->via.str.ptr, name, key->via.str.size);
}

static const msgpack_object *member(const msgpack_object *map, const char *name) {
        for (uint32_t i = 0; i < map->via.map.size; i++)
                if (is_key(&map->via.map.ptr[i].key, name))
                        return &map->via.map.ptr[i].val;
        return NULL;
}

/* Which of a choice's calls; those beyond the last that is told apart share one. */
static uint8_t call_of(const msgpack_object *map) {
        const msgpack_object *index = member(map, "index");

        if (!index || index->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
                return 0;
        return (uint8_t)(index->via.u64 < REDACTION_CALLS ? index->via.u64 : REDACTION_CALLS - 1);
}

/* The call with other arguments and other members; one that is empty is left out. */
static void put_call(struct pack_buf *w, const msgpack_object *map, struct mr_view arguments,
                struct mr_view extra) {
        uint32_t n = map->via.map.size;

        n -= !arguments.n && member(map, "arguments");
        n -= !extra.n && member(map, "extra");
        pack_map(w, n);
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object_kv *kv = &map->via.map.ptr[i];
                bool is_extra = is_key(&kv->key, "extra");
                struct mr_view text = is_extra ? extra : arguments;
                bool other = is_extra || is_key(&kv->key, "arguments");
                if (other && !text.n)
                        continue;
                msgpack_pack_object(&w->pk, kv->key);
                if (other)
                        pack_str(w, text);
                else
                        msgpack_pack_object(&w->pk, kv->val);
        }
}

/* Parses what was packed into post->tool as the record's call. */
static void set_call(struct worker *w, struct record *record, const struct pack_buf *call) {
        if (call->full || record_raw_parse(&w->decoder, call->at, call->len, &record->tool))
                worker_fail(w, "post: a tool call does not hold together", -ENOBUFS);
        record->has |= HAS(tool);
}

/* Redacts a piece of a call's arguments into r->out: as much as its record has room for, which has
 * everything else of the input, too. */
static int arguments_feed(struct post *post, const struct ring_msg *msg, const struct record *record,
                const msgpack_object *arguments) {
        struct redaction *r = post->redaction;
        uint32_t other;

        r->n_out = 0;
        if (!arguments || arguments->type != MSGPACK_OBJECT_STR)
                return 0;
        other = msg->len - arguments->via.str.size + post->n_extra + CALL_BYTES;
        limit_to(post, post->tx->map.geo.max_rec - other);
        if (other > post->tx->map.geo.max_rec)
                r->limit = 0;
        return redaction_feed_json(r, choice_of(record), call_of(record->tool),
                        arguments->via.str.ptr, arguments->via.str.size, false);
}

bool post_redact_tool(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        const msgpack_object *map = record->tool;
        struct pack_buf call;
        struct mr_view extra;
        int e;

        if (map->type != MSGPACK_OBJECT_MAP)
                return true;
        if (!object_put(w, msg, next, member(map, "extra"), &extra))
                return false;
        e = arguments_feed(post, msg, record, member(map, "arguments"));
        if (!fed(w, msg, next, e))
                return false;
        pack_buf_init(&call, post->call, post->call_bytes);
        put_call(&call, map, (struct mr_view){r->out, r->n_out}, extra);
        set_call(w, record, &call);
        if (record->tool->via.map.size <= 1) /* its index: nothing to say */
                record->has &= ~HAS(tool);
        if (e == REDACTION_E_BLOCKED) {
                post_emit(w, msg, next, record, RECORD_DELTA, 0);
                post_end(w, msg, next, POST_FILTERED);
        }
        return e == 0;
}

/* What waits of one call's arguments. */
static bool flush_call(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const struct redaction_stream *stream) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        struct record rest = post_delta_of(stream->choice, HOLD_TEXT);
        uint8_t index = stream->kind & (REDACTION_CALLS - 1);
        struct pack_buf call;
        int e;

        limit_to(post, post->tx->map.geo.max_rec - CALL_BYTES);
        e = redaction_feed_json(r, stream->choice, index, NULL, 0, true);
        if (!fed(w, msg, next, e))
                return false;
        if (r->n_out > 0) {
                pack_buf_init(&call, post->call, post->call_bytes);
                pack_map(&call, 2);
                pack_str(&call, (struct mr_view){"index", 5});
                pack_uint(&call, index);
                pack_str(&call, (struct mr_view){"arguments", 9});
                pack_str(&call, (struct mr_view){r->out, r->n_out});
                set_call(w, &rest, &call);
                rest.has &= ~HAS(text);
                post_emit(w, msg, next, &rest, RECORD_DELTA, 0);
        }
        if (e == REDACTION_E_BLOCKED)
                post_end(w, msg, next, POST_FILTERED);
        return e == 0;
}

bool post_redact_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;
        bool goes_on = true;

        for (uint32_t i = 0; goes_on && i < post->redaction->n_streams; i++) {
                const struct redaction_stream *stream = &post->redaction->streams[i];
                struct record rest;
                if (stream->kind & REDACTION_JSON) {
                        goes_on = flush_call(w, msg, next, stream);
                        continue;
                }
                rest = post_delta_of(stream->choice, stream->kind);
                goes_on = post_redact_text(
                                w, msg, next, &rest, stream->kind, (struct mr_view){NULL, 0}, true);
        }
        return goes_on;
}
