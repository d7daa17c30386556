/*
 * sandbox_table -- what a worker of each role may do, beyond what every worker may.
 *
 * Shape   one row for each role. The system calls of a set are rows of sandbox_calls.def; when the
 *         daemon is built, sandbox_compile.c makes one filter for each row out of them
 * Units   none
 * Owner   constant
 * Errors  none
 * Limits  SANDBOX_OPS_MAX operations of io_uring beyond those of the loop itself
 *
 * What a row grants holds only where the settings name what it is for: rag without an index, stream
 * without a database and inference without a backend have the bare filter and no path at all.
 */
#pragma once

#include <linux/filter.h>
#include <stdint.h>

#include "shm/layout.h"

/* Sanitizers read /proc, start a symbolizer and map terabytes: their builds run without filter,
 * Landlock and memory cap. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
                __has_feature(memory_sanitizer)
#define MR_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MR_SANITIZED 1
#endif
#ifndef MR_SANITIZED
#define MR_SANITIZED 0
#endif

/* Sets of system calls. */
enum sandbox_may {
        MAY_ALWAYS = 1 << 0,  /* every worker */
        MAY_SERVE = 1 << 1,   /* use connections that its loop has accepted */
        MAY_THREAD = 1 << 2,  /* start threads; no processes */
        MAY_READ = 1 << 3,    /* open files for reading, where Landlock lets it */
        MAY_WRITE = 1 << 4,   /* and for writing */
        MAY_CONNECT = 1 << 5, /* sockets of its own, TCP and UDP, outwards only */
        MAY_FAULT = 1 << 6,   /* every worker of a build with fault points */
        MAY_WATCH = 1 << 7,   /* be told what changes in folders, with a descriptor it has */
};

/* Which files, and where they are looked up. */
enum sandbox_place {
        PLACE_NONE,     /* none; the row always holds */
        PLACE_INDEX,    /* rag.index, read */
        PLACE_BACKENDS, /* what resolver and TLS read; TCP to the ports of the backends */
        PLACE_RETRIEVAL, /* PLACE_INDEX and PLACE_BACKENDS, of rag.embeddings and rag.rerank */
        PLACE_DATABASE, /* the folder of stream.database, read and written */
        PLACE_HISTORY,  /* the same folder, read: where sessions are kept */
        PLACE_WATCHED, /* the folders of rag.watch, read; rag.index, read and written */
        PLACE_WATCHED_ASKING, /* and PLACE_BACKENDS, of rag.embeddings */
};

#define SANDBOX_OPS_MAX 4

struct sandbox_row {
        uint32_t may; /* MAY_*, but for those that are everybody's */
        enum sandbox_place place;
        uint8_t n_ops;
        uint8_t ops[SANDBOX_OPS_MAX]; /* IORING_OP_* */
};

extern const struct sandbox_row sandbox_rows[ROLES_N];
/* The row of a role whose settings name nothing. */
extern const struct sandbox_row sandbox_bare;
/* Those of rag and of watch where they ask services. */
extern const struct sandbox_row sandbox_retrieval;
extern const struct sandbox_row sandbox_watching;

/* All MAY_* bits of a row. */
static inline uint32_t sandbox_may(const struct sandbox_row *row) {
#ifdef MR_FAULTS
        return row->may | MAY_ALWAYS | MAY_FAULT;
#else
        return row->may | MAY_ALWAYS;
#endif
}

/* Stands in the filters where the process's own number belongs. */
#define SANDBOX_OWN_PID 0x5eed0001u

/* Made by sandbox_compile.c: by role, and the bare one. */
extern const struct sock_fprog sandbox_filters[ROLES_N];
extern const struct sock_fprog sandbox_filter_bare;
extern const struct sock_fprog sandbox_filter_retrieval;
extern const struct sock_fprog sandbox_filter_watching;
