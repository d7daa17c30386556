/*
 * standby -- one process of a role's executable that is past exec already, for the next crash.
 *
 * Shape   struct standby, one for each role but telemetry and watch, for which nobody waits
 * Units   nanoseconds of CLOCK_MONOTONIC
 * Owner   the supervisor; with standby_take() pid, pidfd and channel are a struct process's
 * Errors  none: who gets no standby starts a process afresh, and it only takes longer
 * Limits  it has no lane, no shared memory, no descriptor but its channel and that of an event loop that is
 *         not enabled; it waits in one recvmsg()
 *
 *   NONE --(a process of the role is READY, a moment later)--> WAITING --(standby_take)--> GIVEN
 *   WAITING --(retire, end)--> LEAVING      WAITING, LEAVING --(reaped)--> NONE
 *   GIVEN --(the loop has let go of it)--> NONE
 *
 * It is dynamically linked, initialised, past its check of what it was started with, and reads its
 * channel. What a new process is told makes it one: nothing else tells the two apart, and its address
 * space is its own. It comes a moment after READY, so that it does not take the core from a recovery.
 *
 * Used    for a restart without a delay after a death that nobody asked for, while it runs, its file
 *         is still the one on disk, and its environment (services' keys are in it) is what a new
 *         process would be given. Whatever is planned (restart, reload, recycling, lanes that are
 *         reset) execs, and that ends the role's standby, which is older than what was planned.
 * Death   an idle one that dies comes again after 10 ms, a pause that doubles while they go on dying. One that dies on its way to being a worker counts for nothing and blames
 *         nobody; its successor is a new process, and that one is judged. A supervisor that dies takes
 *         them with it (parent-death signal, end of the channel); the next one makes its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "shm/layout.h"
#include "stages/common/loop.h"
#include "supervisor/spawn.h"

#define STANDBY_PAUSE_NS (10ull * 1000000)
#define STANDBY_PAUSE_MAX_NS (30ull * 1000000000)
#define STANDBY_HEALTHY_NS (10ull * 1000000000) /* a life that ends the doubling */

struct daemon;
struct process;

/* What tells whether a path still leads to the program that was executed. */
struct standby_file {
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec modified;
};
/* 0 or -errno. */
int standby_file_of(const char *path, struct standby_file *ret);
bool standby_file_same(const struct standby_file *a, const struct standby_file *b);
/* How long to wait after a death; *k, from 0, counts the doublings. */
uint64_t standby_pause_ns(uint32_t *k, uint64_t lived_ns);

enum standby_state { STANDBY_NONE, STANDBY_WAITING, STANDBY_GIVEN, STANDBY_LEAVING };

struct standby {
        struct daemon *d;
        enum mr_role role;
        enum standby_state state;
        uint32_t like; /* process index whose program it runs */
        pid_t pid;     /* 0: none */
        int pidfd, channel;
        struct standby_file file;
        struct spawn_env env;
        uint64_t begun_ns;
        uint32_t k;
        struct loop_op exit_op;
        struct loop_timer timer; /* when to make the next one */
};

void standby_init(struct daemon *d);
/* The process is ready: whoever is to follow it comes soon, unless it is there. */
void standby_want(const struct process *p);
/* A process of the role is about to exec: who waits is older. */
void standby_retire(struct daemon *d, enum mr_role role);
/* The settings have changed: some come, or all go. */
void standby_reconsider(struct daemon *d);
/* True: it is the process's from now on, on its core, and its first message may be sent. */
bool standby_take(const struct process *p, const struct spawn_env *env, struct spawned *ret,
                int *ret_channel);
/* All of them leave, and none comes any more. */
void standby_end(struct daemon *d);
/* After the loop's last turn: reaps those that it did not. */
void standby_close(struct daemon *d);
