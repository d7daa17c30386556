/*
 * json_schema -- what a request says of the JSON that it wants, made ready for json_check.h.
 *
 * Shape   struct json_schema: nodes that refer to each other by number; number JSON_SCHEMA_ANY takes every
 *         value, JSON_SCHEMA_NONE none
 * Units   bytes; characters where a length is of a string
 * Owner   whoever called json_schema_new()
 * Errors  0, -ENOMEM
 * Limits  the SCHEMA_* below; what lies beyond them is not looked at
 *
 * A subset of JSON Schema 2020-12: type, properties, required, additionalProperties, items, prefixItems, enum and
 * const of scalars, minimum, maximum and their exclusive forms, minLength, maxLength, pattern (PCRE2), minItems,
 * maxItems, minProperties, maxProperties, $ref within the schema, allOf of one; of anyOf and oneOf the one that
 * can be of the value's type, where there is just one. What it does not know it does not look at, as the
 * specification wants of unknown keywords: a value that is right is never refused.
 */
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stdint.h>

#define JSON_SCHEMA_ANY 0u
#define JSON_SCHEMA_NONE 1u
#define SCHEMA_NODES 512u
#define SCHEMA_PROPERTIES 1024u
#define SCHEMA_VALUES 1024u
#define SCHEMA_REQUIRED 64u /* of one object */
#define SCHEMA_DEPTH 32u
#define SCHEMA_STEPS 20000u /* of a pattern */

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT, JSON_TYPES_N };

struct schema_property {
        uint32_t name, n_name; /* in json_schema.text, decoded */
        uint16_t node;
};

struct schema_value {
        uint8_t type;     /* enum json_type, a scalar */
        uint32_t text, n; /* of a string, decoded */
        double number;
};

struct schema_node {
        uint8_t types; /* bit set of 1 << enum json_type */
        bool whole;    /* of numbers, only those without a fraction */
        bool exclusive_low, exclusive_high, has_values;
        bool structured; /* says something of members or elements */
        uint8_t n_required; /* the first properties: each has a bit */
        uint16_t n_prefix;  /* elements that have a node of their own: items[0 .. n_prefix) */
        uint16_t prefix;    /* the first of them, in json_schema.prefix */
        uint16_t items, additional;
        uint16_t property, n_properties;
        uint16_t value, n_values;
        uint16_t by_type[JSON_TYPES_N]; /* what else holds for a value of that type */
        uint32_t low_length, high_length, low_items, high_items, low_members, high_members;
        double low, high;
        pcre2_code *pattern;
};

struct json_schema {
        struct schema_node nodes[SCHEMA_NODES];
        uint32_t n_nodes, root;
        struct schema_property properties[SCHEMA_PROPERTIES];
        uint32_t n_properties;
        struct schema_value values[SCHEMA_VALUES];
        uint32_t n_values;
        uint16_t prefix[SCHEMA_PROPERTIES];
        uint32_t n_prefix;
        char *text;
        uint32_t n_text, cap_text;
        pcre2_match_data *match;
        pcre2_match_context *matching;
};

/* *ret NULL: nothing is asked of the form. What a client's response_format says: an object of type json_object or
 * json_schema. */
int json_schema_new(const char *response_format, uint32_t n, struct json_schema **ret);
/* The same for a schema alone. */
int json_schema_of(const char *schema, uint32_t n, struct json_schema **ret);
struct json_schema *json_schema_free(struct json_schema *schema);
