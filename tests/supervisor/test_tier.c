/* How far a death reaches, against a clock that the tests move. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "supervisor/tier.h"

#define MS 1000000ull
#define S 1000000000ull
#define T0 (1000 * S)

static struct tier tier;

static void set_up(void) {
        tier_init(&tier);
}

static enum tier_reach crashes(enum mr_role role, uint32_t lane, int signal, uint64_t now) {
        const struct tier_death death = {.role = role,
                        .lane = lane,
                        .signal = signal,
                        .cause = CAUSE_CRASH,
                        .order = ORDER_START};

        return tier_died(&tier, &death, now);
}

static enum tier_reach escalates(
                enum mr_role role, uint32_t lane, enum restart_cause cause, uint64_t now) {
        const struct tier_death death = {
                        .role = role, .lane = lane, .cause = cause, .order = ORDER_ESCALATE};

        return tier_died(&tier, &death, now);
}

/* ---- what stays with the process ------------------------------------------------------------- */

START_TEST(a_death_that_restarting_helps_stays_with_its_process) {
        static const enum restart_cause causes[] = {
                        CAUSE_PLANNED, CAUSE_OTHER, CAUSE_CRASH, CAUSE_WATCHDOG, CAUSE_EXIT};
        static const enum restart_order orders[] = {ORDER_START, ORDER_RETRY, ORDER_NEVER};

        for (size_t c = 0; c < sizeof(causes) / sizeof(causes[0]); c++)
                for (size_t o = 0; o < sizeof(orders) / sizeof(orders[0]); o++) {
                        const struct tier_death death = {.role = ROLE_POST,
                                        .lane = 1,
                                        .cause = causes[c],
                                        .order = orders[o]};

                        ck_assert_int_eq(tier_died(&tier, &death, T0 + c * S), TIER_PROCESS);
                }
        ck_assert_uint_eq(tier.reset_ns, 0);
}
END_TEST

START_TEST(telemetry_and_watch_never_cost_anybody_anything) {
        for (uint64_t i = 0; i < 10; i++) {
                ck_assert_int_eq(escalates(ROLE_TELEMETRY, TIER_NO_LANE, CAUSE_SHARED, T0 + i * S),
                                TIER_PROCESS);
                ck_assert_int_eq(escalates(ROLE_WATCH, TIER_NO_LANE, CAUSE_CRASH, T0 + i * S),
                                TIER_PROCESS);
        }
}
END_TEST

/* ---- what a lane pays for -------------------------------------------------------------------- */

START_TEST(what_restarting_does_not_help_resets_the_lane) {
        static const enum restart_cause causes[] = {CAUSE_SHARED, CAUSE_CRASH, CAUSE_EXIT};

        for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
                tier_init(&tier);
                ck_assert_int_eq(escalates(ROLE_RAG, 0, causes[i], T0), TIER_LANE);
                ck_assert_uint_eq(tier.reset_ns, T0);
        }
}
END_TEST

START_TEST(neighbours_that_crash_within_100_ms_reset_their_lane) {
        static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};

        for (enum mr_role role = ROLE_RAG; role < ROLE_STREAM; role++)
                for (int turn = 0; turn < 2; turn++) {
                        tier_init(&tier);
                        ck_assert_int_eq(crashes(role + (turn ? 1 : 0), 1, signals[role % 3], T0),
                                        TIER_PROCESS);
                        ck_assert_int_eq(crashes(role + (turn ? 0 : 1), 1, signals[turn],
                                                         T0 + 100 * MS),
                                        TIER_LANE);
                }
}
END_TEST

START_TEST(crashes_that_are_far_apart_are_two_accidents) {
        ck_assert_int_eq(crashes(ROLE_RAG, 0, SIGSEGV, T0), TIER_PROCESS);
        /* in time */
        ck_assert_int_eq(crashes(ROLE_ASSEMBLE, 0, SIGSEGV, T0 + 100 * MS + 1), TIER_PROCESS);
        /* in the pipeline, both ways */
        ck_assert_int_eq(crashes(ROLE_POST, 0, SIGSEGV, T0 + 150 * MS), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_RAG, 0, SIGSEGV, T0 + 400 * MS), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_INFERENCE, 0, SIGSEGV, T0 + 410 * MS), TIER_PROCESS);
        /* in another lane */
        ck_assert_int_eq(crashes(ROLE_ASSEMBLE, 1, SIGSEGV, T0 + 410 * MS), TIER_PROCESS);
        /* one and the same */
        ck_assert_int_eq(crashes(ROLE_STREAM, 1, SIGSEGV, T0 + S), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_STREAM, 1, SIGSEGV, T0 + S + MS), TIER_PROCESS);
}
END_TEST

