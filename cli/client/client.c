#include "millrace/client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <msgpack.h>

#include "stages/common/record.h"

#define BUFFER_MIN 65536u
#define BUFFER_MAX (64u * 1024 * 1024)
#define EVENT_MAX (BUFFER_MAX - BUFFER_MIN)
#define SOURCES_MAX 128u

struct millrace {
        int fd;
        uint8_t *buf; /* what came and was not parsed yet starts at `at` */
        size_t at, len, cap;
        struct msgpack_scanner scanner; /* how far into the event at `at` */
        bool broken;                    /* what came cannot be divided into events any more */
        msgpack_unpacked unpacked;      /* backs the last event */
        struct millrace_source sources[SOURCES_MAX];
        char *strings; /* terminated copies of the last event's texts */
        size_t strings_len, strings_cap;
};

/* ---- connection ---- */

/* The shared /tmp lets anyone make the directory first: what it holds is trusted only when it is ours. */
static int check_directory(const char *socket_path) {
        char dir[64];
        struct stat st;

        snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(socket_path, '/') - socket_path),
                        socket_path);
        if (lstat(dir, &st) == 0 && (st.st_uid != getuid() || !S_ISDIR(st.st_mode)))
                return -EPERM;
        return 0;
}

int millrace_default_socket(char *buf, size_t n) {
        const char *env = getenv("MILLRACE_SOCKET"), *xdg = getenv("XDG_RUNTIME_DIR");
        int len, r = 0;

        if (env && *env)
                len = snprintf(buf, n, "%s", env);
        else if (xdg && *xdg)
                len = snprintf(buf, n, "%s/millrace/millrace.sock", xdg);
        else
                len = snprintf(buf, n, "/tmp/millrace-%u/millrace.sock", (unsigned)getuid());
        if (len < 0 || (size_t)len >= n)
                return -ENAMETOOLONG;
        if (!(env && *env) && !(xdg && *xdg))
                r = check_directory(buf);
        return r;
}

int millrace_connect(struct millrace **ret, const char *path) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        struct millrace *m;
        int r;

        if (path && strlen(path) >= sizeof(addr.sun_path))
                return -ENAMETOOLONG;
        if (path)
                memcpy(addr.sun_path, path, strlen(path) + 1);
        else if ((r = millrace_default_socket(addr.sun_path, sizeof(addr.sun_path))))
                return r;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        msgpack_unpacked_init(&m->unpacked);
        msgpack_scanner_init(&m->scanner);
        m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (m->fd == -1) {
                r = -errno;
                millrace_close(m);
                return r;
        }
        if (connect(m->fd, (struct sockaddr *)&addr, sizeof(addr)) == -1) {
                r = errno == ENOENT || errno == ECONNREFUSED ? MILLRACE_E_UNREACHABLE : -errno;
                millrace_close(m);
                return r;
        }
        *ret = m;
        return 0;
}

void millrace_close(struct millrace *m) {
        if (!m)
                return;
        if (m->fd != -1)
                close(m->fd);
        msgpack_unpacked_destroy(&m->unpacked);
        free(m->strings);
        free(m->buf);
        free(m);
}

int millrace_fd(const struct millrace *m) {
        return m->fd;
}

const char *millrace_strerror(int status) {
        switch (status) {
        case 0:
                return "success";
        case MILLRACE_E_TIMEOUT:
                return "nothing came in time";
        case MILLRACE_E_CLOSED:
                return "the daemon closed the connection";
        case MILLRACE_E_UNREACHABLE:
                return "no daemon listens there";
        case MILLRACE_E_PROTOCOL:
                return "the daemon's answer is not understood";
        default:
                return strerror(status < 0 ? -status : status);
        }
}

/* ---- sending ---- */

static void pack_key(msgpack_packer *pk, const char *key) {
        msgpack_pack_str_with_body(pk, key, strlen(key));
}

static void pack_text(msgpack_packer *pk, const char *key, const char *value) {
        pack_key(pk, key);
        pack_key(pk, value);
}

static void pack_bool(msgpack_packer *pk, const char *key, bool value) {
        pack_key(pk, key);
        if (value)
                msgpack_pack_true(pk);
        else
                msgpack_pack_false(pk);
}

static int send_all(struct millrace *m, const msgpack_sbuffer *frame) {
        size_t at = 0;

        while (at < frame->size) {
                ssize_t n = send(m->fd, frame->data + at, frame->size - at, MSG_NOSIGNAL);
                if (n == -1 && errno == EINTR)
                        continue;
                if (n == -1)
                        return errno == EPIPE || errno == ECONNRESET ? MILLRACE_E_CLOSED : -errno;
                at += (size_t)n;
        }
        return 0;
}

