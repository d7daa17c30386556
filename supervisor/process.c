/*
 * process -- one worker process from the supervisor's side: start, ready, signs of life, death.
 *
 * An incarnation ends when it has been reaped and nothing of the loop refers to its descriptors any
 * more; only then may its successor start (I5).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/channel.h"
#include "stages/common/log.h"
#include "stages/common/stage.h"
#include "stages/common/title.h"
#include "supervisor/daemon.h"

#define READY_LIMIT_NS (5 * NS_PER_S)
#define READY_PER_REQUEST_NS (10 * NS_PER_MS) /* recovery walks what was in flight */
#define LAST_WORDS_NS NS_PER_S                /* between SIGABRT and SIGKILL */
#define LATE_NS NS_PER_S /* a timer that is so late says that we were stopped */
#define ROOM_RETRY_NS (5 * NS_PER_MS)
#define MESSAGES_A_TURN 16

/* ---- words ----------------------------------------------------------------------------------- */

const char *process_tag(const struct process *p) {
        static char tag[96];
        int n = snprintf(tag, sizeof(tag), "stage=%s", mr_role_name(p->role));

        if (p->role < LANE_STAGES_N)
                n += snprintf(tag + n, sizeof(tag) - (size_t)n, " lane=%u", p->lane);
        if (p->role == ROLE_GATEWAY && p->place != GATEWAY_NO_PLACE)
                n += snprintf(tag + n, sizeof(tag) - (size_t)n, " place=%u", p->place);
        else if (p->role == ROLE_GATEWAY)
                n += snprintf(tag + n, sizeof(tag) - (size_t)n, " slot=%u", p->index);
        if (p->pid)
                snprintf(tag + n, sizeof(tag) - (size_t)n, " pid=%ld", (long)p->pid);
        return tag;
}

const char *process_state_name(const struct process *p) {
        if (p->state == PROCESS_READY)
                return p->draining || p->closing || p->leaving ? "draining" : "ready";
        if (p->state == PROCESS_STARTING || p->held)
                return "starting";
        return p->restart.state == RESTART_WAITING || p->restart.state == RESTART_STARTING
                               ? "starting"
                               : "down";
}

bool process_is_running(const struct process *p) {
        return p->state != PROCESS_IDLE;
}

/* ---- death ----------------------------------------------------------------------------------- */

/* The doorbell that the dead one may have owed somebody: one ring for each neighbour (I7). */
static void ring_neighbours(const struct process *p) {
        const struct daemon *d = p->d;

        for (uint32_t i = 0; i < d->n_procs; i++)
                if (i != p->index && topology_neighbours(d->memory.topology, p->index, i))
                        doorbell_ring(d->procs[i].bell);
}

/* Does a daemon that starts come to nothing without it? */
static bool is_needed(const struct process *p) {
        return p->role != ROLE_WATCH;
}

static void obey(struct process *p, enum restart_order order) {
        struct daemon *d = p->d;

        switch (order) {
        case ORDER_START:
                break;
        case ORDER_RETRY:
                log_error("down", "%s deaths=%u retry_s=%llu", process_tag(p), p->restart.n_deaths,
                                RESTART_RETRY_NS / NS_PER_S);
                if (d->phase == DAEMON_STARTING && is_needed(p))
                        ending_stop(d, 1);
                break;
        case ORDER_NEVER:
                log_error("down", "%s why=permanent", process_tag(p));
                if (d->phase == DAEMON_STARTING && is_needed(p))
                        ending_stop(d, 2);
                return;
        case ORDER_ESCALATE: /* lanes_died() has seen to it */
                return;
        }
        if (d->phase == DAEMON_ENDED)
                return;
        loop_timer_set(d->loop, &p->start_timer, p->restart.at_ns);
}

static void judge(
                struct process *p, const struct restart_policy *policy, enum restart_cause cause) {
        uint64_t now = loop_now_ns(p->d->loop);
        enum restart_order order = restart_died(
                        &p->restart, policy, cause, now, (uint32_t)rand_r(&p->d->random));

        if (lanes_died(p, cause, order))
                return;
        /* Nothing hangs on it, so nothing is done for it but to try again. */
        if (order == ORDER_ESCALATE)
                order = restart_stay_down(&p->restart, policy, now);
        obey(p, order);
}

