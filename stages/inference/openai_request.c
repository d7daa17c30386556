#include "stages/inference/openai_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/inference/inference.h"
#include "stages/inference/request_body.h"
#include "stages/inference/routes.h"
#include "stages/inference/splice.h"

#define EDITS_MAX 4u
#define VALUE_MAX 1024u /* of a value that is looked at before it is edited */
#define MODEL_MAX 2048u
#define INCLUDE_USAGE "\"include_usage\":true"

struct build {
        struct flight *f;
        struct body_marks marks;
        struct splice_edit edits[EDITS_MAX];
        uint32_t n_edits;
        char model[MODEL_MAX]; /* JSON string */
        char options[VALUE_MAX + 64];
        char tail[MODEL_MAX + 128]; /* members that the body does not have */
        char *params;               /* tail with params before it */
        struct json_buf tail_buf;
        char *out;
        uint64_t len, cap;
};

static void edit(struct build *b, struct body_span span, const char *text, uint32_t n) {
        b->edits[b->n_edits++] = (struct splice_edit){span.off, span.len, text, n};
}

/* A member that the body lacks goes to its end. */
static void append(struct build *b, const char *name, const char *value, uint32_t n) {
        json_put_text(&b->tail_buf, b->tail_buf.len ? "," : "");
        json_put_text(&b->tail_buf, name);
        json_put(&b->tail_buf, value, n);
}

/* The value as it stands, if it is short enough to be looked at: else *ret_len is 0. */
static int value_read(struct build *b, struct body_span span, char to[static VALUE_MAX],
                uint32_t *ret_len) {
        *ret_len = span.len <= VALUE_MAX ? span.len : 0;
        return request_body_copy(b->f, span.off, *ret_len, to);
}

/* The worker's name for the model, else the one that the client gave. A value that says the same
 * already stays as it is. */
static int edit_model(struct build *b) {
        const struct record *record = flight_record(b->f);
        const char *configured = b->f->backend->settings->model;
        struct json_buf buf = {.at = b->model, .cap = sizeof(b->model)};
        char value[VALUE_MAX], name[VALUE_MAX];
        struct mr_view want = {NULL, 0};
        uint32_t n, name_len;
        int r;

        if (configured)
                want = (struct mr_view){configured, (uint32_t)strlen(configured)};
        else if (record->has & HAS(model))
                want = record->model;
        if (want.n == 0)
                return 0;
        json_put_string(&buf, want.p, want.n);
        if (buf.full)
                return -EPROTO;
        if (b->marks.model.len == 0) {
                append(b, "\"model\":", buf.at, buf.len);
                return 0;
        }
        r = value_read(b, b->marks.model, value, &n);
        if (r)
                return r;
        if (n == 0 || json_unescape(value, n, name, sizeof(name), &name_len) ||
                        name_len != want.n || memcmp(name, want.p, want.n) != 0)
                edit(b, b->marks.model, buf.at, buf.len);
        return 0;
}

/* Answers always come as a stream; who wants them whole gets that from the gateway. */
static int edit_stream(struct build *b) {
        char value[VALUE_MAX];
        uint32_t n;
        int r;

        if (b->marks.stream.len == 0) {
                append(b, "\"stream\":", "true", 4);
                return 0;
        }
        r = value_read(b, b->marks.stream, value, &n);
        if (r == 0 && (n != 4 || memcmp(value, "true", 4) != 0))
                edit(b, b->marks.stream, "true", 4);
        return r;
}

