#include <check.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/sandbox_table.h"
#include "tests/common/worker_rig.h"

/* ---- refusals ---- */

START_TEST(a_descriptor_too_many_is_refused) {
        rig.extra_fd = true;
        refused("descriptor 17");
}
END_TEST

START_TEST(a_topology_of_another_build_is_refused) {
        rig.t->layout ^= 1;
        refused("another build");
}
END_TEST

START_TEST(an_object_of_another_size_is_refused) {
        rig.short_object = true;
        refused("bytes, expected");
}
END_TEST

START_TEST(a_role_that_is_not_this_executables_is_refused) {
        rig.role = ROLE_POST;
        rig.t->procs[SELF].role = ROLE_ASSEMBLE;
        refused("this is millrace-assemble");
}
END_TEST

START_TEST(a_ring_with_one_object_is_refused) {
        rig.skip_ring = true;
        refused("ring 2");
}
END_TEST

START_TEST(a_neighbour_without_a_bell_is_refused) {
        rig.skip_bell = true;
        refused("bell of process 4");
}
END_TEST

START_TEST(a_listener_that_the_settings_do_not_name_is_refused) {
        rig.n_http = 1;
        rig.http_from = rig.settings->http.listen.n;
        refused("http.listen");
}
END_TEST

START_TEST(more_listeners_than_there_can_be_are_refused) {
        rig.n_http = HTTP_LISTENERS_MAX + 1;
        refused("type 5");
}
END_TEST

START_TEST(settings_that_are_cut_are_refused) {
        rig.settings_cut = 1;
        refused("settings");
}
END_TEST

START_TEST(settings_that_the_stage_refuses_are_permanent) {
        rig.settings->sessions.history_turns = 99;
        refused("init");
}
END_TEST

START_TEST(a_message_out_of_order_is_refused) {
        char text[512] = "";
        spawn();
        say_fd(CHANNEL_START, NULL, 0, -1);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_FAILED);
        ck_assert_ptr_nonnull(strstr(text, "type 7"));
        ends_with(EXIT_PERMANENT);
}
END_TEST

START_TEST(an_object_that_was_written_over_is_shared_state_and_not_for_ever) {
        uint64_t bytes = arena_bytes(65536);
        char text[512] = "";

        rig.skip_start = true;
        spawn();
        say_start(1);
        rig.arena = object_new(OBJECT_ARENA, 1, bytes); /* no magic in it */
        say_object(OBJECT_ARENA, 1, bytes, false, &rig.arena);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_FAILED);
        ck_assert_ptr_nonnull(strstr(text, "setup"));
        ends_with(EXIT_SHARED_STATE);
        segment_close(&rig.arena);
}
END_TEST

START_TEST(a_supervisor_that_goes_before_start_ends_the_worker) {
        rig.skip_start = true;
        spawn();
        say_start(1);
        close(rig.channel);
        ends_with(1);
}
END_TEST

/* The channel outlives its maker here, so that only the death signal can end the worker. */
START_TEST(a_worker_dies_with_its_parent_even_when_the_channel_stays_open) {
        int told[2], status;
        pid_t pids[2] = {0}; /* the worker; who holds the channel */

        ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        ck_assert_int_eq(pipe(told), 0);
        pid_t parent = fork();
        if (parent == 0) {
                start();
                pids[0] = rig.pid;
                pids[1] = fork();
                if (pids[1] == 0)
                        for (;;)
                                pause();
                if (write(told[1], pids, sizeof(pids)) != sizeof(pids))
                        _exit(99);
                for (;;)
                        pause();
        }
        ck_assert_int_eq(read(told[0], pids, sizeof(pids)), sizeof(pids));
        kill(parent, SIGKILL);
        ck_assert_int_eq(waitpid(parent, &status, 0), parent);
        ck_assert_int_eq(waitpid(pids[0], &status, 0), pids[0]);
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), SIGKILL);
        kill(pids[1], SIGKILL);
        ck_assert_int_eq(waitpid(pids[1], &status, 0), pids[1]);
}
END_TEST

