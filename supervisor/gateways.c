/*
 * gateways -- which gateway slot serves which place, and how a place changes its slot.
 *
 * There is one slot more than places: the spare. A gateway is replaced without an end of its
 * connections: the successor starts in the spare slot, and when it is ready it has the place; the
 * old one lets nobody in any more, finishes what its clients wait for, leaves, and its slot is the
 * spare.
 *
 *   spare --(gateways_start)--> successor --(READY: gateways_move)--> serves the place
 *   serves the place --(gateways_move)--> closing --(DRAINED, left)--> spare
 *   successor --(gateways_give_up)--> closing
 *
 * A closing gateway that dies has a closing one as its successor. That is also what runs where a
 * dead supervisor's restart was under way, which shows by an arena for every slot.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/log.h"
#include "supervisor/daemon.h"

void gateways_init(struct daemon *d) {
        const struct topology_shm *t = d->memory.topology;
        uint32_t other = t->n_gateways, place = 0;

        for (uint32_t slot = 0; slot < t->n_gateway_slots; slot++)
                if (!d->memory.arena[slot])
                        other = slot;
        for (uint32_t slot = 0; slot < t->n_gateway_slots; slot++) {
                struct process *p = &d->procs[topology_proc_gateway(slot)];

                p->place = slot == other ? GATEWAY_NO_PLACE : place++;
                p->wanted = d->memory.arena[slot] != 0;
                p->closing = p->served = p->wanted && slot == other;
        }
}

uint32_t gateways_slot(const struct daemon *d, uint32_t place) {
        uint32_t slot = 0;

        while (d->procs[topology_proc_gateway(slot)].place != place)
                slot++; /* each place is served, and one slot serves none */
        return slot;
}

struct process *gateways_at(struct daemon *d, uint32_t place) {
        return &d->procs[topology_proc_gateway(gateways_slot(d, place))];
}

struct process *gateways_other(struct daemon *d) {
        return gateways_at(d, GATEWAY_NO_PLACE);
}

static void tell_arenas(struct daemon *d) {
        for (uint32_t i = 0; i < d->n_procs; i++)
                process_tell_arenas(&d->procs[i]);
}

int gateways_prepare(struct daemon *d) {
        int r = memory_arena_make(&d->memory, gateways_other(d)->index);

        if (r == 0)
                tell_arenas(d);
        return r;
}

bool gateways_prepared(const struct daemon *d) {
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (process_is_running(&d->procs[i]) && !handover_has_arenas(&d->procs[i]))
                        return false;
        return true;
}

int gateways_start(struct daemon *d, uint32_t place) {
        struct process *p = gateways_other(d), *old = gateways_at(d, place);
        char *exe = old->exe ? strdup(old->exe) : NULL;

        if (old->exe && !exe)
                return -ENOMEM;
        free(p->exe);
        p->exe = exe;
        p->wanted = true;
        process_pardon(p);
        return 0;
}

void gateways_move(struct daemon *d, uint32_t place) {
        struct process *p = gateways_other(d), *old = gateways_at(d, place);

        p->place = place;
        p->n_starts += old->n_starts;
        memcpy(p->last_exit, old->last_exit, sizeof(p->last_exit));
        /* `restart --exe` may have been asked for again meanwhile: that is for the next one. */
        free(p->exe);
        p->exe = old->exe;
        old->exe = NULL;
        old->place = GATEWAY_NO_PLACE;
        old->left_place = place;
        old->n_starts = 0;
        log_info("closing", "place=%u slot=%u pid=%ld", place, old->index, (long)old->pid);
        process_close(old);
}

/* The slot is empty: the next successor starts in it. */
static void make_spare(struct process *p) {
        process_forget(p);
        p->wanted = p->closing = p->served = false;
        p->n_starts = 0;
        p->last_exit[0] = '\0';
        p->left_place = GATEWAY_NO_PLACE;
        free(p->exe);
        p->exe = NULL;
        memory_arena_drop(&p->d->memory, p->index);
        tell_arenas(p->d);
}

void gateways_give_up(struct daemon *d) {
        struct process *p = gateways_other(d);

        p->closing = true;
        if (process_is_running(p))
                process_kill(p, true);
        else if (!p->served)
                make_spare(p);
}

bool gateways_ended(struct process *p, bool drained) {
        if (p->role != ROLE_GATEWAY || !p->closing)
                return false;
        if (p->left_place != GATEWAY_NO_PLACE)
                memcpy(gateways_at(p->d, p->left_place)->last_exit, p->last_exit,
                                sizeof(p->last_exit));
        /* Who was never ready has let nobody in; who said DRAINED has nobody and nothing left. */
        if (p->served && !drained)
                return false;
        make_spare(p);
        return true;
}
