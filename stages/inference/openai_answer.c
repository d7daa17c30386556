/*
 * openai_answer: what a backend's response means, event by event.
 */
#include <stdio.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/inference/attempt.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/openai.h"
#include "stages/inference/openai_error.h"
#include "stages/inference/routes.h"

/* ---- the end of an attempt ------------------------------------------------------------------ */

static void fail(struct openai_call *call, const struct attempt_failure *failure,
                const char *message) {
        struct flight *f = call->f;

        openai_release(call, false);
        attempt_failed(f, failure, "worker %s: %s", f->backend->settings->name, message);
}

static bool is_utf8(struct chunk_str s) {
        return json_utf8_bad(s.p, s.n) == s.n;
}

/* Something in the stream that no stream should have. */
static enum openai_step fail_stream(struct openai_call *call, const char *message) {
        fail(call,
                        &(struct attempt_failure){.code = MR_E_upstream_error,
                                        .retry = true,
                                        .fall_back = true,
                                        .blame = true},
                        message);
        return OPENAI_OVER;
}

/* What must not be told to clients; NULL: there is none. */
static const char *secret_of(const struct openai_call *call) {
        const char *authorization = call->f->backend->authorization;

        return authorization ? strrchr(authorization, ' ') + 1 : NULL;
}

static enum openai_step fail_said(struct openai_call *call, const struct chunk_failure *failure) {
        struct attempt_failure meaning = openai_stream_failure(failure);
        char said[OPENAI_MESSAGE_MAX], message[OPENAI_MESSAGE_MAX + 64];

        openai_own(failure, secret_of(call), &meaning);
        openai_message(failure, secret_of(call), said);
        snprintf(message, sizeof(message), "an error in the middle of the answer%s%s",
                        said[0] ? ": " : "", said);
        fail(call, &meaning, message);
        return OPENAI_OVER;
}

/* What DONE has beside its own: members of the last chunk, then the usage. */
static void take_extra(struct openai_call *call) {
        struct openai_bytes *from = call->last.n ? &call->last : &call->details;
        uint32_t n = from->n;

        if (from == &call->last && call->details.n &&
                        (openai_bytes_add(from, ",", 1) ||
                                        openai_bytes_add(from, call->details.p, call->details.n)))
                from->n = n; /* no memory: the three numbers stand on their own */
        call->f->extra = from->p;
        call->f->extra_len = from->n;
        *from = (struct openai_bytes){0};
}

void openai_finish(struct openai_call *call) {
        struct flight *f = call->f;
        char finish[sizeof(call->finish)];

        memcpy(finish, call->finish[0] ? call->finish : "stop",
                        call->finish[0] ? sizeof(finish) : 5);
        take_extra(call);
        openai_release(call, true);
        flight_done(f, finish, (uint32_t)strlen(finish));
}

/* ---- parts ---------------------------------------------------------------------------------- */

static struct mr_view kind_of(enum chunk_kind kind) {
        if (kind == CHUNK_REASONING)
                return (struct mr_view){"reasoning", 9};
        if (kind == CHUNK_REFUSAL)
                return (struct mr_view){"refusal", 7};
        return (struct mr_view){NULL, 0};
}

/* A record holds a quarter of this beside its text. */
static uint32_t extra_max(const struct openai_call *call) {
        return call->f->inf->tx->map.geo.max_rec / 4;
}

/* Members that millrace does not know. */
static struct mr_view extra_of(const struct openai_call *call, const struct chunk *chunk) {
        if (call->extra_out || chunk->extra.n > extra_max(call))
                return (struct mr_view){NULL, 0};
        return (struct mr_view){chunk->extra.p, chunk->extra.n};
}

/* The call's own go with its first piece, where there is room beside the chunk's. */
static struct emit_tool tool_of(const struct openai_call *call, const struct chunk_part *part,
                struct mr_view extra) {
        struct emit_tool tool = {.index = part->tool_index};

        if (call->part_at > 0)
                return tool;
        tool.id = (struct mr_view){part->tool_id.p, part->tool_id.n};
        tool.name = (struct mr_view){part->tool_name.p, part->tool_name.n};
        if (part->tool_extra.n <= extra_max(call) - extra.n && is_utf8(part->tool_extra))
                tool.extra = (struct mr_view){part->tool_extra.p, part->tool_extra.n};
        return tool;
}

