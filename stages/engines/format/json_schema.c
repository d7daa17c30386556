#include "stages/engines/format/json_schema.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

#define NUMBER_MAX 64u
#define POINTER_PART_MAX 256u
#define ALL_TYPES ((1u << JSON_TYPES_N) - 1)
#define IS(type) (1u << JSON_##type)

struct compiling {
        struct json_schema *schema;
        struct json_text root;
        const char *from[SCHEMA_NODES]; /* where each node's text begins */
        unsigned depth;
        bool failed; /* no memory */
};

static uint16_t compile(struct compiling *c, struct json_text value);

/* ---- small values ---- */

static bool is(struct json_text value, const char *word) {
        return value.n == strlen(word) && !memcmp(value.p, word, value.n);
}

static bool number_of(struct json_text value, double *ret) {
        char text[NUMBER_MAX], *end;

        if (value.n == 0 || value.n >= sizeof(text) || (value.p[0] != '-' && !(value.p[0] >= '0' && value.p[0] <= '9')))
                return false;
        memcpy(text, value.p, value.n);
        text[value.n] = '\0';
        *ret = strtod(text, &end);
        return *end == '\0' && isfinite(*ret);
}

/* A limit of a length; one that no length reaches is none. */
static uint32_t limit_of(struct json_text value, uint32_t otherwise) {
        double v;

        return number_of(value, &v) && v >= 0 && v < UINT32_MAX ? (uint32_t)v : otherwise;
}

/* Decodes a string behind the texts so far. */
static bool text_of(struct compiling *c, struct json_text string, uint32_t *ret, uint32_t *ret_n) {
        struct json_schema *s = c->schema;
        char *more;

        if (s->n_text + string.n + JSON_CHAR_MAX > s->cap_text) {
                more = realloc(s->text, (size_t)(s->cap_text + string.n) * 2);
                if (!more) {
                        c->failed = true;
                        return false;
                }
                s->text = more;
                s->cap_text = (s->cap_text + string.n) * 2;
        }
        if (json_unescape(string.p, string.n, s->text + s->n_text, s->cap_text - s->n_text, ret_n))
                return false;
        *ret = s->n_text;
        s->n_text += *ret_n;
        return true;
}

/* ---- keywords ---- */

static uint8_t type_of(struct json_text name, bool *ret_whole) {
        static const struct {
                const char *name;
                uint8_t types;
        } names[] = {{"\"null\"", IS(NULL)}, {"\"boolean\"", IS(FALSE) | IS(TRUE)},
                        {"\"number\"", IS(NUMBER)}, {"\"integer\"", IS(NUMBER)},
                        {"\"string\"", IS(STRING)}, {"\"array\"", IS(ARRAY)},
                        {"\"object\"", IS(OBJECT)}};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                if (!is(name, names[i].name))
                        continue;
                *ret_whole = is(name, "\"integer\"");
                return names[i].types;
        }
        return ALL_TYPES;
}

static void on_type(struct compiling *c, struct schema_node *node, struct json_text value) {
        struct json_walk walk = json_walk_in(json_inside(value));
        struct json_text name;
        bool whole = false, all_whole = true;
        uint8_t types = 0, one;

        (void)c;
        if (value.p[0] == '"') {
                node->types &= type_of(value, &node->whole);
                return;
        }
        while (value.p[0] == '[' && json_walk_element(&walk, &name) == 0) {
                whole = false;
                one = type_of(name, &whole);
                all_whole &= whole || !(one & IS(NUMBER));
                types |= one;
        }
        node->types &= types ? types : ALL_TYPES;
        node->whole |= types & IS(NUMBER) && all_whole;
}

static uint8_t scalar_type(char first) {
        switch (first) {
        case 'n':
                return JSON_NULL;
        case 't':
                return JSON_TRUE;
        case 'f':
                return JSON_FALSE;
        case '"':
                return JSON_STRING;
        case '[':
                return JSON_ARRAY;
        case '{':
                return JSON_OBJECT;
        default:
                return JSON_NUMBER;
        }
}

