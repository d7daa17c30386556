/*
 * bench_ring -- what a hand-over costs, beside what the machine can do at all.
 *
 *      bench_ring handoff          ns one way of a 64-byte record between two cores, busy polling,
 *                                  and of a cache line that two cores pass to and fro
 *      bench_ring hop              ns one way between two processes asleep on one core, through two rings
 *                                  and their doorbells, and through two bare eventfds
 *
 * Prints one line: value reference (ns), the medians of alternating rounds.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/ring.h"
#include "shm/segment.h"
#include "stages/common/clock.h"

#define ROUNDS 15
#define HANDOFFS 100000u
#define HOPS 20000u
#define WARM 1000u
#define RECORD 64u

struct line {
        alignas(128) mr_au64 word;
};

struct shared {
        struct line ping, pong;
};

static struct ring_geometry geometry(uint32_t id) {
        return (struct ring_geometry){.id = id,
                        .n = 1024,
                        .max_batch = 64,
                        .max_rec = 16384,
                        .bytes = 65536,
                        .bound = 512};
}

static void die(const char *what, int error) {
        fprintf(stderr, "bench_ring: %s: %s\n", what, strerror(error < 0 ? -error : error));
        exit(1);
}

static void pin(int core) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(core, &set);
        if (sched_setaffinity(0, sizeof(set), &set) == -1)
                die("sched_setaffinity", errno);
}

/* One direction: both ends' maps over one pair of objects. */
struct way {
        struct segment_fds prod, cons;
        struct ring_geometry geo;
};

static void way_new(struct way *way, uint32_t id) {
        char name[SEGMENT_NAME_MAX], object[64], instance[64];
        struct ring_map map;
        int r;

        snprintf(instance, sizeof(instance), "bench%d", (int)getpid());
        way->geo = geometry(id);
        for (int cons = 0; cons < 2; cons++) {
                snprintf(object, sizeof(object), "ring.%u.%c", id, cons ? 'c' : 'p');
                if (segment_name(name, instance, object))
                        die("segment_name", ENAMETOOLONG);
                r = segment_create(name,
                                cons ? ring_cons_bytes(&way->geo) : ring_prod_bytes(&way->geo),
                                cons ? &way->cons : &way->prod);
                if (r)
                        die("segment_create", r);
                segment_unlink(name);
        }
        r = segment_map_ring(way->prod.rw, way->cons.ro, &way->geo, true, &map);
        if (r)
                die("segment_map_ring", r);
        ring_prod_format(map.prod);
        segment_unmap_ring(&map);
        r = segment_map_ring(way->prod.ro, way->cons.rw, &way->geo, false, &map);
        if (r)
                die("segment_map_ring", r);
        ring_cons_format(map.cons);
        segment_unmap_ring(&map);
}

static void way_tx(struct way *way, struct ring_tx *tx, int bell) {
        struct ring_map map;
        int r = segment_map_ring(way->prod.rw, way->cons.ro, &way->geo, true, &map);

        if (!r)
                r = ring_tx_attach(tx, &map, bell);
        if (r)
                die("ring_tx_attach", r);
}

static void way_rx(struct way *way, struct ring_rx *rx, int bell) {
        struct ring_map map;
        int r = segment_map_ring(way->prod.ro, way->cons.rw, &way->geo, false, &map);

        if (!r)
                r = ring_rx_attach(rx, &map, bell, false);
        if (r)
                die("ring_rx_attach", r);
}

static void put(struct ring_tx *tx) {
        static const uint8_t record[RECORD] = {1, 2, 3};
        uint8_t *to;

        while (ring_tx_begin(tx, RECORD, &to))
                ;
        memcpy(to, record, RECORD);
        ring_tx_end(tx, &(struct ring_meta){.type = 1, .req_id = 1}, RECORD);
        ring_tx_commit(tx);
}

static bool take(struct ring_rx *rx) {
        const struct ring_msg *msg;

        if (ring_rx_peek(rx, &msg))
                return false;
        ring_rx_take(rx);
        ring_rx_ack(rx, msg->seq);
        ring_rx_flush(rx, false);
        return true;
}

/* ---- busy polling on two cores ---- */

static uint64_t lines_pass(struct shared *sh, bool leader, uint32_t n) {
        uint64_t start = clock_now_ns();

        for (uint32_t i = 1; i <= n; i++) {
                if (leader)
                        atomic_store_explicit(&sh->ping.word, i, memory_order_release);
                while (atomic_load_explicit(leader ? &sh->pong.word : &sh->ping.word,
                                       memory_order_acquire) != i)
                        ;
                if (!leader)
                        atomic_store_explicit(&sh->pong.word, i, memory_order_release);
        }
        return clock_now_ns() - start;
}

