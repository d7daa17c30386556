#include "supervisor/config_tree.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/settings_value.h"

/* ---- nodes ------------------------------------------------------------------------------- */

struct config_node *config_node_free(struct config_node *node) {
        if (!node)
                return NULL;
        for (uint32_t i = 0; i < node->n; i++)
                config_node_free(node->v[i]);
        free(node->v);
        free(node->key);
        free(node->text);
        free(node);
        return NULL;
}

struct config_node *config_node_new(enum config_kind kind, const char *key, const char *text,
                                    bool plain) {
        struct config_node *node = calloc(1, sizeof(*node));

        if (!node)
                return NULL;
        node->kind = kind;
        node->plain = plain;
        node->key = key ? strdup(key) : NULL;
        node->text = text ? strdup(text) : NULL;
        if ((key && !node->key) || (text && !node->text))
                return config_node_free(node);
        return node;
}

int config_node_add(struct config_node *parent, struct config_node *child) {
        struct config_node **v;

        /* Full at every power of two. */
        if ((parent->n & (parent->n - 1)) == 0) {
                v = realloc(parent->v, (parent->n ? 2 * (size_t)parent->n : 1) * sizeof(*v));
                if (!v)
                        return -ENOMEM;
                parent->v = v;
        }
        parent->v[parent->n++] = child;
        return 0;
}

int config_node_replace(struct config_node *parent, uint32_t i, struct config_node *with) {
        char *key = NULL;

        if (parent->v[i]->key) {
                key = strdup(parent->v[i]->key);
                if (!key)
                        return -ENOMEM;
        }
        free(with->key);
        with->key = key;
        config_node_free(parent->v[i]);
        parent->v[i] = with;
        return 0;
}

struct config_node *config_node_child(const struct config_node *map, const char *key) {
        for (uint32_t i = 0; i < map->n; i++)
                if (map->v[i]->key && strcmp(map->v[i]->key, key) == 0)
                        return map->v[i];
        return NULL;
}

/* The child that a path leads to, and how much of the path names it. A model's name may hold dots,
 * so the longest key that fits is taken. */
static struct config_node *node_step(const struct config_node *node, const char *path,
                                     size_t *ret_len) {
        struct config_node *best = NULL;
        unsigned long i;
        char *end;

        *ret_len = 0;
        if (node->kind == CONFIG_LIST && isdigit((unsigned char)*path)) {
                i = strtoul(path, &end, 10);
                *ret_len = (size_t)(end - path);
                return i < node->n && (*end == '.' || *end == '\0') ? node->v[i] : NULL;
        }
        for (i = 0; i < node->n; i++) {
                size_t len = node->v[i]->key ? strlen(node->v[i]->key) : 0;

                if (len > *ret_len && strncmp(node->v[i]->key, path, len) == 0 &&
                    (path[len] == '.' || path[len] == '\0')) {
                        best = node->v[i];
                        *ret_len = len;
                }
        }
        return best;
}

const struct config_node *config_node_nearest(const struct config_node *root, const char *path) {
        const struct config_node *node = root, *next;
        size_t len;

        for (; *path; path += len + (path[len] == '.')) {
                next = node_step(node, path, &len);
                if (!next)
                        break;
                node = next;
        }
        return node;
}

void config_path_join(char to[CONFIG_PATH_MAX], const char *head, const char *leaf) {
        int n = snprintf(to, CONFIG_PATH_MAX, "%s%s%s", head, *head ? "." : "", leaf);

        (void)n; /* a path that is cut is only shown, never looked up with success */
}

/* ---- errors ------------------------------------------------------------------------------ */

/* One line whatever was in the file: no control character reaches a terminal or splits a log. */
static void line_clean(char *line) {
        for (; *line; line++)
                if ((unsigned char)*line < 0x20 || *line == 0x7f)
                        *line = '?';
}

int config_fail(struct config_error *err, const struct config_source *source, unsigned line,
                const char *path, const char *format, ...) {
        char what[640];
        char place[320];
        va_list args;
        size_t len;

        va_start(args, format);
        vsnprintf(what, sizeof(what), format, args);
        va_end(args);

        if (source && source->file)
                snprintf(place, sizeof(place), "%.255s:%u: ", source->file, line);
        else if (source)
                snprintf(place, sizeof(place), "--set %.255s: ", source->set);
        else
                place[0] = '\0';
        /* --set has its key path in front already. */
        len = path ? strlen(path) : 0;
        if (source && source->set && path && strncmp(source->set, path, len) == 0 &&
            source->set[len] == '=')
                path = NULL;
        snprintf(err->line, sizeof(err->line), "%s%.300s%s%s", place, path ? path : "",
                 path && *path ? ": " : "", what);
        line_clean(err->line);
        return CONFIG_E_INVALID;
}

struct config_found config_found(const struct config_node *node) {
        struct config_found found;
        const char *quote = node->plain ? "" : "\"";
        int cut = node->text && strlen(node->text) > 48;

