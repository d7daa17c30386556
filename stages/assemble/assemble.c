/*
 * assemble -- the second stage: a request and its documents become the prompt.
 *
 * Shape   one data ring in (rag), one out (inference); one output for each input
 * Owner   acks in place (no slab): outputs are committed, then the inputs that made them are acked; after
 *         a kill the descriptor scan finds what was committed and not acked (rings.md 2.5)
 * Errors  a record that is none: shared memory is inconsistent, the worker gives up; everything that is
 *         the request's fault becomes an ERROR record that travels on
 * Limits  TURN_RECORDS inputs a turn
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/assemble/redact_prompt.h"
#include "stages/assemble/screening.h"
#include "stages/assemble/templates.h"
#include "stages/common/poison.h"
#include "stages/common/stage.h"
#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"
#include "stages/engines/store/store.h"

struct assemble {
        struct ring_rx *rx;
        struct ring_tx *tx;
        struct worker_out *out;
        struct prompt prompt;
        struct prompt_budget budget;
        struct templates templates;
        struct screening *screening;  /* NULL: nothing is looked for */
        struct redact_prompt *redact; /* NULL: prompts are not redacted */
        struct history *history; /* NULL: none is kept */
        struct ring_msg held;    /* an input that waits for its history; seq 0: none */
        struct loop_timer patience;
        bool missing; /* the history could not be had, and that was said */
        msgpack_object fewer;         /* of a record's documents, where not all fit */
        uint64_t batch[TURN_RECORDS]; /* inputs taken, to be acked after the commit */
        uint32_t n_batch;
        uint64_t now_ns; /* when the last record was finished, or the turn began */
};

static void batch_commit(struct worker *w) {
        struct assemble *as = w->stage;

        if (as->n_batch == 0)
                return;
        ring_rx_idle(as->rx);
        FAULT(w, "before_commit", NULL, 0);
        ring_tx_commit(as->tx);
        FAULT(w, "after_commit", NULL, 0);
        FAULT(w, "before_ack", NULL, 0);
        for (uint32_t i = 0; i < as->n_batch; i++)
                ring_rx_ack(as->rx, as->batch[i]);
        FAULT(w, "after_ack", NULL, 0);
        as->n_batch = 0;
}

/* Everything inserted comes from the record itself, escaped, but for the fixed words around it; what a
 * template makes of it may be of any size. */
#define OUTPUT_GROWTH (JSON_ESCAPE_GROWTH + 1u)
#define OUTPUT_FIXED 2048u

/* Room for whatever this input can make? No: it stays in the ring (credit before claim). */
static bool has_credit(struct worker *w, const struct ring_msg *msg) {
        struct assemble *as = w->stage;
        uint64_t bytes = (uint64_t)msg->len * OUTPUT_GROWTH + OUTPUT_FIXED;
        int r;

        if (bytes > as->tx->map.geo.max_rec || as->templates.folder.n || as->history || as->redact ||
                        w->settings->assemble.few_shot)
                bytes = as->tx->map.geo.max_rec;
        r = ring_tx_room(as->tx, 1, bytes);
        if (r == RING_E_BATCH) {
                batch_commit(w);
                r = ring_tx_room(as->tx, 1, bytes);
        }
        if (r < 0)
                worker_fail(w, "assemble: inference's tail is impossible", r);
        as->out->blocked = r != 0;
        as->out->want_bytes = bytes;
        return r == 0;
}

static uint8_t *output_begin(struct worker *w, uint32_t bound) {
        struct assemble *as = w->stage;
        uint8_t *to = NULL;
        int r = ring_tx_begin(as->tx, bound, &to);

        if (r)
                worker_fail(w, "assemble: no room although room was checked", r);
        return to;
}

static void output_end(
                struct assemble *as, const struct ring_msg *msg, uint16_t type, uint32_t len) {
        ring_tx_end(as->tx,
                        &(struct ring_meta){.type = type,
                                        .flags = RING_LAST,
                                        .src = ring_src(as->rx->map.geo.id, msg->seq),
                                        .req_id = msg->req_id,
                                        .t0 = msg->t0},
                        len);
}

static void output_record(struct worker *w, const struct ring_msg *msg, const struct record *record,
                uint16_t type) {
        uint32_t bound = record_size_bound(record), len = 0;
        uint8_t *to = output_begin(w, bound);

        if (record_encode(record, to, bound, &len))
                worker_fail(w, "assemble: a record is larger than its bound", -ENOBUFS);
        output_end(w->stage, msg, type, len);
}

