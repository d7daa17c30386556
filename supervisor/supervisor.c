/*
 * supervisor -- the daemon's parent: opens everything, then one loop until the last process is
 * gone.
 *
 * It maps no ring, holds no lock that a worker can hold, parses no request, and never waits for
 * anybody. What each part does is in its own file; here is only the order of things.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/doorbell.h"
#include "stages/common/landlock.h"
#include "stages/common/log.h"
#include "supervisor/config.h"
#include "supervisor/daemon.h"

#define LOOP_ENTRIES 512
#define LOCK_WAIT_MS 5000

/* ---- watching -------------------------------------------------------------------------------- */

static void on_watch(struct loop_timer *timer) {
        struct daemon *d = timer->owner;
        uint64_t timeout = d->settings->supervisor.heartbeat_timeout_ms * NS_PER_MS;
        uint64_t now = loop_now_ns(d->loop);
        bool late = now - timer->at_ns > timeout / 4;

        for (uint32_t i = 0; i < d->n_procs; i++) {
                if (late) /* we were stopped, and so may they have been: they have the whole time
                             again */
                        d->procs[i].beat_ns = now;
                else
                        process_watch(&d->procs[i], now, timeout);
                if (d->phase == DAEMON_RUNNING)
                        process_weigh(&d->procs[i], now);
        }
        loop_timer_set(d->loop, timer, now + (timeout / 8 < NS_PER_S ? timeout / 8 : NS_PER_S));
}

uint64_t daemon_in_flight(const struct daemon *d) {
        uint64_t sum = 0;

        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_GATEWAY && d->memory.counters[i])
                        sum += counters_get(d->memory.counters[i], COUNTER_in_flight);
        return sum;
}

/* ---- becoming ready -------------------------------------------------------------------------- */

void daemon_notify(const char *state) {
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t len;
        int fd;

        if (!path || !*path || strlen(path) >= sizeof(address.sun_path))
                return;
        memcpy(address.sun_path, path, strlen(path));
        len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        if (path[0] == '@')
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd == -1)
                return;
        if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, len) == -1)
                log_warn("notify", "state=%s error=\"%s\"", state, strerror(errno));
        close(fd);
}

static void say_ready(const struct daemon *d) {
        char line[256 + HTTP_LISTENERS_MAX * (SOCKETS_NAME_MAX + 1)];
        int n = snprintf(line, sizeof(line), "millrace ready pid=%ld socket=%s http=%s", (long)getpid(),
                        d->client.path, d->n_http ? "" : "none");

        for (uint32_t i = 0; i < d->n_http; i++)
                n += snprintf(line + n, sizeof(line) - (size_t)n, "%s%s", i ? "," : "",
                                d->http[i].name);
        n += snprintf(line + n, sizeof(line) - (size_t)n, " lanes=%u\n",
                        d->memory.topology->n_lanes);
        if (write(STDERR_FILENO, line, (size_t)n) != n)
                log_warn("ready", "error=\"the ready line could not be written\"");
        daemon_notify("READY=1");
}

/* Consumers come before producers, and whoever lets requests in comes last. */
static void start_stages(struct daemon *d) {
        for (uint32_t role = LANE_STAGES_N; role-- > 0;)
                for (uint32_t i = 0; i < d->n_procs; i++)
                        if ((uint32_t)d->procs[i].role == role)
                                process_start(&d->procs[i]);
        for (uint32_t i = 0; i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_TELEMETRY || d->procs[i].role == ROLE_WATCH)
                        process_start(&d->procs[i]);
}

static void start_up(struct daemon *d) {
        bool stages_ready = true, all_ready = true;

        for (uint32_t i = 0; i < d->n_procs; i++) {
                const struct process *p = &d->procs[i];

                /* No request waits for the watcher. */
                if (!p->wanted || p->state == PROCESS_READY || p->role == ROLE_WATCH)
                        continue;
                all_ready = false;
                if (p->role != ROLE_GATEWAY)
                        stages_ready = false;
        }
        if (all_ready) {
                d->phase = DAEMON_RUNNING;
                say_ready(d);
                return;
        }
        for (uint32_t i = 0; stages_ready && i < d->n_procs; i++)
                if (d->procs[i].role == ROLE_GATEWAY && d->procs[i].n_starts == 0)
                        process_start(&d->procs[i]);
}

