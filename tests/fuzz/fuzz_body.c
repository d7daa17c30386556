/* The scan of a body, as each of its kinds: whatever it accepts has its spans inside the body and
 * on the right bytes. */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "stages/engines/json/body.h"
#include "stages/engines/json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void span_check(const struct body_span *span, const uint8_t *body, uint32_t len,
                const char *first) {
        if (span->len == 0)
                return;
        assert(span->off < len && span->len <= len - span->off);
        assert(strchr(first, body[span->off]) && body[span->off]);
}

static void name_check(const uint8_t *data, struct body_span span) {
        char name[64];
        uint32_t n;
        int r;

        if (span.len == 0)
                return;
        r = json_unescape((const char *)data + span.off, span.len, name, sizeof(name), &n);
        assert(r == 0 && n <= sizeof(name));
}

static void found_check(enum body_kind kind, const struct body_found *found, const uint8_t *data,
                uint32_t len) {
        const struct body_marks *m = &found->marks;

        assert(data[m->object_end] == '}');
        assert((m->n_messages > 0) == (kind == BODY_CHAT));
        assert((found->input.len > 0) == (kind != BODY_CHAT));
        assert(found->query_len <= BODY_QUERY_MAX && found->n <= BODY_N_MAX);
        assert(json_utf8_bad(found->query, found->query_len) == found->query_len);
        span_check(&m->messages, data, len, "[");
        span_check(&m->model, data, len, "\"");
        span_check(&m->last_user, data, len, "\"[");
        span_check(&m->first_system, data, len, "\"[");
        span_check(&m->conversation, data, len, "{");
        span_check(&m->stream, data, len, "tfn");
        span_check(&m->stream_options, data, len, "{n");
        span_check(&m->max_tokens, data, len, "-0123456789");
        span_check(&found->input, data, len, "\"[");
        for (int i = 0; i < SESSIONS_N; i++)
                span_check(&found->sessions[i], data, len, "\"");
        assert(found->stream == (m->stream.len > 0 && data[m->stream.off] == 't'));
        name_check(data, m->model);
        name_check(data, body_session(found));
        assert((body_session(found).len > 0) == (body_session_name(found)[0] != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct body_scanner *scanner;
        static struct body_found found;
        uint32_t len = (uint32_t)size;

        if (size > 1 << 20 || (!scanner && body_scanner_new(&scanner) < 0))
                return 0;
        for (enum body_kind kind = BODY_CHAT; kind <= BODY_RESPONSES; kind++) {
                if (body_scan(scanner, kind, (const char *)data, len, &found) == 0) {
                        found_check(kind, &found, data, len);
                        continue;
                }
                assert(found.error[0] && memchr(found.error, 0, sizeof(found.error)));
                assert(memchr(found.member, 0, sizeof(found.member)));
        }
        return 0;
}
