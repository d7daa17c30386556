/* From bytes to a tree: libyaml reads the document; what is refused here is what YAML allows and a
 * configuration does not need. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "supervisor/config_tree.h"

struct reader {
        const struct config_source *source;
        struct config_error *err;
        yaml_document_t *document;
        uint32_t n_nodes;
};

static unsigned line_of(const yaml_mark_t *mark) {
        return (unsigned)mark->line + 1;
}

static const char *text_of(const yaml_node_t *node) {
        return (const char *)node->data.scalar.value;
}

static bool is_null(const yaml_node_t *node) {
        static const char *const words[] = {"", "~", "null", "Null", "NULL"};

        if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
                return false;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                if (strcmp(text_of(node), words[i]) == 0)
                        return true;
        return false;
}

/* ---- values ------------------------------------------------------------------------------ */

static int read_node(struct reader *reader, int id, unsigned depth, struct config_node **ret);

static int read_scalar(struct reader *reader, const yaml_node_t *node, struct config_node **ret) {
        bool null = is_null(node);

        if (strlen(text_of(node)) != node->data.scalar.length)
                return config_fail(reader->err, reader->source, line_of(&node->start_mark), NULL,
                                   "found a text with a NUL byte, expected none");
        *ret = config_node_new(null ? CONFIG_NULL : CONFIG_SCALAR, NULL,
                               null ? NULL : text_of(node),
                               node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
        return *ret ? 0 : -ENOMEM;
}

static int read_list(struct reader *reader, const yaml_node_t *node, unsigned depth,
                     struct config_node **ret) {
        __attribute__((cleanup(config_node_freep))) struct config_node *list =
                config_node_new(CONFIG_LIST, NULL, NULL, false);
        const yaml_node_item_t *item;
        int r;

        if (!list)
                return -ENOMEM;
        for (item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
                struct config_node *child = NULL;

                r = read_node(reader, *item, depth, &child);
                if (r)
                        return r;
                r = config_node_add(list, child);
                if (r) {
                        config_node_free(child);
                        return r;
                }
        }
        *ret = list;
        list = NULL;
        return 0;
}

static int read_key(struct reader *reader, const struct config_node *map, const yaml_node_t *key) {
        unsigned line = line_of(&key->start_mark);
        const struct config_node *twin;

        if (key->type != YAML_SCALAR_NODE)
                return config_fail(reader->err, reader->source, line, NULL,
                                   "found a key that is a list or a map, expected a name");
        if (strlen(text_of(key)) != key->data.scalar.length || key->data.scalar.length == 0 ||
            key->data.scalar.length > SETTINGS_TEXT_MAX)
                return config_fail(reader->err, reader->source, line, NULL,
                                   "found a key that is empty, too long or holds a NUL byte, "
                                   "expected a name");
        twin = config_node_child(map, text_of(key));
        if (twin)
                return config_fail(reader->err, reader->source, line, text_of(key),
                                   "found the key twice (first in line %u), expected it once",
                                   twin->key_line);
        return 0;
}

static int read_map(struct reader *reader, const yaml_node_t *node, unsigned depth,
                    struct config_node **ret) {
        __attribute__((cleanup(config_node_freep))) struct config_node *map =
                config_node_new(CONFIG_MAP, NULL, NULL, false);
        const yaml_node_pair_t *pair;
        int r;

        if (!map)
                return -ENOMEM;
        for (pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
                const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
                __attribute__((cleanup(config_node_freep))) struct config_node *child = NULL;

                r = read_key(reader, map, key);
                if (r)
                        return r;
                r = read_node(reader, pair->value, depth, &child);
                if (r)
                        return r;
                child->key = strdup(text_of(key));
                child->key_line = line_of(&key->start_mark);
                r = child->key ? config_node_add(map, child) : -ENOMEM;
                if (r)
                        return r;
                child = NULL;
        }
        *ret = map;
        map = NULL;
        return 0;
}

/* An alias is the same node again, so a small document can name a huge tree, or one without end:
 * both end at a bound. */
static int read_node(struct reader *reader, int id, unsigned depth, struct config_node **ret) {
        const yaml_node_t *node = yaml_document_get_node(reader->document, id);
        unsigned line = line_of(&node->start_mark);
        int r = 0;

        if (depth >= CONFIG_DEPTH_MAX)
                return config_fail(reader->err, reader->source, line, NULL,
                                   "found values nested deeper than %u levels, expected fewer",
                                   CONFIG_DEPTH_MAX);
        if (++reader->n_nodes > CONFIG_NODES_MAX)
                return config_fail(reader->err, reader->source, line, NULL,
                                   "found more than %u values, aliases counted, expected fewer",
                                   CONFIG_NODES_MAX);
        if (node->tag && node->tag[0] == '!')
                return config_fail(reader->err, reader->source, line, NULL,
                                   "found the tag %.40s, expected a value without a tag",
                                   (const char *)node->tag);
        switch (node->type) {
        case YAML_SCALAR_NODE:
                r = read_scalar(reader, node, ret);
                break;
        case YAML_SEQUENCE_NODE:
                r = read_list(reader, node, depth + 1, ret);
                break;
        case YAML_MAPPING_NODE:
                r = read_map(reader, node, depth + 1, ret);
                break;
        case YAML_NO_NODE:
                return -EINVAL;
        }
        if (r)
                return r;
        (*ret)->line = line;
        (*ret)->source = reader->source;
        return 0;
}

/* ---- documents --------------------------------------------------------------------------- */

static unsigned line_at(const char *bytes, size_t len, size_t offset) {
        unsigned line = 1;

        for (size_t i = 0; i < len && i < offset; i++)
                line += bytes[i] == '\n';
        return line;
}

static int fail_syntax(const struct config_source *source, const yaml_parser_t *parser,
                       const char *bytes, size_t len, struct config_error *err) {
        const char *problem = parser->problem ? parser->problem : "no YAML";

        switch (parser->error) {
        case YAML_MEMORY_ERROR:
                return -ENOMEM;
        case YAML_READER_ERROR:
                return config_fail(err, source, line_at(bytes, len, parser->problem_offset), NULL,
                                   "found bytes that are no text (%s), expected UTF-8", problem);
        default:
                return config_fail(err, source, line_of(&parser->problem_mark), NULL,
                                   "found broken YAML (%s%s%s), expected valid YAML",
                                   parser->context ? parser->context : "",
                                   parser->context ? ", " : "", problem);
        }
}

static int expect_end(const struct config_source *source, yaml_parser_t *parser, const char *bytes,
                      size_t len, struct config_error *err) {
        __attribute__((cleanup(yaml_document_delete))) yaml_document_t next = {0};
        const yaml_node_t *root;

        if (!yaml_parser_load(parser, &next))
                return fail_syntax(source, parser, bytes, len, err);
        root = yaml_document_get_root_node(&next);
        if (root)
                return config_fail(err, source, line_of(&root->start_mark), NULL,
                                   "found a second YAML document, expected one");
        return 0;
}

int config_tree_parse(const struct config_source *source, const char *bytes, size_t len,
                      struct config_node **ret, struct config_error *err) {
        __attribute__((cleanup(yaml_parser_delete))) yaml_parser_t parser = {0};
        __attribute__((cleanup(yaml_document_delete))) yaml_document_t document = {0};
        __attribute__((cleanup(config_node_freep))) struct config_node *tree = NULL;
        struct reader reader = {.source = source, .err = err, .document = &document};
        const char *nul = memchr(bytes, '\0', len);
        int r;

        if (nul)
                return config_fail(err, source, line_at(bytes, len, (size_t)(nul - bytes)), NULL,
                                   "found a NUL byte, expected YAML text in UTF-8");
        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);
        if (!yaml_parser_load(&parser, &document))
                return fail_syntax(source, &parser, bytes, len, err);
        if (!yaml_document_get_root_node(&document))
                return config_fail(err, source, 1, NULL, "found nothing, expected %s",
                                   source->file ? "settings (`millrace config --defaults` "
                                                  "prints them all)"
                                                : "a value");
        r = read_node(&reader, 1, 0, &tree);
        if (r)
                return r;
        r = expect_end(source, &parser, bytes, len, err);
        if (r)
                return r;
        *ret = tree;
        tree = NULL;
        return 0;
}

