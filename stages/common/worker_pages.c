/*
 * What a worker does about its pages when it has nothing else to do.
 */
#include "shm/segment.h"
#include "stages/common/worker.h"

#define PIECE_BYTES (1u << 20)

bool worker_fault_in(struct worker *w, struct worker_pages *pages) {
        uint32_t i = pages->n_done;
        uint8_t *at = NULL;
        uint64_t bytes = 0, piece;

        if (i < w->n_in + w->n_out) {
                const struct ring_map *map =
                                i < w->n_in ? &w->in[i].rx.map : &w->out[i - w->n_in].tx.map;
                at = (uint8_t *)map->prod;
                bytes = ring_prod_bytes(&map->geo) + map->geo.bytes; /* mapped twice */
        } else if (i == w->n_in + w->n_out) {
                at = w->slab_map;
                bytes = w->slab_bytes;
        } else if (i == w->n_in + w->n_out + 1) {
                at = (uint8_t *)w->log;
                bytes = w->log_map_bytes;
        } else {
                return false;
        }
        bytes = at && bytes > pages->done ? bytes - pages->done : 0; /* a lane's ring may have gone */
        piece = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        if (piece > 0)
                segment_populate(at + pages->done, piece, i >= w->n_in);
        pages->done += piece;
        if (piece == bytes)
                *pages = (struct worker_pages){.n_done = i + 1};
        return true;
}
