#include "stages/gateway/compose.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "stages/gateway/compose_own.h"
#include "stages/gateway/pull.h"

#define BAD(error, ...) ask_fail(error, MR_E_invalid_request, __VA_ARGS__)

static bool is_text(struct mr_view v, const char *text) {
        return v.n == strlen(text) && memcmp(v.p, text, v.n) == 0;
}

int composer_init(struct composer *composer, uint64_t max_body_bytes) {
        *composer = (struct composer){.max_body_bytes = max_body_bytes};
        composer->built = malloc(COMPOSER_KEEP);
        composer->built_cap = COMPOSER_KEEP;
        if (!composer->built || body_scanner_new(&composer->scanner) < 0) {
                composer_close(composer);
                return -ENOMEM;
        }
        return 0;
}

void composer_close(struct composer *composer) {
        composer->scanner = body_scanner_free(composer->scanner);
        free(composer->built);
        composer->built = NULL;
}

/* ---- msgpack to JSON ---- */

struct writer {
        struct json_buf out;
        const char *where; /* the field, for errors */
        struct ask_error *error;
};

static int put_text(struct writer *w, struct mr_view text) {
        uint32_t bad = json_utf8_bad(text.p, text.n);

        if (bad < text.n)
                return BAD(w->error, "%s: a text is not UTF-8 at its byte %u", w->where, bad);
        json_put_string(&w->out, text.p, text.n);
        return 0;
}

static int put_scalar(struct writer *w, const struct pull_item *item) {
        switch (item->type) {
        case PULL_NIL:
                json_put_text(&w->out, "null");
                return 0;
        case PULL_BOOL:
                json_put_text(&w->out, item->v.b ? "true" : "false");
                return 0;
        case PULL_UINT:
                json_put_u64(&w->out, item->v.u);
                return 0;
        case PULL_INT:
                json_put_i64(&w->out, item->v.i);
                return 0;
        case PULL_FLOAT:
                if (!isfinite(item->v.f))
                        return BAD(w->error, "%s: a number is not finite", w->where);
                json_put_f64(&w->out, item->v.f);
                return 0;
        case PULL_STR:
                return put_text(w, item->view);
        case PULL_BIN:
        case PULL_EXT:
        case PULL_ARRAY:
        case PULL_MAP:
                break;
        }
        return BAD(w->error, "%s: expected what JSON can say, got %s", w->where,
                        pull_type_name(item->type));
}

/* One value with everything in it. Recurses as deep as frames may be nested. */
static int put_value(struct writer *w, struct pull *from, uint32_t depth) {
        struct pull_item item, key;
        bool map;

        if (depth > COMPOSE_DEPTH || pull_item(from, &item) < 0)
                return BAD(w->error, "%s: nested too deep", w->where);
        if (item.type != PULL_ARRAY && item.type != PULL_MAP)
                return put_scalar(w, &item);
        map = item.type == PULL_MAP;
        json_put(&w->out, map ? "{" : "[", 1);
        for (uint32_t i = 0; i < item.count; i++) {
                if (i > 0)
                        json_put(&w->out, ",", 1);
                if (map) {
                        if (pull_item(from, &key) < 0 || key.type != PULL_STR)
                                return BAD(w->error, "%s: a key is not a string", w->where);
                        if (put_text(w, key.view))
                                return (int)w->error->code;
                        json_put(&w->out, ":", 1);
                }
                if (put_value(w, from, depth + 1))
                        return (int)w->error->code;
        }
        json_put(&w->out, map ? "}" : "]", 1);
        return 0;
}

/* ---- messages ---- */

struct message {
        struct mr_view role;
        bool has_role;
        struct pull_item content;
        struct pull content_at; /* behind its head: the parts */
        struct body_span content_json;
};

/* Parts are maps or plain strings. */
static int parts_check(struct writer *w, struct pull at, uint32_t n, uint32_t message) {
        for (uint32_t i = 0; i < n; i++) {
                struct pull part = at;
                struct pull_item item;

                if (pull_item(&part, &item) < 0 || pull_value(&at, NULL) < 0)
                        return BAD(w->error, "messages: not msgpack");
                if (item.type != PULL_MAP && item.type != PULL_STR)
                        return BAD(w->error, "messages[%u].content[%u]: expected a part, got %s",
                                        message, i, pull_type_name(item.type));
        }
        return 0;
}

