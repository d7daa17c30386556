/*
 * config_fixture -- a folder with one configuration file, for the suites of the configuration.
 *
 * Shape   set_up() and tear_down() are the checked fixture; load() takes what must be right
 * Units   none
 * Owner   the settings that load() returns are the test's
 * Errors  a failed assertion
 * Limits  one file at a time
 */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/config.h"

static char folder[] = "/tmp/millrace-config-XXXXXX";
static char file[128];
static struct config_error err;

static inline void set_up(void) {
        strcpy(folder + strlen(folder) - 6, "XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(file, sizeof(file), "%s/c.yaml", folder);
}

static inline void tear_down(void) {
        unlink(file);
        ck_assert_int_eq(rmdir(folder), 0);
}

static inline void write_bytes(const char *bytes, size_t len) {
        FILE *to = fopen(file, "w");

        ck_assert_ptr_nonnull(to);
        ck_assert_uint_eq(fwrite(bytes, 1, len, to), len);
        ck_assert_int_eq(fclose(to), 0);
}

static inline struct settings *load(const char *yaml) {
        struct settings *s = NULL;

        write_bytes(yaml, strlen(yaml));
        ck_assert_msg(config_load(file, NULL, 0, &s, &err) == 0, "%s", err.line);
        return s;
}
