/*
 * load -- drives a socket with one-word prompts: N connections, one request in flight on each.
 *
 *      load SOCKET CONNECTIONS REQUESTS
 *
 * Prints: requests per second, p50, p99 of a request in microseconds. A request is over when its `done`
 * event was read; anything else that ends one is a failure.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <msgpack.h>

#include "stages/common/clock.h"

#define CONNECTIONS_MAX 4096
#define EVENTS 64

struct connection {
        int fd;
        uint64_t start_ns;
        msgpack_unpacker in;
};

struct load {
        struct connection *connections;
        msgpack_sbuffer frame;
        uint32_t to_send, to_end, n_done;
        double *us;
};

static void die(const char *what) {
        perror(what);
        exit(1);
}

static void put(msgpack_packer *pk, const char *text) {
        msgpack_pack_str_with_body(pk, text, strlen(text));
}

static void send_next(struct load *load, struct connection *c) {
        if (!load->to_send)
                return;
        load->to_send--;
        c->start_ns = clock_now_ns();
        if (send(c->fd, load->frame.data, load->frame.size, MSG_NOSIGNAL) !=
                        (ssize_t)load->frame.size)
                die("send");
}

static void on_event(struct load *load, struct connection *c, const msgpack_object *event) {
        const msgpack_object *ev = NULL;

        for (uint32_t i = 0; event->type == MSGPACK_OBJECT_MAP && i < event->via.map.size && !ev;
                        i++)
                if (event->via.map.ptr[i].key.via.str.size == 2 &&
                                !memcmp(event->via.map.ptr[i].key.via.str.ptr, "ev", 2))
                        ev = &event->via.map.ptr[i].val;
        if (!ev || (ev->via.str.size == 5 && !memcmp(ev->via.str.ptr, "error", 5))) {
                fprintf(stderr, "load: a request ended in an error\n");
                exit(1);
        }
        if (ev->via.str.size == 4 && !memcmp(ev->via.str.ptr, "done", 4)) {
                load->us[load->n_done++] = (double)(clock_now_ns() - c->start_ns) / 1e3;
                load->to_end--;
                send_next(load, c);
        }
}

static void on_readable(struct load *load, struct connection *c) {
        msgpack_unpacked event;
        ssize_t n;

        msgpack_unpacker_reserve_buffer(&c->in, 16384);
        n = recv(c->fd, msgpack_unpacker_buffer(&c->in), 16384, 0);
        if (n <= 0)
                die("recv");
        msgpack_unpacker_buffer_consumed(&c->in, (size_t)n);
        msgpack_unpacked_init(&event);
        while (msgpack_unpacker_next(&c->in, &event) == MSGPACK_UNPACK_SUCCESS)
                on_event(load, c, &event.data);
        msgpack_unpacked_destroy(&event);
}

static int by_value(const void *a, const void *b) {
        const double *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static void connect_all(struct load *load, const char *path, uint32_t n, int epoll) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};

        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
        for (uint32_t i = 0; i < n; i++) {
                struct connection *c = &load->connections[i];
                struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
                c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) == -1)
                        die(path);
                msgpack_unpacker_init(&c->in, 16384);
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev);
        }
}

static void drive(struct load *load, uint32_t n_connections, int epoll) {
        struct epoll_event events[EVENTS];

        for (uint32_t i = 0; i < n_connections; i++)
                send_next(load, &load->connections[i]);
        while (load->to_end) {
                int n = epoll_wait(epoll, events, EVENTS, 30000);
                if (n == 0) {
                        fprintf(stderr, "load: nothing came for 30 s\n");
                        exit(1);
                }
                for (int i = 0; i < n; i++)
                        on_readable(load, events[i].data.ptr);
        }
}

int main(int argc, char **argv) {
        uint32_t n_connections = argc == 4 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
        uint32_t n_requests = argc == 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
        struct load load = {.to_send = n_requests, .to_end = n_requests};
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        msgpack_packer pk;
        uint64_t start;
        double seconds;

        if (!n_connections || n_connections > CONNECTIONS_MAX || !n_requests) {
                fprintf(stderr, "usage: load SOCKET CONNECTIONS REQUESTS\n");
                return 2;
        }
        load.connections = calloc(n_connections, sizeof(*load.connections));
        load.us = calloc(n_requests, sizeof(*load.us));
        if (!load.connections || !load.us)
                die("calloc");
        msgpack_sbuffer_init(&load.frame);
        msgpack_packer_init(&pk, &load.frame, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 3);
        put(&pk, "op");
        put(&pk, "submit");
        put(&pk, "session");
        put(&pk, "bench");
        put(&pk, "prompt");
        put(&pk, "hello");
        connect_all(&load, argv[1], n_connections, epoll);
        start = clock_now_ns();
        drive(&load, n_connections, epoll);
        seconds = (double)(clock_now_ns() - start) / 1e9;
        qsort(load.us, load.n_done, sizeof(*load.us), by_value);
        printf("%.0f %.1f %.1f\n", n_requests / seconds, load.us[load.n_done / 2],
                        load.us[(uint64_t)load.n_done * 99 / 100]);
        return 0;
}
