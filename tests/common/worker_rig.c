#include "tests/common/worker_rig.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"

const char *stage_path;

struct worker_rig rig;

struct segment_fds object_new(enum mr_object kind, uint32_t a, uint64_t bytes) {
        char object[64], name[SEGMENT_NAME_MAX];
        struct segment_fds fds;

        ck_assert_int_eq(segment_object_name(object, sizeof(object), kind, a, UINT32_MAX), 0);
        ck_assert_int_eq(segment_name(name, rig.instance, object), 0);
        ck_assert_int_eq(segment_create(name, bytes, &fds), 0);
        ck_assert_int_eq(segment_unlink(name), 0); /* the descriptors are enough for a test */
        return fds;
}

void *object_map(int fd, uint64_t bytes) {
        void *map = NULL;
        ck_assert_int_eq(segment_map(fd, bytes, true, &map), 0);
        return map;
}

static void topology_fill(void) {
        struct topology_shm *t = rig.t;

        t->magic = MAGIC_TOPOLOGY;
        t->layout = layout_hash();
        t->n_lanes = 1;
        t->n_gateways = 1;
        t->n_gateway_slots = 2;
        t->n_procs = N_PROCS;
        t->n_rings = 2;
        t->max_in_flight = 16;
        for (uint32_t p = 0; p < N_PROCS; p++)
                t->procs[p].role = p < 2   ? ROLE_GATEWAY
                                   : p < 7 ? p - 2
                                   : p < 8 ? ROLE_TELEMETRY
                                           : ROLE_WATCH;
        t->procs[1].slot = 1;
        for (uint32_t i = 0; i < 2; i++)
                t->rings[i] = (struct topology_ring){.id = i + 1,
                                .kind = RING_DATA,
                                .from = i == 0 ? RAG : SELF,
                                .to = i == 0 ? SELF : INFERENCE,
                                .n = RING_N,
                                .max_batch = RING_MAX_BATCH,
                                .max_rec = RING_BYTES / 4,
                                .bytes = RING_BYTES};
}

static void rings_new(void) {
        for (uint32_t i = 0; i < 2; i++) {
                struct ring_geometry geo;
                topology_geometry(&rig.t->rings[i], &geo);
                rig.prod[i] = object_new(OBJECT_RING_PROD, i + 1, ring_prod_bytes(&geo));
                rig.cons[i] = object_new(OBJECT_RING_CONS, i + 1, ring_cons_bytes(&geo));
                void *prod = object_map(rig.prod[i].rw, ring_prod_bytes(&geo));
                void *cons = object_map(rig.cons[i].rw, ring_cons_bytes(&geo));
                ring_prod_format(prod);
                ring_cons_format(cons);
                segment_unmap(prod, ring_prod_bytes(&geo));
                segment_unmap(cons, ring_cons_bytes(&geo));

                struct ring_map map;
                if (i == 0) {
                        ck_assert_int_eq(segment_map_ring(rig.prod[0].rw, rig.cons[0].ro, &geo,
                                                         true, &map),
                                        0);
                        ck_assert_int_eq(ring_tx_attach(&rig.tx, &map, rig.bells[SELF]), 0);
                } else {
                        ck_assert_int_eq(segment_map_ring(rig.prod[1].ro, rig.cons[1].rw, &geo,
                                                         false, &map),
                                        0);
                        ck_assert_int_eq(ring_rx_attach(&rig.rx, &map, rig.bells[SELF], false), 0);
                }
        }
}

