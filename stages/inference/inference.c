/*
 * inference -- the third stage: a request in, an answer out, as it is produced.
 *
 * Shape   one data ring in (assemble), control rings in (gateways, post), one data ring out (post);
 *         per request REQUEST (its head) DELTA* (DONE | ERROR)
 * Owner   its slab (rings.md 2.6, a stage that waits for I/O): the claim is a batch without output,
 * and is acked at once; a later version is stored only together with outputs Errors  a record that
 * is none: shared memory is inconsistent, the worker gives up Limits  TURN_RECORDS claims a turn; a
 * slot is kept until post has passed its last record
 *
 * A turn: free what post has passed, look at cancels, let those who wait go on, claim, publish.
 * Backends and timers run in between, from the loop, and emit into the same batch.
 */
#include "stages/inference/inference.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/poison.h"
#include "stages/inference/emit.h"
#include "stages/inference/openai.h"
#include "stages/inference/routes.h"
#include "stages/inference/solo.h"
#include "stages/inference/upstream.h"

#define CONTROLS_TURN 256u
/* Room that a claim asks for: a head and a terminal record. What a request emits waits for its own.
 */
#define CLAIM_BYTES 2048u

/* ---- cancel --------------------------------------------------------------------------------- */

static void on_control(struct worker *w, const struct ring_msg *msg) {
        struct inference *inf = w->stage;
        uint32_t slot = slab_find(&inf->slab, msg->req_id);
        struct record record;

        if (msg->type != RECORD_CANCEL)
                worker_fail(w, "inference: a control ring has a record of unknown type", -EPROTO);
        if (slot == SLAB_NONE || slab_peek(&inf->slab, slot)->done)
                return; /* over, or not here yet: then its claim finds the mark */
        if (record_decode(&inf->controls, msg->data, msg->len, &record))
                worker_fail(w, "inference: a broken record in a control ring", -EPROTO);
        slab_active(&inf->slab, slot);
        flight_cancel(&inf->flights[slot],
                        record.has & HAS(reason) ? record.reason : CANCEL_CLIENT);
        slab_active(&inf->slab, SLAB_NONE);
}

/* Cancels are hints that a mark repeats, so they are acked whatever comes of them. */
static unsigned take_controls(struct worker *w) {
        const struct ring_msg *msg;
        unsigned n = 0;

        for (uint32_t i = 0; i < w->n_in; i++) {
                struct ring_rx *rx = &w->in[i].rx;
                int r = 0;
                if (w->in[i].ring->kind != RING_CANCEL)
                        continue;
                for (unsigned taken = 0; taken < CONTROLS_TURN; taken++, n++) {
                        uint64_t seq;
                        r = ring_rx_peek(rx, &msg);
                        if (r)
                                break;
                        seq = msg->seq;
                        ring_rx_take(rx);
                        on_control(w, msg);
                        ring_rx_ack(rx, seq);
                }
                if (r < 0)
                        worker_fail(w, "inference: a control ring is broken", r);
                ring_rx_idle(rx);
                ring_rx_flush(rx, false);
        }
        return n;
}

/* ---- running -------------------------------------------------------------------------------- */

/* Everybody who is in line now, in order, as long as there is room. Who comes to the line meanwhile
 * has the next turn, so that answers interleave. */
static unsigned run_line(struct inference *inf) {
        uint32_t line = inf->runnable.n;
        unsigned n = 0;

        while (n < line && !inf->full) {
                struct flight *f = flight_list_pop(&inf->runnable);
                if (!f)
                        break;
                flight_run(f);
                n += !inf->full; /* who only waits for room keeps nobody awake */
        }
        return n;
}

static bool may_claim(struct worker *w) {
        struct inference *inf = w->stage;
        int r;

        if (w->draining || inf->full || inf->n_claims == TURN_RECORDS || !solo_may_claim(inf))
                return false;
        if (inf->slab.n_free == 0) {
                inf->starved = true;
                return false;
        }
        r = ring_tx_room(inf->tx, 2, CLAIM_BYTES);
        if (r == RING_E_BATCH) {
                emit_commit(inf);
                r = ring_tx_room(inf->tx, 2, CLAIM_BYTES);
        }
        if (r < 0)
                worker_fail(w, "inference: post's tail is impossible", r);
        if (r == 0)
                return true;
        inf->out->blocked = true;
        inf->out->want_n = 2;
        inf->out->want_bytes = CLAIM_BYTES;
        return false;
}

