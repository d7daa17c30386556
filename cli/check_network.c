/* Addresses: are those to listen on free, and do the backends answer? */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/check_cmd.h"
#include "supervisor/address.h"

/* For services that have no timeout of their own for connecting. */
#define CONNECT_MS 2000U

static void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

/* ---- ports ------------------------------------------------------------------------------- */

/* A Unix socket is taken when someone answers; a file that nobody answers on is a leftover. */
static int probe_unix(const struct sockaddr_storage *address, socklen_t len) {
        __attribute__((cleanup(closep))) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)address, len) == 0)
                return -EADDRINUSE;
        return 0;
}

static int probe_ip(const struct sockaddr_storage *address, socklen_t len) {
        __attribute__((cleanup(closep))) int fd =
                socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;

        if (fd < 0)
                return -errno;
        /* As a listener does it; without this an old connection in TIME_WAIT counts as taken. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
                return -errno;
        if (address->ss_family == AF_INET6 &&
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)))
                return -errno;
        if (bind(fd, (const struct sockaddr *)address, len) || listen(fd, 1))
                return -errno;
        return 0;
}

static void look_port(struct check_run *run, const char *key, const char *text) {
        struct sockaddr_storage address;
        char remedy[128];
        socklen_t len;
        int r;

        if (strcmp(text, "none") == 0 || address_parse(text, &address, &len))
                return;
        if (address.ss_family != AF_UNIX && address_port(&address) == 0) {
                check_finding(run, CHECK_OK, "port", NULL, "%s %s takes a free one", key, text);
                return;
        }
        r = address.ss_family == AF_UNIX ? probe_unix(&address, len) : probe_ip(&address, len);
        if (r == 0) {
                check_finding(run, CHECK_OK, "port", NULL, "%s %s is free", key, text);
                return;
        }
        if (r == -EADDRINUSE && run->running) {
                check_finding(run, CHECK_WARN, "port", NULL,
                              "%s %s is taken, maybe by the instance that is running", key, text);
                return;
        }
        if (r == -EACCES)
                snprintf(remedy, sizeof(remedy), "choose a port from 1024 on for %s", key);
        else
                snprintf(remedy, sizeof(remedy), "end who has it (ss -lp), or change %s", key);
        check_finding(run, CHECK_BAD, "port", remedy, "%s %s: %s", key, text, strerror(-r));
}

void check_ports(struct check_run *run, const struct settings *s) {
        for (uint32_t i = 0; i < s->http.listen.n; i++)
                look_port(run, "http.listen", s->http.listen.v[i]);
        look_port(run, "telemetry.listen", s->telemetry.listen);
}

/* ---- backends ---------------------------------------------------------------------------- */

static int connect_within(const struct addrinfo *to, uint64_t timeout_ms) {
        __attribute__((cleanup(closep))) int fd =
                socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        int error = 0, r;
        socklen_t len = sizeof(error);

        if (fd < 0)
                return -errno;
        if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
                return 0;
        if (errno != EINPROGRESS)
                return -errno;
        r = poll(&poll_fd, 1, (int)timeout_ms);
        if (r < 0)
                return -errno;
        if (r == 0)
                return -ETIMEDOUT;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
                return -errno;
        return -error;
}

static void look_backend(struct check_run *run, const char *who, const char *text,
                         uint64_t timeout_ms) {
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        struct addrinfo *list = NULL;
        struct address_url url;
        int r = -EHOSTUNREACH;

        if (!text || !address_parse_url(text, &url))
                return;
        r = getaddrinfo(url.host, url.port, &hints, &list);
        if (r) {
                check_finding(run, CHECK_BAD, "backend", "correct the URL, or the name service",
                              "%s %s: %s", who, text, gai_strerror(r));
                return;
        }
        for (const struct addrinfo *to = list; to; to = to->ai_next) {
                r = connect_within(to, timeout_ms);
                if (r == 0)
                        break;
        }
        freeaddrinfo(list);
        if (r == 0)
                check_finding(run, CHECK_OK, "backend", NULL, "%s %s answers", who, text);
        else
                check_finding(run, CHECK_BAD, "backend", "start it, or correct the URL",
                              "%s %s: %s", who, text, strerror(-r));
}

void check_backends(struct check_run *run, const struct settings *s) {
        for (uint32_t i = 0; i < s->inference.workers.n; i++) {
                const struct settings_worker *worker = &s->inference.workers.v[i];

                look_backend(run, worker->name, worker->base_url, worker->timeouts.connect_ms);
        }
        if (s->rag.embeddings)
                look_backend(run, "rag.embeddings", s->rag.embeddings->url, CONNECT_MS);
        if (s->rag.rerank)
                look_backend(run, "rag.rerank", s->rag.rerank->url, CONNECT_MS);
        look_backend(run, "telemetry.otlp", s->telemetry.otlp, CONNECT_MS);
}
