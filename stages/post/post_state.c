/*
 * post_state: what is kept of a request between its records, and how an answer ends that is not to be as long as
 * who makes it would have it.
 *
 * Such an answer is ended in two steps: post says the last of its text, drops what comes behind it, and tells
 * inference, whose DONE then has usage, sources and times as every other; it becomes that of the new end.
 */
#include <errno.h>
#include <string.h>

#include "stages/common/poison.h"
#include "stages/post/post_own.h"

/* ---- what a request asks for, and what is known of its prompt ---- */

uint32_t post_asked(struct worker *w, const struct ring_msg *msg, bool noted) {
        struct post *post = w->stage;
        struct record record;
        uint32_t len = 0;

        if (msg->strikes >= POISON_STRIKES)
                return 0;
        if (record_decode(&w->decoder, msg->data, msg->len, &record))
                worker_fail(w, "post: inference wrote a broken record", -EPROTO);
        record.n_unknown = 0;
        record.has &= HAS(stop) | HAS(response_format) | HAS(safety) | HAS(tripwire) |
                      (noted && post->redaction ? HAS(redacted) : 0);
        if (record.has == 0)
                return 0;
        if (record_encode(&record, post->asked, post->asked_bytes, &len))
                worker_fail(w, "post: a head is larger than its ring takes", -ENOBUFS);
        return len;
}

void post_payload(struct worker *w, struct record *ret) {
        struct post *post = w->stage;
        uint32_t n = 0;
        const uint8_t *payload = slab_payload(&post->slab, post->slot, &n);

        *ret = (struct record){.has = 0};
        if (n > 0 && record_decode(&post->decoder, payload, n, ret)) /* beside the record at hand, whose views must live */
                worker_fail(w, "post: what is kept of a head is broken", -EPROTO);
}

bool post_begin(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const struct record *record) {
        struct post *post = w->stage;
        struct post_bounds *bounds = &post_state_of(next)->bounds;
        uint64_t options = record->has & HAS(options) ? record->options : 0;
        uint32_t n = 0;

        *bounds = (struct post_bounds){.what = format_of(post->format, record),
                        .flags = (uint8_t)((options & OPTION_CHOICES ? POST_CHOICES : 0) |
                                           (options & OPTION_ESTIMATED ? POST_ESTIMATED : 0))};
        if (record->has & HAS(max_tokens))
                bounds->max_tokens = record->max_tokens < UINT32_MAX ? (uint32_t)record->max_tokens : 0;
        (void)slab_payload(&post->slab, post->slot, &n);
        if (n > 0 || !(record->has & (HAS(stop) | HAS(response_format))))
                return true;
        post_fail(w, msg, next, MR_E_overloaded, "no room for what is asked of the answer's form");
        return false;
}

void post_begin_anew(struct worker *w, struct slab_version *next) {
        struct post *post = w->stage;
        struct post_bounds bounds = post_state_of(next)->bounds;

        bounds.cost = bounds.pieces = 0;
        bounds.flags &= (uint8_t)~POST_OTHER;
        bounds.finish = POST_GOES_ON;
        memset(next->state, 0, sizeof(next->state));
        post_state_of(next)->bounds = bounds;
        (void)slab_edit_bytes(&post->slab, post->slot, NULL, 0); /* takes no room: cannot fail */
}

/* ---- what waits: how many bytes of the form's, and of safety's, those, then redaction's ---- */

static void open_format(struct worker *w, const struct slab_version *next, const uint8_t *bytes,
                uint32_t n) {
        struct post *post = w->stage;
        uint8_t what = ((const struct post_state *)next->state)->bounds.what;
        struct record asked = {.has = 0};

        if (!format_has_plan(post->format, post->slot, next->req_id))
                post_payload(w, &asked);
        if (format_load(post->format, post->slot, next->req_id, what, &asked, bytes, n))
                worker_fail(w, "post: what waits of an answer's form is broken", -EPROTO);
}

void post_open(struct worker *w, struct slab_version *next) {
        struct post *post = w->stage;
        uint32_t parts[2] = {0, 0}, n = 0;
        const uint8_t *bytes = slab_bytes_of(&post->slab, post->slot, &n);

        if (n >= sizeof(parts)) {
                memcpy(parts, bytes, sizeof(parts));
                bytes += sizeof(parts);
                n -= (uint32_t)sizeof(parts);
        }
        if ((uint64_t)parts[0] + parts[1] > n)
                worker_fail(w, "post: what waits of an answer is broken", -EPROTO);
        if (post_state_of(next)->bounds.what)
                open_format(w, next, bytes, parts[0]);
        bytes += parts[0];
        if (post->safety && redaction_load(post->safety, bytes, parts[1]))
                worker_fail(w, "post: what waits of an answer is broken", -EPROTO);
        bytes += parts[1];
        if (post->redaction)
                post_redact_open(w, bytes, n - parts[0] - parts[1]);
}

