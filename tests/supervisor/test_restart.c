/* The restart policy against a clock that the tests move. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "supervisor/restart.h"

#define MS 1000000ull
#define S 1000000000ull
#define T0 (1000 * S)
#define MIDDLE 512u /* the random number that gives (nearly) no jitter */

static const struct restart_policy policy = {.burst = 5,
                .window_ns = 60 * S,
                .retry_ns = RESTART_RETRY_NS,
                .give_up_ns = RESTART_GIVE_UP_NS};

static uint64_t delay(const struct restart *r, uint64_t now) {
        return r->at_ns - now;
}

static void expect_about(uint64_t got, uint64_t wanted) {
        ck_assert_msg(got >= wanted - wanted / 100 && got <= wanted + wanted / 100,
                        "a delay of %llu ns, expected %llu", (unsigned long long)got,
                        (unsigned long long)wanted);
}

static void dies_after(struct restart *r, enum restart_cause cause, uint64_t from,
                uint64_t ready_ns, enum restart_order wanted) {
        restart_started(r);
        restart_ready(r, from);
        ck_assert_int_eq(restart_died(r, &policy, cause, from + ready_ns, MIDDLE), wanted);
}

/* ---- what a death was ------------------------------------------------------------------------ */

START_TEST(a_death_is_classified_by_who_caused_it) {
        static const struct {
                struct restart_death death;
                enum restart_cause cause;
        } rows[] = {
                        {{.exited = true, .status = 0, .asked = true}, CAUSE_PLANNED},
                        {{.exited = true, .status = 0}, CAUSE_EXIT},
                        {{.exited = true, .status = 1, .asked = true}, CAUSE_EXIT},
                        {{.exited = true, .status = 1}, CAUSE_EXIT},
                        {{.exited = true, .status = 70}, CAUSE_PERMANENT},
                        {{.exited = true, .status = 70, .asked = true}, CAUSE_PERMANENT},
                        {{.exited = true, .status = 71}, CAUSE_SHARED},
                        {{.exited = true, .status = 72}, CAUSE_RENEW},
                        {{.exited = true, .status = 72, .asked = true}, CAUSE_PLANNED},
                        {{.status = SIGKILL, .pid = 9}, CAUSE_OTHER},
                        {{.status = SIGKILL, .pid = 9, .killed_by_us = true}, CAUSE_WATCHDOG},
                        {{.status = SIGABRT, .pid = 9, .killed_by_us = true}, CAUSE_WATCHDOG},
                        {{.status = SIGKILL, .pid = 9, .killed_by_us = true, .asked = true},
                                        CAUSE_PLANNED},
                        {{.status = SIGSEGV, .pid = 9}, CAUSE_CRASH},
                        /* a fault: si_code > 0, si_pid is no sender */
                        {{.status = SIGSEGV, .pid = 9, .crash_signal = SIGSEGV, .crash_code = 1},
                                        CAUSE_CRASH},
                        /* kill -SEGV from process 5: SI_USER */
                        {{.status = SIGSEGV, .pid = 9, .crash_signal = SIGSEGV, .crash_pid = 5},
                                        CAUSE_OTHER},
                        /* abort(): SI_TKILL from itself */
                        {{.status = SIGABRT,
                                         .pid = 9,
                                         .crash_signal = SIGABRT,
                                         .crash_code = (uint64_t)-6,
                                         .crash_pid = 9},
                                        CAUSE_CRASH},
                        /* last words of another signal say nothing about this one */
                        {{.status = SIGABRT, .pid = 9, .crash_signal = SIGSEGV, .crash_pid = 5},
                                        CAUSE_CRASH},
                        {{.status = SIGSYS, .pid = 9}, CAUSE_CRASH},
                        /* it could not tell yet, whoever sent it */
                        {{.status = SIGABRT, .pid = 9, .early = true}, CAUSE_EARLY},
                        {{.status = SIGKILL, .pid = 9, .early = true}, CAUSE_OTHER},
                        {{.exited = true, .status = 1, .early = true}, CAUSE_EXIT},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                ck_assert_msg(restart_classify(&rows[i].death) == rows[i].cause, "row %zu: %s", i,
                                restart_cause_name(restart_classify(&rows[i].death)));
}
END_TEST

/* ---- delays ---------------------------------------------------------------------------------- */

START_TEST(who_was_ready_for_five_seconds_comes_back_at_once) {
        struct restart r;

        restart_init(&r);
        dies_after(&r, CAUSE_CRASH, T0, 5 * S, ORDER_START);
        ck_assert_uint_eq(delay(&r, T0 + 5 * S), 0);
        dies_after(&r, CAUSE_CRASH, T0 + 10 * S, 5 * S - 1, ORDER_START);
        expect_about(delay(&r, T0 + 15 * S - 1), 10 * MS);
}
END_TEST

START_TEST(the_delay_doubles_up_to_five_seconds) {
        const struct restart_policy patient = {.burst = 999,
                        .window_ns = 60 * S,
                        .retry_ns = RESTART_RETRY_NS,
                        .give_up_ns = RESTART_GIVE_UP_NS};
        static const uint64_t wanted_ms[] = {
                        10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000};
        struct restart r;

        restart_init(&r);
        for (size_t i = 0; i < sizeof(wanted_ms) / sizeof(wanted_ms[0]); i++) {
                restart_started(&r);
                ck_assert_int_eq(restart_died(&r, &patient, CAUSE_EXIT, T0 + i * S, MIDDLE),
                                ORDER_START);
                expect_about(delay(&r, T0 + i * S), wanted_ms[i] * MS);
        }
}
END_TEST

START_TEST(jitter_stays_within_a_fifth) {
        struct restart r;

        for (uint32_t jitter = 0; jitter < 5000; jitter += 7) {
                restart_init(&r);
                restart_started(&r);
                restart_died(&r, &policy, CAUSE_EXIT, T0, jitter);
                ck_assert_uint_ge(delay(&r, T0), 8 * MS);
                ck_assert_uint_le(delay(&r, T0), 12 * MS);
        }
}
END_TEST

START_TEST(a_minute_of_being_ready_forgives_the_doublings) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 3; i++) {
                restart_started(&r);
                restart_died(&r, &policy, CAUSE_EXIT, T0 + i * S, MIDDLE);
        }
        dies_after(&r, CAUSE_CRASH, T0 + 10 * S, 60 * S, ORDER_START);
        restart_started(&r);
        restart_died(&r, &policy, CAUSE_EXIT, T0 + 71 * S, MIDDLE);
        expect_about(delay(&r, T0 + 71 * S), 10 * MS);
}
END_TEST

