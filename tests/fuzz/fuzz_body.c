/* The scan of a chat body: whatever it accepts has its spans inside the body and on the right
 * bytes. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct body_scanner *scanner;
        static struct body_found found;
        uint32_t len = (uint32_t)size;

        if (size > 1 << 20 || (!scanner && body_scanner_new(&scanner) < 0))
                return 0;
        if (body_scan(scanner, (const char *)data, len, &found) != 0) {
                assert(memchr(found.error, 0, sizeof(found.error)));
                return 0;
        }
        assert(data[found.marks.object_end] == '}');
        assert(found.marks.n_messages > 0 && found.query_len <= BODY_QUERY_MAX);
        assert(json_utf8_bad(found.query, found.query_len) == found.query_len);
        span_check(&found.marks.messages, data, len, "[");
        span_check(&found.marks.model, data, len, "\"");
        span_check(&found.marks.last_user, data, len, "\"[");
        span_check(&found.marks.first_system, data, len, "\"[");
        span_check(&found.marks.stream, data, len, "tfn");
        span_check(&found.marks.stream_options, data, len, "{n");
        span_check(&found.marks.max_tokens, data, len, "-0123456789");
        if (found.marks.model.len > 0) {
                char name[64];
                uint32_t n;
                int r = json_unescape((const char *)data + found.marks.model.off,
                                found.marks.model.len, name, sizeof(name), &n);

                assert(r == 0 && n <= sizeof(name));
        }
        return 0;
}
