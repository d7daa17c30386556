/*
 * stage -- what a worker process is made of; one const struct stage_ops per executable.
 *
 * Shape   struct worker: everything the common part attached for this process, struct stage_ops:
 *         what the stage does with it
 * Owner   the worker owns all mappings and rings; a stage owns only w->stage
 * Errors  ops return 0 or -errno; a stage that finds shared memory inconsistent calls
 *         worker_fail()
 * Limits  a turn handles a bounded number of records (TURN_RECORDS) and never blocks
 *
 * Life:  main -> worker_main(&ops) -> receive channel messages -> map -> init -> sandbox -> attach
 *        -> ring neighbours -> READY -> turns -> (DRAIN ... LEAVE | end of file) -> fini -> exit
 */
#pragma once

#include <stdbool.h>

#include "shm/admission.h"
#include "shm/arena.h"
#include "shm/counters.h"
#include "shm/log.h"
#include "shm/ring.h"
#include "shm/side.h"
#include "shm/slab.h"
#include "shm/topology.h"
#include "stages/common/channel.h"
#include "stages/common/clock.h"
#include "stages/common/log.h"
#include "stages/common/loop.h"
#include "stages/common/record.h"
#include "stages/common/settings.h"

/* Exit codes of workers (never the command's). */
#define EXIT_DRAINED 0
#define EXIT_PERMANENT 70    /* layout mismatch, bad settings: no restart helps */
#define EXIT_SHARED_STATE 71 /* shared memory is inconsistent */
#define EXIT_RENEW 72        /* start me anew: the sandbox does not fit any more */

#define TURN_RECORDS 64u

struct worker;

struct stage_ops {
        const char *name;
        enum mr_role role;
        uint32_t loop_entries;
        /* Before the sandbox and before contact with memory that others wrote: allocate w->stage,
         * open files. w->settings and w->loop are there, rings are not attached yet. -EINVAL:
         * settings that no restart makes good (EXIT_PERMANENT); log what is wrong. What is opened
         * later must be a right of the role in sandbox_table.c. */
        int (*init)(struct worker *w);
        /* Rings are attached (ring_tx_attach, ring_rx_attach done for all of w->in, w->out);
         * recover. Threads start here: one that ran before would be outside of the sandbox. */
        int (*attach)(struct worker *w);
        /* Does a bounded amount of work; publishes what it made; returns how much it did (0: idle).
         * After 0 the worker sleeps, unless a record came meanwhile: one that a whole turn has left
         * in its ring is one that it has no room for, and does not keep the process awake. */
        unsigned (*turn)(struct worker *w);
        /* Just before sleeping, after rings were armed: false when there is something to do after
         * all. NULL: nothing to check. */
        bool (*may_sleep)(struct worker *w);
        /* DRAIN came: nothing new is to be taken from outside. NULL: nothing to do. */
        void (*drain)(struct worker *w);
        /* CLOSE came: another process has the place. NULL: nothing to do. */
        void (*close)(struct worker *w);
        /* Is nothing in flight here? Asked after DRAIN and CLOSE, each turn. */
        bool (*drained)(struct worker *w);
        /* A lane that this process left (worker_leave_lane) is back: its new objects are mapped,
         * its rings attached. NULL: it serves no lane but its own. */
        void (*lane)(struct worker *w, uint32_t lane, uint64_t generation);
        /* LEAVE: everything is published. NULL: nothing to do (nor for attach). */
        void (*fini)(struct worker *w);
};

/* A data or control input ring, with who feeds it. */
struct worker_in {
        struct ring_rx rx;
        const struct topology_ring *ring;
        struct ring_map back; /* of a lane that comes back: mapped, not attached yet */
};
struct worker_out {
        struct ring_tx tx;
        const struct topology_ring *ring;
        struct ring_map back;
        bool blocked;        /* set by a turn that waits for room; cleared before each turn */
        uint32_t want_n;     /* room for so many records (0 counts as 1) */
        uint64_t want_bytes; /* of together so many bytes; as ring_tx_room() was asked */
};

/* A listener for HTTP, which does not block. What it accepts has its options (sockets.c of the
 * supervisor): no delay, little unsent data in the kernel, an end for peers that take nothing. */
struct worker_http {
        int fd;
        uint32_t index; /* settings->http.listen.v[index] is its address */
};

struct worker {
        const struct stage_ops *ops;
        void *stage; /* the stage's own state */
        char *title; /* argv[0]; NULL: none */
        struct channel_hello hello;
        struct settings *settings;
        const struct topology_shm *topology;
        struct loop *loop;
        struct counters_shm *counters;
        struct side_shm *side;
        struct record_decoder decoder;