/* The request ends here: what is left of it travels on as an ERROR. */
static void output_error(struct worker *w, const struct ring_msg *msg, struct record *record,
                enum mr_error code, const char *message) {
        record->has &= RECORD_HEAD & ~HAS(redacted); /* nobody is to restore anything */
        record->has |= HAS(code) | HAS(message);
        record->code = code;
        record->message = (struct mr_view){message, (uint32_t)strlen(message)};
        output_record(w, msg, record, RECORD_ERROR);
}

static void prompt_failed(
                struct worker *w, const struct ring_msg *msg, struct record *record, int error) {
        struct assemble *as = w->stage;
        char line[256];

        switch ((enum prompt_error)error) {
        case PROMPT_E_TEMPLATE:
        case PROMPT_E_RENDER:
                output_error(w, msg, record, MR_E_invalid_request, as->prompt.message);
                return;
        case PROMPT_E_CONTEXT:
                output_error(w, msg, record, MR_E_context_length_exceeded, as->prompt.message);
                return;
        case PROMPT_E_TOO_LARGE:
                snprintf(line, sizeof(line), "system, examples, template and params take more than %u bytes",
                                PROMPT_LITERAL_MAX);
                output_error(w, msg, record, MR_E_too_large, line);
                return;
        case PROMPT_E_GONE:
                output_error(w, msg, record, MR_E_internal, "the request's body is gone");
                return;
        case PROMPT_E_BLOCKED:
                redact_prompt_tell(as->redact, w->counters);
                output_error(w, msg, record, MR_E_content_filtered, as->prompt.message);
                return;
        case PROMPT_E_UNREADABLE:
                output_error(w, msg, record, MR_E_internal,
                                "the prompt cannot be read, so it cannot be redacted");
                return;
        }
}

/* Time since the record before this one was finished: what this one took. */
static uint64_t spent(struct worker *w) {
        struct assemble *as = w->stage;
        uint64_t now = clock_now_ns(), ns = now - as->now_ns;

        as->now_ns = now;
        counters_observe(w->counters, HISTOGRAM_stage, ns);
        return ns;
}

/* Only so many documents, the best. */
static void documents_limit(struct assemble *as, struct record *record, uint32_t most) {
        if (!(record->has & HAS(documents)) || record->documents->type != MSGPACK_OBJECT_ARRAY ||
                        record->documents->via.array.size <= most)
                return;
        as->fewer = *record->documents;
        as->fewer.via.array.size = most;
        record->documents = &as->fewer;
        if (most == 0)
                record->has &= ~HAS(documents);
}

/* What bounds an answer, where the template says it and the request does not. */
static void defaults_take(const struct prompt *prompt, struct record *record) {
        struct json_text members = {prompt->defaults.p, prompt->defaults.n}, value;

        if (!(record->has & HAS(stop)) && json_find(members, "stop", &value)) {
                record->has |= HAS(stop);
                record->stop = (struct mr_view){value.p, value.n};
        }
        if (!(record->has & HAS(response_format)) && json_find(members, "response_format", &value)) {
                record->has |= HAS(response_format);
                record->response_format = (struct mr_view){value.p, value.n};
        }
        if (!(record->has & HAS(max_tokens)) && json_find(members, "max_tokens", &value) &&
                        json_u64(value, &record->max_tokens))
                record->has |= HAS(max_tokens);
}

/* False: the request has ended. */
static bool screen(struct worker *w, const struct ring_msg *msg, struct record *record,
                const struct arena_view *arena, bool again) {
        struct assemble *as = w->stage;
        int r = as->screening ? screening_run(as->screening, record, arena, &w->decoder,
                                                again ? NULL : w->counters)
                              : 0;

        if (r == SCREENING_E_REFUSED)
                output_error(w, msg, record, MR_E_content_filtered, "the prompt was refused by the content filter");
        else if (r)
                output_error(w, msg, record, r < 0 ? MR_E_overloaded : MR_E_internal,
                                r < 0 ? "no memory to look at the prompt" : "the request's body is gone");
        return r == 0;
}

