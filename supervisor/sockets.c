/*
 * sockets -- where the daemon is reached: the client socket, the control socket, HTTP, the metrics.
 */
#include "supervisor/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/address.h"

#define PORT_RETRIES 40
#define PORT_RETRY_MS 50

/* Of connections that face any client. What waits unsent in the kernel is neither coalesced nor counted
 * as held for a slow reader, so it is little; a peer that takes nothing and one that is silent and
 * gone cost a connection for as long as this. */
#define TCP_UNSENT_BYTES 32768
#define TCP_TAKES_NOTHING_MS 120000
#define TCP_SILENT_S 60
#define TCP_PROBE_S 15
#define TCP_PROBES 4

/* ---- paths ----------------------------------------------------------------------------------- */

static int too_long(const char *path, struct report *report) {
        report_set(report,
                        "socket path %.200s has %zu bytes; at most %zu are possible, because %s is "
                        "added for "
                        "the control socket and an address holds %u",
                        path, strlen(path), SOCKETS_PATH_MAX - strlen(SOCKETS_CONTROL_SUFFIX),
                        SOCKETS_CONTROL_SUFFIX, SOCKETS_PATH_MAX);
        return SOCKETS_E_USER;
}

static int check_folder(const char *folder, struct report *report) {
        struct stat st;

        if (mkdir(folder, 0700) == -1 && errno != EEXIST) {
                report_set(report, "cannot make the folder of the socket %s: %s", folder,
                                strerror(errno));
                return SOCKETS_E_USER;
        }
        if (lstat(folder, &st) == -1) {
                report_set(report, "cannot look at the folder of the socket %s: %s", folder,
                                strerror(errno));
                return SOCKETS_E_USER;
        }
        if (!S_ISDIR(st.st_mode)) {
                report_set(report, "%s is no folder, and the socket would lie in it", folder);
                return SOCKETS_E_USER;
        }
        if (st.st_uid != geteuid()) {
                report_set(report,
                                "the folder of the socket %s belongs to user %u, not to this one "
                                "(%u): remove "
                                "it, or name another place with `socket`",
                                folder, (unsigned)st.st_uid, (unsigned)geteuid());
                return SOCKETS_E_USER;
        }
        if (st.st_mode & 077) {
                report_set(report,
                                "the folder of the socket %s is open to other users (mode %04o): "
                                "chmod 700 it",
                                folder, (unsigned)(st.st_mode & 07777));
                return SOCKETS_E_USER;
        }
        return 0;
}

int sockets_client_path(const char *setting, char ret_path[static SOCKETS_PATH_MAX + 1],
                struct report *report) {
        const char *named = setting ? setting : getenv("MILLRACE_SOCKET");
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        char folder[4096], path[4128];
        int r;

        if (named && *named) {
                snprintf(path, sizeof(path), "%s", named);
        } else {
                if (runtime && *runtime)
                        snprintf(folder, sizeof(folder), "%s/millrace", runtime);
                else
                        snprintf(folder, sizeof(folder), "/tmp/millrace-%u", (unsigned)geteuid());
                snprintf(path, sizeof(path), "%s/millrace.sock", folder);
        }
        if (strlen(path) + strlen(SOCKETS_CONTROL_SUFFIX) > SOCKETS_PATH_MAX)
                return too_long(path, report);
        if (!named || !*named) {
                r = check_folder(folder, report);
                if (r)
                        return r;
        }
        memcpy(ret_path, path, strlen(path) + 1);
        return 0;
}

int sockets_control_path(const char *client, char ret_path[static SOCKETS_PATH_MAX + 1],
                struct report *report) {
        if (strlen(client) + strlen(SOCKETS_CONTROL_SUFFIX) > SOCKETS_PATH_MAX)
                return too_long(client, report);
        snprintf(ret_path, SOCKETS_PATH_MAX + 1, "%s%s", client, SOCKETS_CONTROL_SUFFIX);
        return 0;
}

