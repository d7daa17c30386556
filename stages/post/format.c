#include "stages/post/format.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "stages/post/packed.h"

/* ---- settings ---- */

int format_new(const struct settings *settings, uint32_t cap, struct format **ret, struct words_why *why) {
        struct format *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        f->out = malloc(cap + FORMAT_HELD);
        f->between = malloc(cap + FORMAT_HELD);
        if (!f->out || !f->between) {
                format_free(f);
                return -ENOMEM;
        }
        if (words_read(&f->words, (const char *const *)settings->post.format.v, settings->post.format.n, why)) {
                format_free(f);
                return -EINVAL;
        }
        *ret = f;
        return 0;
}

int format_slots(struct format *f, uint32_t n_slots) {
        f->plans = calloc(n_slots, sizeof(*f->plans));
        f->n_plans = f->plans ? n_slots : 0;
        return f->plans ? 0 : -ENOMEM;
}

struct format *format_free(struct format *f) {
        if (!f)
                return NULL;
        for (uint32_t i = 0; i < f->n_plans; i++)
                format_forget(f, i);
        free(f->plans);
        free(f->out);
        free(f->between);
        free(f);
        return NULL;
}

/* ---- requests ---- */

uint8_t format_of(const struct format *f, const struct record *head) {
        uint8_t what = words_of(&f->words, head->has & HAS(model) ? head->model.p : "",
                        head->has & HAS(model) ? head->model.n : 0);

        if (head->has & HAS(stop))
                what |= FORMAT_STOPS;
        if (head->has & HAS(response_format) && !(what & FORMAT_UNCHECKED))
                what |= FORMAT_JSON;
        return what & (uint8_t)~FORMAT_UNCHECKED;
}

void format_forget(struct format *f, uint32_t slot) {
        struct format_plan *plan = &f->plans[slot];

        free(plan->stops);
        json_schema_free(plan->schema);
        *plan = (struct format_plan){0};
}

/* More stop strings than there may be (a template's): the first of them count. */
static int plan_make(struct format *f, uint32_t slot, uint64_t req_id, uint8_t what, const struct record *asked) {
        struct format_plan *plan = &f->plans[slot];
        int r = 0;

        format_forget(f, slot);
        if (what & FORMAT_STOPS) {
                plan->stops = calloc(1, sizeof(*plan->stops));
                if (!plan->stops)
                        return -ENOMEM;
                (void)stops_read(plan->stops, asked->stop.p, asked->stop.n);
        }
        if (what & FORMAT_JSON)
                r = json_schema_new(asked->response_format.p, asked->response_format.n, &plan->schema);
        plan->req_id = r ? 0 : req_id;
        return r;
}

bool format_has_plan(const struct format *f, uint32_t slot, uint64_t req_id) {
        return f->plans[slot].req_id == req_id;
}

/* ---- what a slab version has of a request: of each part what is used ---- */

static void take_stream(const struct format *f, struct packed *from, struct format_stream *to) {
        memset(to, 0, sizeof(*to));
        packed_take(from, to, offsetof(struct format_stream, trim));
        if (f->what & FORMAT_TRIM) {
                packed_take(from, &to->trim, offsetof(struct trim, held));
                if (to->trim.n > TRIM_HELD)
                        from->broken = true;
                else
                        packed_take(from, to->trim.held, to->trim.n);
        }
        if (f->what & FORMAT_STRIP) {
                packed_take(from, &to->markdown, offsetof(struct markdown, held));
                if (to->markdown.n > MARKDOWN_HELD || to->markdown.at > MARKDOWN_BLOCK)
                        from->broken = true;
                else
                        packed_take(from, to->markdown.held, to->markdown.n);
        }
        if (f->what & FORMAT_JSON) {
                packed_take(from, &to->json, offsetof(struct json_check, level));
                if (to->json.depth > JSON_CHECK_DEPTH || to->json.n > JSON_CHECK_TEXT) {
                        from->broken = true;
                        return;
                }
                packed_take(from, to->json.level, to->json.depth * (uint32_t)sizeof(to->json.level[0]));
                packed_take(from, to->json.text, to->json.n);
        }
}

