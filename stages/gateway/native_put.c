#include "stages/gateway/native_put.h"

#include <string.h>

#include "shm/admission.h"
#include "stages/common/pack.h"
#include "stages/gateway/ask.h"

/* Names of the members of one source. */
#define SOURCE_BOUND 64u

/* Names are constants: their heads and copies are made when this is compiled. */
#define put_name(w, name) pack_str(w, (struct mr_view){name, (uint32_t)__builtin_strlen(name)})

static inline void put_number(struct pack_buf *w, const char *name, uint64_t v) {
        put_name(w, name);
        pack_uint(w, v);
}

static inline void put_member(struct pack_buf *w, const char *name, struct mr_view text) {
        put_name(w, name);
        pack_str(w, text);
}

void native_put_begin(struct pack_buf *w, const char *name, struct mr_view id, uint32_t members) {
        pack_map(w, 1 + (id.n > 0) + members);
        put_member(w, "ev", (struct mr_view){name, (uint32_t)strlen(name)});
        if (id.n > 0)
                put_member(w, "id", id);
}

void native_put_accepted(struct pack_buf *w, struct mr_view id, uint32_t lane) {
        native_put_begin(w, "accepted", id, 1);
        put_number(w, "lane", lane);
}

/* The members that an error has everywhere: an event of its own, or within a result. */
#define ERROR_MEMBERS 5u
static void put_error(struct pack_buf *w, enum mr_error code, struct mr_view message,
                uint64_t retry_after_ms) {
        const char *name = mr_error_name(code);

        put_member(w, "code", (struct mr_view){name, (uint32_t)strlen(name)});
        put_number(w, "status", mr_error_status(code));
        put_member(w, "message", message);
        put_name(w, "retry_after_ms");
        if (retry_after_ms == ASK_NO_RETRY)
                msgpack_pack_nil(&w->pk);
        else
                pack_uint(w, retry_after_ms);
        put_name(w, "retryable");
        pack_bool(w, mr_error_retryable(code));
}

void native_put_error(struct pack_buf *w, struct mr_view id, uint64_t seq, enum mr_error code,
                struct mr_view message, uint64_t retry_after_ms) {
        native_put_begin(w, "error", id, ERROR_MEMBERS + (seq > 0));
        if (seq > 0)
                put_number(w, "seq", seq);
        put_error(w, code, message, retry_after_ms);
}

/* ---- events of the log ---- */

static enum mr_error error_code(const struct record *r) {
        if (!(r->has & HAS(code)) || r->code == MR_E_none || r->code >= MR_ERRORS_N)
                return MR_E_internal;
        return (enum mr_error)r->code;
}

static void put_record_error(struct pack_buf *w, const struct record *r) {
        const char *name = mr_error_name(error_code(r));
        struct mr_view message = {name, (uint32_t)strlen(name)};

        if (r->has & HAS(message))
                message = r->message;
        put_error(w, error_code(r), message,
                        r->has & HAS(retry_after_ms) ? r->retry_after_ms : ASK_NO_RETRY);
}

static void put_usage(struct pack_buf *w, const struct record *r) {
        uint64_t prompt = r->has & HAS(prompt_tokens) ? r->prompt_tokens : 0;
        uint64_t completion = r->has & HAS(completion_tokens) ? r->completion_tokens : 0;

        put_name(w, "usage");
        pack_map(w, 3);
        put_number(w, "prompt_tokens", prompt);
        put_number(w, "completion_tokens", completion);
        put_number(w, "total_tokens",
                        r->has & HAS(total_tokens) ? r->total_tokens : prompt + completion);
}

/* An array of arrays in the record, an array of maps for the client. What has another form is left
 * out: another process wrote it. */
