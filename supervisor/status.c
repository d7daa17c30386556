/*
 * status -- what `millrace status --json` prints, as one msgpack map (docs/control.md).
 */
#include "supervisor/status.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "supervisor/pack.h"

/* Pages of a process that are in memory, shared ones included; 0 when it cannot be seen. */
static uint64_t resident_bytes(pid_t pid) {
        char path[64], line[128];
        unsigned long long total, resident = 0;
        ssize_t len;
        int fd;

        if (pid == 0)
                return 0;
        snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd == -1)
                return 0;
        len = read(fd, line, sizeof(line) - 1);
        close(fd);
        line[len > 0 ? len : 0] = '\0';
        if (sscanf(line, "%llu %llu", &total, &resident) != 2)
                return 0;
        return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t count(const struct process *p, enum counter which) {
        const struct counters_shm *c = p->d->memory.counters[p->index];

        return c ? counters_get(c, which) : 0;
}

static uint64_t sum_of(const struct daemon *d, enum counter which) {
        uint64_t sum = 0;

        for (uint32_t i = 0; i < d->n_procs; i++)
                sum += count(&d->procs[i], which);
        return sum;
}

/* Of requests: every gateway slot that ever served counts, the spare one too. */
static uint64_t sum_of_gateways(const struct daemon *d, enum counter which) {
        uint64_t sum = 0;

        for (uint32_t g = 0; g < d->memory.topology->n_gateway_slots; g++)
                sum += count(&d->procs[topology_proc_gateway(g)], which);
        return sum;
}

const char *status_state(const struct daemon *d) {
        if (d->phase >= DAEMON_ENDING)
                return "draining";
        if (d->phase == DAEMON_STARTING || !lanes_all_run(d))
                return "degraded";
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].wanted && strcmp(process_state_name(&d->procs[i]), "down") == 0)
                        return "degraded";
        return sum_of(d, COUNTER_database_failed) ? "degraded" : "running";
}

/* The six members that every process has. */
#define PROCESS_MEMBERS 6
static void pack_process(msgpack_packer *pk, const struct process *p) {
        pack_key_known(pk, "pid", process_is_running(p), (uint64_t)p->pid);
        pack_key_text(pk, "state", process_state_name(p));
        pack_key_known(pk, "core", p->core != UINT32_MAX, p->core);
        pack_key_u64(pk, "restarts", p->n_starts ? p->n_starts - 1 : 0);
        pack_key_text(pk, "last_exit", p->last_exit);
        pack_key_u64(pk, "rss_bytes", process_is_running(p) ? resident_bytes(p->pid) : 0);
}

static uint32_t ring_capacity(const struct process *p) {
        const struct topology_shm *t = p->d->memory.topology;

        for (uint32_t i = 0; i < t->n_rings; i++)
                if (t->rings[i].kind == RING_DATA && t->rings[i].to == p->index)
                        return t->rings[i].bound;
        return 0;
}

static void pack_stage(msgpack_packer *pk, const struct process *p) {
        msgpack_pack_map(pk, PROCESS_MEMBERS + 4);
        pack_key_text(pk, "stage", mr_role_name(p->role));
        pack_process(pk, p);
        pack_key_u64(pk, "records_in", count(p, COUNTER_records_in));
        pack_key_u64(pk, "records_out", count(p, COUNTER_records_out));
        pack_text(pk, "ring");
        msgpack_pack_map(pk, 4);
        pack_key_u64(pk, "depth", count(p, COUNTER_ring_depth));
        pack_key_u64(pk, "capacity", ring_capacity(p));
        pack_key_u64(pk, "high_water", count(p, COUNTER_ring_high_water));
        pack_key_u64(pk, "bytes", count(p, COUNTER_ring_bytes));
}

static uint64_t lane_in_flight(const struct daemon *d, uint32_t lane) {
        uint64_t sum = 0;

        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_GATEWAY && d->memory.counters[i])
                        sum += atomic_load_explicit(&d->memory.counters[i]->lane_in_flight[lane],
                                        memory_order_relaxed);
        return sum;
}