/* ---- intensity ------------------------------------------------------------------------------- */

START_TEST(the_sixth_death_in_a_minute_brings_it_down_for_thirty_seconds) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 5; i++)
                dies_after(&r, CAUSE_CRASH, T0 + i * 8 * S, 6 * S, ORDER_START);
        dies_after(&r, CAUSE_CRASH, T0 + 40 * S, 6 * S, ORDER_RETRY);
        ck_assert_int_eq(r.state, RESTART_DOWN);
        ck_assert_uint_eq(delay(&r, T0 + 46 * S), 30 * S);
}
END_TEST

START_TEST(deaths_outside_the_window_do_not_count) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 40; i++)
                dies_after(&r, CAUSE_CRASH, T0 + i * 13 * S, 6 * S, ORDER_START);
}
END_TEST

START_TEST(deaths_that_others_cause_are_not_counted_and_not_delayed) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 1000; i++) {
                dies_after(&r, CAUSE_OTHER, T0 + i * 10 * MS, MS, ORDER_START);
                ck_assert_uint_eq(delay(&r, T0 + i * 10 * MS + MS), 0);
                dies_after(&r, CAUSE_PLANNED, T0 + i * 10 * MS + 2 * MS, MS, ORDER_START);
        }
        ck_assert_uint_eq(r.n_deaths, 0);
        dies_after(&r, CAUSE_CRASH, T0 + 20 * S, MS, ORDER_START);
        expect_about(delay(&r, T0 + 20 * S + MS), 10 * MS);
}
END_TEST

START_TEST(renewals_are_no_deaths_and_come_once_a_second) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 100; i++) {
                dies_after(&r, CAUSE_RENEW, T0 + i * S, 0, ORDER_START);
                ck_assert_uint_eq(delay(&r, T0 + i * S), 0);
        }
        dies_after(&r, CAUSE_RENEW, T0 + 99 * S + 10 * MS, 0, ORDER_START);
        ck_assert_uint_eq(r.at_ns, T0 + 100 * S);
        dies_after(&r, CAUSE_RENEW, T0 + 100 * S, 1 * MS, ORDER_START);
        ck_assert_uint_eq(r.at_ns, T0 + 101 * S);
}
END_TEST

START_TEST(a_failed_start_counts_like_a_death) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 6; i++) {
                restart_started(&r);
                ck_assert_int_eq(restart_died(&r, &policy, CAUSE_EXIT, T0 + i * S, MIDDLE),
                                i < 5 ? ORDER_START : ORDER_RETRY);
        }
}
END_TEST

START_TEST(the_watchdogs_victims_are_counted) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 5; i++)
                dies_after(&r, CAUSE_WATCHDOG, T0 + i * 7 * S, 6 * S, ORDER_START);
        dies_after(&r, CAUSE_WATCHDOG, T0 + 42 * S, 6 * S, ORDER_RETRY);
}
END_TEST

