/*
 * What a worker does about its pages when it has nothing else to do.
 */
#include "shm/segment.h"
#include "stages/common/worker.h"

#define PIECE_BYTES (1u << 20)
#define FIRST_NS (5 * NS_PER_MS) /* by then what had waited for this process is on its way */
#define PAUSE_NS NS_PER_MS       /* neighbours on the same core have their turn between two pieces */

void worker_pages_init(struct worker_pages *pages, uint64_t now_ns) {
        *pages = (struct worker_pages){.due_ns = now_ns + FIRST_NS};
}

/* False: all is there. */
static bool fault_in_piece(struct worker *w, struct worker_pages *pages) {
        uint32_t i = pages->n_done;
        uint8_t *at = NULL;
        uint64_t bytes = 0, piece;

        if (i < w->n_in + w->n_out) {
                const struct ring_map *map =
                                i < w->n_in ? &w->in[i].rx.map : &w->out[i - w->n_in].tx.map;
                at = (uint8_t *)map->prod;
                /* Not what is mapped once more behind it: a record across the end needs little of that. */
                bytes = ring_prod_bytes(&map->geo);
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
        if (piece == bytes) {
                pages->n_done++;
                pages->done = 0;
        }
        return true;
}

void worker_fault_in(struct worker *w, struct worker_pages *pages, uint64_t now_ns) {
        if (now_ns < pages->due_ns)
                return;
        pages->due_ns = fault_in_piece(w, pages) ? now_ns + PAUSE_NS : UINT64_MAX;
}
