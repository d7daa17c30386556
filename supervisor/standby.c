/*
 * standby -- one process of a role's executable that is past exec already, for the next crash.
 */
#include "supervisor/standby.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stages/common/log.h"
#include "stages/common/title.h"
#include "supervisor/daemon.h"

#define FIRST_NS (500 * NS_PER_MS) /* a daemon that starts has better things to do */
#define NEXT_NS (2 * NS_PER_MS)

/* ---- what is the same ------------------------------------------------------------------------ */

int standby_file_of(const char *path, struct standby_file *ret) {
        struct stat st;

        if (stat(path, &st) == -1)
                return -errno;
        *ret = (struct standby_file){.dev = st.st_dev,
                        .ino = st.st_ino,
                        .size = st.st_size,
                        .modified = st.st_mtim};
        return 0;
}

bool standby_file_same(const struct standby_file *a, const struct standby_file *b) {
        return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
               a->modified.tv_sec == b->modified.tv_sec &&
               a->modified.tv_nsec == b->modified.tv_nsec;
}

uint64_t standby_pause_ns(uint32_t *k, uint64_t lived_ns) {
        if (lived_ns >= STANDBY_HEALTHY_NS)
                *k = 0;
        uint64_t pause = STANDBY_PAUSE_NS << *k;

        if (pause >= STANDBY_PAUSE_MAX_NS)
                return STANDBY_PAUSE_MAX_NS;
        ++*k;
        return pause;
}

/* ---- coming and going ------------------------------------------------------------------------ */

static bool are_wanted(const struct daemon *d) {
        return d->settings->supervisor.standby && d->phase < DAEMON_ENDING;
}

static void let_go(struct standby *s) {
        close(s->pidfd);
        close(s->channel);
        spawn_env_free(&s->env);
        s->pidfd = s->channel = -1;
        s->pid = 0;
        s->state = STANDBY_NONE;
}

static void come_again(struct standby *s) {
        uint64_t now = clock_now_ns();

        if (are_wanted(s->d))
                loop_timer_set(s->d->loop, &s->timer,
                                now + standby_pause_ns(&s->k, now - s->begun_ns));
}

static void on_exit_event(struct loop_op *op, int res, uint32_t flags) {
        struct standby *s = op->owner;
        siginfo_t info = {.si_pid = 0};

        (void)flags;
        if (s->state == STANDBY_GIVEN) { /* whoever it is now is watched by its process */
                s->state = STANDBY_NONE;
                return;
        }
        if (waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WNOHANG) == -1 || info.si_pid == 0) {
                if (res != -ECANCELED)
                        loop_poll(s->d->loop, op, s->pidfd, POLLIN);
                return;
        }
        if (s->state == STANDBY_WAITING) {
                log_info("standby", "role=%s pid=%ld what=died %s=%d", mr_role_name(s->role),
                                (long)s->pid, info.si_code == CLD_EXITED ? "exit" : "signal",
                                info.si_status);
                come_again(s);
        }
        let_go(s);
}

static void leave(struct standby *s) {
        loop_timer_clear(s->d->loop, &s->timer);
        if (s->state != STANDBY_WAITING)
                return;
        s->state = STANDBY_LEAVING;
        (void)syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
}

/* ---- making one ------------------------------------------------------------------------------ */

static int spawn(struct standby *s, const char *path, struct spawned *ret) {
        char title[TITLE_BYTES];
        int childs, r = spawn_env_make(s->role, s->d->settings, &s->env);

        if (r)
                return r;
        title_standby(title, s->role, s->d->memory.instance);
        r = spawn_channel(&s->channel, &childs);
        if (r == 0) {
                r = spawn_process(path, title, UINT32_MAX, &s->env, childs, ret);
                close(childs);
                if (r)
                        close(s->channel);
        }
        if (r)
                spawn_env_free(&s->env);
        return r;
}

/* The file is looked at before and after the exec: who finds the same both times has run that one. */
static int make(struct standby *s) {
        const char *path = process_program(&s->d->procs[s->like]);
        struct standby_file after;
        struct spawned child;
        int r = standby_file_of(path, &s->file);

        if (r == 0)
                r = spawn(s, path, &child);
        if (r)
                return r;
        s->pid = child.pid;
        s->pidfd = child.pidfd;
        s->state = STANDBY_WAITING;
        loop_poll(s->d->loop, &s->exit_op, s->pidfd, POLLIN);
        if (standby_file_of(path, &after) || !standby_file_same(&s->file, &after)) {
                leave(s);
                come_again(s);
        }
        return 0;
}

