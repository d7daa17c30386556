#include "stages/engines/mustache/front.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#define LINES_BEFORE 1 /* the first `---` */

struct reader {
        yaml_document_t *document;
        struct mustache_front *front;
        struct mustache_error *err;
};

struct key {
        const char *name;
        const char *expected;
        bool (*set)(struct mustache_front *front, const char *value);
};

static bool set_escape(struct mustache_front *front, const char *value) {
        front->has_escape = true;
        front->escape = strcmp(value, "html") == 0 ? MUSTACHE_ESCAPE_HTML : MUSTACHE_ESCAPE_NONE;
        return front->escape == MUSTACHE_ESCAPE_HTML || strcmp(value, "none") == 0;
}

static bool set_missing(struct mustache_front *front, const char *value) {
        front->missing_is_error = strcmp(value, "error") == 0;
        return front->missing_is_error || strcmp(value, "empty") == 0;
}

static const struct key keys[] = {
                {"escape", "none or html", set_escape},
                {"missing", "empty or error", set_missing},
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

static const char *scalar(const yaml_node_t *node) {
        const char *text = (const char *)node->data.scalar.value;

        return node->type == YAML_SCALAR_NODE && strlen(text) == node->data.scalar.length ? text
                                                                                          : NULL;
}

static int read_pair(struct reader *reader, const yaml_node_t *name, const yaml_node_t *value,
                uint32_t *seen) {
        const char *text = scalar(name);
        size_t i = 0;

        while (i < KEYS_N && (!text || strcmp(keys[i].name, text) != 0))
                i++;
        if (i == KEYS_N)
                return fail(reader->err, &name->start_mark,
                                "'%.64s': escape or missing was expected", text ? text : "?");
        if (*seen & 1u << i)
                return fail(reader->err, &name->start_mark, "'%s' is given twice", text);
        *seen |= 1u << i;
        text = scalar(value);
        if (!text || !keys[i].set(reader->front, text))
                return fail(reader->err, &value->start_mark, "%s: %s was expected", keys[i].name,
                                keys[i].expected);
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
        if (r)
                return r;
        front.body = from ? (size_t)(body - file) : 0;
        *ret = front;
        return 0;
}
