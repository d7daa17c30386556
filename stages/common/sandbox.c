#include "stages/common/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stages/common/landlock.h"
#include "stages/common/sandbox_table.h"
#include "stages/common/stage.h"

#define DNS_PORT 53
#define STEPS_MAX 1024

/* ---- limits -----------------------------------------------------------------------------------
 */

static int limit_core(void) {
        const struct rlimit none = {0, 0};
        return setrlimit(RLIMIT_CORE, &none) == -1 ? -errno : 0;
}

static int limit_memory(uint64_t cap_bytes) {
        struct rlimit data;

        if (cap_bytes == 0 || MR_SANITIZED)
                return 0;
        if (getrlimit(RLIMIT_DATA, &data) == -1)
                return -errno;
        if (cap_bytes > data.rlim_max)
                return 0; /* the operator's own limit is tighter */
        data.rlim_cur = data.rlim_max = cap_bytes;
        return setrlimit(RLIMIT_DATA, &data) == -1 ? -errno : 0;
}

int sandbox_close_above(int last) {
        return close_range((unsigned)last + 1, UINT_MAX, 0) == -1 ? -errno : 0;
}

/* Landlock binds the thread that enters it and those that this one starts. */
static int check_alone(void) {
        if (MR_SANITIZED || unshare(CLONE_THREAD) == 0) /* nothing changes where there is one */
                return 0;
        return errno == EINVAL ? SANDBOX_E_THREADS : 0; /* a container may forbid the question */
}

/* ---- what the settings name -------------------------------------------------------------------
 */

static void grant_path(struct landlock_grant *grant, const char *path, bool writable) {
        if (grant->n_paths < LANDLOCK_PATHS_MAX)
                grant->paths[grant->n_paths++] =
                                (struct landlock_path){.path = path, .writable = writable};
}

static void grant_port(struct landlock_grant *grant, uint16_t port) {
        if (grant->n_ports < LANDLOCK_PORTS_MAX)
                grant->ports[grant->n_ports++] = port;
}

/* http://HOST[:PORT][/PATH] or https://, as the settings' check has let it through. */
static uint16_t url_port(const char *url) {
        const char *host = strstr(url, "://");
        const char *after;

        if (!host)
                return 0;
        host += 3;
        after = *host == '[' ? strchr(host, ']') : host;
        after = after ? after + strcspn(after, ":/?#") : host;
        if (*after == ':')
                return (uint16_t)strtoul(after + 1, NULL, 10);
        return strncmp(url, "https", 5) == 0 ? 443 : 80;
}

/* Folders, not files: who changes one of these files mostly puts a new one in its place. */
static void grant_names(struct landlock_grant *grant) {
        static const char *const folders[] = {
                        "/etc", /* resolv.conf, hosts, nsswitch.conf, gai.conf, ssl, ld.so.cache */
                        "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
                        "/lib", "/lib64", "/usr/lib", "/usr/lib64", /* the name service's modules */
                        "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"};

        for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
                grant_path(grant, folders[i], false);
}

/* The port, and what finding a host by its name takes. */
static void grant_url(const char *url, struct landlock_grant *grant) {
        if (grant->n_ports == 0) {
                grant_port(grant, DNS_PORT);
                grant_names(grant);
        }
        grant_port(grant, url_port(url));
}

static bool asks_services(const struct settings *s) {
        return s->rag.embeddings || s->rag.rerank;
}

static bool grant_backends(const struct settings *s, struct landlock_grant *grant) {
        for (uint32_t i = 0; i < s->inference.workers.n; i++)
                if (s->inference.workers.v[i].base_url)
                        grant_url(s->inference.workers.v[i].base_url, grant);
        return grant->n_ports > 0;
}

static bool is_path(const char *setting) {
        return setting && strcmp(setting, "none") != 0 && strcmp(setting, "auto") != 0;
}

/* SQLite makes and removes files beside the database, and seeds itself from urandom. */
static bool grant_database(const struct settings *s, bool writable, char folder[static PATH_MAX],
                struct landlock_grant *grant) {
        const char *slash;

        if (!is_path(s->stream.database) || strlen(s->stream.database) >= PATH_MAX)
                return false;
        memcpy(folder, s->stream.database, strlen(s->stream.database) + 1);
        slash = strrchr(folder, '/');
        if (!slash)
                memcpy(folder, ".", 2);
        else
                folder[slash == folder ? 1 : slash - folder] = '\0';
        grant_path(grant, folder, writable);
        grant_path(grant, "/dev/urandom", false);
        return true;
}

