/*
 * post -- the fourth stage: what a model said, made fit for readers.
 *
 * Shape   one data ring in (inference), one out (stream); per request REQUEST DELTA* (DONE | ERROR)
 * Owner   folds every input into its slab (rings.md 2.6): state and outputs of a batch become visible by
 *         one store, so a kill repeats and loses nothing
 * Errors  a record that is none: shared memory is inconsistent, the worker gives up
 * Limits  POST_OUTPUTS outputs for one input; TURN_RECORDS inputs a turn
 *
 * A delta goes on with whole UTF-8 characters only, and redacted where that is configured; a DONE first
 * settles what waited, and says which sources the answer cited and what was redacted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/poison.h"
#include "stages/post/post_own.h"

static enum hold_kind kind_of(const struct record *record) {
        if (!(record->has & HAS(delta_kind)))
                return HOLD_TEXT;
        if (record->delta_kind.n == 9 && !memcmp(record->delta_kind.p, "reasoning", 9))
                return HOLD_REASONING;
        if (record->delta_kind.n == 7 && !memcmp(record->delta_kind.p, "refusal", 7))
                return HOLD_REFUSAL;
        return HOLD_OTHER;
}

/* Room was checked before the input was taken (credit before claim), so begin can only fail when
 * memory that we alone write does not hold together. */
static uint8_t *output_begin(struct worker *w, uint32_t bound) {
        struct post *post = w->stage;
        uint8_t *to = NULL;
        int r = ring_tx_begin(post->tx, bound, &to);

        if (r)
                worker_fail(w, "post: no room although room was checked", r);
        return to;
}

static void output_end(struct post *post, const struct ring_msg *msg, struct slab_version *next,
                uint16_t type, uint8_t flags, uint32_t len) {
        ring_tx_end(post->tx,
                        &(struct ring_meta){.type = type,
                                        .flags = flags,
                                        .src = ring_src(post->rx->map.geo.id, msg->seq),
                                        .ord = next->out_ord++,
                                        .req_id = msg->req_id,
                                        .t0 = msg->t0},
                        len);
}

static void emit_same(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        uint8_t *to = output_begin(w, msg->len);

        memcpy(to, msg->data, msg->len);
        output_end(w->stage, msg, next, msg->type, msg->flags, msg->len);
}

void post_emit(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const struct record *record, uint16_t type, uint8_t flags) {
        uint32_t bound = record_size_bound(record), len = 0;
        uint8_t *to = output_begin(w, bound);
        int r = record_encode(record, to, bound, &len);

        if (r)
                worker_fail(w, "post: a record is larger than its bound", r);
        output_end(w->stage, msg, next, type, flags, len);
}

/* What a delta has beside its text goes with the first piece, or alone. */
#define POST_ONCE (HAS(extra) | HAS(tool) | HAS(model) | HAS(created))

/* The end of a piece of at most so many bytes that does not cut a character. */
static uint32_t piece_end(const char *text, uint32_t from, uint32_t n, uint32_t piece) {
        uint32_t end = n - from > piece ? from + piece : n;

        while (end < n && end > from && ((uint8_t)text[end] & 0xc0) == 0x80)
                end--;
        return end;
}

void post_emit_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, const char *text, uint32_t n) {
        const struct post *post = w->stage;

        for (uint32_t from = 0; from < n || (from == 0 && record->has & POST_ONCE);) {
                uint32_t end = piece_end(text, from, n, post->piece);
                record->text = (struct mr_view){text + from, end - from};
                post_emit(w, msg, next, record, RECORD_DELTA, 0);
                record->has &= ~POST_ONCE;
                from = end;
        }
}

bool post_go_on(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text) {
        struct post *post = w->stage;

        return post->safety && kind != HOLD_OTHER
                               ? post_safety_text(w, msg, next, record, kind, text, false)
                               : post_redacted(w, msg, next, record, kind, text);
}

bool post_redacted(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text) {
        struct post *post = w->stage;

        if (post->redaction && kind != HOLD_OTHER)
                return post_redact_text(w, msg, next, record, kind, text, false);
        post_emit_text(w, msg, next, record, text.p, text.n);
        return true;
}

