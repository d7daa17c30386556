/*
 * daemon -- what the supervisor's parts share: the processes, and what the whole is about.
 *
 * Shape   struct daemon, with one struct process for each row of the topology's process table
 * Units   nanoseconds of CLOCK_MONOTONIC
 * Owner   daemon_run() owns the struct daemon; everything runs in its one loop, nothing blocks
 * Errors  0 or -errno; what ends the daemon goes through ending_stop()
 *
 * The daemon     STARTING --(all ready)--> RUNNING --(signal, `drain`)--> ENDING --> end of the
 * loop A process      IDLE --(process_start)--> STARTING --(READY)--> READY --(exit, reaped)-->
 * IDLE IDLE waits as its struct restart says: until a time, or until somebody asks
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "stages/common/channel.h"
#include "stages/common/clock.h"
#include "stages/common/loop.h"
#include "stages/common/settings.h"
#include "supervisor/config.h"
#include "supervisor/lock.h"
#include "supervisor/memory.h"
#include "supervisor/restart.h"
#include "supervisor/sockets.h"
#include "supervisor/spawn.h"
#include "supervisor/standby.h"
#include "supervisor/tier.h"

#define DAEMON_SETS_MAX 256
#define ROLL_JOBS_MAX 8
#define CONTROL_CLIENTS_MAX 32
#define GATEWAY_NO_PLACE UINT32_MAX

struct daemon;
struct control;

struct daemon_options {
        const char *config; /* NULL: none */
        const char *sets[DAEMON_SETS_MAX];
        unsigned n_sets;
        const char *socket;  /* -s: wins over the configuration; NULL: none */
        const char *exe_dir; /* NULL: beside this program, or ../libexec/millrace */
        bool discard;
};

enum process_state { PROCESS_IDLE, PROCESS_STARTING, PROCESS_READY };

/* How far the messages of the start have been sent. */
struct handover {
        uint32_t phase, at;
        bool done;
};

struct process {
        struct daemon *d;
        uint32_t index; /* in the topology */
        enum mr_role role;
        uint32_t lane;
        uint32_t place;       /* of a gateway, as the outside sees it; GATEWAY_NO_PLACE: none */
        uint32_t left_place;  /* closing: the one that it had */
        bool wanted;          /* false: the spare gateway slot, a watcher of nothing */
        bool closing;         /* a gateway without a place, until the last of its requests has ended */
        bool served;          /* it has been ready since its slot was the spare */
        bool held;            /* to be started when a lane's reset is over */
        uint32_t broken_lane; /* whose memory makes this gateway exit; TIER_NO_LANE: not said */
        uint32_t core;        /* UINT32_MAX: none */
        char *exe;            /* of `restart --exe`, owned; NULL: the one that was found at the start */

        enum process_state state;
        bool draining, drained; /* DRAIN was sent, DRAINED came */
        bool leaving;           /* LEAVE was sent */
        bool killed;            /* by the watchdog or a deadline */
        bool reaped;
        int wait_code, wait_status; /* CLD_*, exit code or signal */
        pid_t pid;                  /* 0: none */
        int pidfd, channel;
        int bell; /* outlives incarnations */
        uint64_t epoch;
        bool blame; /* the last death was its own doing */
        uint32_t blame_signal; /* that it died of then, 0: none */
        bool warm;         /* IDLE: a standby may be its next incarnation */
        bool from_standby; /* this incarnation was one */
        bool cold; /* a standby came to nothing: the next incarnation is a new process */
        bool recycling, recycled; /* it is to be replaced, the last one was: it had grown too large */
        uint32_t n_starts;
        uint64_t started_ns;
        char last_exit[16]; /* "": never ended */
        struct handover handover;
        uint64_t arena[GATEWAY_SLOTS_MAX]; /* as it was told: struct memory's serials */
        uint32_t n_taking;                 /* arenas that it has been sent and not mapped yet */
        struct restart restart;

        uint64_t beat, beat_ns; /* last heartbeat seen, and when it was seen first */
        uint64_t cpu_ns;        /* CPU time when the heartbeat began to look old, 0: it does not */

        struct loop_op exit_op, channel_op, room_op;
        struct loop_timer start_timer; /* IDLE: when to start */
        struct loop_timer limit_timer; /* running: READY is late, or SIGKILL is due */
};

/* A lane that is being reset (lanes.c). */
struct lane_reset {
        bool resetting;
        uint64_t left; /* gateways that have let go of it, a bit by process index */
        uint64_t begun_ns;
};
static_assert(GATEWAY_SLOTS_MAX <= 32, "gateways are the first processes; a bit for each");

