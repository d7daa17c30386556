/*
 * test_folder -- a private folder for one test, with files in it.
 */
#pragma once

#include <check.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stages/engines/index/index.h"

static char test_folder[64];

static inline struct index_str str(const char *s) {
        return (struct index_str){s, strlen(s)};
}

/* Prints behind the first n bytes of buf; how many there are then. */
__attribute__((format(printf, 4, 5))) static inline size_t appendf(
                char *buf, size_t room, size_t n, const char *format, ...) {
        va_list args;

        va_start(args, format);
        const int more = vsnprintf(buf + n, room - n, format, args);
        va_end(args);
        ck_assert_int_ge(more, 0);
        ck_assert_uint_lt(n + (size_t)more, room);
        return n + (size_t)more;
}

static inline void folder_setup(void) {
        snprintf(test_folder, sizeof(test_folder), "/tmp/mr-test-index.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(test_folder));
}

static inline int folder_remove_one(
                const char *path, const struct stat *st, int kind, struct FTW *ftw) {
        (void)st;
        (void)kind;
        (void)ftw;
        return remove(path);
}

static inline void folder_empty(const char *path) {
        nftw(path, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void folder_teardown(void) {
        folder_empty(test_folder);
}

/* A path in the folder; good until the eighth call after. */
static inline const char *in_folder(const char *name) {
        static char paths[8][256];
        static unsigned next;
        char *path = paths[next++ % 8];

        snprintf(path, sizeof(paths[0]), "%s/%s", test_folder, name);
        return path;
}

static inline const char *file_write(const char *name, const char *data, size_t n) {
        const char *path = in_folder(name);
        FILE *file = fopen(path, "w");

        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(data, 1, n, file), n);
        ck_assert_int_eq(fclose(file), 0);
        return path;
}
