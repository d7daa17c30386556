#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/segment.h"
#include "stages/common/sandbox.h"
#include "stages/common/title.h"
#include "stages/common/worker.h"

/* What is gathered on the way to START. */
struct setup {
        struct worker *w;
        char *why;
        int highest_fd;    /* of those that are known and kept */
        uint8_t *settings; /* hello.settings_bytes, filled as packets come */
        uint32_t settings_len;
        int ring_fd[RINGS_MAX][2]; /* [id - 1]: producer's, consumer's object; -1: none */
        bool hello;
        uint8_t buf[CHANNEL_BYTES];
};

__attribute__((format(printf, 2, 3))) static int refuse(
                char why[static WORKER_WHY_BYTES], const char *format, ...) {
        va_list args;
        va_start(args, format);
        vsnprintf(why, WORKER_WHY_BYTES, format, args);
        va_end(args);
        return WORKER_E_REFUSED;
}

/* ---- what this process was started with --------------------------------------------------------
 */

/* A descriptor that the supervisor does not know of would survive sandbox and restart unseen. */
static int check_descriptors(const struct worker *w, char why[static WORKER_WHY_BYTES]) {
        DIR *dir = opendir("/proc/self/fd");
        if (!dir)
                return refuse(why, "cannot read /proc/self/fd: %s", strerror(errno));
        int r = 0;
        for (struct dirent *e = readdir(dir); e && r == 0; e = readdir(dir)) {
                long fd = strtol(e->d_name, NULL, 10);
                if (e->d_name[0] != '.' && fd > CHANNEL_FD && fd != dirfd(dir) &&
                                fd != loop_fd(w->loop))
                        r = refuse(why,
                                        "descriptor %ld is open at the start: expected 0, 1, 2 and "
                                        "%d "
                                        "(channel) only",
                                        fd, CHANNEL_FD);
        }
        closedir(dir);
        return r;
}

/* Dies with its parent. The signal comes only when the parent dies after this call: so whoever made
 * the channel must still be the parent afterwards. */
