/* The stage that test_worker.c runs: it copies records from its input to its output. What a record
 * says can ask for more: crash, hold what comes behind it for a while, tell what the worker has
 * mapped. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/stage.h"

#define HOLD_NS (300 * NS_PER_MS)

struct copier {
        struct loop_timer hold;
        bool holding;
        uint64_t turns; /* since the hold began */
};

static int copier_init(struct worker *w) {
        struct copier *copier = calloc(1, sizeof(*copier));
        if (!copier)
                return -ENOMEM;
        w->stage = copier;
        /* The session settings say which answer to init() is wanted. */
        return w->settings->sessions.history_turns == 99 ? -EINVAL : 0;
}

static int copier_attach(struct worker *w) {
        ring_recover(&worker_data_out(w)->tx, &worker_data_in(w)->rx);
        return 0;
}

static void hold_over(struct loop_timer *timer) {
        struct copier *copier = timer->owner;
        copier->holding = false;
}

/* What is written to the output for one input. */
static uint32_t answer(struct worker *w, const struct ring_msg *msg, uint8_t *to) {
        struct copier *copier = w->stage;
        const char *text = (const char *)msg->data;

        if (msg->len >= 4 && memcmp(text, "segv", 4) == 0)
                raise(SIGSEGV);
        if (msg->len >= 4 && memcmp(text, "fail", 4) == 0)
                worker_fail(w, "test", -EBADMSG);
        if (msg->len >= 5 && memcmp(text, "renew", 5) == 0)
                worker_renew(w, "test");
        if (msg->len >= 5 && memcmp(text, "arena", 5) == 0)
                return (uint32_t)snprintf((char *)to, 64, "arena %d", w->arenas[1].shm != NULL);
        if (msg->len >= 5 && memcmp(text, "turns", 5) == 0)
                return (uint32_t)snprintf(
                                (char *)to, 64, "%llu", (unsigned long long)copier->turns);
        if (msg->len >= 4 && memcmp(text, "hold", 4) == 0) {
                copier->holding = true;
                copier->turns = 0;
                copier->hold = (struct loop_timer){.fn = hold_over, .owner = copier};
                loop_timer_set(w->loop, &copier->hold, loop_now_ns(w->loop) + HOLD_NS);
        }
        memcpy(to, msg->data, msg->len);
        return msg->len;
}

static unsigned copier_turn(struct worker *w) {
        struct copier *copier = w->stage;
        struct worker_in *in = worker_data_in(w);
        struct worker_out *out = worker_data_out(w);
        const struct ring_msg *msg;
        unsigned n = 0;

        copier->turns++;
        while (n < TURN_RECORDS && !copier->holding) {
                uint8_t *to;
                int r = ring_rx_peek(&in->rx, &msg);
                if (r == RING_E_EMPTY)
                        break;
                if (r < 0)
                        worker_fail(w, "input", r);
                r = ring_tx_begin(&out->tx, msg->len + 64, &to);
                if (r != 0) {
                        out->blocked = true;
                        out->want_bytes = msg->len + 64;
                        break;
                }
                ring_rx_take(&in->rx);
                const struct ring_meta meta = {.type = msg->type,
                                .flags = RING_LAST,
                                .src = ring_src(in->ring->id, msg->seq),
                                .req_id = msg->req_id};
                ring_tx_end(&out->tx, &meta, answer(w, msg, to));
                ring_tx_commit(&out->tx);
                ring_rx_ack(&in->rx, msg->seq);
                ring_rx_idle(&in->rx);
                n++;
        }
        ring_rx_flush(&in->rx, false);
        return n;
}

static bool copier_drained(struct worker *w) {
        return ring_rx_depth(&worker_data_in(w)->rx) == 0;
}

static void copier_fini(struct worker *w) {
        free(w->stage);
        log_info("fini", "%s", "");
}

int main(int argc, char **argv) {
        static const struct stage_ops ops = {
                        .name = "assemble",
                        .role = ROLE_ASSEMBLE,
                        .init = copier_init,
                        .attach = copier_attach,
                        .turn = copier_turn,
                        .drained = copier_drained,
                        .fini = copier_fini,
        };
        return worker_main(&ops, argc, argv);
}
