#include "tests/steps/hop.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "shm/ring_state.h"
#include "shm/segment.h"

#define EXIT_SKIPPED 77 /* as meson understands it */
#define BUSY_ROUNDS 3000u /* sleeps of a stage with threads, 20 ms each, before it counts as stuck */

struct hop hop;

/* ---- what is shared ----------------------------------------------------------------------------- */

static void *object_new(uint64_t bytes) {
        void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        STEPS_REQUIRE(map != MAP_FAILED);
        return map;
}

static void ring_new(struct hop_ring *ring, const struct ring_geometry *geo, uint32_t from,
                uint32_t to) {
        int prod_fd = memfd_create("p", MFD_CLOEXEC), cons_fd = memfd_create("c", MFD_CLOEXEC);

        ring->geo = *geo;
        ring->topology = &hop.topology->rings[geo->id - 1];
        *ring->topology = (struct topology_ring){.id = geo->id,
                        .kind = hop_case.role == ROLE_STREAM && to == 0 ? RING_NOTICE : RING_DATA,
                        .from = from,
                        .to = to,
                        .n = geo->n,
                        .max_batch = geo->max_batch,
                        .max_rec = geo->max_rec,
                        .bytes = geo->bytes};
        STEPS_REQUIRE(ftruncate(prod_fd, (off_t)ring_prod_bytes(geo)) == 0);
        STEPS_REQUIRE(ftruncate(cons_fd, (off_t)ring_cons_bytes(geo)) == 0);
        STEPS_REQUIRE(segment_map_ring(prod_fd, cons_fd, geo, true, &ring->prod) == 0);
        STEPS_REQUIRE(segment_map_ring(prod_fd, cons_fd, geo, false, &ring->cons) == 0);
        close(prod_fd);
        close(cons_fd);
        ring_prod_format(ring->prod.prod);
        ring_cons_format(ring->cons.cons);
}

static void topology_new(void) {
        struct topology_shm *t = object_new(topology_bytes());

        *t = (struct topology_shm){.magic = MAGIC_TOPOLOGY,
                        .layout = layout_hash(),
                        .n_lanes = 1,
                        .n_gateways = 1,
                        .n_gateway_slots = 1,
                        .n_procs = HOP_PROCS,
                        .n_rings = 2,
                        .max_in_flight = 2,
                        .slab_slots = hop_case.n_slots};
        hop.topology = t;
        hop.self = 1 + (uint32_t)hop_case.role;
        hop.up = (uint32_t)hop_case.role;
        hop.down = hop_case.role == ROLE_STREAM ? 0 : hop.self + 1;
}

/* Where a worker has its channel: whatever stands there, nothing ever comes. */
static void channel_new(void) {
        int fd;

        STEPS_REQUIRE(doorbell_new(&fd) == 0);
        STEPS_REQUIRE(fd == CHANNEL_FD || dup2(fd, CHANNEL_FD) == CHANNEL_FD);
        if (fd != CHANNEL_FD)
                close(fd);
}

static void objects_new(void) {
        if (hop_case.n_slots > 0) {
                hop.slab_bytes = slab_bytes(hop_case.n_slots, hop_case.n_units);
                hop.slab = object_new(hop.slab_bytes);
                slab_format(hop.slab, hop_case.n_slots, hop_case.n_units);
        }
        if (hop_case.log_budget > 0) {
                hop.log_bytes = log_bytes(hop_case.log_budget, NULL, NULL);
                hop.log = object_new(hop.log_bytes);
                log_format(hop.log, hop_case.log_budget, 0);
                STEPS_REQUIRE(log_view_init(&hop.log_view, hop.log, hop.log_bytes) == 0);
        }
        hop.admission = object_new(admission_bytes(HOP_REQUESTS));
        admission_format(hop.admission, HOP_REQUESTS, 0);
        hop.counters = object_new(counters_bytes());
        counters_format(hop.counters);
        hop.side_ring = object_new(side_bytes());
        side_format(hop.side_ring);
        hop.ready = object_new(LAYOUT_PAGE);
        for (uint32_t i = 0; i < HOP_PROCS; i++)
                STEPS_REQUIRE(doorbell_new(&hop.bells[i]) == 0);
        STEPS_REQUIRE(settings_default(&hop.settings) == 0);
        if (hop_case.settings)
                hop_case.settings(hop.settings);
        STEPS_REQUIRE(record_decoder_init(&hop.decoder) == 0);
}

