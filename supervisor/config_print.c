/* Settings as YAML and as JSON. */
#include "supervisor/config_print.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "stages/common/settings_value.h"
#include "supervisor/config.h"
#include "supervisor/config_tree.h"

#define WIDTH 96

/* ---- texts ------------------------------------------------------------------------------- */

void config_print_text(FILE *to, const char *text) {
        fputc('"', to);
        for (; *text; text++) {
                if (*text == '"' || *text == '\\')
                        fprintf(to, "\\%c", *text);
                else if ((unsigned char)*text < 0x20)
                        fprintf(to, "\\u%04x", (unsigned)(unsigned char)*text);
                else
                        fputc(*text, to);
        }
        fputc('"', to);
}

void config_print_word(FILE *to, const char *text) {
        static const char *const other[] = {"true", "false", "yes", "no",  "on",
                                            "off",  "null",  "y",   "n"};
        bool plain = isalpha((unsigned char)*text) || *text == '/' || *text == '_';

        for (const char *p = text; plain && *p; p++)
                plain = isalnum((unsigned char)*p) || strchr("/_.-", *p);
        for (size_t i = 0; plain && i < sizeof(other) / sizeof(other[0]); i++)
                plain = strcasecmp(text, other[i]) != 0;
        if (plain)
                fputs(text, to);
        else
                config_print_text(to, text);
}

/* ---- YAML -------------------------------------------------------------------------------- */

static void indent(FILE *to, unsigned depth) {
        fprintf(to, "%*s", (int)(2 * depth), "");
}

/* A comment, broken between words. */
static void write_comment(FILE *to, unsigned depth, const char *text) {
        size_t width = WIDTH - 2 * depth - 2, len;

        while (*text) {
                len = strlen(text);
                if (len > width) {
                        len = width;
                        while (len > 0 && text[len] != ' ')
                                len--;
                        if (len == 0)
                                len = strcspn(text, " ");
                }
                indent(to, depth);
                fprintf(to, "# %.*s\n", (int)len, text);
                text += len;
                text += strspn(text, " ");
        }
}

/* A text's form is in its sentence where it matters. */
static void write_sentence(FILE *to, unsigned depth, const struct settings_row *row) {
        char bounds[320] = "", text[1024];

        if (row->type == SETTINGS_U64 || row->type == SETTINGS_AUTO_U64)
                snprintf(bounds, sizeof(bounds), "%llu to %llu%s%s", (unsigned long long)row->min,
                         (unsigned long long)row->max, *row->unit ? " " : "", row->unit);
        else if (row->type == SETTINGS_F64)
                snprintf(bounds, sizeof(bounds), "%g to %g", row->min_f64, row->max_f64);
        else if (row->type == SETTINGS_ENUM)
                config_expected(row, bounds, sizeof(bounds));
        snprintf(text, sizeof(text), "%s%s%s%s", row->sentence, *bounds ? " (" : "", bounds,
                 *bounds ? ")" : "");
        write_comment(to, depth, text);
}

static void write_scalar(FILE *to, const struct config_node *node) {
        if (node->kind == CONFIG_NULL)
                fputs("null", to);
        else if (node->plain)
                fputs(node->text, to);
        else
                config_print_word(to, node->text);
}

static void write_texts(FILE *to, const struct config_node *list) {
        fputc('[', to);
        for (uint32_t i = 0; i < list->n; i++) {
                fputs(i ? ", " : "", to);
                write_scalar(to, list->v[i]);
        }
        fputc(']', to);
}

static void write_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                      const struct config_node *map, unsigned depth, bool sentences);

static void write_workers(FILE *to, const struct config_node *list, unsigned depth,
                          bool sentences) {
        fputc('\n', to);
        for (uint32_t i = 0; i < list->n; i++) {
                bool own = sentences && i == 0; /* once is enough */

                indent(to, depth);
                fputs(own ? "-\n" : "- ", to);
                write_map(to, &settings_worker_shape, "", list->v[i], depth + 1, own);
        }
}