static uint64_t rings_pass(struct ring_tx *tx, struct ring_rx *rx, bool leader, uint32_t n) {
        uint64_t start = clock_now_ns();

        for (uint32_t i = 0; i < n; i++) {
                if (leader)
                        put(tx);
                while (!take(rx))
                        ;
                if (!leader)
                        put(tx);
        }
        return clock_now_ns() - start;
}

/* ---- asleep on one core ---- */

static void bell_wait(int fd) {
        uint64_t n;

        while (read(fd, &n, sizeof(n)) == -1 && errno == EINTR)
                ;
}

static uint64_t bells_pass(const int bell[2], bool leader, uint32_t n) {
        uint64_t start = clock_now_ns();

        for (uint32_t i = 0; i < n; i++) {
                if (leader)
                        doorbell_ring(bell[1]);
                bell_wait(bell[leader ? 0 : 1]);
                if (!leader)
                        doorbell_ring(bell[0]);
        }
        return clock_now_ns() - start;
}

static void take_asleep(struct ring_rx *rx, int bell) {
        while (!take(rx)) {
                ring_rx_flush(rx, true);
                if (ring_rx_may_sleep(rx))
                        bell_wait(bell);
                ring_rx_disarm(rx);
        }
}

static uint64_t hops_pass(
                struct ring_tx *tx, struct ring_rx *rx, int bell, bool leader, uint32_t n) {
        uint64_t start = clock_now_ns();

        for (uint32_t i = 0; i < n; i++) {
                if (leader)
                        put(tx);
                take_asleep(rx, bell);
                if (!leader)
                        put(tx);
        }
        return clock_now_ns() - start;
}

/* ---- rounds ---- */

static int by_value(const void *a, const void *b) {
        const double *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static void run(bool hop, bool leader, struct way ways[2], const int bell[2], struct shared *sh) {
        double value[ROUNDS], reference[ROUNDS];
        uint32_t n = hop ? HOPS : HANDOFFS;
        struct ring_tx tx;
        struct ring_rx rx;

        way_tx(&ways[leader ? 0 : 1], &tx, bell[leader ? 1 : 0]);
        way_rx(&ways[leader ? 1 : 0], &rx, bell[leader ? 1 : 0]);
        for (int i = -1; i < ROUNDS; i++) {
                uint32_t turns = i < 0 ? WARM : n;
                uint64_t ours = hop ? hops_pass(&tx, &rx, bell[leader ? 0 : 1], leader, turns)
                                    : rings_pass(&tx, &rx, leader, turns);
                uint64_t theirs = hop ? bells_pass(bell, leader, turns)
                                      : lines_pass(sh, leader, turns);
                /* The follower leaves the last line at its number: both start over from zero. */
                if (leader) {
                        atomic_store_explicit(&sh->ping.word, 0, memory_order_release);
                        atomic_store_explicit(&sh->pong.word, 0, memory_order_release);
                }
                if (i >= 0) {
                        value[i] = (double)ours / turns / 2;
                        reference[i] = (double)theirs / turns / 2;
                }
        }
        if (!leader)
                return;
        qsort(value, ROUNDS, sizeof(*value), by_value);
        qsort(reference, ROUNDS, sizeof(*reference), by_value);
        printf("%.1f %.1f\n", value[ROUNDS / 2], reference[ROUNDS / 2]);
}

int main(int argc, char **argv) {
        bool hop = argc == 2 && strcmp(argv[1], "hop") == 0;
        struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct way ways[2];
        int bell[2], status = 0;
        pid_t child;

        if (argc != 2 || (!hop && strcmp(argv[1], "handoff") != 0)) {
                fprintf(stderr, "usage: bench_ring handoff|hop\n");
                return 2;
        }
        if (sh == MAP_FAILED)
                die("mmap", errno);
        way_new(&ways[0], 1);
        way_new(&ways[1], 2);
        for (int i = 0; i < 2; i++) {
                bell[i] = eventfd(0, EFD_CLOEXEC);
                if (bell[i] == -1)
                        die("eventfd", errno);
        }
        child = fork();
        if (child == -1)
                die("fork", errno);
        if (child == 0)
                prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(hop || child ? 0 : 1);
        run(hop, child != 0, ways, bell, sh);
        if (child)
                waitpid(child, &status, 0);
        return child && status ? 1 : 0;
}