static void pack_lane(msgpack_packer *pk, const struct daemon *d, uint32_t lane) {
        const struct topology_shm *t = d->memory.topology;
        const struct process *first = &d->procs[topology_proc_stage(t, lane, ROLE_RAG)];
        bool pinned = d->settings->pin == SETTINGS_PIN_LANE;

        msgpack_pack_map(pk, 6);
        pack_key_u64(pk, "lane", lane);
        pack_key_text(pk, "state", lanes_state_name(d, lane));
        pack_key_u64(pk, "resets", lanes_resets(d, lane));
        pack_key_known(pk, "core", pinned, first->core);
        pack_key_u64(pk, "in_flight", lane_in_flight(d, lane));
        pack_text(pk, "stages");
        msgpack_pack_array(pk, LANE_STAGES_N);
        for (uint32_t stage = 0; stage < LANE_STAGES_N; stage++)
                pack_stage(pk, &d->procs[topology_proc_stage(t, lane, stage)]);
}

static void pack_gateways(msgpack_packer *pk, const struct daemon *d) {
        const struct topology_shm *t = d->memory.topology;

        msgpack_pack_array(pk, t->n_gateways);
        for (uint32_t g = 0; g < t->n_gateways; g++) {
                const struct process *p = &d->procs[topology_proc_gateway(gateways_slot(d, g))];

                msgpack_pack_map(pk, PROCESS_MEMBERS + 2);
                pack_key_u64(pk, "index", g);
                pack_process(pk, p);
                pack_key_u64(pk, "connections",
                                process_is_running(p) ? count(p, COUNTER_connections) : 0);
        }
}

static void pack_watch(msgpack_packer *pk, const struct process *p) {
        pack_text(pk, "watch");
        msgpack_pack_map(pk, PROCESS_MEMBERS + 5);
        pack_process(pk, p);
        pack_key_u64(pk, "added", count(p, COUNTER_watch_added));
        pack_key_u64(pk, "replaced", count(p, COUNTER_watch_replaced));
        pack_key_u64(pk, "removed", count(p, COUNTER_watch_removed));
        pack_key_u64(pk, "refused", count(p, COUNTER_watch_refused));
        pack_key_u64(pk, "scans", count(p, COUNTER_watch_scans));
}

static void pack_requests(msgpack_packer *pk, const struct daemon *d) {
        uint64_t completed = sum_of_gateways(d, COUNTER_completed);
        uint64_t failed = sum_of_gateways(d, COUNTER_failed);
        uint64_t cancelled = sum_of_gateways(d, COUNTER_cancelled);
        uint64_t in_flight = daemon_in_flight(d);

        msgpack_pack_map(pk, 7);
        pack_key_u64(pk, "admitted", completed + failed + cancelled + in_flight);
        pack_key_u64(pk, "completed", completed);
        pack_key_u64(pk, "failed", failed);
        pack_key_u64(pk, "shed",
                        sum_of_gateways(d, COUNTER_shed_door) +
                                        sum_of_gateways(d, COUNTER_shed_timeout) +
                                        sum_of_gateways(d, COUNTER_shed_draining) +
                                        sum_of_gateways(d, COUNTER_shed_down) +
                                        sum_of_gateways(d, COUNTER_shed_database));
        pack_key_u64(pk, "cancelled", cancelled);
        pack_key_u64(pk, "in_flight", in_flight);
        pack_key_u64(pk, "dead_letters", sum_of(d, COUNTER_dead_letters));
}

void status_pack(const struct daemon *d, msgpack_packer *pk) {
        const struct topology_shm *t = d->memory.topology;
        const struct process *watch = &d->procs[topology_proc_watch(t)];

        msgpack_pack_map(pk, 11 + watch->wanted);
        pack_key_text(pk, "version", MR_VERSION);
        pack_key_text(pk, "instance", d->memory.instance);
        pack_key_u64(pk, "pid", (uint64_t)getpid());
        pack_text(pk, "uptime_s");
        msgpack_pack_double(pk, (double)((clock_now_ns() - d->begun_ns) / NS_PER_MS) / 1000.0);
        pack_key_text(pk, "state", status_state(d));
        pack_key_text(pk, "socket", d->client.path);
        pack_text(pk, "http");
        msgpack_pack_array(pk, d->n_http);
        for (uint32_t i = 0; i < d->n_http; i++)
                pack_text(pk, d->http[i].name);
        pack_text(pk, "gateways");
        pack_gateways(pk, d);
        pack_text(pk, "lanes");
        msgpack_pack_array(pk, t->n_lanes);
        for (uint32_t lane = 0; lane < t->n_lanes; lane++)
                pack_lane(pk, d, lane);
        pack_text(pk, "telemetry");
        msgpack_pack_map(pk, PROCESS_MEMBERS);
        pack_process(pk, &d->procs[topology_proc_telemetry(t)]);
        if (watch->wanted)
                pack_watch(pk, watch);
        pack_text(pk, "requests");
        pack_requests(pk, d);
}