static void poke_listeners(const struct daemon *d) {
        listener_poke(&d->client);
        for (uint32_t i = 0; i < d->n_http; i++)
                listener_poke(&d->http[i]);
}

static struct restart_policy policy_of(const struct daemon *d) {
        return (struct restart_policy){.burst = (uint32_t)d->settings->supervisor.restart_burst,
                        .window_ns = d->settings->supervisor.restart_window_s * NS_PER_S,
                        .retry_ns = RESTART_RETRY_NS,
                        .give_up_ns = RESTART_GIVE_UP_NS};
}

/* Is it to be started now? */
static bool is_due(const struct process *p) {
        return p->start_timer.heap && p->restart.state == RESTART_WAITING &&
               p->restart.at_ns <= loop_now_ns(p->d->loop);
}

static bool deserves_standby(enum restart_cause cause) {
        return cause == CAUSE_OTHER || cause == CAUSE_CRASH || cause == CAUSE_WATCHDOG ||
               cause == CAUSE_EXIT;
}

/* Reaped, and the loop has let go of its descriptors: what now? */
static void settle(struct process *p) {
        struct daemon *d = p->d;
        struct restart_policy policy = policy_of(d);
        bool asked = p->leaving, drained = p->drained;
        bool planned = asked || p->draining || p->closing || p->recycling;
        enum restart_cause cause;

        if (!p->reaped || p->channel_op.pending || p->room_op.pending)
                return;
        loop_timer_clear(d->loop, &p->limit_timer);
        cause = death_judge(p);
        /* A gateway's successor runs in another slot, and does not follow itself. */
        p->recycled = p->recycling && cause == CAUSE_PLANNED && p->role != ROLE_GATEWAY;
        p->recycling = false;
        close(p->pidfd);
        close(p->channel);
        p->pidfd = p->channel = -1;
        p->state = PROCESS_IDLE;
        p->draining = p->drained = p->leaving = p->killed = p->reaped = false;
        if (p->role == ROLE_GATEWAY && cause != CAUSE_PLANNED)
                poke_listeners(d);
        if (gateways_ended(p, drained))
                log_info("spare", "slot=%u", p->index);
        else if (d->phase != DAEMON_ENDED &&
                        !(d->phase == DAEMON_ENDING && (asked || d->ending.fast)))
                judge(p, &policy, cause);
        p->pid = 0;
        p->warm = !planned && is_due(p) && deserves_standby(cause);
        if (p->warm)
                process_start(p);
        ring_neighbours(p);
        daemon_changed(p);
}

static void on_exit_event(struct loop_op *op, int res, uint32_t flags) {
        struct process *p = op->owner;
        siginfo_t info = {.si_pid = 0};

        (void)flags;
        if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) == -1 || info.si_pid == 0) {
                if (res != -ECANCELED)
                        loop_poll(p->d->loop, op, p->pidfd, POLLIN);
                return;
        }
        p->reaped = true;
        p->wait_code = info.si_code;
        p->wait_status = info.si_status;
        /* Its end of the channel is closed, so both polls are about to end; unless a child of its
         * own holds it open. */
        loop_cancel(p->d->loop, &p->channel_op);
        loop_cancel(p->d->loop, &p->room_op);
        settle(p);
}

/* ---- the channel ----------------------------------------------------------------------------- */

static void say(struct process *p, enum channel_type type);

