/*
 * roll -- replaces processes one after the other: `restart`, and `reload` for those that read what
 * changed.
 *
 *   BEGIN --(runs: asked to leave; inference: to finish first)--> DRAINING --(DRAINED)--> LEAVING
 *   LEAVING --(reaped, successor READY)--> next process, BEGIN
 *   BEGIN --(does not run: started)--> LEAVING
 *   a gateway that runs: BEGIN --> SLOT --(the spare slot is free: gets its arena)--> ARENA --(the
 *   stages have mapped it)--> SUCCESSOR --(READY, has the place)--> next process, BEGIN
 *
 * Neighbours keep running: what they produce waits in the rings. A process that dies meanwhile has
 * been replaced as well, and that is what was wanted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/log.h"
#include "stages/common/state_path.h"
#include "supervisor/config.h"
#include "supervisor/daemon.h"

#define SUCCESSOR_NS (30 * NS_PER_S)

enum roll_step { ROLL_BEGIN, ROLL_DRAINING, ROLL_LEAVING, ROLL_SLOT, ROLL_ARENA, ROLL_SUCCESSOR };

/* ---- settings -------------------------------------------------------------------------------- */

/* Workers have no home of their own to look at: where "auto" is, they are told; without one there
 * is no index, and no database. */
static char *resolve(const struct daemon *d, char *as_set, const char *ending,
                char path[static SETTINGS_TEXT_MAX]) {
        static char none[] = "none";

        if (!as_set || strcmp(as_set, "auto") != 0)
                return as_set;
        return state_default_path(d->settings->instance, ending, path, SETTINGS_TEXT_MAX) ? none
                                                                                         : path;
}

