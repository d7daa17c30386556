/*
 * folder -- what lies where an index should be.
 */
#include "stages/engines/index/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION_FILE "iamglass" /* Xapian's; the one that a commit renames into place */
#define VERSION_FRESH "v.tmp"   /* what it is called before */
#define LOCK_FILE "flintlock"

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
               strcmp(name, LOCK_FILE) == 0 || strcmp(name, VERSION_FRESH) == 0 ||
                (n > 6 && strcmp(name + n - 6, ".glass") == 0);
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

/* Xapian's own lock, as it takes it. */
static int lock_take(const char *path, int *ret_lock) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
        char name[PATH_MAX];
        int fd, r;

        if (snprintf(name, sizeof(name), "%s/" LOCK_FILE, path) >= (int)sizeof(name))
                return -ENAMETOOLONG;
        fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd == -1)
                return -errno;
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
                *ret_lock = fd;
                return 0;
        }
        r = errno == EAGAIN || errno == EACCES ? INDEX_E_LOCKED : -errno;
        close(fd);
        return r;
}

static int remove_leftovers(const char *path) {
        char name[PATH_MAX + NAME_MAX];
        struct stat st;
        DIR *dir;
        int r = 0;

        if (stat_version_file(path, &st) == 0)
                return 0; /* somebody has made one by now */
        dir = opendir(path);
        if (!dir)
                return -errno;
        for (const struct dirent *entry; r == 0 && (entry = readdir(dir));) {
                if (entry->d_name[0] == '.' || strcmp(entry->d_name, LOCK_FILE) == 0 ||
                                !is_ours(entry->d_name))
                        continue;
                snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
                if (unlink(name) == -1)
                        r = -errno;
        }
        closedir(dir);
        return r;
}

int folder_clear(const char *path, struct index_error *err) {
        int lock = -1;
        int r = lock_take(path, &lock);

        if (r == 0)
                r = remove_leftovers(path);
        if (lock != -1)
                close(lock);
        if (r == INDEX_E_LOCKED)
                return complain(err, r, "another process is writing to this index");
        return r == 0 ? 0 : complain(err, r, "cannot clear what a killed writer left");
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