static void became_ready(struct process *p) {
        struct daemon *d = p->d;

        if (p->state != PROCESS_STARTING)
                return;
        p->state = PROCESS_READY;
        p->beat_ns = loop_now_ns(d->loop);
        p->beat = 0;
        p->cpu_ns = 0;
        loop_timer_clear(d->loop, &p->limit_timer);
        restart_ready(&p->restart, loop_now_ns(d->loop));
        p->served = true;
        p->cold = false;
        standby_want(p);
        if (p->closing)
                say(p, CHANNEL_CLOSE);
        if (p->role == ROLE_WATCH && !p->wanted)
                process_leave(p);
        log_info("ready", "%s epoch=%llu took_us=%llu standby=%d", process_tag(p),
                        (unsigned long long)p->epoch,
                        (unsigned long long)((loop_now_ns(d->loop) - p->started_ns) / NS_PER_US),
                        p->from_standby);
        daemon_changed(p);
}

/* A record made it die so often, and is a dead letter now: that was not the process's own fault. */
static void on_given_up(struct process *p, const void *bytes, uint32_t len) {
        struct restart_policy policy = policy_of(p->d);
        struct channel_given_up message;

        if (len != sizeof(message)) {
                log_warn("channel", "%s what=given_up len=%u", process_tag(p), len);
                return;
        }
        memcpy(&message, bytes, len);
        if (!restart_given_back(&p->restart, &policy, message.strikes, loop_now_ns(p->d->loop)))
                log_warn("dead_letters", "%s what=\"too many at once: their deaths count\"",
                                process_tag(p));
}

static void on_message(
                struct process *p, const struct channel_head *head, char *text, uint32_t len) {
        if (head->type == CHANNEL_READY) {
                became_ready(p);
        } else if (head->type == CHANNEL_DRAINED) {
                if (p->draining) {
                        p->drained = true;
                        daemon_changed(p);
                } else if (p->closing) {
                        p->drained = true;
                        process_leave(p);
                }
        } else if (head->type == CHANNEL_TAKEN) {
                p->n_taking -= p->n_taking > 0;
                daemon_changed(p);
        } else if (head->type == CHANNEL_FAILED) {
                text[len] = '\0';
                for (char *t = text; *t; t++)
                        if (*t < ' ' || *t == '"')
                                *t = ' ';
                log_error("failed", "%s why=\"%s\"", process_tag(p), text);
        } else if (head->type == CHANNEL_GIVEN_UP) {
                on_given_up(p, text, len);
        } else if (head->type == CHANNEL_LANE_LEFT || head->type == CHANNEL_LANE_BROKEN) {
                lanes_on_message(p, head->type, text, len);
        } else {
                log_warn("channel", "%s what=unknown_message type=%u", process_tag(p), head->type);
        }
}

static void on_channel(struct loop_op *op, int res, uint32_t flags) {
        struct process *p = op->owner;
        struct channel_head head;
        char buf[512];
        uint32_t len;
        int r = 0, fd;

        (void)flags;
        for (int i = 0; r == 0 && i < MESSAGES_A_TURN; i++) {
                r = channel_recv(p->channel, 0, &head, buf, sizeof(buf) - 1, &len, &fd);
                if (r)
                        break;
                if (fd >= 0)
                        close(fd); /* workers have nothing to give us */
                on_message(p, &head, buf, len);
        }
        if (r < 0) {
                log_warn("channel", "%s error=\"%s\"", process_tag(p), strerror(-r));
                process_kill(p, false);
        }
        if (p->reaped || res == -ECANCELED)
                settle(p);
        else if (r >= 0 && r != CHANNEL_E_EOF)
                loop_poll(p->d->loop, op, p->channel, POLLIN);
}

static void give(struct process *p);

static void on_room(struct loop_op *op, int res, uint32_t flags) {
        struct process *p = op->owner;

        (void)res;
        (void)flags;
        if (p->reaped)
                settle(p);
        else
                give(p);
}

/* Goes on with the handover and what comes after it; waits for room when the channel is full. */
static void give(struct process *p) {
        int r = p->handover.done ? 0 : handover_continue(p);

        if (r == 0)
                r = handover_arenas(p);
        if (r == CHANNEL_E_AGAIN) {
                loop_poll(p->d->loop, &p->room_op, p->channel, POLLOUT);
        } else if (r == -ETOOMANYREFS) {
                /* Too many descriptors are under way; they get fewer as workers take them. */
                loop_timer_set(p->d->loop, &p->start_timer,
                                loop_now_ns(p->d->loop) + ROOM_RETRY_NS);
        } else if (r < 0) {
                log_error("handover", "%s error=\"%s\"", process_tag(p), strerror(-r));
                process_kill(p, false);
        }
}

