#include "stages/watch/tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* A file counts when who wrote it closes it; what is made by a link or a rename has been. */
#define MASK (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)

int tree_open(struct tree *tree) {
        *tree = (struct tree){.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
        return tree->fd == -1 ? -errno : 0;
}

void tree_close(struct tree *tree) {
        for (size_t i = 0; i < tree->n; i++)
                free(tree->watches[i].path);
        free(tree->watches);
        if (tree->fd != -1)
                close(tree->fd);
        *tree = (struct tree){.fd = -1};
}

/* ---- which folders --------------------------------------------------------------------------- */

/* The first one with this number or a higher one. */
static size_t find(const struct tree *tree, int wd) {
        size_t from = 0, to = tree->n;

        while (from < to) {
                const size_t middle = (from + to) / 2;

                if (tree->watches[middle].wd < wd)
                        from = middle + 1;
                else
                        to = middle;
        }
        return from;
}

static int make_room(struct tree *tree) {
        const size_t room = tree->room > 0 ? tree->room * 2 : 64;
        struct tree_watch *more;

        if (tree->n < tree->room)
                return 0;
        more = realloc(tree->watches, room * sizeof(*more));
        if (!more)
                return -ENOMEM;
        tree->watches = more;
        tree->room = room;
        return 0;
}

static void drop(struct tree *tree, size_t i) {
        free(tree->watches[i].path);
        tree->n--;
        memmove(&tree->watches[i], &tree->watches[i + 1], (tree->n - i) * sizeof(*tree->watches));
}

int tree_add(struct tree *tree, const char *path, bool link) {
        char *copy = make_room(tree) == 0 ? strdup(path) : NULL;
        size_t i;
        int wd;

        if (!copy)
                return -ENOMEM;
        wd = inotify_add_watch(tree->fd, path, link ? MASK : MASK | IN_DONT_FOLLOW);
        if (wd == -1) {
                free(copy);
                return -errno;
        }
        i = find(tree, wd);
        if (i < tree->n && tree->watches[i].wd == wd) {
                free(tree->watches[i].path);
        } else {
                memmove(&tree->watches[i + 1], &tree->watches[i],
                                (tree->n - i) * sizeof(*tree->watches));
                tree->n++;
        }
        tree->watches[i] = (struct tree_watch){.wd = wd, .added = true, .path = copy};
        return 0;
}

void tree_begin(struct tree *tree) {
        for (size_t i = 0; i < tree->n; i++)
                tree->watches[i].added = false;
}

static void let_go(struct tree *tree, size_t i) {
        (void)inotify_rm_watch(tree->fd, tree->watches[i].wd);
        drop(tree, i);
}

void tree_end(struct tree *tree) {
        for (size_t i = tree->n; i-- > 0;)
                if (!tree->watches[i].added)
                        let_go(tree, i);
}

/* The folder and those below it. */
static void forget(struct tree *tree, const char *path) {
        const size_t len = strlen(path);

        for (size_t i = tree->n; i-- > 0;) {
                const char *of = tree->watches[i].path;

                if (strncmp(of, path, len) == 0 && (of[len] == '\0' || of[len] == '/'))
                        let_go(tree, i);
        }
}

/* ---- what happened --------------------------------------------------------------------------- */

/* 0: it says nothing to us. */
static int understand(struct tree *tree, const struct inotify_event *event,
                struct tree_event *ret_event) {
        const size_t i = find(tree, event->wd);
        const bool folder = event->mask & IN_ISDIR;
        char *path = NULL;

        if (event->mask & (IN_Q_OVERFLOW | IN_UNMOUNT)) {
                *ret_event = (struct tree_event){.kind = TREE_LOST};
                return 1;
        }
        if (i == tree->n || tree->watches[i].wd != event->wd)
                return 0;
        if (event->mask & IN_IGNORED) {
                drop(tree, i);
                return 0;
        }
        if (event->len == 0 || event->name[0] == '.' || event->name[0] == '\0')
                return 0; /* hidden ones are passed over */
        if (asprintf(&path, "%s%s%s", tree->watches[i].path,
                            strcmp(tree->watches[i].path, "/") == 0 ? "" : "/", event->name) == -1)
                return -ENOMEM;
        if (folder && event->mask & (IN_MOVED_FROM | IN_DELETE))
                forget(tree, path);
        *ret_event = (struct tree_event){
                        .kind = event->mask & (IN_MOVED_FROM | IN_DELETE) ? TREE_GONE
                                                                          : TREE_CHANGED,
                        .folder = folder,
                        .path = path};
        return 1;
}

int tree_next(struct tree *tree, struct tree_event *ret_event) {
        for (;;) {
                const struct inotify_event *event = (const void *)(tree->bytes + tree->at);
                ssize_t n;
                int r;

                if (tree->at < tree->n_bytes) {
                        tree->at += sizeof(*event) + event->len;
                        r = understand(tree, event, ret_event);
                        if (r != 0)
                                return r;
                        continue;
                }
                n = read(tree->fd, tree->bytes, sizeof(tree->bytes));
                if (n == -1)
                        return errno == EAGAIN ? 0 : -errno;
                tree->n_bytes = (size_t)n;
                tree->at = 0;
        }
}
