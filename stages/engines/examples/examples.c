#include "stages/engines/examples/examples.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>
#include <yaml.h>

#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

#define FRAME_BYTES 80u /* what stands around the texts of two messages */

__attribute__((format(printf, 3, 4))) static int fail(
                struct examples_error *err, size_t line, const char *format, ...) {
        va_list args;

        err->line = (uint32_t)line;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        return EXAMPLES_E_INVALID;
}

/* ---- one example ---- */

static void put_message(struct json_buf *to, const char *head, const struct examples_text *text) {
        json_put_text(to, head);
        json_put_string(to, text->p, text->n);
        json_put_text(to, "}");
}

static int messages_make(struct example *e) {
        uint64_t cap = ((uint64_t)e->user.n + e->assistant.n) * JSON_ESCAPE_GROWTH + FRAME_BYTES;
        struct json_buf to = {.cap = (uint32_t)cap};

        to.at = malloc(cap);
        if (!to.at)
                return -ENOMEM;
        put_message(&to, "{\"role\":\"user\",\"content\":", &e->user);
        put_message(&to, ",{\"role\":\"assistant\",\"content\":", &e->assistant);
        e->messages = (struct examples_text){to.at, to.len};
        return 0;
}

static struct example *add(struct examples *examples) {
        if (examples->n == examples->cap) {
                uint32_t cap = examples->cap ? examples->cap * 2 : 16;
                struct example *more = realloc(examples->v, cap * sizeof(*more));

                if (!more)
                        return NULL;
                examples->v = more;
                examples->cap = cap;
        }
        examples->v[examples->n] = (struct example){.user.p = NULL};
        return &examples->v[examples->n++];
}

/* The member of an example that has this name; NULL: none has. */
static struct examples_text *member(struct example *e, const char *name, size_t n) {
        if (n == 4 && memcmp(name, "user", n) == 0)
                return &e->user;
        return n == 9 && memcmp(name, "assistant", n) == 0 ? &e->assistant : NULL;
}

static int finish(struct example *e, size_t line, struct examples_error *err) {
        if (!e->user.p || !e->assistant.p)
                return fail(err, line, "an example has `user` and `assistant`");
        for (int i = 0; i < 2; i++) {
                const struct examples_text *t = i ? &e->assistant : &e->user;
                if (json_utf8_bad(t->p, t->n) < t->n)
                        return fail(err, line, "%s: a text is not UTF-8", i ? "assistant" : "user");
        }
        return messages_make(e);
}

static int full(const struct examples *examples, size_t line, struct examples_error *err) {
        return examples->n < EXAMPLES_MAX ? 0 : fail(err, line, "more than %u examples", EXAMPLES_MAX);
}

/* ---- JSONL ---- */

static int json_text_read(struct json_text value, struct examples_text *to, size_t line,
                struct examples_error *err) {
        if (value.p[0] != '"')
                return fail(err, line, "a text was expected");
        free(to->p);
        to->p = malloc(value.n);
        if (!to->p)
                return -ENOMEM;
        return json_unescape(value.p, value.n, to->p, value.n, &to->n) ? fail(err, line, "no JSON") : 0;
}

static int json_row(struct examples *examples, struct json_text row, size_t line,
                struct examples_error *err) {
        struct json_walk walk = json_walk_in(json_inside(row));
        struct json_text key, value;
        struct example *e = NULL;
        int r = full(examples, line, err);

        if (r == 0)
                e = add(examples);
        if (!e)
                return r ? r : -ENOMEM;
        while ((r = json_walk_member(&walk, &key, &value)) == 0) {
                struct examples_text *to = member(e, key.p + 1, key.n - 2);

                if (!to)
                        return fail(err, line, "'%.*s': there is no such key",
                                        key.n > 66 ? 64 : (int)key.n - 2, key.p + 1);
                r = json_text_read(value, to, line, err);
                if (r)
                        return r;
        }
        return r == WALK_E_END ? finish(e, line, err) : fail(err, line, "no JSON");
}

static int read_jsonl(struct examples *examples, const char *bytes, size_t n,
                struct examples_error *err) {
        size_t line = 1;
        int r = 0;

        for (const char *p = bytes, *end = bytes + n; r == 0 && p < end; line++) {
                const char *stop = memchr(p, '\n', (size_t)(end - p));
                struct json_walk walk = {.p = p, .n = (uint32_t)((stop ? stop : end) - p)};
                struct json_text row, more;

                r = json_walk_element(&walk, &row);
                if (r == 0 && (row.p[0] != '{' || json_walk_element(&walk, &more) != WALK_E_END))
                        r = -EPROTO;
                if (r == -EPROTO)
                        r = fail(err, line, "a JSON object was expected");
                else if (r == 0)
                        r = json_row(examples, row, line, err);
                else
                        r = 0; /* an empty line */
                p = stop ? stop + 1 : end;
        }
        return r;
}

/* ---- YAML ---- */

