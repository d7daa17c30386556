/* One frame of a client: bounds first, then its fields, then what is made of it. Whatever is built
 * for a prompt or messages must be a body that the scan of bodies accepts, with the same marks. */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "stages/gateway/compose.h"
#include "stages/gateway/frames.h"
#include "stages/gateway/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct composer composer;
static struct body_scanner *scanner;

static void built_check(const struct composed *made) {
        static struct body_found found;

        assert(body_scan(scanner, BODY_CHAT, made->body.p, made->body.n, &found) == 0);
        assert(memcmp(&found.marks, &made->marks, sizeof(found.marks)) == 0);
        assert(found.query_len == made->query.n);
        assert(memcmp(found.query, made->query.p, made->query.n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct msgpack_scanner s;
        struct ask_error error;
        struct composed made;
        struct ask ask;

        if (!scanner && (body_scanner_new(&scanner) < 0 || composer_init(&composer, 65536) < 0))
                return 0;
        msgpack_scanner_init(&s);
        if (msgpack_scan(&s, data, size, FRAMES_DEPTH, 1 << 20) != MSGPACK_SCAN_DONE)
                return 0;
        if (native_parse(data, (uint32_t)s.at, &ask, &error) != 0) {
                assert(error.code != MR_E_none && memchr(error.text, 0, sizeof(error.text)));
                return 0;
        }
        if (ask.op != OP_SUBMIT || compose(&composer, &ask, &made, &error) != 0)
                return 0;
        assert(made.body.n <= 65536);
        if (ask.content != CONTENT_BODY)
                built_check(&made);
        return 0;
}
