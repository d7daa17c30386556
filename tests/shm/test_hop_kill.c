/*
 * A stage between two rings is killed again and again at random moments; what comes out must be
 * what an undisturbed run makes: nothing lost, nothing twice, every byte. The parent is producer
 * and consumer.
 */
#include <check.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "pair.h"
#include "shm/slab.h"

#define IN_ID 5
#define N_KILLS 300
#define STALL_NS UINT64_C(30000000000)

static struct pair in, out;
static struct ring_tx feeder;
static struct ring_rx drain;
static bool feeder_full; /* something waits to be fed */
static uint64_t rnd = 0x853c49e6748fea9b;

static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the parent ---- */

struct job {
        void (*stage)(void *ctx);
        bool (*feed)(void);                        /* one record; false: nothing fed */
        void (*check)(const struct ring_msg *msg); /* one record that came out */
        bool (*complete)(void);
};

static pid_t start(const struct job *job) {
        pid_t pid = pair_fork(job->stage, NULL);

        /* As the supervisor does for the neighbours of a stage that it has reaped (I7). */
        doorbell_ring(in.bell_prod);
        return pid;
}

/* Feeds and drains what it can; false when there was nothing to do. */
static bool turn(const struct job *job) {
        const struct ring_msg *msg;
        bool any = false;

        feeder_full = false;
        while (job->feed())
                any = true;
        ring_tx_commit(&feeder);
        while (ring_rx_peek(&drain, &msg) == 0) {
                ring_rx_take(&drain);
                job->check(msg);
                ring_rx_ack(&drain, msg->seq);
                ring_rx_flush(&drain, false);
                any = true;
        }
        return any;
}

/* Begins an input, in a batch of its own where one is full. False: the ring is full. */
static bool feed_begin(uint32_t len, uint8_t **ret_data) {
        int r = ring_tx_begin(&feeder, len, ret_data);

        if (r == RING_E_BATCH) {
                ring_tx_commit(&feeder);
                r = ring_tx_begin(&feeder, len, ret_data);
        }
        feeder_full = r == RING_E_FULL;
        ck_assert(r == 0 || feeder_full);
        return r == 0;
}

