/*
 * memory -- the shared memory of an instance: made anew, or taken over from a dead one.
 */
#include "supervisor/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/admission.h"
#include "shm/arena.h"
#include "shm/log.h"
#include "shm/side.h"
#include "shm/slab.h"
#include "stages/common/log.h"

#define MIB (1024.0 * 1024.0)
#define GENERATION_MASK 0xfffffu /* 20 bits: the top of every req_id */

/* ---- unlinking ------------------------------------------------------------------------------- */

static void unlink_one(const char *name, void *ctx) {
        int *n = ctx;
        int r = segment_unlink(name);

        if (r == 0)
                ++*n;
        else if (r != -ENOENT)
                log_warn("unlink", "object=%s error=\"%s\"", name, strerror(-r));
}

/* How many objects of the instance there were. */
static int unlink_all(const char *instance) {
        char name[SEGMENT_NAME_MAX];
        int n = 0;

        if (segment_name(name, instance, "topology") == 0)
                unlink_one(name, &n);
        (void)segment_list(instance, unlink_one, &n);
        return n;
}

/* ---- making ---------------------------------------------------------------------------------- */

static void format(const struct memory *m, const struct topology_object *o, void *map) {
        const struct topology_shm *t = m->topology;

        switch (o->kind) {
        case OBJECT_RING_PROD:
                ring_prod_format(map);
                return;
        case OBJECT_RING_CONS:
                ring_cons_format(map);
                return;
        case OBJECT_SLAB:
                slab_format(map, t->slab_slots, (uint32_t)t->slab_units[o->b]);
                return;
        case OBJECT_ADMISSION:
                admission_format(map, t->n_slots_admission, o->a);
                return;
        case OBJECT_ARENA:
                arena_format(map, t->arena_bytes);
                return;
        case OBJECT_LOG:
                log_format(map, t->log_bytes, o->a);
                return;
        case OBJECT_COUNTERS:
                counters_format(map);
                return;
        case OBJECT_SIDE:
                side_format(map);
                return;
        case OBJECT_TOPOLOGY:
                memcpy(map, t, sizeof(*t));
                /* The copy has no magic: whoever finds this object without it knows that it was
                 * never finished. The fence keeps the compiler from storing it first; a kill shows
                 * a prefix of the instructions. */
                atomic_signal_fence(memory_order_seq_cst);
                *(volatile uint64_t *)&((struct topology_shm *)map)->magic = MAGIC_TOPOLOGY;
                return;
        case OBJECTS_N:
                return;
        }
}

/* With room for its first bytes at least. */
static int make_object(struct memory *m, uint32_t i, uint64_t first) {
        const struct topology_object *o = &m->objects[i];
        char name[SEGMENT_NAME_MAX];
        void *map;
        int r;

        r = segment_name(name, m->instance, o->name);
        if (r == 0)
                r = segment_create_thin(name, o->bytes, first, &m->fds[i]);
        if (r == 0)
                r = segment_map(m->fds[i].rw, o->bytes, true, &map);
        if (r < 0)
                return r;
        format(m, o, map);
        segment_unmap(map, o->bytes);
        return 0;
}

static uint64_t bytes_needed(const struct memory *m) {
        return topology_sum(m->topology, m->objects, m->n_objects);
}

static int no_space(const struct memory *m, struct report *report) {
        uint64_t available = 0, total = 0;

        (void)segment_space(&available, &total);
        report_set(report,
                        "/dev/shm is too small: %" PRIu64
                        " bytes (%.1f MiB) are needed for %u lanes, %" PRIu64
                        " (%.1f MiB) are free of %.1f MiB; enlarge it (mount -o remount,size=..., "
                        "docker "
                        "--shm-size), or lower lanes, stream.log_bytes or admission.arena_bytes",
                        bytes_needed(m), (double)bytes_needed(m) / MIB, m->topology->n_lanes,
                        available, (double)available / MIB, (double)total / MIB);
        return MEMORY_E_USER;
}