static void areas_of(struct steps *steps) {
        steps_area(steps, hop.in.prod.prod, ring_prod_bytes(&hop.in.geo));
        steps_area(steps, hop.in.cons.cons, ring_cons_bytes(&hop.in.geo));
        steps_area(steps, hop.out.prod.prod, ring_prod_bytes(&hop.out.geo));
        steps_area(steps, hop.out.cons.cons, ring_cons_bytes(&hop.out.geo));
        if (hop.slab)
                steps_area(steps, hop.slab, hop.slab_bytes);
        if (hop.log)
                steps_area(steps, hop.log, hop.log_bytes);
        steps_bell(steps, hop.bells[hop.self]);
        steps_bell(steps, hop.bells[hop.up]);
        steps_bell(steps, hop.bells[hop.down]);
        (void)steps_look(steps);
}

/* ---- what came out ------------------------------------------------------------------------------ */

uint64_t hop_hash(uint64_t hash, const void *bytes, uint64_t n) {
        const uint8_t *at = bytes;

        for (uint64_t i = 0; i < n; i++)
                hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
        return hash;
}

static bool reruns(uint64_t req_id) {
        return hop_case.reruns && hop_case.reruns(req_id);
}

/* It died once more with this one at hand, and that was once too often: so it must not go on. */
static bool given_up(uint64_t req_id) {
        return req_id && hop.struck == req_id &&
               hop_case.strikes(req_id) >= POISON_STRIKES - 1;
}

void hop_seen(uint64_t req_id, uint64_t ord, uint64_t digest, bool last, enum mr_error code) {
        struct hop_side *side = &hop.side;
        uint64_t at = side->n_out++ % (HOP_REQUESTS * HOP_OUTPUTS);

        if (req_id == 0 || req_id > HOP_REQUESTS ||
                        ord >= side->request[req_id].base + HOP_OUTPUTS) {
                side->n_wrong++;
                return;
        }
        if (ord < side->request[req_id].n || side->request[req_id].ended) {
                side->n_doubled++;
                return;
        }
        side->n_lost += ord > side->request[req_id].n;
        side->request[req_id].n = (uint32_t)ord + 1;
        side->request[req_id].ended = last;
        ord -= side->request[req_id].base;
        if (hop.learning) {
                hop.digest[req_id][ord] = digest;
                hop.order[at] = req_id << 32 | ord;
                hop.n_outputs[req_id] = (uint32_t)ord + 1;
        } else if (hop_case.restarts && code == MR_E_worker_restarted && ord > 0 && !reruns(req_id)) {
                side->n_restarted++;
        } else if (given_up(req_id)) {
                side->n_letters += code == MR_E_dead_letter;
                side->n_wrong += code != MR_E_dead_letter;
        } else if (ord >= hop.n_outputs[req_id] || digest != hop.digest[req_id][ord] ||
                        (hop_case.ordered && hop.order[at] != (req_id << 32 | ord))) {
                side->n_wrong++;
        }
}

/* What was seen is void: the same comes again behind this record. */
static void anew(uint64_t req_id, uint64_t ord) {
        struct hop_side *side = &hop.side;

        if (req_id == 0 || req_id > HOP_REQUESTS || !reruns(req_id) ||
                        ord != side->request[req_id].n || side->request[req_id].ended) {
                side->n_wrong++;
                return;
        }
        side->request[req_id].base = (uint32_t)ord;
        side->request[req_id].n = (uint32_t)ord + 1;
        side->n_out++;
        side->n_reruns++;
}

void hop_take_record(const struct ring_msg *msg) {
        static uint8_t buf[65536];
        struct record record;
        uint32_t len = 0;

        if (record_decode(&hop.decoder, msg->data, msg->len, &record) != 0) {
                hop.side.n_wrong++;
                return;
        }
        if (hop_case.restarts && msg->type == RECORD_RESTART) {
                anew(msg->req_id, msg->ord);
                return;
        }
        if (hop.learning && msg->type == RECORD_RESTART && msg->req_id <= HOP_REQUESTS)
                hop.text[msg->req_id][0] = '\0';
        if (hop.learning && record.has & HAS(text) && msg->req_id <= HOP_REQUESTS)
                strncat(hop.text[msg->req_id], record.text.p, record.text.n);
        record.has &= ~(HAS(rag_us) | HAS(assemble_us) | HAS(inference_us) | HAS(ttft_us) |
                        HAS(post_us));
        STEPS_REQUIRE(record_encode(&record, buf, sizeof(buf), &len) == 0);
        hop_seen(msg->req_id, msg->ord, hop_hash(msg->type, buf, len),
                        (msg->flags & RING_LAST) != 0,
                        record.has & HAS(code) ? (enum mr_error)record.code : MR_E_none);
}

