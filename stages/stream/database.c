#include "stages/stream/database.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/doorbell.h"
#include "stages/common/stage.h"
#include "stages/common/thread.h"
#include "stages/engines/store/letters.h"
#include "stages/engines/store/sessions.h"
#include "stages/stream/join.h"
#include "stages/stream/turn_answer.h"

#define TICK_NS NS_PER_S
#define EXPIRE_MOST 500u
#define EXPIRE_EVERY_MAX_S 60u

STAILQ_HEAD(job_list, database_job);

struct database {
        pthread_t thread;
        bool started;
        pthread_mutex_t lock;
        pthread_cond_t work;
        /* Under the lock. */
        struct job_list waiting, done;
        bool stop;
        struct database_state state;
        bool changed;
        mr_au64 since_ns; /* W: thread.  R: loop */
        /* The thread's own. */
        struct database_options options;
        char *path;
        struct store store;
        bool open, failed;
        uint64_t next_expire_ms;
        struct record_decoder decoder;
};

/* The first of a list, taken out of it; NULL: it is empty. */
static struct database_job *first_of(struct job_list *list) {
        struct database_job *job = STAILQ_FIRST(list);

        if (job)
                STAILQ_REMOVE_HEAD(list, next);
        return job;
}

/* ---- jobs ---- */

struct database_job *database_job_new(enum database_task task, uint64_t events_bytes) {
        struct database_job *job = calloc(1, sizeof(*job));

        if (!job)
                return NULL;
        job->task = task;
        job->events_bytes = events_bytes;
        job->events = events_bytes ? malloc(events_bytes) : NULL;
        if (events_bytes && !job->events)
                return database_job_free(job);
        return job;
}

struct database_job *database_job_free(struct database_job *job) {
        if (job) {
                free(job->events);
                free(job->letter);
                if (job->turn)
                        free(job->turn->answer);
                free(job->turn);
        }
        free(job);
        return NULL;
}

/* ---- state ---- */

static void say(struct database *db, bool failed, const char *why) {
        pthread_mutex_lock(&db->lock);
        db->state.failed = failed;
        snprintf(db->state.why, sizeof(db->state.why), "%s", why);
        db->changed = true;
        pthread_mutex_unlock(&db->lock);
        doorbell_ring(db->options.bell);
}

static void set_failed(struct database *db, bool failed, const char *why) {
        if (db->failed != failed)
                say(db, failed, why);
        db->failed = failed;
}

static void say_aside(struct database *db, const char *name, const char *why) {
        pthread_mutex_lock(&db->lock);
        db->state.aside = true;
        snprintf(db->state.name, sizeof(db->state.name), "%s", name);
        snprintf(db->state.why, sizeof(db->state.why), "%s", why);
        db->changed = true;
        pthread_mutex_unlock(&db->lock);
        doorbell_ring(db->options.bell);
}

bool database_state(struct database *db, struct database_state *ret) {
        bool changed;

        pthread_mutex_lock(&db->lock);
        changed = db->changed;
        *ret = db->state;
        db->changed = db->state.aside = false;
        pthread_mutex_unlock(&db->lock);
        return changed;
}

/* ---- opening ---- */

static void id_add(struct database *db, uint64_t id_hash) {
        uint64_t bit;
        mr_au64 *word = log_stored(db->options.log, id_hash, &bit);

        /* SYNC(log.stored): before the transaction, so that no gateway takes the id for a new one. */
        atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
}

static void on_id(void *ctx, struct results_text tenant, struct results_text id) {
        id_add(ctx, log_id_hash(tenant.p, tenant.n, id.p, id.n));
}

/* The ids of a file that was there before this memory. */
static int ids_read(struct database *db) {
        mr_au64 *known = &db->options.log->stored_known;

        if (atomic_load_explicit(known, memory_order_relaxed))
                return 0;
        if (db->open && (results_ids(&db->store, on_id, db) ||
                                        results_forget_open(&db->store, db->options.lane,
                                                        db->options.checked)))
                return STORE_E_FAILED;
        atomic_store_explicit(known, 1, memory_order_seq_cst);
        return 0;
}

/* 0, STORE_E_NONE (there is no file, and none is wanted), STORE_E_FAILED. */
static int ensure_open(struct database *db, bool create) {
        struct store_options options = {.path = db->path,
                        .create = create,
                        .full = db->options.full,
                        .checked = db->options.checked};
        char aside[STORE_WHY_MAX] = "", why[STORE_WHY_MAX] = "";
        int r = db->open ? 0 : store_open(&options, &db->store, aside, why);

        if (!db->open && aside[0])
                say_aside(db, aside, why);
        if (r == STORE_E_BROKEN)
                r = STORE_E_FAILED;
        if (r == STORE_E_FAILED) {
                set_failed(db, true, why);
                return r;
        }
        db->open = r == 0;
        if (ids_read(db)) {
                set_failed(db, true, store_why(&db->store));
                return STORE_E_FAILED;
        }
        return r;
}

