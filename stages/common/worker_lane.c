/*
 * worker_lane -- how a process that serves several lanes lets go of one that is reset, and takes it
 * up again.
 *
 * The rings keep their places in w->in and w->out, with nothing mapped behind them meanwhile: what
 * looks at all rings passes over those. New objects come as new descriptors; the old ones are gone
 * with their mappings, so that whoever still has them mapped writes into nobody's memory.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shm/segment.h"
#include "stages/common/worker.h"

/* ---- telling the supervisor ---- */

static void tell(enum channel_type type, uint32_t lane, uint64_t generation) {
        struct channel_lane message = {.lane = lane, .generation = generation};
        int r = channel_send(CHANNEL_FD, type, 0, &message, sizeof(message), -1);

        if (r == CHANNEL_E_EOF)
                _exit(EXIT_DRAINED);
        if (r != 0)
                log_error("channel", "type=%d error=\"%s\"", (int)type,
                                r < 0 ? strerror(-r) : "full");
}

void worker_name_lane(const struct worker *w, uint32_t lane) {
        if (w->ops->role >= LANE_STAGES_N)
                tell(CHANNEL_LANE_BROKEN, lane, 0);
}

_Noreturn void worker_fail_lane(struct worker *w, uint32_t lane, const char *what, int error) {
        worker_name_lane(w, lane);
        worker_fail(w, what, error);
}

/* ---- leaving ---- */

static void leave_out(struct worker_out *out) {
        out->tx.next = out->tx.committed;
        out->tx.begun = 0;
        out->blocked = false;
        segment_unmap_ring(&out->tx.map);
}

static void leave_in(struct worker_in *in) {
        in->rx.tail = in->rx.first; /* nothing is left to be flushed */
        ring_rx_close(&in->rx);
        segment_unmap_ring(&in->rx.map);
}

void worker_leave_lane(struct worker *w, uint32_t lane, uint64_t generation) {
        struct log_view *log = &w->logs[lane];

        for (uint32_t i = 0; i < w->n_out; i++)
                if (w->out[i].ring->lane == lane)
                        leave_out(&w->out[i]);
        for (uint32_t i = 0; i < w->n_in; i++)
                if (w->in[i].ring->lane == lane)
                        leave_in(&w->in[i]);
        segment_unmap((void *)(uintptr_t)log->shm, w->log_view_bytes[lane]);
        *log = (struct log_view){.shm = NULL};
        tell(CHANNEL_LANE_LEFT, lane, generation);
}

/* ---- coming back ---- */

/* Where a new ring waits until all of its lane have come; NULL: none is awaited there. */
static struct ring_map *place_of(struct worker *w, uint32_t ring, bool *ret_producer) {
        for (uint32_t i = 0; i < w->n_out; i++)
                if (w->out[i].ring->id == ring && !w->out[i].tx.map.prod) {
                        *ret_producer = true;
                        return &w->out[i].back;
                }
        for (uint32_t i = 0; i < w->n_in; i++)
                if (w->in[i].ring->id == ring && !w->in[i].rx.map.prod) {
                        *ret_producer = false;
                        return &w->in[i].back;
                }
        return NULL;
}

static int map_ring(struct worker *w, uint32_t id, int cons_fd) {
        struct ring_geometry geo;
        bool producer;
        struct ring_map *map = place_of(w, id, &producer);
        int r;

        if (!map || map->prod || w->half_ring_fd < 0 || w->half_ring != id)
                return -EPROTO;
        topology_geometry(&w->topology->rings[id - 1], &geo);
        r = segment_map_ring(w->half_ring_fd, cons_fd, &geo, producer, map);
        close(w->half_ring_fd);
        w->half_ring_fd = -1;
        return r;
}

int worker_lane_object(struct worker *w, const struct channel_object *object, int *fd) {
        char why[WORKER_WHY_BYTES];
        int r;

        if (object->kind == OBJECT_RING_CONS)
                return map_ring(w, object->a, *fd);
        if (object->kind == OBJECT_RING_PROD) {
                if (w->half_ring_fd >= 0)
                        return -EPROTO;
                w->half_ring_fd = *fd;
                w->half_ring = object->a;
                *fd = -1;
                return 0;
        }
        if (object->kind != OBJECT_LOG || object->writable || object->a >= LANES_MAX ||
                        w->logs[object->a].shm)
                return -EPROTO;
        r = worker_map_object(w, object, *fd, why);
        return r > 0 ? -EPROTO : r;
}

static int enter_out(struct worker *w, struct worker_out *out) {
        out->tx.map = out->back;
        out->back = (struct ring_map){.prod = NULL};
        return out->tx.map.prod ? worker_attach_out(w, out) : -EPROTO;
}

static int enter_in(struct worker *w, struct worker_in *in) {
        in->rx.map = in->back;
        in->back = (struct ring_map){.prod = NULL};
        return in->rx.map.prod ? worker_attach_in(w, in, false) : -EPROTO;
}

int worker_enter_lane(struct worker *w, uint32_t lane) {
        int r = 0;

        if (lane >= w->topology->n_lanes || !w->logs[lane].shm || w->half_ring_fd >= 0)
                return -EPROTO;
        for (uint32_t i = 0; r == 0 && i < w->n_out; i++)
                if (w->out[i].ring->lane == lane)
                        r = enter_out(w, &w->out[i]);
        for (uint32_t i = 0; r == 0 && i < w->n_in; i++)
                if (w->in[i].ring->lane == lane)
                        r = enter_in(w, &w->in[i]);
        return r;
}
