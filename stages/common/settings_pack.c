/* The packed form of settings: map of key path -> value, an enum by its word, so that a worker of
 * another version of millrace still finds what it knows. */
#include <errno.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/common/settings_value.h"

/* map of rows > list of workers > worker > list of texts > text */
#define PACKED_DEPTH_MAX 8

/* ---- pack -------------------------------------------------------------------------------- */

struct sink {
        char *at;
        size_t len;
        size_t cap;
};

static int sink_write(void *data, const char *bytes, size_t n) {
        struct sink *sink = data;

        if (n > sink->cap - sink->len)
                return -1;
        memcpy(sink->at + sink->len, bytes, n);
        sink->len += n;
        return 0;
}

static int pack_text(msgpack_packer *pk, const char *text) {
        return text ? msgpack_pack_str_with_body(pk, text, strlen(text)) : msgpack_pack_nil(pk);
}

static int pack_strs(msgpack_packer *pk, const struct settings_strs *strs) {
        int r = msgpack_pack_array(pk, strs->n);

        for (uint32_t i = 0; r == 0 && i < strs->n; i++)
                r = pack_text(pk, strs->v[i]);
        return r;
}

static int pack_shape(msgpack_packer *pk, const struct settings_shape *shape, const void *base);

static int pack_elements(msgpack_packer *pk, const struct settings_shape *shape,
                         struct settings_elements e) {
        int r = msgpack_pack_array(pk, e.n);

        for (uint32_t i = 0; r == 0 && i < e.n; i++)
                r = pack_shape(pk, shape, settings_element(shape, e, i));
        return r;
}

static int pack_row(msgpack_packer *pk, const struct settings_row *row, const void *value) {
        const void *one;

        switch (row->type) {
        case SETTINGS_SECTION:
                return 0;
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
                return msgpack_pack_uint64(pk, settings_number(row, value));
        case SETTINGS_F64:
                return msgpack_pack_double(pk, settings_f64(value));
        case SETTINGS_BOOL:
                return settings_number(row, value) ? msgpack_pack_true(pk) : msgpack_pack_false(pk);
        case SETTINGS_ENUM:
                return pack_text(pk, row->choices[settings_number(row, value)]);
        case SETTINGS_STR:
                return pack_text(pk, settings_text(value));
        case SETTINGS_STRS:
                return pack_strs(pk, value);
        case SETTINGS_ENDPOINT:
                one = settings_pointer(value);
                return one ? pack_shape(pk, &settings_endpoint_shape, one) : msgpack_pack_nil(pk);
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                return pack_elements(pk, settings_row_shape(row), settings_elements(value));
        }
        return -1;
}

static int pack_shape(msgpack_packer *pk, const struct settings_shape *shape, const void *base) {
        size_t n = 0;
        int r;

        for (uint32_t i = 0; i < shape->n_rows; i++)
                n += shape->rows[i].type != SETTINGS_SECTION;
        r = msgpack_pack_map(pk, n);
        for (uint32_t i = 0; r == 0 && i < shape->n_rows; i++) {
                if (shape->rows[i].type == SETTINGS_SECTION)
                        continue;
                r = pack_text(pk, shape->rows[i].path);
                if (r == 0)
                        r = pack_row(pk, &shape->rows[i],
                                     settings_row_value(&shape->rows[i], base));
        }
        return r;
}

int settings_pack(const struct settings *s, void *buf, size_t cap, size_t *ret_len) {
        struct sink sink = {.at = buf, .cap = cap};
        msgpack_packer pk;

        msgpack_packer_init(&pk, &sink, sink_write);
        if (pack_shape(&pk, &settings_shape, s) != 0)
                return -ENOBUFS;
        *ret_len = sink.len;
        return 0;
}

/* ---- unpack ------------------------------------------------------------------------------ */

static int unpack_text(const msgpack_object *o, bool may_be_null, void *value) {
        if (o->type == MSGPACK_OBJECT_NIL)
                return may_be_null ? settings_text_set(value, NULL, 0) : -EPROTO;
        if (o->type != MSGPACK_OBJECT_STR || o->via.str.size > SETTINGS_TEXT_MAX)
                return -EPROTO;
        if (memchr(o->via.str.ptr, '\0', o->via.str.size))
                return -EPROTO;
        return settings_text_set(value, o->via.str.ptr, o->via.str.size);
}

static int unpack_strs(const struct settings_row *row, const msgpack_object *o,
                       struct settings_strs *strs) {
        int r = 0;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size > row->max_items)
                return -EPROTO;
        if (o->via.array.size == 0)
                return 0;
        strs->v = calloc(o->via.array.size, sizeof(*strs->v));
        if (!strs->v)
                return -ENOMEM;
        strs->n = o->via.array.size;
        for (uint32_t i = 0; r == 0 && i < strs->n; i++)
                r = unpack_text(&o->via.array.ptr[i], false, &strs->v[i]);
        return r;
}

static int unpack_number(const struct settings_row *row, const msgpack_object *o, void *value) {
        bool is_auto;

        if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
                return -EPROTO;
        is_auto = row->type == SETTINGS_AUTO_U64 && o->via.u64 == SETTINGS_AUTO;
        if (!is_auto && (o->via.u64 < row->min || o->via.u64 > row->max))
                return -EPROTO;
        settings_number_set(row, value, o->via.u64);
        return 0;
}

static int unpack_word(const struct settings_row *row, const msgpack_object *o, void *value) {
        if (o->type != MSGPACK_OBJECT_STR)
                return -EPROTO;
        for (uint64_t i = 0; row->choices[i]; i++) {
                if (strlen(row->choices[i]) != o->via.str.size ||
                    memcmp(row->choices[i], o->via.str.ptr, o->via.str.size) != 0)
                        continue;
                settings_number_set(row, value, i);
                return 0;
        }
        return -EPROTO;
}

