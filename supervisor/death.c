/*
 * death -- what a process died of, by its wait status and its last words, and who is to blame.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "stages/common/log.h"
#include "supervisor/daemon.h"

static void note_exit(struct process *p) {
        if (p->wait_code == CLD_EXITED)
                snprintf(p->last_exit, sizeof(p->last_exit), "exit %d", p->wait_status);
        else
                snprintf(p->last_exit, sizeof(p->last_exit), "signal %d", p->wait_status);
}

/* Who died as a standby, or on its way from one to a worker, has had nothing in hand: a new process shows
 * whether there is anything to judge. */
static enum restart_cause cause_of_death(struct process *p) {
        const struct counters_shm *c = p->d->memory.counters[p->index];
        struct restart_death death = {.exited = p->wait_code == CLD_EXITED,
                        .status = p->wait_status,
                        .asked = p->leaving,
                        .killed_by_us = p->killed,
                        .pid = (uint32_t)p->pid};

        /* Who died before it took its counters over left its predecessor's words there. */
        death.early = c && atomic_load_explicit(&c->epoch, memory_order_relaxed) != p->epoch;
        if (c && !death.early) {
                death.crash_signal = atomic_load_explicit(&c->crash_signal, memory_order_relaxed);
                death.crash_code = atomic_load_explicit(&c->crash_code, memory_order_relaxed);
                death.crash_pid = atomic_load_explicit(&c->crash_pid, memory_order_relaxed);
        }
        p->cold = p->from_standby && death.early && !death.asked;
        return p->cold ? CAUSE_OTHER : restart_classify(&death);
}

/* A paused machine is no record's fault: the watchdog's victim counts when it was busy. */
static bool deserves_blame(const struct process *p, enum restart_cause cause) {
        return cause == CAUSE_CRASH || (cause == CAUSE_WATCHDOG && p->blame);
}

static void log_last_words(const struct process *p) {
        const struct counters_shm *c = p->d->memory.counters[p->index];
        uint64_t words[COUNTERS_WORDS_MAX];
        char text[sizeof(words) + 1];

        if (!c)
                return;
        for (uint32_t i = 0; i < COUNTERS_WORDS_MAX; i++)
                words[i] = atomic_load_explicit(&c->words[i], memory_order_relaxed);
        memcpy(text, words, sizeof(words));
        text[sizeof(words)] = '\0';
        for (char *t = text; *t; t++)
                if (*t < ' ' || *t == '"')
                        *t = ' ';
        if (text[0])
                log_info("last_words", "%s words=\"%s\"", process_tag(p), text);
}

enum restart_cause death_judge(struct process *p) {
        enum restart_cause cause = cause_of_death(p);

        note_exit(p);
        if (cause == CAUSE_PLANNED || cause == CAUSE_RENEW)
                log_info("exit", "%s last_exit=\"%s\"", process_tag(p), p->last_exit);
        else
                log_warn("death", "%s last_exit=\"%s\" cause=%s", process_tag(p), p->last_exit,
                                restart_cause_name(cause));
        if (cause == CAUSE_CRASH || cause == CAUSE_WATCHDOG)
                log_last_words(p);
        if (p->cold)
                return cause; /* whoever is to blame for the death before it still is */
        p->blame = deserves_blame(p, cause);
        p->blame_signal = p->wait_code == CLD_EXITED ? 0 : (uint32_t)p->wait_status;
        return cause;
}
