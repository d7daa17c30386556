#include "stages/engines/mustache/front.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/mustache/front_params.h"

#define LINES_BEFORE 1 /* the first `---` */

struct reader {
        yaml_document_t *document;
        struct mustache_front *front;
        struct mustache_error *err;
        const yaml_node_t *bad; /* within the value */
};

struct key {
        const char *name;
        const char *expected;
        bool (*set)(struct reader *reader, const yaml_node_t *value);
};

/* The text of a scalar that holds no NUL byte. */
static const char *scalar(const yaml_node_t *node) {
        const char *text = (const char *)node->data.scalar.value;

        return node->type == YAML_SCALAR_NODE && strlen(text) == node->data.scalar.length ? text
                                                                                          : NULL;
}

static bool is_scalar(const yaml_node_t *node, const char *word) {
        const char *text = scalar(node);

        return text && strcmp(text, word) == 0;
}

static bool set_escape(struct reader *reader, const yaml_node_t *value) {
        bool html = is_scalar(value, "html");

        reader->front->has_escape = true;
        reader->front->escape = html ? MUSTACHE_ESCAPE_HTML : MUSTACHE_ESCAPE_NONE;
        return html || is_scalar(value, "none");
}

static bool set_missing(struct reader *reader, const yaml_node_t *value) {
        reader->front->missing_is_error = is_scalar(value, "error");
        return reader->front->missing_is_error || is_scalar(value, "empty");
}

static bool copy_name(const yaml_node_t *node, char **ret) {
        const char *text = scalar(node);

        if (!text || !*text)
                return false;
        *ret = strdup(text);
        return *ret != NULL;
}

static bool set_model(struct reader *reader, const yaml_node_t *value) {
        return copy_name(value, &reader->front->model);
}

static bool set_models(struct reader *reader, const yaml_node_t *value) {
        struct mustache_front *front = reader->front;
        yaml_node_item_t *items = value->data.sequence.items.start;

        if (value->type != YAML_SEQUENCE_NODE ||
                        value->data.sequence.items.top - items > (ptrdiff_t)FRONT_MODELS_MAX)
                return false;
        front->models = calloc(FRONT_MODELS_MAX, sizeof(*front->models));
        if (!front->models)
                return false;
        for (; items < value->data.sequence.items.top; items++) {
                reader->bad = yaml_document_get_node(reader->document, *items);
                if (!copy_name(reader->bad, &front->models[front->n_models]))
                        return false;
                front->n_models++;
        }
        return true;
}

