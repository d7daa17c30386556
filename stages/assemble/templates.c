#include "stages/assemble/templates.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/assemble/earlier.h"
#include "stages/assemble/measure.h"
#include "stages/common/log.h"
#include "stages/engines/json/walk.h"

#define BUILTIN ((struct mustache_text){"builtin", 7})
#define NO_KEY ((struct mustache_text){"", 0})
#define KEY(name) ((struct mustache_text){"" name, sizeof(name) - 1})
#define VARS_DEPTH_MAX 16u

/* The last user message: its text lies in one string, or in parts among others. */
struct question {
        struct body_span content; /* len 0: there is none that could be rendered */
        struct body_span texts[PROMPT_TEXTS]; /* inside of the quotes */
        struct body_span gone[PROMPT_TEXTS];  /* parts of text behind the first, with their comma */
        uint32_t n_texts, n_gone;
        bool in_parts;
        bool no_parts; /* in_parts, but there are none */
};

/* ---- the folder ---- */

int templates_init(struct templates *t, const struct settings *settings) {
        const char *path = settings->assemble.templates;
        const char *name = settings->assemble.default_template;
        int r = mustache_data_new(&t->data);

        t->default_name = (struct mustache_text){name, (uint32_t)strlen(name)};
        if (!r && path) {
                int gone = mustache_folder_load(path, &t->folder);
                if (gone)
                        log_error("templates", "path=\"%s\" error=\"%s\"", path, strerror(-gone));
        }
        for (uint32_t i = 0; i < t->folder.n; i++)
                if (!t->folder.files[i].t)
                        log_error("template", "name=\"%s\" line=%u column=%u error=\"%s\"",
                                        t->folder.files[i].name, t->folder.files[i].err.line,
                                        t->folder.files[i].err.column, t->folder.files[i].err.text);
        return r ? r : few_shot_init(&t->few_shot, settings, &t->folder);
}

void templates_close(struct templates *t) {
        few_shot_close(&t->few_shot);
        mustache_folder_clear(&t->folder);
        mustache_output_clear(&t->out);
        t->data = mustache_data_free(t->data);
}

