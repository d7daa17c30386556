#include <assert.h>

#include "stages/common/record.h"

static_assert(sizeof((struct msgpack_scanner){0}.left) / sizeof(uint64_t) ==
                                MSGPACK_SCAN_DEPTH_MAX + 1,
                "level 0 counts the object itself");

/* How one item begins: bytes of its head, payload bytes behind it, and items inside it. */
struct item {
        uint32_t head;
        uint64_t payload;
        uint64_t items;
        bool container;
};

static uint64_t load_be(const uint8_t *p, uint32_t n) {
        uint64_t v = 0;
        for (uint32_t i = 0; i < n; i++)
                v = v << 8 | p[i];
        return v;
}

/* Bytes of the head that a first byte announces (its length field included), 0: not msgpack. */
static uint32_t head_bytes(uint8_t first) {
        /* 0xc0 .. 0xdf: nil, (never used), booleans, bin, ext, float, uint, int, fixext, str,
         * array, map */
        static const uint8_t heads[32] = {
                        1,
                        0,
                        1,
                        1,
                        2,
                        3,
                        5,
                        3,
                        4,
                        6,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        2,
                        2,
                        2,
                        2,
                        2,
                        2,
                        3,
                        5,
                        3,
                        5,
                        3,
                        5,
        };
        if (first < 0xc0 || first > 0xdf)
                return 1;
        return heads[first - 0xc0];
}

static struct item item_read(const uint8_t *p, uint32_t head) {
        struct item item = {.head = head};
        uint8_t first = p[0];

        if (first < 0x80 || first >= 0xe0)
                return item;
        if (first < 0x90) {
                item.container = true;
                item.items = 2u * (first & 0x0fu);
        } else if (first < 0xa0) {
                item.container = true;
                item.items = first & 0x0fu;
        } else if (first < 0xc0) {
                item.payload = first & 0x1fu;
        } else if (first >= 0xdc) {
                item.container = true;
                item.items = load_be(p + 1, head - 1) * (first >= 0xde ? 2 : 1);
        } else if (first >= 0xd9 || (first >= 0xc4 && first <= 0xc6)) {
                item.payload = load_be(p + 1, head - 1);
        } else if (first >= 0xc7 && first <= 0xc9) {
                item.payload = load_be(
                                p + 1, head - 2); /* ext: the last byte of the head is its type */
        } else if (first >= 0xd4 && first <= 0xd8) {
                item.payload = 1ull << (first - 0xd4); /* fixext, likewise */
        } else {
                static const uint8_t numbers[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8}; /* 0xca .. 0xd3 */
                if (first >= 0xca)
                        item.payload = numbers[first - 0xca];
        }
        return item;
}

void msgpack_scanner_init(struct msgpack_scanner *s) {
        s->at = 0;
        s->depth = 0;
        s->left[0] = 1;
}

/* Counts one item as read; `at` already stands behind it, even when its payload has yet to come. */
static enum msgpack_scan item_enter(struct msgpack_scanner *s, const struct item *item,
                uint32_t max_depth, uint64_t max_len) {
        s->left[s->depth]--;
        s->at += item->head + item->payload;
        /* Every item takes a byte at least: a count that cannot fit is refused before it is waited
         * for. */
        if (s->at > max_len || item->items > max_len - s->at)
                return MSGPACK_SCAN_LARGE;
        if (!item->container)
                return MSGPACK_SCAN_MORE;
        if (s->depth >= max_depth)
                return MSGPACK_SCAN_DEEP;
        s->left[++s->depth] = item->items;
        return MSGPACK_SCAN_MORE;
}

enum msgpack_scan msgpack_scan(struct msgpack_scanner *s, const uint8_t *bytes, uint64_t len,
                uint32_t max_depth, uint64_t max_len) {
        assert(max_depth <= MSGPACK_SCAN_DEPTH_MAX);

        for (;;) {
                while (s->depth > 0 && s->left[s->depth] == 0)
                        s->depth--;
                if (s->left[0] == 0 && s->depth == 0)
                        return s->at <= len ? MSGPACK_SCAN_DONE : MSGPACK_SCAN_MORE;
                if (s->at >= len)
                        return s->at >= max_len ? MSGPACK_SCAN_LARGE : MSGPACK_SCAN_MORE;

                uint32_t head = head_bytes(bytes[s->at]);
                if (head == 0)
                        return MSGPACK_SCAN_BROKEN;
                if (head > max_len - s->at)
                        return MSGPACK_SCAN_LARGE;
                if (head > len - s->at)
                        return MSGPACK_SCAN_MORE;
                struct item item = item_read(bytes + s->at, head);
                enum msgpack_scan r = item_enter(s, &item, max_depth, max_len);
                if (r != MSGPACK_SCAN_MORE)
                        return r;
        }
}