/* A value that is allowed. False: it is none that can be compared, so none of them is looked at. */
static bool add_value(struct compiling *c, struct json_text text) {
        struct json_schema *s = c->schema;
        struct schema_value *value = &s->values[s->n_values];

        if (s->n_values == SCHEMA_VALUES)
                return false;
        *value = (struct schema_value){.type = scalar_type(text.p[0])};
        if (value->type >= JSON_ARRAY || (value->type == JSON_NUMBER && !number_of(text, &value->number)) ||
                        (value->type == JSON_STRING && !text_of(c, text, &value->text, &value->n)))
                return false;
        s->n_values++;
        return true;
}

static void on_enum(struct compiling *c, struct schema_node *node, struct json_text value) {
        struct json_walk walk = json_walk_in(json_inside(value));
        uint32_t begin = c->schema->n_values;
        struct json_text one;
        bool good = value.p[0] == '[' && !node->has_values;

        while (good && json_walk_element(&walk, &one) == 0)
                good = add_value(c, one);
        if (!good) {
                c->schema->n_values = begin;
                return;
        }
        node->has_values = true;
        node->value = (uint16_t)begin;
        node->n_values = (uint16_t)(c->schema->n_values - begin);
}

static void on_const(struct compiling *c, struct schema_node *node, struct json_text value) {
        uint32_t begin = c->schema->n_values;

        if (node->has_values || !add_value(c, value))
                return;
        node->has_values = true;
        node->value = (uint16_t)begin;
        node->n_values = 1;
}

static void low_bound(struct schema_node *node, struct json_text value, bool exclusive) {
        double v;

        if (!number_of(value, &v) || v < node->low)
                return;
        node->exclusive_low = exclusive || (node->exclusive_low && v <= node->low);
        node->low = v;
}

static void high_bound(struct schema_node *node, struct json_text value, bool exclusive) {
        double v;

        if (!number_of(value, &v) || v > node->high)
                return;
        node->exclusive_high = exclusive || (node->exclusive_high && v >= node->high);
        node->high = v;
}

static void on_minimum(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        low_bound(node, value, false);
}

static void on_maximum(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        high_bound(node, value, false);
}

static void on_above(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        low_bound(node, value, true);
}

static void on_below(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        high_bound(node, value, true);
}

static void on_min_length(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->low_length = limit_of(value, 0);
}

static void on_max_length(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->high_length = limit_of(value, UINT32_MAX);
}

static void on_min_items(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->low_items = limit_of(value, 0);
        node->structured = true;
}

static void on_max_items(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->high_items = limit_of(value, UINT32_MAX);
        node->structured = true;
}

static void on_min_members(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->low_members = limit_of(value, 0);
        node->structured = true;
}

static void on_max_members(struct compiling *c, struct schema_node *node, struct json_text value) {
        (void)c;
        node->high_members = limit_of(value, UINT32_MAX);
        node->structured = true;
}

static void on_pattern(struct compiling *c, struct schema_node *node, struct json_text value) {
        uint32_t at, n;
        PCRE2_SIZE where;
        int error;

        if (value.p[0] != '"' || node->pattern || !text_of(c, value, &at, &n))
                return;
        node->pattern = pcre2_compile((PCRE2_SPTR)c->schema->text + at, n, PCRE2_UTF, &error, &where, NULL);
        if (node->pattern)
                pcre2_jit_compile(node->pattern, PCRE2_JIT_COMPLETE);
}

/* ---- members and elements ---- */

static uint32_t count(struct json_text list, bool members) {
        struct json_walk walk = json_walk_in(json_inside(list));
        struct json_text key, value;
        uint32_t n = 0;

        while ((members ? json_walk_member(&walk, &key, &value) : json_walk_element(&walk, &value)) == 0)
                n++;
        return n;
}

/* The property of that name; a new one, with the node that others have, when there is none yet. NULL: no room. */
static struct schema_property *property_of(struct compiling *c, struct schema_node *node, struct json_text key) {
        struct json_schema *s = c->schema;
        struct schema_property *p = &s->properties[node->property];
        uint32_t at, n;