/* A text, whole characters of it. `same`: it is the record's own. */
static void say(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, enum hold_kind kind, struct mr_view text, bool same) {
        struct post *post = w->stage;
        struct post_bounds *bounds = &post_state_of(next)->bounds;
        bool all = post_bound(bounds, &text), formats = kind == HOLD_TEXT && bounds->what, goes_on = true;

        if (all)
                post_drop_logprobs(record);
        if (formats)
                goes_on = post_format_text(w, msg, next, record, text, false);
        else if (same && !all && !((post->redaction || post->safety) && kind != HOLD_OTHER))
                emit_same(w, msg, next);
        else
                goes_on = post_go_on(w, msg, next, record, kind, text);
        if (goes_on && all)
                post_end(w, msg, next, POST_AT_LENGTH);
}

static void say_delta(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct post_state *state = post_state_of(next);
        uint16_t choice = record->has & HAS(choice) ? (uint16_t)record->choice : 0;
        enum hold_kind kind = kind_of(record);
        struct mr_view text = record->text;
        bool clean;

        if (post->redaction && !post_redact_extra(w, msg, next, record))
                return;
        if (post->redaction && record->has & HAS(tool) && !post_redact_tool(w, msg, next, record))
                return;
        if (record->has & HAS(tool) || kind == HOLD_REFUSAL)
                state->bounds.flags |= POST_OTHER;
        if (!(record->has & HAS(text))) {
                if (!post->redaction)
                        emit_same(w, msg, next);
                else if (record->has & POST_ONCE)
                        post_emit(w, msg, next, record, RECORD_DELTA, 0);
                return;
        }
        if (kind == HOLD_TEXT && choice == 0)
                citations_feed(&state->citations, text.p, text.n);
        clean = hold_is_clean(&state->hold, choice, kind, text.p, text.n);
        if (!clean) {
                text.n = hold_feed(&state->hold, choice, kind, text.p, text.n, post->text);
                text.p = post->text;
        }
        say(w, msg, next, record, kind, text, clean);
}

/* Behind the end that it was given here, nothing is said; inference is told again, for what it was told first may
 * have got lost. */
static void on_delta(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        if (post_state_of(next)->bounds.finish) {
                post_cancel_inference(w, msg);
                return;
        }
        post_open(w, next);
        say_delta(w, msg, next, record);
        post_keep(w, msg, next);
}

/* Sources come from inference as [n, id, title, url, start, end, cited]; the last is ours to say. */
static void mark_cited(const struct record *record, const struct citations *citations) {
        const msgpack_object *list = record->sources;

        if (!(record->has & HAS(sources)) || list->type != MSGPACK_OBJECT_ARRAY)
                return;
        for (uint32_t i = 0; i < list->via.array.size; i++) {
                msgpack_object *row = &list->via.array.ptr[i];
                if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 7)
                        continue;
                const msgpack_object *number = &row->via.array.ptr[0];
                msgpack_object *cited = &row->via.array.ptr[6];
                uint64_t n = number->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? number->via.u64 : 0;
                cited->type = MSGPACK_OBJECT_BOOLEAN;
                cited->via.boolean = n >= 1 && n <= 64 && (citations->cited >> (n - 1) & 1);
        }
}

static void on_done(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct post_state *state = post_state_of(next);
        uint64_t spent_ns;

        post_open(w, next);
        if (!state->bounds.finish)
                post_flush(w, msg, next);
        if (next->done)
                return;
        if (post->redaction) {
                (void)post_redact_extra(w, msg, next, record);
                post_redact_counts(w, record);
        }
        post_safety_counts(w, record);
        post_finish_set(next, record);
        mark_cited(record, &state->citations);
        record->has |= HAS(post_us);
        spent_ns = clock_now_ns() - post->turn_ns;
        record->post_us = spent_ns / NS_PER_US;
        counters_observe(w->counters, HISTOGRAM_stage, spent_ns);
        post_emit(w, msg, next, record, RECORD_DONE, RING_LAST);
        next->done = 1;
}

/* An answer that was ended here has all that it is to have: what went wrong behind that is nobody's error. */
static void on_error(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        uint64_t code = record->has & HAS(code) ? record->code : MR_E_internal;
        struct record done = {.has = 0};

        if (!post_state_of(next)->bounds.finish || code == MR_E_cancelled || code == MR_E_draining) {
                next->done = 1;
                emit_same(w, msg, next);
                return;
        }
        on_done(w, msg, next, &done);
}

/* ---- poison ---- */