static int check_parent(char why[static WORKER_WHY_BYTES]) {
        struct ucred peer;
        socklen_t len = sizeof(peer);
        int type;
        socklen_t type_len = sizeof(type);

        if (getsockopt(CHANNEL_FD, SOL_SOCKET, SO_TYPE, &type, &type_len) == -1 ||
                        type != SOCK_SEQPACKET ||
                        getsockopt(CHANNEL_FD, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
                return refuse(why,
                                "descriptor %d is no channel: stages are started by `millrace "
                                "run`, not "
                                "by hand",
                                CHANNEL_FD);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
                return refuse(why, "cannot ask for the parent's death signal: %s", strerror(errno));
        return peer.pid == getppid() ? 0 : WORKER_E_GONE;
}

/* ---- objects -----------------------------------------------------------------------------------
 */

static int map_whole(const struct channel_object *object, int fd, void **ret,
                char why[static WORKER_WHY_BYTES]) {
        struct stat st;

        if (fstat(fd, &st) == -1)
                return -errno;
        /* Beyond the end of the object lies SIGBUS. */
        if (st.st_size < 0 || (uint64_t)st.st_size != object->bytes)
                return refuse(why, "object kind %u (%u, %u) has %lld bytes, expected %llu",
                                object->kind, object->a, object->b, (long long)st.st_size,
                                (unsigned long long)object->bytes);
        return segment_map(fd, object->bytes, object->writable, ret);
}

static int map_topology(struct worker *w, const struct channel_object *object, void *map,
                char why[static WORKER_WHY_BYTES]) {
        const struct channel_hello *hello = &w->hello;

        if (topology_check(map, object->bytes) != 0)
                return refuse(why, "the topology was written by another build of millrace: restart "
                                   "the whole "
                                   "daemon");
        w->topology = map;
        if (hello->proc >= w->topology->n_procs)
                return refuse(why, "there is no process %u in the topology", hello->proc);
        uint32_t role = w->topology->procs[hello->proc].role;
        if (role != hello->role || role != w->ops->role)
                return refuse(why,
                                "this is millrace-%s, but process %u has role %u in the topology "
                                "and "
                                "role %u by the supervisor",
                                w->ops->name, hello->proc, role, hello->role);
        return 0;
}

static int map_counters(struct worker *w, const struct channel_object *object, void *map) {
        if (object->a >= PROCS_MAX || counters_check(map, object->bytes) != 0)
                return -EPROTO;
        w->all_counters[object->a] = map;
        if (object->a == w->hello.proc && object->writable)
                w->counters = map;
        return 0;
}

static int map_side(struct worker *w, const struct channel_object *object, void *map) {
        if (object->a >= PROCS_MAX || side_check(map, object->bytes) != 0)
                return -EPROTO;
        w->all_sides[object->a] = map;
        if (object->a == w->hello.proc && object->writable)
                w->side = map;
        return 0;
}

static int map_admission(struct worker *w, const struct channel_object *object, void *map) {
        if (object->a >= GATEWAY_SLOTS_MAX)
                return -EPROTO;
        if (!object->writable)
                return admission_view_init(&w->admissions[object->a], map, object->bytes);
        w->admission = map;
        return admission_check(map, object->bytes);
}

void worker_unmap_arena(struct worker *w, uint32_t slot) {
        if (slot >= GATEWAY_SLOTS_MAX || !w->arenas[slot].shm)
                return;
        segment_unmap((void *)(uintptr_t)w->arenas[slot].shm, w->arena_view_bytes[slot]);
        w->arenas[slot] = (struct arena_view){.shm = NULL};
}

/* An arena comes again when its slot's gateway was replaced: the old one is gone then. */
static int map_arena(struct worker *w, const struct channel_object *object, void *map) {
        struct arena_view view;

        if (object->a >= GATEWAY_SLOTS_MAX || arena_view_init(&view, map, object->bytes) != 0)
                return -EPROTO;
        if (object->writable) {
                w->arena_map = map;
                w->arena_map_bytes = object->bytes;
                return 0;
        }
        worker_unmap_arena(w, object->a);
        w->arenas[object->a] = view;
        w->arena_view_bytes[object->a] = object->bytes;
        return 0;
}

static int map_log(struct worker *w, const struct channel_object *object, void *map) {
        struct log_view view;

        if (object->a >= LANES_MAX || log_view_init(&view, map, object->bytes) != 0)
                return -EPROTO;
        if (object->writable) {
                w->log = map;
                w->log_map_bytes = object->bytes;
                return 0;
        }
        w->logs[object->a] = view;
        w->log_view_bytes[object->a] = object->bytes;
        return 0;
}

int worker_map_object(struct worker *w, const struct channel_object *object, int fd,
                char why[static WORKER_WHY_BYTES]) {
        void *map = NULL;

        int r = map_whole(object, fd, &map, why);
        if (r != 0)
                return r;
        switch ((enum mr_object)object->kind) {
        case OBJECT_TOPOLOGY:
                r = map_topology(w, object, map, why);
                break;
        case OBJECT_SLAB: /* slab_attach() checks it */
                w->slab_map = map;
                w->slab_bytes = object->bytes;
                break;
        case OBJECT_ADMISSION:
                r = map_admission(w, object, map);
                break;
        case OBJECT_ARENA:
                r = map_arena(w, object, map);
                break;
        case OBJECT_LOG:
                r = map_log(w, object, map);
                break;
        case OBJECT_COUNTERS:
                r = map_counters(w, object, map);
                break;
        case OBJECT_SIDE:
                r = map_side(w, object, map);
                break;
        case OBJECT_RING_PROD: /* come in pairs: see map_rings() */
        case OBJECT_RING_CONS:
        case OBJECTS_N:
                r = -EPROTO;
                break;
        }
        if (r != 0)
                segment_unmap(map, object->bytes);
        /* The topology was this build's, so the object was too: somebody has written over it. */
        if (r == -EPROTO && w->topology && object->kind < OBJECT_COUNTERS) {
                snprintf(why, WORKER_WHY_BYTES, "object kind %u (%u, %u) was written over",
                                object->kind, object->a, object->b);
                if (object->kind == OBJECT_LOG)
                        worker_name_lane(w, object->a);
                return -EBADMSG;
        }
        if (r < 0)
                return refuse(why, "object kind %u (%u, %u) is not what this build expects: %s",
                                object->kind, object->a, object->b, strerror(-r));
        return r;
}

/* ---- messages ----------------------------------------------------------------------------------
 */

/* Until now it may have been a standby. */
static void set_title(const struct worker *w) {
        const struct channel_hello *hello = &w->hello;
        char instance[sizeof(hello->instance) + 1] = "", title[TITLE_BYTES];

        memcpy(instance, hello->instance, sizeof(hello->instance));
        title_worker(title, w->ops->role, instance, hello->lane);
        if (w->title)
                title_set(w->title, title);
}

static int on_hello(struct setup *s, const void *bytes, uint32_t len) {
        struct worker *w = s->w;

        if (len != sizeof(w->hello) || s->hello)
                return -EPROTO;
        memcpy(&w->hello, bytes, len);
        if (w->hello.settings_bytes > SETTINGS_PACKED_MAX || w->hello.proc >= PROCS_MAX)
                return -EPROTO;
        set_title(w);
        s->settings = malloc(w->hello.settings_bytes + 1);
        s->hello = true;
        return s->settings ? 0 : -ENOMEM;
}

static int on_settings(struct setup *s, const void *bytes, uint32_t len) {
        if (len > s->w->hello.settings_bytes - s->settings_len)
                return -EPROTO;
        memcpy(s->settings + s->settings_len, bytes, len);
        s->settings_len += len;
        return 0;
}

static int on_object(struct setup *s, const void *bytes, uint32_t len, int *fd) {
        struct channel_object object;

        if (len != sizeof(object) || *fd < 0)
                return -EPROTO;
        memcpy(&object, bytes, len);
        if (object.kind != OBJECT_RING_PROD && object.kind != OBJECT_RING_CONS)
                return worker_map_object(s->w, &object, *fd, s->why);
        if (object.a == 0 || object.a > RINGS_MAX)
                return -EPROTO;
        int *kept = &s->ring_fd[object.a - 1][object.kind == OBJECT_RING_CONS];
        if (*kept >= 0)
                return -EPROTO;
        *kept = *fd;
        *fd = -1;
        return 0;
}

static int keep_fd(struct setup *s, int *slot, int *fd) {
        if (*fd < 0 || *slot >= 0)
                return -EPROTO;
        *slot = *fd;
        *fd = -1;
        if (*slot > s->highest_fd)
                s->highest_fd = *slot;
        return 0;
}

static int on_bell(struct setup *s, const void *bytes, uint32_t len, int *fd) {
        struct channel_bell bell;

        if (len != sizeof(bell))
                return -EPROTO;
        memcpy(&bell, bytes, len);
        return bell.proc < PROCS_MAX ? keep_fd(s, &s->w->bells[bell.proc], fd) : -EPROTO;
}

static int keep_http(struct setup *s, uint32_t index, int *fd) {
        struct worker *w = s->w;
        struct worker_http *http = &w->http[w->n_http];

        if (w->n_http == HTTP_LISTENERS_MAX)
                return -EPROTO;
        *http = (struct worker_http){.fd = -1, .index = index};
        int r = keep_fd(s, &http->fd, fd);
        w->n_http += r == 0;
        return r;
}

static int on_listener(struct setup *s, const void *bytes, uint32_t len, int *fd) {
        struct channel_listener listener;

        if (len != sizeof(listener))
                return -EPROTO;
        memcpy(&listener, bytes, len);
        if (listener.kind == LISTENER_HTTP)
                return keep_http(s, listener.index, fd);
        if (listener.kind >= sizeof(s->w->listeners) / sizeof(s->w->listeners[0]))
                return -EPROTO;
        return keep_fd(s, &s->w->listeners[listener.kind], fd);
}

/* One message before START. */
static int on_message(struct setup *s, uint32_t type, const void *bytes, uint32_t len, int *fd) {
        if ((type == CHANNEL_HELLO) == s->hello)
                return -EPROTO;
        switch ((enum channel_type)type) {
        case CHANNEL_HELLO:
                return on_hello(s, bytes, len);
        case CHANNEL_SETTINGS:
                return on_settings(s, bytes, len);
        case CHANNEL_OBJECT:
                return on_object(s, bytes, len, fd);
        case CHANNEL_BELL:
                return on_bell(s, bytes, len, fd);
        case CHANNEL_LISTENER:
                return on_listener(s, bytes, len, fd);
        case CHANNEL_LOCK:
                return keep_fd(s, &s->w->lock_fd, fd);
        case CHANNEL_START:
                return 0;
        case CHANNEL_DRAIN:
        case CHANNEL_LEAVE:
        case CHANNEL_READY:
        case CHANNEL_DRAINED:
        case CHANNEL_FAILED:
        case CHANNEL_CUT:
        case CHANNEL_CLOSE:
        case CHANNEL_TAKEN:
        case CHANNEL_LANE:
        case CHANNEL_LANE_LEFT:
        case CHANNEL_LANE_BROKEN:
        case CHANNEL_GIVEN_UP:
                break;
        }
        return -EPROTO;
}

static int receive_all(struct setup *s) {
        for (;;) {
                struct channel_head head;
                uint32_t len;
                int fd;

                int r = channel_recv(CHANNEL_FD, 1, &head, s->buf, sizeof(s->buf), &len, &fd);
                if (r == CHANNEL_E_EOF)
                        return WORKER_E_GONE;
                if (r != 0)
                        return refuse(s->why, "channel: %s", strerror(-r));
                r = on_message(s, head.type, s->buf, len, &fd);
                if (fd >= 0)
                        close(fd); /* mapped: memory stays, the right to shrink it goes */
                if (r == -EBADMSG)
                        return r;
                if (r < 0)
                        return refuse(s->why, "channel message of type %u with %u bytes: %s",
                                        head.type, len, strerror(-r));
                if (r > 0 || head.type == CHANNEL_START)
                        return r;
        }
}

/* ---- rings -------------------------------------------------------------------------------------
 */

static int map_ring(struct setup *s, const struct topology_ring *ring, bool producer,
                struct ring_map *ret) {
        struct ring_geometry geo;
        uint32_t i = ring->id - 1;
        uint32_t peer = producer ? ring->to : ring->from;

        if (ring->id == 0 || ring->id > RINGS_MAX || peer >= PROCS_MAX)
                return refuse(s->why, "the topology's ring %u does not make sense", ring->id);
        if (s->ring_fd[i][0] < 0 || s->ring_fd[i][1] < 0)
                return refuse(s->why, "ring %u: an object was not sent", ring->id);
        if (s->w->bells[peer] < 0)
                return refuse(s->why, "ring %u: the bell of process %u was not sent", ring->id,
                                peer);
        topology_geometry(ring, &geo);
        int r = segment_map_ring(s->ring_fd[i][0], s->ring_fd[i][1], &geo, producer, ret);
        if (r < 0)
                return refuse(s->why, "ring %u cannot be mapped: %s", ring->id, strerror(-r));
        return 0;
}

/* Maps the rings that the topology gives this process, in its order. */
static int map_rings(struct setup *s) {
        struct worker *w = s->w;
        const struct topology_shm *topology = w->topology;

        w->in = calloc(topology->n_rings + 1, sizeof(*w->in));
        w->out = calloc(topology->n_rings + 1, sizeof(*w->out));
        if (!w->in || !w->out)
                return -ENOMEM;
        for (uint32_t i = 0; i < topology->n_rings; i++) {
                const struct topology_ring *ring = &topology->rings[i];
                int r = 0;
                if (ring->to == w->hello.proc) {
                        w->in[w->n_in].ring = ring;
                        r = map_ring(s, ring, false, &w->in[w->n_in++].rx.map);
                } else if (ring->from == w->hello.proc) {
                        w->out[w->n_out].ring = ring;
                        r = map_ring(s, ring, true, &w->out[w->n_out++].tx.map);
                }
                if (r != 0)
                        return r;
        }
        return 0;
}

/* ---- all of it ---------------------------------------------------------------------------------
 */

/* The last incarnation's last words have been read (it was reaped before this one started). Whoever has the
 * new epoch there can tell of its own end. */
static int begin_counters(struct worker *w) {
        struct counters_shm *c = w->counters;
        int r;

        atomic_store_explicit(&c->crash_signal, 0, memory_order_relaxed);
        atomic_store_explicit(&c->crash_code, 0, memory_order_relaxed);
        atomic_store_explicit(&c->crash_pid, 0, memory_order_relaxed);
        atomic_store_explicit(&c->crash_record, 0, memory_order_relaxed);
        for (uint32_t i = 0; i < COUNTERS_WORDS_MAX; i++)
                atomic_store_explicit(&c->words[i], 0, memory_order_relaxed);
        r = crash_install(w);
        if (r < 0)
                return r;
        atomic_store_explicit(&c->epoch, w->hello.epoch, memory_order_relaxed);
        if (w->hello.blame)
                atomic_store_explicit(&c->crashes,
                                atomic_load_explicit(&c->crashes, memory_order_relaxed) + 1,
                                memory_order_relaxed);
        if (w->hello.recycled)
                atomic_store_explicit(&c->recycles,
                                atomic_load_explicit(&c->recycles, memory_order_relaxed) + 1,
                                memory_order_relaxed);
        counters_set(c, COUNTER_private_bytes, 0);
        atomic_store_explicit(&c->heartbeat_ns, clock_now_ns(), memory_order_relaxed);
        log_set_last_words((char *)c->words);
        return 0;
}

static void name_process(const struct worker *w, enum log_level level) {
        char who[64];

        if (w->ops->role < LANE_STAGES_N)
                snprintf(who, sizeof(who), "stage=%s lane=%u", w->ops->name, w->hello.lane);
        else
                snprintf(who, sizeof(who), "stage=%s slot=%u", w->ops->name, w->hello.slot);
        log_init(who, level);
}

static int take_settings(struct setup *s) {
        struct worker *w = s->w;
        static const enum log_level levels[] = {
                        [SETTINGS_LOG_ERROR] = LOG_LEVEL_ERROR,
                        [SETTINGS_LOG_WARN] = LOG_LEVEL_WARN,
                        [SETTINGS_LOG_INFO] = LOG_LEVEL_INFO,
                        [SETTINGS_LOG_DEBUG] = LOG_LEVEL_DEBUG,
        };

        if (s->settings_len != w->hello.settings_bytes)
                return refuse(s->why, "%u bytes of settings came, expected %llu", s->settings_len,
                                (unsigned long long)w->hello.settings_bytes);
        int r = settings_unpack(s->settings, s->settings_len, &w->settings);
        if (r < 0)
                return refuse(s->why, "the settings cannot be read: %s", strerror(-r));
        for (uint32_t i = 0; i < w->n_http; i++)
                if (w->http[i].index >= w->settings->http.listen.n)
                        return refuse(s->why, "a listener came that http.listen does not name");
        name_process(w, levels[w->settings->telemetry.log_level]);
        return 0;
}

static int setup_run(struct setup *s) {
        struct worker *w = s->w;

        int r = receive_all(s);
        if (r != 0)
                return r;
        if (!s->hello || !w->topology || !w->counters || !w->side || w->bells[w->hello.proc] < 0)
                return refuse(s->why,
                                "hello, topology, counters, side ring or own bell was not sent");
        r = begin_counters(w);
        if (r == 0)
                r = take_settings(s);
        if (r == 0)
                r = map_rings(s);
        return r;
}

int worker_setup(struct worker *w, char why[static WORKER_WHY_BYTES]) {
        int r = check_parent(why);
        if (r == 0)
                r = check_descriptors(w, why);
        if (r != 0)
                return r;
        struct setup *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->w = w;
        s->why = why;
        s->highest_fd = loop_fd(w->loop);
        memset(s->ring_fd, -1, sizeof(s->ring_fd));
        r = setup_run(s);
        for (uint32_t i = 0; i < RINGS_MAX; i++)
                for (uint32_t side = 0; side < 2; side++)
                        if (s->ring_fd[i][side] >= 0)
                                close(s->ring_fd[i][side]);
        if (r == 0)
                r = sandbox_close_above(s->highest_fd);
        free(s->settings);
        free(s);
        return r;
}

void worker_close(struct worker *w) {
        for (uint32_t i = 0; i < w->n_in; i++)
                ring_rx_close(&w->in[i].rx);
        for (uint32_t i = 0; i < w->n_in; i++)
                segment_unmap_ring(&w->in[i].rx.map);
        for (uint32_t i = 0; i < w->n_out; i++)
                segment_unmap_ring(&w->out[i].tx.map);
        free(w->in);
        free(w->out);
        w->in = NULL;
        w->out = NULL;
        w->n_in = w->n_out = 0;
        w->loop = loop_free(w->loop);
        w->settings = settings_free(w->settings);
        record_decoder_close(&w->decoder);
}
