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

/* The end of a piece of at most POST_PIECE bytes that does not cut a character. */
static uint32_t piece_end(const char *text, uint32_t from, uint32_t n) {
        uint32_t end = n - from > POST_PIECE ? from + POST_PIECE : n;

        while (end < n && end > from && ((uint8_t)text[end] & 0xc0) == 0x80)
                end--;
        return end;
}

void post_emit_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, const char *text, uint32_t n) {
        for (uint32_t from = 0; from < n || (from == 0 && record->has & POST_ONCE);) {
                uint32_t end = piece_end(text, from, n);
                record->text = (struct mr_view){text + from, end - from};
                post_emit(w, msg, next, record, RECORD_DELTA, 0);
                record->has &= ~POST_ONCE;
                from = end;
        }
}

static void on_delta(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct post_state *state = (struct post_state *)next->state;
        uint16_t choice = record->has & HAS(choice) ? (uint16_t)record->choice : 0;
        enum hold_kind kind = kind_of(record);
        struct mr_view text = record->text;
        bool redacts = post->redaction && kind != HOLD_OTHER, clean;

        if (post->redaction) {
                post_redact_open(w);
                post_redact_extra(record);
        }
        if (post->redaction && record->has & HAS(tool) && !post_redact_tool(w, msg, next, record))
                return;
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
        if (clean && !redacts) {
                emit_same(w, msg, next);
                return;
        }
        if (!clean) {
                text.n = hold_feed(&state->hold, choice, kind, text.p, text.n, post->text);
                text.p = post->text;
        }
        if (!redacts) {
                post_emit_text(w, msg, next, record, text.p, text.n);
                return;
        }
        post_redact_text(w, msg, next, record, kind, text, false);
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

/* Settles what waits. False: the answer has ended already. */
static bool flush_all(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;
        struct post_state *state = (struct post_state *)next->state;
        struct mr_view unfinished = {"\xef\xbf\xbd", 3};
        struct hold_entry held;

        if (post->redaction)
                post_redact_open(w);
        while (hold_flush_one(&state->hold, &held)) {
                struct record rest = post_delta_of(held.choice, held.kind);
                if (!post->redaction || held.kind == HOLD_OTHER)
                        post_emit_text(w, msg, next, &rest, unfinished.p, unfinished.n);
                else if (!post_redact_text(w, msg, next, &rest, held.kind, unfinished, false))
                        return false;
        }
        return !post->redaction || post_redact_flush(w, msg, next);
}

static void on_done(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record) {
        struct post *post = w->stage;
        struct post_state *state = (struct post_state *)next->state;
        uint64_t spent_ns;

        if (!flush_all(w, msg, next))
                return;
        if (post->redaction) {
                post_redact_extra(record);
                post_redact_counts(w, record);
        }
        mark_cited(record, &state->citations);
        record->has |= HAS(post_us);
        spent_ns = clock_now_ns() - post->turn_ns;
        record->post_us = spent_ns / NS_PER_US;
        counters_observe(w->counters, HISTOGRAM_stage, spent_ns);
        post_emit(w, msg, next, record, RECORD_DONE, RING_LAST);
        next->done = 1;
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
                emit_same(w, msg, next);
                return;
        case RECORD_RESTART:
                memset(next->state, 0, sizeof(next->state));
                (void)slab_edit_bytes(&post->slab, slot, NULL, 0); /* takes no room: cannot fail */
                emit_same(w, msg, next);
                return;
        case RECORD_ERROR:
                next->done = 1;
                emit_same(w, msg, next);
                return;
        case RECORD_DELTA:
        case RECORD_DONE:
                r = record_decode(&w->decoder, msg->data, msg->len, &record);
                if (r)
                        worker_fail(w, "post: inference wrote a broken record", r);
                if (msg->type == RECORD_DELTA)
                        on_delta(w, msg, next, &record);
                else
                        on_done(w, msg, next, &record);
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
                if (slab_peek(&post->slab, post->batch[i].slot)->done)
                        slab_free(&post->slab, post->batch[i].slot);
        }
        FAULT(w, "after_ack", NULL, 0);
        post->n_batch = 0;
}

/* Room for everything that this input can make? Outputs grow by at most HOLD_GROWTH. */
static bool has_credit(struct worker *w, const struct ring_msg *msg) {
        struct post *post = w->stage;
        uint64_t bytes = (uint64_t)msg->len * HOLD_GROWTH + POST_OUTPUTS * 512u + post->spare;
        uint32_t n = POST_OUTPUTS + msg->len * HOLD_GROWTH / POST_PIECE +
                     (post->redaction ? REDACTION_STREAMS : 0);
        int r = ring_tx_room(post->tx, n, bytes);

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

/* The slot of this record's request; a head claims one. False: it must wait in the ring. */
static bool slot_of(struct worker *w, const struct ring_msg *msg, uint32_t *ret) {
        struct post *post = w->stage;

        *ret = slab_find(&post->slab, msg->req_id);
        if (*ret != SLAB_NONE && slab_peek(&post->slab, *ret)->done)
                *ret = SLAB_NONE; /* it ended already: only to be acked */
        else if (*ret == SLAB_NONE && msg->type == RECORD_REQUEST) {
                struct ring_msg head = *msg;
                int r;
                head.len = 0; /* the head went on already; nothing of it is needed again */
                r = slab_claim(&post->slab, &head, ret);
                if (r && post->n_batch) { /* the slot may be one that this batch ends */
                        batch_commit(w);
                        r = slab_claim(&post->slab, &head, ret);
                }
                return r == 0;
        }
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

static int post_init(struct worker *w) {
        struct post *post = calloc(1, sizeof(*post));
        size_t text_bytes = (size_t)w->settings->memory.ring_bytes / 4 * HOLD_GROWTH + HOLD_SLACK;
        struct redact_why why = {""};
        int r;

        if (!post)
                return -ENOMEM;
        w->stage = post;
        post->text = malloc(text_bytes);
        if (!post->text)
                return -ENOMEM;
        r = redaction_new(w->settings, (uint32_t)text_bytes, &post->redaction, &why);
        if (r == -EINVAL)
                log_error("settings", "key=post.redact error=\"%s\"", why.text);
        if (!post->redaction)
                return r;
        post->spare = (uint32_t)(w->settings->memory.ring_bytes / 8);
        post->call_bytes = (uint32_t)text_bytes + CALL_BYTES;
        post->call = malloc(post->call_bytes);
        return post->call ? 0 : -ENOMEM;
}

static int post_attach(struct worker *w) {
        struct post *post = w->stage;
        struct worker_in *in = worker_data_in(w);
        struct worker_out *out = worker_data_out(w);

        post->rx = &in->rx;
        post->tx = &out->tx;
        post->out = out;
        post->cancels = worker_find_out(w, RING_CANCEL, w->hello.lane,
                        topology_proc_stage(w->topology, w->hello.lane, ROLE_INFERENCE));
        int r = slab_attach(&post->slab, w->slab_map, w->slab_bytes, post->tx,
                        (struct ring_rx *const[]){post->rx}, 1, w->hello.blame != 0);
        if (r == 0) /* what had ended when the last incarnation died */
                slab_sweep(&post->slab, UINT64_MAX);
        return r;
}

static bool post_drained(struct worker *w) {
        struct post *post = w->stage;

        return post->slab.n_live == 0 && ring_rx_depth(post->rx) == 0;
}

static void post_fini(struct worker *w) {
        struct post *post = w->stage;

        slab_close(&post->slab);
        redaction_free(post->redaction);
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
