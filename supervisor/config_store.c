/*
 * A complete tree becomes struct settings: written as flow YAML (which JSON is), loaded by libcyaml
 * against a schema made of the same rows. Everything has been held against its row before, because
 * libcyaml takes `5x` for 5, `-1` for 2^64 - 1 and any word for true.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config_print.h"
#include "supervisor/config_tree.h"

/* ---- schema, from the table -------------------------------------------------------------- */

#define CHOICES(type, list) static const cyaml_strval_t words_##type[] = {list};
#define CHOICE(id, word) {word, SETTINGS_##id},
#define SETTINGS_PART_CHOICES
#include "stages/common/settings.def"

/* Null and empty values are left out, so every field is optional and starts as zero. A section is
 * no struct of its own: it stands at offset 0 and its fields count from the whole. */
#define FIELD(path, member, key_, type_, more) \
        {.key = (key_), .data_offset = offsetof(struct FIELDS_OF, path), \
         .value = {.type = (type_), .flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT | (more), \
                   .data_size = sizeof(((struct FIELDS_OF *)0)->path)

#define LIST(path, member, entry_) \
        {.key = #member, .data_offset = offsetof(struct FIELDS_OF, path.v), \
         .count_offset = offsetof(struct FIELDS_OF, path.n), .count_size = sizeof(uint32_t), \
         .value = {.type = CYAML_SEQUENCE, .flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, \
                   .data_size = sizeof(*((struct FIELDS_OF *)0)->path.v), \
                   .sequence = {.entry = &(entry_), .max = CYAML_UNLIMITED}}},

#define SECTION(path, member, sentence) \
        {.key = #member, .value = {.type = CYAML_MAPPING, .flags = CYAML_FLAG_OPTIONAL, \
         .data_size = sizeof(struct FIELDS_OF), \
         .mapping = {.fields = (const cyaml_schema_field_t[]){
#define SECTION_END(path, member) CYAML_FIELD_END }}}},
#define U64(path, member, ...) FIELD(path, member, #member, CYAML_UINT, 0)}},
#define AUTO(path, member, ...) FIELD(path, member, #member, CYAML_UINT, 0)}},
#define F64(path, member, ...) FIELD(path, member, #member, CYAML_FLOAT, 0)}},
#define BOOL(path, member, ...) FIELD(path, member, #member, CYAML_BOOL, 0)}},
#define ENUM(path, member, choices, ...) \
        FIELD(path, member, #member, CYAML_ENUM, 0), \
        .enumeration = {words_##choices, sizeof(words_##choices) / sizeof(cyaml_strval_t)}}},
#define STR_AS(path, member, key_path, leaf, ...) \
        FIELD(path, member, leaf, CYAML_STRING, CYAML_FLAG_POINTER), \
        .string = {.max = CYAML_UNLIMITED}}},
#define STRS(path, member, ...) LIST(path, member, text_entry)
#define WORKERS(path, member, ...) LIST(path, member, worker_entry)
#define MODELS(path, member, ...) LIST(path, member, model_entry)
#define ENDPOINT(path, member, ...) \
        {.key = #member, .data_offset = offsetof(struct FIELDS_OF, path), \
         .value = {.type = CYAML_MAPPING, .flags = CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, \
                   .data_size = sizeof(struct settings_endpoint), \
                   .mapping = {.fields = endpoint_fields}}},

static const cyaml_schema_value_t text_entry = {
        .type = CYAML_STRING, .flags = CYAML_FLAG_POINTER, .data_size = 1,
        .string = {.max = CYAML_UNLIMITED}};

static const cyaml_schema_field_t worker_fields[] = {
#define FIELDS_OF settings_worker
#define SETTINGS_PART_WORKER
#include "stages/common/settings.def"
#undef FIELDS_OF
        CYAML_FIELD_END};

static const cyaml_schema_value_t worker_entry = {.type = CYAML_MAPPING,
                                                  .data_size = sizeof(struct settings_worker),
                                                  .mapping = {.fields = worker_fields}};

static const cyaml_schema_field_t model_fields[] = {
#define FIELDS_OF settings_model
#define SETTINGS_PART_MODEL
#include "stages/common/settings.def"
#undef FIELDS_OF
        CYAML_FIELD_END};

static const cyaml_schema_value_t model_entry = {.type = CYAML_MAPPING,
                                                 .data_size = sizeof(struct settings_model),
                                                 .mapping = {.fields = model_fields}};

static const cyaml_schema_field_t endpoint_fields[] = {
#define FIELDS_OF settings_endpoint
#define SETTINGS_PART_ENDPOINT
#include "stages/common/settings.def"
#undef FIELDS_OF
        CYAML_FIELD_END};

static const cyaml_schema_field_t fields[] = {
#define FIELDS_OF settings
#include "stages/common/settings.def"
#undef FIELDS_OF
        CYAML_FIELD_END};

static const cyaml_schema_value_t whole = {.type = CYAML_MAPPING, .flags = CYAML_FLAG_POINTER,
                                           .data_size = sizeof(struct settings),
                                           .mapping = {.fields = fields}};

#define SETTINGS_PART_END
#include "stages/common/settings.def"

/* ---- the tree as flow YAML --------------------------------------------------------------- */

static void write_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                      const struct config_node *map);

static void write_texts(FILE *to, const struct config_node *list) {
        fputc('[', to);
        for (uint32_t i = 0; i < list->n; i++) {
                fputs(i ? ", " : "", to);
                config_print_text(to, list->v[i]->text);
        }
        fputc(']', to);
}

static void write_workers(FILE *to, const struct config_node *list) {
        fputc('[', to);
        for (uint32_t i = 0; i < list->n; i++) {
                fputs(i ? ", " : "", to);
                write_map(to, &settings_worker_shape, "", list->v[i]);
        }
        fputc(']', to);
}

static void write_models(FILE *to, const struct config_node *map) {
        fputc('[', to);
        for (uint32_t i = 0; i < map->n; i++) {
                fprintf(to, "%s{\"name\": ", i ? ", " : "");
                config_print_text(to, map->v[i]->key);
                fputs(", \"workers\": ", to);
                write_texts(to, map->v[i]);
                fputc('}', to);
        }
        fputc(']', to);
}

static void write_value(FILE *to, const struct settings_shape *shape,
                        const struct settings_row *row, const struct config_node *node) {
        bool truth = false;

        switch (row->type) {
        case SETTINGS_SECTION:
                write_map(to, shape, row->path, node);
                break;
        case SETTINGS_AUTO_U64:
                fputs(strcmp(node->text, "auto") == 0 ? "0" : node->text, to);
                break;
        case SETTINGS_U64:
        case SETTINGS_F64:
                fputs(node->text, to);
                break;
        case SETTINGS_BOOL:
                config_truth(node->text, &truth);
                fputs(truth ? "true" : "false", to);
                break;
        case SETTINGS_ENUM:
        case SETTINGS_STR:
                config_print_text(to, node->text);
                break;
        case SETTINGS_STRS:
                write_texts(to, node);
                break;
        case SETTINGS_ENDPOINT:
                write_map(to, &settings_endpoint_shape, "", node);
                break;
        case SETTINGS_WORKERS:
                write_workers(to, node);
                break;
        case SETTINGS_MODELS:
                write_models(to, node);
                break;
        }
}

static void write_map(FILE *to, const struct settings_shape *shape, const char *prefix,
                      const struct config_node *map) {
        char path[CONFIG_PATH_MAX];
        const char *comma = "";

        fputc('{', to);
        for (uint32_t i = 0; i < map->n; i++) {
                const struct config_node *child = map->v[i];

                if (child->kind == CONFIG_NULL || (child->kind == CONFIG_LIST && child->n == 0))
                        continue;
                config_path_join(path, prefix, child->key);
                fprintf(to, "%s\"%s\": ", comma, child->key);
                write_value(to, shape, settings_row_find(shape, path), child);
                comma = ", ";
        }
        fputc('}', to);
}

/* ---- load -------------------------------------------------------------------------------- */

static void freep(char **text) {
        free(*text);
}

/* Keeps libcyaml's first complaint. */
static void keep_line(cyaml_log_t level, void *ctx, const char *format, va_list args) {
        struct config_error *err = ctx;

        (void)level;
        if (err->line[0] == '\0')
                vsnprintf(err->line, sizeof(err->line), format, args);
}

int config_store(const struct config_node *root, struct settings **ret, struct config_error *err) {
        const cyaml_config_t config = {.log_fn = keep_line, .log_ctx = err, .mem_fn = cyaml_mem,
                                       .log_level = CYAML_LOG_ERROR, .flags = CYAML_CFG_NO_ALIAS};
        __attribute__((cleanup(freep))) char *text = NULL;
        cyaml_data_t *data = NULL;
        size_t len = 0;
        cyaml_err_t r;
        FILE *to;

        to = open_memstream(&text, &len);
        if (!to)
                return -errno;
        write_map(to, &settings_shape, "", root);
        if (fclose(to) != 0)
                return -ENOMEM;
        r = cyaml_load_data((const uint8_t *)text, len, &config, &whole, &data, NULL);
        if (r == CYAML_ERR_OOM)
                return -ENOMEM;
        if (r != CYAML_OK)
                return CONFIG_E_INVALID;
        *ret = (struct settings *)data;
        return 0;
}
