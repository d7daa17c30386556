#include <check.h>
#include <errno.h>
#include <poll.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/common/loop.h"

#define PATIENCE_NS (20 * NS_PER_S)

static struct loop *loop;

static void setup(void) {
        ck_assert_int_eq(loop_new(&loop, 16), 0);
}

static void teardown(void) {
        loop = loop_free(loop);
}

/* What an operation's fn saw. */
struct seen {
        struct loop_op op;
        int n, res, last_flags;
};

static void on_op(struct loop_op *op, int res, uint32_t flags) {
        struct seen *seen = op->owner;
        seen->n++;
        seen->res = res;
        seen->last_flags = (int)flags;
}

static struct seen *seen_new(void) {
        struct seen *seen = calloc(1, sizeof(*seen));
        seen->op = (struct loop_op){.fn = on_op, .owner = seen};
        return seen;
}

static void turn_until(struct seen *seen, int n) {
        uint64_t deadline = clock_now_ns() + PATIENCE_NS;
        while (seen->n < n) {
                ck_assert_int_ge(loop_turn(loop, deadline), 0);
                ck_assert_uint_lt(clock_now_ns(), deadline);
        }
}

/* ---- refusals ---- */

static int new_under_filter(int error) {
        pid_t pid = fork();
        if (pid == 0) {
                struct loop *forbidden = NULL;
                scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
                seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)error), SCMP_SYS(io_uring_setup),
                                0);
                if (seccomp_load(filter) != 0)
                        _exit(99);
                int r = loop_new(&forbidden, 16);
                _exit(forbidden ? 98 : r < 0 ? 97 : r);
        }
        int status = 0;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFEXITED(status));
        return WEXITSTATUS(status);
}

START_TEST(a_kernel_that_forbids_io_uring_is_told_apart) {
        ck_assert_int_eq(new_under_filter(EPERM), LOOP_E_FORBIDDEN);
        ck_assert_int_eq(new_under_filter(EACCES), LOOP_E_FORBIDDEN);
        ck_assert_int_eq(new_under_filter(ENOSYS), LOOP_E_FORBIDDEN);
        ck_assert_int_eq(new_under_filter(ENOMEM), 97);
        ck_assert_ptr_nonnull(strstr(loop_forbidden_remedy(), "kernel.io_uring_disabled"));
        ck_assert_ptr_null(strchr(loop_forbidden_remedy(), '\n'));
}
END_TEST

START_TEST(a_bad_descriptor_is_an_error_for_its_operation_only) {
        struct seen *bad = seen_new();
        char byte;
        loop_recv(loop, &bad->op, 9999, &byte, 1);
        turn_until(bad, 1);
        ck_assert_int_eq(bad->res, -EBADF);
        ck_assert_uint_eq(bad->op.pending, 0);
        free(bad);
}
END_TEST

/* ---- timers ---- */

static int order[256], n_order;

struct numbered {
        struct loop_timer timer;
        int number;
};

static void on_timer(struct loop_timer *timer) {
        ck_assert_uint_eq(timer->heap, 0);
        order[n_order++] = ((struct numbered *)timer->owner)->number;
}

START_TEST(timers_run_in_the_order_of_their_times) {
        struct numbered timers[50];
        uint64_t now = clock_now_ns();

        n_order = 0;
        for (int i = 0; i < 50; i++) {
                timers[i] = (struct numbered){.timer = {.fn = on_timer}, .number = (i * 37) % 50};
                timers[i].timer.owner = &timers[i];
                loop_timer_set(loop, &timers[i].timer, now + (uint64_t)timers[i].number * 1000);
        }
        while (n_order < 50)
                ck_assert_int_ge(loop_turn(loop, UINT64_MAX), 0);
        for (int i = 0; i < 50; i++)
                ck_assert_int_eq(order[i], i);
}
END_TEST

