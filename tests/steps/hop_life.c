/*
 * A life of the stage: the product's worker_main(), with what a supervisor would have sent to it already in
 * place. By the linker's --wrap, so that the objects themselves stay as they are:
 *
 *   worker_setup    takes the rings and the rest from the hop
 *   sandbox_enter   is where the stepping begins: what follows is attach, recovery, READY and the turns
 *   channel_*       nobody to talk to
 *   loop_poll_edge  its own bell,
 *   loop_turn       and a sleep, which hands over to the neighbours
 */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/sandbox.h"
#include "stages/common/worker.h"
#include "tests/steps/hop.h"

#define BUSY_MS 20 /* waits so long for its threads before it counts as asleep */

static struct worker *self;

int __wrap_worker_setup(struct worker *w, char why[static WORKER_WHY_BYTES]);
int __wrap_sandbox_enter(struct worker *w);
int __wrap_channel_send(int channel, enum channel_type type, uint32_t flags, const void *bytes,
                uint32_t len, int fd);
int __wrap_channel_recv(int channel, int wait, struct channel_head *ret_head, void *buf,
                uint32_t cap, uint32_t *ret_len, int *ret_fd);
int __wrap_loop_turn(struct loop *loop, uint64_t wait_until_ns);
void __wrap_loop_poll_edge(struct loop *loop, struct loop_op *op, int fd, uint32_t mask);
int __real_loop_turn(struct loop *loop, uint64_t wait_until_ns);

int __wrap_worker_setup(struct worker *w, char why[static WORKER_WHY_BYTES]) {
        (void)why;
        self = w;
        /* To give a request up is an error that is said. */
        log_init("hop", hop_case.strikes ? LOG_LEVEL_BROKEN : LOG_LEVEL_ERROR);
        w->hello = (struct channel_hello){.role = hop_case.role,
                        .proc = hop.self,
                        .epoch = hop.epoch,
                        .blame = hop.blame,
                        .core = UINT32_MAX,
                        .page_bytes = topology_bytes()};
        w->settings = hop.settings;
        w->topology = hop.topology;
        w->counters = hop.counters;
        w->side = hop.side_ring;
        w->slab_map = hop.slab;
        w->slab_bytes = hop.slab_bytes;
        w->log = hop.log;
        w->log_map_bytes = hop.log_bytes;
        for (uint32_t i = 0; i < HOP_PROCS; i++)
                if (i == hop.self || i == hop.up || i == hop.down)
                        w->bells[i] = hop.bells[i];
        STEPS_REQUIRE(admission_view_init(&w->admissions[0], hop.admission,
                                      admission_bytes(HOP_REQUESTS)) == 0);
        w->in = calloc(1, sizeof(*w->in));
        w->out = calloc(1, sizeof(*w->out));
        STEPS_REQUIRE(w->in && w->out);
        w->n_in = w->n_out = 1;
        w->in->ring = hop.in.topology;
        w->in->rx.map = hop.in.cons;
        w->out->ring = hop.out.topology;
        w->out->tx.map = hop.out.prod;
        return 0;
}

int __wrap_sandbox_enter(struct worker *w) {
        (void)w;
        steps_mark();
        return 0;
}

int __wrap_channel_send(int channel, enum channel_type type, uint32_t flags, const void *bytes,
                uint32_t len, int fd) {
        (void)channel, (void)flags, (void)bytes, (void)len, (void)fd;
        if (type == CHANNEL_READY)
                atomic_store_explicit(hop.ready, (uint64_t)getpid(), memory_order_relaxed);
        return 0;
}

int __wrap_channel_recv(int channel, int wait, struct channel_head *ret_head, void *buf,
                uint32_t cap, uint32_t *ret_len, int *ret_fd) {
        (void)channel, (void)wait, (void)ret_head, (void)buf, (void)cap, (void)ret_len;
        (void)ret_fd;
        return CHANNEL_E_AGAIN;
}

/* Its own bell is looked at by the tracer: a victim that is held back would hear what was rung for others. */
void __wrap_loop_poll_edge(struct loop *loop, struct loop_op *op, int fd, uint32_t mask) {
        (void)loop, (void)op, (void)fd, (void)mask;
}

static bool rung_by_a_thread(void) {
        struct pollfd wait = {.fd = hop.bells[hop.self], .events = POLLIN};

        if (!hop_case.busy || self->ops->drained(self) || poll(&wait, 1, BUSY_MS) != 1)
                return false;
        doorbell_clear(wait.fd);
        return true;
}

int __wrap_loop_turn(struct loop *loop, uint64_t wait_until_ns) {
        /* Rings the bells that are owed, as the call that sleeps does. */
        int r = __real_loop_turn(loop, 0);

        if (r != 0 || wait_until_ns == 0)
                return r;
        if (!rung_by_a_thread())
                steps_sleep();
        r = __real_loop_turn(loop, 0);
        return r == 0 ? 1 : r; /* it was woken, however long ago it fell asleep */
}

void hop_life(void *ctx) {
        (void)ctx;
        exit(stage_main(0, NULL));
}
