/*
 * rag -- the first stage: finds the documents that a request's question is about.
 *
 * Shape   a data ring in from each gateway slot, one out (assemble); one output for each input
 * Owner   claims into its slab and acks at once, since a query waits for the disk (rings.md 2.6); what
 *         needs no query is claimed and answered in one batch
 * Errors  no index, a deadline, a broken index: rag.on_error decides whether the request goes on
 *         without documents or ends; each change of that state is one log line
 * Limits  TURN_RECORDS inputs a turn; max_in_flight queries
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/common/poison.h"
#include "stages/common/stage.h"
#include "stages/rag/documents.h"
#include "stages/rag/retrieve.h"

struct rag_input {
        struct ring_rx *rx;
        uint64_t seq;
        uint32_t slot;
};

/* A claimed request that waits for its documents, until the timer says that it waited enough. */
struct rag_wait {
        struct loop_timer timer;
        struct worker *w;
        struct retrieve_job *job; /* NULL: none runs (retrieval was switched off meanwhile) */
        uint32_t slot;
        bool resumes; /* a dead incarnation had it: it is still to be asked again */
        uint64_t start_ns;
};

struct rag {
        struct slab slab;
        struct ring_tx *tx;
        struct worker_out *out;
        struct retrieve *retrieve;  /* NULL: retrieval is off */
        struct retrieve_job *stuck; /* finished, but assemble's ring was full */
        struct rag_wait *waits;     /* by slot */
        struct documents documents;
        struct rag_input batch[TURN_RECORDS];
        uint32_t n_batch;
        uint32_t next_in; /* which input ring comes first: rotates */
        uint32_t n_resumes;
        uint32_t alone; /* has a strike: nobody else is asked while this slot is; SLAB_NONE: none has */
        bool clearing;  /* such a one waits in a ring until all others have left */
        int last_status;  /* of the index, to log changes only */
};

/* ---- the batch ---- */

static void batch_commit(struct worker *w) {
        struct rag *rag = w->stage;

        for (uint32_t i = 0; i < rag->n_batch; i++)
                ring_rx_idle(rag->batch[i].rx);
        FAULT(w, "before_commit", NULL, 0);
        slab_commit(&rag->slab, rag->tx);
        FAULT(w, "after_commit", NULL, 0);
        FAULT(w, "before_ack", NULL, 0);
        for (uint32_t i = 0; i < rag->n_batch; i++) {
                ring_rx_ack(rag->batch[i].rx, rag->batch[i].seq);
                slab_acked(&rag->slab, rag->batch[i].slot);
                if (slab_peek(&rag->slab, rag->batch[i].slot)->done)
                        slab_free(&rag->slab, rag->batch[i].slot);
        }
        FAULT(w, "after_ack", NULL, 0);
        rag->n_batch = 0;
}

/* The output of a slot that was acknowledged before is a part of this batch: then it is over. */
static void finish(struct worker *w, uint32_t slot) {
        struct rag *rag = w->stage;

        batch_commit(w);
        slab_free(&rag->slab, slot);
        if (rag->alone == slot)
                rag->alone = SLAB_NONE;
}

/* Room for one output of `bytes`, committing a full batch first. */
static bool has_room(struct worker *w, uint64_t bytes) {
        struct rag *rag = w->stage;
        int r;

        if (bytes > rag->tx->map.geo.max_rec)
                bytes = rag->tx->map.geo.max_rec;
        r = ring_tx_room(rag->tx, 1, bytes);
        if (r == RING_E_BATCH) {
                batch_commit(w);
                r = ring_tx_room(rag->tx, 1, bytes);
        }
        if (r < 0)
                worker_fail(w, "rag: assemble's tail is impossible", r);
        rag->out->blocked = r != 0;
        rag->out->want_bytes = bytes;
        return r == 0;
}

/* The one output of a request, as a part of this batch. */
static uint8_t *emit_begin(struct worker *w, uint32_t bound) {
        struct rag *rag = w->stage;
        uint8_t *to = NULL;
        int r = ring_tx_begin(rag->tx, bound, &to);

        if (r)
                worker_fail(w, "rag: no room although room was checked", r);
        return to;
}

static void emit_end(struct rag *rag, uint32_t slot, uint16_t type, uint32_t len) {
        struct slab_version *next = slab_edit(&rag->slab, slot);

        ring_tx_end(rag->tx,
                        &(struct ring_meta){.type = type,
                                        .flags = RING_LAST,
                                        .src = 0,
                                        .ord = next->out_ord++,
                                        .req_id = next->req_id,
                                        .t0 = rag->slab.shm->slots[slot].t0},
                        len);
        next->done = 1;
}

