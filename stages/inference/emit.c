#include "stages/inference/emit.h"

#include <string.h>

#include "stages/inference/calibrate.h"
#include "stages/inference/inference.h"
#include "stages/inference/routes.h"

#define TOOL_BYTES 256u /* framing of a tool call beside its strings */

/* ---- room ----------------------------------------------------------------------------------- */

static bool is_first(struct flight *f) {
        return slab_peek(&f->inf->slab, f->slot)->out_ord == 0;
}

/* What post holds to in place of who answers. */
static void head_mark(struct flight *f) {
        if (f->backend && !f->backend->kind->remote)
                f->inf->record.options |= OPTION_ESTIMATED;
}

/* Room for a record, and for the head before it when it is the first; both in one batch. */
static int room(struct flight *f, uint32_t bound) {
        struct inference *inf = f->inf;
        uint64_t bytes = bound;
        uint32_t n = 1;
        int r;

        if (inf->full)
                return EMIT_E_FULL; /* others wait already */
        if (is_first(f)) {
                struct record *record = &inf->record;
                uint64_t has;
                (void)flight_record(f);
                head_mark(f);
                has = record->has;
                record->has &= RECORD_HEAD;
                bytes += record_size_bound(record);
                record->has = has;
                n = 2;
        }
        r = ring_tx_room(inf->tx, n, bytes);
        if (r == RING_E_BATCH) {
                emit_commit(inf);
                r = ring_tx_room(inf->tx, n, bytes);
        }
        if (r < 0)
                worker_fail(inf->w, "inference: post's tail is impossible", r);
        if (r == 0)
                return 0;
        inf->full = true;
        inf->out->blocked = true;
        inf->out->want_n = n;
        inf->out->want_bytes = bytes;
        return EMIT_E_FULL;
}

/* Encodes into the ring. Room was checked, so failure means memory that we alone write is broken.
 */
static void put(struct flight *f, const struct record *record, uint32_t bound, uint16_t type,
                uint8_t flags) {
        struct inference *inf = f->inf;
        struct slab_version *version = slab_edit(&inf->slab, f->slot);
        uint8_t *to = NULL;
        uint32_t len = 0;
        int r;

        if (bound > inf->tx->map.geo.max_rec)
                bound = inf->tx->map.geo.max_rec; /* what came in as one record goes out as one */
        r = ring_tx_begin(inf->tx, bound, &to);

        if (!r)
                r = record_encode(record, to, bound, &len);
        if (r)
                worker_fail(inf->w, "inference: no room although room was checked", r);
        ring_tx_end(inf->tx,
                        &(struct ring_meta){.type = type,
                                        .flags = flags,
                                        .src = ring_src(inf->rx->map.geo.id, version->in_seq),
                                        .ord = version->out_ord++,
                                        .req_id = f->req_id,
                                        .t0 = f->t0},
                        len);
}

/* The request itself, without what only inference needed. */
static void put_head(struct flight *f) {
        struct record *record = &f->inf->record;
        uint64_t has;

        (void)flight_record(f);
        head_mark(f);
        has = record->has;
        record->has &= RECORD_HEAD;
        put(f, record, record_size_bound(record), RECORD_REQUEST, RING_HEAD);
        record->has = has;
}

static int emit(struct flight *f, uint16_t type, uint8_t flags) {
        struct inference *inf = f->inf;
        uint32_t bound = record_size_bound(&inf->made);
        int r = room(f, bound);

        if (r)
                return r;
        if (is_first(f))
                put_head(f);
        put(f, &inf->made, bound, type, flags);
        return 0;
}

/* ---- deltas --------------------------------------------------------------------------------- */

/* A map of index, id, name, arguments, extra: built as objects, packed once by the encoder. */
static void tool_set(struct inference *inf, const struct emit_delta *delta, msgpack_object *map,
                msgpack_object_kv kv[5]) {
        const struct {
                const char *key;
                struct mr_view text;
        } texts[] = {{"id", delta->tool->id}, {"name", delta->tool->name},
                        {"arguments", delta->text}, {"extra", delta->tool->extra}};
        uint32_t n = 1;

        kv[0].key = (msgpack_object){.type = MSGPACK_OBJECT_STR, .via.str = {5, "index"}};
        kv[0].val = (msgpack_object){
                        .type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = delta->tool->index};
        for (uint32_t i = 0; i < 4; i++) {
                if (texts[i].text.n == 0)
                        continue;
                kv[n].key = (msgpack_object){.type = MSGPACK_OBJECT_STR,
                                .via.str = {(uint32_t)strlen(texts[i].key), texts[i].key}};
                kv[n++].val = (msgpack_object){.type = MSGPACK_OBJECT_STR,
                                .via.str = {texts[i].text.n, texts[i].text.p}};
        }
        *map = (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = {n, kv}};
        inf->made.has |= HAS(tool);
        inf->made.tool = map;
}

