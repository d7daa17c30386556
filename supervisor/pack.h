/*
 * pack -- the few forms in which the control socket writes msgpack.
 *
 * Shape   a key and its value, one after the other, into a map whose size the caller has written
 * Units   none
 * Owner   the caller's packer and buffer
 * Errors  none: the buffer grows
 * Limits  none of their own
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <string.h>

static inline void pack_text(msgpack_packer *pk, const char *text) {
        size_t len = strlen(text);

        msgpack_pack_str(pk, len);
        msgpack_pack_str_body(pk, text, len);
}

/* An empty text is null. */
static inline void pack_key_text(msgpack_packer *pk, const char *key, const char *text) {
        pack_text(pk, key);
        if (text[0])
                pack_text(pk, text);
        else
                msgpack_pack_nil(pk);
}

static inline void pack_key_u64(msgpack_packer *pk, const char *key, uint64_t value) {
        pack_text(pk, key);
        msgpack_pack_uint64(pk, value);
}

/* A value that may be unknown. */
static inline void pack_key_known(msgpack_packer *pk, const char *key, bool known, uint64_t value) {
        pack_text(pk, key);
        if (known)
                msgpack_pack_uint64(pk, value);
        else
                msgpack_pack_nil(pk);
}

static inline void pack_key_bool(msgpack_packer *pk, const char *key, bool value) {
        pack_text(pk, key);
        if (value)
                msgpack_pack_true(pk);
        else
                msgpack_pack_false(pk);
}