        if (key.p[0] != '"' || !text_of(c, key, &at, &n))
                return NULL;
        for (uint32_t i = 0; i < node->n_properties; i++, p++)
                if (p->n_name == n && !memcmp(s->text + p->name, s->text + at, n))
                        return p;
        *p = (struct schema_property){.name = at, .n_name = n, .node = node->additional};
        node->n_properties++;
        return p;
}

/* Those that are required stand first, so that each has a bit. */
static void add_members(struct compiling *c, struct schema_node *node, struct json_text properties,
                struct json_text required) {
        struct json_walk walk = json_walk_in(json_inside(required));
        uint32_t room = count(properties, true) + count(required, false);
        struct schema_property *property;
        struct json_text key, value;

        if (c->schema->n_properties + room > SCHEMA_PROPERTIES) {
                node->additional = JSON_SCHEMA_ANY;
                return;
        }
        node->property = (uint16_t)c->schema->n_properties;
        c->schema->n_properties += room;
        while (node->n_properties < SCHEMA_REQUIRED && json_walk_element(&walk, &key) == 0)
                (void)property_of(c, node, key);
        node->n_required = (uint8_t)node->n_properties;
        walk = json_walk_in(json_inside(properties));
        while (json_walk_member(&walk, &key, &value) == 0) {
                property = property_of(c, node, key);
                if (property)
                        property->node = compile(c, value);
        }
}

static bool find(struct json_text object, const char *name, struct json_text *ret) {
        *ret = (struct json_text){"", 0};
        return json_find(json_inside(object), name, ret);
}

static void on_members(struct compiling *c, struct schema_node *node, struct json_text object) {
        struct json_text additional, properties, required, patterns;

        if (find(object, "additionalProperties", &additional) && !find(object, "patternProperties", &patterns))
                node->additional = compile(c, additional);
        find(object, "properties", &properties);
        find(object, "required", &required);
        if (node->additional || properties.n || required.n) {
                node->structured = true;
                add_members(c, node, properties, required);
        }
}

static void add_prefix(struct compiling *c, struct schema_node *node, struct json_text list) {
        struct json_walk walk = json_walk_in(json_inside(list));
        uint32_t n = count(list, false);
        struct json_text value;

        if (c->schema->n_prefix + n > SCHEMA_PROPERTIES)
                return;
        node->prefix = (uint16_t)c->schema->n_prefix;
        c->schema->n_prefix += n;
        for (uint32_t i = 0; i < n && json_walk_element(&walk, &value) == 0; i++)
                c->schema->prefix[node->prefix + i] = compile(c, value);
        node->n_prefix = (uint16_t)n;
        node->structured = true;
}

/* An array of schemas under items is what older versions called prefixItems. */
static void on_elements(struct compiling *c, struct schema_node *node, struct json_text object) {
        struct json_text items, prefix;
        bool has_items = find(object, "items", &items);

        if (has_items && items.p[0] == '[') {
                add_prefix(c, node, items);
                return;
        }
        if (find(object, "prefixItems", &prefix)) {
                add_prefix(c, node, prefix);
                if (!node->n_prefix && json_inside(prefix).n)
                        return; /* no room: nobody knows where the others begin */
        }
        if (has_items) {
                node->items = compile(c, items);
                node->structured = true;
        }
}

/* ---- schemas beside this one ---- */

/* One part of a pointer; false: it has none left. */
static bool pointer_part(struct json_text *rest, char part[static POINTER_PART_MAX]) {
        uint32_t n = 0, i = 1;

        if (rest->n == 0 || rest->p[0] != '/')
                return false;
        for (; i < rest->n && rest->p[i] != '/' && n < POINTER_PART_MAX - 1; i++) {
                char c = rest->p[i];
                if (c == '~' && i + 1 < rest->n)
                        c = rest->p[++i] == '0' ? '~' : '/';
                part[n++] = c;
        }
        part[n] = '\0';
        *rest = (struct json_text){rest->p + i, rest->n - i};
        return true;
}

