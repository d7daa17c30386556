/*
 * folder -- what lies where an index should be.
 */
#include "stages/engines/index/folder.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VERSION_FILE "iamglass" /* Xapian's; the one that a commit renames into place */

static int complain(struct index_error *err, int code, const char *what) {
        if (err && code < 0)
                snprintf(err->text, sizeof(err->text), "%s: %s", what, strerror(-code));
        else if (err)
                snprintf(err->text, sizeof(err->text), "%s", what);
        return code;
}

static int stat_version_file(const char *path, struct stat *st) {
        char name[PATH_MAX];

        if (snprintf(name, sizeof(name), "%s/" VERSION_FILE, path) >= (int)sizeof(name))
                return -ENAMETOOLONG;
        return stat(name, st) == -1 ? -errno : 0;
}

static struct folder_stamp stamp_of(const struct stat *st) {
        return (struct folder_stamp){
                        st->st_dev, st->st_ino, st->st_mtim.tv_sec, st->st_mtim.tv_nsec};
}

static bool is_ours(const char *name) {
        const size_t n = strlen(name);

        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
               strcmp(name, "flintlock") == 0 || (n > 6 && strcmp(name + n - 6, ".glass") == 0);
}

static int look_at_entries(const char *path, struct index_error *err) {
        DIR *dir = opendir(path);
        bool foreign = false;

        if (!dir)
                return complain(err, -errno, "cannot read the folder");
        for (const struct dirent *entry; !foreign && (entry = readdir(dir));)
                foreign = !is_ours(entry->d_name);
        closedir(dir);
        if (foreign)
                return complain(err, INDEX_E_FOREIGN,
                                "a folder that holds something else, no index");
        return complain(err, INDEX_E_MISSING, "an empty folder, no index");
}

int folder_look(const char *path, struct index_error *err, struct folder_stamp *ret_stamp) {
        struct stat st;
        int r;

        if (stat(path, &st) == -1)
                return errno == ENOENT ? complain(err, INDEX_E_MISSING, "there is no index")
                                       : complain(err, -errno, "cannot look at it");
        if (!S_ISDIR(st.st_mode))
                return complain(err, INDEX_E_FOREIGN, "it is no folder, and an index is one");
        r = stat_version_file(path, &st);
        if (r == -ENOENT)
                return look_at_entries(path, err);
        if (r < 0)
                return complain(err, r, "cannot look into it");
        *ret_stamp = stamp_of(&st);
        return 0;
}

bool folder_same(const char *path, const struct folder_stamp *stamp) {
        struct stat st;

        if (stat_version_file(path, &st) != 0)
                return false;
        const struct folder_stamp now = stamp_of(&st);
        return now.device == stamp->device && now.inode == stamp->inode && now.s == stamp->s &&
               now.ns == stamp->ns;
}

int folder_make(const char *path, struct index_error *err) {
        char name[PATH_MAX];
        const size_t n = strlen(path);

        if (n == 0 || n >= sizeof(name))
                return complain(err, n == 0 ? -ENOENT : -ENAMETOOLONG, "cannot make the folder");
        memcpy(name, path, n + 1);
        for (size_t i = 1; i <= n; i++) {
                if (name[i] != '/' && name[i] != '\0')
                        continue;
                name[i] = '\0';
                if (mkdir(name, 0700) == -1 && errno != EEXIST)
                        return complain(err, -errno, "cannot make the folder");
                if (i < n)
                        name[i] = '/';
        }
        return 0;
}