/* One record of a part: its text from part_at on, as much as fits one. */
static int emit_piece(struct openai_call *call, const struct chunk *chunk,
                const struct chunk_part *part) {
        struct mr_view rest = {part->text.p + call->part_at, part->text.n - call->part_at};
        struct emit_delta delta = {.choice = part->choice,
                        .kind = kind_of(part->kind),
                        .extra = extra_of(call, chunk)};
        struct emit_tool tool = tool_of(call, part, delta.extra);
        int r;

        delta.text = (struct mr_view){rest.p,
                        rest.n > EMIT_TEXT_MAX ? json_utf8_cut(rest.p, rest.n, EMIT_TEXT_MAX)
                                               : rest.n};
        if (delta.text.n == 0 && rest.n)
                delta.text.n = rest.n < EMIT_TEXT_MAX ? rest.n
                                                      : EMIT_TEXT_MAX; /* no text at all: bytes */
        if (part->kind == CHUNK_TOOL)
                delta.tool = &tool;
        r = emit_delta(call->f, &delta);
        if (r)
                return r;
        call->extra_out = true;
        call->part_at += delta.text.n;
        return 0;
}

static bool over_limit(struct openai_call *call, uint64_t more) {
        struct flight *f = call->f;
        uint64_t limit = f->inf->w->settings->admission.max_response_bytes;

        if (f->answer_bytes + more <= limit)
                return false;
        /* flight_fail() makes the worker let go, which releases this call. */
        flight_fail(f, MR_E_too_large, 0, "the answer is larger than %llu bytes",
                        (unsigned long long)limit);
        return true;
}

static enum openai_step emit_parts(struct openai_call *call, const struct chunk *chunk) {
        for (; call->part < chunk->n_parts; call->part++, call->part_at = 0) {
                const struct chunk_part *part = &chunk->parts[call->part];
                if (call->part_at == 0 && over_limit(call, part->text.n + part->tool_id.n +
                                                                           part->tool_name.n))
                        return OPENAI_OVER;
                do {
                        if (emit_piece(call, chunk, part))
                                return OPENAI_WAIT;
                        call->got_token = true;
                } while (call->part_at < part->text.n);
        }
        return OPENAI_ON;
}

/* Members that came before there was anything to say: until then another worker may still answer.
 * What the first part's own chunk says again is said there. */
static enum openai_step emit_held(struct openai_call *call, const struct chunk *chunk) {
        while (call->extra_at < call->extra.n) {
                struct mr_view members;

                memcpy(&members.n, call->extra.p + call->extra_at, sizeof(members.n));
                members.p = call->extra.p + call->extra_at + sizeof(members.n);
                if ((members.n != chunk->extra.n ||
                                    memcmp(members.p, chunk->extra.p, members.n) != 0) &&
                                emit_delta(call->f, &(struct emit_delta){.extra = members}))
                        return OPENAI_WAIT;
                call->extra_at += (uint32_t)sizeof(members.n) + members.n;
        }
        call->extra.n = call->extra_at = call->extra_last = 0;
        return OPENAI_ON;
}

/* Those that say the same as the ones before are kept once. */
static enum openai_step hold_members(struct openai_call *call, const struct chunk *chunk) {
        struct openai_bytes *held = &call->extra;
        uint32_t head = sizeof(chunk->extra.n), last = call->extra_last;

        if (held->n + head + chunk->extra.n > extra_max(call))
                return OPENAI_ON;
        if (held->n - last == head + chunk->extra.n &&
                        memcmp(held->p + last + head, chunk->extra.p, chunk->extra.n) == 0)
                return OPENAI_ON;
        call->extra_last = held->n;
        if (openai_bytes_add(held, (const char *)&chunk->extra.n, head) ||
                        openai_bytes_add(held, chunk->extra.p, chunk->extra.n))
                return fail_stream(call, "out of memory");
        return OPENAI_ON;
}