static uint16_t referred(struct compiling *c, struct json_text name) {
        struct json_text at = c->root, rest = {name.p + 2, name.n - 3};
        char part[POINTER_PART_MAX];

        if (name.n < 3 || name.p[0] != '"' || name.p[1] != '#' || memchr(name.p, '\\', name.n) ||
                        memchr(name.p, '%', name.n))
                return JSON_SCHEMA_ANY;
        while (pointer_part(&rest, part))
                if (!find(at, part, &at))
                        return JSON_SCHEMA_ANY;
        return rest.n == 0 ? compile(c, at) : JSON_SCHEMA_ANY;
}

/* What a value of a type may be at all, by this node and those that it leads to. */
static bool takes(const struct json_schema *s, uint16_t at, unsigned type) {
        for (unsigned steps = 0; steps < SCHEMA_DEPTH; steps++) {
                if (!(s->nodes[at].types >> type & 1))
                        return false;
                if (s->nodes[at].by_type[type] == JSON_SCHEMA_ANY)
                        return true;
                at = s->nodes[at].by_type[type];
        }
        return true;
}

/* For each type the one alternative that takes it; where there are several, nothing is asked. */
static void alternatives(struct compiling *c, struct schema_node *node, struct json_text list) {
        struct json_walk walk = json_walk_in(json_inside(list));
        uint16_t found[JSON_TYPES_N] = {0};
        uint8_t n[JSON_TYPES_N] = {0};
        struct json_text value;

        while (json_walk_element(&walk, &value) == 0) {
                uint16_t one = compile(c, value);
                for (unsigned type = 0; type < JSON_TYPES_N; type++) {
                        if (!takes(c->schema, one, type))
                                continue;
                        n[type] = n[type] ? 2 : 1;
                        found[type] = one;
                }
        }
        for (unsigned type = 0; type < JSON_TYPES_N; type++) {
                if (n[type] == 0)
                        node->types &= (uint8_t)~(1u << type);
                else if (n[type] == 1)
                        node->by_type[type] = found[type];
        }
}

static void on_others(struct compiling *c, struct schema_node *node, struct json_text object) {
        struct json_text value, one;
        uint16_t also = JSON_SCHEMA_ANY;
        struct json_walk walk;

        if (find(object, "anyOf", &value) || find(object, "oneOf", &value)) {
                if (value.p[0] == '[' && count(value, false))
                        alternatives(c, node, value);
                return;
        }
        if (find(object, "allOf", &value) && count(value, false) == 1) {
                walk = json_walk_in(json_inside(value));
                if (json_walk_element(&walk, &one) == 0)
                        also = compile(c, one);
        }
        for (unsigned type = 0; type < JSON_TYPES_N; type++)
                node->by_type[type] = also;
}

/* ---- a schema ---- */

/* What stands beside a reference counts in some versions and not in others: it is not looked at. */
static void on_reference(struct compiling *c, struct schema_node *node, struct json_text value) {
        uint16_t also = referred(c, value);

        for (unsigned type = 0; type < JSON_TYPES_N; type++)
                node->by_type[type] = also;
}

static void on_keyword(struct compiling *c, struct schema_node *node, struct json_text key, struct json_text value) {
        static const struct {
                const char *name;
                void (*read)(struct compiling *c, struct schema_node *node, struct json_text value);
        } keywords[] = {
                        {"type", on_type},
                        {"enum", on_enum},
                        {"const", on_const},
                        {"minimum", on_minimum},
                        {"maximum", on_maximum},
                        {"exclusiveMinimum", on_above},
                        {"exclusiveMaximum", on_below},
                        {"minLength", on_min_length},
                        {"maxLength", on_max_length},
                        {"minItems", on_min_items},
                        {"maxItems", on_max_items},
                        {"minProperties", on_min_members},
                        {"maxProperties", on_max_members},
                        {"pattern", on_pattern},
        };

        for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
                if (json_key_is(key, keywords[i].name))
                        keywords[i].read(c, node, value);
}