int roll_pack_settings(struct daemon *d) {
        char index[SETTINGS_TEXT_MAX], database[SETTINGS_TEXT_MAX];
        char *index_as_set = d->settings->rag.index;
        char *database_as_set = d->settings->stream.database;
        int r;

        d->settings->rag.index = resolve(d, index_as_set, ".index", index);
        d->settings->stream.database = resolve(d, database_as_set, ".db", database);
        r = settings_pack(d->settings, d->packed, SETTINGS_PACKED_MAX, &d->packed_len);
        d->settings->rag.index = index_as_set;
        d->settings->stream.database = database_as_set;
        return r;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

/* The answer comes last: with it the client's next request is looked at, which may be a job too. */
static void finish_job(struct daemon *d, const char *error) {
        const struct roll_job job = d->jobs[0];
        const char *op = job.reload ? "reload" : "restart";

        log_info(op, "processes=%u done=%u%s%s%s", job.n, job.at, error ? " error=\"" : "",
                        error ? error : "", error ? "\"" : "");
        d->n_jobs--;
        memmove(&d->jobs[0], &d->jobs[1], d->n_jobs * sizeof(d->jobs[0]));
        loop_timer_clear(d->loop, &d->roll_limit);
        if (error)
                control_answer_error(d, job.client, op, "failed", error);
        else if (job.reload)
                control_answer_reload(d, job.client, &job);
        else
                control_answer_restart(d, job.client, job.n);
}

/* Leaving takes a moment and a new start another; what has begun an answer may take its time. */
static void set_limit(struct daemon *d, uint64_t ns) {
        loop_timer_set(d->loop, &d->roll_limit, loop_now_ns(d->loop) + ns);
}

static struct process *member(struct daemon *d, const struct roll_job *job, uint32_t at) {
        uint32_t i = job->procs[at];

        return i < d->memory.topology->n_gateways ? gateways_at(d, i) : &d->procs[i];
}

static struct process *process_at(struct daemon *d, const struct roll_job *job) {
        return member(d, job, job->at);
}

static void begin_process(struct daemon *d, struct roll_job *job, struct process *p) {
        job->epoch = p->epoch;
        if (!process_is_running(p)) {
                job->step = ROLL_LEAVING;
                set_limit(d, SUCCESSOR_NS);
                process_pardon(p);
        } else if (p->state == PROCESS_READY && p->role == ROLE_GATEWAY) {
                job->step = ROLL_SLOT;
                job->pressed = false;
                set_limit(d, d->settings->supervisor.drain_timeout_ms * NS_PER_MS);
        } else if (p->state == PROCESS_READY && p->role == ROLE_INFERENCE) {
                job->step = ROLL_DRAINING;
                set_limit(d, d->settings->supervisor.drain_timeout_ms * NS_PER_MS);
                process_drain(p);
        } else if (p->state == PROCESS_READY) {
                job->step = ROLL_LEAVING;
                set_limit(d, SUCCESSOR_NS);
                process_leave(p);
        }
}

static void next_process(struct daemon *d, struct roll_job *job) {
        job->step = ROLL_BEGIN;
        job->at++;
        loop_timer_clear(d->loop, &d->roll_limit);
}

/* A program that was only now put in does not work: the old one takes its place again. */
static void give_up_program(struct process *p) {
        if (!p->exe)
                return;
        log_warn("restart", "%s program=%s what=\"does not start; the old one does\"",
                        process_tag(p), p->exe);
        free(p->exe);
        p->exe = NULL;
        process_pardon(p);
}

/* ---- gateways -------------------------------------------------------------------------------- */

/* Its successor comes to nothing; the old one has never stopped. */
static void fail_gateway(struct daemon *d, const char *why) {
        give_up_program(process_at(d, &d->jobs[0]));
        gateways_give_up(d);
        finish_job(d, why);
}

static void prepare_gateway(struct daemon *d, struct roll_job *job) {
        int r = gateways_prepare(d);

        if (r) {
                finish_job(d, r == -ENOSPC ? "/dev/shm is full" : strerror(-r));
                return;
        }
        job->step = ROLL_ARENA;
        set_limit(d, SUCCESSOR_NS);
}

static void start_gateway(struct daemon *d, struct roll_job *job) {
        int r;

        job->step = ROLL_SUCCESSOR;
        set_limit(d, SUCCESSOR_NS);
        r = gateways_start(d, job->procs[job->at]);
        if (r)
                fail_gateway(d, strerror(-r));
}

/* One step of a gateway, whose successor runs beside it for a while; true when something moved. */
static bool advance_gateway(struct daemon *d, struct roll_job *job) {
        const struct process *other = gateways_other(d);

        if (job->step == ROLL_SLOT) {
                if (other->wanted)
                        return false; /* the last one to be replaced has not left yet */
                prepare_gateway(d, job);
        } else if (job->step == ROLL_ARENA) {
                if (!gateways_prepared(d))
                        return false;
                start_gateway(d, job);
        } else {
                if (other->state != PROCESS_READY)
                        return false;
                gateways_move(d, job->procs[job->at]);
                next_process(d, job);
        }
        return true;
}

/* Whoever holds the slot has had its time. When it dies its requests run on, and its clients find
 * them again through any gateway; what then still runs keeps the slot. */
static void gateway_overdue(struct daemon *d, struct roll_job *job) {
        struct process *other = gateways_other(d);

        if (job->step == ROLL_SLOT && process_is_running(other) && !job->pressed) {
                log_warn("overrun", "%s what=\"closing, and has not left; killed\"",
                                process_tag(other));
                job->pressed = true;
                set_limit(d, SUCCESSOR_NS);
                process_kill(other, true);
                return;
        }
        if (job->step == ROLL_SLOT)
                finish_job(d, "the gateway that was replaced last still has requests to finish");
        else
                fail_gateway(d, job->step == ROLL_ARENA ? "a stage does not take the new arena"
                                                        : "the successor does not become ready");
        roll_advance(d);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* One step of the process at hand; true when something moved. */
static bool advance_process(struct daemon *d, struct roll_job *job, struct process *p) {
        if (job->step == ROLL_BEGIN) {
                begin_process(d, job, p);
                return job->step != ROLL_BEGIN;
        }
        if (job->step >= ROLL_SLOT)
                return advance_gateway(d, job);
        if (p->epoch != job->epoch && p->state == PROCESS_READY) {
                next_process(d, job);
                return true;
        }
        if (job->step == ROLL_DRAINING && p->drained && p->epoch == job->epoch) {
                job->step = ROLL_LEAVING;
                set_limit(d, SUCCESSOR_NS);
                process_leave(p);
                return true;
        }
        return false;
}

/* Is the successor that the job waits for not tried any more? */
static bool is_given_up(struct daemon *d, const struct roll_job *job, const struct process *p) {
        if (job->step == ROLL_BEGIN || job->step == ROLL_SLOT || job->step == ROLL_ARENA)
                return false;
        if (job->step == ROLL_SUCCESSOR)
                p = gateways_other(d);
        return !process_is_running(p) &&
               (p->restart.state == RESTART_DOWN || p->restart.state == RESTART_BARRED);
}

void roll_advance(struct daemon *d) {
        while (d->phase == DAEMON_RUNNING && d->n_jobs) {
                struct roll_job *job = &d->jobs[0];
                struct process *p;

                if (job->at == job->n) {
                        finish_job(d, NULL);
                        continue;
                }
                p = process_at(d, job);
                if (is_given_up(d, job, p)) {
                        char why[160];

                        snprintf(why, sizeof(why), "the successor does not start: %.100s",
                                        process_tag(p));
                        if (job->step == ROLL_SUCCESSOR) {
                                fail_gateway(d, why);
                                continue;
                        }
                        give_up_program(p);
                        finish_job(d, why);
                        continue;
                }
                if (!advance_process(d, job, p))
                        return;
        }
}

/* Asked to finish or to leave, and has done neither: its memory is in order whenever it dies. */
static void on_limit(struct loop_timer *timer) {
        struct daemon *d = timer->owner;
        struct process *p;

        if (d->n_jobs == 0)
                return;
        if (d->jobs[0].step >= ROLL_SLOT) {
                gateway_overdue(d, &d->jobs[0]);
                return;
        }
        p = process_at(d, &d->jobs[0]);
        if (p->epoch != d->jobs[0].epoch || !process_is_running(p)) {
                give_up_program(p);
                finish_job(d, "the successor does not become ready");
                roll_advance(d);
                return;
        }
        log_warn("overrun", "%s what=\"asked to leave, and has not; killed\"", process_tag(p));
        d->jobs[0].step = ROLL_LEAVING;
        set_limit(d, SUCCESSOR_NS);
        process_kill(p, true);
}

static struct roll_job *new_job(struct daemon *d) {
        struct roll_job *job;

        if (d->n_jobs == ROLL_JOBS_MAX)
                return NULL;
        job = &d->jobs[d->n_jobs++];
        memset(job, 0, sizeof(*job));
        d->roll_limit.fn = on_limit;
        d->roll_limit.owner = d;
        return job;
}

void roll_abandon(struct daemon *d) {
        while (d->n_jobs)
                finish_job(d, "the daemon ends");
}

/* Consumers first, as at the start. */
static void add_role(struct daemon *d, struct roll_job *job, enum mr_role role, int lane) {
        for (uint32_t i = 0; i < d->n_procs; i++) {
                const struct process *p = &d->procs[i];
                bool in_lane = lane < 0 || role >= LANE_STAGES_N || p->lane == (uint32_t)lane;

                if (p->role == role && in_lane && (role != ROLE_WATCH || p->wanted) &&
                                (role != ROLE_GATEWAY || i < d->memory.topology->n_gateways))
                        job->procs[job->n++] = i;
        }
}

/* The order in which several roles are replaced. */
static const enum mr_role roll_order[] = {ROLE_STREAM, ROLE_POST, ROLE_INFERENCE, ROLE_ASSEMBLE,
                ROLE_RAG, ROLE_TELEMETRY, ROLE_WATCH, ROLE_GATEWAY};

/* All of the job's successors, or none, come out of that folder. */
static int take_programs(struct daemon *d, const struct roll_job *job, const char *folder) {
        char *found[PROCS_MAX] = {NULL};

        for (uint32_t i = 0; i < job->n; i++) {
                found[i] = spawn_find_in(folder, member(d, job, i)->role);
                if (found[i])
                        continue;
                while (i > 0)
                        free(found[--i]);
                return -ENOENT;
        }
        for (uint32_t i = 0; i < job->n; i++) {
                struct process *p = member(d, job, i);

                free(p->exe);
                p->exe = found[i];
        }
        return 0;
}

int roll_restart(struct daemon *d, enum mr_role role, bool all, int lane, const char *exe,
                uint64_t client) {
        struct roll_job *job = new_job(d);

        if (!job)
                return -EBUSY;
        job->client = client;
        for (uint32_t i = 0; i < ROLES_N; i++)
                if (all || roll_order[i] == role)
                        add_role(d, job, roll_order[i], lane);
        if (job->n == 0) {
                d->n_jobs--;
                return -ESRCH;
        }
        if (exe && take_programs(d, job, exe)) {
                d->n_jobs--;
                return -ENOENT;
        }
        log_info("restart", "asked=1 processes=%u", job->n);
        roll_advance(d);
        return 0;
}

void roll_recycle(struct process *p) {
        struct roll_job *job = new_job(p->d);

        if (!job)
                return;
        p->recycling = true;
        job->procs[job->n++] = p->role == ROLE_GATEWAY ? p->place : p->index;
        roll_advance(p->d);
}

/* ---- reload ---------------------------------------------------------------------------------- */

/* By role: who reads a row. */
static const uint32_t reads[ROLES_N] = {
                [ROLE_RAG] = AT_RAG,
                [ROLE_ASSEMBLE] = AT_ASSEMBLE,
                [ROLE_INFERENCE] = AT_INFERENCE,
                [ROLE_POST] = AT_POST,
                [ROLE_STREAM] = AT_STREAM,
                [ROLE_GATEWAY] = AT_GATEWAY,
                [ROLE_TELEMETRY] = AT_TELEMETRY,
                [ROLE_WATCH] = AT_WATCH,
};

static void refuse_restart_rows(struct daemon *d, const struct config_diff *diff, uint64_t client) {
        const struct settings_row *rows[CONFIG_ROWS_MAX];
        char keys[700];
        uint32_t n = 0;
        size_t len = 0;

        for (uint32_t i = 0; i < diff->n_changed; i++) {
                if (diff->changed[i]->applies != SETTINGS_RESTART)
                        continue;
                rows[n++] = diff->changed[i];
                if (len < sizeof(keys))
                        len += (size_t)snprintf(keys + len, sizeof(keys) - len, "%s%s",
                                        n > 1 ? " " : "", diff->changed[i]->path);
        }
        log_error("reload",
                        "refused=1 keys=\"%s\" what=\"these need the daemon to be started anew\"",
                        keys);
        control_answer_restart_required(d, client, rows, n);
}

static void apply(struct daemon *d, struct settings **after, const struct config_diff *diff,
                uint64_t files_digest, uint64_t client) {
        struct settings *before = d->settings;
        struct roll_job *job = new_job(d);

        if (!job) {
                control_answer_error(d, client, "reload", "busy",
                                "too many restarts are waiting; the old configuration goes on");
                return;
        }
        d->settings = *after;
        if (roll_pack_settings(d)) {
                d->settings = before;
                d->n_jobs--;
                (void)roll_pack_settings(d);
                control_answer_error(d, client, "reload", "invalid_configuration",
                                "the settings are too large to be handed to a process");
                return;
        }
        *after = before; /* freed by the caller */
        d->files_digest = files_digest;
        log_set_level((enum log_level)(d->settings->telemetry.log_level + LOG_LEVEL_ERROR));
        standby_reconsider(d);
        process_reconsider(&d->procs[topology_proc_watch(d->memory.topology)]);
        job->client = client;
        job->reload = true;
        job->n_changed = diff->n_changed;
        memcpy(job->changed, diff->changed, diff->n_changed * sizeof(diff->changed[0]));
        for (uint32_t i = 0; i < ROLES_N; i++)
                if (diff->at & reads[roll_order[i]])
                        add_role(d, job, roll_order[i], -1);
        roll_advance(d);
}

void roll_reload(struct daemon *d, uint64_t client) {
        struct settings *after = NULL;
        struct config_error error = {.line = ""};
        struct config_diff diff;
        uint64_t digest;
        uint32_t at;
        int r;

        if (d->phase != DAEMON_RUNNING) {
                control_answer_error(d, client, "reload",
                                d->phase == DAEMON_STARTING ? "busy" : "draining",
                                d->phase == DAEMON_STARTING ? "the daemon is not ready yet"
                                                            : "the daemon ends");
                return;
        }
        r = config_load_to_run(d->options->config, d->options->sets, d->options->n_sets, &after, &error);
        if (r) {
                const char *line = error.line[0] ? error.line : strerror(r < 0 ? -r : EINVAL);

                log_error("reload", "refused=1 error=\"%s\"", line);
                control_answer_error(d, client, "reload", "invalid_configuration", line);
                return;
        }
        config_diff(d->settings, after, &diff);
        at = config_files(after, &digest);
        if (digest != d->files_digest)
                diff.at |= at;
        if (diff.n_restart)
                refuse_restart_rows(d, &diff, client);
        else
                apply(d, &after, &diff, digest, client);
        settings_free(after);
}