/* A delta ends where a token does, as a rule, so that what deltas cost adds up. */
static void count_text(struct flight *f, const struct mr_view *text) {
        f->answer_bytes += text->n;
        tokens_count(&f->answer, text->p, text->n);
}

/* What readers of a detached answer cannot know: it comes with its first record and its last. */
static void origin_set(struct flight *f) {
        const struct record *record = flight_record(f);
        struct record *made = &f->inf->made;

        if (!(record->has & HAS(options)) || !(record->options & OPTION_DETACH))
                return;
        made->has |= record->has & (HAS(model) | HAS(created));
        made->model = record->model;
        made->created = record->created;
}

int emit_delta(struct flight *f, const struct emit_delta *delta) {
        struct inference *inf = f->inf;
        struct record *made = &inf->made;
        msgpack_object_kv kv[5];
        msgpack_object map;
        int r;

        FAULT(inf->w, flight_has_begun(f) ? "between_tokens" : "first_token", delta->text.p,
                        delta->text.n);
        made->has = 0;
        made->n_unknown = 0;
        if (delta->tool) {
                tool_set(inf, delta, &map, kv);
        } else if (delta->text.n) {
                made->has |= HAS(text);
                made->text = delta->text;
        }
        if (delta->choice) {
                made->has |= HAS(choice);
                made->choice = delta->choice;
        }
        if (delta->kind.n) {
                made->has |= HAS(delta_kind);
                made->delta_kind = delta->kind;
        }
        if (delta->extra.n) {
                made->has |= HAS(extra);
                made->extra = delta->extra;
        }
        if (!flight_has_begun(f))
                origin_set(f);
        r = emit(f, RECORD_DELTA, 0);
        if (r)
                return r;
        if (f->first_ns == 0 && (made->has & (HAS(text) | HAS(tool)))) {
                f->first_ns = clock_now_ns();
                if (flight_record(f)->options & OPTION_DEADLINE_FIRST)
                        loop_timer_clear(inf->w->loop, &f->deadline);
        }
        count_text(f, &delta->text);
        return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Rows of rag (id, title, url, start, end, score, text) become [n, id, title, url, start, end,
 * cited]; post says what was cited. Only documents that are in the prompt. */
static void sources_set(struct flight *f) {
        struct inference *inf = f->inf;
        const struct record *record = flight_record(f);
        uint32_t n = 0, limit = INFERENCE_SOURCES_MAX;

        if (!(record->has & HAS(documents)) || record->documents->type != MSGPACK_OBJECT_ARRAY)
                return;
        if (record->has & HAS(n_documents) && record->n_documents < limit)
                limit = (uint32_t)record->n_documents;
        for (uint32_t i = 0; i < record->documents->via.array.size && n < limit; i++) {
                const msgpack_object *row = &record->documents->via.array.ptr[i];
                msgpack_object *to = inf->sources[n];
                if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 7)
                        continue;
                to[0] = (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = i + 1};
                memcpy(&to[1], row->via.array.ptr, 5 * sizeof(*to));
                to[6] = (msgpack_object){.type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = false};
                inf->source_rows[n++] = (msgpack_object){.type = MSGPACK_OBJECT_ARRAY,
                                .via.array = {INFERENCE_SOURCE_FIELDS, to}};
        }
        if (n == 0)
                return;
        inf->source_list = (msgpack_object){
                        .type = MSGPACK_OBJECT_ARRAY, .via.array = {n, inf->source_rows}};
        inf->made.has |= HAS(sources);
        inf->made.sources = &inf->source_list;
}

/* Where the backend has not counted, or has not come to it: what was delivered. */
static void usage_count(struct flight *f) {
        const struct record *record = flight_record(f);
        struct flight_usage *usage = &f->usage;

        if (usage->counted)
                return;
        usage->prompt = record->has & HAS(prompt_tokens) ? record->prompt_tokens : 0;
        usage->completion = calibrate_tokens(f, &f->answer);
        usage->total = usage->prompt + usage->completion;
}

