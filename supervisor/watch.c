/*
 * watch -- whether a process still gives signs of life, and whether it has grown too large.
 *
 * A worker stores the time into its counters page with every turn. What looks old may be old
 * because the machine was paused, or because somebody stopped the process: neither is a reason to
 * kill.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stages/common/log.h"
#include "supervisor/daemon.h"

/* Who has grown again so soon needs more than it may have, and another replacement would not help. */
#define RECYCLE_AGAIN_NS (60 * NS_PER_S)

static uint64_t cpu_time_ns(pid_t pid) {
        struct timespec t;
        clockid_t clock;

        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) == -1)
                return 0;
        return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Stopped by a signal or a debugger. */
static bool is_stopped(pid_t pid) {
        char path[64], line[256];
        const char *state;
        ssize_t len;
        int fd;

        snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd == -1)
                return false;
        len = read(fd, line, sizeof(line) - 1);
        close(fd);
        line[len > 0 ? len : 0] = '\0';
        state = strrchr(line, ')'); /* the name may hold anything, but nothing behind it a ')' */
        return state && (strncmp(state, ") T", 3) == 0 || strncmp(state, ") t", 3) == 0);
}

void process_watch(struct process *p, uint64_t now_ns, uint64_t timeout_ns) {
        const struct counters_shm *c = p->d->memory.counters[p->index];
        uint64_t beat;

        if (p->state != PROCESS_READY || p->killed || !c)
                return;
        beat = atomic_load_explicit(&c->heartbeat_ns, memory_order_relaxed);
        if (beat != p->beat) {
                p->beat = beat;
                p->beat_ns = now_ns;
                p->cpu_ns = 0;
                return;
        }
        if (now_ns - p->beat_ns < timeout_ns / 2)
                return;
        if (is_stopped(p->pid)) {
                p->beat_ns = now_ns; /* when it goes on it has the whole time again */
                p->cpu_ns = 0;
                return;
        }
        if (p->cpu_ns == 0)
                p->cpu_ns = cpu_time_ns(p->pid);
        if (now_ns - p->beat_ns < timeout_ns)
                return;
        /* Busy with something for all that time, rather than starved. */
        p->blame = cpu_time_ns(p->pid) > p->cpu_ns;
        process_abort(p, "no_heartbeat");
}

void process_weigh(struct process *p, uint64_t now_ns) {
        const struct counters_shm *c = p->d->memory.counters[p->index];
        uint64_t cap = p->d->settings->memory.worker_cap_bytes, used;

        /* What the watcher takes for a large file it gives back; its successor would read it again. */
        if (p->role == ROLE_WATCH || p->state != PROCESS_READY || !p->wanted || p->draining || p->leaving || p->recycling ||
                        !c || cap == 0)
                return;
        used = counters_get(c, COUNTER_private_bytes);
        if (used <= cap / 5 * 4 ||
                        (p->recycled && now_ns - p->restart.ready_ns < RECYCLE_AGAIN_NS))
                return;
        log_warn("recycle", "%s private_bytes=%llu cap_bytes=%llu", process_tag(p),
                        (unsigned long long)used, (unsigned long long)cap);
        roll_recycle(p);
}
