/* What is told about the rows: the JSON Schema of the file, and docs/configuration.md. */
#include <errno.h>
#include <string.h>

#include "stages/common/settings_value.h"
#include "supervisor/config.h"
#include "supervisor/config_print.h"
#include "supervisor/config_tree.h"

/* ---- JSON Schema ------------------------------------------------------------------------- */

static void schema_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                       const struct config_node *defaults);

static void schema_choices(FILE *to, const struct settings_row *row) {
        fputs("\"enum\":[", to);
        for (uint32_t i = 0; row->choices[i]; i++) {
                fputs(i ? "," : "", to);
                config_print_text(to, row->choices[i]);
        }
        fputc(']', to);
}

static void schema_texts(FILE *to, uint32_t min, uint32_t max) {
        fprintf(to, "\"type\":\"array\",\"minItems\":%u,\"maxItems\":%u,"
                    "\"items\":{\"type\":\"string\",\"minLength\":1}", min, max);
}

/* The members that say what a value may be. */
static void schema_type(FILE *to, const struct settings_shape *shape,
                        const struct settings_row *row, const struct config_node *def) {
        switch (row->type) {
        case SETTINGS_SECTION:
                schema_map(to, shape, row->path, def);
                break;
        case SETTINGS_U64:
                fprintf(to, "\"type\":\"integer\",\"minimum\":%llu,\"maximum\":%llu",
                        (unsigned long long)row->min, (unsigned long long)row->max);
                break;
        case SETTINGS_AUTO_U64:
                fprintf(to, "\"anyOf\":[{\"const\":\"auto\"},{\"type\":\"integer\","
                            "\"minimum\":%llu,\"maximum\":%llu}]",
                        (unsigned long long)row->min, (unsigned long long)row->max);
                break;
        case SETTINGS_F64:
                fprintf(to, "\"type\":\"number\",\"minimum\":%g,\"maximum\":%g", row->min_f64,
                        row->max_f64);
                break;
        case SETTINGS_BOOL:
                fputs("\"type\":\"boolean\"", to);
                break;
        case SETTINGS_ENUM:
                schema_choices(to, row);
                break;
        case SETTINGS_STR:
                fprintf(to, "\"type\":%s,\"minLength\":1,\"maxLength\":%u",
                        row->def_text ? "\"string\"" : "[\"string\",\"null\"]", SETTINGS_TEXT_MAX);
                break;
        case SETTINGS_STRS:
                schema_texts(to, 0, row->max_items);
                break;
        case SETTINGS_ENDPOINT:
                fputs("\"anyOf\":[{\"type\":\"null\"},{", to);
                schema_map(to, &settings_endpoint_shape, "", NULL);
                fputs("}]", to);
                break;
        case SETTINGS_WORKERS:
                fprintf(to, "\"type\":\"array\",\"minItems\":1,\"maxItems\":%u,\"items\":{",
                        row->max_items);
                schema_map(to, &settings_worker_shape, "", NULL);
                fputc('}', to);
                break;
        case SETTINGS_MODELS:
                fprintf(to, "\"type\":\"object\",\"minProperties\":1,\"maxProperties\":%u,"
                            "\"additionalProperties\":{", row->max_items);
                schema_texts(to, 1, settings_row_find(&settings_model_shape, "workers")->max_items);
                fputc('}', to);
                break;
        }
}

static void schema_row(FILE *to, const struct settings_shape *shape,
                       const struct settings_row *row, const struct config_node *def) {
        fputc('{', to);
        schema_type(to, shape, row, def);
        fputs(",\"description\":", to);
        config_print_text(to, row->sentence);
        if (row->type != SETTINGS_SECTION) {
                if (def) {
                        fputs(",\"default\":", to);
                        config_print_node(to, def);
                }
                if (row->unit && *row->unit) {
                        fputs(",\"x-unit\":", to);
                        config_print_text(to, row->unit);
                }
                fprintf(to, ",\"x-applies\":\"%s\"",
                        row->applies == SETTINGS_RESTART ? "restart" : "stage");
        }
        fputc('}', to);
}

/* The members of an object: defaults NULL where the element has to be given. */
static void schema_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                       const struct config_node *defaults) {
        const char *comma = "";

        fprintf(to, "\"type\":%s,\"additionalProperties\":false,",
                *prefix ? "[\"object\",\"null\"]" : "\"object\"");
        if (shape->n_required && !*prefix) {
                fputs("\"required\":[", to);
                for (uint32_t i = 0; i < shape->n_required; i++)
                        fprintf(to, "%s\"%s\"", i ? "," : "", shape->rows[i].path);
                fputs("],", to);
        }
        fputs("\"properties\":{", to);
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const char *key = settings_key_in(&shape->rows[i], prefix);

                if (!key)
                        continue;
                fprintf(to, "%s\"%s\":", comma, key);
                schema_row(to, shape, &shape->rows[i],
                           defaults ? config_node_child(defaults, key) : NULL);
                comma = ",";
        }
        fputc('}', to);
}

static int default_tree(struct config_node **ret) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        int r;

        r = settings_default(&s);
        if (r)
                return r;
        return config_tree_from(&settings_shape, s, ret);
}

int config_print_schema(FILE *to) {
        __attribute__((cleanup(config_node_freep))) struct config_node *defaults = NULL;
        int r;

        r = default_tree(&defaults);
        if (r)
                return r;
        fputs("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
              "\"title\":\"millrace\",", to);
        schema_map(to, &settings_shape, "", defaults);
        fputs("}\n", to);
        return ferror(to) ? -EIO : 0;
}

/* ---- manual ------------------------------------------------------------------------------ */