uint32_t hop_put_record(const struct record *record, uint8_t *to) {
        uint32_t len = 0;

        STEPS_REQUIRE(record_encode(record, to, HOP_INPUT_MAX, &len) == 0);
        return len;
}

/* ---- the neighbours ----------------------------------------------------------------------------- */

/* Takes what is visible, acknowledges it and says so. */
static void drain(void) {
        struct ring_rx *rx = &hop.side.drain;
        const struct ring_msg *msg;
        int r;

        while ((r = ring_rx_peek(rx, &msg)) == 0) {
                uint64_t seq = msg->seq;
                ring_rx_take(rx);
                hop_case.take(msg);
                ring_rx_ack(rx, seq);
        }
        hop.side.n_wrong += r < 0;
        ring_rx_idle(rx);
        ring_rx_flush(rx, true);
        if (hop_case.woken)
                hop_case.woken();
}

static void drain_and_sleep(void) {
        do
                drain();
        while (!ring_rx_may_sleep(&hop.side.drain));
}

static bool feed_one(void) {
        struct ring_tx *tx = &hop.side.feeder;
        struct ring_meta meta = {.t0 = 1};
        uint8_t *to;
        uint32_t len;
        int r;

        if (ring_tx_room(tx, 1, HOP_INPUT_MAX) != 0)
                return false;
        r = ring_tx_begin(tx, HOP_INPUT_MAX, &to);
        STEPS_REQUIRE(r == 0);
        if (hop_case.strikes) /* of lives before the first that is seen here */
                ring_state_store(&(struct ring_rx){.map = hop.in.cons}, tx->next,
                                ring_state_pack(tx->next, 0, hop_case.strikes(hop.side.n_fed + 1),
                                                RING_CLAIMED));
        len = hop_case.input(hop.side.n_fed + 1, &meta, to);
        ring_tx_end(tx, &meta, len);
        ring_tx_commit(tx);
        hop.side.n_fed++;
        return true;
}

static void feed_and_sleep(void) {
        do
                while (hop.side.n_fed < hop.n_limit && feed_one())
                        continue;
        while (hop.side.n_fed < hop.n_limit &&
                        !ring_tx_may_sleep(&hop.side.feeder, 1, HOP_INPUT_MAX));
}

static bool bell_takes(uint32_t proc) {
        struct pollfd wait = {.fd = hop.bells[proc], .events = POLLIN};

        if (poll(&wait, 1, 0) != 1)
                return false;
        doorbell_clear(wait.fd);
        return true;
}

/* The neighbours do what they were rung for; true when the stage was rung by that. */
static bool neighbours(void) {
        bool down, up;

        do {
                down = bell_takes(hop.down);
                if (down)
                        drain_and_sleep();
                up = bell_takes(hop.up);
                if (up)
                        feed_and_sleep();
        } while (down || up);
        return bell_takes(hop.self);
}

static uint64_t word_of(const mr_au64 *word) {
        return atomic_load_explicit(word, memory_order_relaxed);
}

static bool all_taken(void) {
        return hop.side.n_fed == hop.n_limit &&
               word_of(&hop.in.cons.cons->tail) == word_of(&hop.in.prod.prod->head);
}

static bool all_seen(void) {
        for (uint64_t req = 1; req <= hop.n_limit / hop_case.per_request; req++)
                if (!hop.side.request[req].ended)
                        return false;
        return true;
}

/* ---- lives -------------------------------------------------------------------------------------- */

/* It has gone to sleep. True: it goes on. */
static bool goes_on(uint32_t *rounds) {
        if (neighbours())
                return true;
        return hop_case.busy && !(all_taken() && all_seen()) && ++*rounds < BUSY_ROUNDS;
}

/* A life until nobody has anything to do. False: it ended by itself. */
static bool live(pid_t pid) {
        uint32_t rounds = 0;
        int status;

        do {
                if (steps_go(pid, &status) == STEPS_ENDED)
                        return false;
        } while (goes_on(&rounds));
        steps_kill(pid);
        return true;
}

static pid_t life_start(void) {
        pid_t pid;

        hop.epoch++;
        pid = steps_start(hop_life, NULL);

        if (pid > 0)
                return pid;
        fprintf(stderr, "%s: ptrace is not allowed here, nothing was tested\n", hop_case.name);
        exit(EXIT_SKIPPED);
}

