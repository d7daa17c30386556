/*
 * redaction_json: the arguments of tool calls, which are JSON in pieces.
 */
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/post/redaction.h"

struct feeding {
        struct redaction *r;
        struct redaction_stream *stream;
};

/* What goes on of a string is escaped again. */
static void put_escaped(void *ctx, const char *p, uint32_t n) {
        struct redaction *r = ctx;
        struct json_buf to = {.at = r->out + r->n_out, .cap = r->limit - r->n_out};

        json_put_mended(&to, p, n);
        r->full |= to.full;
        r->n_out += to.full ? 0 : to.len;
}

static void put(void *ctx, const struct redact_piece *piece) {
        struct feeding *f = ctx;

        redaction_put(f->r, f->stream, piece, &(struct restore_out){put_escaped, f->r});
}

static void feed(struct feeding *f, const char *p, uint32_t n) {
        redact_feed(f->r->engine, &f->stream->text, p, n, false,
                        &(struct redact_sink){put, f, &f->r->numbers});
}

static void pause(struct feeding *f) {
        redact_pause(f->r->engine, &f->stream->text, &(struct redact_sink){put, f, &f->r->numbers});
        restore_flush(&f->stream->token, &(struct restore_out){put_escaped, f->r});
}

/* ---- numbers ---- */

static bool of_number(char c) {
        return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* As it came, unless something in it was found: then it is a string. */
static void end_number(struct feeding *f) {
        struct redaction_json *json = &f->stream->json;
        struct redaction *r = f->r;
        uint32_t begin = r->n_out;

        if (!json->n_number)
                return;
        redaction_out(r, "\"", 1);
        feed(f, json->number, json->n_number);
        pause(f);
        if (r->full)
                return;
        if (r->n_out - begin - 1 == json->n_number &&
                        !memcmp(r->out + begin + 1, json->number, json->n_number)) {
                r->n_out = begin;
                redaction_out(r, json->number, json->n_number);
        } else {
                redaction_out(r, "\"", 1);
        }
        json->n_number = 0;
}

/* ---- strings ---- */

/* How long the escape is that begins so, as far as that can be said. */
static uint32_t escape_bytes(const char *p, uint32_t n) {
        bool high = n >= 6 && p[1] == 'u' && (p[2] | 0x20) == 'd' && strchr("89abAB", p[3]);

        if (n < 2)
                return 2;
        if (p[1] != 'u')
                return 2;
        if (!high)
                return 6;
        if ((n > 6 && p[6] != '\\') || (n > 7 && p[7] != 'u'))
                return 6; /* half a pair, and something else */
        return 12;
}

/* Feeds what a whole escape means. */
static void end_escape(struct feeding *f, const char *p, uint32_t n) {
        char quoted[14] = "\"", text[8];
        uint32_t len = 0;

        memcpy(quoted + 1, p, n);
        quoted[n + 1] = '"';
        if (json_unescape(quoted, n + 2, text, sizeof(text), &len) == 0)
                feed(f, text, len);
        else
                feed(f, "\xef\xbf\xbd", 3);
}

static void in_string(struct feeding *f, char c);

static void in_escape(struct feeding *f, char c) {
        struct redaction_json *json = &f->stream->json;
        uint32_t n;

        json->escape[json->n_escape++] = c;
        n = escape_bytes(json->escape, json->n_escape);
        if (json->n_escape < n)
                return;
        char behind[sizeof(json->escape)];
        uint32_t n_behind = json->n_escape - n; /* what came behind half a pair */
        memcpy(behind, json->escape + n, n_behind);
        json->n_escape = 0;
        end_escape(f, json->escape, n);
        for (uint32_t i = 0; i < n_behind; i++)
                in_string(f, behind[i]);
}

static void in_string(struct feeding *f, char c) {
        struct redaction_json *json = &f->stream->json;

        if (json->n_escape) {
                in_escape(f, c);
        } else if (c == '\\') {
                json->escape[json->n_escape++] = c;
        } else if (c == '"') {
                pause(f);
                redaction_out(f->r, "\"", 1);
                json->in_string = 0;
        } else {
                feed(f, &c, 1);
        }
}

/* Bytes of a string up to what means something else. */
static uint32_t plain_run(const struct redaction_json *json, const char *p, uint32_t n) {
        uint32_t run = 0;

        if (!json->in_string || json->n_escape)
                return 0;
        while (run < n && p[run] != '"' && p[run] != '\\')
                run++;
        return run;
}

static void outside(struct feeding *f, char c) {
        struct redaction_json *json = &f->stream->json;

        if (of_number(c) && (json->n_number || c == '-' || (c >= '0' && c <= '9'))) {
                if (json->n_number == sizeof(json->number))
                        end_number(f);
                json->number[json->n_number++] = c;
                return;
        }
        end_number(f);
        redaction_out(f->r, &c, 1);
        json->in_string = c == '"';
}

static void feed_json(struct feeding *f, const char *text, uint32_t n) {
        for (uint32_t i = 0; i < n && !f->r->full && !f->r->blocked;) {
                uint32_t run = plain_run(&f->stream->json, text + i, n - i);
                if (run)
                        feed(f, text + i, run);
                else if (f->stream->json.in_string)
                        in_string(f, text[i]);
                else
                        outside(f, text[i]);
                i += run ? run : 1;
        }
}

void redaction_json_string(struct redaction *r, const char *p, uint32_t n) {
        redaction_stream_begin(&r->alone);
        feed_json(&(struct feeding){r, &r->alone}, p, n);
}

int redaction_feed_json(struct redaction *r, uint16_t choice, uint8_t call, const char *text,
                uint32_t n, bool last) {
        struct feeding f = {.r = r};

        f.stream = redaction_stream_of(r, choice, (uint8_t)(REDACTION_JSON | call));
        r->n_out = 0;
        r->full = r->blocked = false;
        if (!f.stream)
                return REDACTION_E_LARGE;
        feed_json(&f, text, n);
        if (last && !r->blocked) {
                end_number(&f);
                pause(&f);
        }
        if (r->full)
                return REDACTION_E_LARGE;
        return r->blocked ? REDACTION_E_BLOCKED : 0;
}