void daemon_changed(struct process *p) {
        struct daemon *d = p->d;

        if (d->phase == DAEMON_STARTING)
                start_up(d);
        else if (d->phase == DAEMON_RUNNING)
                roll_advance(d);
        else if (d->phase == DAEMON_ENDING)
                ending_advance(d);
        lanes_advance(d);
}

/* ---- signals --------------------------------------------------------------------------------- */

static void on_signal(struct loop_op *op, int res, uint32_t flags) {
        struct daemon *d = op->owner;
        struct signalfd_siginfo info;

        (void)res;
        (void)flags;
        while (read(d->signal_fd, &info, sizeof(info)) == sizeof(info)) {
                log_info("signal", "signal=%u from=%u", info.ssi_signo, info.ssi_pid);
                if (info.ssi_signo == SIGHUP)
                        roll_reload(d, 0);
                else if (d->phase == DAEMON_ENDING)
                        ending_stop(d, 0);
                else
                        ending_drain(d, 0, 0);
        }
        if (d->phase != DAEMON_ENDED)
                loop_poll(d->loop, op, d->signal_fd, POLLIN);
}

static int open_signals(struct daemon *d) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would reap before we look */
        if (sigprocmask(SIG_BLOCK, &set, NULL) == -1)
                return -errno;
        d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return d->signal_fd == -1 ? -errno : 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Two descriptors for each object of eight lanes are more than the usual soft limit. */
static void raise_descriptor_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
}

static int load_settings(struct daemon *d, struct report *report) {
        struct config_error error = {.line = ""};
        int r = config_load_to_run(d->options->config, d->options->sets, d->options->n_sets, &d->settings,
                        &error);

        if (r) {
                report_set(report, "%s",
                                error.line[0] ? error.line : strerror(r < 0 ? -r : EINVAL));
                return r;
        }
        log_set_level((enum log_level)(d->settings->telemetry.log_level + LOG_LEVEL_ERROR));
        (void)config_files(d->settings, &d->files_digest);
        return roll_pack_settings(d);
}

static int open_places(struct daemon *d, struct report *report) {
        const char *wanted = d->options->socket ? d->options->socket : d->settings->socket;
        char client[SOCKETS_PATH_MAX + 1], control[SOCKETS_PATH_MAX + 1];
        int r;

        r = sockets_client_path(wanted, client, report);
        if (r == 0)
                r = sockets_control_path(client, control, report);
        if (r == 0)
                r = lock_take(d->settings->instance, LOCK_WAIT_MS, &d->lock, report);
        if (r)
                return r;
        lock_sign(&d->lock, control);
        /* Whoever may pass its folder is a client, and another user a tenant of its own (uid:N). */
        r = listener_unix(client, 0666, &d->client, report);
        if (r == 0)
                r = listener_unix(control, 0600, &d->control_listener, report);
        return r;
}

static int open_telemetry(struct daemon *d, struct report *report) {
        const char *where = d->settings->telemetry.listen;

        if (!where || strcmp(where, "none") == 0)
                return 0;
        return listener_open(where, 0600, "telemetry.listen", "`none`", &d->telemetry, report);
}

/* Another user's client is a tenant of its own, as at the client socket. */
static int open_http(struct daemon *d, struct report *report) {
        const struct settings_strs *listen = &d->settings->http.listen;
        char what[32];
        int r = 0;

        for (uint32_t i = 0; i < listen->n && r == 0; i++) {
                snprintf(what, sizeof(what), "http.listen.%u", i);
                r = listener_open(listen->v[i], 0666, what, "http.listen: [] for none", &d->http[i],
                                report);
                if (r == 0)
                        listener_harden(&d->http[d->n_http++]);
        }
        return r;
}

static int open_processes(struct daemon *d, struct report *report) {
        int r = 0;

        d->n_procs = d->memory.topology->n_procs;
        for (uint32_t i = 0; i < d->n_procs; i++)
                process_init(&d->procs[i], d, i);
        gateways_init(d);
        standby_init(d);
        for (uint32_t i = 0; i < d->n_procs && r == 0; i++)
                r = doorbell_new(&d->procs[i].bell);
        if (r)
                report_set(report, "cannot make a doorbell: %s", strerror(-r));
        return r;
}