START_TEST(timers_that_were_cleared_or_moved_do_not_run_at_their_old_times) {
        struct numbered timers[20];
        uint64_t now = clock_now_ns();

        n_order = 0;
        for (int i = 0; i < 20; i++) {
                timers[i] = (struct numbered){.timer = {.fn = on_timer}, .number = i};
                timers[i].timer.owner = &timers[i];
                loop_timer_set(loop, &timers[i].timer, now + 1000000 + (uint64_t)i);
        }
        for (int i = 0; i < 20; i += 2)
                loop_timer_clear(loop, &timers[i].timer);
        loop_timer_clear(loop, &timers[0].timer);
        loop_timer_set(loop, &timers[19].timer, now);
        loop_timer_set(loop, &timers[1].timer, now + 2000000);
        while (n_order < 10)
                ck_assert_int_ge(loop_turn(loop, UINT64_MAX), 0);
        const int expected[10] = {19, 3, 5, 7, 9, 11, 13, 15, 17, 1};
        ck_assert_mem_eq(order, expected, sizeof(expected));
}
END_TEST

START_TEST(timers_keep_their_order_through_any_changes) {
        enum { N = 200 };
        static struct numbered timers[N];
        uint32_t random = 12345;

        for (int i = 0; i < N; i++)
                timers[i] = (struct numbered){.timer = {.fn = on_timer, .owner = &timers[i]}};
        for (int round = 0; round < 50; round++) {
                for (int change = 0; change < 500; change++) {
                        random = random * 1664525 + 1013904223;
                        struct numbered *one = &timers[(random >> 8) % N];
                        one->number = (int)(random >> 16) % 1000;
                        if (random & 1u << 30)
                                loop_timer_clear(loop, &one->timer);
                        else
                                loop_timer_set(loop, &one->timer, 1 + (uint64_t)one->number);
                }
                int n_set = 0;
                for (int i = 0; i < N; i++)
                        n_set += timers[i].timer.heap != 0;
                n_order = 0;
                ck_assert_int_eq(loop_turn(loop, 0), n_set);
                ck_assert_int_eq(n_order, n_set);
                for (int i = 1; i < n_order; i++)
                        ck_assert_int_ge(order[i], order[i - 1]);
        }
}
END_TEST

static void on_again(struct loop_timer *timer) {
        n_order++;
        loop_timer_set(loop, timer, loop_now_ns(loop));
}

START_TEST(a_timer_that_sets_itself_for_now_does_not_hold_the_turn) {
        struct loop_timer timer = {.fn = on_again};
        n_order = 0;
        loop_timer_set(loop, &timer, 1);
        int n = loop_turn(loop, 0);
        ck_assert_int_ge(n, 1);
        ck_assert_int_le(n, LOOP_BATCH);
        loop_timer_clear(loop, &timer);
}
END_TEST

START_TEST(more_timers_than_there_was_room_for_all_run) {
        static struct numbered timers[1000];
        int n = 0;
        for (int i = 0; i < 1000; i++) {
                timers[i].timer = (struct loop_timer){.fn = on_timer, .owner = &timers[i]};
                loop_timer_set(loop, &timers[i].timer, (uint64_t)(1000 - i));
        }
        for (int i = 0; i < 1000; i++)
                loop_timer_clear(loop, &timers[i].timer);
        ck_assert(!loop_ready(loop));
        struct numbered last = {.timer = {.fn = on_timer, .owner = &last}, .number = 1};
        n_order = 0;
        loop_timer_set(loop, &last.timer, 5);
        ck_assert(loop_ready(loop));
        while (n_order == 0 && n++ < 10)
                ck_assert_int_ge(loop_turn(loop, 0), 0);
        ck_assert_int_eq(n_order, 1);
}
END_TEST

/* ---- turns ---- */

START_TEST(a_turn_without_work_returns_at_its_time) {
        uint64_t until = clock_now_ns() + 2 * NS_PER_MS;
        ck_assert_int_eq(loop_turn(loop, until), 0);
        ck_assert_uint_ge(loop_now_ns(loop), until);
        ck_assert_int_eq(loop_turn(loop, 0), 0);
}
END_TEST