void rig_setup(void) {
        memset(&rig, 0, sizeof(rig));
        rig.role = ROLE_ASSEMBLE;
        snprintf(rig.instance, sizeof(rig.instance), "test-%d", (int)getpid());
        for (uint32_t p = 0; p < N_PROCS; p++)
                ck_assert_int_eq(doorbell_new(&rig.bells[p]), 0);
        rig.topology = object_new(OBJECT_TOPOLOGY, UINT32_MAX, topology_bytes());
        rig.t = object_map(rig.topology.rw, topology_bytes());
        topology_fill();
        rings_new();
        rig.counters = object_new(OBJECT_COUNTERS, SELF, counters_bytes());
        rig.c = object_map(rig.counters.rw, counters_bytes());
        counters_format(rig.c);
        rig.side = object_new(OBJECT_SIDE, SELF, side_bytes());
        struct side_shm *side = object_map(rig.side.rw, side_bytes());
        side_format(side);
        segment_unmap(side, side_bytes());
        ck_assert_int_eq(settings_default(&rig.settings), 0);
        rig.settings->supervisor.heartbeat_timeout_ms = 500;
}

void rig_teardown(void) {
        if (rig.pid > 0) {
                kill(rig.pid, SIGKILL);
                waitpid(rig.pid, NULL, 0);
        }
        ring_rx_close(&rig.rx);
        rig.settings = settings_free(rig.settings);
}

void say_fd(enum channel_type type, const void *bytes, uint32_t len, int fd) {
        int r = channel_send(rig.channel, type, 0, bytes, len, fd);
        ck_assert(r == 0 || r == CHANNEL_E_EOF); /* it may have refused already */
}

void say_object(enum mr_object kind, uint32_t a, uint64_t bytes, bool writable,
                const struct segment_fds *fds) {
        const struct channel_object object = {
                        .kind = kind, .a = a, .writable = writable, .bytes = bytes};
        say_fd(CHANNEL_OBJECT, &object, sizeof(object), writable ? fds->rw : fds->ro);
}

static void say_rings(void) {
        for (uint32_t i = 0; i < 2; i++) {
                struct ring_geometry geo;
                topology_geometry(&rig.t->rings[i], &geo);
                say_object(OBJECT_RING_PROD, i + 1, ring_prod_bytes(&geo), i == 1, &rig.prod[i]);
                if (i == 0 || !rig.skip_ring)
                        say_object(OBJECT_RING_CONS, i + 1, ring_cons_bytes(&geo), i == 0,
                                        &rig.cons[i]);
        }
}

void say_start(uint64_t epoch) {
        static uint8_t packed[SETTINGS_PACKED_MAX];
        struct channel_hello hello = {.role = rig.role,
                        .proc = SELF,
                        .epoch = epoch,
                        .core = UINT32_MAX,
                        .page_bytes = topology_bytes()};
        size_t len = 0;

        ck_assert_int_eq(settings_pack(rig.settings, packed, sizeof(packed), &len), 0);
        hello.settings_bytes = len;
        say_fd(CHANNEL_HELLO, &hello, sizeof(hello), -1);
        say_fd(CHANNEL_SETTINGS, packed, 100, -1);
        say_fd(CHANNEL_SETTINGS, packed + 100, (uint32_t)len - 100 - rig.settings_cut, -1);
        say_object(OBJECT_TOPOLOGY, 0, topology_bytes() + (rig.short_object ? 4096 : 0), false,
                        &rig.topology);
        say_rings();
        say_object(OBJECT_COUNTERS, SELF, counters_bytes(), true, &rig.counters);
        say_object(OBJECT_SIDE, SELF, side_bytes(), true, &rig.side);
        for (uint32_t p = RAG; p <= INFERENCE; p++) {
                const struct channel_bell bell = {.proc = p};
                if (p != INFERENCE || !rig.skip_bell)
                        say_fd(CHANNEL_BELL, &bell, sizeof(bell), rig.bells[p]);
        }
        for (uint32_t i = 0; i < rig.n_http; i++) {
                const struct channel_listener http = {
                                .kind = LISTENER_HTTP, .index = rig.http_from + i};
                say_fd(CHANNEL_LISTENER, &http, sizeof(http), rig.topology.ro);
        }
        say_fd(CHANNEL_LOCK, NULL, 0, rig.topology.ro);
        if (!rig.skip_start)
                say_fd(CHANNEL_START, NULL, 0, -1);
}

