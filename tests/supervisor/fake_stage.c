/*
 * fake_stage -- a worker that speaks the channel and nothing else, so that the supervisor can be
 * tested with stages that misbehave.
 *
 * What it does stands in the file ./behaviour, one "<role>[.<lane>] <what> [<n>]" a line, looked at
 * when it starts and before each answer:
 *   exit N       exits with N instead of becoming ready
 *   never_ready  neither
 *   crash_start  aborts instead of becoming ready
 *   crash_early  aborts before it has taken its counters over
 *   stubborn     ignores LEAVE
 *   busy         never says DRAINED
 *   mute         its heartbeat stops
 *   in_flight N  says so in its counters
 *   deaf         does not say that it has mapped an arena
 *   clings       (a gateway) does not let go of a lane that is reset
 *   broken N     (a gateway) says so of lane N's memory and exits with 71
 * It writes what it was told into ./seen.<pid>.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/counters.h"
#include "shm/segment.h"
#include "shm/topology.h"
#include "stages/common/channel.h"
#include "stages/common/clock.h"

static struct channel_hello hello;
static struct counters_shm *counters;
static const struct topology_shm *topology;
static uint64_t left[LANES_MAX]; /* generations */
static FILE *seen;
static int own_bell = -1;
static bool started;

/* The number behind a behaviour of this role, -1: it is not asked for. */
static long behaves(const char *what) {
        char line[256], role[64], who[64], does[64];
        long number, found = -1;
        FILE *file;

        file = fopen("behaviour", "r");
        if (!file)
                return -1;
        snprintf(role, sizeof(role), "%s.%u", mr_role_name(hello.role), hello.lane);
        while (fgets(line, sizeof(line), file)) {
                number = 0;
                if (sscanf(line, "%63s %63s %ld", who, does, &number) < 2)
                        continue;
                if ((strcmp(who, role) == 0 || strcmp(who, mr_role_name(hello.role)) == 0) &&
                                strcmp(does, what) == 0)
                        found = number;
        }
        fclose(file);
        return found;
}

static void on_object(const void *bytes, int fd) {
        struct channel_object object;
        void *map;

        memcpy(&object, bytes, sizeof(object));
        fprintf(seen, "object %u %u %u %u %llu\n", object.kind, object.a, object.b, object.writable,
                        (unsigned long long)object.bytes);
        if (object.kind == OBJECT_COUNTERS && object.a == hello.proc && object.writable &&
                        segment_map(fd, object.bytes, true, &map) == 0)
                counters = map;
        if (started && fd >= 0 && object.kind == OBJECT_ARENA && behaves("deaf") < 0)
                channel_send(CHANNEL_FD, CHANNEL_TAKEN, 0, NULL, 0, -1);
        if (object.kind == OBJECT_TOPOLOGY &&
                        segment_map(fd, object.bytes, false, &map) == 0)
                topology = map;
}

static void tell_lane(enum channel_type type, uint32_t lane, uint64_t generation) {
        struct channel_lane message = {.lane = lane, .generation = generation};

        channel_send(CHANNEL_FD, type, 0, &message, sizeof(message), -1);
}

/* What a gateway does about its lanes. */
static void look_at_lanes(void) {
        long broken = behaves("broken");

        if (hello.role != ROLE_GATEWAY || !topology || behaves("clings") >= 0)
                return;
        if (broken >= 0) {
                tell_lane(CHANNEL_LANE_BROKEN, (uint32_t)broken, 0);
                exit(71);
        }
        for (uint32_t lane = 0; lane < topology->n_lanes; lane++) {
                uint64_t word = atomic_load_explicit(
                                &topology->lane_state[lane], memory_order_acquire);

                if (lane_word_state(word) != LANE_RESETTING ||
                                left[lane] == lane_word_generation(word))
                        continue;
                left[lane] = lane_word_generation(word);
                fprintf(seen, "left lane %u generation %llu\n", lane,
                                (unsigned long long)left[lane]);
                fflush(seen);
                tell_lane(CHANNEL_LANE_LEFT, lane, left[lane]);
        }
}

static void on_bell(const void *bytes, int fd) {
        struct channel_bell bell;

        memcpy(&bell, bytes, sizeof(bell));
        if (bell.proc == hello.proc)
                own_bell = dup(fd);
}

