/*
 * stored -- what the index keeps with each chunk: all that a citation needs, in one string of
 * bytes.
 *
 * Shape   a head of 88 bytes, then collection, tenant, id, title, url, source, metadata, heading
 *         path and text, a NUL behind each
 * Units   bytes; integers little-endian
 * Owner   what was unpacked points into the bytes that it was read from
 * Errors  0, INDEX_E_DOCUMENT, or -EBADMSG for bytes that no stored_pack() made
 * Limits  STORED_STRING_MAX for each string but the text, 4 GiB for that; any change of this layout
 * raises INDEX_FORMAT
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

#define STORED_STRING_MAX (1u << 20) /* bytes of a title, url, source, metadata */

struct stored_hash {
        uint8_t bytes[16];
};

struct stored {
        struct index_hit hit; /* without its score */
        uint64_t document_bytes;
        struct stored_hash content_hash; /* of the whole document */
};

/* Whether the document can be indexed: 0 or INDEX_E_DOCUMENT. */
int stored_check(const struct index_document *doc, struct index_error *err);
/* Of all that add() was given but the id. Where the text was cut belongs to it: a program that cuts
 * in another way replaces its documents. */
struct stored_hash stored_hash_of(const struct index_document *doc);
/* What is kept of chunk i; it points into the document. */
struct stored stored_of(const struct index_document *doc, size_t i, const struct stored_hash *hash);

size_t stored_bytes(const struct stored *stored);
/* buf has room for stored_bytes(). */
void stored_pack(const struct stored *stored, char *buf);
int stored_unpack(const char *data, size_t n_bytes, struct stored *ret_stored);

#ifdef __cplusplus
}
#endif
