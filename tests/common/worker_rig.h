/*
 * worker_rig -- a supervisor and two neighbours, small enough to test one worker with.
 *
 * Shape   the test is rag (writes ring 1) and inference (reads ring 2); the worker in between is
 *         the executable at stage_path, in the place of assemble
 * Owner   one rig in a process; rig_setup() and rig_teardown() are a Check fixture
 * Errors  what goes wrong fails the test
 */
#pragma once

#include <sys/types.h>

#include "shm/segment.h"
#include "stages/common/stage.h"

#define N_PROCS 9 /* two gateway slots, five stages, telemetry, watch */
#define RAG 2
#define SELF 3
#define INFERENCE 4
#define RING_N 128
#define RING_BYTES 65536
#define PATIENCE_S 30

extern const char *stage_path;

struct worker_rig {
        char instance[32];
        struct segment_fds topology, prod[2], cons[2], counters, side, arena;
        struct topology_shm *t;
        struct counters_shm *c;
        int bells[N_PROCS];
        struct ring_tx tx; /* of ring 1: what rag writes */
        struct ring_rx rx; /* of ring 2: what inference reads */
        struct settings *settings;
        int channel;
        pid_t pid;
        /* What a test makes wrong. */
        bool extra_fd, skip_ring, skip_bell, skip_start, short_object;
        uint32_t role, settings_cut;
        uint32_t http_from, n_http; /* HTTP listeners by their indexes */
};
extern struct worker_rig rig;

void rig_setup(void);
void rig_teardown(void);
/* One message to the worker. */
void say_fd(enum channel_type type, const void *bytes, uint32_t len, int fd);
void say_object(enum mr_object kind, uint32_t a, uint64_t bytes, bool writable,
                const struct segment_fds *fds);
/* All messages from HELLO to START, with what the test makes wrong. */
void say_start(uint64_t epoch);
/* Starts the executable with its channel and nothing else. */
void spawn(void);
/* The next message of the worker: its type, 0 at end of file. */
uint32_t hear(char *text, uint32_t cap);
/* Spawns, and waits for READY. */
void start(void);
int reap(void);
/* Waits for the end of the worker. */
void ends_with(int code);
/* Starts, and expects FAILED with `why` in it and EXIT_PERMANENT. */
void refused(const char *why);
/* Writes a record into the worker's input, as rag would. */
void put(const char *text, uint64_t req_id);
/* The next record that the worker wrote, as inference would read it. */
const char *get(void);
uint64_t counter(enum counter which);
/* A new object of this test's instance, its name already gone. */
struct segment_fds object_new(enum mr_object kind, uint32_t a, uint64_t bytes);
void *object_map(int fd, uint64_t bytes);
