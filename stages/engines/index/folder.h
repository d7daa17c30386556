/*
 * folder -- the place where an index lies, looked at before Xapian does.
 *
 * Shape   Xapian would take a plain file for a list of other databases to open, and a folder of
 *         somebody's for a place to write into; both are refused here
 * Owner   paths are the caller's
 * Errors  0, -errno, INDEX_E_MISSING, _FOREIGN or _LOCKED, with a sentence in *err
 * Limits  PATH_MAX
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/engines/index/index.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every commit: each renames a new file over the one looked at. */
struct folder_stamp {
        uint64_t device;
        uint64_t inode;
        int64_t s;
        int64_t ns;
};

/* 0: an index or another Xapian database lies there. INDEX_E_MISSING: nothing does, or only what a
 * writer leaves that was killed before its first commit. */
int folder_look(const char *path, struct index_error *err, struct folder_stamp *ret_stamp);
/* Of a folder that holds no index: takes away what a writer left that was killed before its first
 * commit, which Xapian would take for a broken one. */
int folder_clear(const char *path, struct index_error *err);
/* One call to the system: is it still as it was? */
bool folder_same(const char *path, const struct folder_stamp *stamp);
/* With the folders above it, mode 0700 each that is new. */
int folder_make(const char *path, struct index_error *err);

#ifdef __cplusplus
}
#endif