static size_t count_vars(const struct millrace_request *request) {
        size_t n = 0;

        while (request->vars && request->vars[n])
                n++;
        return n;
}

static void pack_vars(msgpack_packer *pk, const struct millrace_request *request) {
        pack_key(pk, "vars");
        msgpack_pack_map(pk, count_vars(request));
        for (const char *const *v = request->vars; *v; v++) {
                const char *eq = strchr(*v, '=');
                size_t n = eq ? (size_t)(eq - *v) : strlen(*v);
                msgpack_pack_str_with_body(pk, *v, n);
                pack_key(pk, eq ? eq + 1 : "");
        }
}

static void pack_submit(msgpack_packer *pk, const struct millrace_request *rq) {
        const struct {
                const char *key, *value;
        } texts[] = {{"id", rq->id}, {"prompt", rq->prompt}, {"session", rq->session},
                        {"model", rq->model}, {"system", rq->system},
                        {"template", rq->template_name}, {"priority", rq->priority},
                        {"rag_collections", rq->rag_collections}, {"rag_filter", rq->rag_filter}};
        size_t n = 1, n_texts = sizeof(texts) / sizeof(texts[0]);

        for (size_t i = 0; i < n_texts; i++)
                n += texts[i].value != NULL;
        n += (rq->body != NULL) + (rq->vars != NULL) + (rq->deadline_ms != 0) + (rq->rag != 0) +
             (rq->detach != 0) + (rq->unary != 0);
        msgpack_pack_map(pk, n);
        pack_text(pk, "op", "submit");
        for (size_t i = 0; i < n_texts; i++)
                if (texts[i].value)
                        pack_text(pk, texts[i].key, texts[i].value);
        if (rq->body) {
                pack_key(pk, "body");
                msgpack_pack_bin_with_body(
                                pk, rq->body, rq->body_len ? rq->body_len : strlen(rq->body));
        }
        if (rq->vars)
                pack_vars(pk, rq);
        if (rq->deadline_ms) {
                pack_key(pk, "deadline_ms");
                msgpack_pack_uint64(pk, rq->deadline_ms);
        }
        if (rq->rag)
                pack_bool(pk, "rag", rq->rag > 0);
        if (rq->detach)
                pack_bool(pk, "detach", true);
        if (rq->unary)
                pack_bool(pk, "stream", false);
}

int millrace_submit(struct millrace *m, const struct millrace_request *request, char *ret_id) {
        msgpack_sbuffer frame;
        msgpack_packer pk;
        int r;

        if (!request->prompt == !request->body ||
                        (request->id && strlen(request->id) > MILLRACE_ID_MAX))
                return -EINVAL;
        msgpack_sbuffer_init(&frame);
        msgpack_packer_init(&pk, &frame, msgpack_sbuffer_write);
        pack_submit(&pk, request);
        r = send_all(m, &frame);
        msgpack_sbuffer_destroy(&frame);
        if (!r && ret_id)
                snprintf(ret_id, MILLRACE_ID_MAX + 1, "%s", request->id ? request->id : "");
        return r;
}

/* {"op":op} with an id, and with `after` where after is not UINT64_MAX. */
static int send_frame(struct millrace *m, const char *op, const char *id, uint64_t after) {
        bool has_after = after != UINT64_MAX;
        msgpack_sbuffer frame;
        msgpack_packer pk;
        int r;

        msgpack_sbuffer_init(&frame);
        msgpack_packer_init(&pk, &frame, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 1u + (id != NULL) + has_after);
        pack_text(&pk, "op", op);
        if (id)
                pack_text(&pk, "id", id);
        if (has_after) {
                pack_key(&pk, "after");
                msgpack_pack_uint64(&pk, after);
        }
        r = send_all(m, &frame);
        msgpack_sbuffer_destroy(&frame);
        return r;
}

/* What is asked of one request. */
static int send_op(struct millrace *m, const char *op, const char *id, uint64_t after) {
        if (!id || strlen(id) > MILLRACE_ID_MAX)
                return -EINVAL;
        return send_frame(m, op, id, after);
}

int millrace_attach(struct millrace *m, const char *id, uint64_t after) {
        return send_op(m, "attach", id, after);
}

int millrace_cancel(struct millrace *m, const char *id) {
        return send_op(m, "cancel", id, UINT64_MAX);
}