static void emit_record(
                struct worker *w, uint32_t slot, const struct record *record, uint16_t type) {
        uint32_t bound = record_size_bound(record), len = 0;
        int r = record_encode(record, emit_begin(w, bound), bound, &len);

        if (r)
                worker_fail(w, "rag: a record is larger than its bound", r);
        emit_end(w->stage, slot, type, len);
}

/* It has killed this stage often enough: nothing of it is looked at any more. */
static void emit_poison(struct worker *w, uint32_t slot, uint32_t strikes) {
        struct poison_error error;

        poison_error(w, strikes, &error);
        emit_record(w, slot, &error.record, RECORD_ERROR);
}

static void emit_same(struct worker *w, uint32_t slot, const struct ring_msg *msg) {
        memcpy(emit_begin(w, msg->len), msg->data, msg->len);
        emit_end(w->stage, slot, RECORD_REQUEST, msg->len);
}

/* ---- queries ---- */

/* An index that was made, or put in the place of another, while this process runs: its successor may
 * read it, and finds the request where it is. */
static bool must_renew(struct worker *w) {
        struct rag *rag = w->stage;

        if (rag->retrieve && !w->renewing) {
                retrieve_available(rag->retrieve, loop_now_ns(w->loop));
                if (retrieve_replaced(rag->retrieve))
                        worker_renew(w, "index_replaced");
        }
        return w->renewing;
}

/* Without an index, or with retrieval off, nothing is decoded and nothing waits. */
static bool wants_documents(struct worker *w, const struct ring_msg *msg, struct record *ret) {
        struct rag *rag = w->stage;

        if (!rag->retrieve)
                return false;
        if (w->settings->rag.on_error == SETTINGS_ON_ERROR_SKIP &&
                        !retrieve_available(rag->retrieve, loop_now_ns(w->loop)))
                return false;
        if (record_decode(&w->decoder, msg->data, msg->len, ret))
                worker_fail(w, "rag: a gateway wrote a broken record", -EPROTO);
        return ret->has & HAS(query) && ret->query.n &&
               !(ret->has & HAS(options) && ret->options & OPTION_RAG_OFF);
}

static void on_timeout(struct loop_timer *timer);

static void wait_start(struct worker *w, uint32_t slot, struct retrieve_job *job, uint64_t start_ns,
                uint64_t until_ns) {
        struct rag *rag = w->stage;
        struct rag_wait *wait = &rag->waits[slot];

        *wait = (struct rag_wait){.timer = {.fn = on_timeout, .owner = wait},
                        .w = w,
                        .job = job,
                        .slot = slot,
                        .start_ns = start_ns};
        loop_timer_set(w->loop, &wait->timer, until_ns);
}

static bool query_start(struct worker *w, uint32_t slot, const struct record *record) {
        struct rag *rag = w->stage;
        struct retrieve_job *job = retrieve_take(rag->retrieve);

        if (!job)
                return false;
        job->slot = slot;
        job->req_id = slab_peek(&rag->slab, slot)->req_id;
        job->k = documents_wanted((uint32_t)w->settings->rag.top_k);
        job->start_ns = clock_now_ns();
        job->deadline_ns = job->start_ns + w->settings->rag.timeout_ms * NS_PER_MS;
        if (record->has & HAS(deadline_ns) && record->deadline_ns < job->deadline_ns)
                job->deadline_ns = record->deadline_ns;
        question_take(&job->question, record);
        wait_start(w, slot, job, job->start_ns, job->deadline_ns);
        retrieve_submit(rag->retrieve, job);
        counters_add(w->counters, COUNTER_queries, 1);
        return true;
}

/* One line for each change of the index's state, not for each request. */
static void say_status(struct worker *w, int status, const char *text) {
        struct rag *rag = w->stage;

        if (status == rag->last_status)
                return;
        rag->last_status = status;
        if (status)
                log_warn("retrieval_failed", "on_error=%s reason=\"%s\"",
                                w->settings->rag.on_error == SETTINGS_ON_ERROR_SKIP ? "skip"
                                                                                    : "fail",
                                text);
        else
                log_info("retrieval_works", "index=%s", w->settings->rag.index);
}

