#include "stages/common/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/footprint.h"
#include "stages/common/sandbox.h"
#include "stages/common/sandbox_table.h"

#define LOOP_ENTRIES_DEFAULT 256u
/* Nothing may depend on this: who is woken by it while a record waits has found a bug (tripwire).
 */
#define SLEEP_MAX_NS NS_PER_S
/* Counters are mirrored before each sleep, and every so many busy turns. */
#define MIRROR_TURNS 64u
#define LANE_ANY UINT32_MAX

/* Where an input or output stood: what was counted, and whether it has refused a sleep. */
struct seen {
        uint64_t moved;   /* rd of an input, committed of an output, as counted */
        uint64_t bells;   /* n_doorbells as counted */
        uint64_t refused; /* position + 1 at which it kept us awake, 0 = it did not */
        bool armed;
};

struct life {
        struct worker w;
        struct loop_op bell, channel;
        struct doorbells owed; /* by this turn; rung when the loop next enters the kernel */
        struct seen in[RINGS_MAX], out[RINGS_MAX];
        uint64_t sleep_ns;
        uint64_t log_dropped;
        struct footprint footprint;
        uint64_t measured_ns;
        uint32_t busy_turns;
        struct worker_pages pages;
        bool drained_sent;
        uint8_t buf[CHANNEL_BYTES];
};

/* Nothing of what these rings say now is counted again. */
static void see_from_here(struct life *life, uint32_t lane) {
        struct worker *w = &life->w;

        for (uint32_t i = 0; i < w->n_in; i++) {
                if (lane != LANE_ANY && w->in[i].ring->lane != lane)
                        continue;
                life->in[i] = (struct seen){.moved = w->in[i].rx.rd};
                w->in[i].rx.owed = &life->owed;
        }
        for (uint32_t i = 0; i < w->n_out; i++) {
                if (lane != LANE_ANY && w->out[i].ring->lane != lane)
                        continue;
                life->out[i] = (struct seen){.moved = w->out[i].tx.committed};
                w->out[i].tx.owed = &life->owed;
        }
}

/* ---- the channel -------------------------------------------------------------------------------
 */

static void say(enum channel_type type, const char *text) {
        int r = channel_send(CHANNEL_FD, type, 0, text, text ? (uint32_t)strlen(text) : 0, -1);
        if (r == CHANNEL_E_EOF)
                _exit(EXIT_DRAINED);
        if (r != 0)
                log_error("channel", "type=%d error=%s", (int)type, r < 0 ? strerror(-r) : "full");
}

/* Gateways come and go, and their arenas with them. Who has not mapped one must not be sent what
 * refers to it, so the supervisor waits for the answer; without one it starts no gateway there. */
static void on_arena(struct worker *w, const struct channel_object *object, int fd) {
        char why[WORKER_WHY_BYTES];

        if (object->bytes == 0) {
                worker_unmap_arena(w, object->a);
                return;
        }
        int r = worker_map_object(w, object, fd, why);
        if (r == 0)
                say(CHANNEL_TAKEN, NULL);
        else
                log_error("arena", "slot=%u error=\"%s\"", object->a, r > 0 ? why : strerror(-r));
}

static int fail_errno(const char *what, int error);

static void on_object(struct worker *w, const void *bytes, uint32_t len, int *fd) {
        struct channel_object object;
        int r = -EPROTO;

        if (len == sizeof(object))
                memcpy(&object, bytes, len);
        if (len != sizeof(object) || (*fd < 0) != (object.bytes == 0))
                log_broken("channel", "what=object len=%u", len);
        else if (object.kind == OBJECT_ARENA && !object.writable)
                on_arena(w, &object, *fd);
        else if (w->ops->lane && (r = worker_lane_object(w, &object, fd)) != 0)
                _exit(fail_errno("object of a lane", r));
        else if (!w->ops->lane)
                log_broken("channel", "what=object kind=%u", object.kind);
}

/* A successor is given everything anew, so who cannot take a lane up again makes way for it. */
static void on_lane(struct life *life, uint32_t len) {
        struct worker *w = &life->w;
        struct channel_lane lane;

        if (len != sizeof(lane) || !w->ops->lane) {
                log_broken("channel", "what=lane len=%u", len);
                return;
        }
        memcpy(&lane, life->buf, len);
        int r = worker_enter_lane(w, lane.lane);
        if (r < 0)
                _exit(fail_errno("lane", r));
        see_from_here(life, lane.lane);
        w->ops->lane(w, lane.lane, lane.generation);
}

