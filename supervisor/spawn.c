/*
 * spawn -- starts a stage's own executable, with one channel and nothing else open.
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stages/common/channel.h"
#include "stages/common/sandbox_table.h"
#include "stages/common/stage.h"

#define CHILD_STACK_BYTES 65536
/* A sanitizer keeps books on stacks, and a child that execs never closes its own. */
#define CHILD_SHARES (MR_SANITIZED ? 0 : CLONE_VM)

/* ---- where they are -------------------------------------------------------------------------- */

static bool is_executable(const char *path) {
        return access(path, X_OK) == 0;
}

static int own_folder(char *buf, size_t n) {
        ssize_t len = readlink("/proc/self/exe", buf, n - 1);

        if (len <= 0)
                return len == 0 ? -ENOENT : -errno;
        buf[len] = '\0';
        *strrchr(buf, '/') = '\0'; /* an absolute path has one */
        return 0;
}

int spawn_find(const char *dir, struct spawn_exes *ret, struct report *report) {
        static const char *const beside[] = {"", "/../libexec/millrace"};
        char own[SPAWN_PATH_MAX];
        int r = dir ? 0 : own_folder(own, sizeof(own));

        if (r) {
                report_set(report, "cannot find out where this program lies: %s", strerror(-r));
                return r;
        }
        for (uint32_t role = 0; role < ROLES_N; role++) {
                char *path = ret->path[role];
                bool found = false;

                for (uint32_t i = 0; i < (dir ? 1 : 2) && !found; i++)
                        found = snprintf(path, SPAWN_PATH_MAX, "%s%s/millrace-%s", dir ? dir : own,
                                                beside[i], mr_role_name(role)) < SPAWN_PATH_MAX &&
                                is_executable(path);
                if (!found) {
                        report_set(report, "cannot find the program millrace-%s in %.600s%s",
                                        mr_role_name(role), dir ? dir : own,
                                        dir ? "" : " or ../libexec/millrace of it");
                        return -ENOENT;
                }
        }
        return 0;
}

char *spawn_find_in(const char *dir, enum mr_role role) {
        char *path = NULL;

        if (asprintf(&path, "%s/millrace-%s", dir, mr_role_name(role)) == -1)
                return NULL;
        if (is_executable(path))
                return path;
        free(path);
        return NULL;
}

/* ---- environment ----------------------------------------------------------------------------- */

static const char *const env_names[] = {
                "PATH",
                "LANG",
                "LC_ALL",
                "LC_CTYPE",
                "TZ",
#ifdef MR_FAULTS
                "MILLRACE_FAULT",
#endif
                "ASAN_OPTIONS", /* of builds that look for faults */
                "UBSAN_OPTIONS",
                "LSAN_OPTIONS",
                "LLVM_PROFILE_FILE",
};

static int env_add(struct spawn_env *env, uint32_t *n, const char *name) {
        const char *value = name ? getenv(name) : NULL;

        if (!value || *n == SPAWN_ENV_MAX)
                return 0;
        for (uint32_t i = 0; i < *n; i++)
                if (strncmp(env->v[i], name, strlen(name)) == 0 && env->v[i][strlen(name)] == '=')
                        return 0;
        if (asprintf(&env->v[*n], "%s=%s", name, value) == -1) {
                env->v[*n] = NULL;
                return -ENOMEM;
        }
        ++*n;
        return 0;
}

static int env_add_keys(
                struct spawn_env *env, uint32_t *n, enum mr_role role, const struct settings *s) {
        int r = 0;

        if (role == ROLE_INFERENCE)
                for (uint32_t i = 0; r == 0 && i < s->inference.workers.n; i++)
                        r = env_add(env, n, s->inference.workers.v[i].api_key_env);
        if ((role == ROLE_RAG || role == ROLE_WATCH) && s->rag.embeddings)
                r = env_add(env, n, s->rag.embeddings->api_key_env);
        if (role == ROLE_POST || role == ROLE_ASSEMBLE)
                r = env_add(env, n, s->post.redact.key_env);
        if (r == 0 && role == ROLE_RAG && s->rag.rerank)
                r = env_add(env, n, s->rag.rerank->api_key_env);
        return r;
}