START_TEST(only_crashes_of_its_own_doing_speak_of_a_neighbour) {
        struct tier_death killed = {.role = ROLE_ASSEMBLE,
                        .lane = 0,
                        .signal = SIGSEGV,
                        .cause = CAUSE_OTHER,
                        .order = ORDER_START};

        ck_assert_int_eq(crashes(ROLE_RAG, 0, SIGSEGV, T0), TIER_PROCESS);
        ck_assert_int_eq(tier_died(&tier, &killed, T0), TIER_PROCESS);
        killed.signal = SIGABRT;
        killed.cause = CAUSE_WATCHDOG;
        ck_assert_int_eq(tier_died(&tier, &killed, T0), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_ASSEMBLE, 0, SIGFPE, T0), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_ASSEMBLE, 0, SIGSYS, T0), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_GATEWAY, TIER_NO_LANE, SIGSEGV, T0), TIER_PROCESS);
}
END_TEST

START_TEST(a_gateway_that_names_a_lane_resets_that_lane) {
        ck_assert_int_eq(escalates(ROLE_GATEWAY, 1, CAUSE_SHARED, T0), TIER_LANE);
}
END_TEST

/* ---- what the daemon pays for ---------------------------------------------------------------- */

START_TEST(a_gateway_whose_trouble_is_no_lanes_ends_the_daemon) {
        ck_assert_int_eq(escalates(ROLE_GATEWAY, TIER_NO_LANE, CAUSE_SHARED, T0), TIER_DAEMON);
        ck_assert_int_eq(escalates(ROLE_GATEWAY, TIER_NO_LANE, CAUSE_CRASH, T0), TIER_DAEMON);
        /* it named one, and then died of something else */
        ck_assert_int_eq(escalates(ROLE_GATEWAY, 0, CAUSE_CRASH, T0), TIER_DAEMON);
        ck_assert_uint_eq(tier.reset_ns, 0);
}
END_TEST

START_TEST(two_resets_in_ten_minutes_end_the_daemon_whichever_lanes_they_are) {
        ck_assert_int_eq(escalates(ROLE_RAG, 0, CAUSE_SHARED, T0), TIER_LANE);
        ck_assert_int_eq(escalates(ROLE_POST, 1, CAUSE_SHARED, T0 + 600 * S - 1), TIER_DAEMON);
        tier_init(&tier);
        ck_assert_int_eq(escalates(ROLE_RAG, 0, CAUSE_SHARED, T0), TIER_LANE);
        ck_assert_int_eq(crashes(ROLE_RAG, 0, SIGBUS, T0 + S), TIER_PROCESS);
        ck_assert_int_eq(crashes(ROLE_ASSEMBLE, 0, SIGBUS, T0 + S), TIER_DAEMON);
}
END_TEST

START_TEST(resets_that_are_ten_minutes_apart_go_on_for_ever) {
        for (uint64_t i = 0; i < 50; i++)
                ck_assert_int_eq(escalates(ROLE_RAG, i % 3, CAUSE_SHARED, T0 + i * 600 * S),
                                TIER_LANE);
}
END_TEST

START_TEST(a_stage_that_never_comes_up_costs_its_lane_and_then_the_daemon) {
        const struct restart_policy policy = {.burst = 5,
                        .window_ns = 60 * S,
                        .retry_ns = RESTART_RETRY_NS,
                        .give_up_ns = RESTART_GIVE_UP_NS};
        enum tier_reach reach = TIER_PROCESS;
        uint64_t now = T0, reset = 0;
        struct restart r;

        restart_init(&r);
        while (reach != TIER_DAEMON) {
                enum restart_order order;

                restart_started(&r);
                order = restart_died(&r, &policy, CAUSE_EXIT, now, 0);
                reach = tier_died(&tier,
                                &(struct tier_death){.role = ROLE_STREAM,
                                                .lane = 0,
                                                .cause = CAUSE_EXIT,
                                                .order = order},
                                now);
                ck_assert_uint_lt(now, T0 + 2000 * S);
                if (reach == TIER_LANE) {
                        ck_assert_uint_eq(reset, 0);
                        reset = now;
                        restart_init(&r); /* as the lane's new memory has it */
                } else if (reach == TIER_PROCESS) {
                        now = r.at_ns;
                }
        }
        ck_assert_uint_ge(reset - T0, 300 * S);
        ck_assert_uint_le(reset - T0, 340 * S);
        ck_assert_uint_le(now - reset, 340 * S);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("tier");
        TCase *tc = tcase_create("tier");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tc, set_up, NULL);
        tcase_add_test(tc, a_death_that_restarting_helps_stays_with_its_process);
        tcase_add_test(tc, telemetry_and_watch_never_cost_anybody_anything);
        tcase_add_test(tc, what_restarting_does_not_help_resets_the_lane);
        tcase_add_test(tc, neighbours_that_crash_within_100_ms_reset_their_lane);
        tcase_add_test(tc, crashes_that_are_far_apart_are_two_accidents);
        tcase_add_test(tc, only_crashes_of_its_own_doing_speak_of_a_neighbour);
        tcase_add_test(tc, a_gateway_that_names_a_lane_resets_that_lane);
        tcase_add_test(tc, a_gateway_whose_trouble_is_no_lanes_ends_the_daemon);
        tcase_add_test(tc, two_resets_in_ten_minutes_end_the_daemon_whichever_lanes_they_are);
        tcase_add_test(tc, resets_that_are_ten_minutes_apart_go_on_for_ever);
        tcase_add_test(tc, a_stage_that_never_comes_up_costs_its_lane_and_then_the_daemon);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
