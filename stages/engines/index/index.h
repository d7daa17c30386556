/*
 * index -- the document index: chunks of text found by BM25, with the bytes they came from.
 *
 * Shape   a folder that Xapian keeps; one writer at a time, any number of readers in any process.
 *         A reader holds a snapshot and takes the newest one at the start of each query. Each
 *         chunk carries all that a citation needs, so a reader opens no other file
 * Units   offsets and lengths in bytes; deadlines in ns of CLOCK_MONOTONIC; scores are BM25
 *         weights: only their order means anything, and only within one result
 * Owner   a reader or writer belongs to the thread that uses it; a result owns all its strings and
 *         outlives its reader
 * Errors  0, -errno, or INDEX_E_*, with a sentence in *err (which may be NULL); ret_* are untouched
 *         on failure
 * Limits  INDEX_*_MAX below; a query of any size and any bytes is fine, one without a usable word
 *         has no hits
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INDEX_FORMAT 2          /* of the folder; others are refused */
#define INDEX_ID_MAX 1024u      /* bytes of a document's id */
#define INDEX_COLLECTION_DEFAULT "default"
#define INDEX_COLLECTION_MAX 64u /* bytes of a collection's name */
#define INDEX_TENANT_MAX 256u   /* bytes of a tenant's */
#define INDEX_K_MAX 1000u       /* hits of one query */
#define INDEX_QUERY_BYTES_MAX                                                                      \
        (128u * 1024)               /* of a longer query its beginning and its end count           \
                                     */
#define INDEX_QUERY_TERMS_MAX 192u  /* distinct terms; the rarest are kept */
#define INDEX_CHUNKS_MAX (1u << 20) /* of one document */

enum {
        INDEX_E_MISSING = 1, /* nothing there (yet) */
        INDEX_E_FOREIGN,     /* something else is there: a file, another program's folder */
        INDEX_E_VERSION,     /* an index, of a format that this program does not read */
        INDEX_E_LOCKED,      /* another process is writing */
        INDEX_E_DEADLINE,    /* the query's deadline has passed */
        INDEX_E_DOCUMENT,    /* the document cannot be indexed: the sentence says why */
        INDEX_E_LANGUAGE,    /* no such language, or not the index's */
        INDEX_E_CORRUPT,     /* the index does not hold together */
        INDEX_E_ENGINE,      /* the disk is full, a read failed, ...: the sentence says what */
};

struct index_error {
        char text[512];
};

/* Bytes that may contain NULs. What a reader gives out is also terminated by one. */
struct index_str {
        const char *data;
        size_t n_bytes;
};

/* What a document is called; an id is one document's within its collection and tenant. */
struct index_key {
        struct index_str collection; /* empty: INDEX_COLLECTION_DEFAULT */
        struct index_str tenant;     /* whose alone it is; empty: it is for all */
        struct index_str id;
};

/* ---- reading ------------------------------------------------------------------------------- */

struct index_reader;
struct index_result;

/* One pair of a document's metadata (metadata.h). */
struct index_pair {
        struct index_str key;
        struct index_str value;
};

/* A part of the index: some collections (none: all), and of each key one of its values. */
struct index_part {
        const struct index_str *collections;
        size_t n_collections;
        const struct index_pair *pairs;
        size_t n_pairs;
};

/* Which documents a query is about; all zero: those for all, of every collection. */
struct index_scope {
        struct index_str tenant; /* its documents too; nobody else's ever */
        struct index_part asked; /* by the query, */
        struct index_part allowed; /* of what it may see */
};

/* A passage by its number, as index_reader_passages() tells it. */
struct index_near {
        uint32_t passage;
        float score;   /* higher is nearer */
        uint64_t hash; /* of its text: index_passage_hash() */
};

enum index_fusion { INDEX_FUSION_MIN_MAX, INDEX_FUSION_RRF };

/* What is found by meaning, to be joined with what is found by words. */
struct index_meaning {
        /* The n nearest passages of all, best first; returns how many there are. */
        size_t (*nearest)(void *ctx, size_t n, struct index_near *to);
        void *ctx;
        enum index_fusion fusion;
};

struct index_query {
        struct index_str text;
        struct index_str earlier; /* turns before it: their words count less */
        struct index_scope scope;
        const struct index_meaning *meaning; /* NULL: by words alone */
        uint32_t k;           /* hits wanted, 1..INDEX_K_MAX, at most one for each document */
        uint64_t deadline_ns; /* 0: none */
        bool expand;          /* by words of the best passages (pseudo-relevance feedback) */
        bool merge;           /* a hit grows by neighbours that answer too, and that it overlaps */
};

struct index_hit {
        struct index_key key;   /* of the document */
        struct index_str title; /* may be empty, as url, source and metadata */
        struct index_str url;
        struct index_str source;   /* the file that it came from */
        struct index_str metadata; /* a JSON object */
        struct index_str path;     /* the headings above the chunk: chunk.h */
        struct index_str text;     /* the chunk: bytes start..end of the document's text */
        uint64_t start;
        uint64_t end;
        uint32_t chunk;    /* its ordinal, from 0; the first one's, where several were merged */
        uint32_t n_chunks; /* of the document */
        double score;
};

