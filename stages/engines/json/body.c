#include "stages/engines/json/body.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/body_own.h"
#include "stages/engines/json/json.h"

int body_fail(struct body_scanner *s, uint32_t at, const char *member, const char *format, ...) {
        char *to = s->found->error;
        int n = 0, more;
        va_list ap;

        if (member) {
                snprintf(s->found->member, BODY_MEMBER_MAX, "%s", member);
                n = snprintf(to, BODY_ERROR_MAX, "%s: ", member);
        }
        va_start(ap, format);
        more = vsnprintf(to + n, BODY_ERROR_MAX - (size_t)n, format, ap);
        va_end(ap);
        n += more;
        if (more >= 0 && n < (int)BODY_ERROR_MAX)
                snprintf(to + n, BODY_ERROR_MAX - (size_t)n, " at byte %u", at);
        return 0;
}

/* ---- tokens ---- */

/* Start of the token behind the last one. The parser takes form feed and vertical tab for white
 * space; RFC 8259 does not. False: such a byte stands there, and *ret is its offset. */
static bool token_start(const struct body_scanner *s, uint32_t *ret) {
        uint32_t i = s->prev;

        while (i < s->len && strchr(" \t\n\r,:", s->text[i]) && s->text[i])
                i++;
        *ret = i;
        return i >= s->len || (s->text[i] != '\f' && s->text[i] != '\v');
}

static int control_character(struct body_scanner *s, uint32_t at) {
        return body_fail(s, at, NULL, "not JSON: a control character between values");
}

static int value_done(struct body_scanner *s, enum value value, uint32_t start) {
        s->prev = body_here(s);
        return body_value(s, value, (struct body_span){start, s->prev - start});
}

static int on_scalar(struct body_scanner *s, enum value value) {
        uint32_t start;

        if (!token_start(s, &start))
                return control_character(s, start);
        return value_done(s, value, start);
}

static int on_null(void *ctx) {
        return on_scalar(ctx, VALUE_NULL);
}

static int on_boolean(void *ctx, int yes) {
        (void)yes;
        return on_scalar(ctx, VALUE_BOOL);
}

static int on_number(void *ctx, const char *p, size_t n) {
        struct body_scanner *s = ctx;
        uint32_t start;

        (void)p;
        if (n <= BODY_NUMBER_MAX)
                return on_scalar(s, VALUE_NUMBER);
        (void)token_start(s, &start);
        return body_fail(s, start, NULL, "a number of more than %u characters", BODY_NUMBER_MAX);
}

static int on_string(void *ctx, const unsigned char *p, size_t n) {
        struct body_scanner *s = ctx;
        uint32_t start;

        if (!token_start(s, &start))
                return control_character(s, start);
        body_string(s, p, n, start);
        return value_done(s, VALUE_STRING, start);
}

static int on_open(struct body_scanner *s, bool object) {
        enum region region = body_region_below(s, object);
        uint32_t start;

        if (!token_start(s, &start))
                return control_character(s, start);
        if (s->depth == BODY_DEPTH_MAX)
                return body_fail(s, start, NULL, "nested deeper than %u levels", BODY_DEPTH_MAX);
        body_region_begin(s, region);
        s->level[++s->depth] = (struct level){.region = (uint8_t)region, .start = start};
        s->prev = body_here(s);
        return 1;
}

static int on_close(struct body_scanner *s, enum value value) {
        uint32_t start, bracket;

        if (!token_start(s, &bracket))
                return control_character(s, bracket);
        start = s->level[s->depth].start;
        s->depth--;
        return value_done(s, value, start);
}

static int on_start_map(void *ctx) {
        return on_open(ctx, true);
}

static int on_end_map(void *ctx) {
        return on_close(ctx, VALUE_OBJECT);
}

static int on_start_array(void *ctx) {
        return on_open(ctx, false);
}

static int on_end_array(void *ctx) {
        return on_close(ctx, VALUE_ARRAY);
}

static int on_key(void *ctx, const unsigned char *p, size_t n) {
        struct body_scanner *s = ctx;
        uint32_t start;

        if (!token_start(s, &start))
                return control_character(s, start);
        s->level[s->depth].key = (uint8_t)body_key(s, p, n);
        s->prev = body_here(s);
        return 1;
}

static const yajl_callbacks callbacks = {
                .yajl_null = on_null,
                .yajl_boolean = on_boolean,
                .yajl_number = on_number,
                .yajl_string = on_string,
                .yajl_start_map = on_start_map,
                .yajl_map_key = on_key,
                .yajl_end_map = on_end_map,
                .yajl_start_array = on_start_array,
                .yajl_end_array = on_end_array,
};

/* ---- a scan ---- */

int body_scanner_new(struct body_scanner **ret) {
        struct body_scanner *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

struct body_scanner *body_scanner_free(struct body_scanner *s) {
        free(s);
        return NULL;
}

/* The parser's own words, on one line. */
static void parser_error(struct body_scanner *s, uint32_t at) {
        unsigned char *words = yajl_get_error(s->parser, 0, NULL, 0);
        uint32_t n = words ? (uint32_t)strcspn((char *)words, "\n") : 0;

        body_fail(s, at, NULL, "not JSON: %.*s", (int)n, words ? (char *)words : "");
        if (words)
                yajl_free_error(s->parser, words);
}

static int whole_body(struct body_scanner *s) {
        yajl_status status = yajl_parse(s->parser, (const unsigned char *)s->text, s->len);
        uint32_t end = status == yajl_status_ok ? s->len : body_here(s);

        if (status == yajl_status_ok)
                status = yajl_complete_parse(s->parser);
        if (status == yajl_status_client_canceled)
                return BODY_E_INVALID;
        if (status != yajl_status_ok) {
                parser_error(s, end);
                return BODY_E_INVALID;
        }
        if (!token_start(s, &end)) {
                body_fail(s, end, NULL, "not JSON: a control character behind the body");
                return BODY_E_INVALID;
        }
        return body_end(s) ? 0 : BODY_E_INVALID;
}

/* Nothing found yet; the query's bytes stay, nobody looks at them. */
static void found_clear(struct body_found *found) {
        memset(found, 0, offsetof(struct body_found, query));
        found->error[0] = found->member[0] = '\0';
}

int body_scan(struct body_scanner *s, enum body_kind kind, const char *body, uint32_t len,
                struct body_found *ret) {
        yajl_alloc_funcs memory = scratch_funcs(&s->scratch);
        uint32_t bad;
        int r;

        s->kind = kind;
        s->text = body;
        s->len = len;
        s->prev = s->depth = s->scratch.used = s->pending_len = 0;
        s->stop_stays = false;
        s->level[0] = (struct level){0};
        s->found = ret;
        found_clear(ret);
        /* The parser's own check lets overlong forms pass. */
        bad = json_utf8_bad(body, len);
        if (bad < len) {
                body_fail(s, bad, NULL, "not UTF-8");
                return BODY_E_INVALID;
        }
        s->parser = yajl_alloc(&callbacks, &memory, s);
        if (!s->parser)
                return -ENOMEM;
        yajl_config(s->parser, yajl_dont_validate_strings, 1);
        r = whole_body(s);
        yajl_free(s->parser);
        s->parser = NULL;
        s->found = NULL;
        return r;
}
