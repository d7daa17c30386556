/*
 * stored -- from a document and its chunks to bytes, and back.
 */
#include "stages/engines/index/stored.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "stages/engines/index/chunk.h"

#define N_STRINGS 9

struct stored_head {
        uint32_t chunk;
        uint32_t n_chunks;
        uint64_t start;
        uint64_t end;
        uint64_t document_bytes;
        struct stored_hash content_hash;
        uint32_t n_bytes[N_STRINGS];
        uint32_t rsv;
};
static_assert(sizeof(struct stored_head) == 88, "the index's format: raise INDEX_FORMAT");

static int refuse(struct index_error *err, const char *why) {
        if (err)
                snprintf(err->text, sizeof(err->text), "%s", why);
        return INDEX_E_DOCUMENT;
}

static bool has_nul(struct index_str str) {
        return str.n_bytes > 0 && memchr(str.data, '\0', str.n_bytes);
}

int stored_check(const struct index_document *doc, struct index_error *err) {
        const size_t sizes[] = {doc->title.n_bytes, doc->url.n_bytes, doc->source.n_bytes,
                        doc->metadata.n_bytes};

        if (doc->key.id.n_bytes == 0)
                return refuse(err, "the id is empty");
        if (doc->key.id.n_bytes > INDEX_ID_MAX)
                return refuse(err, "the id is too long: 1024 bytes are allowed");
        if (has_nul(doc->key.id))
                return refuse(err, "the id has a NUL in it");
        if (doc->key.collection.n_bytes > INDEX_COLLECTION_MAX || has_nul(doc->key.collection) ||
                        doc->key.tenant.n_bytes > INDEX_TENANT_MAX || has_nul(doc->key.tenant))
                return refuse(err, "the name of its collection or tenant is none");
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
                if (sizes[i] > STORED_STRING_MAX)
                        return refuse(err, "its title, url, source or metadata is over 1 MiB");
        if (doc->text.n_bytes > UINT32_MAX || doc->n_chunks > INDEX_CHUNKS_MAX)
                return refuse(err, "the text is too long");
        if (doc->n_chunks == 0)
                return refuse(err, "there is nothing in it");
        for (size_t i = 0; i < doc->n_chunks; i++)
                if (doc->chunks[i].start > doc->chunks[i].end ||
                                doc->chunks[i].end > doc->text.n_bytes)
                        return refuse(err, "a chunk lies outside of the text");
        return 0;
}

static void hash_add(struct stored_hash *sum, const void *data, size_t n_bytes) {
        struct {
                struct stored_hash sum;
                XXH128_canonical_t piece;
        } both = {.sum = *sum};
        XXH128_canonical_t canonical;

        XXH128_canonicalFromHash(&both.piece, XXH3_128bits(data, n_bytes));
        XXH128_canonicalFromHash(&canonical, XXH3_128bits(&both, sizeof(both)));
        memcpy(sum->bytes, canonical.digest, sizeof(sum->bytes));
}

struct stored_hash stored_hash_of(const struct index_document *doc) {
        const struct index_str strings[] = {
                        doc->title, doc->url, doc->source, doc->metadata, doc->text};
        struct stored_hash sum = {0};

        for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++)
                hash_add(&sum, strings[i].data, strings[i].n_bytes);
        for (size_t i = 0; i < doc->n_chunks; i++) {
                const uint64_t range[2] = {doc->chunks[i].start, doc->chunks[i].end};

                hash_add(&sum, range, sizeof(range));
                hash_add(&sum, doc->chunks[i].path.data, doc->chunks[i].path.n_bytes);
        }
        return sum;
}

struct stored stored_of(
                const struct index_document *doc, size_t i, const struct stored_hash *hash) {
        const struct chunk *chunk = &doc->chunks[i];
        const size_t n_bytes = chunk->end - chunk->start;
        struct stored stored = {.document_bytes = doc->text.n_bytes, .content_hash = *hash};
        struct index_hit *hit = &stored.hit;

        hit->key = doc->key;
        hit->title = doc->title;
        hit->url = doc->url;
        hit->source = doc->source;
        hit->metadata = doc->metadata;
        hit->path = chunk->path;
        hit->text = (struct index_str){n_bytes > 0 ? doc->text.data + chunk->start : "", n_bytes};
        hit->start = chunk->start;
        hit->end = chunk->end;
        hit->chunk = (uint32_t)i;
        hit->n_chunks = (uint32_t)doc->n_chunks;
        return stored;
}

size_t stored_bytes(const struct stored *stored) {
        const struct index_hit *hit = &stored->hit;

        return sizeof(struct stored_head) + hit->key.collection.n_bytes + hit->key.tenant.n_bytes +
               hit->key.id.n_bytes + hit->title.n_bytes + hit->url.n_bytes + hit->source.n_bytes +
               hit->metadata.n_bytes + hit->path.n_bytes + hit->text.n_bytes + N_STRINGS;
}

void stored_pack(const struct stored *stored, char *buf) {
        const struct index_hit *hit = &stored->hit;
        const struct index_str strings[N_STRINGS] = {hit->key.collection, hit->key.tenant,
                        hit->key.id, hit->title, hit->url, hit->source, hit->metadata, hit->path,
                        hit->text};
        struct stored_head head = {
                        .chunk = htole32(hit->chunk),
                        .n_chunks = htole32(hit->n_chunks),
                        .start = htole64(hit->start),
                        .end = htole64(hit->end),
                        .document_bytes = htole64(stored->document_bytes),
                        .content_hash = stored->content_hash,
        };
        char *at = buf + sizeof(head);

        for (size_t i = 0; i < N_STRINGS; i++) {
                head.n_bytes[i] = htole32((uint32_t)strings[i].n_bytes);
                if (strings[i].n_bytes > 0)
                        memcpy(at, strings[i].data, strings[i].n_bytes);
                at += strings[i].n_bytes;
                *at++ = '\0';
        }
        memcpy(buf, &head, sizeof(head));
}

static bool stored_is_sound(const struct stored *stored) {
        const struct index_hit *hit = &stored->hit;

        return hit->chunk < hit->n_chunks && hit->start <= hit->end &&
               hit->end <= stored->document_bytes && hit->end - hit->start == hit->text.n_bytes;
}

int stored_unpack(const char *data, size_t n_bytes, struct stored *ret_stored) {
        struct stored stored = {0};
        struct index_hit *const hit = &stored.hit;
        struct index_str *const strings[N_STRINGS] = {&hit->key.collection, &hit->key.tenant,
                        &hit->key.id, &hit->title, &hit->url, &hit->source, &hit->metadata,
                        &hit->path, &hit->text};
        struct stored_head head;
        size_t at = sizeof(head);

        if (n_bytes < sizeof(head))
                return -EBADMSG;
        memcpy(&head, data, sizeof(head));
        for (size_t i = 0; i < N_STRINGS; i++) {
                const size_t n = le32toh(head.n_bytes[i]);

                if (n >= n_bytes - at || data[at + n] != '\0')
                        return -EBADMSG;
                *strings[i] = (struct index_str){data + at, n};
                at += n + 1;
        }
        stored.content_hash = head.content_hash;
        stored.document_bytes = le64toh(head.document_bytes);
        stored.hit.chunk = le32toh(head.chunk);
        stored.hit.n_chunks = le32toh(head.n_chunks);
        stored.hit.start = le64toh(head.start);
        stored.hit.end = le64toh(head.end);
        if (at != n_bytes || !stored_is_sound(&stored))
                return -EBADMSG;
        *ret_stored = stored;
        return 0;
}