static uint32_t keep_texts(struct redaction *r, uint8_t *to) {
        uint32_t n = redaction_pack(r);

        memcpy(to, r->packed, n);
        return n;
}

void post_keep(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;
        bool formats = post_state_of(next)->bounds.what != 0;
        uint32_t parts[2] = {0, 0}, n = sizeof(parts);

        if (next->done || msg->type != RECORD_DELTA || (!formats && !post->safety && !post->redaction))
                return;
        if (formats)
                parts[0] = format_pack(post->format, post->packed + n);
        n += parts[0];
        if (post->safety)
                parts[1] = keep_texts(post->safety, post->packed + n);
        n += parts[1];
        if (post->redaction)
                n += keep_texts(post->redaction, post->packed + n);
        memcpy(post->packed, parts, sizeof(parts));
        if (slab_edit_bytes(&post->slab, post->slot, post->packed, n))
                post_fail(w, msg, next, MR_E_too_large, "the answer is too large to be held back");
}

/* ---- the end ---- */

struct record post_delta_of(uint16_t choice, uint8_t kind) {
        static const char *const kinds[] = {"text", "reasoning", "refusal", "other"};
        struct record record = {.has = HAS(text)};

        if (choice) {
                record.has |= HAS(choice);
                record.choice = choice;
        }
        if (kind != HOLD_TEXT) {
                record.has |= HAS(delta_kind);
                record.delta_kind = (struct mr_view){kinds[kind], (uint32_t)strlen(kinds[kind])};
        }
        return record;
}

bool post_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;
        struct post_state *state = post_state_of(next);
        struct mr_view unfinished = {"\xef\xbf\xbd", 3};
        struct hold_entry held;
        bool goes_on = true;

        while (goes_on && hold_flush_one(&state->hold, &held)) {
                struct record rest = post_delta_of(held.choice, held.kind);
                goes_on = held.kind == HOLD_TEXT && state->bounds.what
                                          ? post_format_text(w, msg, next, &rest, unfinished, false)
                                          : post_go_on(w, msg, next, &rest, held.kind, unfinished);
        }
        if (goes_on && state->bounds.what)
                goes_on = post_format_flush(w, msg, next);
        if (goes_on && post->safety)
                goes_on = post_safety_flush(w, msg, next);
        return goes_on && (!post->redaction || post_redact_flush(w, msg, next));
}

void post_end(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                enum post_finish finish) {
        struct post_state *state = post_state_of(next);

        if (state->bounds.finish) {
                if (finish == POST_FILTERED)
                        state->bounds.finish = (uint8_t)finish;
                return;
        }
        state->bounds.finish = (uint8_t)finish;
        memset(&state->hold, 0, sizeof(state->hold)); /* it stands behind the end */
        if (msg->type == RECORD_DELTA)
                post_cancel_inference(w, msg);
        if (finish != POST_FILTERED)
                post_flush(w, msg, next);
}

void post_fail(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                enum mr_error code, const char *message) {
        struct record record = {.has = HAS(code) | HAS(message),
                        .code = code,
                        .message = {message, (uint32_t)strlen(message)}};

        post_cancel_inference(w, msg);
        post_emit(w, msg, next, &record, RECORD_ERROR, RING_LAST | RING_ERROR);
        next->done = 1;
}

void post_finish_set(const struct slab_version *next, struct record *record) {
        static const char *const reasons[] = {
                        [POST_STOPPED] = "stop",
                        [POST_AT_LENGTH] = "length",
                        [POST_FILTERED] = "content_filter",
        };
        const struct post_bounds *bounds = &((const struct post_state *)next->state)->bounds;
        const char *reason;

        if (bounds->finish == POST_GOES_ON)
                return;
        reason = reasons[bounds->finish];
        record->has |= HAS(finish_reason);
        record->finish_reason = (struct mr_view){reason, (uint32_t)strlen(reason)};
        if (bounds->finish != POST_AT_LENGTH || !(record->has & HAS(completion_tokens)) ||
                        record->completion_tokens <= bounds->max_tokens)
                return;
        record->total_tokens -= record->completion_tokens - bounds->max_tokens;
        record->completion_tokens = bounds->max_tokens;
}