uint64_t hop_findings(const struct hop_verdict *v) {
        return v->n_lost + v->n_doubled + v->n_wrong + v->n_stuck + v->n_died;
}

/* Of a slot whose request has not ended. */
static bool version_open(const struct slab_slot_shm *slot) {
        const struct slab_version *a = &slot->v[0], *b = &slot->v[1];
        uint64_t tag_a = word_of(&a->tag), tag_b = word_of(&b->tag);
        bool second = tag_a != tag_b           ? tag_b > tag_a
                      : a->in_seq != b->in_seq ? b->in_seq > a->in_seq
                                               : b->count > a->count;

        return (tag_a | tag_b) != SLAB_VOID && !(second ? b : a)->done;
}

/* Nothing is under way any more, so no slot may say that something is. */
static bool slots_are_free(void) {
        const struct slab_shm *slab = hop.slab;

        for (uint32_t i = 0; slab && i < slab->n_slots; i++)
                if (version_open(&slab->slots[i]))
                        return false;
        return true;
}

/* Everything that can happen has happened: what is it? */
static void judge(bool lived) {
        struct hop_verdict *v = &hop.verdict;
        const struct hop_side *side = &hop.side;
        uint64_t before = hop_findings(v);

        v->n_lives++;
        v->n_lost += side->n_lost;
        v->n_doubled += side->n_doubled;
        v->n_wrong += side->n_wrong;
        v->n_restarted += side->n_restarted;
        v->n_reruns += side->n_reruns;
        v->n_letters += side->n_letters;
        v->n_died += !lived;
        if (lived && (!all_taken() || side->drain.rd != word_of(&hop.out.prod.prod->head)))
                v->n_stuck++;
        else if (lived && all_seen() && !slots_are_free())
                v->n_stuck++;
        else if (lived && !all_seen())
                v->n_lost++;
        if (hop_findings(v) != before)
                fprintf(stderr, "%s: state %llu, instruction %llu: lost %u doubled %u wrong %u "
                                "taken %d seen %d lived %d\n",
                                hop_case.name, (unsigned long long)v->n_states,
                                (unsigned long long)v->n_points, side->n_lost, side->n_doubled,
                                side->n_wrong, all_taken(), all_seen(), lived);
}

static bool known(void) {
        return hop_findings(&hop.verdict) >= hop.enough;
}

/* The input that has the strike more: it stands there, or the next life will write it. */
static uint64_t struck_last(void) {
        const struct ring_rx rx = {.map = hop.in.cons};
        uint64_t head = word_of(&hop.in.prod.prod->head);

        for (uint64_t seq = word_of(&hop.in.cons.cons->tail); seq != head; seq++)
                if (ring_state_strikes(ring_state_load(&rx, seq)) > hop_case.strikes(seq))
                        return seq;
        return hop.blame ? word_of(&hop.in.cons.cons->active) : 0;
}

/* Whose doing the next life hears that this death was. */
static void blame(bool own) {
        hop.blame = own;
        hop.struck = hop_case.strikes ? struck_last() : 0;
}

/* The stage is dead now: what follows? Everything is as before afterwards, but for the verdict. */
static void recover(struct steps *steps, bool awake) {
        struct hop_side before = hop.side;

        if (awake)
                drain_and_sleep();
        blame(awake); /* once a kill, once the stage's own doing */
        judge(live(life_start()));
        hop.side = before;
        hop.struck = 0;
        steps_restore(steps);
}

/* The recovery is killed too, at each of its instructions up to READY. */
static void recover_twice(struct steps *steps, bool awake) {
        struct hop_side before = hop.side;
        uint64_t n = 0;
        struct steps second;
        int status;
        pid_t pid;

        if (awake)
                drain_and_sleep();
        steps_like(&second, steps);
        blame(awake);
        pid = life_start();
        while (word_of(hop.ready) != (uint64_t)pid && !known() &&
                        steps_one(pid, &status) == STEPS_STEPPED) {
                hop.verdict.n_second++;
                if (steps_look(&second))
                        recover(&second, ++n % 2);
        }
        steps_kill(pid);
        steps_free(&second);
        hop.side = before;
        hop.struck = 0;
        steps_restore(steps);
}