        switch (node->kind) {
        case CONFIG_NULL:
                snprintf(found.text, sizeof(found.text), "null");
                break;
        case CONFIG_SCALAR:
                snprintf(found.text, sizeof(found.text), "%s%.48s%s%s", quote, node->text,
                         cut ? "..." : "", quote);
                break;
        case CONFIG_LIST:
                snprintf(found.text, sizeof(found.text), "a list");
                break;
        case CONFIG_MAP:
                snprintf(found.text, sizeof(found.text), "a map");
                break;
        }
        return found;
}

/* ---- a struct as a tree ------------------------------------------------------------------ */

static struct config_node *node_of_strs(const struct settings_strs *strs, const char *key) {
        __attribute__((cleanup(config_node_freep))) struct config_node *list =
                config_node_new(CONFIG_LIST, key, NULL, false);
        struct config_node *ret;

        for (uint32_t i = 0; list && i < strs->n; i++) {
                struct config_node *text = config_node_new(CONFIG_SCALAR, NULL, strs->v[i], false);

                if (!text || config_node_add(list, text)) {
                        config_node_free(text);
                        return NULL;
                }
        }
        ret = list;
        list = NULL;
        return ret;
}

static struct config_node *node_of_models(const struct settings_models *models, const char *key) {
        __attribute__((cleanup(config_node_freep))) struct config_node *map =
                config_node_new(CONFIG_MAP, key, NULL, false);
        struct config_node *ret;

        for (uint32_t i = 0; map && i < models->n; i++) {
                struct config_node *list = node_of_strs(&models->v[i].workers, models->v[i].name);

                if (!list || config_node_add(map, list)) {
                        config_node_free(list);
                        return NULL;
                }
        }
        ret = map;
        map = NULL;
        return ret;
}

static struct config_node *node_of_workers(const struct settings_workers *workers,
                                           const char *key) {
        __attribute__((cleanup(config_node_freep))) struct config_node *list =
                config_node_new(CONFIG_LIST, key, NULL, false);
        struct config_node *ret;

        for (uint32_t i = 0; list && i < workers->n; i++) {
                struct config_node *map = NULL;

                if (config_tree_from(&settings_worker_shape, &workers->v[i], &map) ||
                    config_node_add(list, map)) {
                        config_node_free(map);
                        return NULL;
                }
        }
        ret = list;
        list = NULL;
        return ret;
}

static struct config_node *node_of_endpoint(const void *value, const char *key) {
        struct config_node *map = NULL;
        const void *endpoint = settings_pointer(value);

        if (!endpoint)
                return config_node_new(CONFIG_NULL, key, NULL, true);
        if (config_tree_from(&settings_endpoint_shape, endpoint, &map))
                return NULL;
        map->key = strdup(key);
        return map->key ? map : config_node_free(map);
}

static struct config_node *node_of_row(const struct settings_row *row, const void *value,
                                       const char *key) {
        char number[40];

        switch (row->type) {
        case SETTINGS_SECTION:
                return config_node_new(CONFIG_MAP, key, NULL, false);
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
                snprintf(number, sizeof(number), "%llu",
                         (unsigned long long)settings_number(row, value));
                if (row->type == SETTINGS_AUTO_U64 && settings_number(row, value) == SETTINGS_AUTO)
                        return config_node_new(CONFIG_SCALAR, key, "auto", false);
                return config_node_new(CONFIG_SCALAR, key, number, true);
        case SETTINGS_F64:
                snprintf(number, sizeof(number), "%.15g", settings_f64(value));
                return config_node_new(CONFIG_SCALAR, key, number, true);
        case SETTINGS_BOOL:
                return config_node_new(CONFIG_SCALAR, key,
                                       settings_number(row, value) ? "true" : "false", true);
        case SETTINGS_ENUM:
                return config_node_new(CONFIG_SCALAR, key,
                                       row->choices[settings_number(row, value)], false);
        case SETTINGS_STR:
                if (!settings_text(value))
                        return config_node_new(CONFIG_NULL, key, NULL, true);
                return config_node_new(CONFIG_SCALAR, key, settings_text(value), false);
        case SETTINGS_STRS:
                return node_of_strs(value, key);
        case SETTINGS_ENDPOINT:
                return node_of_endpoint(value, key);
        case SETTINGS_WORKERS:
                return node_of_workers(value, key);
        case SETTINGS_MODELS:
                return node_of_models(value, key);
        }
        return NULL;
}

int config_tree_from(const struct settings_shape *shape, const void *base,
                     struct config_node **ret) {
        __attribute__((cleanup(config_node_freep))) struct config_node *root =
                config_node_new(CONFIG_MAP, NULL, NULL, false);

        if (!root)
                return -ENOMEM;
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const struct settings_row *row = &shape->rows[i];
                const char *key = row->path;
                struct config_node *parent = root, *child;
                size_t len;

                /* Sections come before what they hold. */
                while ((child = node_step(parent, key, &len))) {
                        parent = child;
                        key += len + 1;
                }
                child = node_of_row(row, settings_row_value(row, base), key);
                if (!child || config_node_add(parent, child)) {
                        config_node_free(child);
                        return -ENOMEM;
                }
        }
        *ret = root;
        root = NULL;
        return 0;
}
