/*
 * control -- the control socket: requests in, answers out (docs/control.md).
 *
 * Nothing here waits: a connection is read only when its last answer has gone out, so a slow client
 * costs its own buffer and nothing else.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stages/common/log.h"
#include "stages/common/record.h"
#include "stages/engines/tokens/fit.h"
#include "supervisor/daemon.h"
#include "supervisor/pack.h"
#include "supervisor/status.h"

#define REQUEST_MAX 16384u
#define REQUEST_DEPTH 8u
#define ACCEPTS_A_TURN 16
#define MODEL_MAX 256u

struct control_client {
        struct daemon *d;
        int fd;          /* -1: free */
        uint64_t handle; /* place | serial: an answer for one that has gone finds nobody */
        uint8_t in[REQUEST_MAX];
        uint32_t in_len;
        msgpack_sbuffer out;
        size_t out_at;
        bool waiting; /* its answer comes later */
        bool busy;    /* a request of it is being looked at: an answer goes out after that */
        bool eof;     /* nothing more comes */
        bool over;    /* a request that cannot be followed by another */
        struct loop_op in_op, out_op;
};

struct control {
        struct control_client clients[CONTROL_CLIENTS_MAX];
        uint64_t serial;
        struct loop_op accept_op;
};

/* ---- answers --------------------------------------------------------------------------------- */

static struct control_client *find(struct daemon *d, uint64_t handle) {
        struct control_client *c;

        if (handle == 0 || !d->control)
                return NULL;
        c = &d->control->clients[handle % CONTROL_CLIENTS_MAX];
        return c->fd != -1 && c->handle == handle ? c : NULL;
}

static msgpack_packer answer(struct control_client *c, bool ok, const char *op, uint32_t members) {
        msgpack_packer pk;

        msgpack_packer_init(&pk, &c->out, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 2 + members);
        pack_key_bool(&pk, "ok", ok);
        pack_key_text(&pk, "op", op);
        return pk;
}

static void answer_error(
                struct control_client *c, const char *op, const char *code, const char *message) {
        msgpack_packer pk = answer(c, false, op, 2);

        pack_key_text(&pk, "code", code);
        pack_key_text(&pk, "message", message);
}

static void pump(struct control_client *c);

/* An answer that was waited for is in the buffer. */
static void answered(struct control_client *c) {
        c->waiting = false;
        if (!c->busy)
                pump(c);
}

void control_answer_restart(struct daemon *d, uint64_t client, uint32_t restarted) {
        struct control_client *c = find(d, client);
        msgpack_packer pk;

        if (!c)
                return;
        pk = answer(c, true, "restart", 1);
        pack_key_u64(&pk, "restarted", restarted);
        answered(c);
}

static void pack_rows(msgpack_packer *pk, const char *key, const struct settings_row *const *rows,
                uint32_t n) {
        pack_text(pk, key);
        msgpack_pack_array(pk, n);
        for (uint32_t i = 0; i < n; i++)
                pack_text(pk, rows[i]->path);
}

void control_answer_reload(struct daemon *d, uint64_t client, const struct roll_job *job) {
        struct control_client *c = find(d, client);
        msgpack_packer pk;

        if (!c)
                return;
        pk = answer(c, true, "reload", 2);
        pack_rows(&pk, "changed", job->changed, job->n_changed);
        pack_key_u64(&pk, "restarted", job->n);
        answered(c);
}

void control_answer_restart_required(struct daemon *d, uint64_t client,
                const struct settings_row *const *rows, uint32_t n) {
        struct control_client *c = find(d, client);
        msgpack_packer pk;

        if (!c)
                return;
        pk = answer(c, false, "reload", 3);
        pack_key_text(&pk, "code", "restart_required");
        pack_key_text(&pk, "message",
                        "nothing was applied: some of what changed needs the daemon to be started "
                        "anew");
        pack_rows(&pk, "keys", rows, n);
        answered(c);
}

void control_answer_drain(struct daemon *d, uint64_t client, uint64_t lost) {
        struct control_client *c = find(d, client);
        msgpack_packer pk;

        if (!c)
                return;
        pk = answer(c, lost == 0, "drain", lost ? 3 : 1);
        pack_key_u64(&pk, "lost", lost);
        if (lost) {
                pack_key_text(&pk, "code", "failed");
                pack_key_text(&pk, "message", "not every admitted request has ended");
        }
        answered(c);
}