/* A hint: without it inference goes on, and what it says is dropped here. */
void post_cancel_inference(struct worker *w, const struct ring_msg *msg) {
        struct post *post = w->stage;
        struct record record = {.has = HAS(reason), .reason = CANCEL_STOP};
        struct ring_meta meta = {
                        .type = RECORD_CANCEL, .flags = RING_LAST, .req_id = msg->req_id};
        uint32_t len = record_size_bound(&record);
        uint8_t *to;

        if (!post->cancels || ring_tx_begin(&post->cancels->tx, len, &to) ||
                        record_encode(&record, to, len, &len))
                return;
        ring_tx_end(&post->cancels->tx, &meta, len);
        ring_tx_commit(&post->cancels->tx);
}

/* This record has killed this stage often enough: nothing of it is looked at any more, and its request
 * ends here. A head that nobody can read goes on as one that says nothing. */
static void give_up(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct poison_error error;

        poison_error(w, msg->strikes, &error);
        post_cancel_inference(w, msg);
        if (msg->type == RECORD_REQUEST)
                post_emit(w, msg, next, &(struct record){.has = 0}, RECORD_REQUEST, msg->flags);
        post_emit(w, msg, next, &error.record, RECORD_ERROR, RING_LAST | RING_ERROR);
        next->done = 1;
}

/* ---- records ---- */

/* A head goes on without assemble's note: the values in it are for nobody else. */
static void on_request(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct record record;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r)
                worker_fail(w, "post: inference wrote a broken record", r);
        if (record.has & HAS(redacted)) {
                record.has &= ~HAS(redacted);
                post_emit(w, msg, next, &record, RECORD_REQUEST, msg->flags);
        } else {
                emit_same(w, msg, next);
        }
        (void)post_begin(w, msg, next, &record);
}

/* Folds one record into its request's version and emits what follows from it. */
static void fold(struct worker *w, const struct ring_msg *msg, uint32_t slot) {
        struct post *post = w->stage;
        struct slab_version *next = slab_edit(&post->slab, slot);
        struct record record;
        int r;

        next->in_seq = msg->seq;
        post->slot = slot;
        post->budget = msg->len * HOLD_GROWTH + post->spare / 2;
        if (msg->strikes >= POISON_STRIKES) {
                give_up(w, msg, next);
                return;
        }
        FAULT(w, "on_record", msg->data, msg->len);
        switch (msg->type) {
        case RECORD_REQUEST:
                on_request(w, msg, next);
                return;
        case RECORD_RESTART:
                post_begin_anew(w, next);
                emit_same(w, msg, next);
                return;
        case RECORD_DELTA:
        case RECORD_DONE:
        case RECORD_ERROR:
                r = record_decode(&w->decoder, msg->data, msg->len, &record);
                if (r)
                        worker_fail(w, "post: inference wrote a broken record", r);
                if (msg->type == RECORD_DELTA)
                        on_delta(w, msg, next, &record);
                else if (msg->type == RECORD_DONE)
                        on_done(w, msg, next, &record);
                else
                        on_error(w, msg, next, &record);
                return;
        default:
                worker_fail(w, "post: inference wrote a record of unknown type", -EPROTO);
        }
}

/* Publishes the batch: versions, outputs, then acks; frees what has ended. */
static void batch_commit(struct worker *w) {
        struct post *post = w->stage;

        if (!post->n_batch)
                return;
        ring_rx_idle(post->rx);
        FAULT(w, "before_commit", NULL, 0);
        slab_commit(&post->slab, post->tx);
        FAULT(w, "after_commit", NULL, 0);
        FAULT(w, "before_ack", NULL, 0);
        for (uint32_t i = 0; i < post->n_batch; i++) {
                ring_rx_ack(post->rx, post->batch[i].seq);
                if (post->batch[i].slot == SLAB_NONE)
                        continue;
                slab_acked(&post->slab, post->batch[i].slot);
                if (slab_peek(&post->slab, post->batch[i].slot)->done &&
                                slab_free(&post->slab, post->batch[i].slot))
                        format_forget(post->format, post->batch[i].slot);
        }
        FAULT(w, "after_ack", NULL, 0);
        post->n_batch = 0;
}

static bool is_formatted(const struct post *post, const struct ring_msg *msg) {
        uint32_t slot = slab_find(&post->slab, msg->req_id);

        return slot != SLAB_NONE &&
               ((const struct post_state *)slab_peek(&post->slab, slot)->state)->bounds.what != 0;
}