static void on_timer(struct loop_timer *timer) {
        struct standby *s = timer->owner;
        struct daemon *d = s->d;
        int r;

        if (!are_wanted(d) || s->state == STANDBY_WAITING)
                return;
        if (d->phase == DAEMON_STARTING || s->state != STANDBY_NONE) {
                loop_timer_set(d->loop, timer,
                                loop_now_ns(d->loop) +
                                                (d->phase == DAEMON_STARTING ? FIRST_NS : NEXT_NS));
                return;
        }
        s->begun_ns = clock_now_ns();
        r = make(s);
        if (r) {
                log_warn("standby", "role=%s error=\"%s\"", mr_role_name(s->role), strerror(-r));
                come_again(s);
        }
}

/* ---- for the supervisor's other parts -------------------------------------------------------- */

void standby_init(struct daemon *d) {
        for (uint32_t role = 0; role < ROLES_N; role++) {
                struct standby *s = &d->standbys[role];

                *s = (struct standby){.d = d, .role = role, .pidfd = -1, .channel = -1};
                s->exit_op = (struct loop_op){.fn = on_exit_event, .owner = s};
                s->timer = (struct loop_timer){.fn = on_timer, .owner = s};
        }
}

void standby_want(const struct process *p) {
        struct daemon *d = p->d;
        struct standby *s = &d->standbys[p->role];

        if (p->role == ROLE_TELEMETRY || p->role == ROLE_WATCH || !are_wanted(d) || s->state == STANDBY_WAITING ||
                        s->timer.heap)
                return;
        s->like = p->index;
        loop_timer_set(d->loop, &s->timer,
                        loop_now_ns(d->loop) + (p->n_starts == 1 ? FIRST_NS : NEXT_NS));
}

void standby_retire(struct daemon *d, enum mr_role role) {
        leave(&d->standbys[role]);
}

void standby_reconsider(struct daemon *d) {
        for (uint32_t role = 0; role < ROLES_N; role++)
                if (!are_wanted(d))
                        leave(&d->standbys[role]);
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].state == PROCESS_READY)
                        standby_want(&d->procs[i]);
}

/* Neither dead, which has not been seen yet, nor stopped by somebody; on the core of its new lane. */
static bool can_go(const struct standby *s, uint32_t core) {
        siginfo_t info = {.si_pid = 0};
        cpu_set_t set;

        if (waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) == -1 ||
                        info.si_pid != 0)
                return false;
        if (core == UINT32_MAX)
                return true;
        CPU_ZERO(&set);
        CPU_SET(core, &set);
        return sched_setaffinity(s->pid, sizeof(set), &set) == 0;
}

bool standby_take(const struct process *p, const struct spawn_env *env, struct spawned *ret,
                int *ret_channel) {
        struct daemon *d = p->d;
        struct standby *s = &d->standbys[p->role];
        struct standby_file file;

        if (s->state != STANDBY_WAITING || !are_wanted(d) ||
                        standby_file_of(process_program(p), &file) ||
                        !standby_file_same(&s->file, &file) || !spawn_env_same(&s->env, env) ||
                        !can_go(s, p->core))
                return false;
        *ret = (struct spawned){.pid = s->pid, .pidfd = s->pidfd};
        *ret_channel = s->channel;
        spawn_env_free(&s->env);
        loop_cancel(d->loop, &s->exit_op);
        s->pidfd = s->channel = -1;
        s->pid = 0;
        s->state = STANDBY_GIVEN;
        return true;
}

void standby_end(struct daemon *d) {
        for (uint32_t role = 0; role < ROLES_N; role++)
                leave(&d->standbys[role]);
}

void standby_close(struct daemon *d) {
        siginfo_t info;

        for (uint32_t role = 0; role < ROLES_N; role++) {
                struct standby *s = &d->standbys[role];

                if (s->pid == 0)
                        continue;
                leave(s);
                (void)waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED);
                let_go(s);
        }
}
