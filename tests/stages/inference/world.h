/*
 * world -- an inference stage in this process: its rings, slab and tables, with a test at both
 * ends.
 *
 * Shape   shared objects in unnamed memory; a worker that can die and be born again over them
 * Owner   the test
 * Errors  a failed check ends the test
 * Limits  small rings, so that they fill up
 */
#pragma once

#include "stages/common/stage.h"
#include "stages/inference/inference.h"

#define WORLD_TEXT 65536u

struct world_setup {
        uint32_t n_slots;    /* 0: 8 */
        uint32_t ring_bytes; /* 0: 65536 */
        const struct settings_worker *workers;
        uint32_t n_workers;
        uint64_t attempts;           /* 0: 1 */
        uint64_t max_response_bytes; /* 0: the default */
        bool fail_on_crash;
};

struct world_ring {
        struct ring_geometry geo;
        struct topology_ring topology;
        int prod_fd, cons_fd;
        struct ring_map prod, cons; /* each side's view */
};

struct world {
        struct world_setup setup;
        struct world_ring in, cancel, out;
        struct ring_tx requests, cancels; /* the test writes */
        struct ring_rx answers;           /* the test reads */
        void *slab;
        uint64_t slab_bytes;
        struct admission_shm *admission;
        struct arena_shm *arena;
        struct arena arena_own;
        struct arena_ref body; /* of the last request that went into the arena */
        struct topology_shm *topology;
        struct counters_shm *counters;
        struct settings *settings;
        int bell;
        struct worker *w; /* NULL: dead */
        struct record_decoder decoder;
        bool hold; /* answers are left in the ring */
        uint64_t now_req;
};

/* What one request was answered with. */
struct world_answer {
        uint32_t n_heads, n_deltas, n_ends, n_restarts;
        uint32_t next_ord;
        enum mr_error code; /* MR_E_none: done */
        char text[WORLD_TEXT];
        char reasoning[1024], tool[256], extra[1024];
        char message[512], finish[32], worker[32], id[64];
        uint64_t prompt_tokens, completion_tokens, retry_after_ms;
        uint32_t n_sources;
};

void world_new(struct world *world, const struct world_setup *setup);
void world_free(struct world *world);
/* The worker dies; what it had not committed is gone. */
void world_kill(struct world *world);
void world_start(struct world *world);

struct world_request {
        const char *model; /* NULL: "any" */
        const char *body;  /* a chat body */
        const char *query;
        uint64_t deadline_ns;
        bool in_arena;
        bool detached;
        const char *params;
        const char *const *documents; /* texts; id and title are made up */
        uint32_t n_documents;
        enum mr_error error;   /* raised earlier */
        enum record_endpoint endpoint; /* other than chat: the body has no messages */
        uint64_t pieces[4][2]; /* [off, len] */
        uint32_t n_pieces;
};

/* Puts a request into the ring; its req_id. */
uint64_t world_submit(struct world *world, const struct world_request *request);
uint64_t world_say(struct world *world, const char *text);
void world_cancel(struct world *world, uint64_t req_id, uint64_t reason);
/* One turn of the loop and of the stage. */
void world_turn(struct world *world);
/* Takes what is in the out ring into the answer of req_id; other requests' records are dropped. */
void world_take(struct world *world, uint64_t req_id, struct world_answer *answer);
/* Turns until that request has ended. */
void world_finish(struct world *world, uint64_t req_id, struct world_answer *answer);
uint64_t world_now(void);
