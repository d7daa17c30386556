/*
 * tier -- what a death means beyond the process that died: a pure state machine over explicit time.
 */
#include "supervisor/tier.h"

#include <signal.h>
#include <string.h>

void tier_init(struct tier *tier) {
        memset(tier, 0, sizeof(*tier));
}

/* What a neighbour's nonsense in shared memory looks like when nobody has checked for it. */
static bool fell_over(const struct tier_death *death) {
        return death->cause == CAUSE_CRASH && (death->signal == SIGSEGV ||
                                                              death->signal == SIGBUS ||
                                                              death->signal == SIGABRT);
}

static bool crashed_just_now(const struct tier *tier, uint32_t lane, uint32_t stage, uint64_t now) {
        uint64_t at = tier->crashed_ns[lane][stage];

        return at != 0 && now - at <= TIER_ADJACENT_NS;
}

/* Remembers the crash; true when a stage next to it in the pipeline crashed just before. */
static bool neighbour_crashed(struct tier *tier, const struct tier_death *death, uint64_t now) {
        uint32_t stage = (uint32_t)death->role;

        if (stage >= LANE_STAGES_N || !fell_over(death))
                return false;
        tier->crashed_ns[death->lane][stage] = now;
        return (stage > 0 && crashed_just_now(tier, death->lane, stage - 1, now)) ||
               (stage + 1 < LANE_STAGES_N &&
                               crashed_just_now(tier, death->lane, stage + 1, now));
}

enum tier_reach tier_died(struct tier *tier, const struct tier_death *death, uint64_t now_ns) {
        bool adjacent = neighbour_crashed(tier, death, now_ns);

        if (death->role == ROLE_TELEMETRY || death->role == ROLE_WATCH || (death->order != ORDER_ESCALATE && !adjacent))
                return TIER_PROCESS;
        /* A gateway that names a lane has found that lane's memory inconsistent. Whatever else is
         * wrong with one goes into every lane. */
        if (death->lane == TIER_NO_LANE ||
                        (death->role == ROLE_GATEWAY && death->cause != CAUSE_SHARED))
                return TIER_DAEMON;
        if (tier->reset_ns != 0 && now_ns - tier->reset_ns < TIER_RESETS_NS)
                return TIER_DAEMON;
        tier->reset_ns = now_ns;
        memset(tier->crashed_ns[death->lane], 0, sizeof(tier->crashed_ns[death->lane]));
        return TIER_LANE;
}
