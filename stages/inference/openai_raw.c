/*
 * openai_raw: an answer that is passed on whole (embeddings): the backend's own JSON, but for the
 * model's name, in pieces of kind "json".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"
#include "stages/inference/attempt.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/openai.h"
#include "stages/inference/routes.h"

#define NAME_MAX_JSON (6u * 1024u + 2u)

static enum openai_step broken(struct openai_call *call, const char *why) {
        struct flight *f = call->f;
        const char *name = f->backend->settings->name;

        openai_release(call, false);
        attempt_failed(f,
                        &(struct attempt_failure){.code = MR_E_upstream_error,
                                        .retry = true,
                                        .fall_back = true,
                                        .blame = true},
                        "worker %s: %s", name, why);
        return OPENAI_OVER;
}

static bool is_null(struct json_text value) {
        return value.n == 4 && memcmp(value.p, "null", 4) == 0;
}

static uint64_t count_of(struct json_text usage, const char *name) {
        struct json_text value;
        uint64_t n = 0;

        return json_find(usage, name, &value) && json_u64(value, &n) ? n : 0;
}

static void take_usage(struct openai_call *call, struct json_text answer) {
        struct flight_usage *to = &call->f->usage;
        struct json_text usage;

        if (!json_find(answer, "usage", &usage) || json_inside(usage).n == 0)
                return;
        usage = json_inside(usage);
        *to = (struct flight_usage){.counted = true,
                        .prompt = count_of(usage, "prompt_tokens"),
                        .total = count_of(usage, "total_tokens")};
}

/* The name that the client used, in place of the backend's. */
static int name_public(struct openai_call *call, struct json_text answer) {
        const struct record *record = flight_record(call->f);
        struct openai_bytes *w = &call->whole;
        char name[NAME_MAX_JSON];
        struct json_buf buf = {.at = name, .cap = sizeof(name)};
        struct json_text model;
        uint32_t off, tail;

        if (!(record->has & HAS(model)) || record->model.n == 0 ||
                        !json_find(answer, "model", &model) || is_null(model))
                return 0;
        json_put_string(&buf, record->model.p, record->model.n);
        if (buf.full)
                return 0;
        off = (uint32_t)(model.p - w->p);
        tail = w->n - off - model.n;
        if (buf.len > model.n && openai_bytes_add(w, name, buf.len - model.n))
                return -ENOMEM;
        memmove(w->p + off + buf.len, w->p + off + model.n, tail);
        memcpy(w->p + off, name, buf.len);
        w->n = off + buf.len + tail;
        return 0;
}

/* The inside of the object that the answer is. False: it is none. */
static bool object_of(const struct openai_bytes *w, struct json_text *ret) {
        struct json_text text = {w->p, w->n};

        while (text.n > 0 && strchr(" \t\r\n", text.p[text.n - 1]) && text.p[text.n - 1])
                text.n--;
        while (text.n > 0 && strchr(" \t\r\n", text.p[0]) && text.p[0]) {
                text.p++;
                text.n--;
        }
        if (text.n < 2 || text.p[0] != '{' || text.p[text.n - 1] != '}')
                return false;
        *ret = json_inside(text);
        return json_is_members(*ret) && json_utf8_bad(text.p, text.n) == text.n;
}

/* Is it an answer, and how large? */
static enum openai_step prepare(struct openai_call *call) {
        uint64_t limit = call->f->inf->w->settings->admission.max_response_bytes;
        struct json_text answer, error;

        if (!object_of(&call->whole, &answer))
                return broken(call, "its answer is not a JSON object");
        if (json_find(answer, "error", &error) && !is_null(error)) {
                call->mode = OPENAI_ERROR; /* whatever its status says */
                openai_conclude(call);
                return OPENAI_OVER;
        }
        take_usage(call, answer);
        if (name_public(call, answer))
                return broken(call, "out of memory");
        if (call->whole.n <= limit)
                return OPENAI_ON;
        flight_fail(call->f, MR_E_too_large, 0, "the answer is larger than %llu bytes",
                        (unsigned long long)limit);
        return OPENAI_OVER;
}

enum openai_step openai_raw(struct openai_call *call) {
        const struct openai_bytes *w = &call->whole;

        if (!call->waits) {
                enum openai_step step = prepare(call);
                if (step != OPENAI_ON)
                        return step;
        }
        call->waits = false;
        while (call->part_at < w->n) {
                uint32_t left = w->n - call->part_at;
                struct emit_delta delta = {.kind = {"json", 4},
                                .text = {w->p + call->part_at,
                                                json_utf8_cut(w->p + call->part_at, left,
                                                                EMIT_TEXT_MAX)}};
                if (emit_delta(call->f, &delta)) {
                        call->waits = true;
                        flight_wait(call->f);
                        return OPENAI_WAIT;
                }
                call->part_at += delta.text.n;
        }
        openai_finish(call);
        return OPENAI_OVER;
}