static void dies_of_one_record(struct restart *r, uint64_t from, enum restart_order last) {
        for (uint64_t i = 0; i < 3; i++)
                dies_after(r, CAUSE_CRASH, from + i * S, MS, i < 2 ? ORDER_START : last);
}

START_TEST(deaths_that_end_in_a_dead_letter_are_given_back) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 5; i++) {
                dies_of_one_record(&r, T0 + i * 8 * S, ORDER_START);
                expect_about(delay(&r, T0 + (i * 8 + 2) * S + MS), 40 * MS);
                ck_assert(restart_given_back(&r, &policy, 3, T0 + (i * 8 + 3) * S));
                ck_assert_uint_eq(r.n_deaths, 0);
        }
}
END_TEST

START_TEST(deaths_of_its_own_still_count_beside_dead_letters) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 3; i++)
                dies_after(&r, CAUSE_EXIT, T0 + i * S, MS, ORDER_START);
        dies_of_one_record(&r, T0 + 4 * S, ORDER_RETRY);
        ck_assert(restart_given_back(&r, &policy, 3, T0 + 7 * S));
        ck_assert_uint_eq(r.n_deaths, 3);
        for (uint64_t i = 0; i < 3; i++)
                dies_after(&r, CAUSE_EXIT, T0 + (8 + i) * S, MS, i < 2 ? ORDER_START : ORDER_RETRY);
}
END_TEST

START_TEST(who_dies_of_ever_new_records_goes_down) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 5; i++)
                dies_after(&r, CAUSE_CRASH, T0 + i * S, MS, ORDER_START);
        dies_after(&r, CAUSE_CRASH, T0 + 5 * S, MS, ORDER_RETRY);
}
END_TEST

START_TEST(who_makes_a_dead_letter_of_every_record_goes_down_too) {
        struct restart r;
        uint64_t now = T0;

        restart_init(&r);
        for (int letter = 0; letter < 5; letter++, now += 4 * S) {
                dies_of_one_record(&r, now, ORDER_START);
                ck_assert(restart_given_back(&r, &policy, 3, now + 3 * S));
        }
        dies_of_one_record(&r, now, ORDER_START);
        ck_assert(!restart_given_back(&r, &policy, 3, now + 3 * S));
        dies_of_one_record(&r, now + 4 * S, ORDER_RETRY);
        /* a window later it has its letters again */
        ck_assert(restart_given_back(&r, &policy, 3, T0 + 3 * S + policy.window_ns));
}
END_TEST

START_TEST(more_deaths_than_there_were_are_not_given_back) {
        struct restart r;

        restart_init(&r);
        dies_after(&r, CAUSE_CRASH, T0, MS, ORDER_START);
        ck_assert(restart_given_back(&r, &policy, 255, T0 + S));
        ck_assert_uint_eq(r.n_deaths, 0);
        ck_assert_uint_eq(r.k, 0);
        ck_assert_uint_eq(r.next_death, 0);
}
END_TEST

/* ---- when restarting does not help ----------------------------------------------------------- */

START_TEST(exit_70_is_for_ever) {
        struct restart r;

        restart_init(&r);
        dies_after(&r, CAUSE_PERMANENT, T0, 100 * S, ORDER_NEVER);
        ck_assert_int_eq(r.state, RESTART_BARRED);
}
END_TEST

START_TEST(exit_71_escalates) {
        struct restart r;

        restart_init(&r);
        dies_after(&r, CAUSE_SHARED, T0, 100 * S, ORDER_ESCALATE);
}
END_TEST

START_TEST(three_crashes_in_recovery_escalate_and_being_ready_starts_anew) {
        struct restart r;

        restart_init(&r);
        for (int round = 0; round < 2; round++) {
                for (uint64_t i = 0; i < 2; i++) {
                        restart_started(&r);
                        ck_assert_int_eq(restart_died(&r, &policy, CAUSE_CRASH, T0 + i, MIDDLE),
                                        ORDER_START);
                }
                if (round == 0)
                        dies_after(&r, CAUSE_OTHER, T0 + 2, S, ORDER_START);
        }
        restart_started(&r);
        ck_assert_int_eq(restart_died(&r, &policy, CAUSE_CRASH, T0 + 9, MIDDLE), ORDER_ESCALATE);
}
END_TEST

START_TEST(five_minutes_of_being_down_escalate) {
        struct restart r;
        uint64_t now = T0, down = 0;
        enum restart_order order = ORDER_START;

        restart_init(&r);
        while (order != ORDER_ESCALATE) {
                restart_started(&r);
                order = restart_died(&r, &policy, CAUSE_EXIT, now, MIDDLE);
                if (order == ORDER_RETRY && down == 0)
                        down = now;
                ck_assert_uint_lt(now, T0 + 1000 * S);
                if (order != ORDER_ESCALATE)
                        now = r.at_ns;
        }
        ck_assert_uint_ne(down, 0);
        ck_assert_uint_ge(now - down, 300 * S);
        ck_assert_uint_le(now - down, 340 * S);
}
END_TEST