static bool is_same(struct mustache_text a, struct mustache_text b) {
        return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* The template that takes this model's requests. */
static const struct mustache_file *by_model(const struct templates *t, const struct record *record) {
        if (!(record->has & HAS(model)))
                return NULL;
        for (uint32_t i = 0; i < t->folder.n; i++)
                for (uint32_t k = 0; k < t->folder.files[i].front.n_models; k++) {
                        const char *model = t->folder.files[i].front.models[k];
                        if (strlen(model) == record->model.n &&
                                        memcmp(model, record->model.p, record->model.n) == 0)
                                return &t->folder.files[i];
                }
        return NULL;
}

static int named(const struct templates *t, struct mustache_text name,
                const struct mustache_file **ret, char *message) {
        if (is_same(name, BUILTIN))
                return 0;
        *ret = mustache_folder_find(&t->folder, name);
        if (*ret)
                return 0;
        snprintf(message, PROMPT_MESSAGE_MAX,
                        "template (x-millrace-template): none is named '%.*s'; expected builtin%s",
                        name.n > 64 ? 64 : (int)name.n, name.p,
                        t->folder.n ? " or one of assemble.templates" : "");
        return PROMPT_E_TEMPLATE;
}

int templates_choose(const struct templates *t, const struct record *record,
                const struct mustache_file **ret, char *message) {
        uint64_t endpoint = record->has & HAS(endpoint) ? record->endpoint : ENDPOINT_CHAT;
        bool asked = record->has & HAS(template) && record->template.n;
        struct mustache_text name = t->default_name;

        *ret = NULL;
        if (asked)
                name = (struct mustache_text){record->template.p, record->template.n};
        if (!asked && endpoint != ENDPOINT_CHAT)
                return 0;
        if (!asked)
                *ret = by_model(t, record);
        if (*ret)
                return 0;
        int r = named(t, name, ret, message);
        if (r || !*ret || endpoint == ENDPOINT_CHAT)
                return r;
        snprintf(message, PROMPT_MESSAGE_MAX, "template: only chats take one");
        return PROMPT_E_TEMPLATE;
}

/* ---- what it is rendered with ---- */

static void put_text(struct mustache_data *data, struct mustache_text key, struct mr_view text) {
        mustache_data_put(data, key, DATA_TEXT, (struct mustache_text){text.p, text.n});
}

static void put_printed(
                struct mustache_data *data, struct mustache_text key, const char *digits) {
        mustache_data_put(data, key, DATA_NUMBER, mustache_data_copy(data, digits, strlen(digits)));
}

/* A document's text without what could be taken for the marks around it. */
static struct mustache_text document_text(struct mustache_data *data, struct mr_view text) {
        const char *instead;
        uint32_t at = prompt_delimiter(text.p, text.n, 0, &instead), from = 0, n = 0;
        char *to;

        if (at == text.n)
                return (struct mustache_text){text.p, text.n};
        to = malloc((size_t)text.n * 4);
        if (!to)
                return NO_KEY;
        for (; at < text.n; at = prompt_delimiter(text.p, text.n, from, &instead)) {
                memcpy(to + n, text.p + from, at - from);
                n += at - from;
                memcpy(to + n, instead, strlen(instead));
                n += (uint32_t)strlen(instead);
                from = at + 1;
        }
        memcpy(to + n, text.p + from, text.n - from);
        struct mustache_text copy = mustache_data_copy(data, to, n + text.n - from);
        free(to);
        return copy;
}

static void put_document(struct mustache_data *data, uint32_t n, const msgpack_object *row) {
        struct mr_view url = prompt_column(row, DOCUMENT_URL), id = prompt_column(row, DOCUMENT_ID);
        char number[16];

        snprintf(number, sizeof(number), "%u", n);
        mustache_data_open(data, NO_KEY, DATA_MAP);
        put_printed(data, KEY("n"), number);
        put_text(data, KEY("title"), prompt_column(row, DOCUMENT_TITLE));
        mustache_data_put(data, KEY("text"), DATA_TEXT,
                        document_text(data, prompt_column(row, DOCUMENT_TEXT)));
        put_text(data, KEY("source"), url.n ? url : id);
        put_text(data, KEY("url"), url);
        mustache_data_close(data);
}

/* As many as there is room for, best first. */
static uint32_t put_documents(struct mustache_data *data, const struct prompt *prompt,
                const struct record *record, uint64_t tokens) {
        const msgpack_object *list = record->has & HAS(documents) ? record->documents : NULL;
        uint32_t n = 0;

        mustache_data_open(data, KEY("documents"), DATA_LIST);
        while (list && list->type == MSGPACK_OBJECT_ARRAY && n < list->via.array.size &&
                        prompt_is_document(&list->via.array.ptr[n])) {
                const msgpack_object *row = &list->via.array.ptr[n];
                struct mr_view text = prompt_column(row, DOCUMENT_TEXT),
                               title = prompt_column(row, DOCUMENT_TITLE);
                uint64_t cost = measure_text(prompt, text.p, text.n) +
                                measure_text(prompt, title.p, title.n);
                if (cost > tokens)
                        break;
                tokens -= cost;
                put_document(data, ++n, row);
        }
        mustache_data_close(data);
        return n;
}

static void put_object(struct mustache_data *data, struct mustache_text key,
                const msgpack_object *o, unsigned depth);

static void put_container(struct mustache_data *data, struct mustache_text key,
                const msgpack_object *o, unsigned depth) {
        bool map = o->type == MSGPACK_OBJECT_MAP;
        uint32_t n = map ? o->via.map.size : o->via.array.size;

        mustache_data_open(data, key, map ? DATA_MAP : DATA_LIST);
        for (uint32_t i = 0; depth < VARS_DEPTH_MAX && i < n; i++) {
                const msgpack_object *k = map ? &o->via.map.ptr[i].key : NULL;
                if (!map)
                        put_object(data, NO_KEY, &o->via.array.ptr[i], depth + 1);
                else if (k->type == MSGPACK_OBJECT_STR)
                        put_object(data, (struct mustache_text){k->via.str.ptr, k->via.str.size},
                                        &o->via.map.ptr[i].val, depth + 1);
        }
        mustache_data_close(data);
}

static void put_object(struct mustache_data *data, struct mustache_text key,
                const msgpack_object *o, unsigned depth) {
        char digits[40];

        switch (o->type) {
        case MSGPACK_OBJECT_BOOLEAN:
                mustache_data_put(data, key, o->via.boolean ? DATA_TRUE : DATA_FALSE,
                                o->via.boolean ? KEY("true") : KEY("false"));
                return;
        case MSGPACK_OBJECT_POSITIVE_INTEGER:
                snprintf(digits, sizeof(digits), "%llu", (unsigned long long)o->via.u64);
                put_printed(data, key, digits);
                return;
        case MSGPACK_OBJECT_NEGATIVE_INTEGER:
                snprintf(digits, sizeof(digits), "%lld", (long long)o->via.i64);
                put_printed(data, key, digits);
                return;
        case MSGPACK_OBJECT_FLOAT32:
        case MSGPACK_OBJECT_FLOAT64:
                snprintf(digits, sizeof(digits), "%.15g", o->via.f64);
                put_printed(data, key, digits);
                return;
        case MSGPACK_OBJECT_STR:
                put_text(data, key, (struct mr_view){o->via.str.ptr, o->via.str.size});
                return;
        case MSGPACK_OBJECT_ARRAY:
        case MSGPACK_OBJECT_MAP:
                put_container(data, key, o, depth);
                return;
        case MSGPACK_OBJECT_NIL:
        case MSGPACK_OBJECT_BIN:
        case MSGPACK_OBJECT_EXT:
                mustache_data_put(data, key, DATA_NULL, NO_KEY);
                return;
        }
}

/* ---- the question ---- */

static bool is_text_part(struct json_text part, struct json_text *ret_text) {
        struct json_text inside = json_inside(part), type;

        return part.n && part.p[0] == '{' && json_find(inside, "type", &type) && type.n == 6 &&
               memcmp(type.p, "\"text\"", 6) == 0 && json_find(inside, "text", ret_text) &&
               ret_text->n >= 2 && ret_text->p[0] == '"';
}

static int question_parts(struct question *q, const char *bytes) {
        struct json_walk walk =
                        json_walk_in(json_inside((struct json_text){bytes, q->content.len}));
        struct json_text part, text;
        uint32_t end = 1;

        q->in_parts = q->no_parts = true;
        while (json_walk_element(&walk, &part) == 0) {
                uint32_t before = end;
                end = (uint32_t)(part.p - bytes) + part.n;
                q->no_parts = false;
                if (!is_text_part(part, &text))
                        continue;
                if (q->n_texts == PROMPT_TEXTS)
                        return PROMPT_E_TOO_LARGE;
                if (q->n_texts > 0)
                        q->gone[q->n_gone++] = (struct body_span){
                                        q->content.off + before, end - before};
                q->texts[q->n_texts++] = (struct body_span){
                                q->content.off + (uint32_t)(text.p - bytes) + 1, text.n - 2};
        }
        return 0;
}

/* The content as it lies in the body. */
static int content_read(struct prompt *prompt, const struct prompt_source *src) {
        const struct body_span *span = &src->marks->last_user;

        int r = prompt_content_room(prompt, span->len);

        return r ? r : prompt_body_copy(src->record, src->arena, span->off, span->len, prompt->content);
}

static int question_find(struct prompt *prompt, const struct prompt_source *src, struct question *q) {
        const struct body_span *span = &src->marks->last_user;
        char kind = 0;
        int r = span->len ? prompt_body_copy(src->record, src->arena, span->off, 1, &kind) : 0;

        *q = (struct question){.content = *span};
        if (r)
                return r;
        if (kind == '"' && span->len >= 2) {
                q->texts[q->n_texts++] = (struct body_span){span->off + 1, span->len - 2};
                return 0;
        }
        if (kind != '[') {
                q->content.len = 0;
                return 0;
        }
        r = content_read(prompt, src);
        return r ? r : question_parts(q, prompt->content);
}

/* Where it has to be escaped: the question itself, not where it lies. */
static int put_decoded(struct templates *t, struct prompt *prompt, const struct prompt_source *src,
                const struct question *q) {
        uint32_t cap = q->content.len, n = 0, got;
        int r = content_read(prompt, src);
        char *to = r ? NULL : malloc(cap ? cap : 1);

        if (!to)
                return r ? r : PROMPT_E_TOO_LARGE;
        for (uint32_t i = 0; !r && i < q->n_texts; i++) {
                const struct body_span *s = &q->texts[i];
                if (i > 0)
                        to[n++] = '\n';
                if (json_unescape(prompt->content + (s->off - 1 - q->content.off), s->len + 2,
                                    to + n, cap - n, &got))
                        r = PROMPT_E_GONE;
                else
                        n += got;
        }
        if (!r)
                mustache_data_put(t->data, KEY("prompt"), DATA_TEXT,
                                mustache_data_copy(t->data, to, n));
        free(to);
        return r;
}

/* The client's own bytes are put in where the template has them: they are marked only. */
static int put_prompt(struct templates *t, const struct mustache_file *file, struct prompt *prompt,
                const struct prompt_source *src, const struct question *q) {
        uint64_t n = 0;

        t->marks.text = NULL;
        if (file->front.escape == MUSTACHE_ESCAPE_HTML)
                return put_decoded(t, prompt, src, q);
        for (uint32_t i = 0; i < q->n_texts; i++)
                n += q->texts[i].len;
        t->marks.text = "the client's own text";
        mustache_data_put(t->data, KEY("prompt"), DATA_TEXT,
                        (struct mustache_text){t->marks.text, n > 0});
        return 0;
}

/* ---- rendering ---- */

struct finding {
        const struct mustache_folder *folder;
        bool documents; /* one that was found asks for them */
};

static int find(void *ctx, struct mustache_text name, const struct mustache **ret,
                struct mustache_error *err) {
        struct finding *f = ctx;
        const struct mustache_file *file = mustache_folder_find(f->folder, name);

        if (!file)
                return 0;
        if (!file->t) {
                *err = file->err;
                return MUSTACHE_E_SYNTAX;
        }
        f->documents |= mustache_asks_for(file->t, "documents");
        *ret = file->t;
        return 0;
}

static int render(struct templates *t, const struct mustache_file *file, struct prompt *prompt,
                bool *ret_documents) {
        struct finding finding = {.folder = &t->folder};
        struct mustache_options options = {.escape = file->front.escape,
                        .missing_is_error = file->front.missing_is_error,
                        .find = find,
                        .find_ctx = &finding,
                        .marks = t->marks.text ? &t->marks : NULL,
                        .max_bytes = PROMPT_LITERAL_MAX,
                        .max_work = TEMPLATES_WORK_MAX};
        struct mustache_error err = file->err;
        int r = mustache_data_error(t->data);

        if (!file->t)
                r = MUSTACHE_E_SYNTAX;
        else if (!r)
                r = mustache_render(file->t, t->data, &options, &t->out, &err);
        if (r) {
                snprintf(prompt->message, sizeof(prompt->message), "template %.64s:%u:%u: %.190s",
                                err.name[0] ? err.name : file->name, err.line, err.column,
                                r < 0 ? strerror(-r) : err.text);
                return PROMPT_E_RENDER;
        }
        *ret_documents = finding.documents || mustache_asks_for(file->t, "documents");
        return 0;
}

/* ---- into the body ---- */

/* One place where the question stands in the output: what comes before it, then its texts. */
static void put_question(struct prompt *prompt, struct json_buf *lit, const struct question *q,
                struct prompt_edit *edit) {
        for (uint32_t i = 0; i < q->n_texts; i++) {
                if (i > 0)
                        json_put_text(lit, "\\n");
                edit->to = lit->len;
                edit->own = q->texts[i];
                prompt_edit_put(prompt, *edit);
                *edit = (struct prompt_edit){.at = edit->at + edit->skip, .from = lit->len};
        }
}

static void put_output(struct templates *t, struct prompt *prompt, struct json_buf *lit,
                const struct question *q) {
        struct prompt_edit edit = {.at = q->content.off + 1, .from = lit->len};
        uint32_t from = 0, n_marks = t->marks.text ? t->marks.n : 0;

        if (q->n_texts) {
                edit.at = q->texts[0].off;
                edit.skip = q->texts[0].len;
        } else {
                json_put_text(lit, "{\"type\":\"text\",\"text\":\"");
        }
        for (uint32_t i = 0; i < n_marks; i++) {
                uint32_t to = (uint32_t)t->marks.at[i];
                json_put_mended(lit, t->out.p + from, to - from);
                put_question(prompt, lit, q, &edit);
                from = to;
        }
        json_put_mended(lit, t->out.p + from, (uint32_t)t->out.n - from);
        if (!q->n_texts)
                json_put_text(lit, q->no_parts ? "\"}" : "\"},");
        edit.to = lit->len;
        prompt_edit_put(prompt, edit);
        for (uint32_t i = 0; i < q->n_gone; i++)
                prompt_edit_put(prompt, (struct prompt_edit){
                                                        .at = q->gone[i].off, .skip = q->gone[i].len});
}

/* Who has not asked for the template does not miss it. */
static int nothing_to_render(struct prompt *prompt, const struct record *record) {
        if (!(record->has & HAS(template)))
                return 0;
        snprintf(prompt->message, sizeof(prompt->message),
                        "template: there is no user message that it could render");
        return PROMPT_E_RENDER;
}

int templates_render(struct templates *t, const struct mustache_file *file, struct prompt *prompt,
                struct json_buf *lit, const struct prompt_source *src, uint64_t tokens) {
        struct question q;
        bool documents;
        uint32_t n;
        int r = question_find(prompt, src, &q);

        if (r)
                return r;
        if (!q.content.len)
                return nothing_to_render(prompt, src->record);
        mustache_data_reset(t->data);
        mustache_data_open(t->data, NO_KEY, DATA_MAP);
        r = put_prompt(t, file, prompt, src, &q);
        if (src->record->has & HAS(system))
                put_text(t->data, KEY("system"), src->record->system);
        earlier_data(t->data, src->history);
        earlier_examples_data(t->data, src->examples);
        n = put_documents(t->data, prompt, src->record, tokens);
        if (src->record->has & HAS(vars))
                put_object(t->data, KEY("vars"), src->record->vars, 0);
        mustache_data_close(t->data);
        prompt->n_history += src->history.n;
        if (!r)
                r = render(t, file, prompt, &documents);
        if (r)
                return r;
        prompt->n_documents = documents ? n : 0;
        put_output(t, prompt, lit, &q);
        return 0;
}
