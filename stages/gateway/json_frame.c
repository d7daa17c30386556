#include "stages/gateway/json_frame.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "stages/common/pack.h"
#include "stages/gateway/frames.h"
#include "stages/gateway/pull.h"

#define FRAME_KEEP 65536u /* a buffer up to this stays for the next one */
#define MORE_BYTES 64u    /* of a member that is added, beside its text */

/* ---- JSON to msgpack ---- */

struct open {
        uint32_t at, n; /* where its head is to be patched; how many values (of a map: keys) */
        bool map;
};

struct reading {
        yajl_handle parser;
        const char *text;
        uint32_t len, prev; /* end of the token before */
        const struct json_frame_more *more;
        uint32_t n_more;
        bool had[JSON_FRAME_MORE_MAX]; /* the text has it */
        struct pack_buf w;
        uint32_t depth;
        struct open open[FRAMES_DEPTH + 1];
        bool drop;           /* the value that comes next does not count */
        bool body;           /* ... is kept as its text */
        uint32_t skip_depth; /* within such a value: where it began, 0: not within one */
        uint32_t skip_from;
        const char *why; /* what a callback did not like */
};

static bool is(const unsigned char *s, size_t n, const char *name) {
        return strlen(name) == n && memcmp(s, name, n) == 0;
}

static void token(struct reading *r) {
        r->prev = (uint32_t)yajl_get_bytes_consumed(r->parser);
}

static uint32_t token_start(const struct reading *r) {
        uint32_t at = r->prev;

        while (at < r->len && r->text[at] && strchr(" \t\r\n,:", r->text[at]))
                at++;
        return at;
}

/* Before a value is packed. False: it is not to be. */
static bool wanted(struct reading *r) {
        if (r->skip_depth > 0 || r->drop) {
                r->drop = r->drop && r->skip_depth > 0;
                return false;
        }
        if (r->depth > 0 && !r->open[r->depth].map)
                r->open[r->depth].n++;
        return true;
}

static int scalar(struct reading *r) {
        if (r->depth == 0) {
                r->why = "expected an object";
                return 0;
        }
        if (r->body && r->skip_depth == 0) {
                r->why = "body: expected an object";
                return 0;
        }
        return 1;
}

static int on_null(void *ctx) {
        struct reading *r = ctx;

        r->body = r->body && r->skip_depth > 0; /* null is absent */
        if (!scalar(r))
                return 0;
        if (wanted(r))
                pack_byte(&r->w, 0xc0);
        token(r);
        return 1;
}

static int on_boolean(void *ctx, int v) {
        struct reading *r = ctx;

        if (!scalar(r))
                return 0;
        if (wanted(r))
                pack_bool(&r->w, v != 0);
        token(r);
        return 1;
}

static bool is_integer(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (s[i] == '.' || s[i] == 'e' || s[i] == 'E')
                        return false;
        return true;
}

/* The parser gives digits that are not terminated. False: not a number that a double holds. */
static bool put_number(struct reading *r, const char *s, size_t n) {
        char digits[64], *end;
        double v;

        if (n >= sizeof(digits))
                return false;
        memcpy(digits, s, n);
        digits[n] = '\0';
        errno = 0;
        if (is_integer(s, n) && s[0] != '-') {
                unsigned long long u = strtoull(digits, &end, 10);
                if (errno == 0) {
                        pack_uint(&r->w, u);
                        return true;
                }
        } else if (is_integer(s, n)) {
                long long i = strtoll(digits, &end, 10);
                if (errno == 0) {
                        msgpack_pack_int64(&r->w.pk, i);
                        return true;
                }
        }
        v = strtod(digits, &end);
        if (!isfinite(v))
                return false;
        msgpack_pack_double(&r->w.pk, v);
        return true;
}

static int on_number(void *ctx, const char *s, size_t n) {
        struct reading *r = ctx;

        if (!scalar(r))
                return 0;
        if (wanted(r) && !put_number(r, s, n)) {
                r->why = "a number is too large or has more than 63 characters";
                return 0;
        }
        token(r);
        return 1;
}

