/*
 * post_safety: an answer's texts on their way past the lists of post.safety.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/pack.h"
#include "stages/post/post_own.h"

int post_safety_init(struct worker *w, uint32_t text_bytes) {
        struct post *post = w->stage;
        const struct settings *s = w->settings;
        const struct screen_config config = {
                        .lists = s->post.safety.mode == SETTINGS_SAFETY_OFF ? NULL : s->post.safety.lists,
                        .actions = (const char *const *)s->post.safety.actions.v,
                        .n_actions = s->post.safety.actions.n,
                        .flags = s->post.safety.mode == SETTINGS_SAFETY_FLAG,
        };
        struct redact_why why = {""};
        int r = screen_load(&config, &post->screen, &why);

        if (r == REDACT_E_RULES) {
                log_error("settings", "key=post.safety error=\"%s\"", why.text);
                return -EINVAL;
        }
        return r || !post->screen ? r : redaction_over(post->screen->engine, text_bytes, &post->safety);
}

void post_safety_fini(struct post *post) {
        redaction_free(post->safety);
        screen_free(post->screen);
}

/* ---- texts ---- */

/* A find of a category that is not to go out. */
static void blocked(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;

        counters_add(w->counters, COUNTER_safety_refused, 1);
        if (post->screen->actions[post->safety->blocked_by] == SCREEN_END) {
                post_end(w, msg, next, POST_FILTERED);
                return;
        }
        post_safety_tell(w);
        post_fail(w, msg, next, MR_E_content_filtered, "the answer was refused by the content filter");
}

bool post_safety_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool last) {
        struct post *post = w->stage;
        struct redaction *r = post->safety;
        uint16_t choice = record->has & HAS(choice) ? (uint16_t)record->choice : 0;
        int e;

        r->limit = r->cap;
        e = redaction_feed(r, choice, (uint8_t)kind, text.p, text.n, last);
        if (e == REDACTION_E_LARGE) {
                post_fail(w, msg, next, MR_E_too_large, "the answer is too large to be looked at");
                return false;
        }
        if (r->n_out != text.n || memcmp(r->out, text.p, text.n) != 0)
                post_drop_logprobs(record);
        if (!post_redacted(w, msg, next, record, kind, (struct mr_view){r->out, r->n_out}))
                return false;
        if (e == REDACTION_E_BLOCKED)
                blocked(w, msg, next);
        return e == 0;
}

bool post_safety_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;

        for (uint32_t i = 0; i < post->safety->n_streams; i++) {
                const struct redaction_stream *stream = &post->safety->streams[i];
                struct record rest = post_delta_of(stream->choice, stream->kind);
                if (!post_safety_text(w, msg, next, &rest, stream->kind, (struct mr_view){"", 0}, true))
                        return false;
        }
        return true;
}

/* ---- what was found ---- */

void post_safety_tell(struct worker *w) {
        struct post *post = w->stage;

        for (uint32_t i = 0; post->safety && i < post->safety->n_counts; i++)
                counters_add(w->counters, COUNTER_safety_found, post->safety->counts[i].n);
}

/* How often the answer had what this entry of the prompt's names. */
static uint32_t in_answer(const struct post *post, const msgpack_object *name) {
        const struct redaction *r = post->safety;

        for (uint32_t i = 0; r && name->type == MSGPACK_OBJECT_STR && i < r->n_counts; i++) {
                const char *own = redact_name(r->engine, r->counts[i].entity);
                if (strlen(own) == name->via.str.size && !memcmp(own, name->via.str.ptr, name->via.str.size))
                        return r->counts[i].n;
        }
        return 0;
}

static bool in_prompt(const msgpack_object *map, const char *name) {
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object *key = &map->via.map.ptr[i].key;
                if (key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
                                !memcmp(key->via.str.ptr, name, key->via.str.size))
                        return true;
        }
        return false;
}

/* The prompt's finds with the answer's, as one map. */
static uint32_t put_found(const struct post *post, const msgpack_object *prompt, struct pack_buf *to) {
        static const msgpack_object none = {.type = MSGPACK_OBJECT_MAP};
        const msgpack_object *map = prompt && prompt->type == MSGPACK_OBJECT_MAP ? prompt : &none;
        const struct redaction *r = post->safety;
        uint32_t n = map->via.map.size;

        for (uint32_t i = 0; r && i < r->n_counts; i++)
                n += !in_prompt(map, redact_name(r->engine, r->counts[i].entity));
        if (n == 0)
                return 0;
        pack_map(to, n);
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object_kv *kv = &map->via.map.ptr[i];
                msgpack_pack_object(&to->pk, kv->key);
                pack_uint(to, (kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER ? kv->val.via.u64 : 0) +
                                              in_answer(post, &kv->key));
        }
        for (uint32_t i = 0; r && i < r->n_counts; i++) {
                const char *name = redact_name(r->engine, r->counts[i].entity);
                if (in_prompt(map, name))
                        continue;
                pack_str(to, (struct mr_view){name, (uint32_t)strlen(name)});
                pack_uint(to, r->counts[i].n);
        }
        return to->full ? 0 : to->len;
}

void post_safety_counts(struct worker *w, struct record *record) {
        struct post *post = w->stage;
        struct record asked;
        struct pack_buf to;
        uint32_t n;

        post_safety_tell(w);
        post_payload(w, &asked);
        if (asked.has & HAS(tripwire)) {
                record->has |= HAS(tripwire);
                record->tripwire = asked.tripwire;
        }
        pack_buf_init(&to, post->found, sizeof(post->found));
        n = put_found(post, asked.has & HAS(safety) ? asked.safety : NULL, &to);
        if (n && record_raw_parse(&w->decoder, post->found, n, &record->safety) == 0)
                record->has |= HAS(safety);
}