int spawn_env_make(enum mr_role role, const struct settings *s, struct spawn_env *ret) {
        struct spawn_env env = {.v = {NULL}};
        uint32_t n = 0;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < sizeof(env_names) / sizeof(env_names[0]); i++)
                r = env_add(&env, &n, env_names[i]);
        if (r == 0)
                r = env_add_keys(&env, &n, role, s);
        if (r) {
                spawn_env_free(&env);
                return r;
        }
        *ret = env;
        return 0;
}

bool spawn_env_same(const struct spawn_env *a, const struct spawn_env *b) {
        uint32_t i = 0;

        while (a->v[i] && b->v[i] && strcmp(a->v[i], b->v[i]) == 0)
                i++;
        return !a->v[i] && !b->v[i];
}

void spawn_env_free(struct spawn_env *env) {
        for (uint32_t i = 0; i <= SPAWN_ENV_MAX && env->v[i]; i++) {
                free(env->v[i]);
                env->v[i] = NULL;
        }
}

/* ---- the child ------------------------------------------------------------------------------- */

static _Noreturn void child_fail(int channel, const char *what, const char *path) {
        char line[512];
        int n = snprintf(line, sizeof(line), "%s %.300s: %s", what, path, strerror(errno));

        (void)channel_send(channel, CHANNEL_FAILED, 0, line,
                        n < (int)sizeof(line) ? (uint32_t)n : (uint32_t)sizeof(line) - 1, -1);
        _exit(EXIT_PERMANENT);
}

/* Ctrl-C reaches the whole group; a worker is asked to leave over its channel. Being ignored
 * survives exec, so there is no moment at which they would kill it. */
static void child_signals(void) {
        static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
        sigset_t none;

        for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
                (void)signal(ignored[i], SIG_IGN);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_pin(int channel, uint32_t core) {
        cpu_set_t set;

        if (core == UINT32_MAX)
                return;
        CPU_ZERO(&set);
        CPU_SET(core, &set);
        if (sched_setaffinity(0, sizeof(set), &set) == -1)
                child_fail(channel, "cannot pin a process to its core,", "sched_setaffinity");
}

static int child_descriptors(int channel) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null == -1 || dup2(null, STDIN_FILENO) == -1 || dup2(null, STDOUT_FILENO) == -1)
                child_fail(channel, "cannot open", "/dev/null");
        if (channel == CHANNEL_FD)
                fcntl(channel, F_SETFD, 0);
        else if (dup2(channel, CHANNEL_FD) == -1)
                child_fail(channel, "cannot place", "the channel");
        /* Whatever a library or our own parent may have left open without CLOEXEC. */
        syscall(SYS_close_range, CHANNEL_FD + 1, UINT_MAX, 0);
        return CHANNEL_FD;
}

struct child {
        int channel;
        pid_t parent;
        const char *path, *title;
        uint32_t core;
        const struct spawn_env *env;
};

/* Runs in our memory, on a stack of its own, while we wait for its exec: it may make system calls and
 * change its own signals and descriptors, and nothing that we would find changed. */
static int child_main(void *arg) {
        const struct child *child = arg;
        char *argv[] = {(char *)(uintptr_t)child->title, NULL};
        int channel = child->channel;

        /* The signal comes only when the parent dies after the call: so look whether it still
         * lives. */
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() != child->parent)
                _exit(EXIT_PERMANENT);
        child_signals();
        child_pin(channel, child->core);
        channel = child_descriptors(channel);
        execve(child->path, argv, (char *const *)child->env->v);
        child_fail(channel, "cannot execute", child->path);
}

int spawn_channel(int *ret_ours, int *ret_childs) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
                return -errno;
        *ret_ours = pair[0];
        *ret_childs = pair[1];
        return 0;
}

/* Our page tables are not copied for a child that execs at once: that would be a third of a restart. */
int spawn_process(const char *path, const char *title, uint32_t core, const struct spawn_env *env,
                int childs, struct spawned *ret) {
        static alignas(16) uint8_t stack[CHILD_STACK_BYTES];
        struct child child = {.channel = childs,
                        .parent = getpid(),
                        .path = path,
                        .title = title,
                        .core = core,
                        .env = env};
        int pidfd = -1;
        pid_t pid = clone(child_main, stack + sizeof(stack),
                        CHILD_SHARES | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &child, &pidfd);

        if (pid == -1)
                return -errno;
        *ret = (struct spawned){.pid = pid, .pidfd = pidfd};
        return 0;
}
