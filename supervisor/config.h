/*
 * config -- defaults, then the file, then --set, into one checked struct settings.
 *
 * Shape   file and --set values become trees that know where each value stood; they are held
 *         against the rows of settings.def, merged over the defaults, loaded, checked as a whole
 * Units   as in the rows
 * Owner   the caller frees the settings with settings_free(); nothing else is kept
 * Errors  0, CONFIG_E_INVALID (the error holds one line that says where and what), -errno
 * Limits  CONFIG_FILE_MAX bytes, CONFIG_DEPTH_MAX levels, CONFIG_NODES_MAX values; no alias bombs
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "stages/common/settings.h"

#define CONFIG_FILE_MAX (1024U * 1024)
#define CONFIG_DEPTH_MAX 16U
#define CONFIG_NODES_MAX 20000U
#define CONFIG_ROWS_MAX 160U

enum {
        CONFIG_E_INVALID = 1,
};

/* `FILE:LINE: key.path: found ..., expected ...`; for --set `--set key.path=VALUE: found ...`. */
struct config_error {
        char line[1280];
};

/* path NULL: no file. sets: "key.path=VALUE", applied in order; list elements by number. */
int config_load(const char *path, const char *const *sets, unsigned n_sets, struct settings **ret,
                struct config_error *err);
/* The same for a daemon that is to run with it: what this version cannot do yet is refused as well,
 * for a redaction or a key that is configured and ignored would be worse than none. */
int config_load_to_run(const char *path, const char *const *sets, unsigned n_sets,
                       struct settings **ret, struct config_error *err);

/* ---- reload ------------------------------------------------------------------------------ */

struct config_diff {
        uint32_t n_changed;
        uint32_t n_restart; /* of them: rows that a reload cannot apply */
        uint32_t at;        /* AT_* bits of those that read a changed row */
        const struct settings_row *changed[CONFIG_ROWS_MAX];
};

void config_diff(const struct settings *before, const struct settings *after,
                 struct config_diff *ret);
/* Of the contents of the files that settings name and a worker reads when it starts: AT_* bits of
 * those that read any, and a digest that differs when one has changed. */
uint32_t config_files(const struct settings *s, uint64_t *ret_digest);

/* ---- printing ---------------------------------------------------------------------------- */

/* YAML; with a sentence above each key, as `config --defaults` has it. */
int config_print_yaml(FILE *to, const struct settings *s, bool sentences);

/* One JSON object on one line. */
int config_print_json(FILE *to, const struct settings *s);

/* The JSON Schema of the file. */
int config_print_schema(FILE *to);

/* docs/configuration.md. */
int config_print_manual(FILE *to);
