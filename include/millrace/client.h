/*
 * libmillrace -- a client of the millrace daemon's Unix socket, for programs in C.
 *
 * Shape   one connection carries any number of requests; each has an id; events come in order per request
 * Units   milliseconds for waits, byte counts without terminators
 * Owner   the connection owns the memory of the event it returned, until the next call on it
 * Errors  0, -errno, or MILLRACE_E_*; millrace_strerror() says it in words
 *         A connection ends when the gateway behind it is replaced or dies, and requests do not: on
 *         MILLRACE_E_CLOSED connect again, millrace_attach() with the last seq to what was accepted, and
 *         submit again under the same id what was not. A call that sends and says closed sent nothing
 *         that counts; events may still be there to be read.
 * Limits  one thread per connection; a submitted frame up to the daemon's admission.max_body_bytes; an
 *         event below 64 MiB, with at most 128 sources
 *
 * Wire format: docs/socket.md.
 *
 *      struct millrace *m;
 *      struct millrace_event ev;
 *
 *      if (millrace_connect(&m, NULL) != 0)
 *              return 1;
 *      millrace_submit(m, &(struct millrace_request){ .prompt = "What is a ring?" }, NULL);
 *      while (millrace_next(m, -1, &ev) == 0 && ev.kind == MILLRACE_DELTA)
 *              fwrite(ev.text, 1, ev.text_len, stdout);
 *      millrace_close(m);
 */
#ifndef MILLRACE_CLIENT_H
#define MILLRACE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MILLRACE_ID_MAX 128

enum millrace_status {
        MILLRACE_E_TIMEOUT = 1, /* nothing came within timeout_ms */
        MILLRACE_E_CLOSED,      /* the daemon closed the connection */
        MILLRACE_E_UNREACHABLE, /* no daemon at that path */
        MILLRACE_E_PROTOCOL,    /* what came is not what the daemon speaks */
};

struct millrace; /* a connection */

/* One request. Exactly one of prompt and body; everything else may be 0 or NULL. */
struct millrace_request {
        const char *id;            /* idempotency key; NULL: the daemon makes one */
        const char *prompt;        /* UTF-8 text of one user turn */
        const char *body;          /* an OpenAI chat body, passed on byte for byte */
        size_t body_len;           /* 0: strlen(body) */
        const char *session;       /* what belongs together: picks the lane */
        const char *model;
        const char *system;
        const char *template_name;
        const char *const *vars;   /* "key=value" strings, NULL-terminated */
        const char *priority;      /* system | interactive | default | bulk */
        uint64_t deadline_ms;      /* 0: none */
        int rag;                   /* 0: as configured, 1: on, -1: off */
        int detach;                /* 1: only `accepted`; events by millrace_attach() */
        int unary;                 /* 1: one delta, then done */
        const char *rag_collections; /* of the index to look in: names, comma separated */
        const char *rag_filter;      /* KEY=VALUE of the documents' metadata, comma separated */
};

enum millrace_event_kind {
        MILLRACE_ACCEPTED = 1,
        MILLRACE_DELTA,
        MILLRACE_DONE,      /* ends the request */
        MILLRACE_ERROR,     /* with seq > 0: ends the request; with seq 0: refuses an operation */
        MILLRACE_CANCELLED, /* answer to millrace_cancel() */
        MILLRACE_RESULT,    /* answer to millrace_result() */
        MILLRACE_PONG,
};

struct millrace_source {
        uint64_t n, start, end; /* number in the prompt; bytes of the passage in its document */
        const char *id, *title, *url;
        int cited;              /* the answer names it */
};

struct millrace_event {
        enum millrace_event_kind kind;
        const char *id;         /* never NULL; "" where the daemon gave none */
        uint64_t seq, first;    /* event number; first of those it covers (= seq when alone) */
        uint32_t lane;          /* accepted */
        const char *text;       /* delta, result */
        size_t text_len;
        const char *delta_kind; /* NULL: text */
        uint32_t choice;
        const char *finish_reason;
        uint64_t prompt_tokens, completion_tokens, total_tokens;
        const struct millrace_source *sources;
        size_t n_sources;
        const char *code, *message; /* error; result of a failed request */
        uint32_t status;            /* of the error: HTTP status */
        int retryable;
        int64_t retry_after_ms;     /* -1: not said */
        const char *state;          /* result: queued running completed failed cancelled */
        const void *raw;            /* the event as it came: one msgpack map */
        size_t raw_len;
};

/* The path that the daemon and its clients use unless told otherwise: $MILLRACE_SOCKET, else
 * $XDG_RUNTIME_DIR/millrace/millrace.sock, else /tmp/millrace-<uid>/millrace.sock, whose directory must
 * be ours (-EPERM; the path is there all the same). 0, -ENAMETOOLONG, -EPERM. */
int millrace_default_socket(char *buf, size_t n);

/* path NULL: the default. 0, MILLRACE_E_UNREACHABLE, -errno. */
int millrace_connect(struct millrace **ret, const char *path);
void millrace_close(struct millrace *m); /* NULL is fine; open requests see their client gone */
int millrace_fd(const struct millrace *m); /* for poll(): readable, call millrace_next(m, 0, …) until MILLRACE_E_TIMEOUT */

/* These return once the frame is written: 0, MILLRACE_E_CLOSED, -EINVAL (an id that is longer than
 * MILLRACE_ID_MAX, or none where one is needed; both or neither of prompt and body), -errno.
 * ret_id: MILLRACE_ID_MAX + 1 bytes or NULL; filled when the caller gave an id (else it comes with the
 * `accepted` event). */
int millrace_submit(struct millrace *m, const struct millrace_request *request, char *ret_id);
int millrace_attach(struct millrace *m, const char *id, uint64_t after);
int millrace_cancel(struct millrace *m, const char *id);
int millrace_result(struct millrace *m, const char *id);
int millrace_ping(struct millrace *m);

/* The next event of any request. timeout_ms -1: waits; 0: does not. 0, MILLRACE_E_TIMEOUT,
 * MILLRACE_E_CLOSED, MILLRACE_E_PROTOCOL, -errno (-EINTR: a signal came). *ret is untouched on failure. */
int millrace_next(struct millrace *m, int timeout_ms, struct millrace_event *ret);

const char *millrace_strerror(int status);

#ifdef __cplusplus
}
#endif
#endif
