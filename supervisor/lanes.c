/*
 * lanes -- what state each lane is in, and the reset of one whose shared state is inconsistent.
 *
 *   RUNNING --(a stage is down or barred)--> DOWN --(all five are ready)--> RUNNING
 *   RUNNING, DOWN --(tier_died() says LANE)--> RESETTING: the word with a new generation is stored,
 *       its stages are killed; they are reaped, and each gateway that runs has let go of the lane
 *       --> its objects are made anew --> RUNNING: gateways are given them, stages are started
 *
 * A gateway that dies meanwhile has let go as well; what must not start before the objects are new
 * is held. Nothing here waits by itself: each death, each READY and each message moves it on.
 */
#include <signal.h>
#include <string.h>

#include "shm/doorbell.h"
#include "stages/common/channel.h"
#include "stages/common/log.h"
#include "supervisor/daemon.h"

static struct process *stage_of(struct daemon *d, uint32_t lane, uint32_t stage) {
        return &d->procs[topology_proc_stage(d->memory.topology, lane, (enum mr_role)stage)];
}

static bool any_reset(const struct daemon *d) {
        for (uint32_t lane = 0; lane < d->memory.topology->n_lanes; lane++)
                if (d->lanes[lane].resetting)
                        return true;
        return false;
}

/* ---- the word that gateways see -------------------------------------------------------------- */

static enum lane_state state_of(const struct daemon *d, uint32_t lane) {
        return lane_word_state(memory_lane(&d->memory, lane));
}

static uint64_t generation_of(const struct daemon *d, uint32_t lane) {
        return lane_word_generation(memory_lane(&d->memory, lane));
}

static void set_state(
                struct daemon *d, uint32_t lane, enum lane_state state, uint64_t generation) {
        memory_lane_set(&d->memory, lane, state, generation);
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_GATEWAY)
                        doorbell_ring(d->procs[i].bell);
}

const char *lanes_state_name(const struct daemon *d, uint32_t lane) {
        switch (state_of(d, lane)) {
        case LANE_RUNNING:
                return "running";
        case LANE_RESETTING:
                return "resetting";
        case LANE_DOWN:
                break;
        }
        return "down";
}

bool lanes_all_run(const struct daemon *d) {
        for (uint32_t lane = 0; lane < d->memory.topology->n_lanes; lane++)
                if (state_of(d, lane) != LANE_RUNNING)
                        return false;
        return true;
}

uint64_t lanes_resets(const struct daemon *d, uint32_t lane) {
        return generation_of(d, lane);
}

/* ---- what a death means ---------------------------------------------------------------------- */

static const char *why(const struct process *p, const struct tier_death *death) {
        if (death->cause == CAUSE_SHARED)
                return "shared state is inconsistent";
        if (death->order != ORDER_ESCALATE)
                return "two stages next to each other crashed at once";
        return p->restart.n_recovery >= RESTART_RECOVERY_CRASHES ? "crashes in recovery"
                                                                 : "down for too long";
}

static void end_daemon(struct process *p, const struct tier_death *death) {
        const struct daemon *d = p->d;

        log_error("escalate", "%s last_exit=\"%s\" why=\"%s\" what=\"%s: the daemon ends\"",
                        process_tag(p), p->last_exit, why(p, death),
                        death->lane != TIER_NO_LANE && d->tier.reset_ns
                                        ? "a lane was reset less than 10 minutes ago"
                                        : "it is no lane's trouble alone");
        ending_stop(p->d, 1);
}

static void begin_reset(struct process *p, uint32_t lane, const struct tier_death *death) {
        struct daemon *d = p->d;
        uint64_t generation = generation_of(d, lane) + 1;

        log_error("lane_reset",
                        "%s reset=%u generation=%llu last_exit=\"%s\" why=\"%s\" what=\"what the "
                        "lane holds ends with an error\"",
                        process_tag(p), lane, (unsigned long long)generation, p->last_exit,
                        why(p, death));
        d->lanes[lane] = (struct lane_reset){
                        .resetting = true, .begun_ns = loop_now_ns(d->loop)};
        set_state(d, lane, LANE_RESETTING, generation);
        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++) {
                struct process *member = stage_of(d, lane, stage);

                loop_timer_clear(d->loop, &member->start_timer);
                process_kill(member, true);
                member->held = true;
        }
}

bool lanes_died(struct process *p, enum restart_cause cause, enum restart_order order) {
        struct daemon *d = p->d;
        bool of_lane = p->role < LANE_STAGES_N;
        struct tier_death death = {.role = p->role,
                        .lane = of_lane ? p->lane : p->broken_lane,
                        .signal = p->wait_code == CLD_EXITED ? 0 : p->wait_status,
                        .cause = cause,
                        .order = order};

        /* The reset starts it, and had its reason already. */
        if (death.lane != TIER_NO_LANE && d->lanes[death.lane].resetting &&
                        (of_lane || cause == CAUSE_SHARED)) {
                p->held = true;
                return true;
        }
        switch (tier_died(&d->tier, &death, loop_now_ns(d->loop))) {
        case TIER_PROCESS:
                return false;
        case TIER_LANE:
                begin_reset(p, death.lane, &death);
                p->held = true;
                return true;
        case TIER_DAEMON:
                end_daemon(p, &death);
                return true;
        }
        return false;
}

