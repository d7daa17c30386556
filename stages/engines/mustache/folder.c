#include "stages/engines/mustache/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#define ENDING ".mustache"
#define ENDING_N (sizeof(ENDING) - 1)

static void closedirp(DIR **dir) {
        if (*dir)
                closedir(*dir);
}

static bool is_template(const char *name, size_t *ret_n) {
        size_t n = strlen(name);

        if (n <= ENDING_N || name[0] == '.' || strcmp(name + n - ENDING_N, ENDING) != 0)
                return false;
        *ret_n = n - ENDING_N;
        return true;
}

static int add(struct mustache_folder *folder, const char *name, size_t n) {
        if (folder->n == FOLDER_FILES_MAX)
                return -E2BIG;
        if (folder->n == folder->cap) {
                uint32_t cap = folder->cap ? folder->cap * 2 : 16;
                struct mustache_file *more = realloc(folder->files, cap * sizeof(*more));
                if (!more)
                        return -ENOMEM;
                folder->files = more;
                folder->cap = cap;
        }
        struct mustache_file *file = &folder->files[folder->n];
        *file = (struct mustache_file){.name = strndup(name, n)};
        if (!file->name)
                return -ENOMEM;
        folder->n++;
        return 0;
}

static void broken(struct mustache_file *file, const char *why) {
        if (file->err.line)
                return;
        file->err.line = file->err.column = 1;
        snprintf(file->err.text, sizeof(file->err.text), "%s", why);
}

/* All of it, at most one byte more than is allowed; to be freed. */
static char *slurp(int dir, const char *name, size_t *ret_n) {
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        struct stat st;
        char *bytes = NULL;
        ssize_t got = 1;
        size_t n = 0;

        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                bytes = malloc(FOLDER_FILE_BYTES_MAX + 1);
        else if (fd >= 0)
                errno = EINVAL;
        while (bytes && got > 0 && n <= FOLDER_FILE_BYTES_MAX) {
                got = read(fd, bytes + n, FOLDER_FILE_BYTES_MAX + 1 - n);
                n += got > 0 ? (size_t)got : 0;
        }
        if (fd >= 0)
                close(fd);
        if (got < 0) {
                free(bytes);
                return NULL;
        }
        *ret_n = n;
        return bytes;
}

static int compile(struct mustache_file *file, const char *bytes, size_t n) {
        char name[sizeof(file->err.name)];
        int r = mustache_front_read(bytes, n, &file->front, &file->err);

        snprintf(name, sizeof(name), "%.200s" ENDING, file->name);
        if (!r)
                r = mustache_compile(name, bytes, n, file->front.body, &file->t, &file->err);
        return r < 0 ? r : 0;
}

static int read_file(struct mustache_file *file, int dir) {
        char path[NAME_MAX + 1];
        size_t n = 0;
        char *bytes;
        int r = 0;

        snprintf(path, sizeof(path), "%s" ENDING, file->name);
        bytes = slurp(dir, path, &n);
        if (!bytes)
                broken(file, strerror(errno));
        else if (n > FOLDER_FILE_BYTES_MAX)
                broken(file, "longer than 1 MiB");
        else if (strcmp(file->name, "builtin") == 0)
                broken(file, "the name builtin is taken");
        else
                r = compile(file, bytes, n);
        if (bytes)
                file->digest = XXH3_64bits(bytes, n);
        free(bytes);
        return r;
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const struct mustache_file *)a)->name,
                        ((const struct mustache_file *)b)->name);
}

int mustache_folder_load(const char *path, struct mustache_folder *ret) {
        __attribute__((cleanup(mustache_folder_clear))) struct mustache_folder folder = {0};
        __attribute__((cleanup(closedirp))) DIR *dir = opendir(path);
        size_t n;
        int r = 0;

        if (!dir)
                return -errno;
        errno = 0;
        for (struct dirent *e = readdir(dir); e && !r; e = readdir(dir)) {
                if (is_template(e->d_name, &n))
                        r = add(&folder, e->d_name, n);
                errno = 0;
        }
        if (!r && errno)
                r = -errno;
        if (!r && folder.n)
                qsort(folder.files, folder.n, sizeof(*folder.files), by_name);
        for (uint32_t i = 0; !r && i < folder.n; i++)
                r = read_file(&folder.files[i], dirfd(dir));
        if (r)
                return r;
        *ret = folder;
        folder = (struct mustache_folder){0};
        return 0;
}

void mustache_folder_clear(struct mustache_folder *folder) {
        for (uint32_t i = 0; i < folder->n; i++) {
                mustache_front_clear(&folder->files[i].front);
                mustache_free(folder->files[i].t);
                free(folder->files[i].name);
        }
        free(folder->files);
        *folder = (struct mustache_folder){0};
}

const struct mustache_file *mustache_folder_find(
                const struct mustache_folder *folder, struct mustache_text name) {
        for (uint32_t i = 0; i < folder->n; i++)
                if (strlen(folder->files[i].name) == name.n &&
                                memcmp(folder->files[i].name, name.p, name.n) == 0)
                        return &folder->files[i];
        return NULL;
}

uint64_t mustache_folder_digest(const struct mustache_folder *folder) {
        uint64_t digest = XXH3_64bits("", 0);

        for (uint32_t i = 0; i < folder->n; i++) {
                const struct mustache_file *file = &folder->files[i];
                digest = XXH3_64bits_withSeed(file->name, strlen(file->name) + 1, digest);
                digest = XXH3_64bits_withSeed(&file->digest, sizeof(file->digest), digest);
        }
        return digest;
}
