/* Bodies of the Responses API: whatever is translated is a chat body for the scan, with the same bytes
 * in a buffer that just holds it; what is refused says why. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/responses_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not one: where all items were reasoning, a member that went on is of another type, or what was let
 * in at the last level stands one deeper. */
static void chat_check(struct body_scanner *scanner, const struct json_buf *b) {
        static struct body_found found;

        if (body_scan(scanner, BODY_CHAT, b->at, b->len, &found) != 0)
                assert(found.member[0] || strstr(found.error, "deeper"));
        else
                assert(found.marks.messages.off == strlen("{\"messages\":"));
}

static void translate(struct body_scanner *scanner, struct json_text body) {
        /* What is written of a text is in it already, but for names and brackets. */
        uint32_t cap = 64 + 16 * body.n;
        struct json_buf b = {.at = malloc(cap), .cap = cap}, exact;
        struct responses_bad bad = {0};
        int e;

        if (!b.at)
                abort();
        e = responses_body(&b, body, &bad);
        assert(!b.full);
        if (e) {
                assert(e == RESPONSES_E_INVALID && bad.text[0] && bad.member[0]);
                assert(memchr(bad.text, 0, sizeof(bad.text)));
                assert(memchr(bad.member, 0, sizeof(bad.member)));
        } else {
                exact = (struct json_buf){.at = malloc(b.len), .cap = b.len};
                if (!exact.at)
                        abort();
                assert(responses_body(&exact, body, &bad) == 0 && !exact.full);
                assert(exact.len == b.len && memcmp(exact.at, b.at, b.len) == 0);
                chat_check(scanner, &exact);
                free(exact.at);
        }
        free(b.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct body_scanner *scanner;
        static struct body_found found;
        struct json_text body = {(const char *)data, (uint32_t)size};

        if (size > 1 << 20 || (!scanner && body_scanner_new(&scanner) < 0))
                return 0;
        if (body_scan(scanner, BODY_RESPONSES, body.p, body.n, &found) == 0)
                translate(scanner, body);
        return 0;
}
