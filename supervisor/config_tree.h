/*
 * config_tree -- a YAML document as a tree that remembers where each value stood.
 *
 * Shape   nodes: null, scalar, list, map; a child of a map has a key; every node has a line and a
 *         source (the file, one --set, or none for a default)
 * Units   lines count from 1
 * Owner   a tree owns its nodes and texts; sources are the caller's and must outlive the tree
 * Errors  0, -ENOMEM, CONFIG_E_INVALID with the error's line filled
 * Limits  those of config.h
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stages/common/settings.h"
#include "supervisor/config.h"

#define CONFIG_PATH_MAX 512U

enum config_kind {
        CONFIG_NULL,
        CONFIG_SCALAR,
        CONFIG_LIST,
        CONFIG_MAP,
};

struct config_source {
        const char *file; /* NULL: a --set */
        const char *set;
};

struct config_node {
        enum config_kind kind;
        bool plain; /* a scalar without quotes: may be a number or a word */
        unsigned line;
        const struct config_source *source;
        char *key;
        unsigned key_line;
        char *text;
        struct config_node **v;
        uint32_t n;
};

/* ---- build ------------------------------------------------------------------------------- */

int config_tree_parse(const struct config_source *source, const char *bytes, size_t len,
                      struct config_node **ret, struct config_error *err);
int config_tree_read(const struct config_source *source, struct config_node **ret,
                     struct config_error *err);

/* One struct of a shape as a tree, every row present. */
int config_tree_from(const struct settings_shape *shape, const void *base,
                     struct config_node **ret);

struct config_node *config_node_new(enum config_kind kind, const char *key, const char *text,
                                    bool plain);
struct config_node *config_node_free(struct config_node *node);
static inline void config_node_freep(struct config_node **node) {
        *node = config_node_free(*node);
}

/* Takes the child over; on -ENOMEM it is still the caller's. */
int config_node_add(struct config_node *parent, struct config_node *child);

/* Puts `with` in the place and under the key of the child, which is freed. */
int config_node_replace(struct config_node *parent, uint32_t i, struct config_node *with);

/* ---- look -------------------------------------------------------------------------------- */

struct config_node *config_node_child(const struct config_node *map, const char *key);

/* The node of a key path ("inference.workers.0.base_url"), or the nearest one above it. */
const struct config_node *config_node_nearest(const struct config_node *root, const char *path);

/* "a.b" of "a" and "b"; cut at CONFIG_PATH_MAX. */
void config_path_join(char to[CONFIG_PATH_MAX], const char *head, const char *leaf);

/* ---- errors ------------------------------------------------------------------------------ */

/* Fills the error's line and returns CONFIG_E_INVALID. path NULL: the place alone. */
__attribute__((format(printf, 5, 6))) int config_fail(struct config_error *err,
                                                      const struct config_source *source,
                                                      unsigned line, const char *path,
                                                      const char *format, ...);

/* What a node is, for "found ...": `5x`, `"text"`, a list. */
struct config_found {
        char text[80];
};
struct config_found config_found(const struct config_node *node);

/* ---- the steps of config_load ------------------------------------------------------------ */

/* Whether a node is what the row wants. */
int config_check_value(const struct settings_row *row, const struct config_node *node,
                       const char *path, struct config_error *err);

/* One entry of inference.models. */
int config_check_model(const struct config_node *node, const char *path, struct config_error *err);

/* Whether a word is one of YAML's for true or false, and which. */
bool config_truth(const char *text, bool *ret);

/* Whether every key of the map is known and every value right; prefix "" is the shape's top. */
int config_check_map(const struct settings_shape *shape, const char *prefix,
                     const struct config_node *map, const char *path, struct config_error *err);

/* What the row wants, in words. */
void config_expected(const struct settings_row *row, char *to, size_t cap);

/* An unknown key, with the one that may have been meant. */
int config_fail_key(const struct settings_shape *shape, const char *prefix, const char *key,
                    const struct config_source *source, unsigned line, const char *path,
                    struct config_error *err);

/* Merges `over` (checked; taken over, freed) into `base`: sections key by key, the rest whole. */
int config_merge(const struct settings_shape *shape, const char *prefix, struct config_node *base,
                 struct config_node *over);

/* One "key.path=VALUE". */
int config_set(struct config_node *root, const struct config_source *source,
               struct config_error *err);

/* Gives each worker and endpoint the keys that it lacks. */
int config_complete(struct config_node *root, struct config_error *err);

/* The complete tree as settings. */
int config_store(const struct config_node *root, struct settings **ret, struct config_error *err);

/* What no row can say alone: names that must exist, files, addresses, sums. */
int config_check_whole(const struct settings *s, const struct config_node *root,
                       struct config_error *err);
/* What is valid and will not be done by this version: 0 or CONFIG_E_INVALID with the position. */
int config_check_available(const struct settings *s, const struct config_node *root,
                           struct config_error *err);