static void on_message(struct life *life, uint32_t type, uint32_t len, int *fd) {
        struct worker *w = &life->w;

        if (type == CHANNEL_OBJECT)
                on_object(w, life->buf, len, fd);
        else if (type == CHANNEL_LANE)
                on_lane(life, len);
        else if (type == CHANNEL_DRAIN) {
                life->drained_sent = false;
                if (!w->draining && w->ops->drain)
                        w->ops->drain(w);
                w->draining = true;
        } else if (type == CHANNEL_CLOSE) {
                if (!w->closing && w->ops->close)
                        w->ops->close(w);
                w->closing = true;
        } else if (type == CHANNEL_CUT)
                w->cut = true;
        else if (type == CHANNEL_LEAVE)
                w->leaving = true;
        else
                log_warn("channel", "what=unknown_message type=%u", type);
}

static void on_channel(struct loop_op *op, int res, uint32_t flags) {
        struct life *life = op->owner;
        (void)res;

        for (;;) {
                struct channel_head head;
                uint32_t len;
                int fd = -1;
                int r = channel_recv(CHANNEL_FD, 0, &head, life->buf, sizeof(life->buf), &len, &fd);
                if (r == CHANNEL_E_AGAIN)
                        break;
                /* The supervisor has gone. What is published is safe, whoever adopts it. */
                if (r != 0)
                        _exit(EXIT_DRAINED);
                on_message(life, head.type, len, &fd);
                if (fd >= 0)
                        close(fd);
        }
        if (!(flags & LOOP_MORE))
                loop_poll_many(life->w.loop, op, CHANNEL_FD, POLLIN);
}

/* Being woken is all that a bell is for. It is never read: each ring of it is an edge of its own.
 */
static void on_bell(struct loop_op *op, int res, uint32_t flags) {
        struct life *life = op->owner;
        (void)res;

        if (!(flags & LOOP_MORE))
                loop_poll_edge(life->w.loop, op, life->w.bells[life->w.hello.proc], POLLIN);
}

/* ---- counters ----------------------------------------------------------------------------------
 */

static void count_moved(struct worker *w, struct seen *seen, enum counter which, uint64_t at,
                uint64_t bells) {
        if (at != seen->moved)
                counters_add(w->counters, which, at - seen->moved);
        if (bells != seen->bells)
                counters_add(w->counters, COUNTER_doorbells, bells - seen->bells);
        seen->moved = at;
        seen->bells = bells;
}

/* Payload bytes behind the next record to be read, by the producer's own descriptors. */
static uint64_t bytes_waiting(const struct ring_rx *rx) {
        const struct ring_map *map = &rx->map;

        if (rx->pos == UINT64_MAX || rx->head == rx->rd)
                return 0;
        const struct ring_desc *last = &map->desc[(rx->head - 1) & (map->geo.n - 1)];
        uint64_t bytes = last->pos + layout_align(last->len, 64) - rx->pos;
        return bytes <= map->geo.bytes ? bytes : map->geo.bytes;
}

/* A sanitizer's shadow memory is private memory too, terabytes of it. */
static void measure(struct life *life) {
        uint64_t now = loop_now_ns(life->w.loop);

        if (MR_SANITIZED || now - life->measured_ns < NS_PER_S)
                return;
        life->measured_ns = now;
        counters_set(life->w.counters, COUNTER_private_bytes, footprint_bytes(&life->footprint));
}

static void mirror(struct life *life) {
        struct worker *w = &life->w;
        uint64_t depth = 0, bytes = 0, high = counters_get(w->counters, COUNTER_ring_high_water);

        for (uint32_t i = 0; i < w->n_in; i++) {
                const struct ring_rx *rx = &w->in[i].rx;
                count_moved(w, &life->in[i], COUNTER_records_in, rx->rd, rx->n_doorbells);
                if (w->in[i].ring->kind != RING_DATA)
                        continue;
                depth += ring_rx_depth(rx);
                bytes += bytes_waiting(rx);
                if (rx->high_water > high)
                        high = rx->high_water;
        }
        for (uint32_t i = 0; i < w->n_out; i++) {
                const struct ring_tx *tx = &w->out[i].tx;
                count_moved(w, &life->out[i], COUNTER_records_out, tx->committed, tx->n_doorbells);
        }
        counters_set(w->counters, COUNTER_ring_depth, depth);
        counters_set(w->counters, COUNTER_ring_bytes, bytes);
        counters_set(w->counters, COUNTER_ring_high_water, high);
        uint64_t dropped = log_dropped();
        if (dropped != life->log_dropped)
                counters_add(w->counters, COUNTER_log_lines_dropped, dropped - life->log_dropped);
        life->log_dropped = dropped;
        measure(life);
}

