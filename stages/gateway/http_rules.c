#include "stages/gateway/http_rules.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define EXPOSED                                                                                    \
        "request-id, retry-after, retry-after-ms, server-timing, x-millrace-id, "                  \
        "x-millrace-lane, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "                  \
        "x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, "                           \
        "x-ratelimit-reset-requests, x-ratelimit-reset-tokens, x-request-id, x-should-retry"
#define PREFLIGHT_AGE_S 600

static struct mr_view view_of(const char *text) {
        return (struct mr_view){text, (uint32_t)strlen(text)};
}

static bool same_nocase(struct mr_view a, struct mr_view b) {
        return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static bool starts_nocase(struct mr_view view, const char *with) {
        return view.n >= strlen(with) && strncasecmp(view.p, with, strlen(with)) == 0;
}

static struct mr_view behind(struct mr_view view, uint32_t n) {
        return (struct mr_view){view.p + n, view.n - n};
}

static int refuse(struct http1_refusal *ret, unsigned status, const char *why) {
        *ret = (struct http1_refusal){status, why};
        return HTTP_RULES_E_REFUSED;
}

/* ---- Host ---- */

static bool address6(struct mr_view host, struct in6_addr *ret) {
        char text[INET6_ADDRSTRLEN];

        if (host.n < 4 || host.n - 2 >= sizeof(text) || host.p[0] != '[')
                return false;
        memcpy(text, host.p + 1, host.n - 2);
        text[host.n - 2] = '\0';
        return inet_pton(AF_INET6, text, ret) == 1;
}

static bool host_same(struct mr_view a, struct mr_view b) {
        struct in6_addr a6, b6;

        if (address6(a, &a6) && address6(b, &b6))
                return memcmp(&a6, &b6, sizeof(a6)) == 0;
        return same_nocase(a, b);
}

/* "localhost." is localhost, said to a resolver that might add something to it. */
static struct mr_view without_dot(struct mr_view host) {
        if (host.n > 1 && host.p[host.n - 1] == '.')
                host.n--;
        return host;
}

static bool host_allowed(const struct http_rules *rules, const struct http1_request *request) {
        struct mr_view host = without_dot(request->host);

        if (rules->unix_socket)
                return true;
        if (host.n == 0) /* HTTP/1.0 need not say it, and browsers speak that no more */
                return request->minor == 0;
        if (rules->listen_host.n > 0 && host_same(host, rules->listen_host))
                return true;
        for (uint32_t i = 0; i < rules->hosts->n; i++)
                if (host_same(host, without_dot(view_of(rules->hosts->v[i]))))
                        return true;
        return false;
}

/* ---- Origin ---- */

static bool origin_listed(const struct http_rules *rules, struct mr_view origin) {
        for (uint32_t i = 0; i < rules->origins->n; i++)
                if (same_nocase(origin, view_of(rules->origins->v[i])))
                        return true;
        return false;
}

/* A page that came from where it asks. Host is known by then, but over a Unix socket. */
static bool origin_own(const struct http_rules *rules, const struct http1_request *request,
                struct mr_view origin) {
        const struct mr_view *host = http1_field(request, "host");

        if (rules->unix_socket || !host || host->n == 0)
                return false;
        if (starts_nocase(origin, "http://"))
                return same_nocase(behind(origin, 7), *host);
        return starts_nocase(origin, "https://") && same_nocase(behind(origin, 8), *host);
}

static bool origins_allowed(const struct http_rules *rules, const struct http1_request *request) {
        for (uint32_t i = 0; i < request->n_fields; i++) {
                const struct http1_field *field = &request->fields[i];

                if (http1_is_nocase(field->name, "origin") && !origin_listed(rules, field->value) &&
                                !origin_own(rules, request, field->value))
                        return false;
        }
        return true;
}

/* ---- the body ---- */

static struct mr_view trim(struct mr_view view) {
        while (view.n > 0 && (view.p[0] == ' ' || view.p[0] == '\t'))
                view = behind(view, 1);
        while (view.n > 0 && (view.p[view.n - 1] == ' ' || view.p[view.n - 1] == '\t'))
                view.n--;
        return view;
}

/* Up to a mark, which is taken with it; *rest is what follows. */
static struct mr_view cut(struct mr_view *rest, char mark) {
        const char *at = rest->n ? memchr(rest->p, mark, rest->n) : NULL;
        uint32_t n = at ? (uint32_t)(at - rest->p) : rest->n;
        struct mr_view part = {rest->p, n};

        *rest = behind(*rest, at ? n + 1 : n);
        return trim(part);
}

/* JSON is UTF-8, whatever else a sender may claim (RFC 8259 section 8.1). */
static bool parameter_fine(struct mr_view parameter) {
        struct mr_view name = cut(&parameter, '='), value = trim(parameter);

        if (!http1_is_nocase(name, "charset"))
                return true;
        return http1_is_nocase(value, "utf-8") || http1_is_nocase(value, "\"utf-8\"") ||
               http1_is_nocase(value, "utf8");
}

static bool is_json(struct mr_view type) {
        if (!http1_is_nocase(cut(&type, ';'), "application/json"))
                return false;
        while (type.n > 0)
                if (!parameter_fine(cut(&type, ';')))
                        return false;
        return true;
}

static int check_body(const struct http_rules *rules, const struct http1_request *request,
                struct http1_refusal *ret) {
        bool typed = false;

        for (uint32_t i = 0; i < request->n_fields; i++) {
                const struct http1_field *field = &request->fields[i];

                if (http1_is_nocase(field->name, "content-encoding") && field->value.n > 0 &&
                                !http1_is_nocase(field->value, "identity"))
                        return refuse(ret, 415,
                                        "a compressed body; expected it as it is, without "
                                        "Content-Encoding");
                if (!http1_is_nocase(field->name, "content-type"))
                        continue;
                typed = true;
                if (!rules->asks_key && !is_json(field->value))
                        return refuse(ret, 415,
                                        "a body of another type; expected Content-Type: "
                                        "application/json");
        }
        if (!typed && !rules->asks_key)
                return refuse(ret, 415,
                                "a body without a type; expected Content-Type: application/json");
        return 0;
}

/* ---- all of it ---- */

void http_rules_init(struct http_rules *ret, const struct settings *s, const char *where) {
        struct http_rules rules = {.hosts = &s->http.allowed_hosts,
                        .origins = &s->http.allowed_origins,
                        .unix_socket = strncmp(where, "unix:", 5) == 0,
                        .asks_key = s->auth.keys_file != NULL};
        struct mr_view port;

        if (!rules.unix_socket && !http1_host_split(view_of(where), &rules.listen_host, &port))
                rules.listen_host = (struct mr_view){0};
        *ret = rules;
}

int http_rules_check(const struct http_rules *rules, const struct http1_request *request,
                struct http1_refusal *ret) {
        if (!rules->asks_key && !host_allowed(rules, request))
                return refuse(ret, 403, "a foreign Host: http.allowed_hosts lists the known ones");
        if (!rules->asks_key && !origins_allowed(rules, request))
                return refuse(ret, 403,
                                "a foreign Origin: http.allowed_origins lists the known ones");
        return request->body == HTTP1_BODY_NONE ? 0 : check_body(rules, request, ret);
}

/* ---- CORS ---- */

bool http_rules_is_preflight(const struct http1_request *request) {
        return http1_is(request->method, "OPTIONS") && http1_field(request, "origin") &&
               http1_field(request, "access-control-request-method");
}

/* printf() to the end of what is there; beyond the limit there is nothing at all. */
__attribute__((format(printf, 3, 4))) static uint32_t add(
                char *to, uint32_t n, const char *format, ...) {
        va_list args;
        int more;

        va_start(args, format);
        more = vsnprintf(to + n, HTTP_RULES_LINES_MAX - n, format, args);
        va_end(args);
        return more < 0 || (uint32_t)more >= HTTP_RULES_LINES_MAX - n ? 0 : n + (uint32_t)more;
}

/* The Origin that a page may have an answer for, or NULL. */
static const struct mr_view *origin_of_page(
                const struct http_rules *rules, const struct http1_request *request) {
        const struct mr_view *origin = http1_field(request, "origin");

        return origin && origin_listed(rules, *origin) ? origin : NULL;
}

uint32_t http_rules_preflight(const struct http_rules *rules, const struct http1_request *request,
                char to[static HTTP_RULES_LINES_MAX]) {
        const struct mr_view *origin = origin_of_page(rules, request);
        const struct mr_view *headers = http1_field(request, "access-control-request-headers");
        uint32_t n;

        if (!origin)
                return 0;
        n = add(to, 0,
                        "Access-Control-Allow-Origin: %.*s\r\n"
                        "Access-Control-Allow-Methods: " HTTP_RULES_METHODS "\r\n"
                        "Access-Control-Max-Age: %d\r\n"
                        "Vary: Origin, Access-Control-Request-Method, "
                        "Access-Control-Request-Headers\r\n",
                        (int)origin->n, origin->p, PREFLIGHT_AGE_S);
        /* Those that it asks for: SDKs send more of their own than anybody could list. */
        if (n > 0 && headers && headers->n > 0)
                n = add(to, n, "Access-Control-Allow-Headers: %.*s\r\n", (int)headers->n,
                                headers->p);
        if (n > 0 && http1_field(request, "access-control-request-private-network"))
                n = add(to, n, "Access-Control-Allow-Private-Network: true\r\n");
        return n;
}

uint32_t http_rules_answer(const struct http_rules *rules, const struct http1_request *request,
                char to[static HTTP_RULES_LINES_MAX]) {
        const struct mr_view *origin = origin_of_page(rules, request);

        if (rules->origins->n == 0)
                return 0;
        if (!origin)
                return add(to, 0, "Vary: Origin\r\n");
        return add(to, 0,
                        "Access-Control-Allow-Origin: %.*s\r\n"
                        "Access-Control-Expose-Headers: " EXPOSED "\r\n"
                        "Vary: Origin\r\n",
                        (int)origin->n, origin->p);
}