enum daemon_phase { DAEMON_STARTING, DAEMON_RUNNING, DAEMON_ENDING, DAEMON_ENDED };

/* Processes to be replaced one after the other. */
struct roll_job {
        /* Process indexes; of a gateway its place, since its slot may change before its turn comes. */
        uint32_t procs[PROCS_MAX], n, at;
        uint32_t step;   /* enum roll_step, roll.c */
        uint64_t epoch;  /* of the incarnation to be replaced */
        uint64_t client; /* control client that waits, 0: none */
        bool reload;
        bool pressed;       /* who held the spare slot was killed for this */
        uint32_t n_changed; /* reload: rows, for the answer */
        const struct settings_row *changed[CONFIG_ROWS_MAX];
};

struct ending {
        uint32_t step; /* enum ending_step, ending.c */
        bool fast;     /* second signal, or an escalation */
        int exit_code;
        uint64_t lost;
        uint64_t client; /* control client that asked, 0: none */
        struct loop_timer limit;
};

struct daemon {
        const struct daemon_options *options;
        struct settings *settings;
        uint64_t files_digest; /* of the files that they name, when they were applied */
        uint8_t *packed; /* SETTINGS_PACKED_MAX bytes */
        size_t packed_len;
        struct spawn_exes *exes;
        struct lock lock;
        struct memory memory;
        struct listener client, control_listener, telemetry;
        struct listener http[HTTP_LISTENERS_MAX]; /* in the order of http.listen */
        uint32_t n_http;
        uint32_t cores[1024], n_cores;

        struct loop *loop;
        enum daemon_phase phase;
        uint64_t begun_ns;
        int signal_fd;
        struct loop_op signal_op;
        struct loop_timer watch_timer;
        uint64_t watch_due_ns;
        uint32_t random;

        struct process procs[PROCS_MAX];
        uint32_t n_procs;
        struct standby standbys[ROLES_N];
        struct tier tier;
        struct lane_reset lanes[LANES_MAX];
        struct roll_job jobs[ROLL_JOBS_MAX];
        uint32_t n_jobs;
        struct loop_timer roll_limit;
        struct ending ending;
        struct control *control;
};

/* ---- supervisor.c ---- */

/* Runs the daemon; returns the command's exit code. */
int daemon_run(const struct daemon_options *options);
/* Something about a process has changed: start what waits for it, say ready, go on ending. */
void daemon_changed(struct process *p);
void daemon_notify(const char *state);
/* Requests admitted that have not ended. */
uint64_t daemon_in_flight(const struct daemon *d);

/* ---- process.c ---- */

void process_init(struct process *p, struct daemon *d, uint32_t index);
/* Starts it now, whatever it was waiting for; no-op while it runs. */
void process_start(struct process *p);
/* Of the watcher: whether the settings want one now; one that runs and is not wanted leaves. */
void process_reconsider(struct process *p);
/* Forgets why it is down, then process_start(). */
void process_pardon(struct process *p);
void process_drain(struct process *p);
/* Another gateway has its place: it lets nobody in, finishes, and leaves. */
void process_close(struct process *p);
void process_cut(struct process *p);
void process_leave(struct process *p);
/* Kills it at once; `planned`: its death is what was wanted. */
void process_kill(struct process *p, bool planned);
/* SIGABRT for its last words, then SIGKILL. */
void process_abort(struct process *p, const char *why);
/* It will not be started again. */
void process_forget(struct process *p);
bool process_is_running(const struct process *p);
/* `starting`, `ready`, `draining` or `down`. */
const char *process_state_name(const struct process *p);
/* "stage=rag lane=0 pid=12" */
const char *process_tag(const struct process *p);
/* The path of its executable. */
const char *process_program(const struct process *p);
/* Arenas came or went: tells it, when it is past its start. */
void process_tell_arenas(struct process *p);
/* Looks for a sign of life. */
void process_watch(struct process *p, uint64_t now_ns, uint64_t timeout_ns);
/* Replaces it when it has grown near to memory.worker_cap_bytes. */
void process_weigh(struct process *p, uint64_t now_ns);

/* ---- death.c ---- */

/* Of one that has been reaped: logs it, and notes how it ended and whether it is to blame. */
enum restart_cause death_judge(struct process *p);

/* ---- handover.c ---- */