void spawn(void) {
        const struct timeval patience = {.tv_sec = PATIENCE_S};
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        rig.pid = fork();
        if (rig.pid == 0) {
                if (dup2(pair[1], 200) != 200 || dup2(200, CHANNEL_FD) != CHANNEL_FD)
                        _exit(99);
                close_range(CHANNEL_FD + 1, ~0u, 0);
                if (rig.extra_fd && dup2(STDERR_FILENO, 17) != 17)
                        _exit(99);
                execl(stage_path, stage_path, (char *)NULL);
                _exit(99);
        }
        close(pair[1]);
        rig.channel = pair[0];
}

uint32_t hear(char *text, uint32_t cap) {
        struct channel_head head;
        uint32_t len = 0;
        int fd;

        int r = channel_recv(rig.channel, 1, &head, text, cap - 1, &len, &fd);
        if (r == CHANNEL_E_EOF)
                return 0;
        ck_assert_int_eq(r, 0);
        text[len] = '\0';
        return head.type;
}

void start(void) {
        char text[512];
        spawn();
        say_start(1);
        uint32_t type = hear(text, sizeof(text));
        ck_assert_msg(type == CHANNEL_READY, "type %u: %s", type, text);
}

int reap(void) {
        int status = 0;
        ck_assert_int_eq(waitpid(rig.pid, &status, 0), rig.pid);
        rig.pid = 0;
        return status;
}

void ends_with(int code) {
        int status = reap();
        ck_assert_msg(WIFEXITED(status), "status %x", (unsigned)status);
        ck_assert_int_eq(WEXITSTATUS(status), code);
}

/* Starts, and expects to be told why it cannot work. */
void refused(const char *why) {
        char text[512] = "";
        spawn();
        say_start(1);
        uint32_t type = hear(text, sizeof(text));
        ck_assert_uint_eq(type, CHANNEL_FAILED);
        ck_assert_msg(strstr(text, why) != NULL, "\"%s\" has no \"%s\"", text, why);
        ends_with(EXIT_PERMANENT);
}

void put(const char *text, uint64_t req_id) {
        const struct ring_meta meta = {.type = RECORD_DELTA, .req_id = req_id};
        uint8_t *to = NULL;
        int r;

        for (int i = 0; (r = ring_tx_begin(&rig.tx, strlen(text), &to)) == RING_E_FULL && i < 1000;
                        i++)
                poll(NULL, 0, 20);
        ck_assert_int_eq(r, 0);
        memcpy(to, text, strlen(text));
        ring_tx_end(&rig.tx, &meta, (uint32_t)strlen(text));
        ring_tx_commit(&rig.tx);
}

/* The next record that the stage wrote; sleeps as any consumer does. */
const char *get(void) {
        static char text[RING_BYTES];
        uint64_t deadline = clock_now_ns() + PATIENCE_S * NS_PER_S;
        const struct ring_msg *msg;
        int r;

        while ((r = ring_rx_peek(&rig.rx, &msg)) == RING_E_EMPTY) {
                struct pollfd bell = {.fd = rig.bells[INFERENCE], .events = POLLIN};
                ck_assert_uint_lt(clock_now_ns(), deadline);
                if (ring_rx_may_sleep(&rig.rx))
                        poll(&bell, 1, 1000);
                ring_rx_disarm(&rig.rx);
                doorbell_clear(rig.bells[INFERENCE]);
        }
        ck_assert_int_eq(r, 0);
        memcpy(text, msg->data, msg->len);
        text[msg->len] = '\0';
        uint64_t seq = msg->seq;
        ring_rx_take(&rig.rx);
        ring_rx_ack(&rig.rx, seq);
        ring_rx_flush(&rig.rx, true);
        return text;
}

uint64_t counter(enum counter which) {
        return counters_get(rig.c, which);
}
