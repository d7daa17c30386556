/*
 * folder -- the templates of a folder: its files NAME.mustache, compiled.
 *
 * Shape   one struct mustache_file for each, sorted by name; one that is broken is there all the same,
 *         with what is wrong instead of a program
 * Units   bytes
 * Owner   whoever called mustache_folder_load(); mustache_folder_clear() takes {0} and what was cleared
 * Errors  0, -errno of the folder itself, -E2BIG
 * Limits  FOLDER_FILES_MAX files of FOLDER_FILE_BYTES_MAX bytes; names as NAME_MAX has them; other
 *         files and folders within are not looked at
 */
#pragma once

#include "stages/engines/mustache/front.h"

#define FOLDER_FILES_MAX 4096u
#define FOLDER_FILE_BYTES_MAX 1048576u

struct mustache_file {
        char *name; /* without .mustache */
        struct mustache_front front;
        struct mustache *t;        /* NULL: it is broken */
        struct mustache_error err; /* then */
        uint64_t digest;           /* of its bytes */
};

struct mustache_folder {
        struct mustache_file *files;
        uint32_t n, cap;
};

int mustache_folder_load(const char *path, struct mustache_folder *ret);
void mustache_folder_clear(struct mustache_folder *folder);
/* NULL: there is none of that name. */
const struct mustache_file *mustache_folder_find(
                const struct mustache_folder *folder, struct mustache_text name);
/* Of names and contents: equal when nothing has changed. */
uint64_t mustache_folder_digest(const struct mustache_folder *folder);
