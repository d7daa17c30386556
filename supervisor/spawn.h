/*
 * spawn -- starts a stage's own executable, with one channel and nothing else open.
 *
 * Shape   fork, then in the child: parent-death signal, signals that reach the whole group ignored,
 *         core, descriptors 0 to 3, exec. Each incarnation has a fresh address space.
 * Owner   the caller owns both ends of the channel, and the pidfd that comes back
 * Errors  0 or -errno; what fails in the child after fork comes as CHANNEL_FAILED on the channel
 * Limits  one executable for each role; the environment is made of a short list of names
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/layout.h"
#include "stages/common/settings.h"
#include "supervisor/report.h"

#define SPAWN_PATH_MAX 4096
#define SPAWN_ENV_MAX 320 /* a key for each of SETTINGS_WORKERS_MAX, and some */

struct spawn_exes {
        char path[ROLES_N][SPAWN_PATH_MAX];
};

/* Where the stages' executables are: in `dir` when it is given, else beside this program, else in
 * ../libexec/millrace of it. -errno with a line that names the one missing. */
int spawn_find(const char *dir, struct spawn_exes *ret, struct report *report);

/* The executable of one role in `dir`; the caller frees it. NULL: there is none. */
char *spawn_find_in(const char *dir, enum mr_role role);

struct spawn_env {
        char *v[SPAWN_ENV_MAX + 1]; /* "NAME=value", owned; NULL at the end */
};
/* What a role needs to know of our environment. inference and rag also get the variables that hold
 * their services' keys. 0 or -ENOMEM. */
int spawn_env_make(enum mr_role role, const struct settings *s, struct spawn_env *ret);
bool spawn_env_same(const struct spawn_env *a, const struct spawn_env *b);
void spawn_env_free(struct spawn_env *env);

struct spawned {
        pid_t pid;
        int pidfd;
};
/* A channel before there is anybody at its other end. What is sent now waits for the child, which then
 * need not wait for us: on one core each such wait is a time slice. */
int spawn_channel(int *ret_ours, int *ret_childs);
/* title: what `ps` shows. core: UINT32_MAX for none. childs: the child's end; stays the caller's. */
int spawn_process(const char *path, const char *title, uint32_t core, const struct spawn_env *env,
                int childs, struct spawned *ret);