START_TEST(a_parent_that_did_not_make_the_channel_is_not_ours) {
        int pair[2], status;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        pid_t parent = fork();
        if (parent == 0) {
                pid_t pid = fork();
                if (pid == 0) {
                        if (dup2(pair[1], 200) != 200 || dup2(200, CHANNEL_FD) != CHANNEL_FD)
                                _exit(99);
                        close_range(CHANNEL_FD + 1, ~0u, 0);
                        execl(stage_path, stage_path, (char *)NULL);
                        _exit(99);
                }
                _exit(waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 98);
        }
        ck_assert_int_eq(waitpid(parent, &status, 0), parent);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

START_TEST(a_stage_started_by_hand_says_how_it_is_started) {
        char text[512] = "";
        int out[2];

        ck_assert_int_eq(pipe(out), 0);
        pid_t pid = fork();
        if (pid == 0) {
                dup2(out[1], STDERR_FILENO);
                close_range(3, ~0u, 0);
                execl(stage_path, stage_path, (char *)NULL);
                _exit(99);
        }
        close(out[1]);
        ck_assert_int_gt(read(out[0], text, sizeof(text) - 1), 0);
        ck_assert_ptr_nonnull(strstr(text, "millrace run"));
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(WEXITSTATUS(status), EXIT_PERMANENT);
}
END_TEST

/* ---- life ---- */

START_TEST(ready_comes_after_every_neighbour_was_rung) {
        start();
        for (uint32_t p = RAG; p <= INFERENCE; p++) {
                struct pollfd bell = {.fd = rig.bells[p], .events = POLLIN};
                ck_assert_int_eq(poll(&bell, 1, 0), p != SELF);
        }
        ck_assert_uint_eq(atomic_load(&rig.c->epoch), 1);
}
END_TEST

START_TEST(records_pass_and_are_counted) {
        char text[32];
        start();
        for (int i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "record %d", i);
                put(text, (uint64_t)i + 1);
                ck_assert_str_eq(get(), text);
        }
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_LEAVE, 0, NULL, 0, -1), 0);
        ends_with(EXIT_DRAINED);
        ck_assert_uint_eq(counter(COUNTER_records_in), 1000);
        ck_assert_uint_eq(counter(COUNTER_records_out), 1000);
        ck_assert_uint_gt(counter(COUNTER_wakeups), 0);
        ck_assert_uint_gt(counter(COUNTER_doorbells), 0);
        ck_assert_uint_eq(counter(COUNTER_tripwire), 0);
        ck_assert_uint_eq(counter(COUNTER_ring_depth), 0);
}
END_TEST

START_TEST(a_full_output_waits_without_spinning_and_loses_nothing) {
        char text[32];
        int n_put = 0, n_got = 0;

        start();
        put("hold", 1); /* so that the stage counts its turns from here */
        n_put++;
        for (uint64_t idle_until = clock_now_ns() + NS_PER_S; clock_now_ns() < idle_until;) {
                if (ring_tx_room(&rig.tx, 1, 64) == 0) {
                        snprintf(text, sizeof(text), "record %d", n_put++);
                        put(text, 1);
                } else
                        poll(NULL, 0, 10);
        }
        ck_assert_int_ge(n_put, RING_N); /* its output was full, and then its input */
        ck_assert_str_eq(get(), "hold");
        for (n_got = 1; n_got < n_put; n_got++) {
                snprintf(text, sizeof(text), "record %d", n_got);
                ck_assert_str_eq(get(), text);
        }
        put("turns", 1);
        ck_assert_int_lt(strtol(get(), NULL, 10), 3 * n_put + 100);
        ck_assert_uint_eq(counter(COUNTER_tripwire), 0);
}
END_TEST

START_TEST(records_that_a_stage_leaves_in_its_ring_do_not_keep_it_awake) {
        start();
        put("hold", 1);
        put("turns", 2);
        ck_assert_str_eq(get(), "hold");
        /* 300 ms of holding: a process that spins makes a hundred thousand turns. */
        ck_assert_int_lt(strtol(get(), NULL, 10), 50);
}
END_TEST

START_TEST(a_lost_wake_up_is_found_and_counted) {
        start();
        put("one", 1);
        ck_assert_str_eq(get(), "one");
        rig.tx.wake_fd = rig.bells[0]; /* the wrong door */
        for (int i = 0; i < 50 && counter(COUNTER_tripwire) == 0; i++) {
                put("two", 2);
                ck_assert_str_eq(get(), "two");
                poll(NULL, 0, 20);
        }
        ck_assert_uint_gt(counter(COUNTER_tripwire), 0);
}
END_TEST