/* With at most so many documents. False: they make the record too long, so it must be fewer. */
static bool request_output(struct worker *w, const struct ring_msg *msg, uint32_t *documents) {
        struct assemble *as = w->stage;
        const struct arena_view *arena = NULL;
        struct mr_view note = {NULL, 0};
        struct record record;
        int r = record_decode(&w->decoder, msg->data, msg->len, &record);

        if (r)
                worker_fail(w, "assemble: rag wrote a broken record", r);
        if (record.has & HAS(gateway) && record.gateway < GATEWAY_SLOTS_MAX &&
                        w->arenas[record.gateway].shm)
                arena = &w->arenas[record.gateway];
        if (!screen(w, msg, &record, arena, *documents != UINT32_MAX))
                return true;
        documents_limit(as, &record, *documents);
        r = prompt_build(&as->prompt, &as->templates, &record, arena, &as->budget);
        if (r == 0 && as->redact)
                r = redact_prompt(as->redact, &as->prompt, &record, arena, &note);
        if (r) {
                prompt_failed(w, msg, &record, r);
                return true;
        }
        record.has &= ~(HAS(system) | HAS(params) | HAS(vars) | HAS(template) | HAS(earlier) |
                        HAS(collections) | HAS(filter));
        record.has |= HAS(pieces) | HAS(prompt_tokens) | HAS(assemble_us);
        record.pieces = &as->prompt.pieces;
        record.prompt_tokens = as->prompt.prompt_tokens;
        if (as->prompt.exact) {
                record.has |= HAS(token_counts);
                record.token_counts = (struct mr_view){
                                (const char *)&as->prompt.count, sizeof(as->prompt.count)};
        }
        if (as->prompt.model.n) {
                record.has |= HAS(model);
                record.model = as->prompt.model;
        }
        defaults_take(&as->prompt, &record);
        if (record.has & HAS(documents)) {
                record.has |= HAS(n_documents);
                record.n_documents = as->prompt.n_documents;
        }
        if (note.n) {
                record.has |= HAS(redacted);
                record.redacted = note;
        }
        record.assemble_us = UINT64_MAX; /* as long as it gets */
        if (record_size_bound(&record) > as->tx->map.geo.max_rec) {
                if (record.has & HAS(documents) && record.documents->via.array.size > 0) {
                        *documents = record.documents->via.array.size / 2;
                        return false;
                }
                output_error(w, msg, &record, MR_E_too_large, "the prompt does not fit a record");
                return true;
        }
        if (as->prompt.n_history)
                counters_add(w->counters, COUNTER_histories, 1);
        if (as->redact)
                redact_prompt_tell(as->redact, w->counters);
        record.assemble_us = spent(w) / NS_PER_US;
        output_record(w, msg, &record, RECORD_REQUEST);
        return true;
}

static void on_request(struct worker *w, const struct ring_msg *msg) {
        uint32_t documents = UINT32_MAX;

        while (!request_output(w, msg, &documents))
                ;
}

/* It has killed this stage often enough: nothing of it is looked at any more. */
static void give_up(struct worker *w, const struct ring_msg *msg) {
        struct poison_error error;

        poison_error(w, msg->strikes, &error);
        output_record(w, msg, &error.record, RECORD_ERROR);
}

static void on_error(struct worker *w, const struct ring_msg *msg) {
        memcpy(output_begin(w, msg->len), msg->data, msg->len);
        output_end(w->stage, msg, RECORD_ERROR, msg->len);
}

static void handle(struct worker *w, const struct ring_msg *msg) {
        if (msg->strikes >= POISON_STRIKES) {
                give_up(w, msg);
                return;
        }
        FAULT(w, "on_record", msg->data, msg->len);
        switch (msg->type) {
        case RECORD_REQUEST:
                on_request(w, msg);
                return;
        case RECORD_ERROR:
                on_error(w, msg);
                return;
        default:
                worker_fail(w, "assemble: rag wrote a record of unknown type", -EPROTO);
        }
}

static void finish(struct worker *w, const struct ring_msg *msg) {
        struct assemble *as = w->stage;

        handle(w, msg);
        as->batch[as->n_batch++] = msg->seq;
        if (msg->strikes == 0)
                return;
        batch_commit(w);
        if (msg->strikes >= POISON_STRIKES)
                poison_given_up(w, msg->req_id, msg->strikes);
}

/* ---- history: it comes from a thread, and what is behind the request that wants it waits ---- */

static void on_patience(struct loop_timer *timer) {
        (void)timer; /* the turn looks at the clock */
}

static void history_missed(struct worker *w, const char *why) {
        struct assemble *as = w->stage;

        counters_add(w->counters, COUNTER_histories_missed, 1);
        if (!as->missing)
                log_warn("history_missed", "path=%s why=\"%s\"", w->settings->stream.database, why);
        as->missing = true;
}

/* True: the request waits; it is the one at hand meanwhile. */
static bool history_begin(struct worker *w, const struct ring_msg *msg) {
        struct assemble *as = w->stage;
        struct record record;

        if (!as->history || msg->type != RECORD_REQUEST || msg->strikes >= POISON_STRIKES)
                return false;
        if (record_decode(&w->decoder, msg->data, msg->len, &record))
                worker_fail(w, "assemble: rag wrote a broken record", -EPROTO);
        if (!(record.has & HAS(options)) || !(record.options & OPTION_SESSION))
                return false;
        if (!history_ask(as->history, record.tenant, record.session)) {
                history_missed(w, "the last question is not answered yet");
                return false;
        }
        batch_commit(w);
        ring_rx_active(as->rx, msg->seq);
        as->held = *msg; /* its bytes stay until the next peek */
        loop_timer_set(w->loop, &as->patience, clock_now_ns() + HISTORY_WAIT_NS);
        return true;
}