START_TEST(a_sleep_goes_on_when_the_limit_of_an_earlier_one_passes) {
        struct seen *bell = seen_new();
        int event = eventfd(1, EFD_NONBLOCK);

        loop_poll_edge(loop, &bell->op, event, POLLIN);
        /* Ended by the bell: its limit stays behind in the ring. */
        ck_assert_int_eq(loop_turn(loop, clock_now_ns() + 10 * NS_PER_MS), 1);
        for (int ms = 30; ms <= 240; ms *= 2) { /* limits of each kind */
                uint64_t until = clock_now_ns() + (uint64_t)ms * NS_PER_MS;
                ck_assert_int_eq(loop_turn(loop, until), 0);
                ck_assert_uint_ge(loop_now_ns(loop), until);
        }
        ck_assert_int_eq(bell->n, 1);
        close(event);
        loop_cancel(loop, &bell->op);
        turn_until(bell, 2);
        free(bell);
}
END_TEST

START_TEST(a_bell_that_is_never_read_wakes_at_each_ring) {
        struct seen *bell = seen_new();
        int event = eventfd(0, EFD_NONBLOCK);

        loop_poll_edge(loop, &bell->op, event, POLLIN);
        ck_assert_int_eq(loop_turn(loop, clock_now_ns() + NS_PER_MS), 0);
        for (int i = 1; i <= 5; i++) {
                ck_assert_int_eq(eventfd_write(event, 1), 0);
                turn_until(bell, i);
                ck_assert_int_eq(bell->n, i);
                ck_assert(bell->last_flags & LOOP_MORE);
                ck_assert_uint_eq(bell->op.pending, 1);
                ck_assert_int_eq(loop_turn(loop, clock_now_ns() + NS_PER_MS), 0);
        }
        close(event);
        loop_cancel(loop, &bell->op);
        turn_until(bell, 6);
        free(bell);
}
END_TEST

START_TEST(a_bell_is_rung_by_the_turn_that_sleeps_and_its_own_end_wakes_nobody) {
        struct seen *bell = seen_new();
        int event = eventfd(0, EFD_NONBLOCK), full = eventfd(0, EFD_NONBLOCK);
        eventfd_t n;

        loop_ring(loop, event);
        ck_assert_int_eq(eventfd_read(event, &n), -1);
        uint64_t until = clock_now_ns() + NS_PER_MS;
        ck_assert_int_eq(loop_turn(loop, until), 0);
        ck_assert_uint_ge(clock_now_ns(), until);
        ck_assert_int_eq(eventfd_read(event, &n), 0);
        ck_assert_uint_eq(n, 1);
        /* Rung so often that it takes no more: it is signalled already, and nothing breaks. */
        ck_assert_int_eq(eventfd_write(full, UINT64_MAX - 1), 0);
        loop_poll_edge(loop, &bell->op, event, POLLIN);
        loop_ring(loop, full);
        loop_ring(loop, event);
        turn_until(bell, 1);
        close(event);
        close(full);
        loop_cancel(loop, &bell->op);
        turn_until(bell, 2);
        free(bell);
}
END_TEST

START_TEST(what_is_there_when_a_poll_is_armed_is_told) {
        struct seen *once = seen_new(), *many = seen_new();
        int event = eventfd(1, EFD_NONBLOCK);

        loop_poll(loop, &once->op, event, POLLIN);
        loop_poll_many(loop, &many->op, event, POLLIN);
        turn_until(once, 1);
        turn_until(many, 1);
        ck_assert_int_eq(once->res & POLLIN, POLLIN);
        ck_assert_uint_eq(once->op.pending, 0);
        ck_assert_uint_eq(many->op.pending, 1);
        loop_cancel(loop, &once->op); /* not pending: nothing happens */
        loop_cancel(loop, &many->op);
        turn_until(many, 2);
        ck_assert_int_eq(many->res, -ECANCELED);
        ck_assert_int_eq(once->n, 1);
        close(event);
        free(once);
        free(many);
}
END_TEST

START_TEST(a_cancelled_operation_gets_its_last_completion) {
        struct seen *seen = seen_new();
        int pair[2];
        char buf[8];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        loop_recv(loop, &seen->op, pair[0], buf, sizeof(buf));
        loop_cancel(loop, &seen->op); /* in the same turn as the operation itself */
        turn_until(seen, 1);
        ck_assert_int_eq(seen->res, -ECANCELED);
        ck_assert_uint_eq(seen->op.pending, 0);
        loop_recv(loop, &seen->op, pair[0], buf, sizeof(buf));
        ck_assert_int_ge(loop_turn(loop, 0), 0);
        loop_cancel(loop, &seen->op);
        turn_until(seen, 2);
        ck_assert_int_eq(seen->res, -ECANCELED);
        close(pair[0]);
        close(pair[1]);
        free(seen);
}
END_TEST

