#include "stages/stream/notices.h"

#include "shm/doorbell.h"

void notices_touch(struct stream *stream, uint64_t req_id, uint32_t response) {
        for (uint32_t i = stream->n_touched; i-- > 0;)
                if (stream->touched[i].req_id == req_id)
                        return;
        if (stream->n_touched == STREAM_TOUCHED)
                stream->touched_more = true;
        else
                stream->touched[stream->n_touched++] = (struct stream_touched){req_id, response};
}

/* SYNC(log.missed): raised after `end`; a gateway compares it before it sleeps. */
void notices_look_again(struct worker *w, uint32_t gateway) {
        mr_au64 *missed = &w->log->missed[gateway];

        atomic_store_explicit(missed, atomic_load_explicit(missed, memory_order_relaxed) + 1,
                        memory_order_seq_cst);
        doorbell_ring(w->bells[topology_proc_gateway(gateway)]);
}

/* SYNC(log.follow): `end` was published (seq_cst) before this table is read; the gateway names the
 * response before it reads `end`. So either it sees the event or we see it. */
static void notify(struct worker *w, uint32_t gateway) {
        struct stream *stream = w->stage;
        struct ring_tx *tx = &stream->notices[gateway]->tx;
        bool dropped = stream->touched_more;

        for (uint32_t i = 0; i < stream->n_touched; i++) {
                const struct stream_touched *touched = &stream->touched[i];
                uint64_t flags;
                uint8_t *to;
                int r;
                if (follow_get(&w->admissions[gateway], touched->req_id, &flags))
                        continue;
                r = ring_tx_begin(tx, 0, &to);
                if (r == RING_E_BATCH) {
                        ring_tx_commit(tx);
                        r = ring_tx_begin(tx, 0, &to);
                }
                if (r) {
                        dropped = true;
                        break;
                }
                ring_tx_end(tx,
                                &(struct ring_meta){.type = RECORD_NOTICE,
                                                .ord = touched->response,
                                                .req_id = touched->req_id},
                                0);
        }
        ring_tx_commit(tx);
        if (dropped) {
                counters_add(w->counters, COUNTER_notices_missed, 1);
                notices_look_again(w, gateway);
        }
}

void notices_send(struct worker *w) {
        struct stream *stream = w->stage;

        for (uint32_t g = 0; stream->n_touched && g < w->topology->n_gateway_slots; g++)
                if (stream->notices[g] && w->admissions[g].shm)
                        notify(w, g);
        stream->n_touched = 0;
        stream->touched_more = false;
}