static int message_member(struct writer *w, struct pull *from, struct mr_view key, uint32_t i,
                struct message *ret) {
        struct pull value = *from;
        struct pull_item item;
        uint32_t start = w->out.len;

        if (pull_item(&value, &item) < 0)
                return BAD(w->error, "messages: not msgpack");
        if (is_text(key, "role")) {
                if (item.type != PULL_STR)
                        return BAD(w->error, "messages[%u].role: expected a string, got %s", i,
                                        pull_type_name(item.type));
                ret->role = item.view;
                ret->has_role = true;
        }
        if (is_text(key, "content") && item.type != PULL_STR && item.type != PULL_ARRAY &&
                        item.type != PULL_NIL)
                return BAD(w->error,
                                "messages[%u].content: expected a string or an array of parts, got "
                                "%s",
                                i, pull_type_name(item.type));
        if (is_text(key, "content") && item.type == PULL_ARRAY &&
                        parts_check(w, value, item.count, i))
                return (int)w->error->code;
        if (put_value(w, from, 3))
                return (int)w->error->code;
        if (is_text(key, "content")) {
                ret->content = item;
                ret->content_at = value;
                ret->content_json = item.type == PULL_NIL
                                                    ? (struct body_span){0}
                                                    : (struct body_span){start, w->out.len - start};
        }
        return 0;
}

static int message_put(struct writer *w, struct pull *from, uint32_t i, struct message *ret) {
        struct pull_item map = {0}, key;

        *ret = (struct message){.content.type = PULL_NIL};
        if (pull_item(from, &map) < 0 || map.type != PULL_MAP)
                return BAD(w->error, "messages[%u]: expected a map, got %s", i,
                                pull_type_name(map.type));
        json_put(&w->out, "{", 1);
        for (uint32_t k = 0; k < map.count; k++) {
                if (pull_item(from, &key) < 0 || key.type != PULL_STR)
                        return BAD(w->error, "messages[%u]: a key is not a string", i);
                if (k > 0)
                        json_put(&w->out, ",", 1);
                if (put_text(w, key.view))
                        return (int)w->error->code;
                json_put(&w->out, ":", 1);
                if (message_member(w, from, key.view, i, ret))
                        return (int)w->error->code;
        }
        json_put(&w->out, "}", 1);
        if (!ret->has_role)
                return BAD(w->error, "messages[%u].role: missing", i);
        /* An assistant may have called tools instead; other roles are the backend's to judge. */
        if (ret->content.type == PULL_NIL &&
                        (is_text(ret->role, "user") || is_text(ret->role, "system")))
                return BAD(w->error, "messages[%u].content: missing", i);
        return 0;
}

static void query_add(struct body_found *found, struct mr_view text) {
        uint32_t room = BODY_QUERY_MAX - found->query_len;
        uint32_t n = json_utf8_cut(text.p, text.n, room);

        if (n == 0)
                return;
        memcpy(found->query + found->query_len, text.p, n);
        found->query_len += n;
}

/* The text of one part: a string, or the text of a map whose type is text. */
static struct mr_view part_text(struct pull *from) {
        struct pull_item part, key, value;
        struct mr_view text = {0};
        bool other = false;

        if (pull_item(from, &part) < 0 || part.type != PULL_MAP)
                return part.type == PULL_STR ? part.view : text;
        for (uint32_t i = 0; i < part.count; i++) {
                struct pull at;

                if (pull_item(from, &key) < 0)
                        return text;
                at = *from;
                if (pull_value(from, NULL) < 0 || pull_item(&at, &value) < 0)
                        return text;
                if (value.type == PULL_STR && is_text(key.view, "text"))
                        text = value.view;
                if (value.type == PULL_STR && is_text(key.view, "type"))
                        other = !is_text(value.view, "text") && !is_text(value.view, "input_text");
        }
        return other ? (struct mr_view){0} : text;
}

static void query_of(struct body_found *found, const struct message *m) {
        struct pull from = m->content_at;

        body_query_next(found);
        found->query_len = 0;
        if (m->content.type == PULL_STR)
                query_add(found, m->content.view);
        if (m->content.type != PULL_ARRAY)
                return;
        for (uint32_t i = 0; i < m->content.count; i++) {
                struct pull at = from;
                struct mr_view text = part_text(&at);

                if (text.n > 0 && found->query_len > 0)
                        query_add(found, (struct mr_view){"\n", 1});
                query_add(found, text);
                if (pull_value(&from, NULL) < 0)
                        return;
        }
}