/* Sends as much of the start as the channel takes. 0: all of it; CHANNEL_E_AGAIN, CHANNEL_E_EOF,
 * -errno. */
int handover_continue(struct process *p);
/* The new objects of a lane, to a gateway that has left it. Likewise; CHANNEL_E_AGAIN: in part. */
int handover_lane(struct process *p, uint32_t lane, uint64_t generation);

/* ---- lanes.c ---- */

/* After restart_died(): true when the death's consequences are taken care of here. */
bool lanes_died(struct process *p, enum restart_cause cause, enum restart_order order);
/* True: it must not start before a reset is over, and will be started then. */
bool lanes_hold(struct process *p);
/* CHANNEL_LANE_LEFT, CHANNEL_LANE_BROKEN */
void lanes_on_message(struct process *p, uint32_t type, const void *bytes, uint32_t len);
void lanes_advance(struct daemon *d);
/* `running`, `resetting` or `down`. */
const char *lanes_state_name(const struct daemon *d, uint32_t lane);
bool lanes_all_run(const struct daemon *d);
/* How often it was reset, also by supervisors that died. */
uint64_t lanes_resets(const struct daemon *d, uint32_t lane);

/* The same with arenas that came or went since; each one that came is answered with TAKEN. */
int handover_arenas(struct process *p);
/* Has it been sent all arenas that exist, and mapped those? */
bool handover_has_arenas(const struct process *p);

/* ---- gateways.c ---- */

/* Which slot serves which place, by the arenas that there are. */
void gateways_init(struct daemon *d);
/* The slot that serves a place; GATEWAY_NO_PLACE: the one that serves none. */
uint32_t gateways_slot(const struct daemon *d, uint32_t place);
/* The gateway of a place; the one whose slot serves none (spare, successor to be, or closing). */
struct process *gateways_at(struct daemon *d, uint32_t place);
struct process *gateways_other(struct daemon *d);
/* The spare slot gets its arena, and the stages are told. 0 or -errno. */
int gateways_prepare(struct daemon *d);
/* Has every stage that reads arenas mapped them? */
bool gateways_prepared(const struct daemon *d);
/* Starts the successor of a place in the spare slot. 0 or -ENOMEM. */
int gateways_start(struct daemon *d, uint32_t place);
/* It is ready: it has the place from now on, and the old one closes. */
void gateways_move(struct daemon *d, uint32_t place);
/* It will not be the successor; whatever it has let in by now is finished. */
void gateways_give_up(struct daemon *d);
/* A process has ended and been reaped, and had said DRAINED or not: true when it was a gateway that
 * leaves its slot empty, so that nobody is to be started in it. */
bool gateways_ended(struct process *p, bool drained);

/* ---- ending.c ---- */

/* Finishes everything admitted, then exits 0. timeout_ms 0: the setting's. */
void ending_drain(struct daemon *d, uint64_t timeout_ms, uint64_t client);
/* Cuts everything short and exits with that code. */
void ending_stop(struct daemon *d, int exit_code);
void ending_advance(struct daemon *d);

/* ---- roll.c ---- */

/* exe: the folder of the successors' programs, NULL: those that run now. -EBUSY: too many jobs;
 * -ESRCH: nobody to restart; -ENOENT: no program of that role is in the folder. */
int roll_restart(struct daemon *d, enum mr_role role, bool all, int lane, const char *exe,
                uint64_t client);
/* Replaces one that has grown too large, without loss; later when too many jobs wait. */
void roll_recycle(struct process *p);
/* client 0: SIGHUP. The answer is given here or when the job is done. */
void roll_reload(struct daemon *d, uint64_t client);
void roll_advance(struct daemon *d);
/* Jobs that are not done get an error. */
void roll_abandon(struct daemon *d);
/* Packs d->settings for the next incarnations. */
int roll_pack_settings(struct daemon *d);

/* ---- control.c ---- */

int control_open(struct daemon *d);
/* Sends what can still be sent at once, and closes everything. */
void control_close(struct daemon *d);

/* Delayed answers; a client that has gone is no error. */
void control_answer_restart(struct daemon *d, uint64_t client, uint32_t restarted);
void control_answer_reload(struct daemon *d, uint64_t client, const struct roll_job *job);
void control_answer_restart_required(struct daemon *d, uint64_t client,
                const struct settings_row *const *rows, uint32_t n);
void control_answer_drain(struct daemon *d, uint64_t client, uint64_t lost);
void control_answer_error(struct daemon *d, uint64_t client, const char *op, const char *code,
                const char *message);