/* ---- Unix listeners -------------------------------------------------------------------------- */

static int socket_new(int family, struct report *report) {
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd == -1)
                report_set(report, "cannot make a socket: %s", strerror(errno));
        return fd;
}

static void unix_address(const char *path, struct sockaddr_un *ret) {
        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(ret->sun_path, path, strlen(path) + 1);
}

/* Somebody takes connections at the path. After a kill the kernel may keep a listener for a moment
 * in which its process is already gone: nobody will ever answer there. */
static bool is_served(const char *path) {
        struct report unused;
        struct sockaddr_un address;
        struct ucred peer = {.pid = 0};
        socklen_t len = sizeof(peer);
        int fd = socket_new(AF_UNIX, &unused);
        bool served;

        if (fd == -1)
                return true;
        unix_address(path, &address);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                served = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1 ||
                         peer.pid <= 0 || kill(peer.pid, 0) == 0 || errno != ESRCH;
        else
                served = errno == EAGAIN; /* a listener whose backlog is full */
        close(fd);
        return served;
}

void listener_poke(const struct listener *listener) {
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        struct report unused;
        int fd;

        if (listener->fd == -1 ||
            getsockname(listener->fd, (struct sockaddr *)&address, &len) == -1)
                return;
        fd = socket_new(address.ss_family, &unused);
        if (fd == -1)
                return;
        (void)connect(fd, (struct sockaddr *)&address, len); /* a full backlog wakes too */
        close(fd);
}

/* Makes way for a new socket: 0 when nothing is at the path any more. */
static int clear_path(const char *path, struct report *report) {
        struct stat st;

        if (lstat(path, &st) == -1)
                return 0; /* whatever else is wrong with the path, bind() says it */
        if (!S_ISSOCK(st.st_mode)) {
                report_set(report, "%s is in the way: it is no socket, and is not removed", path);
                return SOCKETS_E_USER;
        }
        if (is_served(path)) {
                report_set(report, "socket %s is taken: another process listens on it", path);
                return SOCKETS_E_USER;
        }
        if (unlink(path) == -1 && errno != ENOENT) {
                report_set(report, "cannot replace the old socket %s: %s", path, strerror(errno));
                return SOCKETS_E_USER;
        }
        return 0;
}

int listener_unix(const char *path, mode_t mode, struct listener *ret, struct report *report) {
        struct listener l = {.fd = -1};
        struct sockaddr_un address;
        struct stat st;
        mode_t mask;
        int r;

        if (strlen(path) > SOCKETS_PATH_MAX) {
                report_set(report, "socket path %.200s has %zu bytes, an address holds %u", path,
                                strlen(path), SOCKETS_PATH_MAX);
                return SOCKETS_E_USER;
        }
        r = clear_path(path, report);
        if (r)
                return r;
        l.fd = socket_new(AF_UNIX, report);
        if (l.fd == -1)
                return SOCKETS_E_USER;
        unix_address(path, &address);
        mask = umask(~mode & 0777); /* never open to more than that, not even for a moment */
        r = bind(l.fd, (struct sockaddr *)&address, sizeof(address));
        umask(mask);
        if (r == -1 || lstat(path, &st) == -1 || listen(l.fd, SOMAXCONN) == -1) {
                report_set(report, "cannot listen on socket %s: %s", path, strerror(errno));
                close(l.fd);
                return SOCKETS_E_USER;
        }
        l.dev = st.st_dev;
        l.ino = st.st_ino;
        memcpy(l.path, path, strlen(path) + 1);
        *ret = l;
        return 0;
}

