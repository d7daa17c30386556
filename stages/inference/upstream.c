#include "stages/inference/upstream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stages/common/clock.h"
#include "stages/common/loop.h"
#include "stages/common/stage.h"

#define LINGER_MS 1000u
#define IDLE_CONNECTIONS 256L

struct upstream_socket {
        struct loop_op op;
        struct upstream *u;
        struct upstream_socket *next; /* in the pool */
        struct upstream_socket *all;  /* in the list of all */
        curl_socket_t fd;
        uint32_t want, armed; /* POLLIN | POLLOUT */
        bool gone;            /* curl has done with it */
        bool in_use;          /* by its own completion */
};

/* IDLE -(start)-> RUNNING -(curl is done)-> ENDING -> IDLE; RUNNING -(linger)-> LINGERING -> IDLE;
 * RUNNING, LINGERING -(cancel while curl is on the stack)-> DOOMED -(settle)-> IDLE */
enum call_state { CALL_IDLE, CALL_RUNNING, CALL_ENDING, CALL_LINGERING, CALL_DOOMED };

struct upstream_call {
        struct upstream *u;
        struct upstream_target *target;
        CURL *easy;
        struct curl_slist *headers;
        CURLU *url; /* parsed once: else that is a fifth of what curl computes for each exchange */
        char *body;
        bool queued; /* curl was on the stack when it started: settle() adds it */
        struct upstream_owner owner;
        struct loop_timer linger;
        enum call_state state;
        uint64_t head_bytes;
        struct upstream_call *next, *prev; /* of u->calls; next: of the target's idle ones too */
        struct upstream_call *made;        /* the next of u->made */
};

struct upstream {
        struct loop *loop;
        CURLM *multi;
        struct loop_timer timer;
        struct upstream_socket *sockets; /* pool */
        struct upstream_socket *all_sockets;
        struct upstream_call *calls; /* not idle */
        struct upstream_call *made;  /* all */
        uint32_t n_unsettled; /* doomed or queued */
        uint32_t inside;      /* depth of calls into curl that may call back */
        bool closing;
};

static void settle(struct upstream *u);

/* ---- sockets on the loop -------------------------------------------------------------------- */

static void socket_release(struct upstream_socket *s) {
        s->next = s->u->sockets;
        s->u->sockets = s;
}

static void socket_arm(struct upstream_socket *s) {
        if (s->op.pending) {
                if (s->armed != s->want)
                        loop_cancel(s->u->loop, &s->op); /* its completion arms anew */
                return;
        }
        if (s->want == 0)
                return;
        s->armed = s->want;
        loop_poll(s->u->loop, &s->op, s->fd, s->want);
}

static void act(struct upstream *u, curl_socket_t fd, int mask) {
        int running;

        u->inside++;
        curl_multi_socket_action(u->multi, fd, mask, &running);
        u->inside--;
        settle(u);
}

static void socket_ready(struct loop_op *op, int res, uint32_t flags) {
        struct upstream_socket *s = op->owner;
        int mask = 0;

        (void)flags;
        if (!s->gone && res != -ECANCELED) {
                if (res < 0 || res & (POLLERR | POLLNVAL))
                        mask |= CURL_CSELECT_ERR;
                if (res > 0 && res & (POLLIN | POLLHUP | POLLRDHUP))
                        mask |= CURL_CSELECT_IN;
                if (res > 0 && res & (POLLOUT | POLLHUP))
                        mask |= CURL_CSELECT_OUT;
                s->in_use = true;
                act(s->u, s->fd, mask);
                s->in_use = false;
        }
        if (!s->gone)
                socket_arm(s);
        else if (!s->op.pending)
                socket_release(s);
}

static struct upstream_socket *socket_new(struct upstream *u, curl_socket_t fd) {
        struct upstream_socket *s = u->sockets;

        if (s) {
                u->sockets = s->next;
        } else {
                s = calloc(1, sizeof(*s));
                if (!s)
                        return NULL;
                s->all = u->all_sockets;
                u->all_sockets = s;
        }
        *s = (struct upstream_socket){
                        .op = {.fn = socket_ready, .owner = s}, .u = u, .fd = fd, .all = s->all};
        return s;
}

static void socket_gone(struct upstream_socket *s) {
        s->gone = true;
        s->want = 0;
        if (s->op.pending)
                loop_cancel(s->u->loop, &s->op);
        else if (!s->in_use)
                socket_release(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *assigned) {
        struct upstream *u = ctx;
        struct upstream_socket *s = assigned;

        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (s)
                        socket_gone(s);
                return 0;
        }
        if (!s) {
                s = socket_new(u, fd);
                if (!s)
                        return -1;
                curl_multi_assign(u->multi, fd, s);
        }
        s->want = (what & CURL_POLL_IN ? POLLIN : 0) | (what & CURL_POLL_OUT ? POLLOUT : 0);
        if (!s->in_use && !u->closing)
                socket_arm(s);
        return 0;
}