/* False: it waits on. */
static bool history_end(struct worker *w) {
        struct assemble *as = w->stage;
        const struct ring_msg msg = as->held;
        const char *why = "it took too long";

        if (history_is_there(as->history)) {
                as->prompt.history = history_take(as->history, &why);
        } else if (as->patience.heap) {
                return false;
        } else {
                history_leave(as->history);
        }
        loop_timer_clear(w->loop, &as->patience);
        if (as->prompt.history)
                as->missing = false;
        else
                history_missed(w, why);
        as->held.seq = 0;
        as->now_ns = clock_now_ns();
        finish(w, &msg);
        as->prompt.history = NULL;
        return true;
}

static unsigned assemble_turn(struct worker *w) {
        struct assemble *as = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;
        int r = 0;

        if (as->held.seq) {
                if (!history_end(w))
                        return 0;
                n++;
        }
        for (; n < TURN_RECORDS; n++) {
                r = ring_rx_peek(as->rx, &msg);
                if (r || !has_credit(w, msg))
                        break;
                if (n == 0)
                        as->now_ns = clock_now_ns();
                if (msg->strikes > 0) /* alone in its batch, so that its next death takes nothing along */
                        batch_commit(w);
                ring_rx_take(as->rx);
                if (history_begin(w, msg))
                        break;
                finish(w, msg);
        }
        if (r < 0)
                worker_fail(w, "assemble: rag's ring is broken", r);
        batch_commit(w);
        ring_rx_flush(as->rx, false);
        return n;
}

/* What is looked for in prompts. */
static int init_rules(struct worker *w) {
        struct assemble *as = w->stage;
        struct redact_why why = {""};
        const char *key = "post.safety";
        int r = screening_new(w->settings, &as->screening, &why);

        if (r == 0) {
                key = "post.redact";
                r = redact_prompt_new(w->settings, &as->redact, &why);
        }
        if (r == -EINVAL)
                log_error("settings", "key=%s error=\"%s\"", key, why.text);
        return r;
}

static int assemble_init(struct worker *w) {
        struct assemble *as = calloc(1, sizeof(*as));
        const char *database = w->settings->stream.database;
        int r;

        if (!as)
                return -ENOMEM;
        w->stage = as;
        as->budget = (struct prompt_budget){.context_tokens = w->settings->assemble.context_tokens,
                        .max_output_tokens = w->settings->assemble.max_output_tokens,
                        .document_tokens = w->settings->rag.max_tokens,
                        .enforce = w->settings->assemble.enforce_context};
        as->patience = (struct loop_timer){.fn = on_patience, .owner = w};
        r = history_new(&as->history, w->settings, w->bells[w->hello.proc]);
        /* Made before the sandbox, which lets us into a folder that is there. */
        if (r == 0 && as->history && store_folder_make(database) < 0)
                log_debug("database_folder", "path=%s", database);
        if (r == 0)
                r = templates_init(&as->templates, w->settings);
        if (r == 0)
                r = prompt_init(&as->prompt, w->all_counters);
        return r ? r : init_rules(w);
}

static int assemble_attach(struct worker *w) {
        struct assemble *as = w->stage;

        as->rx = &worker_data_in(w)->rx;
        as->out = worker_data_out(w);
        as->tx = &as->out->tx;
        ring_recover(as->tx, as->rx);
        return as->history ? history_start(as->history) : 0;
}

static bool assemble_drained(struct worker *w) {
        struct assemble *as = w->stage;

        return ring_rx_depth(as->rx) == 0;
}

static void assemble_fini(struct worker *w) {
        struct assemble *as = w->stage;

        loop_timer_clear(w->loop, &as->patience);
        as->history = history_free(as->history);
        screening_free(as->screening);
        prompt_close(&as->prompt);
        templates_close(&as->templates);
        redact_prompt_free(as->redact);
        free(as);
}

static const struct stage_ops assemble_ops = {
                .name = "assemble",
                .role = ROLE_ASSEMBLE,
                .loop_entries = 64,
                .init = assemble_init,
                .attach = assemble_attach,
                .turn = assemble_turn,
                .drained = assemble_drained,
                .fini = assemble_fini,
};

int main(int argc, char **argv) {
        return worker_main(&assemble_ops, argc, argv);
}