static int unpack_f64(const struct settings_row *row, const msgpack_object *o, void *value) {
        if (o->type != MSGPACK_OBJECT_FLOAT64 || !isfinite(o->via.f64) ||
            o->via.f64 < row->min_f64 || o->via.f64 > row->max_f64)
                return -EPROTO;
        memcpy(value, &o->via.f64, sizeof(o->via.f64));
        return 0;
}

static int unpack_shape(const struct settings_shape *shape, const msgpack_object *o, void *base);

static int unpack_endpoint(const msgpack_object *o, void *value) {
        struct settings_endpoint *endpoint;

        if (o->type == MSGPACK_OBJECT_NIL)
                return 0;
        endpoint = calloc(1, sizeof(*endpoint));
        if (!endpoint)
                return -ENOMEM;
        memcpy(value, &endpoint, sizeof(endpoint));
        return unpack_shape(&settings_endpoint_shape, o, endpoint);
}

static int unpack_elements(const struct settings_row *row, const msgpack_object *o, void *value) {
        const struct settings_shape *shape = settings_row_shape(row);
        struct settings_elements e = {0};
        int r = 0;

        if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size > row->max_items)
                return -EPROTO;
        if (o->via.array.size == 0)
                return 0;
        e.v = calloc(o->via.array.size, shape->bytes);
        if (!e.v)
                return -ENOMEM;
        e.n = o->via.array.size;
        memcpy(value, &e, sizeof(e)); /* owned by the settings from here, even when half built */
        for (uint32_t i = 0; r == 0 && i < e.n; i++)
                r = unpack_shape(shape, &o->via.array.ptr[i], settings_element(shape, e, i));
        return r;
}

static int unpack_row(const struct settings_row *row, const msgpack_object *o, void *value) {
        settings_row_clear(row, value); /* the default, or what a repeated key has put there */
        switch (row->type) {
        case SETTINGS_SECTION:
                return -EPROTO;
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
                return unpack_number(row, o, value);
        case SETTINGS_F64:
                return unpack_f64(row, o, value);
        case SETTINGS_BOOL:
                if (o->type != MSGPACK_OBJECT_BOOLEAN)
                        return -EPROTO;
                settings_number_set(row, value, o->via.boolean);
                return 0;
        case SETTINGS_ENUM:
                return unpack_word(row, o, value);
        case SETTINGS_STR:
                return unpack_text(o, !row->def_text, value);
        case SETTINGS_STRS:
                return unpack_strs(row, o, value);
        case SETTINGS_ENDPOINT:
                return unpack_endpoint(o, value);
        case SETTINGS_WORKERS:
        case SETTINGS_MODELS:
                return unpack_elements(row, o, value);
        }
        return -EPROTO;
}

/* The row that a packed key names, NULL for one of another version. */
static const struct settings_row *row_of_key(const struct settings_shape *shape,
                                             const msgpack_object *key) {
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const char *path = shape->rows[i].path;

                if (strlen(path) == key->via.str.size &&
                    memcmp(path, key->via.str.ptr, key->via.str.size) == 0)
                        return &shape->rows[i];
        }
        return NULL;
}

static int unpack_map(const struct settings_shape *shape, const msgpack_object *o, void *base) {
        const struct settings_row *row;
        int r;

        if (o->type != MSGPACK_OBJECT_MAP)
                return -EPROTO;
        for (uint32_t i = 0; i < o->via.map.size; i++) {
                const msgpack_object_kv *kv = &o->via.map.ptr[i];

                if (kv->key.type != MSGPACK_OBJECT_STR)
                        return -EPROTO;
                row = row_of_key(shape, &kv->key);
                if (!row)
                        continue;
                r = unpack_row(row, &kv->val, (char *)base + row->offset);
                if (r)
                        return r;
        }
        return 0;
}

static int unpack_shape(const struct settings_shape *shape, const msgpack_object *o, void *base) {
        int r;

        r = settings_shape_default(shape, base);
        if (r)
                return r;
        r = unpack_map(shape, o, base);
        if (r)
                return r;
        for (uint32_t i = 0; i < shape->n_required; i++)
                if (shape->rows[i].type == SETTINGS_STR &&
                    !settings_text(settings_row_value(&shape->rows[i], base)))
                        return -EPROTO;
        return 0;
}

/* Bounds first: the library allocates as many objects as an array claims to hold. */
static int scan_whole(const void *buf, size_t len) {
        struct msgpack_scanner scanner;

        if (len > SETTINGS_PACKED_MAX)
                return -EPROTO;
        msgpack_scanner_init(&scanner);
        if (msgpack_scan(&scanner, buf, len, PACKED_DEPTH_MAX, SETTINGS_PACKED_MAX) !=
            MSGPACK_SCAN_DONE)
                return -EPROTO;
        return scanner.at == len ? 0 : -EPROTO;
}

int settings_unpack(const void *buf, size_t len, struct settings **ret) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        __attribute__((cleanup(msgpack_unpacked_destroy))) msgpack_unpacked unpacked;
        size_t at = 0;
        int r;

        msgpack_unpacked_init(&unpacked);
        r = scan_whole(buf, len);
        if (r)
                return r;
        if (msgpack_unpack_next(&unpacked, buf, len, &at) != MSGPACK_UNPACK_SUCCESS)
                return -EPROTO;
        r = settings_default(&s);
        if (r)
                return r;
        r = unpack_map(&settings_shape, &unpacked.data, s);
        if (r)
                return r;
        *ret = s;
        s = NULL;
        return 0;
}