/* ---- tasks ---- */

static int64_t wall_ms(void) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int store_letter(struct database *db, const struct database_job *job) {
        const struct database_letter *from = job->letter;
        const char *stage = mr_role_name(from->cause.stage);
        struct letter letter = {.req_id = job->req_id,
                        .tenant = {job->tenant, job->tenant_len},
                        .id = {job->id, job->id_len},
                        .stage = {stage ? stage : "", stage ? (uint32_t)strlen(stage) : 0},
                        .lane = db->options.lane,
                        .strikes = from->cause.strikes,
                        .signal = from->cause.signal,
                        .died_ms = wall_ms(),
                        .record = from->bytes + from->body_len,
                        .record_len = from->record_len,
                        .body = from->bytes,
                        .body_len = from->body_len};

        return letters_put(&db->store, &letter, db->options.letters_max);
}

struct answering {
        struct turn_answer *answer;
        struct record_decoder *decoder;
};

static int answer_event(void *ctx, const struct results_event *event) {
        const struct answering *to = ctx;

        return turn_answer_event(to->answer, to->decoder, event->type, event->record, event->len)
                               ? STORE_E_FAILED
                               : 0;
}

/* What was said: of all events, the first of which may be in the database. */
static int turn_answer(struct database *db, const struct database_job *job, int64_t row) {
        struct database_turn *turn = job->turn;
        struct turn_answer answer = {.tools = NULL};
        struct answering to = {&answer, &db->decoder};
        int r = turn->begun ? results_events(&db->store, row, answer_event, &to) : 0;

        for (uint64_t at = 0; r == 0 && !turn->begun && at < job->events_bytes;) {
                struct log_event_head head;

                memcpy(&head, job->events + at, sizeof(head));
                r = turn_answer_event(&answer, &db->decoder, head.type,
                                job->events + at + sizeof(head), head.len);
                at += sizeof(head) + layout_align(head.len, 8);
        }
        return turn_answer_end(&answer, &turn->answer, &turn->answer_len) || r ? STORE_E_FAILED : 0;
}

static int store_turn(struct database *db, const struct database_job *job, int64_t row) {
        struct database_turn *turn = job->turn;
        int64_t now_ms = wall_ms();
        int r = 0;

        turn->lost = !turn->answer && turn->begun && !job->result;
        if (!turn->answer && !turn->lost)
                r = turn_answer(db, job, row);
        if (r || !turn->answer || !db->options.session_turns)
                return r;
        const struct sessions_exchange exchange = {.req_id = job->req_id,
                        .id = {job->id, job->id_len},
                        .when_ms = now_ms,
                        .continues = turn->goes_on,
                        .asked = {turn->bytes + turn->name_len, turn->asked_len},
                        .answer = {turn->answer, turn->answer_len}};
        return sessions_put(&db->store, (struct results_text){job->tenant, job->tenant_len},
                        (struct results_text){turn->bytes, turn->name_len}, &exchange,
                        db->options.session_turns,
                        now_ms - (int64_t)(db->options.session_ttl_s * 1000));
}

static int store_response(struct database *db, const struct database_job *job, int64_t *ret_row) {
        struct results_response response = {.req_id = job->req_id,
                        .tenant = {job->tenant, job->tenant_len},
                        .id = {job->id, job->id_len},
                        .lane = db->options.lane,
                        .outcome = job->outcome,
                        .digest = {job->digest[0], job->digest[1]},
                        .finished_ms = wall_ms()};
        uint64_t last = 0;
        int64_t row = 0;
        int r;

        id_add(db, log_id_hash(job->tenant, job->tenant_len, job->id, job->id_len));
        r = results_put(&db->store, &response, &row);
        for (uint64_t at = 0; r == 0 && at < job->events_bytes;) {
                struct log_event_head head;
                struct results_event event;

                memcpy(&head, job->events + at, sizeof(head));
                event = (struct results_event){.ord = head.seq,
                                .type = head.type,
                                .record = job->events + at + sizeof(head),
                                .len = head.len};
                r = results_put_event(&db->store, row, &event);
                last = head.seq;
                at += sizeof(head) + layout_align(head.len, 8);
        }
        *ret_row = row;
        return r == 0 && job->outcome ? results_cut(&db->store, row, last) : r;
}

