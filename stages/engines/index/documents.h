/*
 * documents -- files, folders and streams, as documents cut into chunks.
 *
 * Shape   .txt .md .html are one document each, .jsonl one a row; a folder is read with those below
 *         it, in the order of names, but for hidden entries and links; "-" is standard input, rows
 *         when its first byte is a brace and plain text otherwise
 * Units   bytes; rows count from 1
 * Owner   what on_document() gets lives until it returns
 * Errors  0, -ENOMEM, -EINTR (a signal came while it waited for bytes), or what on_document()
 *         returned; what could not go in is told to on_refused() and the rest goes on
 * Limits  DOCUMENTS_BYTES_MAX for one document or row; files of rows have none, they are streamed
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "stages/engines/index/index.h"

#define DOCUMENTS_BYTES_MAX (64u << 20)

struct documents_sink {
        /* 0, or anything else to stop the reading, which documents_read() then returns. */
        int (*on_document)(const struct index_document *doc, uint64_t row, void *ctx);
        /* row 0: the whole file. */
        void (*on_refused)(const char *file, uint64_t row, const char *why, void *ctx);
        /* So many more bytes have been read. */
        void (*on_read)(uint64_t n_bytes, void *ctx);
        void *ctx;
};

int documents_read(const char *path, const struct documents_sink *sink);
/* One file, whatever its name. */
int documents_read_file(const char *path, const struct documents_sink *sink);

/* What documents_read() would read below a path. */
struct documents_walk {
        /* A folder, before it is listed; false: it is passed over. NULL: none is. */
        bool (*on_folder)(const char *path, const struct stat *st, void *ctx);
        /* 0, or anything else to end the walk, which is then returned. */
        int (*on_file)(const char *path, const struct stat *st, void *ctx);
        void (*on_refused)(const char *path, uint64_t row, const char *why, void *ctx); /* or NULL */
        void *ctx;
};
int documents_walk(const char *path, const struct documents_walk *walk);
/* By its name: of a kind that is known, and of rows. */
bool documents_takes(const char *path);
bool documents_has_rows(const char *path);
/* Bytes that documents_read() will read; 0 for what cannot be known. */
uint64_t documents_bytes(const char *path);

/* Without "./" and doubled or trailing slashes: the id of a file's document. 0 or -ENAMETOOLONG. */
int documents_id(const char *path, char *buf, size_t n);
/* Where the first byte lies that is no UTF-8; n_bytes when all is well. */
size_t documents_utf8_end(struct index_str text);
