#include "stages/inference/solo.h"

void solo_attach(struct inference *inf) {
        inf->struck_seq = ring_rx_struck(inf->rx);
}

struct flight_list *solo_list(struct inference *inf, uint32_t slot) {
        return slab_strikes(&inf->slab, slot) > 0 ? &inf->suspects : &inf->runnable;
}

static bool is_under_way(const struct flight *f) {
        return f->state == FLIGHT_RUNNING || f->state == FLIGHT_ENDING ||
               (f->state == FLIGHT_READY && f->holds);
}

static bool is_quiet(const struct inference *inf) {
        for (uint32_t slot = 0; slot < inf->slab.n_slots; slot++)
                if (is_under_way(&inf->flights[slot]))
                        return false;
        return true;
}

void solo_turn(struct inference *inf) {
        struct flight *f = inf->alone;

        if (f && f->state != FLIGHT_READY && !is_under_way(f))
                inf->alone = NULL;
        if (inf->rx->rd > inf->struck_seq)
                inf->struck_seq = 0;
        if (inf->alone || inf->struck_seq)
                return;
        if (inf->suspects.n > 0 && is_quiet(inf)) {
                inf->alone = flight_list_pop(&inf->suspects);
                flight_list_push(&inf->runnable, inf->alone);
        }
        while (!inf->alone && inf->suspects.n == 0 && (f = flight_list_pop(&inf->held)))
                flight_list_push(&inf->runnable, f);
}

bool solo_holds(const struct inference *inf, const struct flight *f) {
        if (f->state != FLIGHT_READY || f->holds || f == inf->alone)
                return false;
        return inf->alone || inf->suspects.n > 0 || inf->struck_seq;
}

bool solo_may_claim(const struct inference *inf) {
        return inf->struck_seq || (!inf->alone && inf->suspects.n == 0);
}

void solo_starved(struct inference *inf) {
        inf->struck_seq = 0;
}
