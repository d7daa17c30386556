#include "stages/telemetry/answer.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "stages/telemetry/page.h"
#include "stages/telemetry/prometheus.h"

#define TYPE_PLAIN "text/plain; charset=utf-8"
#define TYPE_HTML "text/html; charset=utf-8"

struct reply {
        unsigned status;
        const char *type;
        const char *more; /* further header lines, each with its CRLF */
        struct text body;
        bool head_only, keep_alive;
};

/* ---- who may ask ---- */

static bool view_same(struct mr_view a, const char *b, size_t n) {
        return a.n == n && (n == 0 || strncasecmp(a.p, b, n) == 0);
}

static bool host_allowed(const struct answer_allow *allow, struct mr_view host) {
        /* No Host: HTTP/1.0, or empty; no browser leaves it out. */
        if (allow->any || host.n == 0 ||
                        view_same(host, allow->listen_host.p, allow->listen_host.n))
                return true;
        for (uint32_t i = 0; i < allow->hosts->n; i++)
                if (view_same(host, allow->hosts->v[i], strlen(allow->hosts->v[i])))
                        return true;
        return false;
}

/* Browsers send Origin from pages of elsewhere; a page of our own has our own host in it. */
static bool origin_allowed(const struct answer_allow *allow, struct mr_view origin) {
        static const char scheme[] = "http://";
        struct mr_view rest, host, port;

        for (uint32_t i = 0; i < allow->origins->n; i++)
                if (view_same(origin, allow->origins->v[i], strlen(allow->origins->v[i])))
                        return true;
        if (origin.n < sizeof(scheme) || strncasecmp(origin.p, scheme, sizeof(scheme) - 1) != 0)
                return false;
        rest = (struct mr_view){origin.p + sizeof(scheme) - 1, origin.n - (sizeof(scheme) - 1)};
        return !allow->any && http1_host_split(rest, &host, &port) && host_allowed(allow, host);
}

/* ---- replies ---- */

static void plain(struct reply *reply, unsigned status, const char *sentence) {
        reply->status = status;
        reply->type = TYPE_PLAIN;
        text_reset(&reply->body);
        text_print(&reply->body, "%s\n", sentence);
}

static void send_reply(struct text *out, struct reply *reply) {
        struct tm utc;
        time_t now = time(NULL);
        char date[64];

        if (reply->body.failed) {
                reply->keep_alive = false;
                plain(reply, 503, "out of memory");
        }
        gmtime_r(&now, &utc);
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
        text_reset(out);
        text_print(out,
                        "HTTP/1.1 %u %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                        "Cache-Control: no-store\r\nX-Content-Type-Options: "
                        "nosniff\r\n%sConnection: %s\r\n\r\n",
                        reply->status, http1_status_text(reply->status), date, reply->type,
                        reply->body.len, reply->more ? reply->more : "",
                        reply->keep_alive ? "keep-alive" : "close");
        if (!reply->head_only)
                text_add(out, reply->body.at, reply->body.len);
        text_close(&reply->body);
}

static void metrics(
                struct reply *reply, const struct http1_request *request, const struct figures *f) {
        enum prometheus_format format = PROMETHEUS_TEXT;

        for (uint32_t i = 0; i < request->n_fields; i++)
                if (http1_is_nocase(request->fields[i].name, "accept") &&
                                prometheus_negotiate(request->fields[i].value.p,
                                                request->fields[i].value.n) ==
                                                PROMETHEUS_OPENMETRICS)
                        format = PROMETHEUS_OPENMETRICS;
        reply->status = 200;
        reply->type = prometheus_content_type(format);
        reply->more = "Vary: Accept\r\n";
        prometheus_write(&reply->body, f, format);
}

static void page(
                struct reply *reply, const struct http1_request *request, const struct figures *f) {
        (void)request;
        reply->status = 200;
        reply->type = TYPE_HTML;
        reply->more = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n";
        page_write(&reply->body, f);
}

static const struct route {
        const char *path;
        void (*write)(struct reply *reply, const struct http1_request *request,
                        const struct figures *f);
} routes[] = {
                {"/", page},
                {"/metrics", metrics},
};

static const struct route *route_find(struct mr_view path) {
        for (uint32_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
                if (http1_is(path, routes[i].path))
                        return &routes[i];
        return NULL;
}

bool answer_request(struct text *out, const struct http1_request *request,
                const struct answer_allow *allow, const struct figures *f) {
        const struct mr_view *origin = http1_field(request, "origin");
        const struct route *route = route_find(request->path);
        bool get = http1_is(request->method, "GET"), head = http1_is(request->method, "HEAD");
        struct reply reply = {.keep_alive = request->keep_alive, .head_only = head};

        if (request->body != HTTP1_BODY_NONE) {
                reply.keep_alive = false; /* it is not read, and what follows it is not found */
                plain(&reply, 413, "a request with a body; expected none");
        } else if (!host_allowed(allow, request->host)) {
                plain(&reply, 403, "a foreign Host: http.allowed_hosts lists the known ones");
        } else if (origin && !origin_allowed(allow, *origin)) {
                plain(&reply, 403, "a foreign Origin: http.allowed_origins lists the known ones");
        } else if (!route) {
                plain(&reply, 404, "not found; there are / and /metrics");
        } else if (!get && !head) {
                reply.more = "Allow: GET, HEAD\r\n";
                plain(&reply, 405, "method not allowed; expected GET or HEAD");
        } else {
                route->write(&reply, request, f);
        }
        send_reply(out, &reply);
        return reply.keep_alive;
}

void answer_refusal(struct text *out, const struct http1_refusal *refusal) {
        struct reply reply = {0};

        plain(&reply, refusal->status, refusal->why);
        send_reply(out, &reply);
}
