#include "stages/common/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "stages/common/pack.h"

/* Objects of one record live in one chunk of the zone: a request with a hundred documents needs
 * about half of it, so that decoding allocates nothing once the chunk exists. */
#define ZONE_CHUNK_BYTES 65536u
#define RECORD_DEPTH_MAX 16u
#define KEYS_N 128u

struct field_row {
        uint16_t key;
        uint8_t kind; /* enum record_kind */
        uint16_t offset;
        const char *name;
        const char *by;
        const char *sentence;
};

static const struct field_row fields[FIELDS_N] = {
#define F(key_, name_, kind_, by_, sentence_)                                                      \
        [FIELD_##name_] = {.key = (key_),                                                          \
                        .kind = KIND_##kind_,                                                      \
                        .offset = offsetof(struct record, name_),                                  \
                        .name = #name_,                                                            \
                        .by = #by_,                                                                \
                        .sentence = (sentence_)},
#include "stages/common/record.def"
#undef F
};

/* key -> field + 1; 0: a key that this version does not know. */
static const uint8_t field_of_key[KEYS_N] = {
#define F(key_, name_, kind_, by_, sentence_) [key_] = FIELD_##name_ + 1,
#include "stages/common/record.def"
#undef F
};

static_assert(FIELDS_N < 255, "field_of_key holds field + 1 in a byte");
static_assert(sizeof(struct record) < UINT16_MAX, "offsets are 16 bits wide");

/* ---- names -------------------------------------------------------------------------------------
 */

static const struct {
        const char *name;
        uint16_t status;
        uint8_t retryable;
} errors[MR_ERRORS_N] = {
#define E(name_, status_, retryable_, sentence_)                                                   \
        [MR_E_##name_] = {.name = #name_, .status = (status_), .retryable = (retryable_)},
#include "stages/common/errors.def"
#undef E
};

/* Codes come out of records: what is out of range is some other version's error. */
static enum mr_error error_known(enum mr_error code) {
        return (unsigned)code < MR_ERRORS_N ? code : MR_E_internal;
}

const char *mr_error_name(enum mr_error code) {
        return errors[error_known(code)].name;
}

unsigned mr_error_status(enum mr_error code) {
        return errors[error_known(code)].status;
}

bool mr_error_retryable(enum mr_error code) {
        return errors[error_known(code)].retryable;
}

uint32_t record_cut_take(struct mr_view *cuts) {
        uint32_t n = 0;

        for (unsigned shift = 0; cuts->n && shift < 32; shift += 7) {
                uint8_t byte = (uint8_t)*cuts->p;

                cuts->p++;
                cuts->n--;
                n |= (uint32_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80))
                        break;
        }
        return n;
}

const char *record_field_name(enum record_field field) {
        assert(field < FIELDS_N);
        return fields[field].name;
}

const char *record_field_sentence(enum record_field field) {
        assert(field < FIELDS_N);
        return fields[field].sentence;
}

const char *record_type_name(uint16_t type) {
        static const char *const names[] = {
                        [RECORD_REQUEST] = "request",
                        [RECORD_DELTA] = "delta",
                        [RECORD_DONE] = "done",
                        [RECORD_ERROR] = "error",
                        [RECORD_RESTART] = "restart",
                        [RECORD_CANCEL] = "cancel",
                        [RECORD_NOTICE] = "notice",
                        [RECORD_LOOKUP] = "lookup",
                        [RECORD_ABSENT] = "absent",
        };
        if (type >= sizeof(names) / sizeof(names[0]) || !names[type])
                return "unknown";
        return names[type];
}

/* ---- decoding ----------------------------------------------------------------------------------
 */

int record_decoder_init(struct record_decoder *decoder) {
        decoder->used = false;
        return msgpack_zone_init(&decoder->zone, ZONE_CHUNK_BYTES) ? 0 : -ENOMEM;
}

void record_decoder_close(struct record_decoder *decoder) {
        msgpack_zone_destroy(&decoder->zone);
}

/* What is left to be read. */
struct reader {
        const uint8_t *p, *end;
};

/* n bytes as a number, most significant first; the caller knows that they are there. */
static uint64_t load_be(const uint8_t *p, uint32_t n) {
        uint64_t v = 0;
        for (uint32_t i = 0; i < n; i++)
                v = v << 8 | p[i];
        return v;
}

/* A number of 2^k bytes behind its first byte, k told by that byte. */
static int number_read(struct reader *from, uint8_t first_of_kind, uint64_t *ret) {
        uint32_t n = 1u << (from->p[0] - first_of_kind);

        if ((size_t)(from->end - from->p) < 1 + n)
                return -EPROTO;
        *ret = load_be(from->p + 1, n);
        from->p += 1 + n;
        return 0;
}

