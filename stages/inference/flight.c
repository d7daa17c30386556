#include "stages/inference/flight.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/poison.h"
#include "stages/inference/attempt.h"
#include "stages/inference/calibrate.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/routes.h"
#include "stages/inference/solo.h"

static const char lost_message[] = "inference died in the middle of this answer";

/* ---- lists ---------------------------------------------------------------------------------- */

void flight_list_push(struct flight_list *list, struct flight *f) {
        f->in = list;
        f->next = NULL;
        f->prev = list->last;
        if (list->last)
                list->last->next = f;
        else
                list->first = f;
        list->last = f;
        list->n++;
}

void flight_list_remove(struct flight *f) {
        struct flight_list *list = f->in;

        if (!list)
                return;
        if (f->prev)
                f->prev->next = f->next;
        else
                list->first = f->next;
        if (f->next)
                f->next->prev = f->prev;
        else
                list->last = f->prev;
        list->n--;
        f->in = NULL;
        f->next = f->prev = NULL;
}

struct flight *flight_list_pop(struct flight_list *list) {
        struct flight *f = list->first;

        if (f)
                flight_list_remove(f);
        return f;
}

/* ---- the request ---------------------------------------------------------------------------- */

const struct record *flight_record(struct flight *f) {
        struct inference *inf = f->inf;
        const uint8_t *payload;
        uint32_t len;
        int r;

        if (inf->record_slot == f->slot)
                return &inf->record;
        payload = slab_payload(&inf->slab, f->slot, &len);
        r = record_decode(&inf->w->decoder, payload, len, &inf->record);
        if (r)
                worker_fail(inf->w, "inference: assemble wrote a broken record", r);
        inf->record_slot = f->slot;
        return &inf->record;
}

bool flight_has_begun(const struct flight *f) {
        return slab_peek(&f->inf->slab, f->slot)->out_ord > f->first_ord;
}

static bool is_marked(const struct inference *inf, uint64_t req_id, uint64_t mark) {
        for (uint32_t g = 0; g < GATEWAY_SLOTS_MAX; g++) {
                const struct admission_view *view = &inf->w->admissions[g];
                uint64_t flags;
                /* SYNC(follow.cancel): the claim came first, so either the mark is seen here or the
                 * CANCEL record finds the slot -> follow_mark(). */
                if (view->shm && follow_get(view, req_id, &flags) == 0 && flags & mark)
                        return true;
        }
        return false;
}