/* Room for everything that this input can make? Outputs grow by at most HOLD_GROWTH. */
static bool has_credit(struct worker *w, const struct ring_msg *msg) {
        struct post *post = w->stage;
        uint64_t bytes = (uint64_t)msg->len * HOLD_GROWTH + POST_OUTPUTS * 512u + post->spare, most;
        uint32_t n = POST_OUTPUTS + (msg->len * HOLD_GROWTH + post->spare / 2) / post->piece +
                     (post->redaction || post->safety ? REDACTION_STREAMS : 0);
        int r;

        if (is_formatted(post, msg)) {
                bytes += FORMAT_STREAMS * FORMAT_HELD;
                n += FORMAT_STREAMS + FORMAT_STREAMS * FORMAT_HELD / post->piece;
        }
        most = post->tx->map.geo.bytes - (uint64_t)RING_ALIGN_BYTES * n; /* an empty ring takes all of it */
        if (bytes > most)
                bytes = most;
        r = ring_tx_room(post->tx, n, bytes);
        if (r == RING_E_BATCH) {
                batch_commit(w);
                r = ring_tx_room(post->tx, n, bytes);
        }
        if (r < 0)
                worker_fail(w, "post: stream's tail is impossible", r);
        post->out->blocked = r != 0;
        post->out->want_n = n;
        post->out->want_bytes = bytes;
        return r == 0;
}

/* Claims a slot for a head, which itself goes on at once, with what is needed of it later. */
static int slot_claim(struct worker *w, const struct ring_msg *msg, uint32_t *ret) {
        struct post *post = w->stage;
        struct ring_msg head = *msg;
        int r;

        head.data = post->asked;
        head.len = post_asked(w, msg, true);
        r = slab_claim(&post->slab, &head, ret);
        if (r && post->n_batch) { /* the slot may be one that this batch ends */
                batch_commit(w);
                r = slab_claim(&post->slab, &head, ret);
        }
        if (r == SLAB_E_EXTENTS) { /* no answer waits for a note: placeholders stay */
                head.len = post_asked(w, msg, false);
                r = slab_claim(&post->slab, &head, ret);
        }
        if (r == SLAB_E_EXTENTS) { /* nobody ends for one that waits: post_begin() ends it */
                head.len = 0;
                r = slab_claim(&post->slab, &head, ret);
        }
        return r;
}

/* The slot of this record's request; a head claims one. False: it must wait in the ring. */
static bool slot_of(struct worker *w, const struct ring_msg *msg, uint32_t *ret) {
        struct post *post = w->stage;

        *ret = slab_find(&post->slab, msg->req_id);
        if (*ret != SLAB_NONE && slab_peek(&post->slab, *ret)->done)
                *ret = SLAB_NONE; /* it ended already: only to be acked */
        else if (*ret == SLAB_NONE && msg->type == RECORD_REQUEST)
                return slot_claim(w, msg, ret) == 0;
        return true;
}

static void take(struct worker *w, const struct ring_msg *msg, uint32_t slot) {
        struct post *post = w->stage;

        ring_rx_take(post->rx);
        if (slot != SLAB_NONE) {
                slab_took(&post->slab, slot);
                fold(w, msg, slot);
        }
        post->batch[post->n_batch++] = (struct post_input){msg->seq, slot};
}

/* One with strikes: alone in its batch, so that its next death takes nothing along. */
static void take_struck(struct worker *w, const struct ring_msg *msg, uint32_t slot) {
        take(w, msg, slot);
        batch_commit(w);
        if (slot != SLAB_NONE && msg->strikes >= POISON_STRIKES)
                poison_given_up(w, msg->req_id, msg->strikes);
}

static unsigned post_turn(struct worker *w) {
        struct post *post = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;
        int r = 0;

        post->turn_ns = 0;
        for (; n < TURN_RECORDS; n++) {
                uint32_t slot;
                r = ring_rx_peek(post->rx, &msg);
                if (r == 0 && msg->strikes > 0)
                        batch_commit(w);
                if (r || !has_credit(w, msg) || !slot_of(w, msg, &slot))
                        break;
                if (!post->turn_ns)
                        post->turn_ns = clock_now_ns();
                if (msg->strikes > 0)
                        take_struck(w, msg, slot);
                else
                        take(w, msg, slot);
        }
        if (r < 0)
                worker_fail(w, "post: inference's ring is broken", r);
        batch_commit(w);
        ring_rx_flush(post->rx, false);
        return n;
}

/* ---- life ---- */

