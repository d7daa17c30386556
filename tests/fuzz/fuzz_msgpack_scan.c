/* Bytes of a stranger, in one piece and in two: the answers must agree, and what is said to be
 * whole must be whole for the library too. The first byte of the input chooses where it is cut. */
#include <stdint.h>
#include <stdlib.h>

#include "stages/common/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct msgpack_scanner whole, parts;
        const uint64_t limit = 1u << 20;

        if (size < 1)
                return 0;
        size_t cut = data[0] < size ? data[0] : size - 1;
        data++;
        size--;
        msgpack_scanner_init(&whole);
        msgpack_scanner_init(&parts);
        enum msgpack_scan at_once = msgpack_scan(&whole, data, size, MSGPACK_SCAN_DEPTH_MAX, limit);
        enum msgpack_scan in_parts = msgpack_scan(&parts, data, cut, MSGPACK_SCAN_DEPTH_MAX, limit);
        if (in_parts == MSGPACK_SCAN_MORE)
                in_parts = msgpack_scan(&parts, data, size, MSGPACK_SCAN_DEPTH_MAX, limit);
        if (at_once != in_parts)
                abort();
        if (at_once != MSGPACK_SCAN_DONE)
                return 0;
        if (whole.at != parts.at || whole.at > size)
                abort();

        msgpack_zone zone;
        msgpack_object object;
        size_t off = 0;
        if (!msgpack_zone_init(&zone, 8192))
                return 0;
        int r = msgpack_unpack((const char *)data, whole.at, &off, &zone, &object);
        if (r != MSGPACK_UNPACK_SUCCESS || off != whole.at)
                abort();
        msgpack_zone_destroy(&zone);
        return 0;
}