static int messages_put(struct writer *w, struct mr_view messages, struct body_found *found) {
        struct pull from = {(const uint8_t *)messages.p, (const uint8_t *)messages.p + messages.n};
        struct body_marks *marks = &found->marks;
        struct pull_item array;

        if (pull_item(&from, &array) < 0 || array.count == 0)
                return BAD(w->error, "messages: expected at least one message");
        marks->messages.off = w->out.len;
        json_put(&w->out, "[", 1);
        for (uint32_t i = 0; i < array.count; i++) {
                struct message m;
                struct body_span span;

                if (i > 0)
                        json_put(&w->out, ",", 1);
                span.off = w->out.len;
                if (message_put(w, &from, i, &m))
                        return (int)w->error->code;
                span.len = w->out.len - span.off;
                if (is_text(m.role, "user"))
                        query_of(found, &m);
                body_marks_message(marks, body_role_of(m.role.p, m.role.n), span, m.content_json);
        }
        json_put(&w->out, "]", 1);
        marks->messages.len = w->out.len - marks->messages.off;
        return 0;
}

static int prompt_put(struct writer *w, struct mr_view prompt, struct body_found *found) {
        struct body_marks *marks = &found->marks;

        marks->messages.off = w->out.len;
        json_put_text(&w->out, "[{\"role\":\"user\",\"content\":");
        marks->last_user.off = w->out.len;
        if (put_text(w, prompt))
                return (int)w->error->code;
        marks->last_user.len = w->out.len - marks->last_user.off;
        json_put_text(&w->out, "}]");
        marks->messages.len = w->out.len - marks->messages.off;
        body_marks_message(marks, BODY_ROLE_USER,
                        (struct body_span){marks->messages.off + 1, marks->messages.len - 2},
                        marks->last_user);
        query_add(found, prompt);
        return 0;
}

/* ---- params ---- */

static bool is_stop(struct pull from) {
        struct pull_item item;

        if (pull_item(&from, &item) < 0)
                return false;
        if (item.type == PULL_STR)
                return true;
        if (item.type != PULL_ARRAY)
                return false;
        for (uint32_t n = item.count; n > 0; n--)
                if (pull_item(&from, &item) < 0 || item.type != PULL_STR)
                        return false;
        return true;
}

/* What a known param must be, NULL when it is that. */
static const char *param_wants(struct mr_view key, struct pull at, const struct pull_item *item) {
        bool integer = item->type == PULL_UINT || item->type == PULL_INT;

        if (is_text(key, "max_tokens"))
                return item->type == PULL_UINT && item->v.u > 0 ? NULL : "an integer above 0";
        if (is_text(key, "seed"))
                return integer ? NULL : "an integer";
        if (is_text(key, "stop"))
                return is_stop(at) ? NULL : "a string or an array of strings";
        return integer || item->type == PULL_FLOAT ? NULL : "a number";
}

/* The known members of `params`, comma separated, each with a comma in front when `comma` says so.
 */
static int params_put(
                struct writer *w, struct mr_view params, bool comma, struct compose_bounds *bounds) {
        static const char *const known[] = {"temperature", "top_p", "max_tokens", "stop", "seed"};
        struct pull from;
        struct pull_item map, key, item;

        if (params.n == 0)
                return 0;
        from = (struct pull){(const uint8_t *)params.p, (const uint8_t *)params.p + params.n};
        if (pull_item(&from, &map) < 0)
                return BAD(w->error, "params: not msgpack");
        for (uint32_t i = 0; i < map.count; i++) {
                struct pull at, value;
                const char *name = NULL, *wants;

                if (pull_item(&from, &key) < 0)
                        return BAD(w->error, "params: not msgpack");
                at = value = from;
                if (pull_value(&from, NULL) < 0 || pull_item(&value, &item) < 0)
                        return BAD(w->error, "params: not msgpack");
                for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
                        if (key.type == PULL_STR && is_text(key.view, known[k]))
                                name = known[k];
                if (!name || item.type == PULL_NIL)
                        continue;
                wants = param_wants(key.view, at, &item);
                if (wants)
                        return BAD(w->error, "params.%s: expected %s, got %s", name, wants,
                                        pull_type_name(item.type));
                if (comma)
                        json_put(&w->out, ",", 1);
                comma = true;
                json_put_string(&w->out, name, (uint32_t)strlen(name));
                json_put(&w->out, ":", 1);
                uint32_t from_byte = w->out.len;
                if (put_value(w, &at, 2))
                        return (int)w->error->code;
                if (is_text(key.view, "max_tokens"))
                        bounds->max_tokens = (struct body_span){from_byte, w->out.len - from_byte};
                else if (is_text(key.view, "stop"))
                        bounds->stop = (struct body_span){from_byte, w->out.len - from_byte};
        }
        return 0;
}

