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

void post_redact_extra(struct record *record) {
        if (record->has & HAS(extra) && memmem(record->extra.p, record->extra.n, "logprobs", 8))
                record->has &= ~HAS(extra);
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

static uint16_t choice_of(const struct record *record) {
        return record->has & HAS(choice) ? (uint16_t)record->choice : 0;
}

bool post_redact_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool last) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        int e;

        r->limit = post->budget < r->cap ? post->budget : r->cap;
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

/* The call with other arguments. */
static void put_call(struct pack_buf *w, const msgpack_object *map, struct mr_view arguments) {
        pack_map(w, map->via.map.size);
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object_kv *kv = &map->via.map.ptr[i];
                msgpack_pack_object(&w->pk, kv->key);
                if (is_key(&kv->key, "arguments"))
                        pack_str(w, arguments);
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

bool post_redact_tool(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct redaction *r = post->redaction;
        const msgpack_object *map = record->tool;
        const msgpack_object *arguments =
                        map->type == MSGPACK_OBJECT_MAP ? member(map, "arguments") : NULL;
        struct pack_buf call;
        int e;

        if (!arguments || arguments->type != MSGPACK_OBJECT_STR)
                return true;
        r->limit = post->budget < r->cap ? post->budget : r->cap;
        e = redaction_feed_json(r, choice_of(record), call_of(map), arguments->via.str.ptr,
                        arguments->via.str.size, false);
        if (!fed(w, msg, next, e))
                return false;
        pack_buf_init(&call, post->call, post->call_bytes);
        put_call(&call, map, (struct mr_view){r->out, r->n_out});
        set_call(w, record, &call);
        if (r->n_out == 0 && map->via.map.size <= 2) /* index and arguments: nothing to say */
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

        r->limit = post->budget < r->cap ? post->budget : r->cap;
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