int millrace_result(struct millrace *m, const char *id) {
        return send_op(m, "result", id, UINT64_MAX);
}

int millrace_ping(struct millrace *m) {
        return send_frame(m, "ping", NULL, UINT64_MAX);
}

/* ---- receiving ---- */

static const msgpack_object *member(const msgpack_object *map, const char *key) {
        size_t n = strlen(key);

        if (!map || map->type != MSGPACK_OBJECT_MAP)
                return NULL;
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object *k = &map->via.map.ptr[i].key;
                if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == n &&
                                !memcmp(k->via.str.ptr, key, n))
                        return &map->via.map.ptr[i].val;
        }
        return NULL;
}

static uint64_t number(const msgpack_object *o, uint64_t otherwise) {
        return o && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : otherwise;
}

/* A terminated copy, since msgpack's texts are not; `strings` was sized for the whole frame. */
static const char *text(struct millrace *m, const msgpack_object *o, const char *otherwise) {
        char *to = m->strings + m->strings_len;

        if (!o || o->type != MSGPACK_OBJECT_STR)
                return otherwise;
        memcpy(to, o->via.str.ptr, o->via.str.size);
        to[o->via.str.size] = 0;
        m->strings_len += o->via.str.size + 1u;
        return to;
}

static void read_sources(
                struct millrace *m, const msgpack_object *list, struct millrace_event *ev) {
        if (!list || list->type != MSGPACK_OBJECT_ARRAY)
                return;
        for (uint32_t i = 0; i < list->via.array.size && ev->n_sources < SOURCES_MAX; i++) {
                const msgpack_object *row = &list->via.array.ptr[i], *cited = member(row, "cited");
                m->sources[ev->n_sources++] = (struct millrace_source){
                                .n = number(member(row, "n"), 0),
                                .start = number(member(row, "start"), 0),
                                .end = number(member(row, "end"), 0),
                                .id = text(m, member(row, "id"), ""),
                                .title = text(m, member(row, "title"), ""),
                                .url = text(m, member(row, "url"), ""),
                                .cited = cited && cited->type == MSGPACK_OBJECT_BOOLEAN &&
                                         cited->via.boolean};
        }
        ev->sources = m->sources;
}

static int kind_of(const char *ev, enum millrace_event_kind *ret) {
        static const struct {
                const char *name;
                enum millrace_event_kind kind;
        } kinds[] = {{"accepted", MILLRACE_ACCEPTED}, {"delta", MILLRACE_DELTA},
                        {"done", MILLRACE_DONE}, {"error", MILLRACE_ERROR},
                        {"cancelled", MILLRACE_CANCELLED}, {"result", MILLRACE_RESULT},
                        {"pong", MILLRACE_PONG}};

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
                if (strcmp(ev, kinds[i].name) == 0) {
                        *ret = kinds[i].kind;
                        return 0;
                }
        }
        return MILLRACE_E_PROTOCOL;
}

/* An error event has these at its top, a result in its member `error`. */
static void read_error(struct millrace *m, const msgpack_object *o, struct millrace_event *ev) {
        const msgpack_object *retryable = member(o, "retryable"),
                             *retry = member(o, "retry_after_ms");

        ev->code = text(m, member(o, "code"), NULL);
        ev->message = text(m, member(o, "message"), NULL);
        ev->status = (uint32_t)number(member(o, "status"), 0);
        ev->retryable = retryable && retryable->type == MSGPACK_OBJECT_BOOLEAN &&
                        retryable->via.boolean;
        ev->retry_after_ms = retry && retry->type == MSGPACK_OBJECT_POSITIVE_INTEGER
                                             ? (int64_t)retry->via.u64
                                             : -1;
}

static int read_event(struct millrace *m, const msgpack_object *o, struct millrace_event *ret) {
        const msgpack_object *usage = member(o, "usage");
        struct millrace_event ev = {0};
        int r = kind_of(text(m, member(o, "ev"), ""), &ev.kind);

        if (r)
                return r;
        ev.id = text(m, member(o, "id"), "");
        ev.seq = number(member(o, "seq"), 0);
        ev.first = number(member(o, "first"), ev.seq);
        ev.lane = (uint32_t)number(member(o, "lane"), 0);
        ev.text = text(m, member(o, "text"), NULL);
        ev.text_len = ev.text ? member(o, "text")->via.str.size : 0;
        ev.delta_kind = text(m, member(o, "kind"), NULL);
        ev.choice = (uint32_t)number(member(o, "choice"), 0);
        ev.finish_reason = text(m, member(o, "finish_reason"), NULL);
        ev.prompt_tokens = number(member(usage, "prompt_tokens"), 0);
        ev.completion_tokens = number(member(usage, "completion_tokens"), 0);
        ev.total_tokens = number(member(usage, "total_tokens"), 0);
        ev.state = ev.kind == MILLRACE_RESULT ? text(m, member(o, "status"), NULL) : NULL;
        read_error(m, ev.kind == MILLRACE_RESULT ? member(o, "error") : o, &ev);
        read_sources(m, member(o, "sources"), &ev);
        *ret = ev;
        return 0;
}