START_TEST(the_heart_beats_while_nothing_happens) {
        start();
        uint64_t first = atomic_load(&rig.c->heartbeat_ns);
        ck_assert_uint_gt(first, 0);
        for (int i = 0; i < 1000 && atomic_load(&rig.c->heartbeat_ns) == first; i++)
                poll(NULL, 0, 20);
        ck_assert_uint_gt(atomic_load(&rig.c->heartbeat_ns), first);
}
END_TEST

START_TEST(leave_publishes_rings_and_exits) {
        start();
        put("one", 1);
        ck_assert_str_eq(get(), "one");
        doorbell_clear(rig.bells[RAG]);
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_LEAVE, 0, NULL, 0, -1), 0);
        ends_with(EXIT_DRAINED);
        struct pollfd bell = {.fd = rig.bells[RAG], .events = POLLIN};
        ck_assert_int_eq(poll(&bell, 1, 0), 1);
        ck_assert_uint_eq(ring_tx_depth(&rig.tx), 0);
}
END_TEST

START_TEST(a_successor_goes_on_where_the_last_one_stood) {
        char text[512];
        start();
        put("one", 1);
        ck_assert_str_eq(get(), "one");
        kill(rig.pid, SIGKILL);
        reap();
        close(rig.channel);
        put("two", 2);
        spawn();
        say_start(2);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_READY);
        ck_assert_str_eq(get(), "two");
        put("three", 3);
        ck_assert_str_eq(get(), "three");
        ck_assert_uint_eq(atomic_load(&rig.c->epoch), 2);
        for (int i = 0; i < 1000 && counter(COUNTER_records_in) < 2; i++)
                poll(NULL, 0, 20);
        ck_assert_uint_ge(counter(COUNTER_records_in), 2);
}
END_TEST

START_TEST(a_worker_that_wants_to_be_renewed_publishes_and_says_so) {
        start();
        put("renew", 1);
        ends_with(EXIT_RENEW);
        ck_assert_str_eq(get(), "renew");
        ck_assert_uint_eq(ring_tx_depth(&rig.tx), 0);
}
END_TEST

START_TEST(the_end_of_the_supervisor_ends_the_worker) {
        start();
        close(rig.channel);
        ends_with(EXIT_DRAINED);
}
END_TEST

START_TEST(drained_is_said_once_for_each_drain) {
        char text[64];
        start();
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(channel_send(rig.channel, CHANNEL_DRAIN, 0, NULL, 0, -1), 0);
                ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_DRAINED);
        }
        put("one", 1);
        ck_assert_str_eq(get(), "one");
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_LEAVE, 0, NULL, 0, -1), 0);
        ck_assert_uint_eq(hear(text, sizeof(text)), 0);
        ends_with(EXIT_DRAINED);
}
END_TEST

START_TEST(an_arena_can_come_go_and_come_again_while_it_runs) {
        const struct segment_fds none = {.rw = -1, .ro = -1};
        uint64_t bytes = arena_bytes(65536);
        char text[64];

        start();
        put("arena", 1);
        ck_assert_str_eq(get(), "arena 0");
        for (int i = 0; i < 3; i++) {
                rig.arena = object_new(OBJECT_ARENA, 1, bytes);
                struct arena_shm *shm = object_map(rig.arena.rw, bytes);
                arena_format(shm, 65536);
                say_object(OBJECT_ARENA, 1, bytes, false, &rig.arena);
                /* Once it says so, whatever comes out of a ring may refer to it. */
                ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_TAKEN);
                put("arena", 1);
                ck_assert_str_eq(get(), "arena 1");
                segment_unmap(shm, bytes);
                segment_close(&rig.arena);
        }
        say_object(OBJECT_ARENA, 1, 0, false, &none);
        const char *said = "arena 1";
        for (int tries = 0; tries < 1000 && strcmp(said, "arena 0") != 0; tries++) {
                put("arena", 1);
                said = get();
        }
        ck_assert_str_eq(said, "arena 0");
}
END_TEST

