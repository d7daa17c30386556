/*
 * The bare rings: a stage of this test's own that acks in place, with one to three outputs for each input,
 * so that an input's outputs may lie in several commits (the resume point of rings.md 2.5).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/steps/hop.h"

/* The output ring: as many records, as many a batch. A mutant has a smaller one. */
#ifndef PLAIN_N
#define PLAIN_N 8
#define PLAIN_BATCH 4
#endif

struct plain {
        struct ring_rx *rx;
        struct ring_tx *tx;
        struct worker_out *out;
        uint64_t seq, n; /* the input at hand; seq 0: none */
        uint32_t ord;
        uint64_t done[TURN_RECORDS];
        uint32_t n_done;
};

static uint32_t outputs_of(uint64_t n) {
        return 1 + (uint32_t)(n % 3);
}

static uint32_t output_len(uint64_t n, uint32_t ord) {
        return 20 + (uint32_t)(n * 13 + ord * 29) % 90;
}

static void commit(struct plain *plain) {
        ring_tx_commit(plain->tx);
        for (uint32_t i = 0; i < plain->n_done; i++)
                ring_rx_ack(plain->rx, plain->done[i]);
        plain->n_done = 0;
}

/* One output of the input at hand; false: no room. */
static bool emit(struct worker *w, struct plain *plain) {
        uint32_t len = output_len(plain->n, plain->ord), outputs = outputs_of(plain->n);
        uint8_t *to;
        int r = ring_tx_begin(plain->tx, len, &to);

        if (r == RING_E_BATCH) {
                commit(plain);
                r = ring_tx_begin(plain->tx, len, &to);
        }
        if (r < 0)
                worker_fail(w, "plain: the consumer's tail is impossible", r);
        if (r != 0) {
                plain->out->blocked = true;
                plain->out->want_bytes = len;
                return false;
        }
        for (uint32_t i = 0; i < len; i++)
                to[i] = (uint8_t)(plain->n * 7 + plain->ord * 3 + i);
        ring_tx_end(plain->tx,
                        &(struct ring_meta){.type = RECORD_DELTA,
                                        .src = ring_src(plain->rx->map.geo.id, plain->seq),
                                        .ord = plain->ord,
                                        .req_id = plain->n,
                                        .flags = plain->ord + 1 == outputs ? RING_LAST : 0},
                        len);
        plain->ord++;
        return true;
}

static bool take(struct plain *plain) {
        const struct ring_msg *msg;

        if (plain->n_done == TURN_RECORDS || ring_rx_peek(plain->rx, &msg) != 0)
                return false;
        memcpy(&plain->n, msg->data, sizeof(plain->n));
        plain->seq = msg->seq;
        ring_rx_take(plain->rx);
        plain->ord = ring_rx_emitted(plain->rx, plain->seq);
        return true;
}

static unsigned plain_turn(struct worker *w) {
        struct plain *plain = w->stage;
        unsigned n = 0;

        while (plain->seq != 0 || take(plain)) {
                while (plain->ord < outputs_of(plain->n) && emit(w, plain))
                        n++;
                if (plain->ord < outputs_of(plain->n))
                        break;
                plain->done[plain->n_done++] = plain->seq;
                plain->seq = 0;
        }
        commit(plain);
        ring_rx_idle(plain->rx);
        ring_rx_flush(plain->rx, false);
        return n;
}

static int plain_init(struct worker *w) {
        w->stage = calloc(1, sizeof(struct plain));
        return w->stage ? 0 : -ENOMEM;
}

static int plain_attach(struct worker *w) {
        struct plain *plain = w->stage;

        plain->rx = &worker_data_in(w)->rx;
        plain->out = worker_data_out(w);
        plain->tx = &plain->out->tx;
        ring_recover(plain->tx, plain->rx);
        return 0;
}

static const struct stage_ops plain_ops = {
                .name = "plain",
                .role = ROLE_ASSEMBLE,
                .loop_entries = 16,
                .init = plain_init,
                .attach = plain_attach,
                .turn = plain_turn,
};

int stage_main(int argc, char **argv) {
        return worker_main(&plain_ops, argc, argv);
}

static uint32_t input(uint64_t n, struct ring_meta *meta, uint8_t *to) {
        *meta = (struct ring_meta){.type = RECORD_REQUEST, .req_id = n};
        memcpy(to, &n, sizeof(n));
        return sizeof(n);
}

static void taken(const struct ring_msg *msg) {
        hop_seen(msg->req_id, msg->ord, hop_hash(msg->type, msg->data, msg->len),
                        (msg->flags & RING_LAST) != 0, MR_E_none);
}

static bool right(void) {
        for (uint64_t n = 1; n <= hop.n_limit; n++)
                if (hop.n_outputs[n] != outputs_of(n))
                        return false;
        return true;
}

const struct hop_case hop_case = {
                .name = "plain",
                .role = ROLE_ASSEMBLE,
                .in = {.id = 1, .n = 8, .max_batch = 4, .max_rec = 1024, .bytes = 4096},
                .out = {.id = 2, .n = PLAIN_N, .max_batch = PLAIN_BATCH, .max_rec = 1024,
                                .bytes = 4096},
                .per_request = 1,
                .n_warm = 13,
                .n_inputs = 22,
                .ordered = true,
                .input = input,
                .take = taken,
                .right = right,
};
