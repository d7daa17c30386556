#include "stages/gateway/pull.h"

#include <errno.h>
#include <string.h>

static int take(struct pull *from, uint32_t n, uint64_t *ret) {
        uint64_t v = 0;

        if ((uint64_t)(from->end - from->p) < n)
                return -EPROTO;
        for (uint32_t i = 0; i < n; i++)
                v = v << 8 | from->p[i];
        from->p += n;
        *ret = v;
        return 0;
}

static int take_bytes(struct pull *from, uint64_t n, enum pull_type type, struct pull_item *ret) {
        if ((uint64_t)(from->end - from->p) < n)
                return -EPROTO;
        ret->type = type;
        ret->view = (struct mr_view){(const char *)from->p, (uint32_t)n};
        from->p += n;
        return 0;
}

/* A length field of n bytes, then that many bytes (and `more` of them: the type of an ext). */
static int take_sized(struct pull *from, uint32_t n, uint32_t more, enum pull_type type,
                struct pull_item *ret) {
        uint64_t len;

        if (take(from, n, &len) < 0)
                return -EPROTO;
        return take_bytes(from, len + more, type, ret);
}

static int take_count(struct pull *from, uint32_t n, enum pull_type type, struct pull_item *ret) {
        uint64_t count;

        if (take(from, n, &count) < 0)
                return -EPROTO;
        ret->type = type;
        ret->count = (uint32_t)count;
        return 0;
}

static int take_float(struct pull *from, uint32_t n, struct pull_item *ret) {
        uint64_t bits;

        if (take(from, n, &bits) < 0)
                return -EPROTO;
        ret->type = PULL_FLOAT;
        if (n == 8) {
                memcpy(&ret->v.f, &bits, 8);
        } else {
                uint32_t half = (uint32_t)bits;
                float f;

                memcpy(&f, &half, 4);
                ret->v.f = (double)f;
        }
        return 0;
}

static int take_uint(struct pull *from, uint32_t n, struct pull_item *ret) {
        ret->type = PULL_UINT;
        return take(from, n, &ret->v.u);
}

static int take_int(struct pull *from, uint32_t n, struct pull_item *ret) {
        uint64_t bits;

        if (take(from, n, &bits) < 0)
                return -EPROTO;
        ret->v.i = (int64_t)(bits << (64 - 8 * n)) >> (64 - 8 * n);
        ret->type = ret->v.i < 0 ? PULL_INT : PULL_UINT;
        return 0;
}

int pull_item(struct pull *from, struct pull_item *ret) {
        uint64_t first;

        if (take(from, 1, &first) < 0)
                return -EPROTO;
        if (first < 0x80 || first >= 0xe0) {
                ret->type = first < 0x80 ? PULL_UINT : PULL_INT;
                ret->v.i = first < 0x80 ? (int64_t)first : (int64_t)first - 256;
                return 0;
        }
        if (first < 0xa0) {
                ret->type = first < 0x90 ? PULL_MAP : PULL_ARRAY;
                ret->count = first & 15;
                return 0;
        }
        if (first < 0xc0)
                return take_bytes(from, first & 31, PULL_STR, ret);
        if (first >= 0xc4 && first <= 0xc6)
                return take_sized(from, 1u << (first - 0xc4), 0, PULL_BIN, ret);
        if (first >= 0xc7 && first <= 0xc9)
                return take_sized(from, 1u << (first - 0xc7), 1, PULL_EXT, ret);
        if (first == 0xca || first == 0xcb)
                return take_float(from, first == 0xca ? 4 : 8, ret);
        if (first >= 0xcc && first <= 0xcf)
                return take_uint(from, 1u << (first - 0xcc), ret);
        if (first >= 0xd0 && first <= 0xd3)
                return take_int(from, 1u << (first - 0xd0), ret);
        if (first >= 0xd4 && first <= 0xd8)
                return take_bytes(from, 1 + (1u << (first - 0xd4)), PULL_EXT, ret);
        if (first >= 0xd9 && first <= 0xdb)
                return take_sized(from, 1u << (first - 0xd9), 0, PULL_STR, ret);
        if (first >= 0xdc)
                return take_count(
                                from, first & 1 ? 4 : 2, first < 0xde ? PULL_ARRAY : PULL_MAP, ret);
        ret->type = first == 0xc0 ? PULL_NIL : PULL_BOOL;
        ret->v.b = first == 0xc3;
        return first == 0xc1 ? -EPROTO : 0;
}

int pull_value(struct pull *from, struct mr_view *ret_raw) {
        const uint8_t *start = from->p;
        uint64_t left = 1;

        while (left > 0) {
                struct pull_item item;

                if (pull_item(from, &item) < 0)
                        return -EPROTO;
                left--;
                if (item.type == PULL_ARRAY)
                        left += item.count;
                else if (item.type == PULL_MAP)
                        left += 2ull * item.count;
        }
        if (ret_raw)
                *ret_raw = (struct mr_view){(const char *)start, (uint32_t)(from->p - start)};
        return 0;
}

const char *pull_type_name(enum pull_type type) {
        static const char *const names[] = {[PULL_NIL] = "nil",
                        [PULL_BOOL] = "a boolean",
                        [PULL_UINT] = "an integer",
                        [PULL_INT] = "a negative integer",
                        [PULL_FLOAT] = "a float",
                        [PULL_STR] = "a string",
                        [PULL_BIN] = "binary data",
                        [PULL_EXT] = "an extension",
                        [PULL_ARRAY] = "an array",
                        [PULL_MAP] = "a map"};

        return names[type];
}