void control_answer_error(struct daemon *d, uint64_t client, const char *op, const char *code,
                const char *message) {
        struct control_client *c = find(d, client);

        if (!c)
                return;
        answer_error(c, op, code, message);
        answered(c);
}

/* ---- requests -------------------------------------------------------------------------------- */

struct request {
        char op[16], stage[16], exe[SPAWN_PATH_MAX]; /* exe: empty, none */
        char model[MODEL_MAX];
        int64_t lane;        /* -1: none */
        uint64_t timeout_ms; /* 0: none */
        const char *wrong;   /* what is wrong with it, NULL: nothing */
        bool is_map;
};

static bool take_text(const msgpack_object *o, char *to, size_t n) {
        if (o->type != MSGPACK_OBJECT_STR || o->via.str.size >= n)
                return false;
        memcpy(to, o->via.str.ptr, o->via.str.size);
        to[o->via.str.size] = '\0';
        return true;
}

static bool take_u64(const msgpack_object *o, uint64_t most, uint64_t *ret) {
        if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > most)
                return false;
        *ret = o->via.u64;
        return true;
}

static void take_member(struct request *q, const char *key, const msgpack_object *value) {
        uint64_t lane = 0;

        if (value->type == MSGPACK_OBJECT_NIL)
                return;
        if (strcmp(key, "op") == 0 && !take_text(value, q->op, sizeof(q->op)))
                q->wrong = "op: expected a short text";
        else if (strcmp(key, "stage") == 0 && !take_text(value, q->stage, sizeof(q->stage)))
                q->wrong = "stage: expected the name of a stage, or all";
        else if (strcmp(key, "exe") == 0 &&
                        (!take_text(value, q->exe, sizeof(q->exe)) || q->exe[0] != '/'))
                q->wrong = "exe: expected the absolute path of a folder";
        else if (strcmp(key, "model") == 0 && !take_text(value, q->model, sizeof(q->model)))
                q->wrong = "model: expected a text of at most 255 bytes";
        else if (strcmp(key, "timeout_ms") == 0 && !take_u64(value, 3600000, &q->timeout_ms))
                q->wrong = "timeout_ms: expected a number from 0 to 3600000";
        else if (strcmp(key, "lane") == 0) {
                if (take_u64(value, LANES_MAX - 1, &lane))
                        q->lane = (int64_t)lane;
                else
                        q->wrong = "lane: expected the number of a lane";
        }
}

static void take_request(const msgpack_object *o, struct request *ret) {
        *ret = (struct request){.lane = -1, .is_map = o->type == MSGPACK_OBJECT_MAP};
        if (!ret->is_map) {
                ret->wrong = "expected a map";
                return;
        }
        for (uint32_t i = 0; i < o->via.map.size; i++) {
                char key[16];

                if (take_text(&o->via.map.ptr[i].key, key, sizeof(key)))
                        take_member(ret, key, &o->via.map.ptr[i].val);
        }
}

static void on_ping(struct control_client *c) {
        const struct daemon *d = c->d;
        msgpack_packer pk = answer(c, true, "ping", 5);

        pack_key_u64(&pk, "pid", (uint64_t)getpid());
        pack_key_text(&pk, "instance", d->memory.instance);
        pack_key_text(&pk, "socket", d->client.path);
        pack_key_text(&pk, "state", status_state(d));
        pack_key_text(&pk, "version", MR_VERSION);
}

static void on_status(struct control_client *c) {
        msgpack_packer pk = answer(c, true, "status", 1);

        pack_text(&pk, "status");
        status_pack(c->d, &pk);
}

static void on_tokens(struct control_client *c, const struct request *q) {
        struct calibration known;
        struct fit fit;
        msgpack_packer pk = answer(c, true, "tokens", 2);

        calibration_gather(c->d->memory.counters, q->model, (uint32_t)strlen(q->model), &known);
        fit_solve(&known, &fit);
        pack_key_u64(&pk, "answers", fit.n);
        pack_text(&pk, "factors");
        msgpack_pack_map(&pk, TOKENS_PARTS_N);
        for (uint32_t part = 0; part < TOKENS_PARTS_N; part++) {
                pack_text(&pk, tokens_part_name(part));
                msgpack_pack_double(&pk, fit.factor[part]);
        }
}