START_TEST(more_operations_than_the_queue_holds_are_submitted) {
        enum { N = 200 };
        struct seen *polls[N];
        int event = eventfd(1, EFD_NONBLOCK);

        for (int i = 0; i < N; i++) {
                polls[i] = seen_new();
                loop_poll(loop, &polls[i]->op, event, POLLIN);
        }
        for (int i = 0; i < N; i++) {
                turn_until(polls[i], 1);
                ck_assert_int_eq(polls[i]->n, 1);
                free(polls[i]);
        }
        close(event);
}
END_TEST

static int listen_here(struct sockaddr_un *address) {
        char dir[] = "/tmp/millrace-test-XXXXXX";
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_ptr_nonnull(mkdtemp(dir));
        *address = (struct sockaddr_un){.sun_family = AF_UNIX};
        snprintf(address->sun_path, sizeof(address->sun_path), "%s/s", dir);
        ck_assert_int_eq(bind(listener, (const struct sockaddr *)address, sizeof(*address)), 0);
        ck_assert_int_eq(listen(listener, 16), 0);
        return listener;
}

START_TEST(connections_are_accepted_and_carry_bytes_both_ways) {
        struct sockaddr_un address;
        struct seen *accepted = seen_new(), *received = seen_new(), *sent = seen_new();
        char buf[8] = "";
        int listener = listen_here(&address);

        for (int i = 1; i <= 3; i++) {
                int client = socket(AF_UNIX, SOCK_STREAM, 0);
                loop_accept(loop, &accepted->op, listener);
                ck_assert_int_eq(loop_turn(loop, 0), 0);
                ck_assert_int_eq(
                                connect(client, (const struct sockaddr *)&address, sizeof(address)),
                                0);
                turn_until(accepted, i);
                int served = accepted->res;
                ck_assert_int_ge(served, 0);

                loop_recv(loop, &received->op, served, buf, sizeof(buf));
                ck_assert_int_ge(loop_turn(loop, 0), 0);
                ck_assert_int_eq(write(client, "ping", 4), 4);
                turn_until(received, 2 * i - 1);
                ck_assert_int_eq(received->res, 4);
                ck_assert_mem_eq(buf, "ping", 4);
                loop_send(loop, &sent->op, served, "pong", 4);
                turn_until(sent, i);
                ck_assert_int_eq(sent->res, 4);
                ck_assert_int_eq(read(client, buf, sizeof(buf)), 4);
                ck_assert_mem_eq(buf, "pong", 4);

                loop_recv(loop, &received->op, served, buf, sizeof(buf));
                close(client);
                turn_until(received, 2 * i);
                ck_assert_int_eq(received->res, 0);
                close(served);
        }
        loop_accept(loop, &accepted->op, listener);
        ck_assert_int_eq(loop_turn(loop, 0), 0);
        loop_cancel(loop, &accepted->op);
        turn_until(accepted, 4);
        ck_assert_int_eq(accepted->res, -ECANCELED);
        close(listener);
        unlink(address.sun_path);
        *strrchr(address.sun_path, '/') = '\0';
        rmdir(address.sun_path);
        free(accepted);
        free(received);
        free(sent);
}
END_TEST

