/*
 * hop -- a stage as it ships, between two rings whose other ends a test holds, killed at every instruction.
 *
 * Shape   the stage's own objects, its worker's main loop and the rings are the product's; replaced are only
 *         the ways to the supervisor and to sleep (hop_life.c). Its neighbours sleep until they are rung
 * Units   inputs and requests are numbered from 1
 * Owner   the test's process; every life of the stage is a child of it
 * Errors  findings are counted, never asserted: a mutant must be found out, not end the test
 * Limits  HOP_REQUESTS requests, HOP_OUTPUTS outputs each
 *
 * At every state that the victim leaves (steps.h), in the two ways that the neighbours can stand there:
 * asleep until somebody rings them, or awake, taking and acknowledging what is visible. Then a successor
 * attaches, recovers and goes on until nobody has anything left to do; what came out must be what an
 * undisturbed run makes, each output once and in order.
 */
#pragma once

#include "stages/common/poison.h"
#include "stages/common/stage.h"
#include "tests/steps/steps.h"

#define HOP_REQUESTS 64u
#define HOP_OUTPUTS 32u
#define HOP_INPUT_MAX 1024u

/* Processes of the topology: the gateway, then the stages. */
#define HOP_PROCS (1u + LANE_STAGES_N)

struct hop;

struct hop_case {
        const char *name;
        enum mr_role role;
        struct ring_geometry in, out;
        uint32_t n_slots, n_units; /* of the slab; 0: none */
        uint64_t log_budget;       /* of the response log; 0: none */
        uint32_t per_request;      /* inputs of one request */
        uint32_t n_warm;           /* inputs before the first kill, so that the rings have been round */
        uint32_t n_inputs;         /* in all */
        bool ordered;              /* outputs of different requests have one order */
        bool restarts;             /* an answer that has begun may end in worker_restarted */
        bool (*reruns)(uint64_t req); /* this one runs anew instead. NULL: none */
        bool (*is_read)(uint64_t req); /* this one has a reader, its gateway's table says. NULL: none */
        bool busy;                 /* has threads that wake it */
        void (*settings)(struct settings *settings);
        /* Strikes that input n has when it comes, of a stage that acks in place; an input is a request then.
         * One more and it may be its last: such an end is known by its code. NULL: none. */
        uint32_t (*strikes)(uint64_t n);
        /* Input n: fills *meta, writes the payload, returns its length. */
        uint32_t (*input)(uint64_t n, struct ring_meta *meta, uint8_t *to);
        /* The consumer has taken a record: hop_seen() for what it says. */
        void (*take)(const struct ring_msg *msg);
        /* What the consumer does beside taking records when it was rung. NULL: nothing. */
        void (*woken)(void);
        /* Is what an undisturbed run made right? */
        bool (*right)(void);
};
extern const struct hop_case hop_case;
/* The stage's own main(), by another name. */
int stage_main(int argc, char **argv);

struct hop_ring {
        struct ring_geometry geo;
        struct topology_ring *topology;
        struct ring_map prod, cons; /* each side's view */
};

/* What the neighbours have done and seen. Copied as a whole, to go back to an earlier time. */
struct hop_side {
        struct ring_tx feeder;
        struct ring_rx drain;
        uint64_t n_fed;
        uint64_t missed; /* of the log, as seen */
        uint64_t n_out;
        struct {
                uint32_t n; /* outputs seen */
                uint32_t base; /* ord of the last RESTART */
                bool ended;
        } request[HOP_REQUESTS + 1];
        uint32_t n_lost, n_doubled, n_wrong, n_restarted, n_reruns, n_letters;
};

struct hop_verdict {
        uint64_t n_points;   /* instructions after which it was killed */
        uint64_t n_states;   /* those after which something shared had changed */
        uint64_t n_second;   /* instructions of a recovery after which that was killed too */
        uint64_t n_lives;    /* successors that ran to the end */
        uint64_t n_killed;   /* of the victims: killed for good, not held back */
        uint64_t n_restarted, n_reruns;
        uint64_t n_letters; /* requests that died of one strike more */
        uint64_t n_lost, n_doubled, n_wrong; /* outputs */
        uint64_t n_stuck; /* lives: inputs that stay, outputs that nobody is rung for, slots never freed */
        uint64_t n_died;  /* lives that ended by themselves */
};

struct hop {
        struct hop_ring in, out;
        void *slab;
        uint64_t slab_bytes;
        struct log_shm *log;
        uint64_t log_bytes;
        struct log_view log_view;
        struct admission_shm *admission;
        struct topology_shm *topology;
        struct counters_shm *counters;
        struct side_shm *side_ring;
        struct settings *settings;
        int bells[HOP_PROCS];
        uint32_t self, up, down; /* processes */
        mr_au64 *ready;          /* shared: the process that said READY last */
        uint64_t epoch;          /* lives begun */
        bool blame;              /* the next life hears that the death before it was its own doing */
        uint64_t struck;         /* the input that it was at when it died so, 0: none */
        struct record_decoder decoder;

        uint64_t n_limit; /* inputs that may be fed by now */
        struct hop_side side;
        bool learning;
        /* An undisturbed run: what each output says, and in which order they came. */
        uint64_t digest[HOP_REQUESTS + 1][HOP_OUTPUTS];
        uint64_t order[HOP_REQUESTS * HOP_OUTPUTS];
        uint32_t n_outputs[HOP_REQUESTS + 1];
        char text[HOP_REQUESTS + 1][256]; /* of its deltas, put together */
        struct hop_verdict verdict;
        uint64_t enough; /* findings */
};
extern struct hop hop;

struct hop_plan {
        uint32_t every;  /* recovers at each n-th state, 1: at all */
        uint32_t second; /* at each n-th of these the recovery is stepped through too; 0: at none */
        uint32_t kills;  /* so many of the points are reached again, for a SIGKILL that is one */
        uint32_t enough; /* findings: the rest of the run is spared */
};

/* Builds everything shared, runs the inputs before the first kill, and learns what is right. False: even an
 * undisturbed run is wrong. */
bool hop_new(void);
void hop_run(const struct hop_plan *plan);
void hop_free(void);
uint64_t hop_findings(const struct hop_verdict *verdict);

/* One more life of the stage; for steps_start(). */
void hop_life(void *ctx);

/* For cases: an output of a request was seen; ord from 0. */
void hop_seen(uint64_t req_id, uint64_t ord, uint64_t digest, bool last, enum mr_error code);
/* The same for a record out of a ring, without its times; keeps its text while learning. */
void hop_take_record(const struct ring_msg *msg);
uint64_t hop_hash(uint64_t hash, const void *bytes, uint64_t n);
/* Writes an input's record; its length. */
uint32_t hop_put_record(const struct record *record, uint8_t *to);
static inline struct mr_view hop_view(const char *text) {
        return (struct mr_view){text, (uint32_t)__builtin_strlen(text)};
}