static void look_at_bell(void) {
        uint64_t rung;

        if (own_bell != -1 && read(own_bell, &rung, sizeof(rung)) == sizeof(rung)) {
                fprintf(seen, "rung %llu\n", (unsigned long long)rung);
                fflush(seen);
        }
}

static void on_start(void) {
        cpu_set_t set;
        long code = behaves("exit");

        started = true;
        sched_getaffinity(0, sizeof(set), &set);
        fprintf(seen, "cores %d first %d\n", CPU_COUNT(&set), CPU_ISSET(0, &set) ? 0 : 1);
        fprintf(seen, "blame %u epoch %llu\n", hello.blame, (unsigned long long)hello.epoch);
        fflush(seen);
        if (behaves("crash_early") >= 0)
                abort();
        if (counters) {
                atomic_store_explicit(&counters->crash_signal, 0, memory_order_relaxed);
                atomic_store_explicit(&counters->epoch, hello.epoch, memory_order_relaxed);
        }
        if (code >= 0) {
                channel_send(CHANNEL_FD, CHANNEL_FAILED, 0, "told to fail", 12, -1);
                exit((int)code);
        }
        if (behaves("crash_start") >= 0)
                abort();
        if (behaves("never_ready") < 0)
                channel_send(CHANNEL_FD, CHANNEL_READY, 0, NULL, 0, -1);
}

static void on_listener(const void *bytes) {
        struct channel_listener listener;

        memcpy(&listener, bytes, sizeof(listener));
        fprintf(seen, "listener %u %u\n", listener.kind, listener.index);
}

static void on_message(const struct channel_head *head, const void *bytes, int fd) {
        fprintf(seen, "message %u\n", head->type);
        if (head->type == CHANNEL_HELLO)
                memcpy(&hello, bytes, sizeof(hello));
        else if (head->type == CHANNEL_OBJECT)
                on_object(bytes, fd);
        else if (head->type == CHANNEL_BELL)
                on_bell(bytes, fd);
        else if (head->type == CHANNEL_LISTENER)
                on_listener(bytes);
        else if (head->type == CHANNEL_START)
                on_start();
        else if (head->type == CHANNEL_CUT && counters)
                counters_set(counters, COUNTER_in_flight, 0);
        else if (head->type == CHANNEL_LEAVE && behaves("stubborn") < 0)
                exit(0);
        fflush(seen);
}

/* Until nothing is there; false: the supervisor has gone. */
static bool read_channel(bool *draining) {
        static char buf[CHANNEL_BYTES];
        struct channel_head head;
        uint32_t len;
        int fd, r;

        while ((r = channel_recv(CHANNEL_FD, 0, &head, buf, sizeof(buf), &len, &fd)) == 0) {
                on_message(&head, buf, fd);
                *draining |= head.type == CHANNEL_DRAIN || head.type == CHANNEL_CUT ||
                             head.type == CHANNEL_CLOSE;
                /* The lock stays open: that is what it is for. */
                if (fd >= 0 && head.type != CHANNEL_LOCK)
                        close(fd);
        }
        return r == CHANNEL_E_AGAIN;
}

static void beat(void) {
        long in_flight = behaves("in_flight");

        if (!counters)
                return;
        if (behaves("mute") < 0)
                atomic_store_explicit(
                                &counters->heartbeat_ns, clock_now_ns(), memory_order_relaxed);
        counters_set(counters, COUNTER_in_flight, in_flight > 0 ? (uint64_t)in_flight : 0);
        counters_set(counters, COUNTER_completed, 5);
}

int main(void) {
        struct pollfd channel = {.fd = CHANNEL_FD, .events = POLLIN};
        bool draining = false;
        char path[64];

        snprintf(path, sizeof(path), "seen.%ld", (long)getpid());
        seen = fopen(path, "w");
        if (!seen)
                return 70;
        for (;;) {
                poll(&channel, 1, 20);
                if (!read_channel(&draining))
                        return 0;
                look_at_bell();
                look_at_lanes();
                beat();
                if (draining && behaves("busy") < 0) {
                        channel_send(CHANNEL_FD, CHANNEL_DRAINED, 0, NULL, 0, -1);
                        draining = false;
                }
        }
}