static int on_close(void *ctx, curl_socket_t fd) {
        (void)ctx;
        shutdown(fd, SHUT_RDWR); /* the poll may still hold the file */
        return close(fd);
}

static void timer_over(struct loop_timer *timer) {
        act(timer->owner, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long ms, void *ctx) {
        struct upstream *u = ctx;

        (void)multi;
        if (ms < 0)
                loop_timer_clear(u->loop, &u->timer);
        else
                loop_timer_set(u->loop, &u->timer, clock_now_ns() + (uint64_t)ms * NS_PER_MS);
        return 0;
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* Takes the call out of curl, which closes a connection that is in the middle of something. */
static void call_release(struct upstream_call *call) {
        struct upstream *u = call->u;

        if (!call->queued) {
                u->inside++;
                curl_multi_remove_handle(u->multi, call->easy);
                u->inside--;
        }
        u->n_unsettled -= call->queued + (call->state == CALL_DOOMED);
        call->queued = false;
        loop_timer_clear(u->loop, &call->linger);
        free(call->body);
        call->body = NULL;
        if (call->prev)
                call->prev->next = call->next;
        else
                u->calls = call->next;
        if (call->next)
                call->next->prev = call->prev;
        call->state = CALL_IDLE;
        call->prev = NULL;
        call->next = call->target->idle;
        call->target->idle = call;
}

static void doom(struct upstream_call *call) {
        if (call->state != CALL_RUNNING && call->state != CALL_LINGERING)
                return;
        if (call->u->inside) {
                call->state = CALL_DOOMED; /* curl is on the stack; settle() follows */
                call->u->n_unsettled++;
        } else {
                call_release(call);
        }
}

static void call_ended(struct upstream_call *call, CURLcode code) {
        if (call->state == CALL_RUNNING) {
                call->state = CALL_ENDING; /* a cancel has nothing to do any more */
                call->owner.on_end(call->owner.ctx, code);
        }
        call_release(call);
}

static void call_add(struct upstream_call *call) {
        call->queued = false;
        call->u->n_unsettled--;
        if (curl_multi_add_handle(call->u->multi, call->easy) != CURLM_OK)
                call_ended(call, CURLE_OUT_OF_MEMORY);
}

/* What curl has finished, and what was cancelled or started while curl was on the stack. */
static void settle(struct upstream *u) {
        CURLMsg *message;
        int left;

        if (u->inside)
                return;
        while ((message = curl_multi_info_read(u->multi, &left))) {
                struct upstream_call *call = NULL;
                CURLcode code = message->data.result;
                if (message->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
                call_ended(call, code);
        }
        for (struct upstream_call *call = u->calls; call && u->n_unsettled;) {
                struct upstream_call *next = call->next;
                if (call->state == CALL_DOOMED)
                        call_release(call);
                else if (call->queued)
                        call_add(call);
                call = next;
        }
}

static size_t on_write(char *bytes, size_t size, size_t n, void *ctx) {
        struct upstream_call *call = ctx;
        enum upstream_take take;

        n *= size;
        if (call->state == CALL_LINGERING)
                return n;
        if (call->state != CALL_RUNNING)
                return CURL_WRITEFUNC_ERROR;
        take = call->owner.on_bytes(call->owner.ctx, bytes, (uint32_t)n);
        if (call->state == CALL_DOOMED)
                return CURL_WRITEFUNC_ERROR;
        return take == UPSTREAM_LATER ? CURL_WRITEFUNC_PAUSE : n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx) {
        struct upstream_call *call = ctx;

        (void)bytes;
        if (call->head_bytes == 0)
                FAULT_AT("inference", "backend_answered");
        n *= size;
        call->head_bytes += n;
        return call->head_bytes > UPSTREAM_HEAD_MAX ? CURL_WRITEFUNC_ERROR : n;
}

#ifdef MR_FAULTS
static int on_connected(void *ctx, char *to, char *from, int to_port, int from_port) {
        (void)ctx;
        (void)to;
        (void)from;
        (void)to_port;
        (void)from_port;
        FAULT_AT("inference", "backend_connected");
        return CURL_PREREQFUNC_OK;
}
#endif

static void linger_over(struct loop_timer *timer) {
        doom(timer->owner);
}

static int headers_set(struct upstream_call *call) {
        const char *const lines[] = {"Content-Type: application/json", "Accept: text/event-stream",
                        "Expect:", call->target->authorization};

        for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
                struct curl_slist *more;
                if (!lines[i])
                        continue;
                more = curl_slist_append(call->headers, lines[i]);
                if (!more)
                        return -ENOMEM;
                call->headers = more;
        }
        return 0;
}

/* What curl cannot parse it is given as text, and says so when the call runs. */
static void url_set(struct upstream_call *call) {
        call->url = curl_url();
        if (call->url && curl_url_set(call->url, CURLUPART_URL, call->target->url, 0) == CURLUE_OK)
                curl_easy_setopt(call->easy, CURLOPT_CURLU, call->url);
        else
                curl_easy_setopt(call->easy, CURLOPT_URL, call->target->url);
}

static void options_set(struct upstream_call *call) {
        const struct upstream_target *target = call->target;
        CURL *easy = call->easy;

        curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
        url_set(call);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "millrace");
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)target->connect_ms);
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
#ifdef MR_FAULTS
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
#endif
        if (target->loopback)
                curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