static void heartbeat(struct worker *w) {
        if (w->stuck)
                return;
        atomic_store_explicit(
                        &w->counters->heartbeat_ns, loop_now_ns(w->loop), memory_order_relaxed);
}

/* I9: before any sleep, and after every turn that follows another. */
static void ring_owed(struct life *life) {
        for (uint32_t i = 0; i < life->owed.n; i++)
                loop_ring(life->w.loop, life->owed.fds[i]);
        life->owed.n = 0;
}

/* ---- sleeping ----------------------------------------------------------------------------------
 */

/* One ring wants to keep us awake. Once is right: something came. When a whole turn has passed and
 * it still stands where it stood, the stage leaves it there on purpose, and what it waits for will
 * wake it. */
static bool keeps_awake(struct seen *seen, uint64_t at) {
        bool first = seen->refused != at + 1;
        seen->refused = at + 1;
        return first;
}

static bool arm_inputs(struct life *life) {
        struct worker *w = &life->w;
        bool sleep = true;

        for (uint32_t i = 0; i < w->n_in; i++) {
                struct ring_rx *rx = &w->in[i].rx;
                struct seen *seen = &life->in[i];
                if (!rx->map.cons) { /* of a lane that is being reset */
                        seen->armed = false;
                        continue;
                }
                seen->armed = ring_rx_may_sleep(rx);
                if (seen->armed) {
                        seen->refused = 0;
                        continue;
                }
                ring_rx_disarm(rx);
                if (keeps_awake(seen, rx->rd))
                        sleep = false;
        }
        return sleep;
}

static bool arm_outputs(struct life *life) {
        struct worker *w = &life->w;
        bool sleep = true;

        for (uint32_t i = 0; i < w->n_out; i++) {
                struct worker_out *out = &w->out[i];
                struct seen *seen = &life->out[i];
                seen->armed = out->blocked &&
                              ring_tx_may_sleep(&out->tx, out->want_n > 0 ? out->want_n : 1,
                                              out->want_bytes);
                if (seen->armed || !out->blocked) {
                        seen->refused = 0;
                        continue;
                }
                ring_tx_disarm(&out->tx);
                if (keeps_awake(seen, out->tx.tail)) {
                        sleep = false;
                        continue;
                }
                /* There is room for what it asked, and a whole turn did not use it: it needs more
                 * than it says, and nobody would wake it for that. */
                counters_add(w->counters, COUNTER_tripwire, 1);
                log_broken("blocked_with_room", "ring=%u n=%u bytes=%llu", out->ring->id,
                                out->want_n, (unsigned long long)out->want_bytes);
        }
        return sleep;
}

static void disarm(struct life *life) {
        struct worker *w = &life->w;

        for (uint32_t i = 0; i < w->n_in; i++)
                if (life->in[i].armed)
                        ring_rx_disarm(&w->in[i].rx);
        for (uint32_t i = 0; i < w->n_out; i++)
                if (life->out[i].armed)
                        ring_tx_disarm(&w->out[i].tx);
}

/* What is no record's doing is no lost wake-up: the turn finds it and knows what to do. */
static bool head_is_possible(const struct ring_rx *rx) {
        uint64_t head = atomic_load_explicit(&rx->map.prod->head, memory_order_relaxed);

        return head - rx->tail <= rx->map.geo.n;
}

/* A record in a ring that was armed: its producer should have rung. */
static const struct worker_in *unrung_input(const struct life *life) {
        for (uint32_t i = 0; i < life->w.n_in; i++) {
                const struct ring_rx *rx = &life->w.in[i].rx;
                if (life->in[i].armed && atomic_load_explicit(&rx->map.prod->head,
                                                         memory_order_relaxed) != rx->rd)
                        return &life->w.in[i];
        }
        return NULL;
}

/* Sleeps until something happens. A producer may have been stopped between its commit and its ring,
 * so a record that waits at one timeout is nothing yet; one that waits at two is a lost wake-up. */
