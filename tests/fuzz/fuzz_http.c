/* The HTTP surface of a whole gateway: the same bytes, all at once and in small pieces, get the same
 * answers in the same order, run the same requests, and leave nothing behind. */
#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/stages/gateway/rig.h"

#define INPUT_MAX 16384u
#define ANSWERS_MAX 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
        uint32_t n_answers, n_requests;
        char status[ANSWERS_MAX][3];
        uint64_t bodies; /* of all requests that ran */
};

static void settings(struct settings *s) {
        s->admission.max_body_bytes = 4096;
}

/* What runs is answered at once, with nothing. */
static void answer_all(struct rig *rig, struct outcome *ret) {
        struct record request;
        uint64_t req_id;

        while (rig_take(rig, 0, &request, &req_id)) {
                ret->n_requests++;
                ret->bodies = ret->bodies * 31 + request.body_len;
                rig_done(rig, 0, rig_response(rig, 0, req_id, &request), 1);
        }
}

/* Who is told to go on depends on how much has come by then. */
static void statuses(const char *text, struct outcome *ret) {
        static const char mark[] = "HTTP/1.1 ";

        while (ret->n_answers < ANSWERS_MAX && (text = strstr(text, mark))) {
                text += sizeof(mark) - 1;
                if (strnlen(text, 3) == 3 && text[0] >= '2' && text[0] <= '5')
                        memcpy(ret->status[ret->n_answers++], text, 3);
        }
}

static void play(const uint8_t *data, size_t size, size_t piece, struct outcome *ret) {
        static struct rig_http c;
        static struct rig rig;
        ssize_t n;

        *ret = (struct outcome){0};
        rig_new(&rig, &(struct rig_setup){.lanes = 1, .max_in_flight = 4, .settings = settings});
        rig_http_connect(&rig, &c);
        for (size_t at = 0; at < size; at += piece) {
                size_t left = size - at < piece ? size - at : piece;

                if (send(c.fd, data + at, left, MSG_NOSIGNAL) < 0)
                        break; /* it has heard enough */
                answer_all(&rig, ret);
        }
        answer_all(&rig, ret);
        while (c.len < sizeof(c.got) - 1 && (n = recv(c.fd, c.got + c.len, sizeof(c.got) - 1 - c.len,
                                                             MSG_DONTWAIT)) > 0)
                c.len += (uint32_t)n;
        c.got[c.len] = '\0';
        statuses(c.got, ret);
        close(c.fd);
        answer_all(&rig, ret);
        assert(rig.gw->conns.n[SURFACE_HTTP] == 0 && rig.gw->conns.large_bytes == 0);
        assert(rig.gw->readers.n == 0 && rig.gw->table.n_open == 0);
        rig_free(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct outcome whole, pieces;

        if (size > INPUT_MAX)
                return 0;
        play(data, size, INPUT_MAX, &whole);
        play(data, size, 1 + size / 64, &pieces);
        assert(whole.n_answers == pieces.n_answers && whole.n_requests == pieces.n_requests);
        assert(memcmp(whole.status, pieces.status, sizeof(whole.status)) == 0);
        assert(whole.bodies == pieces.bodies);
        return 0;
}