static void say(struct process *p, enum channel_type type) {
        int r = channel_send(p->channel, type, 0, NULL, 0, -1);

        /* A worker that reads nothing is the watchdog's business; one that is gone is about to be
         * reaped. */
        if (r != 0 && r != CHANNEL_E_EOF)
                log_warn("channel", "%s type=%d error=\"%s\"", process_tag(p), (int)type,
                                r < 0 ? strerror(-r) : "full");
}

void process_tell_arenas(struct process *p) {
        if (process_is_running(p) && !p->reaped && p->handover.done && !p->room_op.pending)
                give(p);
}

/* ---- start ----------------------------------------------------------------------------------- */

const char *process_program(const struct process *p) {
        return p->exe ? p->exe : p->d->exes->path[p->role];
}

/* Greater than any that this process ever had, also in the hands of a dead supervisor. */
static uint64_t next_epoch(const struct process *p) {
        const struct counters_shm *c = p->d->memory.counters[p->index];
        uint64_t seen = c ? atomic_load_explicit(&c->epoch, memory_order_relaxed) : 0;

        return (seen > p->epoch ? seen : p->epoch) + 1;
}

static void set_ready_limit(struct process *p) {
        struct daemon *d = p->d;

        loop_timer_set(d->loop, &p->limit_timer,
                        clock_now_ns() + READY_LIMIT_NS +
                                        d->memory.topology->max_in_flight * READY_PER_REQUEST_NS);
}

/* A channel that holds all it can of the handover, and then the process at its other end. */
static int spawn(struct process *p, const struct spawn_env *env, struct spawned *ret) {
        char title[TITLE_BYTES];
        int childs, r = spawn_channel(&p->channel, &childs);

        if (r)
                return r;
        standby_retire(p->d, p->role);
        title_worker(title, p->role, p->d->memory.instance, p->lane);
        (void)handover_continue(p);
        r = spawn_process(process_program(p), title, p->core, env, childs, ret);
        close(childs);
        if (r) {
                close(p->channel);
                p->channel = -1;
        }
        return r;
}

/* What does not fit of the handover, or fails, comes again in give(). */
static int begin(struct process *p, struct spawned *ret) {
        struct spawn_env env;
        int r = spawn_env_make(p->role, p->d->settings, &env);

        if (r)
                return r;
        p->epoch = next_epoch(p);
        p->handover = (struct handover){.phase = 0};
        memset(p->arena, 0, sizeof(p->arena));
        p->n_taking = 0;
        p->from_standby = p->warm && !p->cold && standby_take(p, &env, ret, &p->channel);
        if (!p->from_standby)
                r = spawn(p, &env, ret);
        p->warm = false;
        spawn_env_free(&env);
        return r;
}

void process_start(struct process *p) {
        struct daemon *d = p->d;
        struct spawned s;
        int r;

        if (process_is_running(p) || !p->wanted || lanes_hold(p))
                return;
        loop_timer_clear(d->loop, &p->start_timer);
        p->started_ns = clock_now_ns();
        r = begin(p, &s);
        if (r) {
                log_error("spawn", "%s error=\"%s\"", process_tag(p), strerror(-r));
                loop_timer_set(d->loop, &p->start_timer, loop_now_ns(d->loop) + NS_PER_S);
                return;
        }
        p->pid = s.pid;
        p->pidfd = s.pidfd;
        p->state = PROCESS_STARTING;
        p->broken_lane = TIER_NO_LANE;
        p->n_starts++;
        restart_started(&p->restart);
        loop_poll(d->loop, &p->exit_op, p->pidfd, POLLIN);
        loop_poll(d->loop, &p->channel_op, p->channel, POLLIN);
        set_ready_limit(p);
        give(p);
}