void listener_close(struct listener *l) {
        struct stat st;

        if (l->fd == -1)
                return;
        /* Another daemon may have put its own there meanwhile. */
        if (l->path[0] && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
                unlink(l->path);
        close(l->fd);
        *l = (struct listener){.fd = -1};
}

/* ---- listeners by name ----------------------------------------------------------------------- */

/* -1 with errno set by whatever failed. */
static int bind_tcp(const struct sockaddr_storage *address, socklen_t len) {
        int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int on = 1, error;

        if (fd == -1)
                return -1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        /* So that IPv4 and IPv6 can be named side by side. */
        if (address->ss_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (bind(fd, (const struct sockaddr *)address, len) == 0 && listen(fd, SOMAXCONN) == 0)
                return fd;
        error = errno;
        close(fd);
        errno = error;
        return -1;
}

/* HOST:0 and [IPV6]:0 are said with the port that the kernel chose. */
static void name_listener(struct listener *l, const char *where) {
        struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof(address);
        const char *colon = strrchr(where, ':');

        snprintf(l->name, sizeof(l->name), "%s", where);
        if (l->path[0] || strcmp(colon, ":0") != 0)
                return;
        if (getsockname(l->fd, (struct sockaddr *)&address, &len) == 0)
                snprintf(l->name, sizeof(l->name), "%.*s:%u", (int)(colon - where), where,
                                address_port(&address));
}

static int open_unix(const char *where, mode_t mode, const char *what, struct listener *ret,
                struct report *report) {
        struct report why;
        int r = listener_unix(where + 5, mode, ret, &why);

        if (r)
                report_set(report, "%s: %.1400s", what, why.line);
        else
                name_listener(ret, where);
        return r;
}

void listener_harden(const struct listener *l) {
        static const struct {
                int level, option, value;
        } options[] = {
                        {IPPROTO_TCP, TCP_NODELAY, 1},
                        {IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP_UNSENT_BYTES},
                        {IPPROTO_TCP, TCP_USER_TIMEOUT, TCP_TAKES_NOTHING_MS},
                        {SOL_SOCKET, SO_KEEPALIVE, 1},
                        {IPPROTO_TCP, TCP_KEEPIDLE, TCP_SILENT_S},
                        {IPPROTO_TCP, TCP_KEEPINTVL, TCP_PROBE_S},
                        {IPPROTO_TCP, TCP_KEEPCNT, TCP_PROBES},
        };

        if (l->path[0])
                return;
        /* None of them is needed for right answers. */
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
                (void)setsockopt(l->fd, options[i].level, options[i].option, &options[i].value,
                                sizeof(options[i].value));
}

int listener_open(const char *where, mode_t mode, const char *what, const char *instead,
                struct listener *ret, struct report *report) {
        const struct timespec pause = {.tv_nsec = PORT_RETRY_MS * 1000000};
        struct sockaddr_storage address;
        socklen_t len;

        if (strncmp(where, "unix:", 5) == 0)
                return open_unix(where, mode, what, ret, report);
        if (address_parse(where, &address, &len)) {
                report_set(report, "%s: \"%s\" is no HOST:PORT", what, where);
                return SOCKETS_E_USER;
        }
        *ret = (struct listener){.fd = bind_tcp(&address, len)};
        /* The kernel gives the ports of a daemon that was killed back a moment later. */
        for (int i = 0; i < PORT_RETRIES && ret->fd == -1 && errno == EADDRINUSE; i++) {
                nanosleep(&pause, NULL);
                ret->fd = bind_tcp(&address, len);
        }
        if (ret->fd == -1) {
                int error = errno;

                report_set(report, "%s: cannot listen on %s: %s%s%s%s", what, where, strerror(error),
                                error == EADDRINUSE ? " (another process has it: name a free port, or "
                                                    : "",
                                error == EADDRINUSE ? instead : "", error == EADDRINUSE ? ")" : "");
                return SOCKETS_E_USER;
        }
        name_listener(ret, where);
        return 0;
}

int sockets_peer_is_ours(int fd) {
        struct ucred peer;
        socklen_t len = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
                return 0;
        return peer.uid == geteuid() || peer.uid == 0;
}
