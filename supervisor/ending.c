/*
 * ending -- how the daemon ends: in order and with nothing lost, or at once.
 *
 *   ADMITTED --(every gateway has no open request)--> STAGES: rag leaves, then assemble, inference,
 *   post, stream --> GATEWAYS leave --> ASIDE: telemetry and watch leave --> DONE
 *   CUT (a second signal, an escalation, time is up): gateways end each open answer with one error
 *   --> ALL leave
 *
 * A process that dies while something is still admitted is restarted as always; one that was told
 * to leave is not. Who does not leave in time is killed, and what was lost is said.
 */
#include "stages/common/log.h"
#include "supervisor/daemon.h"

#define CUT_NS (2 * NS_PER_S)   /* for the gateways' last words to their clients */
#define LEAVE_NS (2 * NS_PER_S) /* for everybody else, when it has to be quick */

enum ending_step {
        STEP_ADMITTED,
        STEP_STAGES, /* and so many more, one for each stage */
        STEP_GATEWAYS = STEP_STAGES + LANE_STAGES_N,
        STEP_ASIDE,
        STEP_CUT,
        STEP_ALL,
        STEP_KILL,
};

static bool belongs(const struct process *p, uint32_t step) {
        if (step >= STEP_STAGES && step < STEP_GATEWAYS)
                return (uint32_t)p->role == step - STEP_STAGES;
        if (step == STEP_GATEWAYS)
                return p->role == ROLE_GATEWAY;
        if (step == STEP_ASIDE)
                return p->role == ROLE_TELEMETRY || p->role == ROLE_WATCH;
        return true;
}

/* Every gateway runs and has no open request; in a hurry, those that do not run do not count. */
static bool all_drained(struct daemon *d) {
        bool drained = true;

        for (uint32_t i = 0; i < d->n_procs; i++) {
                struct process *p = &d->procs[i];

                if (p->role != ROLE_GATEWAY || !p->wanted)
                        continue;
                if (d->ending.fast && p->state != PROCESS_READY)
                        continue;
                process_drain(p); /* one that has been restarted does not know yet */
                drained = drained && p->drained;
        }
        return drained;
}

/* Tells those of the step to leave; true when none of them runs any more. */
static bool all_left(struct daemon *d, uint32_t step) {
        bool left = true;

        for (uint32_t i = 0; i < d->n_procs; i++) {
                struct process *p = &d->procs[i];

                if (!belongs(p, step))
                        continue;
                process_forget(p);
                /* What is not ready yet has nothing in hand; it is not waited for in a hurry. */
                if (step == STEP_KILL || (d->ending.fast && p->state == PROCESS_STARTING))
                        process_kill(p, true);
                else
                        process_leave(p);
                left = left && !process_is_running(p);
        }
        return left;
}

static void enter(struct daemon *d, uint32_t step, uint64_t within_ns) {
        d->ending.step = step;
        loop_timer_set(d->loop, &d->ending.limit, loop_now_ns(d->loop) + within_ns);
}

static void finish(struct daemon *d) {
        struct ending *e = &d->ending;

        loop_timer_clear(d->loop, &e->limit);
        d->phase = DAEMON_ENDED;
        if (e->lost == 0)
                e->lost = daemon_in_flight(d);
        if (e->lost && e->exit_code == 0)
                e->exit_code = 1;
        if (e->lost)
                log_error("lost", "requests=%llu what=\"admitted and not finished\"",
                                (unsigned long long)e->lost);
        control_answer_drain(d, e->client, e->lost);
}

void ending_advance(struct daemon *d) {
        struct ending *e = &d->ending;

        while (d->phase == DAEMON_ENDING) {
                switch (e->step) {
                case STEP_ADMITTED:
                        if (!all_drained(d))
                                return;
                        e->step = STEP_STAGES;
                        break;
                case STEP_CUT:
                        if (!all_drained(d))
                                return;
                        enter(d, STEP_ALL, LEAVE_NS);
                        break;
                case STEP_ALL:
                case STEP_KILL:
                case STEP_ASIDE:
                        if (all_left(d, e->step))
                                finish(d);
                        return;
                default:
                        if (!all_left(d, e->step))
                                return;
                        e->step++;
                }
        }
}

static void on_limit(struct loop_timer *timer) {
        struct daemon *d = timer->owner;
        struct ending *e = &d->ending;

        if (e->step == STEP_CUT) {
                enter(d, STEP_ALL, LEAVE_NS);
        } else if (e->step == STEP_ADMITTED) {
                log_error("overrun",
                                "in_flight=%llu what=\"not finished in time; ended with an "
                                "error\"",
                                (unsigned long long)daemon_in_flight(d));
                ending_stop(d, 1);
                return;
        } else if (e->step != STEP_KILL) {
                if (e->lost == 0)
                        e->lost = daemon_in_flight(d);
                e->exit_code = e->exit_code ? e->exit_code : 1;
                e->fast = true;
                log_error("overrun",
                                "in_flight=%llu what=\"not finished in time; every process is "
                                "killed\"",
                                (unsigned long long)e->lost);
                e->step = STEP_KILL;
        }
        ending_advance(d);
}

static void begin(struct daemon *d) {
        d->phase = DAEMON_ENDING;
        d->ending.limit = (struct loop_timer){.fn = on_limit, .owner = d};
        roll_abandon(d);
        standby_end(d);
        daemon_notify("STOPPING=1");
}

void ending_drain(struct daemon *d, uint64_t timeout_ms, uint64_t client) {
        if (d->phase >= DAEMON_ENDING)
                return;
        if (timeout_ms == 0)
                timeout_ms = d->settings->supervisor.drain_timeout_ms;
        log_info("drain", "in_flight=%llu timeout_ms=%llu", (unsigned long long)daemon_in_flight(d),
                        (unsigned long long)timeout_ms);
        if (d->phase == DAEMON_STARTING) { /* nobody has been let in yet */
                ending_stop(d, 0);
                d->ending.client = client;
                return;
        }
        begin(d);
        d->ending.client = client;
        enter(d, STEP_ADMITTED, timeout_ms * NS_PER_MS);
        ending_advance(d);
}

void ending_stop(struct daemon *d, int exit_code) {
        struct ending *e = &d->ending;

        if (d->phase == DAEMON_ENDED || (d->phase == DAEMON_ENDING && e->fast))
                return;
        if (d->phase != DAEMON_ENDING)
                begin(d);
        e->fast = true;
        if (exit_code)
                e->exit_code = exit_code;
        e->lost = daemon_in_flight(d);
        log_warn("stop", "in_flight=%llu what=\"ending at once\"", (unsigned long long)e->lost);
        for (uint32_t i = 0; i < d->n_procs; i++) {
                struct process *p = &d->procs[i];

                process_forget(p);
                if (p->role == ROLE_GATEWAY) {
                        process_drain(p);
                        process_cut(p);
                }
        }
        enter(d, STEP_CUT, CUT_NS);
        /* Whoever called is in the middle of something of his own; the loop goes on from here. */
        if (all_drained(d))
                loop_timer_set(d->loop, &e->limit, loop_now_ns(d->loop));
}