bool flight_is_marked(const struct inference *inf, uint64_t req_id) {
        return is_marked(inf, req_id, FOLLOW_CANCELLED);
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Tries to put the last record out; else it waits for room like everybody. */
static void end(struct flight *f) {
        struct inference *inf = f->inf;

        f->state = FLIGHT_ENDING;
        if (emit_terminal(f)) {
                flight_list_push(&inf->runnable, f);
                return;
        }
        FAULT(inf->w, "done_uncommitted", NULL, 0);
        free(f->extra);
        f->extra = NULL;
        f->extra_len = 0;
        f->state = FLIGHT_ENDED;
        flight_list_push(&inf->ended, f);
        inf->n_open--;
        if (f->poisons) {
                inf->given_up = f->req_id;
                inf->given_up_strikes = f->letter.strikes;
        }
}

/* Nothing of it runs any more, whoever wanted it to end. */
static void stop(struct flight *f) {
        loop_timer_clear(f->inf->w->loop, &f->deadline);
        flight_list_remove(f);
        attempt_abandon(f);
}

void flight_done(struct flight *f, const char *finish, uint32_t n) {
        if (n >= sizeof(f->finish))
                n = sizeof(f->finish) - 1;
        memcpy(f->finish, finish, n);
        f->finish[n] = '\0';
        f->code = MR_E_none;
        f->retry_after_ms = 0;
        calibrate(f);
        attempt_succeeded(f);
        stop(f);
        end(f);
}

void flight_fail(struct flight *f, enum mr_error code, uint64_t retry_after_ms, const char *format,
                ...) {
        va_list args;

        if (f->state == FLIGHT_FREE || f->state == FLIGHT_ENDING || f->state == FLIGHT_ENDED)
                return;
        va_start(args, format);
        vsnprintf(f->message, sizeof(f->message), format, args);
        va_end(args);
        f->code = code;
        f->retry_after_ms = retry_after_ms;
        if (f->state == FLIGHT_PARKED)
                f->inf->n_open++;
        stop(f);
        end(f);
}

/* Post has all of the answer that is to go out: nobody is to say more. */
static void stop_here(struct flight *f) {
        f->backend->kind->cancel(f);
        flight_done(f, "stop", 4);
}

void flight_cancel(struct flight *f, uint64_t reason) {
        if (reason == CANCEL_STOP && f->state == FLIGHT_RUNNING && f->working)
                stop_here(f);
        else if (reason == CANCEL_DEADLINE)
                flight_fail(f, MR_E_deadline_exceeded, 0, "the request's deadline passed");
        else if (reason == CANCEL_DRAIN)
                flight_fail(f, MR_E_draining, 0, "the daemon is shutting down");
        else
                flight_fail(f, MR_E_cancelled, 0, "the request was cancelled");
}

static void deadline_passed(struct loop_timer *timer) {
        struct flight *f = timer->owner;

        slab_active(&f->inf->slab, f->slot);
        flight_cancel(f, CANCEL_DEADLINE);
        slab_active(&f->inf->slab, SLAB_NONE);
}

/* ---- the beginning -------------------------------------------------------------------------- */

static struct flight *flight_new(struct inference *inf, uint32_t slot) {
        struct flight *f = &inf->flights[slot];
        const struct slab_version *version = slab_peek(&inf->slab, slot);

        *f = (struct flight){.inf = inf,
                        .slot = slot,
                        .state = FLIGHT_READY,
                        .req_id = version->req_id,
                        .t0 = inf->slab.shm->slots[slot].t0,
                        .claim_ns = clock_now_ns()};
        f->deadline.fn = deadline_passed;
        f->deadline.owner = f;
        inf->slab.slots[slot].user = f;
        inf->n_open++;
        if (inf->record_slot == slot)
                inf->record_slot = SLAB_NONE; /* that was another request */
        if (inf->window_slot == slot)
                inf->window_slot = SLAB_NONE;
        flight_list_push(solo_list(inf, slot), f);
        return f;
}

void flight_claimed(struct inference *inf, uint32_t slot, const struct ring_msg *msg) {
        (void)flight_new(inf, slot);
        slab_took(&inf->slab, slot);
        inf->claims[inf->n_claims++] = (struct inference_claim){msg->seq, slot};
}

void flight_restored(struct inference *inf, uint32_t slot) {
        struct flight *f;

        if (slab_peek(&inf->slab, slot)->done) {
                /* Post has not read its last record yet; the tag is the head behind it. */
                f = &inf->flights[slot];
                *f = (struct flight){.inf = inf,
                                .slot = slot,
                                .state = FLIGHT_ENDED,
                                .passed_seq = inf->tx->committed};
                inf->slab.slots[slot].user = f;
                flight_list_push(&inf->ended, f);
                return;
        }
        f = flight_new(inf, slot);
        f->restored = true;
}

/* A part of its answer is out: may all of it be said again? Who has read it by now is seen here, so that
 * no backend is asked in vain; who comes later is seen by stream. */
static bool may_run_anew(struct flight *f) {
        const struct record *record = flight_record(f);
        const struct settings *s = f->inf->w->settings;

        return record->has & HAS(options) && record->options & OPTION_DETACH &&
               s->inference.on_crash != SETTINGS_ON_CRASH_FAIL &&
               !is_marked(f->inf, f->req_id, FOLLOW_READ);
}

/* False: no room for the RESTART. */
static bool run_anew(struct flight *f) {
        if (emit_restart(f, MR_E_worker_restarted,
                            (struct mr_view){lost_message, sizeof(lost_message) - 1})) {
                flight_wait(f);
                return false;
        }
        f->first_ord = slab_peek(&f->inf->slab, f->slot)->out_ord;
        return true;
}

/* This stage has died of it often enough. */
static void give_up(struct flight *f, uint32_t strikes) {
        struct poison_error error;

        poison_error(f->inf->w, strikes, &error);
        f->letter = (struct flight_letter){.stage = (uint8_t)error.record.letter_stage,
                        .strikes = strikes,
                        .signal = (uint32_t)error.record.letter_signal};
        f->poisons = true;
        flight_fail(f, MR_E_dead_letter, 0, "%s", error.message);
}

/* What a dead incarnation left. True: it ends here, or comes again. */
static bool restored_ends(struct flight *f) {
        struct inference *inf = f->inf;
        uint32_t strikes = (uint32_t)slab_strikes(&inf->slab, f->slot);

        if (strikes >= POISON_STRIKES) {
                give_up(f, strikes);
        } else if (flight_has_begun(f) && may_run_anew(f)) {
                return !run_anew(f);
        } else if (flight_has_begun(f)) {
                counters_add(inf->w->counters, COUNTER_restart_lost, 1);
                flight_fail(f, MR_E_worker_restarted, 0, "%s", lost_message);
        } else if (f->restored && inf->w->settings->inference.on_crash == SETTINGS_ON_CRASH_FAIL) {
                counters_add(inf->w->counters, COUNTER_restart_lost, 1);
                flight_fail(f, MR_E_worker_restarted, 0, "inference died before this answer began");
        } else {
                return false;
        }
        return true;
}

/* An error that an earlier stage raised comes as the request with code and message. */
static bool raised_earlier(struct flight *f, const struct record *record) {
        uint64_t code;

        if (!(record->has & HAS(code)))
                return false;
        code = record->code > MR_E_none && record->code < MR_ERRORS_N ? record->code
                                                                      : MR_E_internal;
        if (code == MR_E_dead_letter)
                f->letter = (struct flight_letter){.stage = (uint8_t)record->letter_stage,
                                .strikes = (uint32_t)record->letter_strikes,
                                .signal = (uint32_t)record->letter_signal};
        flight_fail(f, (enum mr_error)code,
                        record->has & HAS(retry_after_ms) ? record->retry_after_ms : 0, "%.*s",
                        record->has & HAS(message) ? (int)record->message.n : 0,
                        record->has & HAS(message) ? record->message.p : "");
        return true;
}

static void flight_start(struct flight *f) {
        struct inference *inf = f->inf;
        const struct record *record;
        struct mr_view model = {"", 0};

        if (restored_ends(f))
                return;
        record = flight_record(f);
        FAULT(inf->w, "on_record", record->has & HAS(query) ? record->query.p : NULL,
                        record->has & HAS(query) ? record->query.n : 0);
        if (raised_earlier(f, record))
                return;
        if (flight_is_marked(inf, f->req_id)) {
                flight_cancel(f, CANCEL_CLIENT);
                return;
        }
        if (record->has & HAS(deadline_ns)) {
                if (record->deadline_ns <= f->claim_ns) {
                        flight_cancel(f, CANCEL_DEADLINE);
                        return;
                }
                loop_timer_set(inf->w->loop, &f->deadline, record->deadline_ns);
        }
        if (record->has & HAS(endpoint) && record->endpoint >= ENDPOINTS_N) {
                flight_fail(f, MR_E_internal, 0, "the gateway asks for what this version does not know");
                return;
        }
        f->endpoint = record->has & HAS(endpoint) ? (enum record_endpoint)record->endpoint
                                                  : ENDPOINT_CHAT;
        if (record->has & HAS(model))
                model = record->model;
        f->route = routes_find(inf->routes, model.p, model.n);
        if (!f->route)
                flight_fail(f, MR_E_model_not_found, 0, "no model is called \"%.*s\"",
                                (int)(model.n < 128 ? model.n : 128), model.p);
        else
                attempt_first(f);
}

void flight_run(struct flight *f) {
        struct inference *inf = f->inf;

        if (solo_holds(inf, f)) {
                flight_list_push(&inf->held, f);
                return;
        }
        slab_active(&inf->slab, f->slot);
        /* A claim that is not committed yet is nobody's after a kill: the ring has the strike then. */
        if (inf->slab.slots[f->slot].claimed)
                ring_rx_active(inf->rx, slab_peek(&inf->slab, f->slot)->in_seq);
        if (f->state == FLIGHT_ENDING)
                end(f);
        else if (f->state == FLIGHT_RUNNING && f->working)
                f->backend->kind->resume(f);
        else if (f->state == FLIGHT_READY && f->holds)
                attempt_granted(f);
        else if (f->state == FLIGHT_READY)
                flight_start(f);
        slab_active(&inf->slab, SLAB_NONE);
        ring_rx_idle(inf->rx);
}

void flight_wait(struct flight *f) {
        if (!f->in)
                flight_list_push(&f->inf->runnable, f);
}

void flight_yield(struct flight *f) {
        flight_wait(f);
}

void flight_park(struct flight *f) {
        if ((f->state != FLIGHT_READY && f->state != FLIGHT_RUNNING) || flight_has_begun(f))
                return;
        stop(f);
        f->state = FLIGHT_PARKED;
        f->inf->n_open--;
}

void flight_drop(struct flight *f) {
        if (f->state == FLIGHT_READY || f->state == FLIGHT_RUNNING)
                stop(f);
        free(f->extra);
        f->extra = NULL;
        f->state = FLIGHT_FREE;
}

void flight_free_passed(struct inference *inf) {
        struct flight *f = inf->ended.first;

        if (!f)
                return;
        (void)ring_tx_depth(inf->tx); /* looks at the tail */
        for (; f && f->passed_seq <= inf->tx->tail; f = inf->ended.first) {
                if (!slab_free(&inf->slab, f->slot))
                        break; /* not committed yet */
                flight_list_remove(f);
                f->state = FLIGHT_FREE;
        }
}
