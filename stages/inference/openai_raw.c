/*
 * openai_raw: an answer that is passed on whole (embeddings): the backend's own JSON, but for the
 * model's name, in pieces of kind "json".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/engines/json/members.h"
#include "stages/inference/attempt.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/openai.h"
#include "stages/inference/routes.h"

#define NAME_MAX_JSON (6u * 1024u + 2u)

enum { MODEL, USAGE, ERROR, MEMBERS_N };

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

static uint64_t number(const char *text, struct body_span span) {
        uint64_t v = 0;

        for (uint32_t i = 0; i < span.len && text[span.off + i] >= '0' && text[span.off + i] <= '9' &&
                        v < UINT64_MAX / 16;
                        i++)
                v = v * 10 + (uint64_t)(text[span.off + i] - '0');
        return v;
}

static void take_usage(struct openai_call *call, struct body_span usage) {
        struct json_member counts[] = {{.name = "prompt_tokens"}, {.name = "total_tokens"}};
        struct flight_usage *to = &call->f->usage;
        const char *text = call->whole.p + usage.off;

        if (usage.len == 0 || json_members(text, usage.len, counts, 2))
                return;
        *to = (struct flight_usage){.counted = true,
                        .prompt = number(text, counts[0].value),
                        .total = number(text, counts[1].value)};
}

/* The name that the client used, in place of the backend's. */
static int name_public(struct openai_call *call, struct body_span model) {
        const struct record *record = flight_record(call->f);
        struct openai_bytes *w = &call->whole;
        char name[NAME_MAX_JSON];
        struct json_buf buf = {.at = name, .cap = sizeof(name)};
        uint32_t tail = w->n - model.off - model.len;

        if (model.len == 0 || !(record->has & HAS(model)) || record->model.n == 0)
                return 0;
        json_put_string(&buf, record->model.p, record->model.n);
        if (buf.full)
                return 0;
        if (buf.len > model.len && openai_bytes_add(w, name, buf.len - model.len))
                return -ENOMEM;
        memmove(w->p + model.off + buf.len, w->p + model.off + model.len, tail);
        memcpy(w->p + model.off, name, buf.len);
        w->n = model.off + buf.len + tail;
        return 0;
}

/* Is it an answer, and how large? */
static enum openai_step prepare(struct openai_call *call) {
        struct json_member members[MEMBERS_N] = {[MODEL] = {.name = "model"},
                        [USAGE] = {.name = "usage"},
                        [ERROR] = {.name = "error"}};
        uint64_t limit = call->f->inf->w->settings->admission.max_response_bytes;
        int r = json_members(call->whole.p, call->whole.n, members, MEMBERS_N);

        if (r == -ENOMEM)
                return broken(call, "out of memory");
        if (r)
                return broken(call, "its answer is not a JSON object");
        if (members[ERROR].value.len) {
                call->mode = OPENAI_ERROR; /* whatever its status says */
                openai_conclude(call);
                return OPENAI_OVER;
        }
        take_usage(call, members[USAGE].value);
        if (name_public(call, members[MODEL].value))
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