/* ---- whole requests ---- */

static int build_once(struct composer *composer, const struct ask *ask, struct writer *w,
                struct compose_bounds *bounds) {
        struct body_found *found = &composer->found;

        found->marks = (struct body_marks){0};
        found->query_len = found->earlier_len = 0;
        json_put_text(&w->out, "{\"messages\":");
        if (ask->content == CONTENT_PROMPT ? prompt_put(w, ask->text, found)
                                           : messages_put(w, ask->messages, found))
                return (int)w->error->code;
        w->where = "params";
        *bounds = (struct compose_bounds){0};
        if (params_put(w, ask->params, true, bounds))
                return (int)w->error->code;
        found->marks.max_tokens = bounds->max_tokens;
        found->marks.object_end = w->out.len;
        json_put(&w->out, "}", 1);
        return 0;
}

static int build(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *error) {
        bool prompt = ask->content == CONTENT_PROMPT;
        struct compose_bounds bounds;

        if (composer_begin(composer, error))
                return (int)error->code;
        for (;;) {
                struct writer w = {.out = composer_buf(composer),
                                .where = prompt ? "prompt" : "messages",
                                .error = error};

                if (build_once(composer, ask, &w, &bounds))
                        return (int)error->code;
                if (composer_fits(composer, &w.out)) {
                        ret->body = (struct mr_view){w.out.at, w.out.len};
                        compose_bound(ret, w.out.at, &bounds, 1);
                        return compose_bounds_check(ret, error);
                }
                if (composer_more(composer, &w.out,
                                    prompt ? "prompt: with params" : "messages: with params", error))
                        return (int)error->code;
        }
}

/* ---- a client's own body ---- */

/* The text of one of the body's strings: a name, as it is elsewhere. */
static int name_read(struct mr_view body, struct body_span span, const char *member,
                char to[static ASK_NAME_MAX + JSON_CHAR_MAX], struct mr_view *ret,
                struct ask_error *error) {
        char where[BODY_MEMBER_MAX + 8];

        if (span.len <= 2)
                return 0;
        snprintf(where, sizeof(where), "body: %s", member);
        ret->p = to;
        /* What is cut is longer than a name may be. */
        if (json_unescape(body.p + span.off, span.len, to, ASK_NAME_MAX + JSON_CHAR_MAX, &ret->n) <
                        0)
                ask_fail(error, MR_E_invalid_request, "%s: not a name", where);
        else if (ask_text_check(where, *ret, ASK_NAME_MAX, error) == 0)
                return 0;
        snprintf(error->param, sizeof(error->param), "%s", member);
        return (int)error->code;
}

static int take(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *error) {
        const struct body_found *found = &composer->found;
        struct compose_bounds bounds = {0};
        struct writer w = {.out = {composer->params, 0, COMPOSE_PARAMS_MAX, false},
                        .where = "params",
                        .error = error};

        if (compose_body(composer, ask, ret, error) || params_put(&w, ask->params, false, &bounds))
                return (int)error->code;
        if (w.out.full)
                return BAD(error, "params: longer than %u bytes", COMPOSE_PARAMS_MAX);
        if (name_read(ret->body, found->marks.model, "model", composer->model, &ret->model, error))
                return (int)error->code;
        if (ask->body_decides &&
                        name_read(ret->body, body_session(found), body_session_name(found),
                                        composer->session, &ret->session, error))
                return (int)error->code;
        if (ask->body_decides && found->stream)
                ret->options |= OPTION_STREAM;
        if (found->usage_asked)
                ret->options |= OPTION_USAGE_ASKED;
        ret->params = (struct mr_view){composer->params, w.out.len};
        compose_bound(ret, ret->body.p, &(struct compose_bounds){found->stop, found->marks.max_tokens}, found->n_answers);
        compose_bound(ret, composer->params, &bounds, found->n_answers);
        if (found->n_answers > 1)
                ret->options |= OPTION_CHOICES;
        if (found->format.len > 0)
                ret->response_format = (struct mr_view){ret->body.p + found->format.off, found->format.len};
        return compose_bounds_check(ret, error);
}