static void put_sources(struct pack_buf *w, const struct record *r) {
        static const char *const names[] = {"n", "id", "title", "url", "start", "end", "cited"};
        const uint32_t n_names = sizeof(names) / sizeof(names[0]);
        const msgpack_object *all = r->has & HAS(sources) ? r->sources : NULL;
        uint32_t n = all && all->type == MSGPACK_OBJECT_ARRAY ? all->via.array.size : 0;

        put_name(w, "sources");
        msgpack_pack_array(&w->pk, n);
        for (uint32_t i = 0; i < n; i++) {
                const msgpack_object *one = &all->via.array.ptr[i];
                uint32_t m = one->type == MSGPACK_OBJECT_ARRAY ? one->via.array.size : 0;

                m = m < n_names ? m : n_names;
                pack_map(w, m);
                for (uint32_t k = 0; k < m; k++) {
                        const msgpack_object *value = &one->via.array.ptr[k];

                        put_name(w, names[k]);
                        if (k + 1 == n_names && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
                                pack_bool(w, value->via.u64 != 0);
                        else
                                msgpack_pack_object(&w->pk, *value);
                }
        }
}

static uint32_t sources_bound(const struct record *r) {
        if (!(r->has & HAS(sources)) || r->sources->type != MSGPACK_OBJECT_ARRAY)
                return 0;
        return r->sources->via.array.size * SOURCE_BOUND;
}

static void put_timing(struct pack_buf *w, const struct record *r) {
        const struct {
                const char *name;
                uint64_t has, us;
        } times[] = {
                        {"rag", 0,
                                        r->has & HAS(rag_us)
                                                        ? r->rag_us
                                                        : 0}, /* always: 0 when nothing was asked */
                        {"assemble", HAS(assemble_us), r->assemble_us},
                        {"inference", HAS(inference_us), r->inference_us},
                        {"first_token", HAS(ttft_us), r->ttft_us},
                        {"post", HAS(post_us), r->post_us},
        };
        const size_t n_times = sizeof(times) / sizeof(times[0]);
        uint32_t n = 0;

        for (size_t i = 0; i < n_times; i++)
                n += !times[i].has || (r->has & times[i].has);
        put_name(w, "timing_us");
        pack_map(w, n);
        for (size_t i = 0; i < n_times; i++)
                if (!times[i].has || (r->has & times[i].has))
                        put_number(w, times[i].name, times[i].us);
}

static struct mr_view finish_reason(const struct record *r) {
        return r->has & HAS(finish_reason) ? r->finish_reason : (struct mr_view){"stop", 4};
}

/* Members of a backend's chunk that nobody here knows, as one JSON object. */
static void put_extra(struct pack_buf *w, const struct record *r) {
        if (!(r->has & HAS(extra)))
                return;
        put_name(w, "extra");
        pack_str_head(w, r->extra.n + 2);
        pack_byte(w, '{');
        pack_bytes(w, r->extra.p, r->extra.n);
        pack_byte(w, '}');
}

static void put_done(struct pack_buf *w, const struct record *r) {
        put_member(w, "finish_reason", finish_reason(r));
        put_usage(w, r);
        put_sources(w, r);
        put_timing(w, r);
        if (r->has & HAS(redactions)) {
                put_name(w, "redactions");
                msgpack_pack_object(&w->pk, *r->redactions);
        }
        if (r->has & HAS(safety)) {
                put_name(w, "safety");
                msgpack_pack_object(&w->pk, *r->safety);
        }
        if (r->has & HAS(tripwire)) {
                put_name(w, "tripwire");
                msgpack_pack_double(&w->pk, (double)r->tripwire / 1000);
        }
        put_extra(w, r);
}

static uint32_t done_members(const struct record *r) {
        return 4 + ((r->has & HAS(extra)) != 0) + ((r->has & HAS(redactions)) != 0) +
               ((r->has & HAS(safety)) != 0) + ((r->has & HAS(tripwire)) != 0);
}

/* What makes a delta something else than text of the first choice. */
static uint32_t kind_members(const struct record *r) {
        return ((r->has & HAS(choice)) && r->choice > 0) + ((r->has & HAS(delta_kind)) != 0);
}

static void put_kind(struct pack_buf *w, const struct record *r) {
        if ((r->has & HAS(choice)) && r->choice > 0)
                put_number(w, "choice", r->choice);
        if (r->has & HAS(delta_kind))
                put_member(w, "kind", r->delta_kind);
}

static void put_delta(struct pack_buf *w, const struct record *r) {
        put_kind(w, r);
        if (r->has & HAS(text))
                put_member(w, "text", r->text);
        if (r->has & HAS(tool)) {
                put_name(w, "tool");
                msgpack_pack_object(&w->pk, *r->tool);
        }
        put_extra(w, r);
}

static uint32_t delta_members(const struct record *r) {
        return kind_members(r) + ((r->has & HAS(text)) != 0) + ((r->has & HAS(tool)) != 0) +
               ((r->has & HAS(extra)) != 0);
}

uint32_t native_event_bound(const struct log_event_head *head, const struct record *record) {
        return NATIVE_EVENT_BOUND + head->len + sources_bound(record);
}

void native_put_event(struct pack_buf *w, struct mr_view id, const struct log_event_head *head,
                const struct record *record) {
        if (head->type == RECORD_DELTA)
                native_put_begin(w, "delta", id, 1 + delta_members(record));
        else if (head->type == RECORD_DONE)
                native_put_begin(w, "done", id, 1 + done_members(record));
        else
                native_put_begin(w, "error", id, 1 + ERROR_MEMBERS);
        put_number(w, "seq", head->seq);
        if (head->type == RECORD_DELTA)
                put_delta(w, record);
        else if (head->type == RECORD_DONE)
                put_done(w, record);
        else
                put_record_error(w, record);
}

/* ---- texts from several events ---- */

void native_put_text_head(struct pack_buf *w, struct mr_view id, uint64_t first, uint64_t seq,
                const struct record *like, uint32_t text_bytes) {
        native_put_begin(w, "delta", id, 3 + kind_members(like));
        put_number(w, "seq", seq);
        put_number(w, "first", first);
        put_kind(w, like);
        put_name(w, "text");
        pack_str_head(w, text_bytes);
}

/* ---- results ---- */

#define RESULT_REST 4u /* finish_reason, usage, sources, error */

void native_put_result_head(struct pack_buf *w, struct mr_view id, const char *status,
                uint32_t text_bytes) {
        native_put_begin(w, "result", id, 2 + RESULT_REST);
        put_member(w, "status", (struct mr_view){status, (uint32_t)strlen(status)});
        put_name(w, "text");
        pack_str_head(w, text_bytes);
}

static void put_nil(struct pack_buf *w, const char *name) {
        put_name(w, name);
        msgpack_pack_nil(&w->pk);
}

void native_put_result_rest(struct pack_buf *w, uint16_t type, const struct record *terminal) {
        if (type == RECORD_DONE) {
                put_member(w, "finish_reason", finish_reason(terminal));
                put_usage(w, terminal);
                put_sources(w, terminal);
        } else {
                put_nil(w, "finish_reason");
                put_nil(w, "usage");
                put_nil(w, "sources");
        }
        if (type == RECORD_ERROR) {
                put_name(w, "error");
                pack_map(w, ERROR_MEMBERS);
                put_record_error(w, terminal);
        } else {
                put_nil(w, "error");
        }
}