static void at_state(struct steps *steps, const struct hop_plan *plan) {
        uint64_t n = hop.verdict.n_states++;

        if (n % plan->every != 0 || known())
                return;
        recover(steps, false);
        recover(steps, true);
        if (plan->second > 0 && n / plan->every % plan->second == 0)
                recover_twice(steps, n / plan->every / plan->second % 2);
}

/* The victim, from attach to where nobody has anything left to do. */
static void step_through(struct steps *steps, const struct hop_plan *plan) {
        uint32_t rounds = 0;
        int status;
        pid_t pid;

        blame(false);
        pid = life_start();
        at_state(steps, plan);
        for (;;) {
                enum steps_event event = steps_one(pid, &status);
                if (event == STEPS_ENDED) {
                        hop.verdict.n_died++;
                        return;
                }
                if (known() || (event == STEPS_ASLEEP && !goes_on(&rounds)))
                        break;
                hop.verdict.n_points++;
                if (steps_look(steps))
                        at_state(steps, plan);
        }
        steps_kill(pid);
        if (!known())
                judge(true);
}

/* Once more from the beginning, and killed indeed. */
static void kill_at(const struct steps *start, uint64_t point, bool awake) {
        uint32_t rounds = 0;
        int status;
        struct steps here;
        pid_t pid;

        blame(false);
        pid = life_start();
        for (uint64_t i = 0; i < point; i++) {
                enum steps_event event = steps_one(pid, &status);
                if (event == STEPS_ENDED || (event == STEPS_ASLEEP && !goes_on(&rounds)))
                        break;
        }
        steps_kill(pid);
        hop.verdict.n_killed++;
        steps_like(&here, start);
        recover(&here, awake);
        steps_free(&here);
}

/* ---- a whole run -------------------------------------------------------------------------------- */

static bool undisturbed(void) {
        feed_and_sleep();
        return live(life_start()) && all_taken() && all_seen() && hop.side.n_lost == 0 &&
               hop.side.n_doubled == 0 && hop.side.n_wrong == 0;
}

bool hop_new(void) {
        struct hop_side before;
        struct steps start = {.n_areas = 0};

        STEPS_REQUIRE(hop_case.n_inputs / hop_case.per_request <= HOP_REQUESTS);
        channel_new();
        topology_new();
        ring_new(&hop.in, &hop_case.in, hop.up, hop.self);
        ring_new(&hop.out, &hop_case.out, hop.self, hop.down);
        objects_new();
        STEPS_REQUIRE(ring_tx_attach(&hop.side.feeder, &hop.in.prod, hop.bells[hop.self]) == 0);
        STEPS_REQUIRE(ring_rx_attach(&hop.side.drain, &hop.out.cons, hop.bells[hop.self], false) ==
                      0);
        for (uint64_t req = 1; req <= hop_case.n_inputs / hop_case.per_request; req++) {
                STEPS_REQUIRE(follow_add(hop.admission, req) == 0);
                if (hop_case.is_read && hop_case.is_read(req))
                        STEPS_REQUIRE(follow_mark(hop.admission, req, FOLLOW_READ, 1) == 0);
        }
        hop.learning = true;
        hop.n_limit = hop_case.n_warm;
        drain_and_sleep();
        if (hop.n_limit > 0 && !undisturbed())
                return false;
        areas_of(&start);
        before = hop.side;
        hop.n_limit = hop_case.n_inputs;
        if (!undisturbed() || (hop_case.right && !hop_case.right()))
                return false;
        hop.learning = false;
        hop.side = before;
        steps_restore(&start);
        steps_free(&start);
        return true;
}

void hop_run(const struct hop_plan *plan) {
        struct steps start = {.n_areas = 0}, steps;
        struct hop_side before;

        hop.enough = plan->enough;
        feed_and_sleep();
        areas_of(&start);
        steps_like(&steps, &start);
        before = hop.side;
        step_through(&steps, plan);
        for (uint32_t i = 0; i < plan->kills && !known(); i++) {
                hop.side = before;
                steps_restore(&start);
                kill_at(&start, hop.verdict.n_points * i / plan->kills, i % 2);
        }
        steps_free(&steps);
        steps_free(&start);
}

static void ring_free(struct hop_ring *ring) {
        segment_unmap_ring(&ring->prod);
        segment_unmap_ring(&ring->cons);
}

void hop_free(void) {
        ring_rx_close(&hop.side.drain);
        ring_free(&hop.in);
        ring_free(&hop.out);
        record_decoder_close(&hop.decoder);
        hop.settings = settings_free(hop.settings);
}
