/*
 * pass -- one look at the watched folders, and the index as they are.
 *
 * Shape   pass_run() takes what the kernel has told since the last one, or looks at everything: at
 *         the start, and when something was not told. Files go in as `millrace index add` takes them,
 *         under their paths; what a file does not hold any more, and the documents of files that are
 *         gone, leave. A folder that is not there keeps its documents
 * Units   nanoseconds
 * Owner   one thread; the strings of the configuration outlive it
 * Errors  none: what went wrong is a line of the report, and is tried again
 * Limits  the index is locked for PASS_SPELL_NS at a time, then others may write for a moment
 *
 * A kill leaves the index as the last commit left it. What was not committed is found by the look at
 * everything with which the successor begins: content that is in the index already is not written.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/index/index.h"
#include "stages/engines/vectors/remote.h"
#include "stages/watch/marks.h"
#include "stages/watch/tree.h"

#define PASS_SPELL_NS (2ull * 1000000000)
#define PASS_LINES 32u

/* What the loop counts; the thread counts up, for ever. */
enum pass_count { PASS_ADDED, PASS_REPLACED, PASS_REMOVED, PASS_REFUSED, PASS_SCANS, PASS_COUNTS };

struct pass_line {
        const char *ev;
        bool warn;
        char text[480];
};

struct pass_report {
        uint64_t took_ns;
        uint64_t pause_ns; /* the next pass is due then, if nothing happens before */
        bool renew;        /* a folder has come or is another one: the sandbox does not fit it */
        uint32_t n_lines, n_unsaid;
        struct pass_line lines[PASS_LINES];
};

/* A folder by its path, and which one it was when the sandbox was made. */
struct pass_place {
        const char *path;
        dev_t device;
        ino_t inode; /* 0: it was not there */
        bool there;
};

struct pass_change {
        char *path;
        bool gone, folder;
};

struct pass {
        struct pass_place index;
        struct pass_place *roots;
        uint32_t n_roots;
        const struct remote_conf *embeddings; /* NULL: none are made */
        const _Atomic bool *stop;
        _Atomic uint64_t *counts; /* PASS_COUNTS */
        struct tree tree;

        /* from pass to pass */
        struct marks stamps;  /* of files whose content is in the index: what they looked like */
        bool full;            /* the next one looks at everything */
        bool unwatched, unwatched_told; /* there are more folders than the kernel will watch */
        uint64_t full_ns;     /* unwatched: when to look at everything again */
        bool vectors_due;
        char failure[160]; /* the last one that was told; "": all is well */

        /* of the one that runs */
        struct pass_report *report;
        struct pass_change *changes;
        size_t n_changes, changes_room;
        struct marks seen;    /* documents and files that are to stay */
        struct buffer leaving; /* whose other documents leave: paths, a NUL behind each; with a slash
                                  at the end, of all below it */
        struct buffer fresh;  /* stamps of files that are not committed yet: struct mark */
        struct index_writer *writer;
        uint64_t writer_ns; /* since when */
        struct index_error err;
        bool partial;      /* not everything could be looked at: nothing leaves for not being seen */
        bool lost;         /* some of it has to be done again */
        uint32_t n_refused; /* of the file at hand */
        bool whole;        /* all of it was refused */
        uint64_t row;
        char why[128]; /* the first time */
};

void pass_run(struct pass *pass, struct pass_report *report);
/* Is it there, and which one is it? For the start. */
void pass_place_see(struct pass_place *place);
