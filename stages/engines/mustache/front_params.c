#include "stages/engines/mustache/front_params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"

struct writer {
        yaml_document_t *document;
        struct json_buf to;
        const yaml_node_t *bad;
};

static bool put_node(struct writer *w, const yaml_node_t *node, unsigned depth);

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static const char *digits(const char *p) {
        while (is_digit(*p))
                p++;
        return p;
}

/* A number by JSON's grammar? */
static bool is_number(const char *p) {
        if (*p == '-')
                p++;
        if (!is_digit(*p) || (*p == '0' && is_digit(p[1])))
                return false;
        p = digits(p);
        if (*p == '.') {
                if (!is_digit(p[1]))
                        return false;
                p = digits(p + 1);
        }
        if (*p == 'e' || *p == 'E') {
                p += p[1] == '+' || p[1] == '-' ? 2 : 1;
                if (!is_digit(*p))
                        return false;
                p = digits(p);
        }
        return *p == 0;
}

/* What a plain scalar is in JSON, if it is no text. */
static const char *word_of(const char *text) {
        static const char *const words[][2] = {
                        {"", "null"},      {"~", "null"},      {"null", "null"},
                        {"Null", "null"},  {"NULL", "null"},   {"true", "true"},
                        {"True", "true"},  {"TRUE", "true"},   {"false", "false"},
                        {"False", "false"}, {"FALSE", "false"},
        };

        for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
                if (strcmp(text, words[i][0]) == 0)
                        return words[i][1];
        return is_number(text) ? text : NULL;
}

static bool put_scalar(struct writer *w, const yaml_node_t *node) {
        const char *text = (const char *)node->data.scalar.value, *word = NULL;
        size_t n = node->data.scalar.length;

        if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(text) == n)
                word = word_of(text);
        if (word)
                json_put_text(&w->to, word);
        else
                json_put_string(&w->to, text, (uint32_t)n);
        return true;
}

static bool put_list(struct writer *w, const yaml_node_t *node, unsigned depth) {
        bool ok = true;

        json_put_text(&w->to, "[");
        for (const yaml_node_item_t *item = node->data.sequence.items.start;
                        ok && item < node->data.sequence.items.top; item++) {
                if (item > node->data.sequence.items.start)
                        json_put_text(&w->to, ",");
                ok = put_node(w, yaml_document_get_node(w->document, *item), depth);
        }
        json_put_text(&w->to, "]");
        return ok;
}

static bool put_members(struct writer *w, const yaml_node_t *node, unsigned depth) {
        bool ok = true;

        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
                        ok && pair < node->data.mapping.pairs.top; pair++) {
                const yaml_node_t *key = yaml_document_get_node(w->document, pair->key);
                if (key->type != YAML_SCALAR_NODE) {
                        w->bad = key;
                        return false;
                }
                if (pair > node->data.mapping.pairs.start)
                        json_put_text(&w->to, ",");
                json_put_string(&w->to, (const char *)key->data.scalar.value,
                                (uint32_t)key->data.scalar.length);
                json_put_text(&w->to, ":");
                ok = put_node(w, yaml_document_get_node(w->document, pair->value), depth);
        }
        return ok;
}

static bool put_node(struct writer *w, const yaml_node_t *node, unsigned depth) {
        bool ok;

        if (w->to.full || depth == FRONT_DEPTH_MAX) {
                w->bad = node;
                return false;
        }
        if (node->type == YAML_SCALAR_NODE)
                return put_scalar(w, node);
        if (node->type == YAML_SEQUENCE_NODE)
                return put_list(w, node, depth + 1);
        json_put_text(&w->to, "{");
        ok = put_members(w, node, depth + 1);
        json_put_text(&w->to, "}");
        return ok;
}

int front_params(yaml_document_t *document, const yaml_node_t *map, char **ret, uint32_t *ret_n,
                const yaml_node_t **ret_bad) {
        struct writer w = {.document = document,
                        .to = {.at = malloc(PARAMS_BYTES_MAX), .cap = PARAMS_BYTES_MAX}};

        if (!w.to.at)
                return -ENOMEM;
        if (map->type != YAML_MAPPING_NODE || !put_members(&w, map, 1) || w.to.full) {
                *ret_bad = w.bad ? w.bad : map;
                free(w.to.at);
                return MUSTACHE_E_SYNTAX;
        }
        *ret = w.to.at;
        *ret_n = w.to.len;
        return 0;
}
