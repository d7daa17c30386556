/* The order of things: defaults, over them the file, over them each --set; sections merge key by
 * key, everything else is replaced as a whole. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/settings_value.h"
#include "supervisor/config_tree.h"

/* ---- unknown keys ------------------------------------------------------------------------ */

/* Edits between two words: insert, delete, change, swap of neighbours. Long words are far away. */
static unsigned distance(const char *a, const char *b) {
        enum { N = 32 };
        unsigned d[N + 1][N + 1];
        size_t n = strlen(a), m = strlen(b);

        if (n > N || m > N)
                return N;
        for (size_t i = 0; i <= n; i++)
                for (size_t j = 0; j <= m; j++) {
                        unsigned best;

                        if (i == 0 || j == 0) {
                                d[i][j] = (unsigned)(i + j);
                                continue;
                        }
                        best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
                        if (d[i - 1][j] + 1 < best)
                                best = d[i - 1][j] + 1;
                        if (d[i][j - 1] + 1 < best)
                                best = d[i][j - 1] + 1;
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                            d[i - 2][j - 2] + 1 < best)
                                best = d[i - 2][j - 2] + 1;
                        d[i][j] = best;
                }
        return d[n][m];
}

/* A key that is only short of its unit is as near as one with a letter wrong. */
static unsigned nearness(const char *key, const char *candidate) {
        size_t len = strlen(key);

        if (strncmp(key, candidate, len) == 0 && candidate[len] == '_')
                return 1;
        return distance(key, candidate);
}

/* A path that was written as one key, or a key of the same section that is spelled nearly so, or
 * one of this name elsewhere. */
static const char *did_you_mean(const struct settings_shape *shape, const char *prefix,
                                const char *key) {
        unsigned best_distance = (unsigned)strlen(key) / 3 + 2;
        const char *best = NULL;

        if (strchr(key, '.') && settings_row_find(shape, key))
                return settings_row_find(shape, key)->path;
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const char *candidate = settings_key_in(&shape->rows[i], prefix);

                if (candidate && nearness(key, candidate) < best_distance) {
                        best_distance = nearness(key, candidate);
                        best = candidate;
                }
        }
        for (uint32_t i = 0; !best && i < shape->n_rows; i++) {
                const char *path = shape->rows[i].path;
                const char *dot = strrchr(path, '.');

                if (dot && strcmp(dot + 1, key) == 0)
                        best = path;
        }
        return best;
}

static void keys_of(const struct settings_shape *shape, const char *prefix, char *to, size_t cap) {
        size_t len = 0;

        *to = '\0';
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const char *key = settings_key_in(&shape->rows[i], prefix);

                if (key && len + strlen(key) + 3 < cap)
                        len += (size_t)snprintf(to + len, cap - len, "%s%s", len ? ", " : "", key);
        }
}

int config_fail_key(const struct settings_shape *shape, const char *prefix, const char *key,
                    const struct config_source *source, unsigned line, const char *path,
                    struct config_error *err) {
        const char *meant = did_you_mean(shape, prefix, key);
        const char *dot = meant ? strrchr(meant, '.') : NULL;
        char keys[400];

        if (dot)
                return config_fail(err, source, line, path,
                                   "found an unknown key, did you mean `%s` in the section `%.*s`?",
                                   dot + 1, (int)(dot - meant), meant);
        if (meant)
                return config_fail(err, source, line, path,
                                   "found an unknown key, did you mean `%s`?", meant);
        keys_of(shape, prefix, keys, sizeof(keys));
        return config_fail(err, source, line, path, "found an unknown key, expected one of %s",
                           keys);
}

/* ---- check ------------------------------------------------------------------------------- */

/* A key with a dot in it is no key path: only nesting is. */
static const struct settings_row *row_of(const struct settings_shape *shape, const char *prefix,
                                         const char *key) {
        char path[CONFIG_PATH_MAX];

        if (strchr(key, '.'))
                return NULL;
        config_path_join(path, prefix, key);
        return settings_row_find(shape, path);
}

