#include "stages/common/sandbox_table.h"

#include <linux/io_uring.h>

const struct sandbox_row sandbox_bare = {.place = PLACE_NONE};

const struct sandbox_row sandbox_retrieval = {
                .may = MAY_THREAD | MAY_READ | MAY_CONNECT, .place = PLACE_RETRIEVAL};

const struct sandbox_row sandbox_watching = {
                .may = MAY_THREAD | MAY_READ | MAY_WRITE | MAY_WATCH | MAY_CONNECT,
                .place = PLACE_WATCHED_ASKING};

const struct sandbox_row sandbox_rows[ROLES_N] = {
                [ROLE_RAG] = {.may = MAY_THREAD | MAY_READ, .place = PLACE_INDEX},
                /* SQLite on one thread, which reads and locks; it cannot open a file to write. */
                [ROLE_ASSEMBLE] = {.may = MAY_THREAD | MAY_READ, .place = PLACE_HISTORY},
                /* Threads: curl resolves names on them. */
                [ROLE_INFERENCE] = {.may = MAY_THREAD | MAY_READ | MAY_CONNECT,
                                .place = PLACE_BACKENDS},
                [ROLE_POST] = {.place = PLACE_NONE},
                /* SQLite on one thread: the file, its -wal, -shm and -journal, locks and syncs. */
                [ROLE_STREAM] = {.may = MAY_THREAD | MAY_READ | MAY_WRITE,
                                .place = PLACE_DATABASE},
                [ROLE_GATEWAY] = {.may = MAY_SERVE,
                                .n_ops = 3,
                                .ops = {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND}},
                [ROLE_TELEMETRY] = {.may = MAY_SERVE,
                                .n_ops = 3,
                                .ops = {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND}},
                /* Xapian on one thread: new files in the index's folder, its lock, syncs. */
                [ROLE_WATCH] = {.may = MAY_THREAD | MAY_READ | MAY_WRITE | MAY_WATCH,
                                .place = PLACE_WATCHED},
};