static void on_start_timer(struct loop_timer *timer) {
        struct process *p = timer->owner;

        if (process_is_running(p))
                give(p);
        else
                process_start(p);
}

/* Folders to watch and an index to keep them in. */
static bool watch_is_wanted(const struct settings *s) {
        return s->rag.watch.n > 0 && s->rag.index && strcmp(s->rag.index, "none") != 0;
}

void process_reconsider(struct process *p) {
        p->wanted = watch_is_wanted(p->d->settings);
        if (p->wanted)
                return;
        loop_timer_clear(p->d->loop, &p->start_timer);
        process_leave(p);
}

void process_pardon(struct process *p) {
        if (process_is_running(p))
                return;
        restart_init(&p->restart);
        p->warm = false;
        process_start(p);
}

/* ---- asking and killing ---------------------------------------------------------------------- */

void process_drain(struct process *p) {
        if (p->state != PROCESS_READY || p->draining)
                return;
        p->draining = true;
        say(p, CHANNEL_DRAIN);
}

void process_close(struct process *p) {
        p->closing = true;
        if (p->state == PROCESS_READY)
                say(p, CHANNEL_CLOSE); /* else it hears of it when it is */
}

void process_cut(struct process *p) {
        if (p->state == PROCESS_READY)
                say(p, CHANNEL_CUT);
}

void process_leave(struct process *p) {
        if (p->state != PROCESS_READY || p->leaving)
                return;
        p->leaving = true;
        say(p, CHANNEL_LEAVE);
}

static void send_signal(struct process *p, int signo) {
        if (process_is_running(p) && !p->reaped)
                (void)syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0);
}

void process_kill(struct process *p, bool planned) {
        if (!process_is_running(p))
                return;
        p->killed = true;
        p->blame = false;
        p->leaving |= planned;
        send_signal(p, SIGKILL);
}

void process_abort(struct process *p, const char *why) {
        if (!process_is_running(p) || p->killed)
                return;
        log_error("kill", "%s why=%s", process_tag(p), why);
        p->killed = true;
        send_signal(p, SIGABRT);
        loop_timer_set(p->d->loop, &p->limit_timer, loop_now_ns(p->d->loop) + LAST_WORDS_NS);
}

void process_forget(struct process *p) {
        p->held = false;
        loop_timer_clear(p->d->loop, &p->start_timer);
        if (!process_is_running(p))
                loop_timer_clear(p->d->loop, &p->limit_timer);
}

/* READY is late, or the last words are. */
static void on_limit(struct loop_timer *timer) {
        struct process *p = timer->owner;

        if (p->killed) {
                send_signal(p, SIGKILL);
                return;
        }
        if (p->state != PROCESS_STARTING)
                return;
        if (loop_now_ns(p->d->loop) - timer->at_ns > LATE_NS) {
                /* We were not running ourselves, so the process was not either. */
                set_ready_limit(p);
                return;
        }
        p->blame = false;
        process_abort(p, "not_ready_in_time");
}

void process_init(struct process *p, struct daemon *d, uint32_t index) {
        const struct topology_proc *row = &d->memory.topology->procs[index];

        p->d = d;
        p->index = index;
        p->role = row->role;
        p->lane = row->lane;
        p->place = p->left_place = GATEWAY_NO_PLACE;
        p->wanted = row->role == ROLE_WATCH ? watch_is_wanted(d->settings)
                                            : row->role != ROLE_GATEWAY; /* those come next */
        p->core = topology_core(d->memory.topology, d->settings->pin, index, d->cores, d->n_cores);
        p->pidfd = p->channel = p->bell = -1;
        p->broken_lane = TIER_NO_LANE;
        p->exit_op = (struct loop_op){.fn = on_exit_event, .owner = p};
        p->channel_op = (struct loop_op){.fn = on_channel, .owner = p};
        p->room_op = (struct loop_op){.fn = on_room, .owner = p};
        p->start_timer = (struct loop_timer){.fn = on_start_timer, .owner = p};
        p->limit_timer = (struct loop_timer){.fn = on_limit, .owner = p};
        restart_init(&p->restart);
}