static void on_restart(struct control_client *c, const struct request *q) {
        struct daemon *d = c->d;
        bool all = strcmp(q->stage, "all") == 0;
        uint32_t role = 0;
        int r;

        while (role < ROLES_N && strcmp(q->stage, mr_role_name(role)) != 0)
                role++;
        if (role == ROLES_N && !all) {
                answer_error(c, q->op, "invalid_request",
                                "stage: expected gateway, rag, assemble, inference, post, stream, "
                                "telemetry, "
                                "watch or all");
        } else if (q->lane >= (int64_t)d->memory.topology->n_lanes) {
                answer_error(c, q->op, "invalid_request", "lane: there is no such lane");
        } else if (q->lane >= 0 && !all && role >= LANE_STAGES_N) {
                answer_error(c, q->op, "invalid_request", "lane: this process serves every lane");
        } else if (d->phase != DAEMON_RUNNING) {
                answer_error(c, q->op, d->phase == DAEMON_STARTING ? "busy" : "draining",
                                d->phase == DAEMON_STARTING ? "the daemon is not ready yet"
                                                            : "the daemon ends");
        } else {
                c->waiting = true;
                r = roll_restart(d, role, all, (int)q->lane, q->exe[0] ? q->exe : NULL, c->handle);
                if (r) {
                        c->waiting = false;
                        answer_error(c, q->op, r == -EBUSY ? "busy" : "failed",
                                        r == -EBUSY    ? "too many restarts are waiting"
                                        : r == -ENOENT ? "exe: the stage's program is not there"
                                                       : "nobody to restart");
                }
        }
}

static void on_drain(struct control_client *c, const struct request *q) {
        struct daemon *d = c->d;

        if (d->phase >= DAEMON_ENDING) {
                answer_error(c, q->op, "draining", "the daemon ends already");
                return;
        }
        c->waiting = true;
        ending_drain(d, q->timeout_ms, c->handle);
}

static void on_request(struct control_client *c, const struct request *q) {
        if (q->wrong) {
                answer_error(c, q->op, "invalid_request", q->wrong);
                c->over = !q->is_map;
        } else if (strcmp(q->op, "ping") == 0) {
                on_ping(c);
        } else if (strcmp(q->op, "status") == 0) {
                on_status(c);
        } else if (strcmp(q->op, "tokens") == 0) {
                on_tokens(c, q);
        } else if (strcmp(q->op, "restart") == 0) {
                on_restart(c, q);
        } else if (strcmp(q->op, "drain") == 0) {
                on_drain(c, q);
        } else if (strcmp(q->op, "reload") == 0) {
                c->waiting = true;
                roll_reload(c->d, c->handle);
        } else {
                answer_error(c, q->op, "invalid_request",
                                "op: expected ping, status, tokens, restart, reload or drain");
        }
}

/* A copy of the first request in the buffer, which it leaves. */
static enum msgpack_scan next_request(struct control_client *c, struct request *ret) {
        struct msgpack_scanner scanner;
        msgpack_unpacked unpacked;
        enum msgpack_scan scan;
        size_t at = 0;

        msgpack_scanner_init(&scanner);
        scan = msgpack_scan(&scanner, c->in, c->in_len, REQUEST_DEPTH, REQUEST_MAX);
        if (scan != MSGPACK_SCAN_DONE)
                return scan;
        msgpack_unpacked_init(&unpacked);
        if (msgpack_unpack_next(&unpacked, (char *)c->in, scanner.at, &at) ==
                        MSGPACK_UNPACK_SUCCESS)
                take_request(&unpacked.data, ret);
        else
                scan = MSGPACK_SCAN_BROKEN;
        msgpack_unpacked_destroy(&unpacked);
        c->in_len -= (uint32_t)scanner.at;
        memmove(c->in, c->in + scanner.at, c->in_len);
        return scan;
}

