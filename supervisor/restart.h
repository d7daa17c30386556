/*
 * restart -- what becomes of a process that has died: a pure state machine over explicit time.
 *
 * Shape   struct restart: one process's history; restart_died() turns a death into an order
 * Units   nanoseconds of any clock that does not go back
 * Owner   the supervisor, one for each process; nothing here asks for the time or makes a call
 * Errors  none: every death has an order
 * Limits  RESTART_BURST_MAX deaths are remembered
 *
 *   STARTING --(restart_ready)--> READY --(restart_died)--> WAITING --(its time)--> STARTING
 *       `----(restart_died)----> WAITING | DOWN      READY --(too many deaths)--> DOWN
 *   DOWN --(every 30 s: restart_started)--> STARTING      any --(permanent)--> BARRED
 *
 * Policy  no delay after 5 s of being ready, or when another process caused the death; else
 *         10 ms * 2^k, at most 5 s, +-20 %; k starts again after 60 s of being ready. More than
 *         `burst` deaths within the window: DOWN, one attempt every `retry` (30 s). Escalation
 *         (tier.h): shared state is inconsistent, three crashes in recovery, or DOWN for `give_up`
 *         (5 minutes). Deaths that ended in a dead letter are given back: the record was to blame. But
 *         for `burst` letters in a window only: a process that dies of every record is broken itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RESTART_BURST_MAX 1000u
#define RESTART_HEALTHY_NS (5ull * 1000000000)
#define RESTART_FORGIVEN_NS (60ull * 1000000000)
#define RESTART_DELAY_NS (10ull * 1000000)
#define RESTART_DELAY_MAX_NS (5ull * 1000000000)
#define RESTART_RETRY_NS (30ull * 1000000000)
#define RESTART_GIVE_UP_NS (300ull * 1000000000)
#define RESTART_RECOVERY_CRASHES 3u
#define RESTART_RENEW_NS (1ull * 1000000000)

enum restart_cause {
        CAUSE_PLANNED,   /* it was asked to leave, and left */
        CAUSE_OTHER,     /* another process killed it: not counted, blames nobody */
        CAUSE_CRASH,     /* a signal of its own doing */
        CAUSE_WATCHDOG,  /* it gave no sign of life, or did not become ready in time */
        CAUSE_EXIT,      /* it exited by itself */
        CAUSE_EARLY,     /* a signal before it could tell of one: nobody knows whose; counted, blames nobody */
        CAUSE_PERMANENT, /* exit 70: no restart helps */
        CAUSE_SHARED,    /* exit 71: shared state is inconsistent */
        CAUSE_RENEW,     /* exit 72: it wants a new sandbox; no death, at most once a second */
        CAUSES_N,
};

enum restart_state {
        RESTART_STARTING,
        RESTART_READY,
        RESTART_WAITING, /* until at_ns */
        RESTART_DOWN,    /* retried at at_ns */
        RESTART_BARRED,  /* until somebody asks for it */
};

/* What wait status and last words say about a death. */
struct restart_death {
        bool exited; /* status is an exit code, else a signal */
        int status;
        bool asked;        /* it had been told to leave */
        bool killed_by_us; /* watchdog or deadline */
        bool early;        /* it had not installed its handler, nor touched memory that others wrote */
        uint32_t pid;
        uint64_t crash_signal, crash_code, crash_pid; /* last words of this incarnation, 0: none */
};
enum restart_cause restart_classify(const struct restart_death *death);
const char *restart_cause_name(enum restart_cause cause);

struct restart {
        enum restart_state state;
        uint64_t ready_ns;   /* since when it is ready, valid in READY */
        uint64_t at_ns;      /* WAITING, DOWN: when it is to be started */
        uint64_t down_ns;    /* since when it is given up, 0: it is not */
        uint64_t renewed_ns; /* when it last was, 0: never */
        uint32_t k;          /* doublings of the delay */
        uint32_t n_recovery; /* crashes before ready, in a row */
        uint32_t n_deaths, next_death;
        uint32_t n_letters; /* whose deaths were given back since letters_ns */
        uint64_t letters_ns;
        uint64_t deaths[RESTART_BURST_MAX]; /* times of counted ones, a ring */
};

struct restart_policy {
        uint32_t burst;
        uint64_t window_ns;
        uint64_t retry_ns;   /* RESTART_RETRY_NS, of tests less */
        uint64_t give_up_ns; /* RESTART_GIVE_UP_NS */
};

enum restart_order {
        ORDER_START,    /* at restart->at_ns, which may be now */
        ORDER_RETRY,    /* it is DOWN: likewise, later */
        ORDER_NEVER,    /* it stays down */
        ORDER_ESCALATE, /* restarting this process alone does not help */
};

void restart_init(struct restart *restart);
void restart_started(struct restart *restart);
void restart_ready(struct restart *restart, uint64_t now_ns);
/* jitter: any random number. */
enum restart_order restart_died(struct restart *restart, const struct restart_policy *policy,
                enum restart_cause cause, uint64_t now_ns, uint32_t jitter);
/* The last n deaths had a record to blame that is given up now: they count no more. False: there have
 * been too many of those lately, and the deaths count. */
bool restart_given_back(struct restart *restart, const struct restart_policy *policy, uint32_t n,
                uint64_t now_ns);
/* Instead of an escalation: it stays DOWN, and is tried again. */
enum restart_order restart_stay_down(
                struct restart *restart, const struct restart_policy *policy, uint64_t now_ns);