static int make_all(struct memory *m, struct report *report) {
        uint64_t available, total;
        uint32_t i;
        int r;

        if (segment_space(&available, &total) == 0 && available < bytes_needed(m))
                return no_space(m, report);
        /* The topology is object 0 and comes last. */
        for (i = 1; i <= m->n_objects; i++) {
                r = topology_is_spare(m->topology, &m->objects[i % m->n_objects])
                                    ? 0
                                    : make_object(m, i % m->n_objects,
                                                      m->objects[i % m->n_objects].bytes);
                if (r == 0)
                        continue;
                unlink_all(m->instance); /* with everything released the report says what is free */
                if (r == -ENOSPC || r == -ENOMEM)
                        return no_space(m, report);
                report_set(report, "cannot make shared memory %s of instance \"%s\": %s",
                                m->objects[i % m->n_objects].name, m->instance, strerror(-r));
                return MEMORY_E_USER;
        }
        return 0;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

uint64_t memory_lane(const struct memory *m, uint32_t lane) {
        return atomic_load_explicit(&m->shared->lane_state[lane], memory_order_relaxed);
}

void memory_lane_set(
                struct memory *m, uint32_t lane, enum lane_state state, uint64_t generation) {
        /* SYNC(lane.state): the gateways are rung after this store -> lanes_turn(). */
        atomic_store_explicit(&m->shared->lane_state[lane], lane_word(state, generation),
                        memory_order_release);
}

void memory_lane_missing(struct memory *m, uint32_t lane, uint64_t stages) {
        atomic_store_explicit(&m->shared->lane_missing[lane], stages, memory_order_relaxed);
}

static bool goes_with(const struct memory *m, uint32_t i, uint32_t lane) {
        return topology_object_lane(m->topology, &m->objects[i]) == lane;
}

int memory_lane_remake(struct memory *m, uint32_t lane) {
        char name[SEGMENT_NAME_MAX];
        int n = 0, r = 0;

        /* All of the old first: there may be no room for both. */
        for (uint32_t i = 0; i < m->n_objects; i++) {
                if (!goes_with(m, i, lane))
                        continue;
                segment_close(&m->fds[i]);
                if (segment_name(name, m->instance, m->objects[i].name) == 0)
                        unlink_one(name, &n);
        }
        for (uint32_t i = 0; r == 0 && i < m->n_objects; i++)
                if (goes_with(m, i, lane))
                        r = make_object(m, i, m->objects[i].bytes);
        return r;
}

/* What the dead supervisor knew of the lanes: a reset that it did not finish is finished; a stage
 * that was down is tried again. */
static int adopt_lanes(struct memory *m, struct report *report) {
        for (uint32_t lane = 0; lane < m->topology->n_lanes; lane++) {
                uint64_t word = memory_lane(m, lane);
                int r = 0;

                if (lane_word_state(word) == LANE_RESETTING) {
                        log_warn("lane_reset", "lane=%u what=\"begun by a supervisor that died; "
                                               "repeated\"",
                                        lane);
                        r = memory_lane_remake(m, lane);
                }
                if (r < 0) {
                        report_set(report,
                                        "cannot make the shared memory of lane %u of instance "
                                        "\"%s\" anew: %s",
                                        lane, m->instance, strerror(-r));
                        return MEMORY_E_USER;
                }
                memory_lane_set(m, lane, LANE_RUNNING, lane_word_generation(word));
        }
        return 0;
}

/* ---- leftovers ------------------------------------------------------------------------------- */

enum leftover { LEFTOVER_NONE, LEFTOVER_UNFINISHED, LEFTOVER_OTHER, LEFTOVER_SAME };

static void count_one(const char *name, void *ctx) {
        (void)name;
        ++*(int *)ctx;
}

/* What is taken over from a topology that is the same. */
struct inherited {
        uint64_t generation;
        uint64_t lanes[LANES_MAX]; /* lane_word() */
};

static enum leftover look(const struct memory *m, struct inherited *ret) {
        struct topology_shm *head = NULL;
        char name[SEGMENT_NAME_MAX];
        enum leftover found = LEFTOVER_UNFINISHED;
        int n = 0, fd;
        ssize_t len;

        if (segment_list(m->instance, count_one, &n) < 0 || n == 0)
                return LEFTOVER_NONE;
        if (segment_name(name, m->instance, "topology") < 0)
                return LEFTOVER_OTHER;
        fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
        if (fd == -1)
                return errno == ENOENT ? LEFTOVER_UNFINISHED : LEFTOVER_OTHER;
        head = calloc(1, sizeof(*head));
        len = head ? pread(fd, head, sizeof(*head), 0) : -1;
        close(fd);
        if (len >= (ssize_t)sizeof(head->magic) && head->magic != 0)
                found = LEFTOVER_OTHER;
        if (len == (ssize_t)sizeof(*head) && topology_check(head, topology_bytes()) == 0 &&
                        head->hash == m->topology->hash) {
                ret->generation = head->generation;
                for (uint32_t lane = 0; lane < LANES_MAX; lane++)
                        ret->lanes[lane] = atomic_load_explicit(
                                        &head->lane_state[lane], memory_order_relaxed);
                found = LEFTOVER_SAME;
        }
        free(head);
        return found;
}

/* Made to its end? Then a gateway may have used it. */
static bool arena_is_finished(const struct memory *m, uint32_t i) {
        struct arena_view view;
        bool finished;
        void *map;

        if (segment_map(m->fds[i].ro, m->objects[i].bytes, false, &map) < 0)
                return false;
        finished = arena_view_init(&view, map, m->objects[i].bytes) == 0;
        segment_unmap(map, m->objects[i].bytes);
        return finished;
}

/* 0 also for the one arena that need not be there. */
static int open_one(struct memory *m, uint32_t i, bool *spared) {
        const struct topology_object *o = &m->objects[i];
        char name[SEGMENT_NAME_MAX];
        int r;

        r = segment_name(name, m->instance, o->name);
        if (r == 0)
                r = segment_open(name, o->bytes, &m->fds[i]);
        if (o->kind != OBJECT_ARENA || (r == 0 && arena_is_finished(m, i)))
                return r;
        segment_close(&m->fds[i]);
        if (*spared)
                return r ? r : -EPROTO;
        *spared = true;
        (void)segment_unlink(name);
        return 0;
}

/* Of a lane that was being reset nothing is taken over. */
static bool is_being_reset(const struct memory *m, const struct inherited *was, uint32_t i) {
        uint32_t lane = topology_object_lane(m->topology, &m->objects[i]);

        return lane != TOPOLOGY_NO_LANE && lane_word_state(was->lanes[lane]) == LANE_RESETTING;
}

static int open_all(struct memory *m, const struct inherited *was) {
        bool spared = false;
        int r;

        for (uint32_t i = 0; i < m->n_objects; i++) {
                if (is_being_reset(m, was, i))
                        continue;
                r = open_one(m, i, &spared);
                if (r == 0)
                        continue;
                log_warn("adopt", "object=%s error=\"%s\"", m->objects[i].name, strerror(-r));
                for (uint32_t k = 0; k < i; k++)
                        segment_close(&m->fds[k]);
                return r;
        }
        return 0;
}

/* 0 and m->adopted, or 0 and nothing is left of the dead instance. */
static int settle_leftovers(struct memory *m, bool discard, struct report *report) {
        struct inherited was = {.generation = 0};
        enum leftover found = look(m, &was);

        if (found == LEFTOVER_NONE)
                return 0;
        if (discard) {
                log_info("discard", "objects=%d", unlink_all(m->instance));
                return 0;
        }
        if (found == LEFTOVER_OTHER) {
                report_set(report,
                                "instance \"%s\" has left shared memory of another layout or of "
                                "other sizes "
                                "(lanes, gateways, channels, admission, memory, stream.log_bytes): "
                                "start it "
                                "with the settings and the version that it had, or give up what it "
                                "was doing "
                                "with --discard",
                                m->instance);
                return MEMORY_E_USER;
        }
        if (found == LEFTOVER_SAME && open_all(m, &was) == 0) {
                m->topology->generation = was.generation;
                m->adopted = true;
                log_info("adopt", "objects=%u generation=%" PRIu64, m->n_objects, was.generation);
                return 0;
        }
        log_warn("leftover", "unfinished=1 removed=%d", unlink_all(m->instance));
        return 0;
}

/* ---- beginning ------------------------------------------------------------------------------- */

static uint64_t new_generation(void) {
        uint64_t generation = (uint64_t)time(NULL) & GENERATION_MASK;

        return generation ? generation : 1;
}

static int map_topology(struct memory *m) {
        void *map;
        int r = segment_map(m->fds[0].rw, topology_bytes(), true, &map);

        if (r == 0)
                m->shared = map;
        return r;
}

static int map_counters(struct memory *m) {
        void *map;
        int r;

        for (uint32_t i = 0; i < m->n_objects; i++) {
                const struct topology_object *o = &m->objects[i];

                if (o->kind != OBJECT_COUNTERS)
                        continue;
                r = segment_map(m->fds[i].ro, o->bytes, false, &map);
                if (r < 0)
                        return r;
                m->counters[o->a] = map;
                if (counters_check(map, o->bytes))
                        return -EPROTO;
        }
        return 0;
}

static int prepare(struct memory *m, const struct settings *s, uint32_t n_cores) {
        int r;

        snprintf(m->instance, sizeof(m->instance), "%s", s->instance);
        m->topology = calloc(1, sizeof(*m->topology));
        m->objects = calloc(TOPOLOGY_OBJECTS_MAX, sizeof(*m->objects));
        m->fds = malloc(TOPOLOGY_OBJECTS_MAX * sizeof(*m->fds));
        if (!m->topology || !m->objects || !m->fds)
                return -ENOMEM;
        for (uint32_t i = 0; i < TOPOLOGY_OBJECTS_MAX; i++)
                m->fds[i] = (struct segment_fds){.rw = -1, .ro = -1};
        r = topology_build(s, n_cores, new_generation(), m->topology);
        if (r == 0)
                m->n_objects = topology_objects(m->topology, m->objects);
        return r;
}

/* ---- arenas ---------------------------------------------------------------------------------- */

static uint32_t arena_object(const struct memory *m, uint32_t slot) {
        uint32_t i = 0;

        while (m->objects[i].kind != OBJECT_ARENA || m->objects[i].a != slot)
                i++; /* each slot has one in the list */
        return i;
}

int memory_arena_make(struct memory *m, uint32_t slot) {
        uint32_t i = arena_object(m, slot);
        int r = m->arena[slot] ? 0 : make_object(m, i, m->objects[i].bytes);

        if (r == -ENOSPC) {
                log_warn("arena", "slot=%u what=\"/dev/shm has no room for a second one yet: large "
                                  "requests may wait\"", slot);
                r = make_object(m, i, arena_head_bytes(m->topology->arena_bytes));
                m->thin[slot] = true;
        }
        if (r) { /* half made is not made */
                memory_arena_drop(m, slot);
                return r;
        }
        if (!m->arena[slot])
                m->arena[slot] = ++m->n_arenas;
        return 0;
}

static void fill_arenas(struct memory *m) {
        for (uint32_t slot = 0; slot < m->topology->n_gateway_slots; slot++)
                if (m->arena[slot] && m->thin[slot]) {
                        uint32_t i = arena_object(m, slot);

                        m->thin[slot] = segment_fill(&m->fds[i], m->objects[i].bytes) != 0;
                }
}

void memory_arena_drop(struct memory *m, uint32_t slot) {
        uint32_t i = arena_object(m, slot);
        char name[SEGMENT_NAME_MAX];

        if (segment_name(name, m->instance, m->objects[i].name) == 0)
                (void)segment_unlink(name);
        segment_close(&m->fds[i]);
        m->arena[slot] = 0;
        m->thin[slot] = false;
        fill_arenas(m);
}

/* One that was taken over may be thin. */
static void number_arenas(struct memory *m) {
        for (uint32_t slot = 0; slot < m->topology->n_gateway_slots; slot++)
                if (m->fds[arena_object(m, slot)].rw != -1) {
                        m->arena[slot] = ++m->n_arenas;
                        m->thin[slot] = m->adopted;
                }
        fill_arenas(m);
}

/* ---- life ------------------------------------------------------------------------------------ */

int memory_open(const struct settings *s, uint32_t n_cores, bool discard, struct memory *ret,
                struct report *report) {
        struct memory m = {.n_objects = 0};
        int r;

        r = prepare(&m, s, n_cores);
        if (r) {
                report_set(report, "cannot lay out shared memory with these settings: %s",
                                strerror(-r));
                memory_close(&m, false);
                return MEMORY_E_USER;
        }
        r = settle_leftovers(&m, discard, report);
        if (r == 0 && !m.adopted)
                r = make_all(&m, report);
        if (r) {
                memory_close(&m, false);
                return r;
        }
        r = map_topology(&m);
        if (r == 0)
                r = map_counters(&m);
        if (r) {
                report_set(report, "cannot map the counters of instance \"%s\": %s", m.instance,
                                strerror(-r));
                memory_close(&m, !m.adopted);
                return MEMORY_E_USER;
        }
        number_arenas(&m);
        if (m.adopted)
                r = adopt_lanes(&m, report);
        if (r) {
                memory_close(&m, false);
                return r;
        }
        *ret = m;
        return 0;
}

void memory_close(struct memory *m, bool unlink) {
        if (unlink)
                unlink_all(m->instance);
        for (uint32_t p = 0; p < PROCS_MAX; p++)
                if (m->counters[p])
                        segment_unmap((void *)(uintptr_t)m->counters[p], counters_bytes());
        segment_unmap(m->shared, topology_bytes());
        for (uint32_t i = 0; m->fds && i < m->n_objects; i++)
                segment_close(&m->fds[i]);
        free(m->fds);
        free(m->objects);
        free(m->topology);
        *m = (struct memory){.n_objects = 0};
}
