#include "stages/gateway/http_ask.h"

#include <string.h>

#include "shm/admission.h"

#define BAD(error, ...) ask_fail(error, MR_E_invalid_request, __VA_ARGS__)
#define MS_MAX (UINT64_MAX / 1000000) /* more is never */

static int text_take(const struct http1_request *request, const char *name, uint32_t max,
                struct mr_view *to, struct ask_error *error) {
        const struct mr_view *value = http1_field(request, name);

        if (!value)
                return 0;
        if (value->n == 0)
                return BAD(error, "%s: empty", name);
        if (ask_text_check(name, *value, max, error))
                return (int)error->code;
        *to = *value;
        return 0;
}

bool http_number(struct mr_view text, uint64_t *ret) {
        uint64_t v = 0;

        for (uint32_t i = 0; i < text.n; i++) {
                if (text.p[i] < '0' || text.p[i] > '9' || i == 18)
                        return false;
                v = v * 10 + (uint64_t)(text.p[i] - '0');
        }
        *ret = v;
        return text.n > 0;
}

bool http_query(struct mr_view query, const char *name, struct mr_view *ret) {
        uint32_t n = (uint32_t)strlen(name);

        for (uint32_t at = 0; query.p && at < query.n;) {
                const char *p = query.p + at, *end = memchr(p, '&', query.n - at);
                uint32_t len = end ? (uint32_t)(end - p) : query.n - at;

                if (len > n && memcmp(p, name, n) == 0 && p[n] == '=') {
                        *ret = (struct mr_view){p + n + 1, len - n - 1};
                        return true;
                }
                at += len + 1;
        }
        return false;
}

/* gRPC's form: up to eight digits and a unit. Broken: ignored. */
static uint64_t grpc_ms(struct mr_view text) {
        uint64_t v;

        if (text.n < 2 || text.n > 9 || !http_number((struct mr_view){text.p, text.n - 1}, &v))
                return 0;
        switch (text.p[text.n - 1]) {
        case 'H':
                return v * 3600000;
        case 'M':
                return v * 60000;
        case 'S':
                return v * 1000;
        case 'm':
                return v;
        case 'u':
                return (v + 999) / 1000;
        case 'n':
                return (v + 999999) / 1000000;
        default:
                return 0;
        }
}

/* Seconds, perhaps with a fraction, at least 1. Broken: ignored. */
static uint64_t stainless_ms(struct mr_view text) {
        struct mr_view whole = text;
        uint64_t v, fraction = 0, scale = 100;

        whole.n = 0;
        while (whole.n < text.n && text.p[whole.n] != '.')
                whole.n++;
        if (!http_number(whole, &v) || v < 1 || v > MS_MAX / 1000 || whole.n + 1 == text.n)
                return 0;
        for (uint32_t i = whole.n + 1; i < text.n; i++, scale /= 10) {
                if (text.p[i] < '0' || text.p[i] > '9')
                        return 0;
                fraction += (uint64_t)(text.p[i] - '0') * scale;
        }
        return v * 1000 + fraction;
}

static int deadline_take(const struct http1_request *request, struct ask *ret,
                struct ask_error *error) {
        const struct mr_view *own = http1_field(request, "x-millrace-deadline-ms");
        const struct mr_view *grpc = http1_field(request, "grpc-timeout");
        const struct mr_view *stainless = http1_field(request, "x-stainless-timeout");

        if (own && (!http_number(*own, &ret->deadline_ms) || ret->deadline_ms == 0))
                return BAD(error, "x-millrace-deadline-ms: expected a number of milliseconds above 0");
        if (!own && grpc)
                ret->deadline_ms = grpc_ms(*grpc);
        if (ret->deadline_ms == 0 && stainless) {
                ret->deadline_ms = stainless_ms(*stainless);
                ret->deadline_first = ret->deadline_ms > 0;
        }
        return 0;
}

static int rag_take(const struct http1_request *request, struct ask *ret, struct ask_error *error) {
        const struct mr_view *rag = http1_field(request, "x-millrace-rag");

        if (!rag)
                return 0;
        if (!http1_is(*rag, "on") && !http1_is(*rag, "off"))
                return BAD(error, "x-millrace-rag: expected on or off");
        ret->options |= http1_is(*rag, "on") ? OPTION_RAG_ON : OPTION_RAG_OFF;
        return 0;
}

static int scope_take(
                const struct http1_request *request, struct ask *ret, struct ask_error *error) {
        if (text_take(request, "x-millrace-rag-collections", ASK_LIST_MAX, &ret->collections,
                            error) ||
                        text_take(request, "x-millrace-rag-filter", ASK_LIST_MAX, &ret->filter,
                                        error) ||
                        ask_list_check("x-millrace-rag-collections", ret->collections, false,
                                        error) ||
                        ask_list_check("x-millrace-rag-filter", ret->filter, true, error))
                return (int)error->code;
        return 0;
}

static enum body_kind kind_of(struct mr_view path) {
        if (http1_is(path, "/v1/completions"))
                return BODY_COMPLETIONS;
        return http1_is(path, "/v1/embeddings") ? BODY_EMBEDDINGS : BODY_CHAT;
}

int http_ask(const struct http1_request *request, struct mr_view body, struct ask *ret,
                struct ask_error *ret_error) {
        const struct mr_view *priority = http1_field(request, "x-millrace-priority");

        *ret = (struct ask){.op = OP_SUBMIT,
                        .content = CONTENT_BODY,
                        .text = body,
                        .kind = kind_of(request->path),
                        .body_decides = true,
                        .priority = PRIORITY_DEFAULT};
        ret_error->code = MR_E_none;
        if (text_take(request, "idempotency-key", ADMISSION_ID_MAX, &ret->id, ret_error) ||
                        text_take(request, "x-millrace-session", ASK_NAME_MAX, &ret->session,
                                        ret_error) ||
                        text_take(request, "x-millrace-template", ASK_NAME_MAX,
                                        &ret->template_name, ret_error) ||
                        (priority && ask_priority_read("x-millrace-priority", *priority,
                                                     &ret->priority, ret_error)) ||
                        deadline_take(request, ret, ret_error) ||
                        rag_take(request, ret, ret_error) || scope_take(request, ret, ret_error))
                return (int)ret_error->code;
        if (body.n == 0)
                return BAD(ret_error, "the request has no body");
        return 0;
}

int http_ask_again(const uint8_t *bytes, uint32_t len, struct ask *ret,
                struct ask_error *ret_error) {
        struct http1_scan scan = {0};
        struct http1_request request;
        struct http1_refusal refusal;

        *ret = (struct ask){.op = OP_SUBMIT};
        if (http1_parse(&scan, (const char *)bytes, len, &request, &refusal) != 0)
                return ask_fail(ret_error, MR_E_internal, "the request cannot be read again");
        return http_ask(&request,
                        (struct mr_view){(const char *)bytes + request.head_bytes,
                                        len - request.head_bytes},
                        ret, ret_error);
}
