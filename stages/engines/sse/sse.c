#include "stages/engines/sse/sse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DATA_CAP_FIRST 2048u
#define STOP_PIECE 512u

void sse_init(struct sse *s, uint32_t max_bytes) {
        *s = (struct sse){.max_bytes = max_bytes};
}

void sse_reset(struct sse *s) {
        char *data = s->data;
        uint32_t cap = s->data_cap;

        *s = (struct sse){.max_bytes = s->max_bytes, .data = data, .data_cap = cap};
}

void sse_close(struct sse *s) {
        free(s->data);
        *s = (struct sse){0};
}

static int data_append(struct sse *s, const char *p, uint32_t n) {
        uint32_t cap = s->data_cap ? s->data_cap : DATA_CAP_FIRST;
        char *bigger;

        if (n > s->max_bytes - s->data_len)
                return SSE_E_TOO_LARGE;
        while (cap - s->data_len < n)
                cap *= 2;
        if (cap != s->data_cap) {
                bigger = realloc(s->data, cap);
                if (!bigger)
                        return -ENOMEM;
                s->data = bigger;
                s->data_cap = cap;
        }
        if (n)
                memcpy(s->data + s->data_len, p, n);
        s->data_len += n;
        return 0;
}

static bool field_is(const struct sse *s, const char *name) {
        return strlen(name) == s->field_len && memcmp(s->field_name, name, s->field_len) == 0;
}

/* The field's name is whole: where do the bytes of its value go? */
static int value_begin(struct sse *s) {
        s->field = SSE_FIELD_OTHER;
        if (field_is(s, "data"))
                s->field = SSE_FIELD_DATA;
        else if (field_is(s, "event"))
                s->field = SSE_FIELD_EVENT;
        else if (field_is(s, "error"))
                s->field = SSE_FIELD_ERROR;
        if (s->field == SSE_FIELD_EVENT) {
                s->name_len = 0;
        } else if (s->field != SSE_FIELD_OTHER) {
                bool more = s->has_data;
                s->has_data = true;
                if (s->field == SSE_FIELD_ERROR) {
                        memcpy(s->name, "error", 5);
                        s->name_len = 5;
                }
                return more ? data_append(s, "\n", 1) : 0;
        }
        return 0;
}

static int value_append(struct sse *s, const char *p, uint32_t n) {
        if (s->field == SSE_FIELD_DATA || s->field == SSE_FIELD_ERROR)
                return data_append(s, p, n);
        if (s->field == SSE_FIELD_EVENT) {
                uint32_t room = SSE_NAME_MAX - s->name_len;
                uint32_t take = n < room ? n : room;
                memcpy(s->name + s->name_len, p, take);
                s->name_len += take;
        }
        return 0;
}

static bool event_out(struct sse *s, struct sse_event *ret) {
        if (!s->has_data) {
                s->name_len = 0; /* a name without data is no event */
                return false;
        }
        *ret = (struct sse_event){.data = s->data ? s->data : "",
                        .data_len = s->data_len,
                        .name = s->name,
                        .name_len = s->name_len};
        s->taken = true;
        return true;
}

/* The line is over: 0, SSE_EVENT, or what value_begin() says. */
static int line_end(struct sse *s, struct sse_event *ret) {
        bool blank = s->state == SSE_LINE || s->state == SSE_START;
        int r = 0;

        if (s->state == SSE_FIELD)
                r = value_begin(s); /* a field without a colon has an empty value */
        s->state = SSE_LINE;
        s->line_bytes = 0;
        s->field_len = 0;
        if (r)
                return r;
        return blank && event_out(s, ret) ? SSE_EVENT : 0;
}

/* One byte of a field's name; the names that count are shorter than the buffer. */
static int field_byte(struct sse *s, char c) {
        if (c == ':') {
                if (s->field_len == 0) {
                        s->state = SSE_SKIP; /* a comment */
                        return 0;
                }
                s->state = SSE_COLON;
                return value_begin(s);
        }
        s->state = SSE_FIELD;
        if (s->field_len < SSE_FIELD_MAX)
                s->field_name[s->field_len++] = c;
        return 0;
}

/* The first bytes of the stream may be a byte-order mark; anything else is a line that begins with
 * the mark's first bytes: no field that counts. */
static int start_byte(struct sse *s, char c) {
        static const char mark[3] = {'\xef', '\xbb', '\xbf'};

        if (c == mark[s->bom]) {
                if (++s->bom == sizeof(mark)) {
                        s->state = SSE_LINE;
                        s->line_bytes = 0;
                }
                return 0;
        }
        s->state = SSE_LINE;
        for (uint32_t i = 0; i < s->bom; i++)
                (void)field_byte(s, mark[i]);
        return field_byte(s, c);
}

/* A piece at a time, so that lines that all end in CR are not searched for LF to the end each time. */
static const char *line_stop(const char *at, const char *end) {
        while (at < end) {
                size_t n = (size_t)(end - at) < STOP_PIECE ? (size_t)(end - at) : STOP_PIECE;
                const char *lf = memchr(at, '\n', n);
                const char *cr = memchr(at, '\r', lf ? (size_t)(lf - at) : n);
                if (cr || lf)
                        return cr ? cr : lf;
                at += n;
        }
        return end;
}

/* Takes the bytes of the line from *at on. */
static int line_bytes(struct sse *s, const char **at, const char *end) {
        const char *p = *at, *stop;
        uint32_t n;

        if (s->state == SSE_COLON) {
                s->state = SSE_VALUE;
                if (*p == ' ') {
                        *at = p + 1;
                        return 0;
                }
        }
        if (s->state == SSE_VALUE || s->state == SSE_SKIP) {
                stop = line_stop(p, end);
                n = (uint32_t)(stop - p);
                *at = stop;
                if (n > s->max_bytes - s->line_bytes)
                        return SSE_E_TOO_LARGE;
                s->line_bytes += n;
                return s->state == SSE_VALUE ? value_append(s, p, n) : 0;
        }
        *at = p + 1;
        if (s->line_bytes == s->max_bytes)
                return SSE_E_TOO_LARGE;
        s->line_bytes++;
        return s->state == SSE_START ? start_byte(s, *p) : field_byte(s, *p);
}

static void event_forget(struct sse *s) {
        s->taken = false;
        s->has_data = false;
        s->data_len = 0;
        s->name_len = 0;
}

int sse_next(struct sse *s, const char **at, const char *end, struct sse_event *ret) {
        int r = 0;

        if (s->taken)
                event_forget(s);
        while (*at < end && r == 0) {
                char c = **at;
                if (s->after_cr) {
                        s->after_cr = false;
                        if (c == '\n') {
                                (*at)++;
                                continue;
                        }
                }
                if (c == '\n' || c == '\r') {
                        (*at)++;
                        s->after_cr = c == '\r';
                        r = line_end(s, ret);
                } else {
                        r = line_bytes(s, at, end);
                }
        }
        return r;
}

int sse_finish(struct sse *s, struct sse_event *ret) {
        int r = 0;

        if (s->taken)
                event_forget(s);
        if (s->state != SSE_LINE && s->state != SSE_START)
                r = line_end(s, ret);
        if (r)
                return r;
        return event_out(s, ret) ? SSE_EVENT : SSE_MORE;
}