/* A hash over the hashes of the parts, each with its place, so that no two requests read alike. */
static void digest(const struct ask *ask, uint64_t ret[2]) {
        struct mr_view content = ask->content == CONTENT_MESSAGES ? ask->messages : ask->text;
        const struct mr_view parts[] = {content, ask->model, ask->system, ask->template_name,
                        ask->vars, ask->params, ask->collections, ask->filter};
        enum { PARTS_N = sizeof(parts) / sizeof(parts[0]) };
        struct {
                uint64_t tag;
                struct {
                        uint64_t low, high, n;
                } part[PARTS_N];
        } all = {.tag = (uint64_t)ask->content | (uint64_t)ask->kind << 8};
        XXH128_hash_t hash;

        for (int i = 0; i < PARTS_N; i++) {
                if (parts[i].n == 0)
                        continue;
                hash = XXH3_128bits(parts[i].p, parts[i].n);
                all.part[i].low = hash.low64;
                all.part[i].high = hash.high64;
                all.part[i].n = parts[i].n;
        }
        hash = XXH3_128bits(&all, sizeof(all));
        ret[0] = hash.high64;
        ret[1] = hash.low64;
}

int compose(struct composer *composer, const struct ask *ask, struct composed *ret,
                struct ask_error *ret_error) {
        *ret = (struct composed){0};
        ret_error->code = MR_E_none;
        if (ask->content == CONTENT_BODY ? take(composer, ask, ret, ret_error)
                                         : build(composer, ask, ret, ret_error))
                return (int)ret_error->code;
        if (ask->content != CONTENT_BODY)
                ret->options |= OPTION_BODY_BUILT;
        ret->marks = composer->found.marks;
        ret->query = (struct mr_view){composer->found.query, composer->found.query_len};
        ret->earlier = (struct mr_view){composer->found.earlier, composer->found.earlier_len};
        if (ask->model.n > 0)
                ret->model = ask->model;
        if (ask->session.n > 0)
                ret->session = ask->session;
        digest(ask, ret->digest);
        return 0;
}

/* ---- what was found, for later ---- */

enum { TEXTS_N = 8 };

static void texts_of(struct composed *made, struct mr_view *ret[static TEXTS_N]) {
        ret[0] = &made->body;
        ret[1] = &made->query;
        ret[2] = &made->params;
        ret[3] = &made->model;
        ret[4] = &made->session;
        ret[5] = &made->earlier;
        ret[6] = &made->stop;
        ret[7] = &made->response_format;
}

static bool lies_in(struct mr_view text, struct mr_view frame) {
        return text.n > 0 && text.p >= frame.p && text.p + text.n <= frame.p + frame.n;
}

bool composed_keeps(const struct composed *made) {
        return !(made->options & OPTION_BODY_BUILT);
}

uint32_t composed_texts(const struct composed *made, struct mr_view frame) {
        struct composed copy = *made;
        struct mr_view *texts[TEXTS_N];
        uint32_t n = 0;

        texts_of(&copy, texts);
        for (int i = 0; i < TEXTS_N; i++)
                if (!lies_in(*texts[i], frame))
                        n += texts[i]->n;
        return n;
}

void composed_keep(struct composed *ret, const struct composed *made, struct mr_view frame,
                const uint8_t *copy, char *texts) {
        struct mr_view *views[TEXTS_N];

        *ret = *made;
        texts_of(ret, views);
        for (int i = 0; i < TEXTS_N; i++) {
                struct mr_view *v = views[i];

                if (lies_in(*v, frame)) {
                        v->p = (const char *)copy + (v->p - frame.p);
                } else if (v->n > 0) {
                        memcpy(texts, v->p, v->n);
                        v->p = texts;
                        texts += v->n;
                }
        }
}