static int sleep_once(struct life *life) {
        struct worker *w = &life->w;
        bool suspected = false;

        if (life->pages.due_ns < loop_now_ns(w->loop) + life->sleep_ns) {
                int r = loop_turn(w->loop, life->pages.due_ns);
                heartbeat(w);
                return r;
        }
        for (;;) {
                uint64_t until = loop_now_ns(w->loop) + life->sleep_ns;
                int r = loop_turn(w->loop, until);
                heartbeat(w);
                if (r != 0 || w->leaving || loop_now_ns(w->loop) < until)
                        return r;
                const struct worker_in *unrung = unrung_input(life);
                if (!unrung || !head_is_possible(&unrung->rx))
                        return 0;
                if (suspected) {
                        counters_add(w->counters, COUNTER_tripwire, 1);
                        log_broken("tripwire", "ring=%u head=%llu", unrung->ring->id,
                                        (unsigned long long)unrung->rx.rd);
                        return 0;
                }
                suspected = true;
        }
}

/* Nothing to do: publish what is held back (I9), announce the sleep, look once more, sleep. */
static int idle(struct life *life) {
        struct worker *w = &life->w;

        for (uint32_t i = 0; i < w->n_in; i++)
                ring_rx_flush(&w->in[i].rx, true);
        mirror(life);
        bool sleep = arm_inputs(life);
        sleep = arm_outputs(life) && sleep;
        if (sleep && w->ops->may_sleep)
                sleep = w->ops->may_sleep(w);
        /* Whoever is to be rung does not wait for pages. */
        if (sleep && life->owed.n == 0)
                worker_fault_in(w, &life->pages, loop_now_ns(w->loop));
        ring_owed(life);
        int r = sleep ? sleep_once(life) : loop_turn(w->loop, 0);
        disarm(life);
        if (sleep)
                counters_add(w->counters, COUNTER_wakeups, 1);
        return r;
}

/* ---- a worker's life ---------------------------------------------------------------------------
 */