static void write_models(FILE *to, const struct config_node *map, unsigned depth) {
        fputc('\n', to);
        for (uint32_t i = 0; i < map->n; i++) {
                indent(to, depth);
                config_print_word(to, map->v[i]->key);
                fputs(": ", to);
                write_texts(to, map->v[i]);
                fputc('\n', to);
        }
}

/* What stands behind "key:", the end of the line included. */
static void write_value(FILE *to, const struct settings_shape *shape,
                        const struct settings_row *row, const struct config_node *node,
                        unsigned depth, bool sentences) {
        switch (row->type) {
        case SETTINGS_SECTION:
                fputc('\n', to);
                write_map(to, shape, row->path, node, depth + 1, sentences);
                break;
        case SETTINGS_WORKERS:
                write_workers(to, node, depth + 1, sentences);
                break;
        case SETTINGS_MODELS:
                write_models(to, node, depth + 1);
                break;
        case SETTINGS_ENDPOINT:
                if (node->kind == CONFIG_MAP) {
                        fputc('\n', to);
                        write_map(to, &settings_endpoint_shape, "", node, depth + 1, sentences);
                        break;
                }
                fputs(" null\n", to);
                break;
        case SETTINGS_STRS:
                fputc(' ', to);
                write_texts(to, node);
                fputc('\n', to);
                break;
        case SETTINGS_U64:
        case SETTINGS_AUTO_U64:
        case SETTINGS_F64:
        case SETTINGS_BOOL:
        case SETTINGS_ENUM:
        case SETTINGS_STR:
                fputc(' ', to);
                write_scalar(to, node);
                fputc('\n', to);
                break;
        }
}

static void write_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                      const struct config_node *map, unsigned depth, bool sentences) {
        char path[CONFIG_PATH_MAX];

        for (uint32_t i = 0; i < map->n; i++) {
                const struct config_node *child = map->v[i];
                const struct settings_row *row;

                config_path_join(path, prefix, child->key);
                row = settings_row_find(shape, path);
                if (sentences && depth == 0 && i)
                        fputc('\n', to);
                if (sentences)
                        write_sentence(to, depth, row);
                /* The first key of a worker without comments stands behind its dash. */
                if (i || sentences || *prefix || shape != &settings_worker_shape)
                        indent(to, depth);
                fprintf(to, "%s:", child->key);
                write_value(to, shape, row, child, depth, sentences);
        }
}

int config_print_yaml(FILE *to, const struct settings *s, bool sentences) {
        __attribute__((cleanup(config_node_freep))) struct config_node *tree = NULL;
        int r;

        r = config_tree_from(&settings_shape, s, &tree);
        if (r)
                return r;
        write_map(to, &settings_shape, "", tree, 0, sentences);
        return ferror(to) ? -EIO : 0;
}

/* ---- JSON -------------------------------------------------------------------------------- */

void config_print_node(FILE *to, const struct config_node *node) {
        bool list = node->kind == CONFIG_LIST;

        if (node->kind == CONFIG_NULL) {
                fputs("null", to);
                return;
        }
        if (node->kind == CONFIG_SCALAR) {
                if (node->plain)
                        fputs(node->text, to);
                else
                        config_print_text(to, node->text);
                return;
        }
        fputc(list ? '[' : '{', to);
        for (uint32_t i = 0; i < node->n; i++) {
                fputs(i ? "," : "", to);
                if (!list) {
                        config_print_text(to, node->v[i]->key);
                        fputc(':', to);
                }
                config_print_node(to, node->v[i]);
        }
        fputc(list ? ']' : '}', to);
}

int config_print_json(FILE *to, const struct settings *s) {
        __attribute__((cleanup(config_node_freep))) struct config_node *tree = NULL;
        int r;

        r = config_tree_from(&settings_shape, s, &tree);
        if (r)
                return r;
        config_print_node(to, tree);
        fputc('\n', to);
        return ferror(to) ? -EIO : 0;
}