static int store_one(struct database *db, const struct database_job *job) {
        int64_t row = 0;
        int r = job->result ? store_response(db, job, &row) : 0;

        if (r == 0 && job->letter)
                r = store_letter(db, job);
        return r == 0 && job->turn ? store_turn(db, job, row) : r;
}

/* The transaction's end: 0, or STORE_E_FAILED and what was done is undone. */
static int commit(struct database *db, int so_far) {
        int error = so_far == 0 ? FAULT_ERROR(db->options.w, "in_transaction", NULL, 0) : 0;
        char why[STORE_WHY_MAX];

        if (so_far == 0 && error == 0 && store_run(&db->store, SQL_COMMIT) == 0) {
                FAULT(db->options.w, "after_transaction", NULL, 0);
                return 0;
        }
        snprintf(why, sizeof(why), "%s", error ? strerror(-error) : store_why(&db->store));
        if (store_rollback(&db->store)) {
                store_close(&db->store);
                db->open = false;
        }
        set_failed(db, true, why);
        return STORE_E_FAILED;
}

/* All of them or none. */
static int store_all(struct database *db, const struct job_list *jobs) {
        struct database_job *job;
        int r = store_run(&db->store, SQL_BEGIN);

        for (job = STAILQ_FIRST(jobs); job && r == 0; job = STAILQ_NEXT(job, next))
                if (job->task == DATABASE_STORE)
                        r = store_one(db, job);
        return commit(db, r);
}

static int on_event(void *ctx, const struct results_event *event) {
        return join_event(ctx, &(struct log_event_head){.len = event->len,
                                               .type = (uint16_t)event->type,
                                               .seq = event->ord},
                               event->record)
                               ? STORE_E_FAILED
                               : 0;
}

static enum database_status load_one(struct database *db, struct database_job *job) {
        struct results_response response;
        struct join events = {.decoder = &db->decoder};
        uint64_t n = 0, bytes = 0;
        int64_t row;
        int r = results_find(&db->store, (struct results_text){job->tenant, job->tenant_len},
                        (struct results_text){job->id, job->id_len}, &response, &row);

        if (r == 0)
                r = results_size(&db->store, row, &n, &bytes);
        events.wanted = bytes + n * sizeof(struct log_event_head) > db->options.join_bytes;
        if (r == 0)
                r = results_events(&db->store, row, on_event, &events);
        if (join_end(&events, &job->events, &job->events_bytes) && r == 0)
                r = STORE_E_FAILED;
        if (r)
                return r == STORE_E_NONE ? DATABASE_ABSENT : DATABASE_FAILED;
        job->outcome = response.outcome;
        memcpy(job->digest, response.digest, sizeof(job->digest));
        return DATABASE_DONE;
}

/* ---- the thread ---- */

static bool any(const struct job_list *jobs, enum database_task task) {
        const struct database_job *job;

        STAILQ_FOREACH(job, jobs, next)
                if (job->task == task)
                        return true;
        return false;
}

static void run(struct database *db, const struct job_list *jobs) {
        struct database_job *job;
        bool stores = any(jobs, DATABASE_STORE);
        int r = ensure_open(db, stores), stored = r;

        if (r == 0 && stores)
                stored = store_all(db, jobs);
        STAILQ_FOREACH(job, jobs, next) {
                if (job->task == DATABASE_STORE)
                        job->status = stored ? DATABASE_FAILED : DATABASE_DONE;
                else if (r == STORE_E_NONE)
                        job->status = DATABASE_ABSENT;
                else
                        job->status = db->open ? load_one(db, job) : DATABASE_FAILED;
        }
}

/* Does it work again? */
static void probe(struct database *db) {
        int r = ensure_open(db, true);

        if (r)
                return;
        r = store_run(&db->store, SQL_BEGIN);
        if (r == 0)
                r = store_run(&db->store, SQL_PROBE);
        if (commit(db, r) == 0)
                set_failed(db, false, "");
}

static uint64_t expire_every_ms(const struct database *db) {
        const struct database_options *o = &db->options;
        uint64_t s = (o->ttl_s < o->session_ttl_s ? o->ttl_s : o->session_ttl_s) / 10;

        return (s < 1 ? 1 : s > EXPIRE_EVERY_MAX_S ? EXPIRE_EVERY_MAX_S : s) * 1000;
}

static void expire_all(struct database *db, uint64_t before_ms,
                int (*forget)(struct store *, int64_t, uint32_t, uint32_t *)) {
        uint32_t n = EXPIRE_MOST;
        int r = 0;

        while (r == 0 && n == EXPIRE_MOST) {
                r = store_run(&db->store, SQL_BEGIN);
                if (r)
                        break; /* somebody writes: another time */
                r = forget(&db->store, (int64_t)before_ms, EXPIRE_MOST, &n);
                if (r || store_run(&db->store, SQL_COMMIT))
                        r = store_rollback(&db->store) ? STORE_E_FAILED : r;
        }
}

