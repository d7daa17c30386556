#include "cli/count_fit.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/control_socket.h"

static void put_text(msgpack_packer *pk, const char *text) {
        msgpack_pack_str_with_body(pk, text, strlen(text));
}

static int ask(int fd, const char *model, msgpack_unpacker *unpacker, msgpack_unpacked *ret) {
        msgpack_sbuffer request;
        msgpack_packer pk;
        int r;

        msgpack_sbuffer_init(&request);
        msgpack_packer_init(&pk, &request, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, model ? 2 : 1);
        put_text(&pk, "op");
        put_text(&pk, "tokens");
        if (model) {
                put_text(&pk, "model");
                put_text(&pk, model);
        }
        r = control_socket_send(fd, &request);
        msgpack_sbuffer_destroy(&request);
        return r ? r : control_socket_receive(fd, unpacker, ret);
}

/* A factor that is missing or out of bounds is 1. */
static void take(const msgpack_object *answer, struct fit *ret) {
        const msgpack_object *n = control_member(answer, "answers");
        const msgpack_object *factors = control_member(answer, "factors");

        if (n->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
                return;
        ret->n = n->via.u64;
        for (unsigned i = 0; i < TOKENS_PARTS_N; i++) {
                const msgpack_object *f = control_member(factors, tokens_part_name(i));
                if (f->type == MSGPACK_OBJECT_FLOAT64 && f->via.f64 >= 0 &&
                                f->via.f64 <= FIT_FACTOR_MAX)
                        ret->factor[i] = f->via.f64;
        }
}

void count_fit(const char *socket, const char *model, struct fit *ret) {
        const struct timeval most = {.tv_sec = COUNT_FIT_SECONDS};
        const struct calibration nothing = {.n = 0};
        char path[CONTROL_PATH_MAX];
        msgpack_unpacker unpacker;
        msgpack_unpacked answer;
        int fd;

        fit_solve(&nothing, ret);
        if (control_socket_connect(socket, path, &fd))
                return;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
        if (msgpack_unpacker_init(&unpacker, MSGPACK_UNPACKER_INIT_BUFFER_SIZE)) {
                msgpack_unpacked_init(&answer);
                if (ask(fd, model, &unpacker, &answer) == 0)
                        take(&answer.data, ret);
                msgpack_unpacked_destroy(&answer);
                msgpack_unpacker_destroy(&unpacker);
        }
        close(fd);
}