START_TEST(an_arena_of_another_size_is_not_taken_and_changes_nothing) {
        uint64_t bytes = arena_bytes(65536);
        char text[64];

        start();
        rig.arena = object_new(OBJECT_ARENA, 1, bytes); /* never formatted */
        say_object(OBJECT_ARENA, 1, bytes, false, &rig.arena);
        say_object(OBJECT_ARENA, 1, bytes + 4096, false, &rig.arena);
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_DRAIN, 0, NULL, 0, -1), 0);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_DRAINED);
        put("arena", 1);
        ck_assert_str_eq(get(), "arena 0");
        segment_close(&rig.arena);
}
END_TEST

START_TEST(who_is_to_close_and_has_nothing_left_says_drained) {
        char text[64];

        start();
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_CLOSE, 0, NULL, 0, -1), 0);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_DRAINED);
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_DRAIN, 0, NULL, 0, -1), 0);
        ck_assert_uint_eq(hear(text, sizeof(text)), CHANNEL_DRAINED);
        ck_assert_int_eq(channel_send(rig.channel, CHANNEL_LEAVE, 0, NULL, 0, -1), 0);
        ends_with(EXIT_DRAINED);
}
END_TEST

START_TEST(signals_to_the_whole_group_are_not_for_workers) {
        start();
        kill(rig.pid, SIGINT);
        kill(rig.pid, SIGTERM);
        kill(rig.pid, SIGHUP);
        put("one", 1);
        ck_assert_str_eq(get(), "one");
}
END_TEST

START_TEST(a_crash_leaves_signal_and_record_at_hand) {
        start();
        put("segv", 4711);
        int status = reap();
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), SIGSEGV);
        ck_assert_uint_eq(atomic_load(&rig.c->crash_signal), SIGSEGV);
        ck_assert_uint_eq(atomic_load(&rig.c->crash_record), 4711);
}
END_TEST

START_TEST(a_signal_that_somebody_sent_names_the_sender) {
        start();
        kill(rig.pid, SIGABRT);
        int status = reap();
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), SIGABRT);
        ck_assert_uint_eq(atomic_load(&rig.c->crash_signal), SIGABRT);
        ck_assert_uint_eq(atomic_load(&rig.c->crash_pid), (uint64_t)getpid());
        ck_assert_uint_eq(atomic_load(&rig.c->crash_record), 0);
}
END_TEST

START_TEST(inconsistent_memory_has_an_exit_code_and_last_words_of_its_own) {
        start();
        put("fail", 1);
        ends_with(EXIT_SHARED_STATE);
        ck_assert_ptr_nonnull(strstr((const char *)rig.c->words, "ev=shared_state what=test"));
}
END_TEST

START_TEST(a_producer_that_writes_nonsense_ends_the_worker) {
        start();
        atomic_store(&rig.tx.map.prod->head, 1ull << 40);
        doorbell_ring(rig.bells[SELF]);
        ends_with(EXIT_SHARED_STATE);
}
END_TEST

START_TEST(no_memory_descriptor_stays_open) {
        char path[64], link[128], target[256];
        int n = 0;

        start();
        snprintf(path, sizeof(path), "/proc/%d/fd", (int)rig.pid);
        DIR *dir = opendir(path);
        if (!dir)
                return; /* not dumpable: only root may look */
        for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
                snprintf(link, sizeof(link), "%s/%.20s", path, e->d_name);
                ssize_t len = readlink(link, target, sizeof(target) - 1);
                if (len < 0)
                        continue;
                target[len] = '\0';
                n += strstr(target, "/dev/shm") != NULL;
        }
        closedir(dir);
        ck_assert_int_eq(n, 1); /* the one that was sent as the lock */
}
END_TEST

START_TEST(the_sandbox_is_on) {
        char path[64], line[256];
        bool no_new_privs = false, no_core = false, filtered = MR_SANITIZED;

        start();
        snprintf(path, sizeof(path), "/proc/%d/status", (int)rig.pid);
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                no_new_privs |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
                filtered |= strcmp(line, "Seccomp:\t2\n") == 0;
        }
        if (f)
                fclose(f);
        snprintf(path, sizeof(path), "/proc/%d/limits", (int)rig.pid);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                unsigned long soft = 1, hard = 1;
                if (sscanf(line, "Max core file size %lu %lu", &soft, &hard) == 2)
                        no_core = soft == 0 && hard == 0;
        }
        if (f)
                fclose(f);
        ck_assert(no_new_privs);
        ck_assert(filtered);
        ck_assert(no_core);
}
END_TEST