/* Answers one request of the buffer; false: there is no whole one yet. */
static bool take_one(struct control_client *c) {
        struct request q;

        switch (c->in_len ? next_request(c, &q) : MSGPACK_SCAN_MORE) {
        case MSGPACK_SCAN_DONE:
                c->busy = true;
                on_request(c, &q);
                c->busy = false;
                return true;
        case MSGPACK_SCAN_MORE:
                return false;
        case MSGPACK_SCAN_BROKEN:
                answer_error(c, "", "invalid_request", "this is no msgpack");
                break;
        case MSGPACK_SCAN_DEEP:
        case MSGPACK_SCAN_LARGE:
                answer_error(c, "", "invalid_request",
                                "a request is at most 16 KiB, 8 levels deep");
                break;
        }
        c->over = true;
        return true;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void drop(struct control_client *c) {
        if (c->in_op.pending || c->out_op.pending) {
                loop_cancel(c->d->loop, &c->in_op);
                loop_cancel(c->d->loop, &c->out_op);
                c->over = true;
                c->waiting = false;
                c->in_len = 0;
                msgpack_sbuffer_clear(&c->out);
                c->out_at = 0;
                c->handle = 0; /* the place is free again when both have ended */
                return;
        }
        close(c->fd);
        c->fd = -1;
        msgpack_sbuffer_destroy(&c->out);
        msgpack_sbuffer_init(&c->out);
}

/* True when everything has gone out. */
static bool flush(struct control_client *c) {
        while (c->out_at < c->out.size) {
                ssize_t n = send(c->fd, c->out.data + c->out_at, c->out.size - c->out_at,
                                MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n > 0) {
                        c->out_at += (size_t)n;
                        continue;
                }
                if (n == -1 && errno == EINTR)
                        continue;
                if (n == -1 && errno == EAGAIN) {
                        if (!c->out_op.pending)
                                loop_poll(c->d->loop, &c->out_op, c->fd, POLLOUT);
                        return false;
                }
                drop(c);
                return false;
        }
        msgpack_sbuffer_clear(&c->out);
        c->out_at = 0;
        return true;
}

/* Does what can be done for a client now, and arms what has to be waited for. */
static void pump(struct control_client *c) {
        while (c->fd != -1 && c->handle && flush(c)) {
                if (c->waiting)
                        return;
                if (c->over || c->d->phase == DAEMON_ENDED) {
                        drop(c);
                        return;
                }
                if (take_one(c))
                        continue;
                if (c->eof) {
                        drop(c);
                        return;
                }
                if (!c->in_op.pending)
                        loop_poll(c->d->loop, &c->in_op, c->fd, POLLIN);
                return;
        }
}

static void on_in(struct loop_op *op, int res, uint32_t flags) {
        struct control_client *c = op->owner;
        ssize_t n;

        (void)res;
        (void)flags;
        if (c->handle == 0) {
                drop(c);
                return;
        }
        n = recv(c->fd, c->in + c->in_len, REQUEST_MAX - c->in_len, MSG_DONTWAIT);
        if (n > 0)
                c->in_len += (uint32_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                c->eof = true;
        pump(c);
}

static void on_out(struct loop_op *op, int res, uint32_t flags) {
        struct control_client *c = op->owner;

        (void)res;
        (void)flags;
        if (c->handle == 0)
                drop(c);
        else
                pump(c);
}

static void admit(struct daemon *d, int fd) {
        struct control *control = d->control;

        for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
                struct control_client *c = &control->clients[i];

                if (c->fd != -1)
                        continue;
                c->fd = fd;
                c->handle = ++control->serial * CONTROL_CLIENTS_MAX + i;
                c->in_len = 0;
                c->waiting = c->busy = c->eof = c->over = false;
                pump(c);
                return;
        }
        log_warn("control", "what=\"more than %d connections\"", CONTROL_CLIENTS_MAX);
        close(fd);
}

static void on_accept(struct loop_op *op, int res, uint32_t flags) {
        struct daemon *d = op->owner;

        (void)res;
        (void)flags;
        for (int i = 0; i < ACCEPTS_A_TURN; i++) {
                int fd = accept4(d->control_listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd == -1)
                        break;
                if (sockets_peer_is_ours(fd))
                        admit(d, fd);
                else
                        close(fd);
        }
        loop_poll(d->loop, op, d->control_listener.fd, POLLIN);
}

int control_open(struct daemon *d) {
        struct control *control = calloc(1, sizeof(*control));

        if (!control)
                return -ENOMEM;
        d->control = control;
        for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
                struct control_client *c = &control->clients[i];

                c->d = d;
                c->fd = -1;
                c->in_op = (struct loop_op){.fn = on_in, .owner = c};
                c->out_op = (struct loop_op){.fn = on_out, .owner = c};
                msgpack_sbuffer_init(&c->out);
        }
        control->accept_op = (struct loop_op){.fn = on_accept, .owner = d};
        loop_poll(d->loop, &control->accept_op, d->control_listener.fd, POLLIN);
        return 0;
}

void control_close(struct daemon *d) {
        for (uint32_t i = 0; d->control && i < CONTROL_CLIENTS_MAX; i++) {
                struct control_client *c = &d->control->clients[i];

                if (c->fd == -1)
                        continue;
                close(c->fd);
                msgpack_sbuffer_destroy(&c->out);
        }
        free(d->control);
        d->control = NULL;
}
