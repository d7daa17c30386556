/* --set key.path=VALUE: the path leads into the merged tree, list elements by number (one past the
 * end appends), a model by all that is left of the path; VALUE is YAML. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config_tree.h"

/* Where the path has led so far. */
struct place {
        const struct settings_shape *shape;
        const char *prefix; /* of the section in the shape */
        struct config_node *map;
        const struct config_source *source;
        struct config_error *err;
        const char *whole; /* the key path, for errors */
};

static int place_value(const struct place *at, const struct settings_row *row, const char *key,
                       struct config_node **value) {
        __attribute__((cleanup(config_node_freep))) struct config_node *over = NULL;
        struct config_node *own;
        int r;

        (*value)->key = strdup(key);
        over = config_node_new(CONFIG_MAP, NULL, NULL, false);
        if (!(*value)->key || !over)
                return -ENOMEM;
        if (row->type == SETTINGS_SECTION)
                r = config_check_map(at->shape, row->path, *value, at->whole, at->err);
        else
                r = config_check_value(row, *value, at->whole, at->err);
        if (r)
                return r;
        r = config_node_add(over, *value);
        if (r)
                return r;
        *value = NULL;
        own = over;
        over = NULL;
        return config_merge(at->shape, at->prefix, at->map, own);
}

/* ---- lists ------------------------------------------------------------------------------- */

/* The number in front of the rest of the path: 0 to n. */
static int read_index(const struct place *at, const struct config_node *list, const char *path,
                      uint32_t *ret, const char **ret_rest) {
        size_t len = strspn(path, "0123456789");
        unsigned long i = strtoul(path, NULL, 10);

        if (len == 0 || len > 6 || (path[len] != '.' && path[len] != '\0') || i > list->n)
                return config_fail(at->err, at->source, 0, at->whole,
                                   "found `%.*s`, expected the number of an element, 0 to %u",
                                   (int)strcspn(path, "."), path, list->n);
        *ret = (uint32_t)i;
        *ret_rest = path + len + (path[len] == '.');
        return 0;
}

/* Element i, made when it is one past the end. */
static int list_put(struct config_node *list, uint32_t i, struct config_node **value) {
        int r = i < list->n ? config_node_replace(list, i, *value) : config_node_add(list, *value);

        if (r == 0)
                *value = NULL;
        return r;
}

static int set_text(const struct place *at, const struct settings_row *row,
                    struct config_node *list, const char *path, struct config_node **value) {
        char list_path[CONFIG_PATH_MAX];
        const char *rest;
        uint32_t i;
        int r;

        r = read_index(at, list, path, &i, &rest);
        if (r)
                return r;
        if (*rest)
                return config_fail(at->err, at->source, 0, at->whole,
                                   "found `%s` behind an element, which has no keys", rest);
        r = list_put(list, i, value);
        if (r)
                return r;
        snprintf(list_path, sizeof(list_path), "%.*s",
                 (int)(strlen(at->whole) - strlen(path) - 1), at->whole);
        return config_check_value(row, list, list_path, at->err);
}

static int set_in_map(struct place *at, const char *path, struct config_node **value);

static int set_worker(const struct place *at, struct config_node *list, const char *path,
                      struct config_node **value) {
        __attribute__((cleanup(config_node_freep))) struct config_node *fresh = NULL;
        struct place inside = *at;
        const char *rest;
        uint32_t i;
        int r;

        r = read_index(at, list, path, &i, &rest);
        if (r)
                return r;
        if (i >= SETTINGS_WORKERS_MAX)
                return config_fail(at->err, at->source, 0, at->whole,
                                   "found more than %u workers, expected fewer",
                                   SETTINGS_WORKERS_MAX);
        if (!*rest) {
                r = config_check_map(&settings_worker_shape, "", *value, at->whole, at->err);
                return r ? r : list_put(list, i, value);
        }
        if (i == list->n) {
                fresh = config_node_new(CONFIG_MAP, NULL, NULL, false);
                if (!fresh)
                        return -ENOMEM;
                fresh->source = at->source;
                r = list_put(list, i, &fresh);
                if (r)
                        return r;
        }
        inside.shape = &settings_worker_shape;
        inside.prefix = "";
        inside.map = list->v[i];
        return set_in_map(&inside, rest, value);
}

/* ---- maps -------------------------------------------------------------------------------- */

