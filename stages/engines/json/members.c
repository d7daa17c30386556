#include "stages/engines/json/members.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <yajl/yajl_parse.h>

struct walk {
        yajl_handle parser;
        const char *text;
        uint32_t len, prev; /* end of the token before */
        uint32_t depth, start;
        bool object;
        struct json_member *members, *at; /* whose value comes next on the first level, NULL: nobody's */
        uint32_t n;
};

/* The parser reads no further than the token at hand: its start is what follows the one before. */
static uint32_t token_start(const struct walk *w) {
        uint32_t at = w->prev;

        while (at < w->len && w->text[at] && strchr(" \t\r\n,:", w->text[at]))
                at++;
        return at;
}

static void token(struct walk *w) {
        w->prev = (uint32_t)yajl_get_bytes_consumed(w->parser);
}

static int value(struct walk *w, bool null) {
        uint32_t start = token_start(w);

        token(w);
        if (w->depth == 1 && w->at)
                w->at->value = null ? (struct body_span){0}
                                    : (struct body_span){start, w->prev - start};
        return w->depth > 0; /* alone, it is no object */
}

static int on_null(void *ctx) {
        return value(ctx, true);
}

static int on_boolean(void *ctx, int v) {
        (void)v;
        return value(ctx, false);
}

static int on_number(void *ctx, const char *s, size_t n) {
        (void)s;
        (void)n;
        return value(ctx, false);
}

static int on_string(void *ctx, const unsigned char *s, size_t n) {
        (void)s;
        (void)n;
        return value(ctx, false);
}

static int on_key(void *ctx, const unsigned char *s, size_t n) {
        struct walk *w = ctx;

        token(w);
        if (w->depth != 1)
                return 1;
        w->at = NULL;
        for (uint32_t i = 0; i < w->n && !w->at; i++)
                if (strlen(w->members[i].name) == n && memcmp(w->members[i].name, s, n) == 0)
                        w->at = &w->members[i];
        return 1;
}

static int open_bracket(struct walk *w) {
        if (w->depth == 1)
                w->start = token_start(w);
        token(w);
        return ++w->depth <= MEMBERS_DEPTH_MAX;
}

static int close_bracket(void *ctx) {
        struct walk *w = ctx;

        token(w);
        if (--w->depth == 1 && w->at)
                w->at->value = (struct body_span){w->start, w->prev - w->start};
        return 1;
}

static int on_map(void *ctx) {
        return open_bracket(ctx);
}

static int on_array(void *ctx) {
        struct walk *w = ctx;

        return w->depth > 0 && open_bracket(w);
}

static const yajl_callbacks callbacks = {.yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_map,
                .yajl_map_key = on_key,
                .yajl_end_map = close_bracket,
                .yajl_start_array = on_array,
                .yajl_end_array = close_bracket};

int json_members(const char *text, uint32_t len, struct json_member *members, uint32_t n) {
        struct walk w = {.text = text, .len = len, .members = members, .n = n};
        yajl_status status;

        for (uint32_t i = 0; i < n; i++)
                members[i].value = (struct body_span){0};
        w.parser = yajl_alloc(&callbacks, NULL, &w);
        if (!w.parser)
                return -ENOMEM;
        status = yajl_parse(w.parser, (const unsigned char *)text, len);
        if (status == yajl_status_ok)
                status = yajl_complete_parse(w.parser);
        yajl_free(w.parser);
        return status == yajl_status_ok ? 0 : -EPROTO;
}