static uint16_t add_node(struct compiling *c, const char *from) {
        uint16_t at = (uint16_t)c->schema->n_nodes++;

        c->schema->nodes[at] = (struct schema_node){.types = ALL_TYPES,
                        .high_length = UINT32_MAX,
                        .high_items = UINT32_MAX,
                        .high_members = UINT32_MAX,
                        .low = -INFINITY,
                        .high = INFINITY};
        c->from[at] = from;
        return at;
}

static uint16_t compile(struct compiling *c, struct json_text value) {
        struct json_walk walk = json_walk_in(json_inside(value));
        struct json_text key, member, reference;
        struct schema_node *node;
        uint16_t at;

        if (value.p[0] != '{')
                return value.p[0] == 'f' ? JSON_SCHEMA_NONE : JSON_SCHEMA_ANY;
        for (at = JSON_SCHEMA_NONE + 1; at < c->schema->n_nodes; at++)
                if (c->from[at] == value.p)
                        return at;
        if (c->schema->n_nodes == SCHEMA_NODES || c->depth == SCHEMA_DEPTH)
                return JSON_SCHEMA_ANY;
        c->depth++;
        at = add_node(c, value.p);
        node = &c->schema->nodes[at];
        if (find(value, "$ref", &reference)) {
                on_reference(c, node, reference);
        } else {
                while (json_walk_member(&walk, &key, &member) == 0)
                        on_keyword(c, node, key, member);
                on_members(c, node, value);
                on_elements(c, node, value);
                on_others(c, node, value);
        }
        c->depth--;
        return at;
}

static int begin(struct compiling *c) {
        struct json_schema *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        c->schema = s;
        s->match = pcre2_match_data_create(8, NULL);
        s->matching = pcre2_match_context_create(NULL);
        if (!s->match || !s->matching)
                return -ENOMEM;
        pcre2_set_match_limit(s->matching, SCHEMA_STEPS);
        (void)add_node(c, NULL);
        s->nodes[add_node(c, NULL)].types = 0;
        return 0;
}

static int end(struct compiling *c, int r, struct json_schema **ret) {
        if (r == 0 && c->failed)
                r = -ENOMEM;
        if (r)
                json_schema_free(c->schema);
        else
                *ret = c->schema;
        free(c);
        return r;
}

int json_schema_of(const char *schema, uint32_t n, struct json_schema **ret) {
        struct compiling *c = calloc(1, sizeof(*c));
        int r = c ? begin(c) : -ENOMEM;

        if (!c)
                return -ENOMEM;
        c->root = (struct json_text){schema, n};
        if (r == 0)
                c->schema->root = compile(c, c->root);
        return end(c, r, ret);
}

int json_schema_new(const char *response_format, uint32_t n, struct json_schema **ret) {
        struct json_text format = {response_format, n}, type, wrapped, schema;
        bool object, has;
        int r;

        *ret = NULL;
        if (n == 0 || format.p[0] != '{' || !find(format, "type", &type))
                return 0;
        object = is(type, "\"json_object\"");
        if (!object && !is(type, "\"json_schema\""))
                return 0;
        if (!find(format, "json_schema", &wrapped) || wrapped.p[0] != '{')
                wrapped = format;
        has = find(wrapped, "schema", &schema);
        r = json_schema_of(has ? schema.p : "{\"type\":\"object\"}", has ? schema.n : 17, ret);
        if (r == 0 && !has && !object)
                (*ret)->root = JSON_SCHEMA_ANY;
        return r;
}

struct json_schema *json_schema_free(struct json_schema *schema) {
        if (!schema)
                return NULL;
        for (uint32_t i = 0; i < schema->n_nodes; i++)
                pcre2_code_free(schema->nodes[i].pattern);
        pcre2_match_data_free(schema->match);
        pcre2_match_context_free(schema->matching);
        free(schema->text);
        free(schema);
        return NULL;
}
