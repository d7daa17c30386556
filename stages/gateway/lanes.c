#include "stages/gateway/lanes.h"

#include "stages/gateway/answers.h"
#include "stages/gateway/reader.h"

bool lane_is_here(const struct gateway *gw, uint32_t lane) {
        return gw->lane_here[lane];
}

bool lane_is_down(const struct gateway *gw, uint32_t lane) {
        return gw->lane_down[lane];
}

/* ---- a reset ---- */

/* Its end comes from here: the lane will not say any more how it ended. */
static void answer_fail(struct gateway *gw, struct answer *a) {
        bool was_open = a->where == ANSWER_OPEN;

        if (was_open) {
                table_close(&gw->table, a->slot, OUTCOME_FAILED);
                gw->closed_ns = loop_now_ns(gw->w->loop);
                counters_add(gw->w->counters, COUNTER_reset_lost, 1);
        }
        /* Ended before anybody is told: a connection that closes on the way cancels nothing. */
        a->where = ANSWER_FINISHED;
        a->slot = ADMISSION_NONE;
        a->response = LOG_NONE;
        loop_timer_clear(gw->w->loop, &a->deadline);
        while (a->readers)
                reader_fail(gw, a->readers, MR_E_internal,
                                "the lane was reset: its shared memory had become inconsistent",
                                ASK_NO_RETRY);
        follow_remove(gw->table.shm, a->req_id);
        answer_unname(gw, a); /* the lane's ids are forgotten */
        answer_dirty(gw, a);
}

static void leave(struct gateway *gw, uint32_t lane, uint64_t generation) {
        uint64_t lost = counters_get(gw->w->counters, COUNTER_reset_lost);

        for (uint32_t i = 0; i <= gw->answers.mask; i++)
                for (struct answer *a = gw->answers.by_req[i]; a; a = a->next_by_req)
                        if (a->lane == lane)
                                answer_fail(gw, a);
        lost = counters_get(gw->w->counters, COUNTER_reset_lost) - lost;
        log_warn("lane_reset", "lane=%u generation=%llu failed=%llu", lane,
                        (unsigned long long)generation, (unsigned long long)lost);
        gw->over_bound[lane] = false;
        gw->lane_left[lane] = generation;
        gw->lane_here[lane] = false;
        lookups_lane_left(gw, lane);
        worker_leave_lane(gw->w, lane, generation);
}

void gateway_lane(struct worker *w, uint32_t lane, uint64_t generation) {
        struct gateway *gw = w->stage;

        gw->lane_gen[lane] = generation;
        gw->lane_here[lane] = true;
        /* Of a new ring nothing is committed, and nothing of the old one counts. */
        table_committed(&gw->table, lane, gw->to_rag[lane]->tx.committed);
        gw->missed[lane] = atomic_load_explicit(
                        &w->logs[lane].shm->missed[gw->slot], memory_order_seq_cst);
}

/* ---- a turn ---- */

unsigned lanes_turn(struct gateway *gw) {
        unsigned n = 0;

        for (uint32_t lane = 0; lane < gw->n_lanes; lane++) {
                /* SYNC(lane.state): the supervisor rings after its store <- memory_lane_set(). */
                uint64_t word = atomic_load_explicit(
                                &gw->w->topology->lane_state[lane], memory_order_acquire);
                uint64_t generation = lane_word_generation(word);
                bool down = lane_word_state(word) == LANE_DOWN;

                if (lane_word_state(word) == LANE_RESETTING &&
                                (gw->lane_here[lane] || gw->lane_left[lane] != generation)) {
                        leave(gw, lane, generation);
                        n++;
                }
                if (down == gw->lane_down[lane])
                        continue;
                gw->lane_down[lane] = down;
                if (down)
                        door_refuse_lane(gw, lane, MR_E_overloaded, "a stage of the lane is down");
                n++;
        }
        return n;
}