static void usage_set(struct flight *f) {
        struct record *made = &f->inf->made;
        const struct flight_usage *usage = &f->usage;

        made->has |= HAS(prompt_tokens) | HAS(completion_tokens) | HAS(total_tokens);
        made->prompt_tokens = usage->prompt;
        made->completion_tokens = usage->completion;
        made->total_tokens = usage->total;
}

static void done_set(struct flight *f, uint64_t now_ns) {
        const struct record *record = flight_record(f);
        struct record *made = &f->inf->made;

        made->has = HAS(finish_reason) | HAS(inference_us) |
                    (record->has & (HAS(rag_us) | HAS(assemble_us)));
        made->rag_us = record->rag_us;
        made->assemble_us = record->assemble_us;
        made->finish_reason = (struct mr_view){f->finish, (uint32_t)strlen(f->finish)};
        made->inference_us = (now_ns - f->claim_ns) / NS_PER_US;
        if (f->first_ns) {
                made->has |= HAS(ttft_us);
                made->ttft_us = (f->first_ns - f->claim_ns) / NS_PER_US;
        }
        if (f->backend) {
                made->has |= HAS(worker);
                made->worker = backend_name(f->backend);
        }
        if (f->extra_len) {
                made->has |= HAS(extra);
                made->extra = (struct mr_view){f->extra, f->extra_len};
        }
        usage_set(f);
        sources_set(f);
}

static void own_set(struct record *made, const struct attempt_own *own) {
        if (own->code[0]) {
                made->has |= HAS(own_code);
                made->own_code = (struct mr_view){own->code, (uint32_t)strlen(own->code)};
        }
        if (own->param[0]) {
                made->has |= HAS(own_param);
                made->own_param = (struct mr_view){own->param, (uint32_t)strlen(own->param)};
        }
}

static void error_set(struct flight *f) {
        struct record *made = &f->inf->made;

        made->has = HAS(code) | HAS(message);
        made->code = f->code;
        made->message = (struct mr_view){f->message, (uint32_t)strlen(f->message)};
        if (f->retry_after_ms) {
                made->has |= HAS(retry_after_ms);
                made->retry_after_ms = f->retry_after_ms;
        }
        own_set(made, &f->own);
        if (f->code == MR_E_dead_letter) {
                made->has |= HAS(letter_stage) | HAS(letter_strikes) | HAS(letter_signal);
                made->letter_stage = f->letter.stage;
                made->letter_strikes = f->letter.strikes;
                made->letter_signal = f->letter.signal;
        }
}

int emit_restart(struct flight *f, enum mr_error code, struct mr_view message) {
        struct record *made = &f->inf->made;

        made->n_unknown = 0;
        made->has = HAS(code) | HAS(message);
        made->code = code;
        made->message = message;
        return emit(f, RECORD_RESTART, 0);
}

int emit_terminal(struct flight *f) {
        struct inference *inf = f->inf;
        uint64_t now_ns = clock_now_ns();
        bool done = f->code == MR_E_none, some = done || f->first_ns != 0;
        int r;

        inf->made.n_unknown = 0;
        if (some)
                usage_count(f);
        if (done)
                done_set(f, now_ns);
        else
                error_set(f);
        origin_set(f);
        r = emit(f, done ? RECORD_DONE : RECORD_ERROR, done ? RING_LAST : RING_LAST | RING_ERROR);
        if (r)
                return r;
        slab_edit(&inf->slab, f->slot)->done = 1;
        f->passed_seq = inf->tx->next;
        counters_observe(inf->w->counters, HISTOGRAM_stage, now_ns - f->claim_ns);
        if (some) {
                counters_add(inf->w->counters, COUNTER_tokens_prompt, f->usage.prompt);
                counters_add(inf->w->counters, COUNTER_tokens_completion, f->usage.completion);
        }
        return 0;
}

/* ---- the batch ------------------------------------------------------------------------------ */

void emit_commit(struct inference *inf) {
        if (inf->slab.n_touched == 0)
                return;
        FAULT(inf->w, "before_commit", NULL, 0);
        slab_commit(&inf->slab, inf->tx);
        FAULT(inf->w, "after_commit", NULL, 0);
        if (inf->n_claims == 0)
                return;
        FAULT(inf->w, "before_ack", NULL, 0);
        for (uint32_t i = 0; i < inf->n_claims; i++) {
                ring_rx_ack(inf->rx, inf->claims[i].seq);
                slab_acked(&inf->slab, inf->claims[i].slot);
        }
        FAULT(inf->w, "after_ack", NULL, 0);
        inf->n_claims = 0;
}