        /* Rings by kind, in topology order. Indexes: lane stages have one data input (rag: one for
         * each gateway slot); inference also RING_CANCEL inputs; gateways RING_NOTICE inputs, one a
         * lane; stream also RING_LOOKUP inputs. */
        struct worker_in *in;
        uint32_t n_in;
        struct worker_out *out;
        uint32_t n_out;

        void *slab_map; /* rag, inference, post; else NULL */
        uint64_t slab_bytes;
        struct admission_shm *admission;                     /* gateway: its own; else NULL */
        struct admission_view admissions[GATEWAY_SLOTS_MAX]; /* shm NULL: not mapped */
        void *arena_map; /* gateway: its own, writable; NULL while its slot has none */
        uint64_t arena_map_bytes;
        struct arena_view arenas[GATEWAY_SLOTS_MAX]; /* shm NULL: not mapped */
        uint64_t arena_view_bytes[GATEWAY_SLOTS_MAX];
        struct log_shm *log; /* stream: its own; else NULL */
        uint64_t log_map_bytes;
        struct log_view logs[LANES_MAX]; /* gateway: each lane's; shm NULL while it is reset */
        uint64_t log_view_bytes[LANES_MAX];
        int half_ring_fd; /* of a new ring whose consumer's object has yet to come; -1: none */
        uint32_t half_ring;
        const struct counters_shm *all_counters[PROCS_MAX]; /* telemetry; assemble: of inference */
        const struct side_shm *all_sides[PROCS_MAX];        /* telemetry */

        int bells[PROCS_MAX]; /* -1: not a neighbour */
        int listeners[4];     /* by enum channel_listener_kind, but for HTTP; -1: none */
        struct worker_http http[HTTP_LISTENERS_MAX]; /* gateway */
        uint32_t n_http;
        int lock_fd;          /* of the instance lock: held open, never used */
        bool draining;
        bool closing; /* CHANNEL_CLOSE came */
        bool cut; /* CHANNEL_CUT came */
        bool leaving;
        bool stuck; /* the stage cannot go on: no more signs of life, so that its successor does */
        bool renewing; /* leaving for a successor with another sandbox */
};

/* The whole life of a worker process; returns its exit code. The worker itself writes the counters
 * records_in, records_out, doorbells, wakeups, tripwire, log_lines_dropped and ring_*; and READY,
 * DRAINED, the heartbeat, and the forced ring_rx_flush() before it sleeps. */
int worker_main(const struct stage_ops *ops, int argc, char **argv);

/* Finds a ring of this worker by kind and the process at its other end; NULL: none. */
struct worker_in *worker_find_in(struct worker *w, enum ring_kind kind, uint32_t from_proc);
struct worker_out *worker_find_out(
                struct worker *w, enum ring_kind kind, uint32_t lane, uint32_t to_proc);
/* The first data input / output (lane stages have exactly one data output). */
struct worker_in *worker_data_in(struct worker *w);
struct worker_out *worker_data_out(struct worker *w);

/* Leaves after this turn, with everything published, and is started anew at once. */
void worker_renew(struct worker *w, const char *why);

/* Shared memory is inconsistent: logs, stores last words, exits EXIT_SHARED_STATE. */
_Noreturn void worker_fail(struct worker *w, const char *what, int error);
/* Likewise, for a process that serves several lanes: it is that lane's memory. */
_Noreturn void worker_fail_lane(struct worker *w, uint32_t lane, const char *what, int error);
/* The lane is being reset: unmaps its rings and its log, drops what was not committed, and tells
 * the supervisor. Its rings are not to be touched until ops->lane() says that it is back. */
void worker_leave_lane(struct worker *w, uint32_t lane, uint64_t generation);

/* Fault points, compiled in by -Dfaults=true only; docs/faults.md has them all. FAULT_AT: where the
 * worker is out of sight. */
#ifdef MR_FAULTS
/* 0, or -ENOSPC, -EMFILE where the test wants that error (FAULT_ERROR, at points that can fail). */
int fault_point(const char *stage, const char *point, const void *text, uint32_t len);
#define FAULT(w, point, text, len) ((void)fault_point((w)->ops->name, point, text, len))
#define FAULT_AT(stage, point) ((void)fault_point(stage, point, NULL, 0))
#define FAULT_ERROR(w, point, text, len) fault_point((w)->ops->name, point, text, len)
#else
#define FAULT(w, point, text, len) ((void)0)
#define FAULT_AT(stage, point) ((void)0)
#define FAULT_ERROR(w, point, text, len) 0
#endif
