/*
 * bare_server -- the reference of the echo rows: one process, epoll, nothing but the frames.
 *
 *      bare_server SOCKET
 *
 * Decodes each submit frame and answers with the same three events that the daemon sends for a one-word
 * prompt with the worker `echo`. No lanes, no log, no admission: what is left is the price of the frames.
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

#define EVENTS 64

struct connection {
        int fd;
        msgpack_unpacker in;
        msgpack_sbuffer out;
};

static void put(msgpack_packer *pk, const char *text) {
        msgpack_pack_str_with_body(pk, text, strlen(text));
}

static const msgpack_object *member(const msgpack_object *map, const char *key) {
        for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
                const msgpack_object *k = &map->via.map.ptr[i].key;
                if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == strlen(key) &&
                                !memcmp(k->via.str.ptr, key, k->via.str.size))
                        return &map->via.map.ptr[i].val;
        }
        return NULL;
}

static void put_head(
                msgpack_packer *pk, uint32_t members, const char *ev, const msgpack_object *id) {
        msgpack_pack_map(pk, members);
        put(pk, "ev");
        put(pk, ev);
        put(pk, "id");
        msgpack_pack_object(pk, *id);
}

static void put_usage(msgpack_packer *pk) {
        put(pk, "usage");
        msgpack_pack_map(pk, 3);
        put(pk, "prompt_tokens");
        msgpack_pack_int(pk, 9);
        put(pk, "completion_tokens");
        msgpack_pack_int(pk, 2);
        put(pk, "total_tokens");
        msgpack_pack_int(pk, 11);
}

static void put_timing(msgpack_packer *pk) {
        static const char *const stages[] = {"rag", "assemble", "inference", "post", "ttft"};

        put(pk, "timing_us");
        msgpack_pack_map(pk, 5);
        for (int i = 0; i < 5; i++) {
                put(pk, stages[i]);
                msgpack_pack_int(pk, 3);
        }
}

static void answer(msgpack_packer *pk, const msgpack_object *frame) {
        static const msgpack_object none = {.type = MSGPACK_OBJECT_NIL};
        const msgpack_object *id = member(frame, "id"), *prompt = member(frame, "prompt");

        id = id ? id : &none;
        put_head(pk, 3, "accepted", id);
        put(pk, "lane");
        msgpack_pack_int(pk, 0);
        put_head(pk, 4, "delta", id);
        put(pk, "seq");
        msgpack_pack_int(pk, 1);
        put(pk, "text");
        msgpack_pack_object(pk, prompt ? *prompt : none);
        put_head(pk, 7, "done", id);
        put(pk, "seq");
        msgpack_pack_int(pk, 2);
        put(pk, "finish_reason");
        put(pk, "stop");
        put_usage(pk);
        put(pk, "sources");
        msgpack_pack_array(pk, 0);
        put_timing(pk);
}

/* False: the connection is over. */
static bool serve(struct connection *c) {
        msgpack_unpacked frame;
        msgpack_packer pk;
        ssize_t n;

        msgpack_unpacker_reserve_buffer(&c->in, 4096);
        n = recv(c->fd, msgpack_unpacker_buffer(&c->in), 4096, 0);
        if (n <= 0)
                return n == -1 && errno == EAGAIN;
        msgpack_unpacker_buffer_consumed(&c->in, (size_t)n);
        msgpack_unpacked_init(&frame);
        msgpack_packer_init(&pk, &c->out, msgpack_sbuffer_write);
        while (msgpack_unpacker_next(&c->in, &frame) == MSGPACK_UNPACK_SUCCESS)
                answer(&pk, &frame.data);
        msgpack_unpacked_destroy(&frame);
        if (c->out.size &&
                        send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL) != (ssize_t)c->out.size)
                return false;
        msgpack_sbuffer_clear(&c->out);
        return true;
}

static void drop(struct connection *c) {
        close(c->fd);
        msgpack_unpacker_destroy(&c->in);
        msgpack_sbuffer_destroy(&c->out);
        free(c);
}

static void add(int epoll, int listener) {
        struct connection *c = calloc(1, sizeof(*c));
        struct epoll_event ev = {.events = EPOLLIN};
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (!c || fd == -1)
                exit(1);
        c->fd = fd;
        msgpack_unpacker_init(&c->in, 4096);
        msgpack_sbuffer_init(&c->out);
        ev.data.ptr = c;
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

int main(int argc, char **argv) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        struct epoll_event events[EVENTS], ev = {.events = EPOLLIN};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
            epoll = epoll_create1(EPOLL_CLOEXEC);

        if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
                fprintf(stderr, "usage: bare_server SOCKET\n");
                return 2;
        }
        memcpy(addr.sun_path, argv[1], strlen(argv[1]) + 1);
        if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == -1 ||
                        listen(listener, 128) == -1) {
                perror(argv[1]);
                return 1;
        }
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev); /* data.ptr NULL: the listener */
        for (;;) {
                int n = epoll_wait(epoll, events, EVENTS, -1);
                for (int i = 0; i < n; i++) {
                        struct connection *c = events[i].data.ptr;
                        if (!c)
                                add(epoll, listener);
                        else if (!serve(c))
                                drop(c);
                }
        }
}