/* A small ring (memory.ring_bytes) takes fewer documents: the best ones. */
static void fit(struct rag *rag, struct record *record) {
        uint32_t *n = &rag->documents.list.via.array.size;

        if (*n == 0)
                return; /* nothing was found, which is an answer too */
        while (*n > 0 && record_size_bound(record) > rag->tx->map.geo.max_rec)
                --*n;
        if (*n == 0)
                record->has &= ~HAS(documents);
}

/* The request goes on: with documents, without, or as an error. False: no room yet. */
static bool answer(struct worker *w, uint32_t slot, const struct index_result *result, int status,
                const char *text, uint64_t start_ns) {
        struct rag *rag = w->stage;
        struct record record;
        char message[640];
        uint32_t len = 0;
        const uint8_t *payload = slab_payload(&rag->slab, slot, &len);
        int r = record_decode(&w->decoder, payload, len, &record);

        if (r)
                worker_fail(w, "rag: a claimed record is broken", r);
        record.has |= HAS(rag_us);
        record.rag_us = (clock_now_ns() - start_ns) / NS_PER_US;
        if (result) {
                documents_make(&rag->documents, result, (uint32_t)w->settings->rag.top_k,
                                w->settings->rag.max_tokens);
                record.has |= HAS(documents);
                record.documents = &rag->documents.list;
                fit(rag, &record);
        }
        if (status && w->settings->rag.on_error != SETTINGS_ON_ERROR_SKIP) {
                snprintf(message, sizeof(message), "retrieval failed: %s", text);
                record.has = (record.has & RECORD_HEAD) | HAS(code) | HAS(message);
                record.code = MR_E_internal;
                record.message = (struct mr_view){message, (uint32_t)strlen(message)};
        }
        if (!has_room(w, record_size_bound(&record)))
                return false;
        emit_record(w, slot, &record, record.has & HAS(code) ? RECORD_ERROR : RECORD_REQUEST);
        counters_observe(w->counters, HISTOGRAM_stage, clock_now_ns() - start_ns);
        return true;
}

/* The thread is late: the request does not wait for it. Runs inside the loop, between turns. */
static void on_timeout(struct loop_timer *timer) {
        struct rag_wait *wait = timer->owner;
        struct worker *w = wait->w;
        struct rag *rag = w->stage;
        int status = wait->job ? INDEX_E_DEADLINE : 0;
        bool answered;

        slab_active(&rag->slab, wait->slot);
        answered = answer(w, wait->slot, NULL, status, "the query ran out of time", wait->start_ns);
        slab_active(&rag->slab, SLAB_NONE);
        if (!answered) {
                loop_timer_set(w->loop, timer, loop_now_ns(w->loop) + NS_PER_MS);
                return;
        }
        if (wait->job) {
                counters_add(w->counters, COUNTER_query_timeouts, 1);
                wait->job->abandoned = true;
        }
        wait->job = NULL;
        finish(w, wait->slot);
}

/* False: no room in assemble's ring; the job stays ours. */
static bool on_done(struct worker *w, struct retrieve_job *job) {
        struct rag *rag = w->stage;
        uint32_t slot = job->slot;
        bool answered;

        retrieve_count(rag->retrieve, job, w->counters);
        if (job->abandoned) {
                retrieve_release(rag->retrieve, job);
                return true;
        }
        slab_active(&rag->slab, slot);
        FAULT(w, "query_done", job->question.text, job->question.n_text);
        answered = answer(w, slot, job->result, job->status, job->error.text, job->start_ns);
        slab_active(&rag->slab, SLAB_NONE);
        if (!answered)
                return false;
        if (job->status)
                counters_add(w->counters,
                                job->status == INDEX_E_DEADLINE ? COUNTER_query_timeouts
                                                                : COUNTER_query_errors,
                                1);
        if (job->status != INDEX_E_DEADLINE)
                say_status(w, job->status, job->error.text);
        loop_timer_clear(w->loop, &rag->waits[slot].timer);
        rag->waits[slot].job = NULL;
        retrieve_release(rag->retrieve, job);
        finish(w, slot);
        return true;
}

static unsigned take_finished(struct worker *w) {
        struct rag *rag = w->stage;
        unsigned n = 0;

        if (!rag->retrieve)
                return 0;
        while (n < TURN_RECORDS) {
                struct retrieve_job *job = rag->stuck ? rag->stuck : retrieve_done(rag->retrieve);
                rag->stuck = NULL;
                if (!job)
                        break;
                if (!on_done(w, job)) {
                        rag->stuck = job;
                        break;
                }
                n++;
        }
        return n;
}

/* ---- inputs ---- */

