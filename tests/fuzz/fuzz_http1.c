/* http1_parse: whatever it takes lies within its head, says one thing about the body, and comes
 * out the same when the head arrives in two pieces. */
#include <stdlib.h>
#include <string.h>

#include "stages/common/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check_within(struct mr_view view, const char *head, uint32_t n) {
        if (view.n > 0 && (view.p < head || view.p + view.n > head + n) && !http1_is(view, "/"))
                abort();
}

static void check_request(const struct http1_request *request, const char *head) {
        uint32_t n = request->head_bytes;

        if (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0 || memchr(head, '\0', n))
                abort();
        check_within(request->method, head, n);
        check_within(request->target, head, n);
        check_within(request->path, head, n);
        check_within(request->query, head, n);
        check_within(request->host, head, n);
        for (uint32_t i = 0; i < request->n_fields; i++) {
                check_within(request->fields[i].name, head, n);
                check_within(request->fields[i].value, head, n);
        }
        if (http1_field(request, "transfer-encoding") && request->body != HTTP1_BODY_CHUNKED)
                abort();
        if (request->body == HTTP1_BODY_CHUNKED && http1_field(request, "content-length"))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static struct http1_request whole, pieces;
        struct http1_refusal why, why2;
        struct http1_scan scan = {0}, scan2 = {0};
        const char *head = (const char *)bytes;
        int r, r2;

        if (n > 4 * HTTP1_HEAD_MAX)
                return 0;
        r = http1_parse(&scan, head, (uint32_t)n, &whole, &why);
        r2 = http1_parse(&scan2, head, (uint32_t)(n / 2), &pieces, &why2);
        if (r2 == HTTP1_E_MORE)
                r2 = http1_parse(&scan2, head, (uint32_t)n, &pieces, &why2);
        if (r != r2 || (r == HTTP1_E_REFUSED && why.status != why2.status))
                abort();
        if (r == HTTP1_E_REFUSED && (why.status < 400 || why.status > 599 || !why.why))
                abort();
        if (r != 0)
                return 0;
        check_request(&whole, head);
        if (whole.head_bytes != pieces.head_bytes || whole.n_fields != pieces.n_fields ||
                        whole.body != pieces.body || whole.body_bytes != pieces.body_bytes)
                abort();
        return 0;
}