static unsigned claim(struct worker *w) {
        struct inference *inf = w->stage;
        const struct ring_msg *msg;
        unsigned n = 0;
        int r = 0;

        for (; n < TURN_RECORDS; n++) {
                uint32_t slot;
                r = ring_rx_peek(inf->rx, &msg);
                if (r || !may_claim(w))
                        break;
                if (msg->type != RECORD_REQUEST && msg->type != RECORD_ERROR)
                        worker_fail(w, "inference: assemble wrote a record of unknown type",
                                        -EPROTO);
                if (slab_find(&inf->slab, msg->req_id) != SLAB_NONE)
                        worker_fail(w, "inference: assemble sent a request twice", -EPROTO);
                if (slab_claim(&inf->slab, msg, &slot)) {
                        inf->starved = true;
                        break;
                }
                ring_rx_take(inf->rx);
                flight_claimed(inf, slot, msg);
        }
        if (r < 0)
                worker_fail(w, "inference: assemble's ring is broken", r);
        ring_rx_idle(inf->rx);
        if (inf->starved)
                solo_starved(inf);
        return n;
}

static unsigned inference_turn(struct worker *w) {
        struct inference *inf = w->stage;
        unsigned n = 0;

        inf->full = inf->starved = false;
        if (inf->awaiting) {
                ring_tx_disarm(inf->tx);
                inf->awaiting = false;
        }
        flight_free_passed(inf);
        n += take_controls(w);
        solo_turn(inf);
        n += run_line(inf);
        n += claim(w);
        n += run_line(inf);
        emit_commit(inf);
        if (inf->given_up) {
                poison_given_up(w, inf->given_up, inf->given_up_strikes);
                inf->given_up = 0;
        }
        ring_rx_flush(inf->rx, false);
        counters_set(w->counters, COUNTER_in_flight, inf->n_open);
        return n;
}

/* Work may have come up in the loop's callbacks. And when the slab is full while requests wait, it
 * is post's tail that lets us go on. */
static bool inference_may_sleep(struct worker *w) {
        struct inference *inf = w->stage;

        if (inf->slab.n_touched || (inf->runnable.n && !inf->full))
                return false;
        if (!inf->starved || !inf->ended.first)
                return true;
        inf->awaiting = true;
        return ring_tx_await(inf->tx, inf->ended.first->passed_seq);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int inference_init(struct worker *w) {
        struct inference *inf = calloc(1, sizeof(*inf));
        int r;

        if (!inf)
                return -ENOMEM;
        w->stage = inf;
        inf->w = w;
        inf->record_slot = inf->window_slot = SLAB_NONE;
        r = record_decoder_init(&inf->controls);
        if (r == 0)
                r = routes_new(&inf->routes, w->settings, w->hello.lane, w->topology->n_lanes);
        if (r == 0 && routes_need_upstream(inf->routes))
                r = upstream_new(&inf->upstream, w->loop);
        if (r == 0 && inf->upstream)
                r = openai_pool_new(&inf->openai);
        return r;
}

static int inference_attach(struct worker *w) {
        struct inference *inf = w->stage;
        int r;

        inf->rx = &worker_data_in(w)->rx;
        inf->out = worker_data_out(w);
        inf->tx = &inf->out->tx;
        r = slab_attach(&inf->slab, w->slab_map, w->slab_bytes, inf->tx,
                        (struct ring_rx *const[]){inf->rx}, 1, w->hello.blame != 0);
        if (r)
                return r;
        inf->flights = calloc(inf->slab.n_slots, sizeof(*inf->flights));
        if (!inf->flights)
                return -ENOMEM;
        for (uint32_t slot = 0; slot < inf->slab.n_slots; slot++)
                if (inf->slab.slots[slot].live != SLAB_NONE)
                        flight_restored(inf, slot);
        solo_attach(inf);
        return 0;
}

/* Answers that have begun are finished; the others' backends are let go, and the successor runs
 * them. */
static void inference_drain(struct worker *w) {
        struct inference *inf = w->stage;

        for (uint32_t slot = 0; slot < inf->slab.n_slots; slot++)
                flight_park(&inf->flights[slot]);
}

static bool inference_drained(struct worker *w) {
        struct inference *inf = w->stage;

        return inf->n_open == 0 && inf->slab.n_touched == 0;
}

static void inference_fini(struct worker *w) {
        struct inference *inf = w->stage;

        for (uint32_t slot = 0; inf->flights && slot < inf->slab.n_slots; slot++)
                flight_drop(&inf->flights[slot]);
        openai_pool_free(inf->openai);
        upstream_free(inf->upstream);
        routes_free(inf->routes);
        record_decoder_close(&inf->controls);
        slab_close(&inf->slab);
        free(inf->flights);
        free(inf);
}

const struct stage_ops inference_ops = {
                .name = "inference",
                .role = ROLE_INFERENCE,
                .loop_entries = 1024,
                .init = inference_init,
                .attach = inference_attach,
                .turn = inference_turn,
                .may_sleep = inference_may_sleep,
                .drain = inference_drain,
                .drained = inference_drained,
                .fini = inference_fini,
};