bool lanes_hold(struct process *p) {
        bool hold = p->role < LANE_STAGES_N ? p->d->lanes[p->lane].resetting
                                            : p->role == ROLE_GATEWAY && any_reset(p->d);

        p->held |= hold;
        return hold;
}

/* ---- the reset ------------------------------------------------------------------------------- */

void lanes_on_message(struct process *p, uint32_t type, const void *bytes, uint32_t len) {
        struct daemon *d = p->d;
        struct channel_lane message;

        if (len != sizeof(message))
                return;
        memcpy(&message, bytes, len);
        if (p->role != ROLE_GATEWAY || message.lane >= d->memory.topology->n_lanes)
                return;
        if (type == CHANNEL_LANE_BROKEN) {
                p->broken_lane = message.lane;
        } else if (message.generation == generation_of(d, message.lane)) {
                d->lanes[message.lane].left |= 1u << p->index;
                daemon_changed(p);
        }
}

/* Reaped, and let go by every gateway that runs. */
static bool nobody_has_it(struct daemon *d, uint32_t lane) {
        for (uint32_t i = 0; i < d->n_procs; i++) {
                const struct process *p = &d->procs[i];
                bool has = (p->role < LANE_STAGES_N && p->lane == lane) ||
                           (p->role == ROLE_GATEWAY && !(d->lanes[lane].left & 1u << i));

                if (has && process_is_running(p))
                        return false;
        }
        return true;
}

/* To a gateway that runs; one that does not take it is started anew, and gets it then. */
static void give_back(struct process *p, uint32_t lane, uint64_t generation) {
        int r = handover_lane(p, lane, generation);

        if (r == 0 || r == CHANNEL_E_EOF)
                return;
        log_warn("lane_reset", "%s lane=%u error=\"%s\"", process_tag(p), lane,
                        r < 0 ? strerror(-r) : "its channel is full");
        process_kill(p, false);
}

static void start_held(struct daemon *d) {
        for (uint32_t i = d->n_procs; i-- > 0;) {
                struct process *p = &d->procs[i];

                if (!p->held || lanes_hold(p))
                        continue;
                p->held = false;
                if (p->role < LANE_STAGES_N)
                        process_pardon(p); /* with the memory goes the history */
                else
                        process_start(p);
        }
}

static void finish_reset(struct daemon *d, uint32_t lane) {
        uint64_t generation = generation_of(d, lane);
        int r = memory_lane_remake(&d->memory, lane);

        if (r < 0) {
                log_error("escalate",
                                "lane=%u error=\"%s\" what=\"its shared memory cannot be made "
                                "anew: the daemon ends\"",
                                lane, strerror(-r));
                ending_stop(d, 1);
                return;
        }
        d->lanes[lane].resetting = false;
        set_state(d, lane, LANE_RUNNING, generation);
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_GATEWAY && process_is_running(&d->procs[i]))
                        give_back(&d->procs[i], lane, generation);
        log_warn("lane_reset", "lane=%u generation=%llu done=1 took_us=%llu", lane,
                        (unsigned long long)generation,
                        (unsigned long long)((loop_now_ns(d->loop) - d->lanes[lane].begun_ns) /
                                             NS_PER_US));
        start_held(d);
}

/* ---- up and down ----------------------------------------------------------------------------- */

/* Not that it has left, as it was asked to. */
static bool is_given_up(const struct process *p) {
        return p->state == PROCESS_IDLE && (p->restart.state == RESTART_DOWN ||
                                                           p->restart.state == RESTART_BARRED);
}

static void look_at(struct daemon *d, uint32_t lane) {
        enum lane_state state = state_of(d, lane);
        bool down = false, ready = true;

        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++) {
                const struct process *p = stage_of(d, lane, stage);

                down |= is_given_up(p);
                ready &= p->state == PROCESS_READY;
        }
        if (state == LANE_RUNNING && down) {
                log_error("lane_down", "lane=%u what=\"what needs it is refused until its stages "
                                       "are ready\"",
                                lane);
                set_state(d, lane, LANE_DOWN, generation_of(d, lane));
        } else if (state == LANE_DOWN && ready) {
                log_info("lane_up", "lane=%u", lane);
                set_state(d, lane, LANE_RUNNING, generation_of(d, lane));
        }
}

/* For whoever asks a gateway whether all is ready. */
static void tell_missing(struct daemon *d, uint32_t lane) {
        uint64_t missing = 0;

        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++)
                if (stage_of(d, lane, stage)->state != PROCESS_READY)
                        missing |= UINT64_C(1) << stage;
        memory_lane_missing(&d->memory, lane, missing);
}

void lanes_advance(struct daemon *d) {
        for (uint32_t lane = 0; lane < d->memory.topology->n_lanes; lane++) {
                tell_missing(d, lane);
                if (d->phase == DAEMON_ENDED || (d->phase == DAEMON_ENDING && d->ending.fast))
                        return;
                if (!d->lanes[lane].resetting)
                        look_at(d, lane);
                else if (nobody_has_it(d, lane))
                        finish_reset(d, lane);
        }
}