/* The chunk ends the first choice: its members go with DONE, which says the same. */
static bool is_last(const struct openai_call *call, const struct chunk *chunk) {
        return chunk->finish_reason.p && chunk->n_choices == 1 &&
               chunk->extra.n <= extra_max(call) / 2;
}

/* A backend may end it twice. */
static enum openai_step keep_last(struct openai_call *call, const struct chunk *chunk) {
        if (call->last.n && emit_delta(call->f, &(struct emit_delta){.extra = {
                                            call->last.p, call->last.n}}))
                return OPENAI_WAIT;
        call->last.n = 0;
        return openai_bytes_add(&call->last, chunk->extra.p, chunk->extra.n)
                               ? fail_stream(call, "out of memory")
                               : OPENAI_ON;
}

/* A chunk without parts: its members go out alone once the answer has begun, or ends. */
static enum openai_step emit_members(struct openai_call *call, const struct chunk *chunk) {
        if (chunk->extra.n == 0 || chunk->extra.n > extra_max(call))
                return OPENAI_ON;
        if (!flight_has_begun(call->f) && !chunk->finished)
                return hold_members(call, chunk);
        if (is_last(call, chunk))
                return keep_last(call, chunk);
        if (over_limit(call, chunk->extra.n))
                return OPENAI_OVER;
        if (emit_delta(call->f, &(struct emit_delta){.extra = {chunk->extra.p, chunk->extra.n}}))
                return OPENAI_WAIT;
        call->f->answer_bytes += chunk->extra.n;
        return OPENAI_ON;
}

static void take_usage(struct openai_call *call, const struct chunk_usage *usage) {
        struct flight_usage *to = &call->f->usage;

        to->counted = true;
        to->prompt = usage->prompt;
        to->completion = usage->completion;
        to->total = usage->total ? usage->total : usage->prompt + usage->completion;
        call->details.n = 0;
        if (!usage->details || usage->raw.n > extra_max(call) / 2)
                return;
        if (openai_bytes_add(&call->details, "\"usage\":", 8) ||
                        openai_bytes_add(&call->details, usage->raw.p, usage->raw.n))
                call->details.n = 0; /* the three numbers stand on their own */
}

static void take_end(struct openai_call *call, const struct chunk *chunk) {
        uint32_t n = chunk->finish_reason.n;

        call->finished |= chunk->finished;
        if (chunk->finish_reason.p && n < sizeof(call->finish)) {
                memcpy(call->finish, chunk->finish_reason.p, n);
                call->finish[n] = '\0';
        }
        if (chunk->usage.has)
                take_usage(call, &chunk->usage);
}

/* What a chunk has besides text is passed on as it is, so it must be UTF-8 (text may be cut within
 * a character; post mends it). Members that millrace does not know are no reason to end the answer:
 * they are left out. */
static bool make_sound(struct chunk *chunk) {
        if (!is_utf8(chunk->extra))
                chunk->extra.n = 0;
        if (chunk->usage.details && !is_utf8(chunk->usage.raw))
                chunk->usage.details = false;
        for (uint32_t i = 0; i < chunk->n_parts; i++) {
                const struct chunk_part *part = &chunk->parts[i];
                if (part->kind == CHUNK_TOOL && (!is_utf8(part->tool_id) ||
                                                                !is_utf8(part->tool_name) ||
                                                                !is_utf8(part->text)))
                        return false;
        }
        return is_utf8(chunk->finish_reason);
}

static bool names_fit(const struct chunk *chunk) {
        for (uint32_t i = 0; i < chunk->n_parts; i++)
                if (chunk->parts[i].tool_id.n > EMIT_NAME_MAX ||
                                chunk->parts[i].tool_name.n > EMIT_NAME_MAX)
                        return false;
        return true;
}

/* All that the chunk has to say, from where it stopped. */
static enum openai_step emit_chunk(struct openai_call *call, const struct chunk *chunk) {
        if (chunk->n_parts || chunk->finished) {
                enum openai_step step = emit_held(call, chunk);
                if (step != OPENAI_ON)
                        return step;
        }
        return chunk->n_parts ? emit_parts(call, chunk) : emit_members(call, chunk);
}