static int on_string(void *ctx, const unsigned char *s, size_t n) {
        struct reading *r = ctx;

        if (!scalar(r))
                return 0;
        if (wanted(r))
                pack_str(&r->w, (struct mr_view){(const char *)s, (uint32_t)n});
        token(r);
        return 1;
}

static int on_key(void *ctx, const unsigned char *s, size_t n) {
        struct reading *r = ctx;

        token(r);
        if (r->skip_depth > 0)
                return 1;
        if (r->depth == 1) {
                for (uint32_t i = 0; i < r->n_more; i++)
                        if (is(s, n, r->more[i].name)) {
                                r->drop = r->more[i].force;
                                r->had[i] = !r->drop;
                        }
                r->body = is(s, n, "body");
        }
        if (r->drop)
                return 1;
        r->open[r->depth].n++;
        pack_str(&r->w, (struct mr_view){(const char *)s, (uint32_t)n});
        return 1;
}

/* A bracket opens; its head's count is patched when it closes. */
static int opens(struct reading *r, bool map) {
        uint32_t start = token_start(r);

        token(r);
        if (r->depth == 0 && !map) {
                r->why = "expected an object";
                return 0;
        }
        if (r->depth == FRAMES_DEPTH) {
                r->why = "nested deeper than 32 levels";
                return 0;
        }
        if (r->skip_depth > 0 || r->drop || r->body) {
                if (r->body && !map && r->skip_depth == 0) {
                        r->why = "body: expected an object";
                        return 0;
                }
                if (r->skip_depth == 0) {
                        r->skip_depth = r->depth + 1;
                        r->skip_from = start;
                }
                r->depth++;
                return 1;
        }
        if (r->depth > 0 && !r->open[r->depth].map)
                r->open[r->depth].n++;
        r->depth++;
        r->open[r->depth] = (struct open){.at = r->w.len, .map = map};
        pack_32(&r->w, map ? 0xdf : 0xdd, 0);
        return 1;
}

static void patch(struct reading *r, const struct open *open) {
        uint32_t n = __builtin_bswap32(open->n);

        if (!r->w.full)
                memcpy(r->w.at + open->at + 1, &n, sizeof(n));
}

static void put_more(struct reading *r) {
        for (uint32_t i = 0; i < r->n_more; i++) {
                const struct json_frame_more *m = &r->more[i];

                if (r->had[i])
                        continue;
                pack_str(&r->w, (struct mr_view){m->name, (uint32_t)strlen(m->name)});
                if (m->text.p)
                        pack_str(&r->w, m->text);
                else if (m->number == UINT64_MAX)
                        pack_bool(&r->w, true);
                else
                        pack_uint(&r->w, m->number);
                r->open[1].n++;
        }
}

static int closes(void *ctx) {
        struct reading *r = ctx;

        token(r);
        if (r->skip_depth > 0) {
                if (r->depth-- != r->skip_depth)
                        return 1;
                if (r->body)
                        pack_str(&r->w, (struct mr_view){r->text + r->skip_from,
                                                        r->prev - r->skip_from});
                r->skip_depth = 0;
                r->drop = r->body = false;
                return 1;
        }
        if (r->depth == 1)
                put_more(r);
        patch(r, &r->open[r->depth]);
        r->depth--;
        return 1;
}

static int on_map(void *ctx) {
        return opens(ctx, true);
}

static int on_array(void *ctx) {
        return opens(ctx, false);
}

static const yajl_callbacks callbacks = {.yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_map,
                .yajl_map_key = on_key,
                .yajl_end_map = closes,
                .yajl_start_array = on_array,
                .yajl_end_array = closes};

int json_frame_room(struct json_frame *f, uint64_t need) {
        uint8_t *bytes = f->bytes;

        if (f->cap > FRAME_KEEP && need <= FRAME_KEEP) {
                free(f->bytes);
                *f = (struct json_frame){0};
                bytes = NULL;
        }
        if (need <= f->cap)
                return 0;
        if (need < FRAME_KEEP)
                need = FRAME_KEEP;
        bytes = need <= UINT32_MAX ? realloc(f->bytes, need) : NULL;
        if (!bytes)
                return -ENOMEM;
        f->bytes = bytes;
        f->cap = (uint32_t)need;
        return 0;
}