static void call_free(struct upstream_call *call) {
        curl_easy_cleanup(call->easy);
        curl_slist_free_all(call->headers);
        curl_url_cleanup(call->url);
        free(call);
}

/* A handle that is set up for the target, idle until now or new. */
static struct upstream_call *call_for(struct upstream *u, struct upstream_target *target) {
        struct upstream_call *call = target->idle;

        if (call) {
                target->idle = call->next;
                return call;
        }
        call = calloc(1, sizeof(*call));
        if (!call)
                return NULL;
        call->target = target;
        call->easy = curl_easy_init();
        if (!call->easy || headers_set(call) < 0) {
                call_free(call);
                return NULL;
        }
        options_set(call);
        call->made = u->made;
        u->made = call;
        return call;
}

static struct upstream_call *call_begin(struct upstream *u, struct upstream_target *target,
                char *body, uint64_t body_len, const struct upstream_owner *owner) {
        struct upstream_call *call = call_for(u, target);

        if (!call)
                return NULL;
        *call = (struct upstream_call){.u = u,
                        .target = target,
                        .easy = call->easy,
                        .headers = call->headers,
                        .url = call->url,
                        .body = body,
                        .queued = true,
                        .owner = *owner,
                        .linger = {.fn = linger_over, .owner = call},
                        .state = CALL_RUNNING,
                        .next = u->calls,
                        .made = call->made};
        if (u->calls)
                u->calls->prev = call;
        u->calls = call;
        u->n_unsettled++;
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, body);
        return call;
}

int upstream_start(struct upstream *u, struct upstream_target *target, char *body,
                uint64_t body_len, const struct upstream_owner *owner, struct upstream_call **ret) {
        struct upstream_call *call = call_begin(u, target, body, body_len, owner);

        if (!call) {
                free(body);
                return -ENOMEM;
        }
        *ret = call;
        if (u->inside)
                return 0;
        call->queued = false;
        u->n_unsettled--;
        /* curl asks for its timer at 0 ms and begins with that. */
        if (curl_multi_add_handle(u->multi, call->easy) == CURLM_OK)
                return 0;
        call_release(call);
        return -ENOMEM;
}

void upstream_cancel(struct upstream_call *call) {
        doom(call);
}

void upstream_linger(struct upstream_call *call) {
        if (call->state != CALL_RUNNING)
                return;
        call->state = CALL_LINGERING;
        loop_timer_set(call->u->loop, &call->linger, clock_now_ns() + LINGER_MS * NS_PER_MS);
}

void upstream_resume(struct upstream_call *call) {
        struct upstream *u = call->u;

        if (call->state != CALL_RUNNING)
                return;
        u->inside++;
        curl_easy_pause(call->easy, CURLPAUSE_CONT);
        u->inside--;
        settle(u);
}

/* ---- questions ------------------------------------------------------------------------------ */

unsigned upstream_status(const struct upstream_call *call) {
        long status = 0;

        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        return (unsigned)status;
}

const char *upstream_content_type(const struct upstream_call *call) {
        char *type = NULL;

        curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
        return type ? type : "";
}

uint64_t upstream_retry_after_ms(const struct upstream_call *call) {
        struct curl_header *header;
        curl_off_t seconds = 0;

        if (curl_easy_header(call->easy, "retry-after-ms", 0, CURLH_HEADER, -1, &header) ==
                        CURLHE_OK) {
                uint64_t ms = strtoull(header->value, NULL, 10);
                if (ms > 0)
                        return ms;
        }
        curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &seconds);
        return seconds > 0 ? (uint64_t)seconds * 1000 : 0;
}

/* ---- life ----------------------------------------------------------------------------------- */

int upstream_new(struct upstream **ret, struct loop *loop) {
        struct upstream *u;

        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -EIO;
        u = calloc(1, sizeof(*u));
        if (!u)
                return -ENOMEM;
        u->loop = loop;
        u->timer.fn = timer_over;
        u->timer.owner = u;
        u->multi = curl_multi_init();
        if (!u->multi) {
                free(u);
                return -ENOMEM;
        }
        curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
        curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, on_timer);
        curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
        curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
        *ret = u;
        return 0;
}

struct upstream *upstream_free(struct upstream *u) {
        if (!u)
                return NULL;
        u->closing = true;
        while (u->calls)
                call_release(u->calls);
        while (u->made) {
                struct upstream_call *call = u->made;
                u->made = call->made;
                call->target->idle = NULL;
                call_free(call);
        }
        curl_multi_cleanup(u->multi);
        loop_timer_clear(u->loop, &u->timer);
        while (u->all_sockets) {
                struct upstream_socket *s = u->all_sockets;
                u->all_sockets = s->all;
                free(s);
        }
        free(u);
        return NULL;
}