static void sleep_until(uint64_t at) {
        struct pollfd bell = {.fd = in.bell_prod, .events = POLLIN};
        uint64_t now = now_ns(), ns = at > now ? at - now : 0;
        struct timespec ts = {
                        .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
        bool sleep = ring_rx_may_sleep(&drain);

        if (feeder_full && !ring_tx_may_sleep(&feeder, 1, 1024))
                sleep = false;
        if (sleep)
                (void)ppoll(&bell, 1, &ts, NULL);
        ring_rx_disarm(&drain);
        ring_tx_disarm(&feeder);
        doorbell_clear(in.bell_prod);
}

static void run(const struct job *job) {
        uint64_t next_kill = 0, progress = now_ns();
        pid_t stage = start(job);
        int n_kills = 0;

        while (!job->complete()) {
                uint64_t now = now_ns();

                if (turn(job))
                        progress = now;
                ck_assert_msg(now - progress < STALL_NS, "nothing moves any more");
                if (now >= next_kill && n_kills < N_KILLS) {
                        ck_assert(pair_kill(stage));
                        stage = start(job);
                        n_kills++;
                        next_kill = now + pair_random(&rnd) % 3000000;
                }
                if (!job->complete())
                        sleep_until(n_kills < N_KILLS ? next_kill : now + STALL_NS);
        }
        ck_assert(pair_kill(stage));
        ck_assert_int_gt(n_kills, N_KILLS / 10);
}

static void new_rings(uint32_t in_n, uint32_t out_n, uint32_t max_batch) {
        const struct ring_geometry geo = {
                        .id = IN_ID, .n = in_n, .max_batch = 2, .max_rec = 1024, .bytes = 4096};
        const struct ring_geometry out_geo = {.id = 6,
                        .n = out_n,
                        .max_batch = max_batch,
                        .max_rec = 4096,
                        .bytes = 16384};

        in = pair_new(geo, 1);
        out = pair_new(out_geo, 1);
        /* One bell for each process: the parent's and the stage's. */
        close(out.bell_cons);
        close(out.bell_prod);
        out.bell_cons = dup(in.bell_prod);
        out.bell_prod = dup(in.bell_cons);
        ck_assert_int_eq(ring_tx_attach(&feeder, &in.prod, in.bell_cons), 0);
        ck_assert_int_eq(ring_rx_attach(&drain, &out.cons, out.bell_prod, false), 0);
}

static void close_rings(void) {
        ring_rx_close(&drain);
        pair_close(&in);
        pair_close(&out);
}

/* ---- what both stages share ---- */

static void stage_attach(struct ring_tx *tx, struct ring_rx *rx) {
        if (ring_tx_attach(tx, &out.prod, out.bell_cons) != 0 ||
                        ring_rx_attach(rx, &in.cons, in.bell_prod, false) != 0)
                _exit(2);
}

static void stage_wait(struct ring_tx *tx, struct ring_rx *rx, bool full) {
        bool sleep = ring_rx_may_sleep(rx) || full;

        if (full && !ring_tx_may_sleep(tx, 4, tx->map.geo.max_rec))
                sleep = false;
        if (sleep && !bell_wait(in.bell_cons))
                _exit(3);
        ring_rx_disarm(rx);
        ring_tx_disarm(tx);
}

/* ---- a stage that acks in place: 1 to 7 outputs for each input, commits of at most 4 ---- */

#define INPUTS 12000u

static uint64_t fed, checked = 1;
static uint32_t next_ord;

static uint32_t outputs_of(uint64_t n) {
        return 1 + (uint32_t)(n % 7);
}

static uint32_t output_len(uint64_t n, uint32_t ord) {
        return (uint32_t)(n * 37 + ord * 101) % 700;
}

static bool feed_plain(void) {
        const struct ring_meta meta = {.type = 1, .req_id = fed + 1};
        uint8_t *to;

        if (fed == INPUTS || !feed_begin(8, &to))
                return false;
        fed++;
        memcpy(to, &fed, 8);
        ring_tx_end(&feeder, &meta, 8);
        return true;
}

static void check_plain(const struct ring_msg *msg) {
        bool last = next_ord + 1 == outputs_of(checked);

        ck_assert_uint_eq(msg->req_id, checked);
        ck_assert_uint_eq(msg->ord, next_ord);
        ck_assert_uint_eq(msg->flags, last ? RING_LAST : 0);
        ck_assert_uint_eq(msg->len, output_len(checked, next_ord));
        ck_assert(pattern_is(msg->data, checked * 16 + next_ord, msg->len));
        next_ord = last ? 0 : next_ord + 1;
        checked += last;
}

static bool complete_plain(void) {
        return checked == INPUTS + 1;
}

struct batch {
        uint64_t done[8];
        uint32_t n_done;
};

/* Commit, then ack: never the other way. */
static void plain_commit(struct ring_tx *tx, struct ring_rx *rx, struct batch *batch) {
        ring_tx_commit(tx);
        for (uint32_t i = batch->n_done; i-- > 0;)
                ring_rx_ack(rx, batch->done[i]);
        batch->n_done = 0;
        ring_rx_flush(rx, false);
}

static void plain_emit(struct ring_tx *tx, struct ring_rx *rx, struct batch *batch,
                const struct ring_meta *meta, uint32_t len) {
        uint8_t *to;
        int r;

        while ((r = ring_tx_begin(tx, len, &to)) != 0) {
                plain_commit(tx, rx, batch);
                if (r == RING_E_FULL && ring_tx_may_sleep(tx, 1, len) && !bell_wait(in.bell_cons))
                        _exit(4);
                ring_tx_disarm(tx);
                if (r < 0)
                        _exit(5);
        }
        pattern_fill(to, meta->req_id * 16 + meta->ord, len);
        ring_tx_end(tx, meta, len);
}

static void plain_stage(void *ctx) {
        struct batch batch = {.n_done = 0};
        struct ring_tx tx;
        struct ring_rx rx;

        (void)ctx;
        stage_attach(&tx, &rx);
        ring_recover(&tx, &rx);
        doorbell_ring(out.bell_cons);
        for (;;) {
                const struct ring_msg *msg;
                uint64_t n, seq;

                if (ring_rx_peek(&rx, &msg) != 0) {
                        plain_commit(&tx, &rx, &batch);
                        stage_wait(&tx, &rx, false);
                        continue;
                }
                memcpy(&n, msg->data, 8);
                seq = msg->seq;
                ring_rx_take(&rx);
                for (uint32_t ord = ring_rx_emitted(&rx, seq); ord < outputs_of(n); ord++) {
                        const struct ring_meta meta = {.type = 2,
                                        .req_id = n,
                                        .ord = ord,
                                        .src = ring_src(IN_ID, seq),
                                        .flags = ord + 1 == outputs_of(n) ? RING_LAST : 0};

                        plain_emit(&tx, &rx, &batch, &meta, output_len(n, ord));
                }
                ring_rx_idle(&rx);
                batch.done[batch.n_done++] = seq;
        }
}

START_TEST(stage_that_acks_in_place_loses_and_doubles_nothing) {
        const struct job job = {plain_stage, feed_plain, check_plain, complete_plain};

        new_rings(4, 8, 4);
        run(&job);
        close_rings();
}
END_TEST

/* ---- a stage that folds: text is held back in a slab, requests interleave, some end early ---- */

#define REQUESTS 4000u
#define SLOTS 4u
#define UNITS 64u
#define OUT_MAX 3u /* outputs of one input */

static void *slab_map;
static struct {
        uint32_t parts, at, sent; /* fed: parts in all, next one, bytes so far */
        uint32_t ord, got;        /* came out: records, bytes */
        bool over;
} request[REQUESTS + 1];
static uint32_t opened, finished, open_now[SLOTS], n_open;

/* What the stage keeps for itself in a version. */
struct fold_state {
        uint32_t received; /* inputs */
        uint32_t emitted;  /* bytes */
};
static_assert(sizeof(struct fold_state) <= SLAB_STATE_BYTES, "fits");

static bool ends_early(uint64_t r) {
        return r % 11 == 0;
}

static bool feed_fold(void) {
        uint32_t len, i;
        uint64_t r;
        uint8_t *to, flags = 0;

        if (n_open < SLOTS && opened < REQUESTS && (n_open == 0 || pair_random(&rnd) % 2)) {
                open_now[n_open++] = ++opened;
                request[opened].parts = 2 + opened % 5;
        }
        if (n_open == 0)
                return false;
        i = (uint32_t)(pair_random(&rnd) % n_open);
        r = open_now[i];
        len = 1 + (uint32_t)(r * 53 + request[r].at * 17) % 300;
        if (!feed_begin(len, &to))
                return false;
        for (uint32_t b = 0; b < len; b++)
                to[b] = pattern(r, request[r].sent + b);
        request[r].sent += len;
        if (request[r].at == 0)
                flags |= RING_HEAD;
        if (request[r].at + 1 == request[r].parts)
                flags |= RING_LAST;
        ring_tx_end(&feeder, &(struct ring_meta){.type = 1, .req_id = r, .flags = flags}, len);
        if (++request[r].at == request[r].parts)
                open_now[i] = open_now[--n_open];
        return true;
}

static void check_fold(const struct ring_msg *msg) {
        uint64_t r = msg->req_id;

        ck_assert(r >= 1 && r <= REQUESTS);
        ck_assert(!request[r].over);
        ck_assert_uint_eq(msg->ord, request[r].ord);
        request[r].ord++;
        if ((msg->flags & RING_ERROR) != 0) {
                ck_assert(ends_early(r));
                ck_assert_uint_eq(msg->len, 0);
        }
        for (uint32_t b = 0; b < msg->len; b++)
                ck_assert_uint_eq(msg->data[b], pattern(r, request[r].got + b));
        request[r].got += msg->len;
        if ((msg->flags & RING_LAST) == 0)
                return;
        ck_assert_int_eq(ends_early(r), (msg->flags & RING_ERROR) != 0);
        if (!ends_early(r)) {
                ck_assert_uint_eq(request[r].at, request[r].parts);
                ck_assert_uint_eq(request[r].got, request[r].sent);
        }
        request[r].over = true;
        finished++;
}

static bool complete_fold(void) {
        return finished == REQUESTS;
}

struct fold {
        struct ring_tx tx;
        struct ring_rx rx;
        struct slab slab;
        struct {
                uint64_t seq;
                uint32_t slot; /* SLAB_NONE: dropped */
        } taken[64];
        uint32_t n_taken;
        uint64_t rnd;
};

static void fold_emit(struct fold *f, struct slab_version *v, uint64_t seq, const uint8_t *bytes,
                uint32_t len, uint8_t flags) {
        uint8_t *to;

        if (ring_tx_begin(&f->tx, len, &to) != 0)
                _exit(6);
        memcpy(to, bytes, len);
        ring_tx_end(&f->tx,
                        &(struct ring_meta){.type = 2,
                                        .req_id = v->req_id,
                                        .ord = v->out_ord++,
                                        .flags = flags,
                                        .src = ring_src(IN_ID, seq)},
                        len);
}

/* Appends the input to what is held, lets some of it go. */
static void fold_input(struct fold *f, uint32_t slot, const struct ring_msg *msg) {
        struct slab_version *v = slab_edit(&f->slab, slot);
        struct fold_state state;
        uint8_t held[4096];
        const uint8_t *old;
        uint32_t len, go, n_out;

        memcpy(&state, v->state, sizeof(state));
        old = slab_bytes_of(&f->slab, slot, &len);
        memcpy(held, old, len);
        memcpy(held + len, msg->data, msg->len);
        len += msg->len;
        state.received++;
        v->in_seq = msg->seq;
        if (ends_early(v->req_id) && state.received == 2) {
                fold_emit(f, v, msg->seq, held, 0, RING_ERROR | RING_LAST);
                v->done = 1;
                len = 0;
        } else if ((msg->flags & RING_LAST) != 0) {
                fold_emit(f, v, msg->seq, held, len, RING_LAST);
                v->done = 1;
                len = 0;
        }
        n_out = v->done ? 0 : (v->req_id + state.received) % OUT_MAX;
        for (uint32_t i = 0; i < n_out; i++) {
                go = len / 3;
                fold_emit(f, v, msg->seq, held, go, 0);
                memmove(held, held + go, len - go);
                len -= go;
                state.emitted += go;
        }
        memcpy(v->state, &state, sizeof(state));
        if (slab_edit_bytes(&f->slab, slot, held, len) != 0)
                _exit(7);
}

static void fold_ack(struct fold *f) {
        uint32_t late = 0;

        for (uint32_t i = 0; i < f->n_taken; i++) {
                /* As late as one likes, in any order, but before the slot is freed. */
                if (f->n_taken < 32 && pair_random(&f->rnd) % 4 == 0) {
                        f->taken[late++] = f->taken[i];
                        continue;
                }
                ring_rx_ack(&f->rx, f->taken[i].seq);
                if (f->taken[i].slot == SLAB_NONE)
                        continue;
                slab_acked(&f->slab, f->taken[i].slot);
        }
        f->n_taken = late;
        (void)slab_sweep(&f->slab, UINT64_MAX);
        ring_rx_flush(&f->rx, false);
}

/* One input into the batch; false: the batch ends here. */
static bool fold_take(struct fold *f) {
        const struct ring_msg *msg;
        uint32_t slot;

        if (f->n_taken == 64 || ring_tx_room(&f->tx, OUT_MAX, 4096) != 0 ||
                        ring_rx_peek(&f->rx, &msg) != 0)
                return false;
        slot = slab_find(&f->slab, msg->req_id);
        if (slot == SLAB_NONE && (msg->flags & RING_HEAD) != 0 &&
                        slab_claim(&f->slab, msg, &slot) != 0)
                return false;
        ring_rx_take(&f->rx);
        if (slot != SLAB_NONE && !slab_peek(&f->slab, slot)->done)
                fold_input(f, slot, msg);
        if (slot != SLAB_NONE)
                slab_took(&f->slab, slot);
        f->taken[f->n_taken].seq = msg->seq;
        f->taken[f->n_taken++].slot = slot;
        return true;
}

static void fold_stage(void *ctx) {
        struct fold f = {.rnd = (uint64_t)getpid() * 2654435761u | 1};
        struct ring_rx *rx[] = {&f.rx};

        (void)ctx;
        stage_attach(&f.tx, &f.rx);
        if (slab_attach(&f.slab, slab_map, slab_bytes(SLOTS, UNITS), &f.tx, rx, 1, false) != 0)
                _exit(8);
        (void)slab_sweep(&f.slab, UINT64_MAX);
        doorbell_ring(out.bell_cons);
        for (;;) {
                uint32_t want = 1 + (uint32_t)(pair_random(&f.rnd) % 4), n = 0;

                while (n < want && fold_take(&f))
                        n++;
                slab_commit(&f.slab, &f.tx);
                fold_ack(&f);
                if (n == 0 && f.n_taken == 0)
                        stage_wait(&f.tx, &f.rx, ring_tx_room(&f.tx, OUT_MAX, 4096) != 0);
        }
}

START_TEST(stage_that_folds_into_a_slab_loses_and_doubles_nothing) {
        const struct job job = {fold_stage, feed_fold, check_fold, complete_fold};

        new_rings(8, 8, 4);
        slab_map = mmap(NULL, slab_bytes(SLOTS, UNITS), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(slab_map, MAP_FAILED);
        slab_format(slab_map, SLOTS, UNITS);
        run(&job);
        munmap(slab_map, slab_bytes(SLOTS, UNITS));
        close_rings();
}
END_TEST

int main(void) {
        Suite *suite = suite_create("hop under kills");
        TCase *kills = tcase_create("kills");
        SRunner *runner;
        int failed;

        tcase_set_timeout(kills, 300);
        tcase_add_test(kills, stage_that_acks_in_place_loses_and_doubles_nothing);
        tcase_add_test(kills, stage_that_folds_into_a_slab_loses_and_doubles_nothing);
        suite_add_tcase(suite, kills);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed != 0;
}