static int open_loop(struct daemon *d, struct report *report) {
        int r = loop_new(&d->loop, LOOP_ENTRIES);

        if (r == LOOP_E_FORBIDDEN)
                report_set(report, "%s", loop_forbidden_remedy());
        else if (r)
                report_set(report, "cannot make the event loop: %s", strerror(-r));
        if (r)
                return r;
        r = open_signals(d);
        if (r)
                report_set(report, "cannot take signals: %s", strerror(-r));
        return r;
}

/* Everything that can be refused, before anything runs. */
static int open_all(struct daemon *d, struct report *report) {
        int r;

        d->exes = calloc(1, sizeof(*d->exes));
        d->packed = malloc(SETTINGS_PACKED_MAX);
        if (!d->exes || !d->packed)
                return -ENOMEM;
        r = load_settings(d, report);
        if (r == 0)
                r = spawn_find(d->options->exe_dir, d->exes, report);
        if (r == 0)
                r = open_loop(d, report);
        if (r == 0)
                r = open_places(d, report);
        if (r == 0)
                r = open_telemetry(d, report);
        if (r == 0)
                r = open_http(d, report);
        if (r)
                return r;
        d->n_cores = topology_cores(d->cores, sizeof(d->cores) / sizeof(d->cores[0]));
        r = memory_open(d->settings, d->n_cores, d->options->discard, &d->memory, report);
        if (r == 0)
                r = open_processes(d, report);
        if (r == 0) {
                r = control_open(d);
                if (r)
                        report_set(report, "cannot open the control socket: %s", strerror(-r));
        }
        return r;
}

/* The lock goes last: whoever gets it must find nothing. What was taken over and never put to use
 * is left for the next one to take over. */
static void close_all(struct daemon *d, bool has_run) {
        standby_close(d);
        control_close(d);
        memory_close(&d->memory, has_run || !d->memory.adopted);
        for (uint32_t i = 0; i < d->n_procs; i++) {
                if (d->procs[i].bell != -1)
                        close(d->procs[i].bell);
                free(d->procs[i].exe);
        }
        listener_close(&d->control_listener);
        listener_close(&d->client);
        listener_close(&d->telemetry);
        for (uint32_t i = 0; i < d->n_http; i++)
                listener_close(&d->http[i]);
        lock_drop(&d->lock);
        if (d->signal_fd != -1)
                close(d->signal_fd);
        d->loop = loop_free(d->loop);
        free(d->exes);
        free(d->packed);
        settings_free(d->settings);
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/* Once, here: each worker meets the same kernel. */
static void say_sandbox(void) {
        if (landlock_version() == 0)
                log_warn("sandbox", "lacks=landlock what=\"%s\"", landlock_lack());
}

static void run(struct daemon *d) {
        d->begun_ns = clock_now_ns();
        tier_init(&d->tier);
        d->random = (uint32_t)d->begun_ns ^ (uint32_t)getpid();
        d->signal_op = (struct loop_op){.fn = on_signal, .owner = d};
        d->watch_timer = (struct loop_timer){.fn = on_watch, .owner = d};
        loop_poll(d->loop, &d->signal_op, d->signal_fd, POLLIN);
        loop_timer_set(d->loop, &d->watch_timer, d->begun_ns + NS_PER_S);
        say_sandbox();
        start_stages(d);
        while (d->phase != DAEMON_ENDED) {
                int r = loop_turn(d->loop, UINT64_MAX);

                if (r < 0) {
                        /* Workers see the end of their channels and leave; the memory stays, and
                         * the next run takes it over. */
                        log_broken("loop", "error=\"%s\"", strerror(-r));
                        _exit(1);
                }
        }
}

int daemon_run(const struct daemon_options *options) {
        struct daemon *d = calloc(1, sizeof(*d));
        struct report report = {.line = ""};
        int code, r;

        if (!d)
                return 1;
        d->options = options;
        d->lock.fd = d->signal_fd = -1;
        d->client.fd = d->control_listener.fd = d->telemetry.fd = -1;
        log_init("supervisor", LOG_LEVEL_INFO);
        raise_descriptor_limit();
        r = open_all(d, &report);
        if (r) {
                fprintf(stderr, "millrace run: %s\n",
                                report.line[0] ? report.line : strerror(ENOMEM));
                d->ending.exit_code = 2;
        } else {
                run(d);
        }
        code = d->ending.exit_code;
        close_all(d, r == 0);
        free(d);
        return code;
}