/* A cell of a table: no bar may end it, and nothing in it is a tag. */
static void write_cell(FILE *to, const char *text) {
        for (; *text; text++) {
                if (*text == '<')
                        fputs("&lt;", to);
                else if (*text == '|')
                        fputs("\\|", to);
                else
                        fputc(*text, to);
        }
}

static void write_default(FILE *to, const struct settings_row *row, const void *base) {
        const void *value = settings_row_value(row, base);

        switch (row->type) {
        case SETTINGS_U64:
                fprintf(to, "`%llu`", (unsigned long long)settings_number(row, value));
                break;
        case SETTINGS_AUTO_U64:
                fputs("`auto`", to);
                break;
        case SETTINGS_F64:
                fprintf(to, "`%g`", settings_f64(value));
                break;
        case SETTINGS_BOOL:
                fputs(settings_number(row, value) ? "`true`" : "`false`", to);
                break;
        case SETTINGS_ENUM:
                fprintf(to, "`%s`", row->choices[settings_number(row, value)]);
                break;
        case SETTINGS_STR:
                fprintf(to, "`%s`", settings_text(value) ? settings_text(value) : "null");
                break;
        case SETTINGS_STRS:
                fputs("`[", to);
                for (uint32_t i = 0; row->def_list[i]; i++) {
                        fputs(i ? ", " : "", to);
                        config_print_word(to, row->def_list[i]);
                }
                fputs("]`", to);
                break;
        case SETTINGS_ENDPOINT:
                fputs("`null`", to);
                break;
        case SETTINGS_WORKERS:
                fputs("`[{ name: local, kind: extract }]`", to);
                break;
        case SETTINGS_MODELS:
                fputs("`{ \"*\": [local] }`", to);
                break;
        case SETTINGS_SECTION:
                break;
        }
}

/* The rows that stand directly in a section. */
static void write_table(FILE *to, const struct settings_shape *shape, const char *prefix,
                        const void *base) {
        char expected[320];

        fputs("\n| key | default | value | applies | |\n|---|---|---|---|---|\n", to);
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const struct settings_row *row = &shape->rows[i];

                if (!settings_key_in(row, prefix) || row->type == SETTINGS_SECTION)
                        continue;
                fprintf(to, "| `%s` | ", row->path);
                if (i < shape->n_required)
                        fputs("required", to);
                else
                        write_default(to, row, base);
                fputs(" | ", to);
                config_expected(row, expected, sizeof(expected));
                write_cell(to, expected);
                fprintf(to, " | %s | ", row->applies == SETTINGS_RESTART ? "restart" : "stage");
                write_cell(to, row->sentence);
                fputs(" |\n", to);
        }
}

static bool has_rows(const struct settings_shape *shape, const char *prefix) {
        for (uint32_t i = 0; i < shape->n_rows; i++)
                if (settings_key_in(&shape->rows[i], prefix) &&
                    shape->rows[i].type != SETTINGS_SECTION)
                        return true;
        return false;
}

static void write_shape(FILE *to, const struct settings_shape *shape, const void *base,
                        const char *heading) {
        write_table(to, shape, "", base);
        for (uint32_t i = 0; i < shape->n_rows; i++) {
                const struct settings_row *row = &shape->rows[i];

                if (row->type != SETTINGS_SECTION)
                        continue;
                fprintf(to, "\n%s `%s`\n\n%s\n", heading, row->path, row->sentence);
                if (has_rows(shape, row->path))
                        write_table(to, shape, row->path, base);
        }
}

static const char head[] =
        "# Configuration\n"
        "\n"
        "<!-- Made from stages/common/settings.def by `millrace config --manual`; a test compares. "
        "-->\n"
        "\n"
        "One YAML file, given with `-c FILE`; every key has a default, so the file holds what\n"
        "is different. Sections merge key by key; a list and `inference.models` replace the\n"
        "default's. `--set key.path=VALUE` comes last: VALUE is YAML, elements of a list are\n"
        "named by number (`--set inference.workers.0.base_url=http://127.0.0.1:8000/v1`; the\n"
        "number after the last one adds an element).\n"
        "\n"
        "| command | prints |\n"
        "|---|---|\n"
        "| `millrace config --defaults` | every key with its default and a sentence |\n"
        "| `millrace config --effective -c FILE` | what holds with a file and `--set` |\n"
        "| `millrace config --schema` | the JSON Schema of the file, for an editor |\n"
        "| `millrace check FILE` | whether a file is right, and what the machine lacks |\n"
        "\n"
        "An unknown key, a wrong type or a value out of range is refused with file, line and key\n"
        "path, and nothing starts. *applies*: a reload restarts the processes that read a `stage`\n"
        "key; it refuses a change of a `restart` key.\n";

int config_print_manual(FILE *to) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        struct settings_worker worker;
        struct settings_endpoint endpoint;
        int r;

        r = settings_default(&s);
        if (r)
                return r;
        r = settings_shape_default(&settings_worker_shape, &worker);
        if (r)
                return r;
        r = settings_shape_default(&settings_endpoint_shape, &endpoint);
        if (r == 0) {
                fputs(head, to);
                write_shape(to, &settings_shape, s, "##");
                fputs("\n## A worker\n\nThe keys of one element of `inference.workers`.\n", to);
                write_shape(to, &settings_worker_shape, &worker, "###");
                fputs("\n## A service\n\nThe keys of `rag.embeddings` and `rag.rerank`, where they "
                      "are not null.\n", to);
                write_shape(to, &settings_endpoint_shape, &endpoint, "###");
                settings_shape_clear(&settings_endpoint_shape, &endpoint);
        }
        settings_shape_clear(&settings_worker_shape, &worker);
        if (r)
                return r;
        return ferror(to) ? -EIO : 0;
}