static uint8_t *give_stream(const struct format *f, uint8_t *to, const struct format_stream *stream) {
        to = packed_give(to, stream, offsetof(struct format_stream, trim));
        if (f->what & FORMAT_TRIM) {
                to = packed_give(to, &stream->trim, offsetof(struct trim, held));
                to = packed_give(to, stream->trim.held, stream->trim.n);
        }
        if (f->what & FORMAT_STRIP) {
                to = packed_give(to, &stream->markdown, offsetof(struct markdown, held));
                to = packed_give(to, stream->markdown.held, stream->markdown.n);
        }
        if (f->what & FORMAT_JSON) {
                to = packed_give(to, &stream->json, offsetof(struct json_check, level));
                to = packed_give(to, stream->json.level, stream->json.depth * sizeof(stream->json.level[0]));
                to = packed_give(to, stream->json.text, stream->json.n);
        }
        return to;
}

int format_load(struct format *f, uint32_t slot, uint64_t req_id, uint8_t what, const struct record *asked,
                const uint8_t *bytes, uint32_t n) {
        struct packed from = {.p = bytes, .n = n};
        int r = format_has_plan(f, slot, req_id) ? 0 : plan_make(f, slot, req_id, what, asked);

        f->plan = &f->plans[slot];
        f->what = what;
        f->n_streams = 0;
        for (; !r && from.n > 0 && !from.broken; f->n_streams++) {
                if (f->n_streams == FORMAT_STREAMS)
                        return -EPROTO;
                take_stream(f, &from, &f->streams[f->n_streams]);
        }
        return r ? r : from.broken ? -EPROTO : 0;
}

uint32_t format_pack(const struct format *f, uint8_t *to) {
        uint8_t *at = to;

        for (uint32_t i = 0; i < f->n_streams; i++)
                at = give_stream(f, at, &f->streams[i]);
        return (uint32_t)(at - to);
}

/* ---- texts ---- */

static struct format_stream *stream_of(struct format *f, uint16_t choice) {
        struct format_stream *stream = f->streams;

        for (uint32_t i = 0; i < f->n_streams; i++, stream++)
                if (stream->choice == choice)
                        return stream;
        if (f->n_streams == FORMAT_STREAMS)
                return NULL;
        f->n_streams++;
        memset(stream, 0, sizeof(*stream));
        stream->choice = choice;
        return stream;
}

static void swap(struct format *f) {
        char *out = f->out;

        f->out = f->between;
        f->between = out;
}

/* The text up to a stop string. */
static void stop(struct format *f, struct format_stream *stream, const char *text, uint32_t n, bool last) {
        bool stopped = false;

        f->n_out = stops_feed(f->plan->stops, &stream->stops, text, n, f->out, &stopped);
        stream->over = stopped;
        if (last && !stopped)
                f->n_out += stops_flush(f->plan->stops, &stream->stops, f->out + f->n_out);
}

static void strip(struct format *f, struct format_stream *stream, bool last) {
        swap(f);
        f->n_out = markdown_feed(&stream->markdown, f->between, f->n_out, f->out);
        if (last)
                f->n_out += markdown_flush(&stream->markdown, f->out + f->n_out);
}

static void trim(struct format *f, struct format_stream *stream) {
        swap(f);
        f->n_out = trim_feed(&stream->trim, f->between, f->n_out, f->out);
}

int format_feed(struct format *f, uint16_t choice, const char *text, uint32_t n, bool last) {
        struct format_stream *stream = stream_of(f, choice);

        f->n_out = 0;
        if (!stream)
                return FORMAT_E_LARGE;
        if (stream->over)
                return FORMAT_E_STOPPED;
        if (f->plan->stops) {
                stop(f, stream, text, n, last);
        } else {
                memcpy(f->out, text, n);
                f->n_out = n;
        }
        last |= stream->over;
        if (f->what & FORMAT_STRIP && !f->plan->schema)
                strip(f, stream, last);
        if (f->what & FORMAT_TRIM)
                trim(f, stream);
        f->why = NULL;
        if (f->plan->schema) {
                f->n_out = json_check_feed(&stream->json, f->plan->schema, f->out, f->n_out, &f->why);
                if (last && !f->why)
                        f->why = json_check_end(&stream->json, f->plan->schema);
        }
        if (f->why)
                return FORMAT_E_INVALID;
        return stream->over ? FORMAT_E_STOPPED : 0;
}