static void expire(struct database *db) {
        uint64_t now_ms = (uint64_t)wall_ms();

        if (!db->options.expires || now_ms < db->next_expire_ms)
                return;
        db->next_expire_ms = now_ms + expire_every_ms(db);
        if (ensure_open(db, false)) /* another lane may have made it */
                return;
        expire_all(db, now_ms - db->options.ttl_s * 1000, results_expire);
        expire_all(db, now_ms - db->options.session_ttl_s * 1000, sessions_expire);
}

/* Takes what has come together; waits for it up to a tick. True: the thread is to end. */
static bool take(struct database *db, struct job_list *to) {
        struct database_job *job;
        uint64_t until_ns = clock_now_ns() + TICK_NS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                        .tv_nsec = (long)(until_ns % NS_PER_S)};
        bool stop;

        STAILQ_INIT(to);
        pthread_mutex_lock(&db->lock);
        while (STAILQ_EMPTY(&db->waiting) && !db->stop &&
                        pthread_cond_timedwait(&db->work, &db->lock, &until) == 0)
                ;
        for (uint32_t n = 0; n < DATABASE_BATCH && (job = first_of(&db->waiting)); n++)
                STAILQ_INSERT_TAIL(to, job, next);
        stop = db->stop && STAILQ_EMPTY(to);
        pthread_mutex_unlock(&db->lock);
        return stop;
}

static void *thread_main(void *arg) {
        struct database *db = arg;
        struct job_list jobs;

        (void)ensure_open(db, false);
        while (!take(db, &jobs)) {
                atomic_store_explicit(&db->since_ns, clock_now_ns(), memory_order_relaxed);
                if (!STAILQ_EMPTY(&jobs))
                        run(db, &jobs);
                else if (db->failed)
                        probe(db);
                else
                        expire(db);
                atomic_store_explicit(&db->since_ns, 0, memory_order_relaxed);
                if (STAILQ_EMPTY(&jobs))
                        continue;
                pthread_mutex_lock(&db->lock);
                STAILQ_CONCAT(&db->done, &jobs);
                pthread_mutex_unlock(&db->lock);
                doorbell_ring(db->options.bell);
        }
        store_close(&db->store);
        return NULL;
}

/* ---- the loop's side ---- */

int database_new(struct database **ret, const struct database_options *options) {
        struct database *db = calloc(1, sizeof(*db));
        pthread_condattr_t monotonic;
        int r;

        if (!db)
                return -ENOMEM;
        db->options = *options;
        db->path = strdup(options->path);
        if (!db->path) {
                free(db);
                return -ENOMEM;
        }
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_mutex_init(&db->lock, NULL);
        pthread_cond_init(&db->work, &monotonic);
        pthread_condattr_destroy(&monotonic);
        STAILQ_INIT(&db->waiting);
        STAILQ_INIT(&db->done);
        r = record_decoder_init(&db->decoder);
        if (r < 0) {
                record_decoder_close(&db->decoder);
                free(db->path);
                free(db);
                return r;
        }
        *ret = db;
        return 0;
}

int database_start(struct database *db) {
        int r = db->started ? 0 : thread_start(&db->thread, thread_main, db);

        db->started = r == 0;
        return r;
}

struct database *database_free(struct database *db) {
        struct database_job *job;

        if (!db)
                return NULL;
        pthread_mutex_lock(&db->lock);
        db->stop = true;
        pthread_mutex_unlock(&db->lock);
        pthread_cond_signal(&db->work);
        if (db->started)
                pthread_join(db->thread, NULL);
        while ((job = first_of(&db->waiting)))
                database_job_free(job);
        while ((job = first_of(&db->done)))
                database_job_free(job);
        pthread_cond_destroy(&db->work);
        pthread_mutex_destroy(&db->lock);
        record_decoder_close(&db->decoder);
        free(db->path);
        free(db);
        return NULL;
}

uint64_t database_since_ns(const struct database *db) {
        return atomic_load_explicit(&db->since_ns, memory_order_relaxed);
}

void database_submit(struct database *db, struct database_job *job) {
        pthread_mutex_lock(&db->lock);
        STAILQ_INSERT_TAIL(&db->waiting, job, next);
        pthread_mutex_unlock(&db->lock);
        pthread_cond_signal(&db->work);
        (void)database_start(db); /* without one the stage tries again, and says so */
}

struct database_job *database_done(struct database *db) {
        struct database_job *job;

        pthread_mutex_lock(&db->lock);
        job = first_of(&db->done);
        pthread_mutex_unlock(&db->lock);
        return job;
}