START_TEST(how_often_and_how_long_it_is_tried_stands_in_the_policy) {
        const struct restart_policy hasty = {.burst = 0,
                        .window_ns = 60 * S,
                        .retry_ns = 20 * MS,
                        .give_up_ns = 50 * MS};
        struct restart r;

        restart_init(&r);
        restart_started(&r);
        ck_assert_int_eq(restart_died(&r, &hasty, CAUSE_EXIT, T0, MIDDLE), ORDER_RETRY);
        ck_assert_uint_eq(delay(&r, T0), 20 * MS);
        restart_started(&r);
        ck_assert_int_eq(restart_died(&r, &hasty, CAUSE_EXIT, T0 + 49 * MS, MIDDLE), ORDER_RETRY);
        restart_started(&r);
        ck_assert_int_eq(
                        restart_died(&r, &hasty, CAUSE_EXIT, T0 + 50 * MS, MIDDLE), ORDER_ESCALATE);
}
END_TEST

START_TEST(what_nobody_needs_stays_down_instead) {
        struct restart r;

        restart_init(&r);
        for (uint64_t round = 0; round < 20; round++) {
                uint64_t now = T0 + round * 100 * S;

                dies_after(&r, CAUSE_SHARED, now, S, ORDER_ESCALATE);
                ck_assert_int_eq(restart_stay_down(&r, &policy, now + S), ORDER_RETRY);
                ck_assert_int_eq(r.state, RESTART_DOWN);
                ck_assert_uint_eq(delay(&r, now + S), 30 * S);
        }
        /* and its crashes in recovery are counted anew */
        restart_started(&r);
        ck_assert_int_eq(restart_died(&r, &policy, CAUSE_CRASH, T0 + 3000 * S, MIDDLE),
                        ORDER_START);
}
END_TEST

START_TEST(a_healthy_time_ends_being_down) {
        struct restart r;

        restart_init(&r);
        for (uint64_t i = 0; i < 6; i++)
                dies_after(&r, CAUSE_EXIT, T0 + i * S, MS, i < 5 ? ORDER_START : ORDER_RETRY);
        /* 400 s later it is down again, but not since then */
        for (uint64_t i = 0; i < 6; i++)
                dies_after(&r, CAUSE_EXIT, T0 + 400 * S + i * 6 * S, 5 * S,
                                i < 5 ? ORDER_START : ORDER_RETRY);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("restart");
        TCase *tc = tcase_create("policy");
        SRunner *runner;
        int failed;

        tcase_add_test(tc, a_death_is_classified_by_who_caused_it);
        tcase_add_test(tc, who_was_ready_for_five_seconds_comes_back_at_once);
        tcase_add_test(tc, the_delay_doubles_up_to_five_seconds);
        tcase_add_test(tc, jitter_stays_within_a_fifth);
        tcase_add_test(tc, a_minute_of_being_ready_forgives_the_doublings);
        tcase_add_test(tc, the_sixth_death_in_a_minute_brings_it_down_for_thirty_seconds);
        tcase_add_test(tc, deaths_outside_the_window_do_not_count);
        tcase_add_test(tc, deaths_that_others_cause_are_not_counted_and_not_delayed);
        tcase_add_test(tc, renewals_are_no_deaths_and_come_once_a_second);
        tcase_add_test(tc, a_failed_start_counts_like_a_death);
        tcase_add_test(tc, the_watchdogs_victims_are_counted);
        tcase_add_test(tc, deaths_that_end_in_a_dead_letter_are_given_back);
        tcase_add_test(tc, deaths_of_its_own_still_count_beside_dead_letters);
        tcase_add_test(tc, who_dies_of_ever_new_records_goes_down);
        tcase_add_test(tc, who_makes_a_dead_letter_of_every_record_goes_down_too);
        tcase_add_test(tc, more_deaths_than_there_were_are_not_given_back);
        tcase_add_test(tc, exit_70_is_for_ever);
        tcase_add_test(tc, exit_71_escalates);
        tcase_add_test(tc, three_crashes_in_recovery_escalate_and_being_ready_starts_anew);
        tcase_add_test(tc, five_minutes_of_being_down_escalate);
        tcase_add_test(tc, how_often_and_how_long_it_is_tried_stands_in_the_policy);
        tcase_add_test(tc, what_nobody_needs_stays_down_instead);
        tcase_add_test(tc, a_healthy_time_ends_being_down);
        suite_add_tcase(suite, tc);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