enum openai_step openai_event(struct openai_call *call) {
        const struct sse_event *event = &call->event;
        struct chunk chunk;
        enum openai_step step;
        int r;

        call->waits = false;
        if (event->data_len == 6 && memcmp(event->data, "[DONE]", 6) == 0) {
                openai_finish(call);
                return OPENAI_OVER;
        }
        if (event->data_len == 0)
                return OPENAI_ON;
        r = chunk_parse(call->f->inf->openai->chunks, event->data, event->data_len,
                        call->f->endpoint == ENDPOINT_COMPLETIONS, &chunk);
        if (r)
                return fail_stream(call, "its answer has an event that is not JSON");
        if (chunk.failure.has || (chunk.failure.bare && event->name_len == 5 &&
                                                 memcmp(event->name, "error", 5) == 0))
                return fail_said(call, &chunk.failure);
        if (!make_sound(&chunk))
                return fail_stream(call, "its answer has an event that is not UTF-8");
        if (!names_fit(&chunk))
                return fail_stream(call, "a call of a function has too long a name or id");
        step = emit_chunk(call, &chunk);
        if (step == OPENAI_WAIT) {
                call->waits = true;
                flight_wait(call->f);
        }
        if (step != OPENAI_ON)
                return step;
        call->part = call->part_at = 0;
        call->extra_out = false;
        take_end(call, &chunk);
        return OPENAI_ON;
}

/* ---- the end of a response ------------------------------------------------------------------ */

static void conclude_error(struct openai_call *call) {
        struct chunk_failure none = {.has = false}, *failure = &none;
        char said[OPENAI_MESSAGE_MAX] = "", message[OPENAI_MESSAGE_MAX + 64];
        struct attempt_failure meaning;
        struct chunk chunk;

        if (call->whole.n && chunk_parse(call->f->inf->openai->chunks, call->whole.p, call->whole.n,
                                             false, &chunk) == 0)
                failure = &chunk.failure;
        meaning = openai_http_failure(call->status, failure, call->retry_after_ms);
        openai_own(failure, secret_of(call), &meaning);
        if (call->status == 401 || call->status == 403)
                snprintf(message, sizeof(message), "the backend refused our credentials (HTTP %u)",
                                call->status);
        else if (call->status >= 300 && call->status < 400)
                snprintf(message, sizeof(message),
                                "the backend redirects (HTTP %u); redirects are not followed",
                                call->status);
        else {
                openai_message(failure, secret_of(call), said);
                snprintf(message, sizeof(message), "HTTP %u%s%s", call->status, said[0] ? ": " : "",
                                said);
        }
        fail(call, &meaning, message);
}

static void conclude_transport(struct openai_call *call) {
        struct attempt_failure meaning = {.code = MR_E_upstream_error,
                        .retry = true,
                        .fall_back = true,
                        .blame = true};
        char message[OPENAI_MESSAGE_MAX];

        if (call->code == CURLE_OPERATION_TIMEDOUT) {
                meaning.code = MR_E_upstream_timeout;
                snprintf(message, sizeof(message), "no connection within %llu ms",
                                (unsigned long long)
                                                call->f->backend->settings->timeouts.connect_ms);
        } else if (call->code == CURLE_UNSUPPORTED_PROTOCOL ||
                        call->code == CURLE_WEIRD_SERVER_REPLY) {
                snprintf(message, sizeof(message), "its answer is not HTTP");
        } else {
                snprintf(message, sizeof(message), "%s", curl_easy_strerror(call->code));
        }
        fail(call, &meaning, message);
}

void openai_conclude(struct openai_call *call) {
        if (call->mode == OPENAI_ERROR)
                conclude_error(call);
        else if (call->finished)
                openai_finish(call); /* a cut behind the last word takes nothing away */
        else if (call->code != CURLE_OK)
                conclude_transport(call);
        else if (call->mode == OPENAI_HEAD && (call->status < 200 || call->status >= 300))
                conclude_error(call);
        else
                (void)fail_stream(call, "its answer ended without a finish_reason");
}
