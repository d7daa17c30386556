#include "stages/common/http1.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <http_parser.h>

#include "stages/common/http1_chars.h"

/* ---- views ---- */

bool http1_is(struct mr_view view, const char *text) {
        return view.n == strlen(text) && memcmp(view.p, text, view.n) == 0;
}

bool http1_is_nocase(struct mr_view view, const char *text) {
        return view.n == strlen(text) && strncasecmp(view.p, text, view.n) == 0;
}

static bool same_nocase(struct mr_view a, struct mr_view b) {
        return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static struct mr_view trim(struct mr_view view) {
        while (view.n > 0 && (view.p[0] == ' ' || view.p[0] == '\t')) {
                view.p++;
                view.n--;
        }
        while (view.n > 0 && (view.p[view.n - 1] == ' ' || view.p[view.n - 1] == '\t'))
                view.n--;
        return view;
}

const struct mr_view *http1_field(const struct http1_request *request, const char *name) {
        for (uint32_t i = 0; i < request->n_fields; i++)
                if (http1_is_nocase(request->fields[i].name, name))
                        return &request->fields[i].value;
        return NULL;
}

const char *http1_status_text(unsigned status) {
        switch (status) {
#define STATUS_TEXT(number, name, text)                                                            \
        case number:                                                                               \
                return #text;
                HTTP_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
        default:
                return "Unknown";
        }
}

static int refuse(struct http1_refusal *ret, unsigned status, const char *why) {
        *ret = (struct http1_refusal){status, why};
        return HTTP1_E_REFUSED;
}

/* ---- our framing, byte by byte ---- */

enum scan_state {
        SCAN_METHOD, /* the start */
        SCAN_TARGET,
        SCAN_VERSION,
        SCAN_LINE, /* the first byte of a line behind the first one */
        SCAN_NAME,
        SCAN_VALUE,
        SCAN_LF,   /* behind the CR of a line */
        SCAN_LAST, /* behind the CR of the empty line */
        SCAN_STATES_N
};

static int scan_method(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        unsigned char c = (unsigned char)bytes[s->at];

        if (c == ' ' && s->at > s->mark) {
                s->state = SCAN_TARGET;
                s->mark = s->at + 1;
                return 0;
        }
        return http1_is_token(c) ? 0
                           : refuse(ret, 400,
                                             "the request line does not begin with a method and "
                                             "one space");
}

static int scan_target(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        unsigned char c = (unsigned char)bytes[s->at];

        if (c == ' ' && s->at > s->mark) {
                s->state = SCAN_VERSION;
                s->mark = s->at + 1;
                return 0;
        }
        return c > ' ' && c < 0x7f && c != '#'
                               ? 0
                               : refuse(ret, 400,
                                                 "the request's target is empty or has a character "
                                                 "that may not stand there");
}

static int scan_version(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        uint32_t n = s->at - s->mark;
        unsigned char c = (unsigned char)bytes[s->at];

        if (n < 8 && (n == 5 || n == 7 ? isdigit(c) != 0 : c == (unsigned char)"HTTP/1.1"[n]))
                return 0;
        if (n != 8 || c != '\r')
                return refuse(ret, 400, "the request line does not end in HTTP/1.1");
        if (bytes[s->mark + 5] != '1' || bytes[s->mark + 7] > '1')
                return refuse(ret, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
        s->state = SCAN_LF;
        return 0;
}

static int scan_line(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        unsigned char c = (unsigned char)bytes[s->at];

        if (c == '\r') {
                s->state = SCAN_LAST;
                return 0;
        }
        if (c == ' ' || c == '\t')
                return refuse(ret, 400, "a folded header line");
        s->state = SCAN_NAME;
        return http1_is_token(c) ? 0 : refuse(ret, 400, "a header line does not begin with a name");
}

static int scan_name(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        unsigned char c = (unsigned char)bytes[s->at];

        if (c == ':') {
                s->state = SCAN_VALUE;
                return 0;
        }
        return http1_is_token(c) ? 0
                           : refuse(ret, 400,
                                             "a header's name has a character that may not stand "
                                             "there");
}

static int scan_value(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        unsigned char c = (unsigned char)bytes[s->at];

        if (c == '\r') {
                s->state = SCAN_LF;
                return 0;
        }
        return http1_is_text(c) ? 0 : refuse(ret, 400, "a control character in a header");
}

/* Behind a CR: the end of a line, or (SCAN_LAST, where the caller stops) of the head. */
static int scan_lf(struct http1_scan *s, const char *bytes, struct http1_refusal *ret) {
        if (bytes[s->at] != '\n')
                return refuse(ret, 400, "a carriage return that ends no line");
        s->state = SCAN_LINE;
        return 0;
}

/* 0: the head is whole and is scan->at bytes long. */
static int scan_head(
                struct http1_scan *s, const char *bytes, uint32_t len, struct http1_refusal *ret) {
        static int (*const steps[SCAN_STATES_N])(
                        struct http1_scan *, const char *, struct http1_refusal *) = {
                        [SCAN_METHOD] = scan_method,
                        [SCAN_TARGET] = scan_target,
                        [SCAN_VERSION] = scan_version,
                        [SCAN_LINE] = scan_line,
                        [SCAN_NAME] = scan_name,
                        [SCAN_VALUE] = scan_value,
                        [SCAN_LF] = scan_lf,
                        [SCAN_LAST] = scan_lf,
        };

        while (s->at < len) {
                bool last = s->state == SCAN_LAST;
                int r;
                if (s->at == HTTP1_HEAD_MAX)
                        return refuse(ret, 431, "the head is larger than 64 KiB");
                r = steps[s->state](s, bytes, ret);
                if (r)
                        return r;
                s->at++;
                if (last)
                        return 0;
        }
        return s->at == HTTP1_HEAD_MAX ? refuse(ret, 431, "the head is larger than 64 KiB")
                                       : HTTP1_E_MORE;
}

/* ---- the library's part ---- */

struct parse {
        struct http1_request *request;
        bool too_many;
        bool whole;
};

static int on_url(http_parser *parser, const char *at, size_t n) {
        struct parse *parse = parser->data;

        parse->request->target = (struct mr_view){at, (uint32_t)n};
        return 0;
}

static int on_field(http_parser *parser, const char *at, size_t n) {
        struct parse *parse = parser->data;
        struct http1_request *request = parse->request;

        if (request->n_fields == HTTP1_FIELDS_MAX) {
                parse->too_many = true;
                return 1;
        }
        /* An empty value is reported at no particular place: it stands behind its name. */
        request->fields[request->n_fields++] =
                        (struct http1_field){.name = {at, (uint32_t)n}, .value = {at + n, 0}};
        return 0;
}

static int on_value(http_parser *parser, const char *at, size_t n) {
        struct parse *parse = parser->data;

        if (n > 0)
                parse->request->fields[parse->request->n_fields - 1].value =
                                trim((struct mr_view){at, (uint32_t)n});
        return 0;
}

static int on_headers_complete(http_parser *parser) {
        struct parse *parse = parser->data;
        struct http1_request *request = parse->request;

        parse->whole = true;
        request->minor = parser->http_minor;
        request->keep_alive = http_should_keep_alive(parser) != 0;
        request->upgrade = parser->upgrade;
        if (parser->flags & F_CHUNKED) {
                request->body = HTTP1_BODY_CHUNKED;
        } else if (parser->flags & F_CONTENTLENGTH && parser->content_length > 0) {
                request->body = HTTP1_BODY_LENGTH;
                request->body_bytes = parser->content_length;
        }
        return 0;
}

/* Splits a whole head that our own rules have let through. */
static int split(const char *bytes, uint32_t len, struct http1_request *request,
                struct http1_refusal *ret) {
        static const http_parser_settings settings = {.on_url = on_url,
                        .on_header_field = on_field,
                        .on_header_value = on_value,
                        .on_headers_complete = on_headers_complete};
        struct parse parse = {.request = request};
        http_parser parser;
        size_t done;

        http_parser_init(&parser, HTTP_REQUEST);
        parser.data = &parse;
        done = http_parser_execute(&parser, &settings, bytes, len);
        if (parse.too_many)
                return refuse(ret, 431, "more than 128 headers");
        switch (HTTP_PARSER_ERRNO(&parser)) {
        case HPE_OK:
                break;
        case HPE_INVALID_METHOD:
                return refuse(ret, 501, "an unknown method");
        case HPE_INVALID_TRANSFER_ENCODING:
                return refuse(ret, 501, "a transfer coding other than chunked");
        case HPE_HEADER_OVERFLOW:
                return refuse(ret, 431, "the head is too large");
        default:
                return refuse(ret, 400, http_errno_description(HTTP_PARSER_ERRNO(&parser)));
        }
        if (!parse.whole || done != len)
                return refuse(ret, 400, "the head is broken");
        request->method = (struct mr_view){bytes, (uint32_t)strcspn(bytes, " ")};
        request->head_bytes = len;
        return 0;
}

/* ---- what the fields may say ---- */

static bool is_host_name(struct mr_view view) {
        for (uint32_t i = 0; i < view.n; i++)
                if (!isalnum((unsigned char)view.p[i]) && !(view.p[i] && strchr("-._~", view.p[i])))
                        return false;
        return view.n > 0;
}

static bool is_address6(struct mr_view view) {
        if (view.n < 4 || view.p[0] != '[' || view.p[view.n - 1] != ']')
                return false;
        for (uint32_t i = 1; i < view.n - 1; i++)
                if (!isxdigit((unsigned char)view.p[i]) && view.p[i] != ':' && view.p[i] != '.')
                        return false;
        return true;
}

bool http1_host_split(
                struct mr_view authority, struct mr_view *ret_host, struct mr_view *ret_port) {
        struct mr_view host = authority, port = {0};
        uint32_t i = 0;

        if (authority.n > 0 && authority.p[0] == '[')
                while (i < authority.n && authority.p[i] != ']')
                        i++;
        while (i < authority.n && authority.p[i] != ':')
                i++;
        if (i < authority.n) {
                host.n = i;
                port = (struct mr_view){authority.p + i + 1, authority.n - i - 1};
        }
        if (!is_host_name(host) && !is_address6(host))
                return false;
        for (i = 0; i < port.n; i++)
                if (i == 5 || !isdigit((unsigned char)port.p[i]))
                        return false;
        *ret_host = host;
        *ret_port = port;
        return true;
}

static int check_once(const struct http1_request *request, const char *name,
                const struct mr_view **ret_value, struct http1_refusal *ret, const char *why) {
        const struct mr_view *found = NULL;

        for (uint32_t i = 0; i < request->n_fields; i++) {
                if (!http1_is_nocase(request->fields[i].name, name))
                        continue;
                if (found)
                        return refuse(ret, 400, why);
                found = &request->fields[i].value;
        }
        *ret_value = found;
        return 0;
}

static int check_body(struct http1_request *request, struct http1_refusal *ret) {
        const struct mr_view *length, *coding, *expect;
        int r = check_once(request, "content-length", &length, ret, "more than one Content-Length");

        if (!r)
                r = check_once(request, "transfer-encoding", &coding, ret,
                                "more than one Transfer-Encoding");
        if (!r)
                r = check_once(request, "expect", &expect, ret, "more than one Expect");
        if (r)
                return r;
        if (length && coding)
                return refuse(ret, 400, "Content-Length and Transfer-Encoding exclude each other");
        if (coding && request->minor == 0)
                return refuse(ret, 400, "HTTP/1.0 knows no Transfer-Encoding");
        if (coding && !http1_is_nocase(*coding, "chunked"))
                return refuse(ret, 501, "a transfer coding other than chunked");
        for (uint32_t i = 0; length && i < length->n; i++)
                if (i == 18 || !isdigit((unsigned char)length->p[i]))
                        return refuse(ret, 400, "Content-Length is not a number of bytes");
        if (length && length->n == 0)
                return refuse(ret, 400, "Content-Length is not a number of bytes");
        if (expect && !http1_is_nocase(*expect, "100-continue"))
                return refuse(ret, 417, "an expectation other than 100-continue");
        request->expects_continue =
                        expect && request->minor > 0 && request->body != HTTP1_BODY_NONE;
        return 0;
}

/* ---- the target ---- */

static void split_query(struct http1_request *request) {
        const char *mark = request->path.n ? memchr(request->path.p, '?', request->path.n) : NULL;

        if (!mark)
                return;
        request->query = (struct mr_view){
                        mark + 1, request->path.n - (uint32_t)(mark + 1 - request->path.p)};
        request->path.n = (uint32_t)(mark - request->path.p);
}

/* http://HOST[:PORT]/PATH: *ret_authority is HOST[:PORT]. */
static bool split_absolute(struct http1_request *request, struct mr_view *ret_authority) {
        static const char scheme[] = "http://";
        struct mr_view target = request->target;
        uint32_t from = sizeof(scheme) - 1, to;

        if (target.n <= from || strncasecmp(target.p, scheme, from) != 0)
                return false;
        for (to = from; to < target.n && target.p[to] != '/' && target.p[to] != '?'; to++)
                ;
        *ret_authority = (struct mr_view){target.p + from, to - from};
        request->path = (struct mr_view){target.p + to, target.n - to};
        return true;
}

static int check_target(struct http1_request *request, const struct mr_view *host,
                struct http1_refusal *ret) {
        struct mr_view authority, port;
        bool connect = http1_is(request->method, "CONNECT");

        request->path = request->target;
        if (!connect && request->target.p[0] == '/') {
                split_query(request);
                return 0;
        }
        if (!connect && http1_is(request->target, "*"))
                return http1_is(request->method, "OPTIONS")
                                       ? 0
                                       : refuse(ret, 400, "only OPTIONS is asked of *");
        if (connect)
                authority = request->target;
        else if (!split_absolute(request, &authority))
                return refuse(ret, 400,
                                "the request's target is neither a path nor an http:// address");
        if (!http1_host_split(authority, &request->host, &port))
                return refuse(ret, 400, "the request's target does not name a host");
        if (host && !same_nocase(*host, authority))
                return refuse(ret, 400, "Host and the request's target name two hosts");
        if (connect)
                return 0;
        split_query(request);
        if (request->path.n == 0)
                request->path = (struct mr_view){"/", 1};
        return 0;
}

static int check_host(struct http1_request *request, struct http1_refusal *ret) {
        const struct mr_view *host;
        struct mr_view port;
        int r = check_once(request, "host", &host, ret, "more than one Host");

        if (r)
                return r;
        if (!host && request->minor > 0)
                return refuse(ret, 400, "HTTP/1.1 without Host");
        if (host && host->n > 0 && !http1_host_split(*host, &request->host, &port))
                return refuse(ret, 400, "Host is not a name or address, with or without a port");
        return check_target(request, host, ret);
}

int http1_parse(struct http1_scan *scan, const char *bytes, uint32_t len, struct http1_request *ret,
                struct http1_refusal *ret_refusal) {
        int r = scan_head(scan, bytes, len, ret_refusal);

        if (r)
                return r;
        memset(ret, 0, offsetof(struct http1_request, fields));
        r = split(bytes, scan->at, ret, ret_refusal);
        if (!r)
                r = check_body(ret, ret_refusal);
        return r ? r : check_host(ret, ret_refusal);
}