/* Of a request's body these belong to others. */
static bool is_taken(const char *name) {
        static const char *const names[] = {
                        "messages", "model", "prompt", "input", "stream", "stream_options", "n"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

static bool set_params(struct reader *reader, const yaml_node_t *value) {
        struct mustache_front *front = reader->front;

        if (value->type != YAML_MAPPING_NODE)
                return false;
        for (const yaml_node_pair_t *pair = value->data.mapping.pairs.start;
                        pair < value->data.mapping.pairs.top; pair++) {
                reader->bad = yaml_document_get_node(reader->document, pair->key);
                if (!scalar(reader->bad) || is_taken(scalar(reader->bad)))
                        return false;
        }
        return front_params(reader->document, value, &front->params, &front->n_params,
                               &reader->bad) == 0;
}

static bool set_tokens(const yaml_node_t *value, uint64_t *ret) {
        const char *text = scalar(value);
        char *end;

        if (!text || text[0] < '0' || text[0] > '9' || strlen(text) > 9)
                return false;
        *ret = strtoull(text, &end, 10);
        return *end == 0 && *ret > 0;
}

static bool set_context(struct reader *reader, const yaml_node_t *value) {
        return set_tokens(value, &reader->front->context_tokens);
}

static bool set_output(struct reader *reader, const yaml_node_t *value) {
        return set_tokens(value, &reader->front->max_output_tokens);
}

static bool set_documents(struct reader *reader, const yaml_node_t *value) {
        return set_tokens(value, &reader->front->document_tokens);
}

static bool set_few_shot(struct reader *reader, const yaml_node_t *value) {
        return copy_name(value, &reader->front->few_shot);
}

static bool set_nearest(struct reader *reader, const yaml_node_t *value) {
        return set_tokens(value, &reader->front->few_shot_nearest);
}

#define TOKENS "a number of tokens, from 1"

static const struct key keys[] = {
                {"context_tokens", TOKENS, set_context},
                {"document_tokens", TOKENS, set_documents},
                {"escape", "none or html", set_escape},
                {"few_shot", "a file of examples", set_few_shot},
                {"few_shot_nearest", "a number of examples, from 1", set_nearest},
                {"max_output_tokens", TOKENS, set_output},
                {"missing", "empty or error", set_missing},
                {"model", "a name", set_model},
                {"models", "a list of at most 64 names", set_models},
                {"params",
                                "a map of what the backend is asked with, but for messages, model, "
                                "prompt, input, stream, stream_options and n",
                                set_params},
};
#define KEYS_N (sizeof(keys) / sizeof(keys[0]))

__attribute__((format(printf, 3, 4))) static int fail(
                struct mustache_error *err, const yaml_mark_t *mark, const char *format, ...) {
        va_list args;

        err->line = (uint32_t)mark->line + 1 + LINES_BEFORE;
        err->column = (uint32_t)mark->column + 1;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        return MUSTACHE_E_SYNTAX;
}

static int read_pair(struct reader *reader, const yaml_node_t *name, const yaml_node_t *value,
                uint32_t *seen) {
        const char *text = scalar(name);
        size_t i = 0;

        while (i < KEYS_N && (!text || strcmp(keys[i].name, text) != 0))
                i++;
        if (i == KEYS_N)
                return fail(reader->err, &name->start_mark,
                                "'%.64s': there is no such key", text ? text : "?");
        if (*seen & 1u << i)
                return fail(reader->err, &name->start_mark, "'%s' is given twice", text);
        *seen |= 1u << i;
        reader->bad = value;
        if (!keys[i].set(reader, value))
                return fail(reader->err, &reader->bad->start_mark, "%s: %s was expected",
                                keys[i].name, keys[i].expected);
        return 0;
}

static int read_document(struct reader *reader) {
        yaml_node_t *root = yaml_document_get_root_node(reader->document);
        uint32_t seen = 0;
        int r = 0;

        if (!root)
                return 0;
        if (root->type != YAML_MAPPING_NODE)
                return fail(reader->err, &root->start_mark, "key: value was expected");
        for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
                        !r && pair < root->data.mapping.pairs.top; pair++)
                r = read_pair(reader, yaml_document_get_node(reader->document, pair->key),
                                yaml_document_get_node(reader->document, pair->value), &seen);
        return r;
}

static int read_yaml(const char *yaml, size_t n, struct mustache_front *front,
                struct mustache_error *err) {
        yaml_parser_t parser;
        yaml_document_t document;
        struct reader reader = {.document = &document, .front = front, .err = err};
        int r;

        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, n);
        if (yaml_parser_load(&parser, &document)) {
                r = read_document(&reader);
                yaml_document_delete(&document);
        } else if (parser.error == YAML_MEMORY_ERROR) {
                r = -ENOMEM;
        } else {
                r = fail(err, &parser.problem_mark, "%s", parser.problem ? parser.problem : "no YAML");
        }
        yaml_parser_delete(&parser);
        return r;
}

/* Behind a line of three dashes at p, or NULL: it is none. */
static const char *behind_dashes(const char *p, const char *end) {
        if (end - p < 3 || memcmp(p, "---", 3) != 0)
                return NULL;
        for (p += 3; p < end && (*p == ' ' || *p == '\t' || *p == '\r');)
                p++;
        if (p == end)
                return end;
        return *p == '\n' ? p + 1 : NULL;
}

int mustache_front_read(const char *file, size_t n, struct mustache_front *ret,
                struct mustache_error *err) {
        const char *end = file + n, *from = behind_dashes(file, end), *line, *body;
        struct mustache_front front = {0};
        int r = 0;

        *err = (struct mustache_error){0};
        for (line = from, body = NULL; line && line < end && !body;) {
                body = behind_dashes(line, end);
                if (body)
                        break;
                line = memchr(line, '\n', (size_t)(end - line));
                line = line ? line + 1 : end;
        }
        if (from && !body) {
                err->line = err->column = 1;
                snprintf(err->text, sizeof(err->text), "a line --- must end what this one begins");
                return MUSTACHE_E_SYNTAX;
        }
        if (from && line - from > FRONT_BYTES_MAX) {
                err->line = err->column = 1;
                snprintf(err->text, sizeof(err->text), "longer than %u bytes", FRONT_BYTES_MAX);
                return MUSTACHE_E_SYNTAX;
        }
        if (from)
                r = read_yaml(from, (size_t)(line - from), &front, err);
        if (r) {
                mustache_front_clear(&front);
                return r;
        }
        front.body = from ? (size_t)(body - file) : 0;
        *ret = front;
        return 0;
}

void mustache_front_path(const char *folder, const char *name, char *to, size_t cap) {
        if (name[0] == '/')
                snprintf(to, cap, "%s", name);
        else
                snprintf(to, cap, "%s/%s", folder, name);
}

void mustache_front_clear(struct mustache_front *front) {
        for (uint32_t i = 0; i < front->n_models; i++)
                free(front->models[i]);
        free(front->models);
        free(front->model);
        free(front->few_shot);
        free(front->params);
        *front = (struct mustache_front){0};
}