static bool is_space(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Usage is always asked for, and counted; what else the object says stays. Of two members of one
 * name the last counts. */
static int edit_options(struct build *b) {
        const struct record *record = flight_record(b->f);
        struct json_buf buf = {.at = b->options, .cap = sizeof(b->options)};
        char value[VALUE_MAX];
        uint32_t n, last;
        int r;

        if (record->has & HAS(options) && record->options & OPTION_USAGE_ASKED)
                return 0;
        if (b->marks.stream_options.len == 0) {
                append(b, "\"stream_options\":", "{" INCLUDE_USAGE "}",
                                sizeof("{" INCLUDE_USAGE "}") - 1);
                return 0;
        }
        r = value_read(b, b->marks.stream_options, value, &n);
        if (r)
                return r;
        if (n >= 2 && value[0] == '{') {
                last = n - 2;
                while (last > 0 && is_space(value[last]))
                        last--;
                json_put(&buf, value, n - 1);
                json_put_text(&buf, last == 0 ? INCLUDE_USAGE "}" : "," INCLUDE_USAGE "}");
        } else {
                json_put_text(&buf, "{" INCLUDE_USAGE "}");
        }
        edit(b, b->marks.stream_options, buf.at, buf.len);
        return 0;
}

/* All new members in one place, before the closing brace: the request's params first. */
static int insert_tail(struct build *b) {
        const struct record *record = flight_record(b->f);
        uint32_t params = record->has & HAS(params) ? record->params.n : 0;
        /* Only a body that was built here may have neither of them. */
        bool comma = b->marks.messages.len || b->marks.model.len ||
                     b->f->endpoint != ENDPOINT_CHAT;
        struct json_buf buf;

        if (params == 0 && b->tail_buf.len == 0)
                return 0;
        buf = (struct json_buf){.cap = params + b->tail_buf.len + 2};
        b->params = buf.at = malloc(buf.cap);
        if (!buf.at)
                return -ENOMEM;
        json_put_text(&buf, comma ? "," : "");
        if (params)
                json_put(&buf, record->params.p, params);
        json_put_text(&buf, params && b->tail_buf.len ? "," : "");
        json_put(&buf, b->tail_buf.at, b->tail_buf.len);
        edit(b, (struct body_span){b->marks.object_end, 0}, buf.at, buf.len);
        return 0;
}

static int put_run(void *ctx, const struct splice_piece *run) {
        struct build *b = ctx;
        int r = 0;

        if (run->len > b->cap - b->len)
                return -EPROTO;
        if (run->literal)
                memcpy(b->out + b->len, run->literal, run->len);
        else
                r = request_body_copy(b->f, run->off, run->len, b->out + b->len);
        b->len += run->len;
        return r;
}

/* assemble's pieces: [offset, length] of the body, literal bytes, or [offset, length, literal] where they
 * stand in the place of some of the body. None: the body as it is. */
static int read_pieces(struct build *b, struct splice_piece **ret, uint32_t *ret_n) {
        const struct record *record = flight_record(b->f);
        const msgpack_object *list = record->has & HAS(pieces) ? record->pieces : NULL;
        uint32_t n = list && list->type == MSGPACK_OBJECT_ARRAY ? list->via.array.size : 0;
        struct splice_piece *pieces = calloc(n + 1, sizeof(*pieces));

        if (!pieces)
                return -ENOMEM;
        *ret = pieces;
        *ret_n = list ? n : 1;
        pieces[0].len = request_body_len(b->f);
        for (uint32_t i = 0; i < n; i++) {
                const msgpack_object *item = &list->via.array.ptr[i];
                struct body_span span = {0, 0};
                const msgpack_object *literal;
                if (request_piece(item, &span, &literal)) {
                        free(pieces);
                        return -EPROTO;
                }
                if (literal)
                        pieces[i] = (struct splice_piece){.literal = literal->via.bin.ptr,
                                        .len = literal->via.bin.size};
                else
                        pieces[i] = (struct splice_piece){.off = span.off, .len = span.len};
        }
        return 0;
}

static int build_body(struct build *b) {
        struct splice_piece *pieces;
        uint32_t n;
        int r = read_pieces(b, &pieces, &n);

        if (r)
                return r;
        for (uint32_t i = 0; i < n; i++)
                b->cap += pieces[i].len;
        for (uint32_t i = 0; i < b->n_edits; i++)
                b->cap += b->edits[i].n;
        b->out = malloc(b->cap + 1);
        splice_sort(b->edits, b->n_edits);
        r = b->out ? splice(pieces, n, b->edits, b->n_edits, request_body_len(b->f), put_run, b)
                   : -ENOMEM;
        free(pieces);
        return r;
}

int openai_request_build(struct flight *f, char **ret, uint64_t *ret_len) {
        struct build b = {.f = f};
        int r = request_body_marks(f, &b.marks);

        b.tail_buf = (struct json_buf){.at = b.tail, .cap = sizeof(b.tail)};
        if (r == 0)
                r = edit_model(&b);
        if (r == 0 && f->endpoint != ENDPOINT_EMBEDDINGS)
                r = edit_stream(&b);
        if (r == 0 && f->endpoint != ENDPOINT_EMBEDDINGS)
                r = edit_options(&b);
        if (r == 0)
                r = insert_tail(&b);
        if (r == 0)
                r = build_body(&b);
        free(b.params);
        if (r) {
                free(b.out);
                return r;
        }
        *ret = b.out;
        *ret_len = b.len;
        return 0;
}