int config_check_map(const struct settings_shape *shape, const char *prefix,
                     const struct config_node *map, const char *path, struct config_error *err) {
        char child_path[CONFIG_PATH_MAX];
        int r;

        if (map->kind != CONFIG_MAP)
                return config_fail(err, map->source, map->line, path, "found %s, expected a map",
                                   config_found(map).text);
        for (uint32_t i = 0; i < map->n; i++) {
                const struct config_node *child = map->v[i];
                const struct settings_row *row = row_of(shape, prefix, child->key);

                config_path_join(child_path, path, child->key);
                if (!row)
                        return config_fail_key(shape, prefix, child->key, child->source,
                                               child->key_line, child_path, err);
                if (row->type != SETTINGS_SECTION)
                        r = config_check_value(row, child, child_path, err);
                else if (child->kind == CONFIG_NULL)
                        r = 0; /* a section whose keys are all commented out */
                else
                        r = config_check_map(shape, row->path, child, child_path, err);
                if (r)
                        return r;
        }
        return 0;
}

/* ---- merge ------------------------------------------------------------------------------- */

static int merge_child(const struct settings_shape *shape, const char *prefix,
                       struct config_node *base, struct config_node **child) {
        const struct settings_row *row = row_of(shape, prefix, (*child)->key);
        struct config_node *own;
        int r;

        for (uint32_t i = 0; i < base->n; i++) {
                if (strcmp(base->v[i]->key, (*child)->key) != 0)
                        continue;
                if (row->type == SETTINGS_SECTION) {
                        own = *child;
                        *child = NULL;
                        return config_merge(shape, row->path, base->v[i], own);
                }
                r = config_node_replace(base, i, *child);
                if (r == 0)
                        *child = NULL;
                return r;
        }
        r = config_node_add(base, *child);
        if (r == 0)
                *child = NULL;
        return r;
}

int config_merge(const struct settings_shape *shape, const char *prefix, struct config_node *base,
                 struct config_node *over) {
        __attribute__((cleanup(config_node_freep))) struct config_node *own = over;
        int r;

        for (uint32_t i = 0; i < own->n; i++) {
                r = merge_child(shape, prefix, base, &own->v[i]);
                if (r)
                        return r;
        }
        return 0;
}

/* ---- complete ---------------------------------------------------------------------------- */

/* Lays the element over its shape's defaults. */
static int complete_map(const struct settings_shape *shape, struct config_node *parent, uint32_t i,
                        const char *path, struct config_error *err) {
        union {
                struct settings_worker worker;
                struct settings_endpoint endpoint;
        } base;
        __attribute__((cleanup(config_node_freep))) struct config_node *full = NULL;
        struct config_node *given = parent->v[i];
        int r;

        for (uint32_t k = 0; k < shape->n_required; k++) {
                const struct config_node *child = config_node_child(given, shape->rows[k].path);

                if (!child || child->kind == CONFIG_NULL)
                        return config_fail(err, given->source, given->line, path,
                                           "found no `%s`, expected it to be given",
                                           shape->rows[k].path);
        }
        r = settings_shape_default(shape, &base);
        if (r)
                return r;
        r = config_tree_from(shape, &base, &full);
        settings_shape_clear(shape, &base);
        if (r)
                return r;
        full->line = given->line;
        full->source = given->source;
        for (uint32_t k = 0; k < given->n; k++) {
                r = merge_child(shape, "", full, &given->v[k]);
                if (r)
                        return r;
        }
        r = config_node_replace(parent, i, full);
        if (r == 0)
                full = NULL;
        return r;
}

static int complete_child(const struct settings_row *row, struct config_node *parent, uint32_t i,
                          struct config_error *err) {
        struct config_node *node = parent->v[i];
        char path[CONFIG_PATH_MAX], number[16];
        int r;

        if (row->type == SETTINGS_ENDPOINT && node->kind == CONFIG_MAP)
                return complete_map(&settings_endpoint_shape, parent, i, row->path, err);
        if (row->type != SETTINGS_WORKERS)
                return 0;
        for (uint32_t k = 0; k < node->n; k++) {
                snprintf(number, sizeof(number), "%u", k);
                config_path_join(path, row->path, number);
                r = complete_map(&settings_worker_shape, node, k, path, err);
                if (r)
                        return r;
        }
        return 0;
}

static int complete_section(const char *prefix, struct config_node *map, struct config_error *err) {
        const struct settings_row *row;
        int r;

        for (uint32_t i = 0; i < map->n; i++) {
                row = row_of(&settings_shape, prefix, map->v[i]->key);
                r = row->type == SETTINGS_SECTION ? complete_section(row->path, map->v[i], err)
                                                  : complete_child(row, map, i, err);
                if (r)
                        return r;
        }
        return 0;
}

int config_complete(struct config_node *root, struct config_error *err) {
        return complete_section("", root, err);
}
