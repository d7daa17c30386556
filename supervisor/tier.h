/*
 * tier -- what a death means beyond the process that died: a pure state machine over explicit time.
 *
 * Shape   struct tier: what the daemon remembers of crashes and resets; tier_died() turns a death,
 *         and what restart_died() made of it, into how far its consequences reach
 * Units   nanoseconds of any clock that does not go back and is not 0
 * Owner   the supervisor, one for the daemon; nothing here asks for the time or makes a call
 * Errors  none: every death has a tier
 * Limits  the last crash of each lane stage, and the last reset, are remembered
 *
 *   PROCESS   this process alone, as restart_died() ordered (for telemetry and watch always: no request needs them)
 *   LANE      its lane is reset: shared state is inconsistent (exit 71; a gateway names the lane),
 *             three crashes in recovery, five minutes of being down, or two adjacent stages that
 *             crashed within 100 ms: whatever the one wrote is what the other fell over
 *   DAEMON    it ends: a second reset within ten minutes, or a gateway whose trouble is no lane's
 */
#pragma once

#include "shm/layout.h"
#include "supervisor/restart.h"

#define TIER_ADJACENT_NS (100ull * 1000000)
#define TIER_RESETS_NS (600ull * 1000000000)
#define TIER_NO_LANE UINT32_MAX

enum tier_reach { TIER_PROCESS, TIER_LANE, TIER_DAEMON };

struct tier {
        uint64_t crashed_ns[LANES_MAX][LANE_STAGES_N]; /* by a signal of its own doing, 0: never */
        uint64_t reset_ns;                             /* the last reset of any lane, 0: none yet */
};

struct tier_death {
        enum mr_role role;
        uint32_t lane; /* of a stage, or the one that a gateway named; else TIER_NO_LANE */
        int signal;    /* 0: it exited */
        enum restart_cause cause;
        enum restart_order order; /* what restart_died() said */
};

void tier_init(struct tier *tier);
enum tier_reach tier_died(struct tier *tier, const struct tier_death *death, uint64_t now_ns);