static int yaml_row(struct examples *examples, yaml_document_t *document, const yaml_node_t *row,
                struct examples_error *err) {
        size_t line = row->start_mark.line + 1;
        struct example *e = NULL;
        int r = full(examples, line, err);

        if (r == 0 && row->type != YAML_MAPPING_NODE)
                return fail(err, line, "an example is a map with `user` and `assistant`");
        if (r == 0)
                e = add(examples);
        if (!e)
                return r ? r : -ENOMEM;
        for (const yaml_node_pair_t *pair = row->data.mapping.pairs.start;
                        pair < row->data.mapping.pairs.top; pair++) {
                const yaml_node_t *key = yaml_document_get_node(document, pair->key);
                const yaml_node_t *value = yaml_document_get_node(document, pair->value);
                struct examples_text *to = NULL;

                if (key->type == YAML_SCALAR_NODE)
                        to = member(e, (const char *)key->data.scalar.value, key->data.scalar.length);
                if (!to || to->p)
                        return fail(err, key->start_mark.line + 1,
                                        to ? "'%.64s' is given twice" : "'%.64s': there is no such key",
                                        key->type == YAML_SCALAR_NODE
                                                        ? (const char *)key->data.scalar.value
                                                        : "?");
                if (value->type != YAML_SCALAR_NODE)
                        return fail(err, value->start_mark.line + 1, "a text was expected");
                to->p = malloc(value->data.scalar.length + 1);
                if (!to->p)
                        return -ENOMEM;
                to->n = (uint32_t)value->data.scalar.length;
                memcpy(to->p, value->data.scalar.value, to->n);
        }
        return finish(e, line, err);
}

static int yaml_rows(struct examples *examples, yaml_document_t *document, struct examples_error *err) {
        yaml_node_t *root = yaml_document_get_root_node(document);
        int r = 0;

        if (!root)
                return 0;
        if (root->type != YAML_SEQUENCE_NODE)
                return fail(err, root->start_mark.line + 1, "a list of examples was expected");
        for (yaml_node_item_t *item = root->data.sequence.items.start;
                        r == 0 && item < root->data.sequence.items.top; item++)
                r = yaml_row(examples, document, yaml_document_get_node(document, *item), err);
        return r;
}

static int read_yaml(struct examples *examples, const char *bytes, size_t n,
                struct examples_error *err) {
        yaml_parser_t parser;
        yaml_document_t document;
        int r;

        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n);
        if (yaml_parser_load(&parser, &document)) {
                r = yaml_rows(examples, &document, err);
                yaml_document_delete(&document);
        } else if (parser.error == YAML_MEMORY_ERROR) {
                r = -ENOMEM;
        } else {
                r = fail(err, parser.problem_mark.line + 1, "%s",
                                parser.problem ? parser.problem : "no YAML");
        }
        yaml_parser_delete(&parser);
        return r;
}

/* ---- the file ---- */

/* At most a byte more than is allowed; to be freed. */
static char *slurp(const char *path, size_t *ret_n) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        char *bytes = NULL;
        struct stat st;
        ssize_t got = 1;

        *ret_n = 0;
        if (fd == -1)
                return NULL;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                bytes = malloc(EXAMPLES_FILE_BYTES_MAX + 1);
        else
                errno = EINVAL;
        while (bytes && got > 0 && *ret_n <= EXAMPLES_FILE_BYTES_MAX) {
                got = read(fd, bytes + *ret_n, EXAMPLES_FILE_BYTES_MAX + 1 - *ret_n);
                *ret_n += got > 0 ? (size_t)got : 0;
        }
        close(fd);
        if (got < 0) {
                free(bytes);
                return NULL;
        }
        return bytes;
}

static bool is_jsonl(const char *path) {
        size_t n = strlen(path);

        return n > 6 && strcmp(path + n - 6, ".jsonl") == 0;
}

int examples_load(const char *path, struct examples *ret, struct examples_error *err) {
        struct examples examples = {.v = NULL};
        size_t n;
        char *bytes = slurp(path, &n);
        int r;

        *err = (struct examples_error){0};
        if (!bytes)
                return errno ? -errno : -EIO;
        if (n > EXAMPLES_FILE_BYTES_MAX)
                r = fail(err, 1, "longer than %u bytes", EXAMPLES_FILE_BYTES_MAX);
        else if (is_jsonl(path))
                r = read_jsonl(&examples, bytes, n, err);
        else
                r = read_yaml(&examples, bytes, n, err);
        examples.digest = XXH3_64bits(bytes, n);
        free(bytes);
        if (r)
                examples_clear(&examples);
        else
                *ret = examples;
        return r;
}

void examples_clear(struct examples *examples) {
        for (uint32_t i = 0; i < examples->n; i++) {
                free(examples->v[i].user.p);
                free(examples->v[i].assistant.p);
                free(examples->v[i].messages.p);
        }
        free(examples->v);
        *examples = (struct examples){.v = NULL};
}