/* Bounds first, then the library: what it allocates is in proportion to what has really come. */
static int scan(struct millrace *m) {
        if (m->broken)
                return MILLRACE_E_PROTOCOL;
        switch (msgpack_scan(&m->scanner, m->buf + m->at, m->len - m->at, MSGPACK_SCAN_DEPTH_MAX,
                        EVENT_MAX)) {
        case MSGPACK_SCAN_DONE:
                return 0;
        case MSGPACK_SCAN_MORE:
                return -EAGAIN;
        case MSGPACK_SCAN_BROKEN:
        case MSGPACK_SCAN_DEEP:
        case MSGPACK_SCAN_LARGE:
                break;
        }
        m->broken = true;
        return MILLRACE_E_PROTOCOL;
}

/* Is a whole event in the buffer? 0 with *ret, -EAGAIN, or why there will never be one. */
static int parse(struct millrace *m, struct millrace_event *ret) {
        size_t off = 0, n;
        struct millrace_event ev;
        int r = scan(m);

        if (r)
                return r;
        n = (size_t)m->scanner.at;
        if (n > m->strings_cap) { /* a text's copy with its terminator is no longer than the text with its head */
                char *strings = realloc(m->strings, n);
                if (!strings)
                        return -ENOMEM;
                m->strings = strings;
                m->strings_cap = n;
        }
        r = msgpack_unpack_next(&m->unpacked, (const char *)m->buf + m->at, n, &off);
        if (r == MSGPACK_UNPACK_NOMEM_ERROR)
                return -ENOMEM;
        m->strings_len = 0;
        if (r == MSGPACK_UNPACK_SUCCESS)
                r = read_event(m, &m->unpacked.data, &ev);
        else
                r = MILLRACE_E_PROTOCOL;
        ev.raw = m->buf + m->at;
        ev.raw_len = n;
        m->at += n;
        msgpack_scanner_init(&m->scanner);
        if (!r)
                *ret = ev;
        return r;
}

static int make_room(struct millrace *m) {
        size_t cap = m->cap ? m->cap : BUFFER_MIN;
        uint8_t *buf;

        if (m->at) {
                memmove(m->buf, m->buf + m->at, m->len - m->at);
                m->len -= m->at;
                m->at = 0;
        }
        while (cap - m->len < BUFFER_MIN / 2)
                cap *= 2;
        if (cap == m->cap)
                return 0;
        if (cap > BUFFER_MAX)
                return MILLRACE_E_PROTOCOL;
        buf = realloc(m->buf, cap);
        if (!buf)
                return -ENOMEM;
        m->buf = buf;
        m->cap = cap;
        return 0;
}

static int receive(struct millrace *m, int timeout_ms) {
        struct pollfd p = {.fd = m->fd, .events = POLLIN};
        ssize_t n;
        int r = make_room(m);

        if (r)
                return r;
        r = poll(&p, 1, timeout_ms);
        if (r <= 0)
                return r ? -errno : MILLRACE_E_TIMEOUT;
        n = recv(m->fd, m->buf + m->len, m->cap - m->len, 0);
        if (n == 0 || (n == -1 && errno == ECONNRESET))
                return MILLRACE_E_CLOSED;
        if (n == -1)
                return -errno;
        m->len += (size_t)n;
        return 0;
}

static int64_t now_ms(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int millrace_next(struct millrace *m, int timeout_ms, struct millrace_event *ret) {
        int64_t end_ms = timeout_ms > 0 ? now_ms() + timeout_ms : 0;

        for (;;) {
                int r = m->len > m->at ? parse(m, ret) : -EAGAIN;
                if (r != -EAGAIN)
                        return r;
                r = receive(m, timeout_ms);
                if (r)
                        return r;
                if (timeout_ms > 0) /* an event that comes in drops does not wait anew for each */
                        timeout_ms = end_ms > now_ms() ? (int)(end_ms - now_ms()) : 0;
        }
}