static int turns(struct life *life) {
        struct worker *w = &life->w;
        bool busy = false;

        while (!w->leaving) {
                for (uint32_t i = 0; i < w->n_out; i++)
                        w->out[i].blocked = false;
                unsigned worked = w->ops->turn(w);
                if ((w->draining || w->closing) && !life->drained_sent &&
                                (!w->ops->drained || w->ops->drained(w))) {
                        say(CHANNEL_DRAINED, NULL);
                        life->drained_sent = true;
                }
                int r = 0;
                if (worked == 0)
                        r = idle(life);
                else if (++life->busy_turns % MIRROR_TURNS == 0)
                        mirror(life);
                /* What one turn prepared is submitted by the sleep that mostly follows it, with one
                 * system call for both; only a busy stage submits between its turns. */
                if (worked != 0 && busy) {
                        ring_owed(life);
                        r = loop_turn(w->loop, 0);
                }
                busy = worked != 0;
                heartbeat(w);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void ring_neighbours(const struct worker *w) {
        for (uint32_t i = 0; i < PROCS_MAX; i++)
                if (w->bells[i] >= 0 && i != w->hello.proc)
                        doorbell_ring(w->bells[i]);
}

static void ignore_signals(void) {
        static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                signal(signals[i], SIG_IGN);
}

/* Says why this process cannot run, to the log and to the supervisor. */
static int fail(const char *what, const char *why, int code) {
        char text[WORKER_WHY_BYTES + 64];

        snprintf(text, sizeof(text), "%s: %s", what, why);
        log_error("start", "error=\"%s\"", text);
        (void)channel_send(CHANNEL_FD, CHANNEL_FAILED, 0, text, (uint32_t)strlen(text), -1);
        return code;
}

static int fail_errno(const char *what, int error) {
        int code = error == -EINVAL || error == -EPROTO ? EXIT_PERMANENT : 1;
        return fail(what, strerror(-error), error == -EBADMSG ? EXIT_SHARED_STATE : code);
}

/* Everything before contact with memory that others wrote. 0 or an exit code. */
static int prepare(struct life *life) {
        struct worker *w = &life->w;
        char why[WORKER_WHY_BYTES];

        /* What can be made before this process knows who it is has been made while it was a standby. */
        int r = loop_new(&w->loop,
                        w->ops->loop_entries > 0 ? w->ops->loop_entries : LOOP_ENTRIES_DEFAULT);
        if (r == LOOP_E_FORBIDDEN)
                return fail("loop", loop_forbidden_remedy(), EXIT_PERMANENT);
        if (r < 0)
                return fail_errno("loop", r);
        r = record_decoder_init(&w->decoder);
        if (r == 0)
                r = worker_setup(w, why);
        if (r == WORKER_E_GONE)
                return 1;
        if (r != 0)
                return r > 0 ? fail("setup", why, EXIT_PERMANENT) : fail_errno("setup", r);
        loop_see_time(w->loop);
        r = w->ops->init(w);
        if (r < 0)
                return fail_errno("init", r);
        r = footprint_begin(&life->footprint);
        if (r < 0)
                return fail_errno("footprint", r);
        r = sandbox_enter(w);
        if (r > 0)
                return fail("sandbox", sandbox_remedy((enum sandbox_error)r), EXIT_PERMANENT);
        return r < 0 ? fail_errno("sandbox", r) : 0;
}

/* Attach, recover, ring everybody (I7), READY. 0 or an exit code. */
static int begin(struct life *life) {
        struct worker *w = &life->w;

#ifdef MR_FAULTS
        char incarnation[24]; /* what `match` looks at here: #1 is the first */
        uint32_t len = (uint32_t)snprintf(incarnation, sizeof(incarnation), "#%llu",
                        (unsigned long long)w->hello.epoch);
        fault_attach(w->counters);
#endif
        int r = worker_attach_rings(w);
        if (r < 0)
                return fail_errno("attach", r);
        FAULT(w, "in_recovery", incarnation, len);
        r = w->ops->attach ? w->ops->attach(w) : 0;
        if (r < 0) /* the layout is this build's: what stands in it makes no sense */
                return fail_errno("recovery", r == -EPROTO ? -EBADMSG : r);
        see_from_here(life, LANE_ANY);
        uint64_t timeout_ns = w->settings->supervisor.heartbeat_timeout_ms * NS_PER_MS;
        life->sleep_ns = timeout_ns / 4 < SLEEP_MAX_NS ? timeout_ns / 4 : SLEEP_MAX_NS;
        life->bell = (struct loop_op){.fn = on_bell, .owner = life};
        life->channel = (struct loop_op){.fn = on_channel, .owner = life};
        loop_poll_edge(w->loop, &life->bell, w->bells[w->hello.proc], POLLIN);
        loop_poll_many(w->loop, &life->channel, CHANNEL_FD, POLLIN);
        FAULT(w, "before_ready", incarnation, len);
        ring_neighbours(w);
        say(CHANNEL_READY, NULL);
        worker_pages_init(&life->pages, clock_now_ns());
        return 0;
}

static int life_run(struct life *life) {
        struct worker *w = &life->w;

        int code = prepare(life);
        if (code == 0)
                code = begin(life);
        if (code != 0)
                return code;
        int r = turns(life);
        if (r < 0)
                return fail_errno("loop", r);
        /* What the turns have made is published; tails too, and then everybody looks. */
        for (uint32_t i = 0; i < w->n_in; i++)
                ring_rx_flush(&w->in[i].rx, true);
        mirror(life);
        ring_neighbours(w);
        if (w->ops->fini)
                w->ops->fini(w);
        worker_close(w);
        return w->renewing ? EXIT_RENEW : EXIT_DRAINED;
}

/* The supervisor starts it without arguments; a person may ask which build it is of. */
static int say_version(const struct stage_ops *ops) {
#ifdef MR_FAULTS
        printf("millrace-%s " MILLRACE_VERSION " faults: on\n", ops->name);
#else
        printf("millrace-%s " MILLRACE_VERSION "\n", ops->name);
#endif
        return fflush(stdout) == 0 ? 0 : 1;
}

int worker_main(const struct stage_ops *ops, int argc, char **argv) {
        if (argc > 1 && strcmp(argv[1], "--version") == 0)
                return say_version(ops);
        log_init("worker", LOG_LEVEL_INFO);
        ignore_signals();
        struct life *life = calloc(1, sizeof(*life));
        if (!life)
                return 1;
        life->w.ops = ops;
        life->w.title = argc > 0 ? argv[0] : NULL;
        life->w.lock_fd = life->w.half_ring_fd = -1;
        for (uint32_t i = 0; i < PROCS_MAX; i++)
                life->w.bells[i] = -1;
        for (size_t i = 0; i < sizeof(life->w.listeners) / sizeof(life->w.listeners[0]); i++)
                life->w.listeners[i] = -1;
        int code = life_run(life);
        if (code != EXIT_DRAINED)
                _exit(code); /* half set up, perhaps with threads: nothing is to be torn down in
                                order */
        free(life);
        return code;
}

void worker_renew(struct worker *w, const char *why) {
        log_info("renew", "why=%s", why);
        w->renewing = w->leaving = true;
}

_Noreturn void worker_fail(struct worker *w, const char *what, int error) {
        (void)w;
        log_error("shared_state", "what=%s error=\"%s\"", what,
                        strerror(error < 0 ? -error : error));
        _exit(EXIT_SHARED_STATE);
}