/* ---- files ------------------------------------------------------------------------------- */

static void freep(char **bytes) {
        free(*bytes);
}

static void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

/* Reads up to CONFIG_FILE_MAX + 1 bytes, so that one too many shows. */
static int read_all(int fd, char *to, size_t *ret_len) {
        size_t len = 0;
        ssize_t n;

        while (len <= CONFIG_FILE_MAX) {
                n = read(fd, to + len, CONFIG_FILE_MAX + 1 - len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                len += (size_t)n;
        }
        *ret_len = len;
        return 0;
}

int config_tree_read(const struct config_source *source, struct config_node **ret,
                     struct config_error *err) {
        __attribute__((cleanup(freep))) char *bytes = NULL;
        __attribute__((cleanup(closep))) int fd = -1;
        struct stat st;
        size_t len = 0;
        int r;

        fd = open(source->file, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return config_fail(err, source, 1, NULL, "%s, expected a readable file",
                                   strerror(errno));
        if (fstat(fd, &st))
                return config_fail(err, source, 1, NULL, "%s, expected a readable file",
                                   strerror(errno));
        if (S_ISDIR(st.st_mode))
                return config_fail(err, source, 1, NULL, "found a directory, expected a file");
        bytes = malloc(CONFIG_FILE_MAX + 1);
        if (!bytes)
                return -ENOMEM;
        r = read_all(fd, bytes, &len);
        if (r)
                return config_fail(err, source, 1, NULL, "%s, expected a readable file",
                                   strerror(-r));
        if (len > CONFIG_FILE_MAX)
                return config_fail(err, source, 1, NULL,
                                   "found a file of more than %u bytes, expected a configuration",
                                   CONFIG_FILE_MAX);
        return config_tree_parse(source, bytes, len, ret, err);
}