static bool grant_watched(const struct settings *s, struct landlock_grant *grant) {
        if (!is_path(s->rag.index) || s->rag.watch.n == 0)
                return false;
        grant_path(grant, s->rag.index, true);
        for (uint32_t i = 0; i < s->rag.watch.n; i++)
                grant_path(grant, s->rag.watch.v[i], false);
        return true;
}

/* False: the settings name nothing that this row is for. */
static bool grant_place(enum sandbox_place place, const struct settings *s,
                char folder[static PATH_MAX], struct landlock_grant *grant) {
        switch (place) {
        case PLACE_NONE:
                return true;
        case PLACE_INDEX:
                if (!is_path(s->rag.index))
                        return false;
                grant_path(grant, s->rag.index, false);
                return true;
        case PLACE_RETRIEVAL:
                if (!is_path(s->rag.index))
                        return false;
                grant_path(grant, s->rag.index, false);
                if (s->rag.embeddings)
                        grant_url(s->rag.embeddings->url, grant);
                if (s->rag.rerank)
                        grant_url(s->rag.rerank->url, grant);
                return true;
        case PLACE_BACKENDS:
                return grant_backends(s, grant);
        case PLACE_DATABASE:
                return grant_database(s, true, folder, grant);
        case PLACE_HISTORY:
                return s->sessions.history_turns && grant_database(s, false, folder, grant);
        case PLACE_WATCHED:
                return grant_watched(s, grant);
        case PLACE_WATCHED_ASKING:
                if (!grant_watched(s, grant))
                        return false;
                grant_url(s->rag.embeddings->url, grant);
                return true;
        }
        return false;
}

/* ---- seccomp ----------------------------------------------------------------------------------
 */

static int filter_enter(const struct sock_fprog *filter) {
        struct sock_filter steps[STEPS_MAX];
        struct sock_fprog own = {.len = filter->len, .filter = steps};

        if (filter->len > STEPS_MAX)
                return -E2BIG;
        memcpy(steps, filter->filter, filter->len * sizeof(steps[0]));
        for (unsigned i = 0; i < filter->len; i++)
                if (steps[i].k == SANDBOX_OWN_PID)
                        steps[i].k = (uint32_t)getpid();
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &own) == 0)
                return 0;
        return errno == ENOSYS || errno == EINVAL || errno == EPERM ? SANDBOX_E_SECCOMP : -errno;
}

/* ---- all of it --------------------------------------------------------------------------------
 */

static int hold(struct worker *w, const struct sandbox_row *row, const struct sock_fprog *filter,
                const struct landlock_grant *grant) {
        int r = loop_restrict(w->loop, row->ops, row->n_ops);

        if (r == 0 && !MR_SANITIZED)
                r = landlock_enter(grant);
        if (r < 0)
                return r;
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
                return -errno;
        return MR_SANITIZED ? 0 : filter_enter(filter);
}

int sandbox_enter(struct worker *w) {
        const struct sandbox_row *row = &sandbox_rows[w->ops->role];
        const struct sock_fprog *filter = &sandbox_filters[w->ops->role];
        struct landlock_grant grant = {.n_paths = 0};
        char folder[PATH_MAX];

        if (w->ops->role == ROLE_RAG && asks_services(w->settings)) {
                row = &sandbox_retrieval;
                filter = &sandbox_filter_retrieval;
        }
        if (w->ops->role == ROLE_WATCH && w->settings->rag.embeddings) {
                row = &sandbox_watching;
                filter = &sandbox_filter_watching;
        }
        if (!grant_place(row->place, w->settings, folder, &grant)) {
                row = &sandbox_bare;
                filter = &sandbox_filter_bare;
        }
        int r = check_alone();
        if (r == 0)
                r = limit_core();
        if (r == 0)
                r = limit_memory(w->settings->memory.worker_cap_bytes);
        if (r != 0)
                return r;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
                return -errno;
        return hold(w, row, filter, &grant);
}

const char *sandbox_remedy(enum sandbox_error error) {
        switch (error) {
        case SANDBOX_E_SECCOMP:
                return "seccomp filters are missing or forbidden here, and no worker runs without: "
                       "they need a kernel with CONFIG_SECCOMP_FILTER, and in a container a profile "
                       "that allows seccomp()";
        case SANDBOX_E_THREADS:
                return "a thread runs already, and would be outside of the sandbox";
        }
        return "";
}
