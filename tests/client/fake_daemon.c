#include "fake_daemon.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK 65536u

void fake_open(struct fake *f) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};

        *f = (struct fake){.listener = -1, .fd = -1};
        strcpy(f->dir, "/tmp/millrace-client-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(f->dir));
        snprintf(f->path, sizeof(f->path), "%s/m.sock", f->dir);
        memcpy(addr.sun_path, f->path, strlen(f->path) + 1);
        f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(f->listener, 0);
        ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
        ck_assert_int_eq(listen(f->listener, 4), 0);
        msgpack_sbuffer_init(&f->frame);
        msgpack_packer_init(&f->pk, &f->frame, msgpack_sbuffer_write);
        ck_assert(msgpack_unpacker_init(&f->requests, CHUNK));
        msgpack_unpacked_init(&f->request);
}

void fake_close(struct fake *f) {
        fake_hang_up(f);
        close(f->listener);
        unlink(f->path);
        rmdir(f->dir);
        msgpack_sbuffer_destroy(&f->frame);
        msgpack_unpacked_destroy(&f->request);
        msgpack_unpacker_destroy(&f->requests);
}

struct millrace *fake_client(struct fake *f) {
        struct millrace *m = NULL;

        ck_assert_int_eq(millrace_connect(&m, f->path), 0);
        f->fd = accept(f->listener, NULL, NULL);
        ck_assert_int_ge(f->fd, 0);
        return m;
}

void fake_hang_up(struct fake *f) {
        if (f->fd != -1)
                close(f->fd);
        f->fd = -1;
}

void fake_say(struct fake *f, const void *bytes, size_t n) {
        ck_assert_int_eq(send(f->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

void fake_map(struct fake *f, const char *ev, uint32_t n_members_besides_ev) {
        msgpack_sbuffer_clear(&f->frame);
        msgpack_pack_map(&f->pk, n_members_besides_ev + 1);
        fake_str(f, "ev", ev);
}

void fake_key(struct fake *f, const char *key) {
        msgpack_pack_str_with_body(&f->pk, key, strlen(key));
}

void fake_str(struct fake *f, const char *key, const char *value) {
        fake_key(f, key);
        fake_key(f, value);
}

void fake_number(struct fake *f, const char *key, uint64_t value) {
        fake_key(f, key);
        msgpack_pack_uint64(&f->pk, value);
}

void fake_send(struct fake *f) {
        fake_say(f, f->frame.data, f->frame.size);
}

const msgpack_object *fake_hear(struct fake *f) {
        for (;;) {
                msgpack_unpack_return r = msgpack_unpacker_next(&f->requests, &f->request);
                ssize_t n;

                if (r == MSGPACK_UNPACK_SUCCESS)
                        return &f->request.data;
                ck_assert_int_eq(r, MSGPACK_UNPACK_CONTINUE);
                ck_assert(msgpack_unpacker_reserve_buffer(&f->requests, CHUNK));
                n = recv(f->fd, msgpack_unpacker_buffer(&f->requests), CHUNK, 0);
                ck_assert_int_gt(n, 0);
                msgpack_unpacker_buffer_consumed(&f->requests, (size_t)n);
        }
}

const msgpack_object *fake_member(const msgpack_object *map, const char *key) {
        ck_assert_int_eq(map->type, MSGPACK_OBJECT_MAP);
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object *k = &map->via.map.ptr[i].key;

                if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == strlen(key) &&
                                memcmp(k->via.str.ptr, key, k->via.str.size) == 0)
                        return &map->via.map.ptr[i].val;
        }
        return NULL;
}

void fake_expect_str(const msgpack_object *map, const char *key, const char *value) {
        const msgpack_object *o = fake_member(map, key);

        ck_assert_msg(o && (o->type == MSGPACK_OBJECT_STR || o->type == MSGPACK_OBJECT_BIN),
                        "no text in %s", key);
        ck_assert_uint_eq(o->via.str.size, strlen(value));
        ck_assert_int_eq(memcmp(o->via.str.ptr, value, o->via.str.size), 0);
}