static int uint_read(struct reader *from, uint64_t *ret) {
        if (from->p == from->end)
                return -EPROTO;
        uint8_t first = from->p[0];
        if (first < 0x80) {
                *ret = first;
                from->p++;
                return 0;
        }
        if (first >= 0xcc && first <= 0xcf)
                return number_read(from, 0xcc, ret);
        if (first < 0xd0 || first > 0xd3)
                return -EPROTO;
        /* Some writers have a signed form for what is not negative. */
        uint32_t n = 1u << (first - 0xd0);
        if (number_read(from, 0xd0, ret) < 0 || *ret >> (8 * n - 1) != 0)
                return -EPROTO;
        return 0;
}

/* `wide`: the first byte of the form with one byte of length; two and four come after it. */
static int view_read(struct reader *from, uint8_t wide, struct mr_view *ret) {
        uint64_t n;

        if (from->p == from->end)
                return -EPROTO;
        uint8_t first = from->p[0];
        if (wide == 0xd9 && first >= 0xa0 && first < 0xc0) {
                n = first & 0x1fu;
                from->p++;
        } else if (first < wide || first > wide + 2 || number_read(from, wide, &n) < 0) {
                return -EPROTO;
        }
        if ((uint64_t)(from->end - from->p) < n)
                return -EPROTO;
        *ret = (struct mr_view){(const char *)from->p, (uint32_t)n};
        from->p += n;
        return 0;
}

/* Any value, as an object of the library. The bounds come first: the library reserves room for as
 * many elements as a head claims. The map around the value counts as one level. */
static int object_read(
                struct record_decoder *decoder, struct reader *from, const msgpack_object **ret) {
        uint32_t left = (uint32_t)(from->end - from->p);
        struct msgpack_scanner scanner;
        size_t off = 0;

        msgpack_scanner_init(&scanner);
        if (msgpack_scan(&scanner, from->p, left, RECORD_DEPTH_MAX - 1, left) != MSGPACK_SCAN_DONE)
                return -EPROTO;
        msgpack_object *object = msgpack_zone_malloc(&decoder->zone, sizeof(*object));
        decoder->used = true;
        if (!object)
                return -ENOMEM;
        switch (msgpack_unpack((const char *)from->p, (size_t)scanner.at, &off, &decoder->zone,
                        object)) {
        case MSGPACK_UNPACK_SUCCESS:
                from->p += scanner.at;
                *ret = object;
                return 0;
        case MSGPACK_UNPACK_NOMEM_ERROR:
                return -ENOMEM;
        case MSGPACK_UNPACK_EXTRA_BYTES:
        case MSGPACK_UNPACK_CONTINUE:
        case MSGPACK_UNPACK_PARSE_ERROR:
                return -EPROTO;
        }
        return -EPROTO;
}

static int field_read(struct record_decoder *decoder, struct reader *from, struct record *record,
                const struct field_row *row) {
        void *at = (uint8_t *)record + row->offset;

        switch ((enum record_kind)row->kind) {
        case KIND_UINT:
                return uint_read(from, at);
        case KIND_STR:
                return view_read(from, 0xd9, at);
        case KIND_BIN:
                return view_read(from, 0xc4, at);
        case KIND_RAW:
                return object_read(decoder, from, at);
        }
        return -EPROTO;
}

static int unknown_read(struct record_decoder *decoder, struct reader *from, struct record *record,
                uint64_t key) {
        if (record->n_unknown == RECORD_UNKNOWN_MAX)
                return -EPROTO;
        for (uint32_t i = 0; i < record->n_unknown; i++)
                if (record->unknown[i].key == key)
                        return -EPROTO;
        record->unknown[record->n_unknown].key = key;
        return object_read(decoder, from, &record->unknown[record->n_unknown++].value);
}

static int entry_read(struct record_decoder *decoder, struct reader *from, struct record *record) {
        uint64_t key;

        if (uint_read(from, &key) < 0)
                return -EPROTO;
        if (key >= KEYS_N || field_of_key[key] == 0)
                return unknown_read(decoder, from, record, key);
        uint32_t field = field_of_key[key] - 1u;
        if (record->has & 1ull << field)
                return -EPROTO;
        record->has |= 1ull << field;
        return field_read(decoder, from, record, &fields[field]);
}

/* The head of a map: how many entries follow. */
static int map_read(struct reader *from, uint64_t *ret) {
        if (from->p == from->end)
                return -EPROTO;
        if (from->p[0] >= 0x80 && from->p[0] < 0x90) {
                *ret = *from->p++ & 0x0fu;
                return 0;
        }
        uint32_t n = from->p[0] == 0xde ? 2 : 4;
        if ((from->p[0] != 0xde && from->p[0] != 0xdf) || (size_t)(from->end - from->p) < 1 + n)
                return -EPROTO;
        *ret = load_be(from->p + 1, n);
        from->p += 1 + n;
        return 0;
}