static bool claim(struct worker *w, const struct ring_msg *msg, uint32_t *ret_slot) {
        struct rag *rag = w->stage;
        int r = slab_claim(&rag->slab, msg, ret_slot);

        if (r && rag->n_batch) {
                batch_commit(w);
                r = slab_claim(&rag->slab, msg, ret_slot);
        }
        return r == 0;
}

/* One request out of a gateway's ring; false: it stays there. */
static bool take_input(struct worker *w, struct ring_rx *rx, const struct ring_msg *msg) {
        struct rag *rag = w->stage;
        struct ring_msg claimed = *msg;
        struct record record;
        uint32_t slot;
        bool asks;

        if (!has_room(w, (uint64_t)msg->len + POISON_ERROR_BYTES) || rag->n_batch == TURN_RECORDS ||
                        must_renew(w))
                return false;
        if (msg->type != RECORD_REQUEST)
                worker_fail(w, "rag: a gateway wrote a record of unknown type", -EPROTO);
        ring_rx_active(rx, msg->seq);
        asks = msg->strikes < POISON_STRIKES && wants_documents(w, msg, &record);
        if (!asks)
                claimed.len = 0; /* answered in this very batch: nothing to be kept */
        if (!claim(w, &claimed, &slot))
                return false;
        ring_rx_take(rx);
        slab_took(&rag->slab, slot);
        slab_edit(&rag->slab, slot)->in_seq = msg->seq;
        if (msg->strikes >= POISON_STRIKES)
                emit_poison(w, slot, msg->strikes);
        else
                FAULT(w, "on_record", msg->data, msg->len);
        if (msg->strikes < POISON_STRIKES && (!asks || !query_start(w, slot, &record)))
                emit_same(w, slot, msg);
        rag->batch[rag->n_batch++] = (struct rag_input){rx, msg->seq, slot};
        return true;
}

/* One with strikes, when all others have left, and nobody after it until it has left too. */
static bool take_struck(struct worker *w, struct ring_rx *rx, const struct ring_msg *msg) {
        struct rag *rag = w->stage;

        rag->clearing = true;
        if (rag->n_batch > 0)
                batch_commit(w);
        if (rag->slab.n_live > 0 || !take_input(w, rx, msg))
                return false;
        rag->clearing = false;
        if (rag->n_batch > 0)
                batch_commit(w);
        if (msg->strikes >= POISON_STRIKES)
                poison_given_up(w, msg->req_id, msg->strikes);
        rag->alone = slab_find(&rag->slab, msg->req_id); /* SLAB_NONE: it is over already */
        return true;
}

static bool take_next(struct worker *w, struct ring_rx *rx, const struct ring_msg *msg) {
        struct rag *rag = w->stage;

        if (rag->alone != SLAB_NONE || rag->n_resumes > 0)
                return false;
        if (msg->strikes > 0)
                return take_struck(w, rx, msg);
        return !rag->clearing && take_input(w, rx, msg);
}

static unsigned take_inputs(struct worker *w) {
        struct rag *rag = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;

        for (uint32_t i = 0; i < w->n_in; i++) {
                struct worker_in *in = &w->in[(rag->next_in + i) % w->n_in];
                int r;
                while (n < TURN_RECORDS && !(r = ring_rx_peek(&in->rx, &msg)) &&
                                take_next(w, &in->rx, msg))
                        n++;
                ring_rx_idle(&in->rx);
                if (n < TURN_RECORDS && r < 0)
                        worker_fail(w, "rag: a gateway's ring is broken", r);
        }
        rag->next_in++;
        return n;
}

/* ---- what a dead incarnation left ---- */

static void resume_one(struct worker *w, uint32_t slot) {
        struct rag *rag = w->stage;
        struct record record;
        uint32_t len = 0;
        const uint8_t *payload = slab_payload(&rag->slab, slot, &len);

        rag->waits[slot].resumes = false;
        rag->n_resumes--;
        slab_active(&rag->slab, slot);
        if (record_decode(&w->decoder, payload, len, &record))
                worker_fail(w, "rag: a claimed record is broken", -EPROTO);
        if (!rag->retrieve || !query_start(w, slot, &record))
                wait_start(w, slot, NULL, clock_now_ns(), clock_now_ns());
        slab_active(&rag->slab, SLAB_NONE);
}