START_TEST(who_wait_at_one_listener_take_turns) {
        struct sockaddr_un address;
        struct seen *seen[2] = {seen_new(), seen_new()};
        struct loop *loops[2] = {loop, NULL};
        int listener = listen_here(&address), clients[4];

        ck_assert_int_eq(loop_new(&loops[1], 8), 0);
        for (int i = 0; i < 2; i++) {
                loop_accept(loops[i], &seen[i]->op, listener);
                ck_assert_int_eq(loop_turn(loops[i], 0), 0);
        }
        for (int i = 0; i < 4; i++) {
                int k = i % 2;
                clients[i] = socket(AF_UNIX, SOCK_STREAM, 0);
                ck_assert_int_eq(connect(clients[i], (const struct sockaddr *)&address,
                                                 sizeof(address)),
                                0);
                for (int turns = 0; turns < 1000 && seen[k]->n == i / 2; turns++)
                        ck_assert_int_ge(loop_turn(loops[k], loop_now_ns(loops[k]) + 1000000), 0);
                ck_assert_int_eq(seen[k]->n, i / 2 + 1);
                close(seen[k]->res);
                loop_accept(loops[k], &seen[k]->op, listener);
                ck_assert_int_eq(loop_turn(loops[k], 0), 0);
        }
        for (int i = 0; i < 4; i++)
                close(clients[i]);
        loop_free(loops[1]);
        close(listener);
        unlink(address.sun_path);
        *strrchr(address.sun_path, '/') = '\0';
        rmdir(address.sun_path);
        loop_cancel(loop, &seen[0]->op);
        turn_until(seen[0], 3);
        free(seen[0]);
        free(seen[1]);
}
END_TEST

START_TEST(a_message_with_a_descriptor_can_be_received) {
        struct seen *seen = seen_new();
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec part = {&byte, 1};
        struct msghdr msg = {.msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof(control)};
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        loop_recvmsg(loop, &seen->op, pair[0], &msg, MSG_CMSG_CLOEXEC);
        ck_assert_int_ge(loop_turn(loop, 0), 0);
        ck_assert_int_eq(write(pair[1], "x", 1), 1);
        turn_until(seen, 1);
        ck_assert_int_eq(seen->res, 1);
        ck_assert_int_eq(byte, 'x');
        close(pair[0]);
        close(pair[1]);
        free(seen);
}
END_TEST

START_TEST(a_busy_turn_makes_no_system_call) {
        struct seen *bell = seen_new();
        int event = eventfd(0, EFD_NONBLOCK);

        loop_poll_edge(loop, &bell->op, event, POLLIN);
        ck_assert_int_ge(loop_turn(loop, 0), 0);
        pid_t pid = fork(); /* the child's ring is its parent's: only a filter that kills is watched
                             */
        if (pid == 0) {
                scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
                seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(io_uring_enter), 0);
                if (seccomp_load(filter) != 0)
                        _exit(99);
                for (int i = 0; i < 100; i++)
                        if (loop_turn(loop, 0) != 0)
                                _exit(98);
                _exit(0);
        }
        int status = 0;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        close(event);
        free(bell);
}
END_TEST

int main(void) {
        Suite *suite = suite_create("loop");
        TCase *tcase = tcase_create("loop");
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, a_kernel_that_forbids_io_uring_is_told_apart);
        tcase_add_test(tcase, a_bad_descriptor_is_an_error_for_its_operation_only);
        tcase_add_test(tcase, timers_run_in_the_order_of_their_times);
        tcase_add_test(tcase, timers_that_were_cleared_or_moved_do_not_run_at_their_old_times);
        tcase_add_test(tcase, timers_keep_their_order_through_any_changes);
        tcase_add_test(tcase, a_timer_that_sets_itself_for_now_does_not_hold_the_turn);
        tcase_add_test(tcase, more_timers_than_there_was_room_for_all_run);
        tcase_add_test(tcase, a_turn_without_work_returns_at_its_time);
        tcase_add_test(tcase, a_sleep_goes_on_when_the_limit_of_an_earlier_one_passes);
        tcase_add_test(tcase, a_bell_that_is_never_read_wakes_at_each_ring);
        tcase_add_test(tcase, a_bell_is_rung_by_the_turn_that_sleeps_and_its_own_end_wakes_nobody);
        tcase_add_test(tcase, what_is_there_when_a_poll_is_armed_is_told);
        tcase_add_test(tcase, a_cancelled_operation_gets_its_last_completion);
        tcase_add_test(tcase, more_operations_than_the_queue_holds_are_submitted);
        tcase_add_test(tcase, connections_are_accepted_and_carry_bytes_both_ways);
        tcase_add_test(tcase, who_wait_at_one_listener_take_turns);
        tcase_add_test(tcase, a_message_with_a_descriptor_can_be_received);
        tcase_add_test(tcase, a_busy_turn_makes_no_system_call);
        suite_add_tcase(suite, tcase);
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
