/*
 * restart -- what becomes of a process that has died: a pure state machine over explicit time.
 */
#include "supervisor/restart.h"

#include <signal.h>
#include <string.h>

#include "stages/common/stage.h"

const char *restart_cause_name(enum restart_cause cause) {
        static const char *const names[CAUSES_N] = {
                        [CAUSE_PLANNED] = "planned",
                        [CAUSE_OTHER] = "killed",
                        [CAUSE_CRASH] = "crash",
                        [CAUSE_WATCHDOG] = "watchdog",
                        [CAUSE_EXIT] = "exit",
                        [CAUSE_EARLY] = "early",
                        [CAUSE_PERMANENT] = "permanent",
                        [CAUSE_SHARED] = "shared_state",
                        [CAUSE_RENEW] = "renew",
        };

        return names[cause];
}

/* SIGKILL leaves no last words: nobody kills himself with it. For the rest, the kernel says in
 * si_code whether a signal was sent (<= 0) and by whom; abort() sends one to itself. */
static bool sent_by_another(const struct restart_death *death) {
        if (death->status == SIGKILL)
                return true;
        return death->crash_signal == (uint64_t)death->status && (int64_t)death->crash_code <= 0 &&
               death->crash_pid != 0 && death->crash_pid != death->pid;
}

enum restart_cause restart_classify(const struct restart_death *death) {
        if (death->exited && death->status == EXIT_PERMANENT)
                return CAUSE_PERMANENT;
        if (death->exited && death->status == EXIT_SHARED_STATE)
                return CAUSE_SHARED;
        if (death->exited && death->status == EXIT_RENEW)
                return death->asked ? CAUSE_PLANNED : CAUSE_RENEW;
        if (death->killed_by_us)
                return death->asked ? CAUSE_PLANNED : CAUSE_WATCHDOG;
        if (death->exited)
                return death->asked && death->status == EXIT_DRAINED ? CAUSE_PLANNED : CAUSE_EXIT;
        if (sent_by_another(death))
                return CAUSE_OTHER;
        return death->early ? CAUSE_EARLY : CAUSE_CRASH;
}

void restart_init(struct restart *restart) {
        memset(restart, 0, sizeof(*restart));
}

void restart_started(struct restart *restart) {
        restart->state = RESTART_STARTING;
}

void restart_ready(struct restart *restart, uint64_t now_ns) {
        restart->state = RESTART_READY;
        restart->ready_ns = now_ns;
        restart->n_recovery = 0;
}

/* Remembers a death; true when there are more than `burst` within the window. */
static bool count_death(
                struct restart *restart, const struct restart_policy *policy, uint64_t now_ns) {
        uint32_t recent = 0;

        restart->deaths[restart->next_death] = now_ns;
        restart->next_death = (restart->next_death + 1) % RESTART_BURST_MAX;
        if (restart->n_deaths < RESTART_BURST_MAX)
                restart->n_deaths++;
        for (uint32_t i = 0; i < restart->n_deaths; i++)
                recent += now_ns - restart->deaths[i] < policy->window_ns;
        return recent > policy->burst || recent == RESTART_BURST_MAX;
}

static uint64_t backoff_ns(struct restart *restart, uint32_t jitter) {
        uint64_t delay = RESTART_DELAY_MAX_NS;

        if (restart->k < 10 && RESTART_DELAY_NS << restart->k < RESTART_DELAY_MAX_NS)
                delay = RESTART_DELAY_NS << restart->k;
        if (restart->k < 10)
                restart->k++;
        return delay - delay / 5 + delay * 2 / 5 * (jitter % 1024) / 1023;
}

static enum restart_order start_at(struct restart *restart, uint64_t at_ns) {
        restart->state = RESTART_WAITING;
        restart->at_ns = at_ns;
        return ORDER_START;
}

/* Not counted, so that it must not be had for nothing. */
static enum restart_order renew(struct restart *restart, uint64_t now_ns) {
        uint64_t at_ns = restart->renewed_ns ? restart->renewed_ns + RESTART_RENEW_NS : now_ns;

        restart->renewed_ns = at_ns > now_ns ? at_ns : now_ns;
        return start_at(restart, restart->renewed_ns);
}

static enum restart_order retry_later(
                struct restart *restart, const struct restart_policy *policy, uint64_t now_ns) {
        restart->state = RESTART_DOWN;
        restart->at_ns = now_ns + policy->retry_ns;
        return ORDER_RETRY;
}

enum restart_order restart_stay_down(
                struct restart *restart, const struct restart_policy *policy, uint64_t now_ns) {
        restart->down_ns = now_ns;
        restart->n_recovery = 0;
        return retry_later(restart, policy, now_ns);
}

enum restart_order restart_died(struct restart *restart, const struct restart_policy *policy,
                enum restart_cause cause, uint64_t now_ns, uint32_t jitter) {
        bool was_ready = restart->state == RESTART_READY;
        uint64_t healthy_ns = was_ready ? now_ns - restart->ready_ns : 0;

        if (healthy_ns >= RESTART_FORGIVEN_NS)
                restart->k = 0;
        if (healthy_ns >= RESTART_HEALTHY_NS)
                restart->down_ns = 0;
        if (cause == CAUSE_SHARED)
                return ORDER_ESCALATE;
        if (cause == CAUSE_PERMANENT) {
                restart->state = RESTART_BARRED;
                return ORDER_NEVER;
        }
        if (cause == CAUSE_RENEW)
                return renew(restart, now_ns);
        if (cause == CAUSE_PLANNED || cause == CAUSE_OTHER)
                return start_at(restart, now_ns);
        if (cause == CAUSE_CRASH && !was_ready && ++restart->n_recovery >= RESTART_RECOVERY_CRASHES)
                return ORDER_ESCALATE;
        if (count_death(restart, policy, now_ns)) {
                if (restart->down_ns == 0)
                        restart->down_ns = now_ns;
                if (now_ns - restart->down_ns >= policy->give_up_ns)
                        return ORDER_ESCALATE;
                return retry_later(restart, policy, now_ns);
        }
        if (healthy_ns >= RESTART_HEALTHY_NS)
                return start_at(restart, now_ns);
        return start_at(restart, now_ns + backoff_ns(restart, jitter));
}

bool restart_given_back(struct restart *restart, const struct restart_policy *policy, uint32_t n,
                uint64_t now_ns) {
        if (restart->n_letters == 0 || now_ns - restart->letters_ns >= policy->window_ns) {
                restart->n_letters = 0;
                restart->letters_ns = now_ns;
        }
        if (restart->n_letters >= policy->burst)
                return false;
        restart->n_letters++;
        if (n > restart->n_deaths)
                n = restart->n_deaths;
        restart->n_deaths -= n;
        restart->next_death = (restart->next_death + RESTART_BURST_MAX - n) % RESTART_BURST_MAX;
        restart->k -= n < restart->k ? n : restart->k;
        return true;
}
