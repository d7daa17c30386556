/* A worker's rings: attached, and found by who is at their other end. */
#include "stages/common/worker.h"

#include <errno.h>

/* ---- attaching ----------------------------------------------------------------------------------
 */

int worker_attach_out(struct worker *w, struct worker_out *out) {
        struct ring_map map = out->tx.map;
        int r = ring_tx_attach(&out->tx, &map, w->bells[out->ring->to]);

        if (r == -EBADMSG)
                worker_name_lane(w, out->ring->lane);
        return r;
}

int worker_attach_in(struct worker *w, struct worker_in *in, bool blame) {
        struct ring_map map = in->rx.map;
        int r = ring_rx_attach(&in->rx, &map, w->bells[in->ring->from], blame);

        if (r == -EBADMSG)
                worker_name_lane(w, in->ring->lane);
        return r;
}

int worker_attach_rings(struct worker *w) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < w->n_out; i++)
                r = worker_attach_out(w, &w->out[i]);
        for (uint32_t i = 0; r == 0 && i < w->n_in; i++)
                r = worker_attach_in(w, &w->in[i], w->hello.blame);
        return r;
}

/* ---- finding rings -----------------------------------------------------------------------------
 */

struct worker_in *worker_find_in(struct worker *w, enum ring_kind kind, uint32_t from_proc) {
        for (uint32_t i = 0; i < w->n_in; i++)
                if (w->in[i].ring->kind == (uint32_t)kind && w->in[i].ring->from == from_proc)
                        return &w->in[i];
        return NULL;
}

struct worker_out *worker_find_out(
                struct worker *w, enum ring_kind kind, uint32_t lane, uint32_t to_proc) {
        for (uint32_t i = 0; i < w->n_out; i++)
                if (w->out[i].ring->kind == (uint32_t)kind && w->out[i].ring->lane == lane &&
                                w->out[i].ring->to == to_proc)
                        return &w->out[i];
        return NULL;
}

struct worker_in *worker_data_in(struct worker *w) {
        for (uint32_t i = 0; i < w->n_in; i++)
                if (w->in[i].ring->kind == RING_DATA)
                        return &w->in[i];
        return NULL;
}

struct worker_out *worker_data_out(struct worker *w) {
        for (uint32_t i = 0; i < w->n_out; i++)
                if (w->out[i].ring->kind == RING_DATA)
                        return &w->out[i];
        return NULL;
}