static int init_format(struct worker *w, uint32_t text_bytes) {
        struct post *post = w->stage;
        struct words_why why = {.index = 0};
        int r = format_new(w->settings, text_bytes, &post->format, &why);

        if (r == -EINVAL)
                log_error("settings", "key=post.format.%u expected=\"%s\"", why.index, why.text);
        return r;
}

static int init_redaction(struct worker *w, uint32_t text_bytes) {
        struct post *post = w->stage;
        struct redact_why why = {""};
        int r = redaction_new(w->settings, text_bytes, &post->redaction, &why);

        if (r == -EINVAL)
                log_error("settings", "key=post.redact error=\"%s\"", why.text);
        if (!post->redaction)
                return r;
        post->call_bytes = (uint32_t)(w->settings->memory.ring_bytes / 4);
        post->call = malloc(post->call_bytes);
        post->extra = malloc(2 * (size_t)text_bytes + 2);
        return post->call && post->extra ? 0 : -ENOMEM;
}

static int post_init(struct worker *w) {
        struct post *post = calloc(1, sizeof(*post));
        uint64_t ring_bytes = w->settings->memory.ring_bytes;
        uint32_t text_bytes = (uint32_t)(ring_bytes / 4 * HOLD_GROWTH + HOLD_SLACK);
        int r;

        if (!post)
                return -ENOMEM;
        w->stage = post;
        r = record_decoder_init(&post->decoder);
        if (r)
                return r;
        post->asked_bytes = (uint32_t)(ring_bytes / 4);
        post->text = malloc(text_bytes);
        post->asked = malloc(post->asked_bytes);
        post->packed = malloc(2 * sizeof(uint32_t) + FORMAT_PACKED + 2 * sizeof(struct redaction));
        if (!post->text || !post->asked || !post->packed)
                return -ENOMEM;
        r = init_format(w, text_bytes);
        if (r == 0)
                r = post_safety_init(w, text_bytes);
        if (r == 0)
                r = init_redaction(w, text_bytes);
        if (post->safety || post->redaction)
                post->spare = (uint32_t)(ring_bytes / 8);
        return r;
}

/* What inference was told last may have got lost with the last incarnation. */
static void cancel_ended(struct worker *w) {
        struct post *post = w->stage;

        for (uint32_t slot = 0; slot < post->slab.n_slots; slot++) {
                const struct slab_version *version;
                if (post->slab.slots[slot].live == SLAB_NONE)
                        continue;
                version = slab_peek(&post->slab, slot);
                if (((const struct post_state *)version->state)->bounds.finish)
                        post_cancel_inference(w, &(struct ring_msg){.req_id = version->req_id});
        }
}

static int post_attach(struct worker *w) {
        struct post *post = w->stage;
        struct worker_in *in = worker_data_in(w);
        struct worker_out *out = worker_data_out(w);

        post->rx = &in->rx;
        post->tx = &out->tx;
        post->piece = post->tx->map.geo.max_rec / 4;
        post->out = out;
        post->cancels = worker_find_out(w, RING_CANCEL, w->hello.lane,
                        topology_proc_stage(w->topology, w->hello.lane, ROLE_INFERENCE));
        int r = slab_attach(&post->slab, w->slab_map, w->slab_bytes, post->tx,
                        (struct ring_rx *const[]){post->rx}, 1, w->hello.blame != 0);
        if (r)
                return r;
        slab_sweep(&post->slab, UINT64_MAX); /* what had ended when the last incarnation died */
        cancel_ended(w);
        return format_slots(post->format, post->slab.n_slots);
}

static bool post_drained(struct worker *w) {
        struct post *post = w->stage;

        return post->slab.n_live == 0 && ring_rx_depth(post->rx) == 0;
}

static void post_fini(struct worker *w) {
        struct post *post = w->stage;

        slab_close(&post->slab);
        format_free(post->format);
        post_safety_fini(post);
        redaction_free(post->redaction);
        record_decoder_close(&post->decoder);
        free(post->asked);
        free(post->packed);
        free(post->extra);
        free(post->call);
        free(post->text);
        free(post);
}

static const struct stage_ops post_ops = {
                .name = "post",
                .role = ROLE_POST,
                .loop_entries = 64,
                .init = post_init,
                .attach = post_attach,
                .turn = post_turn,
                .drained = post_drained,
                .fini = post_fini,
};

int main(int argc, char **argv) {
        return worker_main(&post_ops, argc, argv);
}