static int set_model(const struct place *at, struct config_node *models, const char *name,
                     struct config_node **value) {
        int r;

        (*value)->key = strdup(name);
        if (!(*value)->key)
                return -ENOMEM;
        r = config_check_model(*value, at->whole, at->err);
        if (r)
                return r;
        for (uint32_t i = 0; i < models->n; i++)
                if (strcmp(models->v[i]->key, name) == 0)
                        return list_put(models, i, value);
        if (models->n >= SETTINGS_MODELS_MAX)
                return config_fail(at->err, at->source, 0, at->whole,
                                   "found more than %u models, expected fewer",
                                   SETTINGS_MODELS_MAX);
        return list_put(models, models->n, value);
}

static int set_endpoint(const struct place *at, struct config_node *map, const char *rest,
                        struct config_node **value) {
        struct place inside = *at;

        if (!map->source) /* made for this --set */
                map->source = at->source;
        inside.shape = &settings_endpoint_shape;
        inside.prefix = "";
        inside.map = map;
        return set_in_map(&inside, rest, value);
}

/* The map or list of that key; an element of a list may lack it, or have null for a section. */
static int child_of_kind(struct config_node *map, const char *key, enum config_kind kind,
                         struct config_node **ret) {
        __attribute__((cleanup(config_node_freep))) struct config_node *fresh = NULL;
        uint32_t i = 0;
        int r;

        while (i < map->n && strcmp(map->v[i]->key, key) != 0)
                i++;
        if (i == map->n || map->v[i]->kind != kind) {
                fresh = config_node_new(kind, key, NULL, false);
                if (!fresh)
                        return -ENOMEM;
                r = list_put(map, i, &fresh);
                if (r)
                        return r;
        }
        *ret = map->v[i];
        return 0;
}

/* The rest of the path goes on below a row. */
static int set_below(struct place *at, const struct settings_row *row, const char *key,
                     const char *rest, struct config_node **value) {
        struct config_node *child;
        int r;

        switch (row->type) {
        case SETTINGS_SECTION:
                r = child_of_kind(at->map, key, CONFIG_MAP, &child);
                if (r)
                        return r;
                at->prefix = row->path;
                at->map = child;
                return set_in_map(at, rest, value);
        case SETTINGS_STRS:
                r = child_of_kind(at->map, key, CONFIG_LIST, &child);
                return r ? r : set_text(at, row, child, rest, value);
        case SETTINGS_ENDPOINT:
                r = child_of_kind(at->map, key, CONFIG_MAP, &child);
                return r ? r : set_endpoint(at, child, rest, value);
        case SETTINGS_WORKERS:
                r = child_of_kind(at->map, key, CONFIG_LIST, &child);
                return r ? r : set_worker(at, child, rest, value);
        case SETTINGS_MODELS:
                r = child_of_kind(at->map, key, CONFIG_MAP, &child);
                return r ? r : set_model(at, child, rest, value);
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_F64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
        case SETTINGS_STR:
                return config_fail(at->err, at->source, 0, at->whole,
                                   "found `%s` behind `%s`, which has no keys", rest, row->path);
        }
        return -EINVAL;
}

static int set_in_map(struct place *at, const char *path, struct config_node **value) {
        size_t len = strcspn(path, ".");
        char key[CONFIG_PATH_MAX], row_path[CONFIG_PATH_MAX];
        const struct settings_row *row;

        snprintf(key, sizeof(key), "%.*s", (int)len, path);
        config_path_join(row_path, at->prefix, key);
        row = settings_row_find(at->shape, row_path);
        if (!row)
                return config_fail_key(at->shape, at->prefix, key, at->source, 0, at->whole,
                                       at->err);
        if (path[len] == '.')
                return set_below(at, row, key, path + len + 1, value);
        return place_value(at, row, key, value);
}

int config_set(struct config_node *root, const struct config_source *source,
               struct config_error *err) {
        __attribute__((cleanup(config_node_freep))) struct config_node *value = NULL;
        const char *equals = strchr(source->set, '=');
        char whole[CONFIG_PATH_MAX];
        struct place at = {.shape = &settings_shape, .prefix = "", .map = root, .source = source,
                           .err = err, .whole = whole};
        int r;

        if (!equals || equals == source->set)
                return config_fail(err, source, 0, NULL, "found no `=`, expected key.path=VALUE");
        if ((size_t)(equals - source->set) >= sizeof(whole))
                return config_fail(err, source, 0, NULL,
                                   "found a key path of more than %zu bytes, expected a key",
                                   sizeof(whole) - 1);
        snprintf(whole, sizeof(whole), "%.*s", (int)(equals - source->set), source->set);
        if (strlen(equals + 1) > CONFIG_FILE_MAX)
                return config_fail(err, source, 0, NULL, "found a value of more than %u bytes",
                                   CONFIG_FILE_MAX);
        r = config_tree_parse(source, equals + 1, strlen(equals + 1), &value, err);
        if (r)
                return r;
        return set_in_map(&at, whole, &value);
}