static TCase *refusals(void) {
        TCase *tcase = tcase_create("refusals");
        tcase_add_checked_fixture(tcase, rig_setup, rig_teardown);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, a_descriptor_too_many_is_refused);
        tcase_add_test(tcase, a_topology_of_another_build_is_refused);
        tcase_add_test(tcase, an_object_of_another_size_is_refused);
        tcase_add_test(tcase, a_role_that_is_not_this_executables_is_refused);
        tcase_add_test(tcase, a_ring_with_one_object_is_refused);
        tcase_add_test(tcase, a_neighbour_without_a_bell_is_refused);
        tcase_add_test(tcase, a_listener_that_the_settings_do_not_name_is_refused);
        tcase_add_test(tcase, more_listeners_than_there_can_be_are_refused);
        tcase_add_test(tcase, settings_that_are_cut_are_refused);
        tcase_add_test(tcase, settings_that_the_stage_refuses_are_permanent);
        tcase_add_test(tcase, a_message_out_of_order_is_refused);
        tcase_add_test(tcase, an_object_that_was_written_over_is_shared_state_and_not_for_ever);
        tcase_add_test(tcase, a_supervisor_that_goes_before_start_ends_the_worker);
        tcase_add_test(tcase, a_worker_dies_with_its_parent_even_when_the_channel_stays_open);
        tcase_add_test(tcase, a_parent_that_did_not_make_the_channel_is_not_ours);
        tcase_add_test(tcase, a_stage_started_by_hand_says_how_it_is_started);
        return tcase;
}

static TCase *life(void) {
        TCase *tcase = tcase_create("life");
        tcase_add_checked_fixture(tcase, rig_setup, rig_teardown);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, ready_comes_after_every_neighbour_was_rung);
        tcase_add_test(tcase, records_pass_and_are_counted);
        tcase_add_test(tcase, a_full_output_waits_without_spinning_and_loses_nothing);
        tcase_add_test(tcase, records_that_a_stage_leaves_in_its_ring_do_not_keep_it_awake);
        tcase_add_test(tcase, a_lost_wake_up_is_found_and_counted);
        tcase_add_test(tcase, the_heart_beats_while_nothing_happens);
        tcase_add_test(tcase, leave_publishes_rings_and_exits);
        tcase_add_test(tcase, a_successor_goes_on_where_the_last_one_stood);
        tcase_add_test(tcase, a_worker_that_wants_to_be_renewed_publishes_and_says_so);
        tcase_add_test(tcase, the_end_of_the_supervisor_ends_the_worker);
        tcase_add_test(tcase, drained_is_said_once_for_each_drain);
        tcase_add_test(tcase, an_arena_can_come_go_and_come_again_while_it_runs);
        tcase_add_test(tcase, an_arena_of_another_size_is_not_taken_and_changes_nothing);
        tcase_add_test(tcase, who_is_to_close_and_has_nothing_left_says_drained);
        tcase_add_test(tcase, signals_to_the_whole_group_are_not_for_workers);
        tcase_add_test(tcase, a_crash_leaves_signal_and_record_at_hand);
        tcase_add_test(tcase, a_signal_that_somebody_sent_names_the_sender);
        tcase_add_test(tcase, inconsistent_memory_has_an_exit_code_and_last_words_of_its_own);
        tcase_add_test(tcase, a_producer_that_writes_nonsense_ends_the_worker);
        tcase_add_test(tcase, no_memory_descriptor_stays_open);
        tcase_add_test(tcase, the_sandbox_is_on);
        return tcase;
}

int main(int argc, char **argv) {
        if (argc != 2) {
                fprintf(stderr, "usage: test_worker PATH_OF_WORKER_STAGE\n");
                return 2;
        }
        stage_path = argv[1];
        Suite *suite = suite_create("worker");
        suite_add_tcase(suite, refusals());
        suite_add_tcase(suite, life());
        SRunner *runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        int n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed > 0;
}