/* False: no room in assemble's ring. */
static bool resume_struck(struct worker *w, uint32_t slot) {
        struct rag *rag = w->stage;
        uint32_t strikes = (uint32_t)slab_strikes(&rag->slab, slot);
        uint64_t req_id = slab_peek(&rag->slab, slot)->req_id;

        if (!has_room(w, POISON_ERROR_BYTES))
                return false;
        rag->alone = slot;
        if (strikes < POISON_STRIKES) {
                resume_one(w, slot);
                return true;
        }
        rag->waits[slot].resumes = false;
        rag->n_resumes--;
        emit_poison(w, slot, strikes);
        finish(w, slot);
        poison_given_up(w, req_id, strikes);
        return true;
}

/* Those with strikes one after the other, each alone; then all others at once. */
static unsigned resume(struct worker *w) {
        struct rag *rag = w->stage;
        unsigned n = 0;

        for (uint32_t slot = 0; rag->n_resumes > 0 && slot < rag->slab.n_slots; slot++) {
                if (!rag->waits[slot].resumes || slab_strikes(&rag->slab, slot) == 0)
                        continue;
                if (rag->alone != SLAB_NONE || !resume_struck(w, slot))
                        return n;
                n++;
        }
        for (uint32_t slot = 0; rag->n_resumes > 0 && slot < rag->slab.n_slots; slot++) {
                if (rag->alone != SLAB_NONE)
                        return n;
                if (!rag->waits[slot].resumes)
                        continue;
                resume_one(w, slot);
                n++;
        }
        return n;
}

static unsigned rag_turn(struct worker *w) {
        struct rag *rag = w->stage;
        unsigned n;

        n = take_finished(w);
        n += resume(w);
        n += take_inputs(w);
        if (rag->n_batch)
                batch_commit(w);
        if (rag->slab.n_live > 0)
                FAULT(w, "query_running", NULL, 0);
        for (uint32_t i = 0; i < w->n_in; i++)
                ring_rx_flush(&w->in[i].rx, false);
        return n;
}

/* ---- life ---- */

static int rag_init(struct worker *w) {
        struct rag *rag = calloc(1, sizeof(*rag));
        const char *index = w->settings->rag.index;

        if (!rag)
                return -ENOMEM;
        w->stage = rag;
        rag->alone = SLAB_NONE;
        rag->waits = calloc(w->topology->slab_slots, sizeof(*rag->waits));
        if (!rag->waits)
                return -ENOMEM;
        if (!index || !strcmp(index, "none"))
                return 0;
        return retrieve_new(&rag->retrieve, index, w->settings, w->topology->slab_slots,
                        w->bells[w->hello.proc]);
}

/* What was claimed and not answered by a dead incarnation: to be asked again from the turns, since who
 * dies of it then does not die in recovery. */
static void resume_later(struct rag *rag) {
        for (uint32_t slot = 0; slot < rag->slab.n_slots; slot++) {
                if (rag->slab.slots[slot].live == SLAB_NONE || slab_peek(&rag->slab, slot)->done)
                        continue;
                rag->waits[slot].resumes = true;
                rag->n_resumes++;
        }
}

static int rag_attach(struct worker *w) {
        struct ring_rx *rx[GATEWAY_SLOTS_MAX];
        struct rag *rag = w->stage;
        int r;

        rag->out = worker_data_out(w);
        rag->tx = &rag->out->tx;
        for (uint32_t i = 0; i < w->n_in; i++)
                rx[i] = &w->in[i].rx;
        r = slab_attach(&rag->slab, w->slab_map, w->slab_bytes, rag->tx, rx, w->n_in,
                        w->hello.blame != 0);
        if (r == 0 && rag->retrieve)
                r = retrieve_start(rag->retrieve, rag->slab.shm);
        if (r)
                return r;
        slab_sweep(&rag->slab, UINT64_MAX); /* what had ended when the last incarnation died */
        resume_later(rag);
        return 0;
}

static bool rag_drained(struct worker *w) {
        struct rag *rag = w->stage;
        uint64_t waiting = 0;

        for (uint32_t i = 0; i < w->n_in; i++)
                waiting += ring_rx_depth(&w->in[i].rx);
        return rag->slab.n_live == 0 && waiting == 0;
}

static const struct stage_ops rag_ops = {
                .name = "rag",
                .role = ROLE_RAG,
                .loop_entries = 64,
                .init = rag_init,
                .attach = rag_attach,
                .turn = rag_turn,
                .drained = rag_drained,
};

/* Not by exit(): a query may still be running on a thread, and nothing is left to be written. */
int main(int argc, char **argv) {
        _exit(worker_main(&rag_ops, argc, argv));
}
