/*
 * tree -- the folders that the kernel tells of, and what it has told.
 *
 * Shape   an inotify descriptor, and the path of each folder that it watches; tree_next() turns what
 *         the kernel says into paths
 * Units   none
 * Owner   one thread; tree_open() may come before the sandbox, which takes the right to open one
 * Errors  0 or -errno; -ENOSPC: the user's share of watches is used up
 * Limits  those of fs.inotify; what overflows the kernel's queue is told as one TREE_LOST
 *
 * A folder that moves keeps its watch, and its old path would be wrong: so its watches go when it
 * leaves, and come again where it arrives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum tree_kind {
        TREE_CHANGED, /* a file is new or has been written, a folder is new: look at the path */
        TREE_GONE,    /* what was at the path is not there any more */
        TREE_LOST,    /* some of all this was not told: look at everything */
};

struct tree_event {
        enum tree_kind kind;
        bool folder;
        char *path; /* owned by who takes it; NULL: TREE_LOST */
};

struct tree_watch {
        int wd;
        bool added; /* since tree_begin() */
        char *path;
};

struct tree {
        int fd;
        struct tree_watch *watches; /* in the order of wd */
        size_t n, room;
        size_t n_bytes, at; /* of what has been read, and of that what has been told */
        char bytes[16384] __attribute__((aligned(8)));
};

int tree_open(struct tree *tree);
void tree_close(struct tree *tree);
/* Watches a folder from now on; known ones may come again. link: the path may be one. */
int tree_add(struct tree *tree, const char *path, bool link);
/* All folders are about to be added again; at the end those that were not are let go of. */
void tree_begin(struct tree *tree);
void tree_end(struct tree *tree);
/* 1: *ret_event is the next one. 0: nothing more has happened. -errno. */
int tree_next(struct tree *tree, struct tree_event *ret_event);