void json_frame_close(struct json_frame *f) {
        free(f->bytes);
        *f = (struct json_frame){0};
}

int json_frame(struct json_frame *f, const char *text, uint32_t len,
                const struct json_frame_more *more, uint32_t n_more, struct ask_error *ret_error) {
        struct reading r = {.text = text, .len = len, .more = more, .n_more = n_more};
        uint64_t need = (uint64_t)len * JSON_FRAME_GROWTH;
        yajl_status status;
        uint32_t at;

        for (uint32_t i = 0; i < n_more; i++)
                need += MORE_BYTES + more[i].text.n;
        if (json_frame_room(f, need))
                return ask_fail(ret_error, MR_E_overloaded, "out of memory");
        pack_buf_init(&r.w, f->bytes, f->cap);
        r.parser = yajl_alloc(&callbacks, NULL, &r);
        if (!r.parser)
                return ask_fail(ret_error, MR_E_overloaded, "out of memory");
        status = yajl_parse(r.parser, (const unsigned char *)text, len);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(r.parser);
        at = (uint32_t)yajl_get_bytes_consumed(r.parser);
        yajl_free(r.parser);
        if (status != yajl_status_ok)
                return ask_fail(ret_error, MR_E_invalid_request, "%s at byte %u",
                                r.why ? r.why : "not JSON", at < len ? at : len);
        if (r.w.full)
                return ask_fail(ret_error, MR_E_internal, "a frame is larger than its bound");
        f->len = r.w.len;
        return 0;
}

/* ---- msgpack to JSON ---- */

static void put_text(struct json_buf *b, struct mr_view text) {
        json_put(b, "\"", 1);
        json_put_mended(b, text.p, text.n);
        json_put(b, "\"", 1);
}

static bool put_item(struct json_buf *b, const struct pull_item *item) {
        switch (item->type) {
        case PULL_NIL:
                json_put_text(b, "null");
                return true;
        case PULL_BOOL:
                json_put_text(b, item->v.b ? "true" : "false");
                return true;
        case PULL_UINT:
                json_put_u64(b, item->v.u);
                return true;
        case PULL_INT:
                json_put_i64(b, item->v.i);
                return true;
        case PULL_FLOAT:
                if (isfinite(item->v.f))
                        json_put_f64(b, item->v.f);
                else
                        json_put_text(b, "null");
                return true;
        case PULL_STR:
        case PULL_BIN:
                put_text(b, item->view);
                return true;
        default:
                return false;
        }
}

static bool put_value(struct json_buf *b, struct pull *from, uint32_t depth) {
        struct pull_item item, key;
        bool map;

        if (depth > FRAMES_DEPTH || pull_item(from, &item) < 0)
                return false;
        if (item.type != PULL_ARRAY && item.type != PULL_MAP)
                return put_item(b, &item);
        map = item.type == PULL_MAP;
        json_put(b, map ? "{" : "[", 1);
        for (uint32_t i = 0; i < item.count; i++) {
                struct pull at;

                json_put(b, ",", i > 0);
                if (!map) {
                        if (!put_value(b, from, depth + 1))
                                return false;
                        continue;
                }
                if (pull_item(from, &key) < 0 || key.type != PULL_STR)
                        return false;
                put_text(b, key.view);
                json_put(b, ":", 1);
                at = *from;
                if (depth <= 1 && key.view.n == 5 && memcmp(key.view.p, "extra", 5) == 0 &&
                                pull_item(&at, &item) == 0 && item.type == PULL_STR) {
                        json_put(b, item.view.p, item.view.n);
                        *from = at;
                } else if (!put_value(b, from, depth + 1)) {
                        return false;
                }
        }
        json_put(b, map ? "}" : "]", 1);
        return true;
}

bool json_from_frame(struct json_buf *b, const uint8_t *bytes, uint32_t len) {
        struct pull from = {bytes, bytes + len};

        return put_value(b, &from, 0);
}
