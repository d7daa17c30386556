/*
 * control_ask -- asks another supervisor, over its control socket, who it is.
 */
#include "supervisor/control_ask.h"

#include <errno.h>
#include <msgpack.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "stages/common/clock.h"

#define ANSWER_MAX 4096u

static int connect_to(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, error;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd == -1)
                return -errno;
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        error = errno;
        close(fd);
        return -error;
}

static void take_text(const msgpack_object *value, char *to, size_t n) {
        if (value->type == MSGPACK_OBJECT_STR)
                snprintf(to, n, "%.*s", (int)value->via.str.size, value->via.str.ptr);
}

static int take_pong(const msgpack_object *o, struct control_pong *ret) {
        struct control_pong pong = {.pid = 0};

        if (o->type != MSGPACK_OBJECT_MAP)
                return -EPROTO;
        for (uint32_t i = 0; i < o->via.map.size; i++) {
                const msgpack_object_kv *kv = &o->via.map.ptr[i];
                char key[16] = "";

                take_text(&kv->key, key, sizeof(key));
                if (strcmp(key, "pid") == 0 && kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
                        pong.pid = (int64_t)kv->val.via.u64;
                else if (strcmp(key, "instance") == 0)
                        take_text(&kv->val, pong.instance, sizeof(pong.instance));
                else if (strcmp(key, "state") == 0)
                        take_text(&kv->val, pong.state, sizeof(pong.state));
                else if (strcmp(key, "socket") == 0)
                        take_text(&kv->val, pong.socket, sizeof(pong.socket));
        }
        if (pong.pid == 0)
                return -EPROTO;
        *ret = pong;
        return 0;
}

/* 1: a whole answer was there. */
static int parse(const char *buf, size_t len, struct control_pong *ret, int *ret_status) {
        msgpack_unpacked unpacked;
        size_t at = 0;
        int whole = 0;

        msgpack_unpacked_init(&unpacked);
        switch (msgpack_unpack_next(&unpacked, buf, len, &at)) {
        case MSGPACK_UNPACK_SUCCESS:
                *ret_status = take_pong(&unpacked.data, ret);
                whole = 1;
                break;
        case MSGPACK_UNPACK_CONTINUE:
                break;
        case MSGPACK_UNPACK_EXTRA_BYTES:
        case MSGPACK_UNPACK_PARSE_ERROR:
        case MSGPACK_UNPACK_NOMEM_ERROR:
                *ret_status = -EPROTO;
                whole = 1;
                break;
        }
        msgpack_unpacked_destroy(&unpacked);
        return whole;
}

static int read_answer(int fd, uint64_t until_ns, struct control_pong *ret) {
        char buf[ANSWER_MAX];
        size_t len = 0;
        int status = 0;

        while (len < sizeof(buf)) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                uint64_t now = clock_now_ns();
                ssize_t n;

                if (now >= until_ns || poll(&p, 1, (int)((until_ns - now) / NS_PER_MS) + 1) <= 0)
                        return -ETIMEDOUT;
                n = recv(fd, buf + len, sizeof(buf) - len, 0);
                if (n <= 0)
                        return -EPROTO;
                len += (size_t)n;
                if (parse(buf, len, ret, &status))
                        return status;
        }
        return -EPROTO;
}

int control_ask_ping(const char *path, uint32_t timeout_ms, struct control_pong *ret) {
        static const char ping[] = "\x81\xa2op\xa4ping"; /* {"op":"ping"} */
        int fd = connect_to(path);
        int r = -EPROTO;

        if (fd < 0)
                return fd;
        if (send(fd, ping, sizeof(ping) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(ping) - 1)
                r = read_answer(fd, clock_now_ns() + timeout_ms * NS_PER_MS, ret);
        close(fd);
        return r;
}
