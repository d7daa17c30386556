/* json_frame: what it makes of any text is one whole msgpack map that the native dialect can read, and whose
 * JSON makes the same map again. */
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/json_frame.h"
#include "stages/gateway/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static struct json_frame frame, again;
        struct msgpack_scanner scanner;
        struct ask_error error = {.code = MR_E_none};
        struct json_buf b = {0};
        struct ask ask;

        if (n > 1 << 16)
                return 0;
        if (json_frame(&frame, (const char *)bytes, (uint32_t)n, NULL, 0, &error)) {
                if (error.code == MR_E_none || error.code == MR_E_internal || !error.text[0])
                        abort();
                return 0;
        }
        msgpack_scanner_init(&scanner);
        if (msgpack_scan(&scanner, frame.bytes, frame.len, 32, frame.len) != MSGPACK_SCAN_DONE ||
                        scanner.at != frame.len || !native_is_map(frame.bytes, frame.len))
                abort();
        (void)native_parse(frame.bytes, frame.len, &ask, &error);
        b.cap = frame.len * JSON_EVENT_GROWTH + 16;
        b.at = malloc(b.cap);
        if (!b.at || !json_from_frame(&b, frame.bytes, frame.len) || b.full)
                abort();
        /* A body came back as a text, and extra may be any text. */
        if (!memmem(bytes, n, "body", 4) && !memmem(bytes, n, "\\u", 2) && !memmem(bytes, n, "extra", 5) &&
                        (json_frame(&again, b.at, b.len, NULL, 0, &error) ||
                                        again.len != frame.len ||
                                        memcmp(again.bytes, frame.bytes, frame.len) != 0))
                abort();
        free(b.at);
        return 0;
}