/* Fields are read where they stand; only values of any shape are left to the library. */
int record_decode(struct record_decoder *decoder, const void *bytes, uint32_t len,
                struct record *ret) {
        struct reader from = {bytes, (const uint8_t *)bytes + len};
        uint64_t n = 0;

        if (decoder->used)
                msgpack_zone_clear(&decoder->zone);
        decoder->used = false;
        int r = map_read(&from, &n);
        memset(ret, 0, offsetof(struct record, unknown));
        for (; r == 0 && n > 0; n--)
                r = entry_read(decoder, &from, ret);
        return r == 0 && from.p != from.end ? -EPROTO : r;
}

int record_raw_parse(struct record_decoder *decoder, const void *bytes, uint32_t len,
                const msgpack_object **ret) {
        struct reader from = {bytes, (const uint8_t *)bytes + len};
        int r = object_read(decoder, &from, ret);

        return r == 0 && from.p != from.end ? -EPROTO : r;
}

/* ---- encoding ----------------------------------------------------------------------------------
 */

static int pack_buf_write(void *data, const char *bytes, size_t len) {
        struct pack_buf *w = data;

        if (w->full || len > w->cap - w->len) {
                w->full = true;
                return -1;
        }
        if (len > 0) /* an empty text may have no address */
                memcpy(w->at + w->len, bytes, len);
        w->len += (uint32_t)len;
        return 0;
}

void pack_buf_init(struct pack_buf *w, uint8_t *to, uint32_t cap) {
        msgpack_packer_init(&w->pk, w, pack_buf_write);
        w->at = to;
        w->len = 0;
        w->cap = cap;
        w->full = false;
}

static void field_pack(
                struct pack_buf *w, const struct record *record, const struct field_row *row) {
        const void *at = (const uint8_t *)record + row->offset;

        pack_uint(w, row->key);
        switch ((enum record_kind)row->kind) {
        case KIND_UINT:
                pack_uint(w, *(const uint64_t *)at);
                break;
        case KIND_STR:
                pack_str(w, *(const struct mr_view *)at);
                break;
        case KIND_BIN:
                pack_bin(w, *(const struct mr_view *)at);
                break;
        case KIND_RAW:
                msgpack_pack_object(&w->pk, **(const msgpack_object *const *)at);
                break;
        }
}

int record_encode(const struct record *record, uint8_t *to, uint32_t cap, uint32_t *ret_len) {
        struct pack_buf w;

        pack_buf_init(&w, to, cap);
        pack_map(&w, (uint32_t)__builtin_popcountll(record->has) + record->n_unknown);
        for (uint64_t rest = record->has; rest != 0; rest &= rest - 1)
                field_pack(&w, record, &fields[__builtin_ctzll(rest)]);
        for (uint32_t i = 0; i < record->n_unknown; i++) {
                pack_uint(&w, record->unknown[i].key);
                msgpack_pack_object(&w.pk, *record->unknown[i].value);
        }
        if (w.full)
                return -ENOBUFS;
        *ret_len = w.len;
        return 0;
}

/* No head is longer than nine bytes. */
#define HEAD_BOUND 9u

static uint64_t object_bound(const msgpack_object *object) {
        uint64_t bound = HEAD_BOUND;

        if (object->type == MSGPACK_OBJECT_STR)
                bound += object->via.str.size;
        else if (object->type == MSGPACK_OBJECT_BIN)
                bound += object->via.bin.size;
        else if (object->type == MSGPACK_OBJECT_EXT)
                bound += object->via.ext.size;
        else if (object->type == MSGPACK_OBJECT_ARRAY)
                for (uint32_t i = 0; i < object->via.array.size; i++)
                        bound += object_bound(&object->via.array.ptr[i]);
        else if (object->type == MSGPACK_OBJECT_MAP)
                for (uint32_t i = 0; i < object->via.map.size; i++)
                        bound += object_bound(&object->via.map.ptr[i].key) +
                                 object_bound(&object->via.map.ptr[i].val);
        return bound;
}

uint32_t record_size_bound(const struct record *record) {
        uint64_t bound = HEAD_BOUND;

        for (uint64_t rest = record->has; rest != 0; rest &= rest - 1) {
                const struct field_row *row = &fields[__builtin_ctzll(rest)];
                const void *at = (const uint8_t *)record + row->offset;
                bound += 2u * HEAD_BOUND;
                if (row->kind == KIND_STR || row->kind == KIND_BIN)
                        bound += ((const struct mr_view *)at)->n;
                else if (row->kind == KIND_RAW)
                        bound += object_bound(*(const msgpack_object *const *)at);
        }
        for (uint32_t i = 0; i < record->n_unknown; i++)
                bound += HEAD_BOUND + object_bound(record->unknown[i].value);
        return bound < UINT32_MAX ? (uint32_t)bound : UINT32_MAX;
}
