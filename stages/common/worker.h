/*
 * worker -- the parts of a worker's life that its main loop is made of; stages see only stage.h.
 *
 * Shape   worker_setup() takes the channel's messages up to START and maps what they bring; crash.c
 *         leaves last words; worker.c runs the turns
 * Owner   worker_main() owns the struct worker and everything in it
 * Errors  0, -errno, WORKER_E_*
 */
#pragma once

#include "stages/common/stage.h"

#define WORKER_WHY_BYTES 256

enum worker_error {
        WORKER_E_REFUSED = 1, /* will never work: `why` says what; exit EXIT_PERMANENT */
        WORKER_E_GONE,        /* the supervisor has gone: nobody is left to talk to */
};

/* From exec to START: descriptors checked, settings read, objects mapped, bells and listeners held.
 * On failure `why` is one line for the supervisor's log. */
int worker_setup(struct worker *w, char why[static WORKER_WHY_BYTES]);
/* Maps one object that a CHANNEL_OBJECT message brought; does not take the descriptor. */
int worker_map_object(struct worker *w, const struct channel_object *object, int fd,
                char why[static WORKER_WHY_BYTES]);
/* Lets go of an arena whose gateway slot is not in use any more. */
void worker_unmap_arena(struct worker *w, uint32_t slot);
/* Attaches all rings; 0 or -errno (-EBADMSG: shared memory is inconsistent). */
int worker_attach_rings(struct worker *w);
int worker_attach_in(struct worker *w, struct worker_in *in, bool blame);
int worker_attach_out(struct worker *w, struct worker_out *out);
void worker_close(struct worker *w);

/* ---- worker_lane.c: the lanes of a process that serves several ---- */

/* Tells the supervisor whose memory is inconsistent, before this process exits. */
void worker_name_lane(const struct worker *w, uint32_t lane);
/* One object of a lane that is back: a ring's producer's object, its consumer's, or the log. Takes
 * *fd when it is kept. 0 or -errno. */
int worker_lane_object(struct worker *w, const struct channel_object *object, int *fd);
/* All of them have come: attaches the lane's rings. 0 or -errno. */
int worker_enter_lane(struct worker *w, uint32_t lane);

/* ---- worker_pages.c ---- */

struct worker_pages {
        uint32_t n_done; /* objects whose pages are all there: inputs, outputs, slab, log */
        uint64_t done;   /* bytes of the next one */
        uint64_t due_ns; /* when the next piece is; UINT64_MAX: all is there */
};
void worker_pages_init(struct worker_pages *pages, uint64_t now_ns);
/* Faults a piece of this worker's memory in, when one is due; pages->due_ns is when the next one is.
 * That is not done at the start, where it would be most of a restart, nor in the moment after it, in
 * which whoever goes on with what had waited needs the core, but when there is nothing to do: else a
 * process would seem to grow until its rings have come round once. */
void worker_fault_in(struct worker *w, struct worker_pages *pages, uint64_t now_ns);

/* Stores signal, sender and record at hand in the counters page when this process crashes. */
int crash_install(const struct worker *w);

#ifdef MR_FAULTS
void fault_attach(struct counters_shm *counters);
#endif