struct index_stats {
        uint64_t documents;
        uint64_t chunks;
        uint64_t bytes; /* of the documents' texts */
        uint64_t terms; /* distinct ones; index_reader_stats only */
};

struct index_entry {
        struct index_key key;
        struct index_str title;
        struct index_str source; /* the file that it came from */
        uint64_t chunks;
        uint64_t bytes;
};

int index_reader_open(const char *path, struct index_error *err, struct index_reader **ret_reader);
struct index_reader *index_reader_free(struct index_reader *reader);

/* Best first. Sees every commit made before the call. INDEX_E_MISSING: the folder has gone. */
int index_reader_query(struct index_reader *reader, const struct index_query *query,
                struct index_error *err, struct index_result **ret_result);
struct index_result *index_result_free(struct index_result *result);
size_t index_result_n(const struct index_result *result);
/* i < index_result_n(); the hit lives as long as the result. */
const struct index_hit *index_result_hit(const struct index_result *result, size_t i);
/* The part of hit i's text that answers the query best, at most max_bytes of it, cut at sentences
 * where they fit and at words where not: offsets within the hit's text. */
int index_result_snippet(const struct index_result *result, size_t i, size_t max_bytes,
                size_t *ret_start, size_t *ret_end);

/* Puts the hits in another order, each with another score; the snippets go with them. order: all
 * places of now, each once. */
int index_result_arrange(struct index_result *result, const size_t *order, const double *scores);
/* Keeps the first n. */
void index_result_cut(struct index_result *result, size_t n);

int index_reader_stats(struct index_reader *reader, struct index_error *err,
                struct index_stats *ret_stats);
/* The language whose stems it has; lives as long as the reader. */
const char *index_reader_language(const struct index_reader *reader);

struct index_list {
        const struct index_str *collection; /* NULL: of all of them */
        const struct index_str *tenant;     /* NULL: everyone's */
        /* 0, or anything else to stop, which is then returned. The entry lives until it returns. */
        int (*fn)(const struct index_entry *entry, void *ctx);
        void *ctx;
};

/* Each document once, in the order of the bytes of collection, tenant and id (names over 200 bytes
 * last). */
int index_reader_list(struct index_reader *reader, const struct index_list *list,
                struct index_error *err);

/* Each passage from the number `from` on, in the order of numbers; a number is given once only, also
 * when its document is removed or replaced. fn returns 0, or anything else to stop, which is then
 * returned. The hit lives until fn returns. */
int index_reader_passages(struct index_reader *reader, uint32_t from,
                int (*fn)(uint32_t passage, const struct index_hit *hit, void *ctx), void *ctx,
                struct index_error *err);
/* Of what a passage means: title, headings and text. */
uint64_t index_passage_hash(const struct index_hit *hit);

/* ---- writing ------------------------------------------------------------------------------- */

struct index_writer;
struct chunk;

struct index_document {
        struct index_key key; /* no NUL in any; adding it again replaces the document */
        struct index_str title;
        struct index_str url;
        struct index_str source;
        struct index_str metadata; /* a JSON object, or empty */
        struct index_str text;
        const struct chunk *chunks; /* of the text: chunk.h */
        size_t n_chunks;
};

enum index_outcome {
        INDEX_ADDED,
        INDEX_REPLACED,
        INDEX_UNCHANGED, /* the same content is there already: nothing was written */
};

/* Makes the folder, and those above it, when it is missing (mode 0700). language: a name of
 * Snowball's, or "none"; NULL takes the index's own, English for a new one. */
int index_writer_open(const char *path, const char *language, struct index_error *err,
                struct index_writer **ret_writer);
/* What was not committed is forgotten. */
struct index_writer *index_writer_free(struct index_writer *writer);

/* A document is in the index whole or not at all. Commits by itself every few thousand chunks.
 * After an error other than INDEX_E_DOCUMENT, give the writer up: the last commit stands. */
int index_writer_add(struct index_writer *writer, const struct index_document *doc,
                struct index_error *err, enum index_outcome *ret_outcome);
int index_writer_remove(struct index_writer *writer, const struct index_key *key,
                struct index_error *err, bool *ret_removed);
int index_writer_commit(struct index_writer *writer, struct index_error *err);
/* With what is not committed yet; `terms` stays 0. */
struct index_stats index_writer_stats(const struct index_writer *writer);

static inline void index_reader_freep(struct index_reader **reader) {
        *reader = index_reader_free(*reader);
}
static inline void index_result_freep(struct index_result **result) {
        *result = index_result_free(*result);
}
static inline void index_writer_freep(struct index_writer **writer) {
        *writer = index_writer_free(*writer);
}

#ifdef __cplusplus
}
#endif
