#include "cli/control_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "millrace/client.h"

#define SUFFIX ".ctl"
#define READ_BYTES 65536u

/* `path` has room for the suffix. */
static int path_of(const char *socket, char *path) {
        const size_t most = CONTROL_PATH_MAX - sizeof(SUFFIX);
        int r;

        if (socket) {
                snprintf(path, most, "%s", socket);
                return 0;
        }
        r = millrace_default_socket(path, most);
        if (r && r != -EPERM)
                snprintf(path, most, "the default path");
        return r;
}

int control_socket_connect(const char *socket_path, char path[static CONTROL_PATH_MAX], int *ret_fd) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        int r = path_of(socket_path, path), fd;

        if (r)
                return r;
        if (strlen(path) + sizeof(SUFFIX) > sizeof(addr.sun_path))
                return -ENAMETOOLONG;
        memcpy(path + strlen(path), SUFFIX, sizeof(SUFFIX));
        memcpy(addr.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd == -1)
                return -errno;
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == -1) {
                r = -errno;
                close(fd);
                return r;
        }
        *ret_fd = fd;
        return 0;
}

int control_socket_send(int fd, const msgpack_sbuffer *request) {
        size_t at = 0;

        while (at < request->size) {
                ssize_t n = send(fd, request->data + at, request->size - at, MSG_NOSIGNAL);
                if (n == -1 && errno != EINTR)
                        return -errno;
                at += n > 0 ? (size_t)n : 0;
        }
        return 0;
}

/* The one answer, however long it takes: a restart waits for its successor, a drain for the last one. */
int control_socket_receive(int fd, msgpack_unpacker *unpacker, msgpack_unpacked *ret) {
        for (;;) {
                msgpack_unpack_return r = msgpack_unpacker_next(unpacker, ret);
                ssize_t n;
                if (r == MSGPACK_UNPACK_SUCCESS)
                        return 0;
                if (r != MSGPACK_UNPACK_CONTINUE)
                        return -EPROTO;
                if (!msgpack_unpacker_reserve_buffer(unpacker, READ_BYTES))
                        return -ENOMEM;
                n = recv(fd, msgpack_unpacker_buffer(unpacker), READ_BYTES, 0);
                if (n == 0)
                        return -ECONNRESET;
                if (n == -1 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        msgpack_unpacker_buffer_consumed(unpacker, (size_t)n);
        }
}

const msgpack_object *control_member(const msgpack_object *map, const char *key) {
        static const msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};

        for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
                const msgpack_object *k = &map->via.map.ptr[i].key;
                if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == strlen(key) &&
                                !memcmp(k->via.str.ptr, key, k->via.str.size))
                        return &map->via.map.ptr[i].val;
        }
        return &nil;
}
